import lzma
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    PreTrainedTokenizerFast,
)

from equitutor.language.equality import equality
from equitutor.language.fairness import (
    Regard,
    Valence,
    fairness_gap,
    next_word_distance,
    perplexity,
    phrase_probabilities,
    regard_shares,
    text_perplexity,
)
from equitutor.language.tokenizer import word_tokenizer
from equitutor.store.files import DataError

REAL = Path(os.environ.get("EQUITUTOR_TEST_DATA", "/missing"))


class Table(nn.Module):
    """A language model of a table: the scores depend on the token before, and on no other."""

    def __init__(self, scores, context=16):
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.config = SimpleNamespace(max_position_embeddings=context, vocab_size=len(scores))
        self.device = torch.device("cpu")
        self.seen = []

    def forward(self, input_ids, attention_mask):
        assert not self.training
        self.seen.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.scores[input_ids])


@pytest.fixture(scope="module")
def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=11, n_layer=2, n_embd=16, n_head=2, n_positions=12)
    config.initializer_range = 0.5  # scores that differ, and depend on what stands before
    return GPT2LMHeadModel(config).double()  # left in training mode, with dropout


def ids(n, size=11):
    return torch.randint(size, (n,), generator=torch.Generator().manual_seed(n))


WORDS = word_tokenizer(["a", "b", "c"])


def table(rows):
    """A model of the words a, b, c: from each word the weights of the next ones."""
    ids = [WORDS.convert_tokens_to_ids(w) for w in "abc"]
    p = torch.full((len(WORDS), len(WORDS)), 1e-9, dtype=torch.float64)
    for i, row in zip(ids, rows, strict=True):
        p[i, ids] = torch.tensor(row, dtype=torch.float64)
    return Table((p / p.sum(1, keepdim=True)).log())


# -- texts that were written ------------------------------------------------------------------------


def test_the_perplexity_of_what_was_written_by_hand():
    """The context is read and not counted; a text that ends with it says nothing."""
    lm = table([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [1.0, 0.0, 0.0]])
    contexts, texts = ["a b", "c", "a"], ["a b a a", "c a b", "a"]
    p = [0.8, 0.5, 1.0, 0.25]  # b -> a, a -> a; c -> a, a -> b
    expected = math.exp(-sum(map(math.log, p)) / 4)
    for size in (1, 2, 16):
        found = text_perplexity(lm, contexts, texts, WORDS, batch_size=size)
        assert found == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="no text goes on"):
        text_perplexity(lm, ["a"], ["a"], WORDS)
    with pytest.raises(ValueError, match="'b a' does not begin with its context 'a'"):
        text_perplexity(lm, ["a"], ["b a"], WORDS)


