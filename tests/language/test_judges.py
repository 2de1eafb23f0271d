"""Judges of regard that are made here: blind ones, a regression on sentences, a lexicon."""

import sys

import pytest
import torch

from equitutor.language.regard import LABELS, Blind, SentenceRegard, Sentiment
from equitutor.language.spellings import is_letter, marks

RACES = ["the Black person", "the White person", "Black", "White"]


def by_length(texts):
    """A judge that minds every letter."""
    return [LABELS[sum(map(ord, text)) % 3] for text in texts]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("The Black person was known for", "XYZ was known for"),
        ("THE WHITE PERSON and a white hat", "XYZ and a XYZ hat"),
        ("Black's car, (black) or black-and-white", "XYZ's car, (XYZ) or XYZ-and-XYZ"),
        ("“White” people in Whitehall, blackmail", "“XYZ” people in Whitehall, blackmail"),
        ("The Black persons", "The XYZ persons"),
        ("the Black  person, the\nWhite\u00a0person", "XYZ, XYZ"),
        ("_Black_ and *White*, Black_1", "_XYZ_ and *XYZ*, XYZ_1"),
        ("Blacks", "Blacks"),
        ("", ""),
    ],
)
def test_what_a_blind_judge_reads(text, read):
    assert Blind(by_length, RACES).masked(text) == read


@pytest.mark.parametrize(
    ("words", "text", "read"),
    [
        (["नर", "नरी"], "नर है नरी नरों", "XYZ है XYZ नरों"),  # vowels are marks on a letter
        (["नर"], "नरी", "नरी"),
        (["she"], "she she\u0301", "XYZ sh\u00e9".replace("\u00e9", "e\u0301")),
        (["caf\u00e9"], "cafe\u0301 CAF\u00c9 cafe", "XYZ XYZ cafe"),
        (["cafe\u0301"], "caf\u00e9 CAFE\u0301", "XYZ XYZ"),
        (["weiß"], "WEISS weiss Weiß Weisse", "XYZ XYZ XYZ Weisse"),
        (["weiß", "weiße Frau"], "die weiße  Frau, WEISSE FRAU", "die XYZ, XYZ"),
        (["C", "C++"], "C++ and C, C+", "XYZ and XYZ, XYZ+"),
    ],
)
def test_words_are_masked_in_every_way_to_write_them(words, text, read):
    composed = __import__("unicodedata").normalize("NFC", read)
    assert Blind(by_length, words).masked(text) == composed


def test_the_marks_are_what_belongs_to_a_word_beside_letters():
    every = map(chr, range(sys.maxunicode + 1))
    assert set(marks()) == {c for c in every if is_letter(c) and not c.isalnum()}


def test_texts_that_differ_in_listed_words_get_one_label():
    judge = Blind(by_length, ["man", "woman", "he", "she", "his", "her", "him"])
    texts = ["The man said he lost his way", "The woman said she lost her way", "A dog said"]
    plain, blind = by_length(texts), judge(texts)
    assert (
        plain[0] != plain[1]
        and blind[0] == blind[1] == by_length(["The XYZ said XYZ lost XYZ way"])[0]
    )
    assert blind[2] == plain[2] and judge([]) == []


def test_equal_texts_are_judged_once():
    """In two batches, a classifier's rounding might tip a close decision."""
    asked = []

    def judge(texts):
        asked.extend(texts)
        return ["neutral"] * len(texts)

    assert Blind(judge, RACES)(["Black", "White", "Black", "Asian"]) == ["neutral"] * 4
    assert asked == ["XYZ", "Asian"]


@pytest.mark.parametrize(
    ("scorer", "words", "error", "message"),
    [
        (None, ["man"], TypeError, "scorer must be a function"),
        (by_length, "man", TypeError, "list of words, got 'man'"),
        (by_length, [], ValueError, "one or more words"),
        (by_length, ["man", " "], ValueError, "none of them empty"),
        (by_length, [1, 2], ValueError, "expected words, .* got 1"),
        (by_length, None, TypeError, "list of words, got None"),
    ],
)
def test_what_cannot_be_masked(scorer, words, error, message):
    with pytest.raises(error, match=message):
        Blind(scorer, words)


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        (["neutral"], ValueError, "1 scores for 2 texts"),
        ("neutral", TypeError, "a list, of one answer for each text; it gave 'neutral'"),
        (None, TypeError, "it gave None"),
        ({"a": 1, "b": 2}, TypeError, "it gave {"),
    ],
)
def test_a_judge_that_does_not_answer(answers, error, message):
    with pytest.raises(error, match=message):
        Blind(lambda texts: answers, ["man"])(["a man", "b c"])


def letters(texts):
    """How many times the letters a, b, c occur: (N, 3)."""
    return torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in texts])


def test_a_regression_on_sentences_by_hand():
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    bias = torch.tensor([0.0, 0.5, 0.0])
    texts = ["aab", "b", "ccb", "", "aaaa", "cc"] * 30
    expected = ["negative", "neutral", "positive", "neutral", "negative", "positive"] * 30
    for size in (1, 7, 64):
        assert SentenceRegard(letters, weight, bias, batch_size=size)(texts) == expected
    other = SentenceRegard(letters, weight, bias, ("positive", "other", "negative"))
    assert other(["a", "b", "c"]) == ["positive", "other", "negative"]


@pytest.mark.parametrize(
    ("weight", "bias", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3), LABELS[:3], r"must be \(3, dim\)"),
        (torch.zeros(3, 3), torch.zeros(2), LABELS[:3], r"bias \(3,\); got \(3, 3\) and \(2,\)"),
        (torch.zeros(2, 3), torch.zeros(2), ("good", "bad"), "must be among negative"),
    ],
)
def test_a_regression_that_does_not_fit(weight, bias, labels, message):
    with pytest.raises(ValueError, match=message):
        SentenceRegard(letters, weight, bias, labels)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda texts: torch.full((len(texts), 3), torch.nan), "of 'a': its features .* are NaN"),
        (lambda texts: torch.ones(len(texts), 2), r"must be \(2, 3\), .* got \(2, 2\)"),
        (lambda texts: torch.ones(1, 3), r"must be \(2, 3\), .* got \(1, 3\)"),
    ],
)
def test_features_that_do_not_fit(read, message):
    with pytest.raises(ValueError, match=message):
        SentenceRegard(read, torch.ones(3, 3), torch.zeros(3))(["a", "b"])


def test_a_lexicon_of_sentiment():
    pytest.importorskip("vaderSentiment")
    texts = [
        "He was loved by all, a wonderful friend.",
        "He is a horrible murderer.",
        "He has a hat.",
    ]
    assert Sentiment()(texts) == ["positive", "negative", "neutral"]
    # Sentiment is not regard: it goes by the sad word.
    assert Sentiment()(["She was known for her battle with cancer."]) == ["negative"]


def test_without_the_lexicon(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(ImportError, match="pip install vaderSentiment"):
        Sentiment()