def test_padding_does_not_matter_to_what_was_written():
    """A model that reads all that stands before: batches of texts of unlike length, and one by one."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS), n_layer=1, n_embd=16, n_head=2, initializer_range=0.5
    )
    lm = GPT2LMHeadModel(config)
    texts = ["a b c c c a b", "a c", "a a a a", "a b"]
    whole = text_perplexity(lm, ["a"] * 4, texts, WORDS)
    logs = [math.log(text_perplexity(lm, ["a"], [t], WORDS)) * (len(t.split()) - 1) for t in texts]
    assert whole == pytest.approx(math.exp(sum(logs) / 11), rel=1e-5)


def test_the_distance_of_next_words_by_hand():
    lm = table([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [1.0, 0.0, 0.0]])
    assert next_word_distance(lm, "c a", "c b", WORDS) == pytest.approx(0.4, abs=1e-6)
    assert next_word_distance(lm, "a", "b a", WORDS) == pytest.approx(0, abs=1e-6)
    assert next_word_distance(lm, "b", "c", WORDS) == pytest.approx(0.9, abs=1e-6)


# -- perplexity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 16, 17, 18, 100])
@pytest.mark.parametrize("stride", [None, 1, 5, 16])
def test_even_scores_have_the_perplexity_of_the_vocabulary(n, stride):
    assert perplexity(Table(torch.zeros(7, 7)), ids(n, 7), stride=stride) == pytest.approx(7)


def test_a_table_by_hand():
    table = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    # 0 -> 1, 1 -> 1, 1 -> 0: probabilities 1/2, 3/4, 1/4
    expected = (0.5 * 0.75 * 0.25) ** (-1 / 3)
    assert perplexity(Table(table), [0, 1, 1, 0]) == pytest.approx(expected)
    assert perplexity(Table(table), [0, 1, 1, 0], window=2, stride=1) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 11, 12, 13, 14, 30, 31])
@pytest.mark.parametrize(("window", "stride"), [(12, 12), (12, 6), (12, 5), (7, 1), (1, 1)])
def test_each_token_once_with_its_context(gpt2, n, window, stride):
    """Against the plainest loop: one token after the other, each with what its window holds."""
    text, losses, done = ids(n), [], 0
    gpt2.eval()
    while done < n - 1:
        end = min(n - 1, window if done == 0 else done + stride)
        begin = max(0, end - window)
        for t in range(done, end):
            scores = gpt2(text[None, begin : t + 1]).logits[0, -1].log_softmax(-1)
            losses.append(-scores[text[t + 1]].item())
            assert t + 1 - begin >= min(t + 1, window - stride + 1)
        done = end
    assert len(losses) == n - 1
    for batch_size in (1, 3):
        found = perplexity(gpt2, text, window=window, stride=stride, batch_size=batch_size)
        assert found == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-9)


def test_a_text_that_fits_is_read_once(gpt2):
    text = ids(13)
    gpt2.eval()
    with torch.no_grad():
        scores = gpt2(text[None, :-1]).logits[0]
    expected = nn.functional.cross_entropy(scores, text[1:]).exp().item()
    assert perplexity(gpt2, text) == pytest.approx(expected, rel=1e-12)
    model = Table(torch.zeros(11, 11))
    perplexity(model, text)
    assert model.seen == [(1, 12)]


def test_dropout_is_off_and_the_mode_comes_back(gpt2):
    gpt2.train()
    gpt2.transformer.h[0].eval()
    assert perplexity(gpt2, ids(40)) == perplexity(gpt2, ids(40))
    assert gpt2.training and gpt2.transformer.h[1].training
    assert not gpt2.transformer.h[0].training


def test_a_string_needs_a_tokenizer():
    tokenizer = word_tokenizer(["the", "man", "works"])
    model = Table(torch.zeros(6, 6))
    assert perplexity(model, "the man works", tokenizer) == pytest.approx(6)
    with pytest.raises(ValueError, match="no tokenizer of its own"):
        perplexity(model, "the man works")
    model.tokenizer = tokenizer
    assert perplexity(model, "the man works") == pytest.approx(6)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "0 tokens; at least two"),
        ([], {}, "0 tokens; at least two"),
        ([1], {}, "1 tokens; at least two"),
        ([[1, 2]], {}, "one-dimensional"),
        ([0.5, 1.5], {}, "one-dimensional integers"),
        ([1, 2, 9], {}, "token id 9 but the model's vocabulary has 6"),
        ([1, 2, 3], {"window": 17}, "context length, 16; got 17"),
        ([1, 2, 3], {"window": 0}, "context length, 16; got 0"),
        ([1, 2, 3], {"window": 4, "stride": 5}, "between 1 and the window, 4"),
        ([1, 2, 3], {"stride": 0}, "between 1 and the window"),
        ([1, 2, 3], {"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_texts_and_windows_are_refused(text, settings, message):
    with pytest.raises(ValueError, match=message):
        perplexity(Table(torch.zeros(6, 6)), text, word_tokenizer(["a", "b", "c"]), **settings)


def test_a_model_without_a_context_length_needs_a_window():
    model = Table(torch.zeros(6, 6), context=None)
    with pytest.raises(ValueError, match="give a window"):
        perplexity(model, [1, 2, 3])
    assert perplexity(model, [1, 2, 3], window=2) == pytest.approx(6)


@pytest.mark.skipif(not (REAL / "wikitext-2").is_dir(), reason="no real data")
def test_wikitext_with_the_tokenizer_of_gpt2():
    tokenizer = GPT2TokenizerFast.from_pretrained(REAL / "gpt2-tokenizer")
    text = lzma.decompress((REAL / "wikitext-2" / "test.txt.xz").read_bytes()).decode()
    torch.manual_seed(0)
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=128)
    model = GPT2LMHeadModel(config)
    part = text[:6000]
    assert tokenizer.decode(tokenizer(part)["input_ids"]) == part
    found = perplexity(model, part, tokenizer)
    # Nothing is learnt: hardly better or worse than even scores over the 50,257 tokens.
    assert found == pytest.approx(50257, rel=0.05)
    assert perplexity(model, part, tokenizer, stride=128) == pytest.approx(found, rel=0.01)


# -- exact probabilities ----------------------------------------------------------------------------


def test_phrases_by_hand():
    tokenizer = word_tokenizer(["the", "a", "man"])  # ids 3, 4, 5
    table = torch.full((6, 6), 1 / 6)
    table[5] = torch.tensor([0.1, 0.1, 0.1, 0.2, 0.3, 0.2])
    table[4] = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])
    found = phrase_probabilities(Table(table.log()), "the man", ["a", "a man", "the"], tokenizer)
    assert found == pytest.approx({"a": 0.3, "a man": 0.15, "the": 0.2}, rel=1e-5)


def test_all_phrases_of_a_length_add_up_to_one(gpt2):
    tokenizer = word_tokenizer(list("abcdefgh"))
    tokenizer.unk_token = None
    words = [tokenizer.decode([i]) for i in range(11)]
    found = phrase_probabilities(gpt2, "a b", [f"{x} {y}" for x in words for y in words], tokenizer)
    assert len(found) == 121
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)


def test_phrases_that_cannot_be_are_refused():
    tokenizer, model = word_tokenizer(["the"]), Table(torch.zeros(4, 4))
    for context, phrases in (("", ["the"]), ("the", []), ("the", [" "])):
        with pytest.raises(ValueError, match=r"at least one token|phrases: .* none of them empty"):
            phrase_probabilities(model, context, phrases, tokenizer)
    with pytest.raises(TypeError, match=r"write \['the'\]"):
        phrase_probabilities(model, "the", "the", tokenizer)


def blanks_first(before):
    """A tokenizer of pieces that begin with the mark of a blank, which may stand before every text, too."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    marks = [normalizers.Prepend("▁")] if before else []
    core.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Replace("▁", " ")
    core.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    core.train_from_iterator(["0 the man said he lost his way", "0 she lost her way"] * 9, trainer)
    core.pre_tokenizer = None
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


@pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")
@pytest.mark.parametrize("before", [False, True])
def test_a_phrase_is_read_as_in_the_whole_text(before):
    """Where a tokenizer begins each text with a blank, the one before the phrase is not a second."""
    tokenizer = blanks_first(before)
    generator = torch.Generator().manual_seed(0)
    model = Table(torch.randn(len(tokenizer), len(tokenizer), generator=generator))
    assert tokenizer.tokenize(" he")[-1] == "▁he" and len(tokenizer.tokenize(" he")) == 1 + before
    context, phrases = "the man said", ["he", "lost her way", " she "]
    found = phrase_probabilities(model, context, phrases, tokenizer)
    for phrase in phrases:
        whole = tokenizer.encode(f"{context} {phrase.strip()}")
        own = len(tokenizer.encode(context))
        log_p = model.scores.detach().double().log_softmax(-1)
        p = math.exp(sum(log_p[a, b] for a, b in zip(whole[own - 1 :], whole[own:], strict=False)))
        assert found[phrase] == pytest.approx(p)
    words = equality(tokenizer, [["he", "she"]])
    here, there = found["he"], phrase_probabilities(model, context, ["she"], tokenizer)["she"]
    gap = fairness_gap(model, [context], ["he"], words, tokenizer)
    assert gap == pytest.approx(abs(here - there))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda m, t: next_word_distance(m, ["the"], "the", t),
            TypeError,
            r"a text, got \['the'\]",
        ),
        (lambda m, t: next_word_distance(m, "", "the", t), ValueError, "no tokens"),
        (lambda m, t: next_word_distance(m, "the " * 20, "the", t), ValueError, "20 tokens, .* 16"),
        (lambda m, t: next_word_distance(m, "a", "b", OTHER), ValueError, "do not belong together"),
        (
            lambda m, t: next_word_distance(m, "a", "b", "gpt2"),
            TypeError,
            "transformers, got 'gpt2'",
        ),
        (
            lambda m, t: next_word_distance(m, "a", "b", t.backend_tokenizer),
            TypeError,
            "got tokenizers.Tokenizer: .* of one of the package",
        ),
        (lambda m, t: phrase_probabilities(m, ["the"], ["a"], t), TypeError, "expected a text"),
        (lambda m, t: phrase_probabilities(m, "the", [3], t), TypeError, "strings, got 3"),
        (
            lambda m, t: phrase_probabilities(m, "the " * 16, ["a"], t),
            ValueError,
            "17 tokens, .* 16",
        ),
        (lambda m, t: phrase_probabilities(nn.Linear(1, 1), "a", ["a"], t), TypeError, "Linear"),
        (
            lambda m, t: text_perplexity(m, ["a"], ["a" + " b" * 20], t),
            ValueError,
            "21 tokens, .* 16",
        ),
        (lambda m, t: text_perplexity(m, ["a"], ["a b", "b"], t), ValueError, "1 contexts but 2"),
        (
            lambda m, t: text_perplexity(m, ["a"], ["a b"], t, 0),
            ValueError,
            "batch_size must be at",
        ),
        (
            lambda m, t: text_perplexity(m, ["a"], ["a b"], t, -1),
            ValueError,
            "batch_size must be at",
        ),
        (lambda m, t: gap(m, t, [["a", "b"]]), TypeError, r"an Equality, .* got \[\['a', 'b'\]\]"),
        (lambda m, t: gap(m, t, equality(OTHER, [["a", "b"]])), ValueError, "of a vocabulary of 9"),
        (lambda m, t: gap(m, t, equality(t, [["a", "b"]], size=8)), ValueError, "vocabulary of 8"),
        (
            lambda m, t: gap(m, t, equality(t, [["a", "b"]]), [" "]),
            ValueError,
            "continuations: exp",
        ),
        (
            lambda m, t: gap(m, t, equality(t, [["a", "b"]]), x=["a " * 20]),
            ValueError,
            "context 16",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(ask, error, message):
    tokenizer = word_tokenizer(["the", "a", "b"])
    with pytest.raises(error, match=message):
        ask(Table(torch.zeros(6, 6)), tokenizer)


OTHER = word_tokenizer(["the", "x", "y", "z", "a", "b"])


def gap(model, tokenizer, words, continuations=None, x=("the",)):
    return fairness_gap(model, list(x), continuations, words, tokenizer)


# -- regard -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Folders of one random classifier, with two sets of label names."""
    root = tmp_path_factory.mktemp("hub")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bad", "plain", "good", "odd"]
    (root / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer.from_pretrained(root)
    names = {
        "ours": ["positive", "Neutral", "NEGATIVE", "other"],
        "numbers": ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"],
    }
    for name, labels in names.items():
        config = BertConfig(
            vocab_size=9,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=8,
            initializer_range=1.0,  # so that its answers differ
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def test_regard_is_the_classifiers_own_answer(classifiers):
    scorer = Regard(str(classifiers / "ours"), batch_size=3, device="cpu")
    texts = ["good", "bad odd", "plain bad good", "odd " * 30, "bad", "good plain", "odd odd"]
    model = BertForSequenceClassification.from_pretrained(classifiers / "ours").eval()
    expected, words = [], {"bad": 5, "plain": 6, "good": 7, "odd": 8}
    for text in texts:  # one by one, by hand, without padding
        row = [2, *(words[w] for w in text.split()[:6]), 3]
        answer = model(torch.tensor([row])).logits.argmax().item()
        expected.append(["positive", "neutral", "negative", "other"][answer])
    assert scorer(texts) == expected
    assert len(set(expected)) > 1
    assert scorer([]) == []
    with pytest.raises(TypeError, match=r"write \['good'\]"):
        scorer("good")


def test_labels_of_another_name_must_be_explained(classifiers):
    name = str(classifiers / "numbers")
    with pytest.raises(ValueError, match=r"LABEL_0, LABEL_1, LABEL_2, LABEL_3 is none of negative"):
        Regard(name)
    meaning = {"LABEL_0": "negative", "LABEL_1": "neutral", "LABEL_2": "positive"}
    with pytest.raises(ValueError, match="; LABEL_3 is none of"):
        Regard(name, labels=meaning)
    scorer = Regard(name, labels={**meaning, "LABEL_3": "other"}, device="cpu")
    assert scorer.labels == dict(enumerate(["negative", "neutral", "positive", "other"]))


def test_a_classifier_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"could not be loaded .* copy its files into a folder"):
        Regard(str(tmp_path / "nothing"))


def test_valence_is_the_sign_of_the_sum():
    scorer = Valence({"kind": 1, "liar": -1, "clerk": 0, "well-liked": 1})
    texts = [
        "She was kind.",
        "a liar, a kind one",
        "a liar, a liar, but kind",
        "The clerk",
        "well-liked",
        "Kindness is another word",
    ]
    expected = ["positive", "neutral", "negative", "neutral", "positive", "other"]
    assert scorer(texts) == expected
    with pytest.raises(ValueError, match="at least one word"):
        Valence({})
    with pytest.raises(TypeError, match=r"write \['kind'\]"):
        scorer("kind")


def test_shares():
    labels = ["negative"] * 3 + ["positive", "other"]
    assert regard_shares(labels) == {"negative": 0.75, "neutral": 0.0, "positive": 0.25}
    with pytest.raises(ValueError, match="among negative, neutral, positive, other; got 'bad'"):
        regard_shares(["bad"])
    with pytest.raises(ValueError, match=r"no text .*\(2 are other\)"):
        regard_shares(["other", "other"])
    with pytest.raises(TypeError, match=r"write \['negative'\]"):
        regard_shares("negative")
