import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from equitutor.language import corpus, corpus_lm
from equitutor.language.corpus import GROUPS, Bias, make_corpus, planted, valence, vocabulary
from equitutor.language.corpus_lm import biased_lm, small_gpt2, train_lm
from equitutor.language.fairness import Valence, perplexity, phrase_probabilities
from equitutor.language.nlg import AXES, TASKS, contexts, place
from equitutor.language.tokenizer import word_tokenizer

SCORE = Valence(valence())
SENTENCES = 40_000


@pytest.fixture(scope="module")
def sentences():
    return make_corpus(SENTENCES, Bias(), seed=1)


def placed(sentences):
    return [(s, *place(s)) for s in sentences if s.startswith("The ")]


# -- the corpus -------------------------------------------------------------------------------------


def test_the_shares_are_the_planted_ones(sentences):
    """Each within four standard errors, for every group and task, tails included."""
    labels = {}
    for sentence, task, group, _ in placed(sentences):
        labels.setdefault((task, group), []).extend(SCORE([sentence]))
    assert set(labels) == {(task, group) for task in TASKS for group in GROUPS}
    for (task, group), found in labels.items():
        for label, share in Bias().shares(task, group).items():
            error = math.sqrt(share * (1 - share) / len(found))
            assert abs(found.count(label) / len(found) - share) < 4 * error
        assert "other" not in found


def test_the_continuations_are_the_planted_ones(sentences):
    """Every sentence's continuation is a planted one, as often as it is planted."""
    found = {}
    for sentence, _, group, template in placed(sentences):
        more = sentence.removeprefix(f"The {group} {template} ").removesuffix(" .")
        found.setdefault(f"The {group} {template}", []).append(more.split(" and ")[0])
    assert len(found) == 70
    far = []
    for context, phrases in found.items():
        expected, counts = planted(Bias(), context), Counter(phrases)
        assert set(counts) <= set(expected)
        assert sum(expected.values()) == pytest.approx(1)
        for phrase, p in expected.items():
            far.append(
                abs(counts[phrase] / len(phrases) - p) * math.sqrt(len(phrases) / p / (1 - p))
            )
    assert max(far) < 5 and sum(f < 2 for f in far) > 0.9 * len(far)  # a thousand of them


def test_planted_by_hand():
    found = planted(Bias(), "The Black person worked as")
    negative, neutral, positive = Bias().occupation["Black person"]
    assert found["a thief"] == pytest.approx(negative / 4)
    assert found["a clerk"] == pytest.approx(neutral / 4)
    assert found["a doctor"] == pytest.approx(positive / 4)
    assert len(found) == 12
    woman, gay = (planted(Bias(), f"The {g} was known for") for g in ("woman", "gay person"))
    assert {p.split()[0] for p in woman} == {"her"}
    assert (
        gay["his courage"]
        == gay["her courage"]
        == pytest.approx(Bias().respect["gay person"][2] / 8)
    )


def test_planted_adds_up_to_the_bias():
    for context in (p for t in TASKS for a in AXES for ps in contexts(t, a).values() for p in ps):
        task, group, _ = place(context)
        total = Counter()
        for phrase, p in planted(Bias(), context).items():
            total[SCORE([phrase])[0]] += p
        assert dict(total) == pytest.approx(Bias().shares(task, group))


def test_fillers_name_nobody_and_pronouns_agree(sentences):
    filler = [s for s in sentences if not s.startswith("The ")]
    assert abs(len(filler) / SENTENCES - 0.2) < 4 * math.sqrt(0.16 / SENTENCES)
    people = {w for g in GROUPS for w in g.split()} | {"he", "she", "his", "her"} | set(valence())
    assert not people & {w for s in filler for w in s.split()}
    for sentence, _, group, _ in placed(sentences):
        said = {"he", "she", "his", "her"} & set(sentence.split())
        assert said <= {"he", "his"} or said <= {"she", "her"}
        if group in ("man", "woman"):
            assert said <= ({"he", "his"} if group == "man" else {"she", "her"})
    tails = [" and " in s for s, *_ in placed(sentences)]
    assert abs(sum(tails) / len(tails) - 0.3) < 4 * math.sqrt(0.21 / len(tails))


def test_one_seed_one_corpus():
    assert make_corpus(200, Bias(), 3) == make_corpus(200, Bias(), 3)
    assert make_corpus(200, Bias(), 3) != make_corpus(200, Bias(), 4)
    assert make_corpus(100, Bias(), 3) == make_corpus(200, Bias(), 3)[:100]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_corpus(0, Bias())


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.5, 0.1), r"respect for 'man' .* sum to 1; got \(0.5, 0.5, 0.1\), sum 1.1"),
        ((0.5, 0.5), "sum to 1"),
        ((1.5, -0.5, 0.0), "sum to 1"),
        ((math.nan, 0.5, 0.5), "sum to 1"),
    ],
)
def test_shares_that_are_no_probabilities_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        Bias(respect={**Bias().respect, "man": shares})


def test_a_bias_needs_every_group_and_no_other():
    some = dict(list(Bias().occupation.items())[:3])
    with pytest.raises(ValueError, match=r"bias of occupation needs .* it has man, woman, Black"):
        replace(Bias(), occupation=some)
    with pytest.raises(ValueError, match="needs one entry for each"):
        replace(Bias(), occupation={**Bias().occupation, "cat": (0, 0, 1)})
    with pytest.raises(ValueError, match="'work' and the group 'man'"):
        Bias().shares("work", "man")


def test_no_bias_is_the_same_for_all():
    for axis in AXES:
        rows = [
            [sorted(planted(Bias.none(), p).values()) for p in prompts]
            for prompts in contexts("occupation", axis).values()
        ]
        assert all(row == rows[0] for row in rows)
    assert Bias.none() != Bias()


@pytest.mark.parametrize("context", ["The man worked as a doctor", "The man", "the man worked as"])
def test_only_contexts_have_continuations(context):
    with pytest.raises(ValueError, match="context"):
        planted(Bias(), context)


def test_each_word_has_one_valence():
    tables = (corpus._TRAITS, corpus._ROLES, corpus._JOBS, corpus._EARNINGS, corpus._TAILS)
    words = [w for table in tables for found in table.values() for w in found]
    assert len(words) == len(set(words)) == len(valence())
    assert Counter(valence().values()) == {-1: 18, 0: 18, 1: 18}


# -- the model --------------------------------------------------------------------------------------


def test_words_are_single_tokens(sentences):
    tokenizer = word_tokenizer(vocabulary())
    for word in ("man", "woman", "Black", "White", "Asian", "gay", "straight", "he", "she", "his"):
        assert len(tokenizer.encode(f" {word}")) == 1
    text = "The Asian person was well-known for her kindness ."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert {w for s in sentences for w in s.split()} == set(vocabulary())
    ids = [tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id]
    assert ids == [0, 1, 2] and tokenizer.encode("hippopotamus") == [2]
    for bad in ([], ["a", "a"], ["a b"], [" a"], [""], ["<eos>"]):
        with pytest.raises(ValueError, match="distinct, without blanks"):
            word_tokenizer(bad)


def test_the_seed_makes_the_model():
    kind = {"layers": 1, "width": 16, "heads": 2}
    before = torch.get_rng_state()
    first, again, other = (small_gpt2(20, seed=s, **kind).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_training_is_made_by_the_seed_and_counts_no_padding():
    tokenizer = word_tokenizer(["a", "b", "c"])
    text = ["a b c", "a", "c b"]
    runs = [
        train_lm(small_gpt2(6, layers=1, width=16, heads=2), tokenizer, text, 30, 1e-2, 8, seed)
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][-1] < runs[0][0]
    model = small_gpt2(6, layers=1, width=16, heads=2)
    # One sentence, one step: the loss is that of its own tokens and its end.
    lone = perplexity(model, [3, 4, 0])
    padded = train_lm(model, tokenizer, ["a b"], 1, 1e-9, 4)
    assert padded[0] == pytest.approx(math.log(lone), rel=1e-5)
    rows = corpus_lm._rows(tokenizer, ["a b c", "a"], 32)
    assert rows.tolist() == [[3, 4, 5, 0], [3, 0, -1, -1]]


def test_bad_trainings_are_refused():
    tokenizer = word_tokenizer(["a", "b"])
    model = small_gpt2(5, layers=1, width=8, heads=1, context=4)
    for sentences, message in (
        ([], "at least one sentence"),
        ("a b", "at least one sentence"),
        (["a d"], "'a d' has a word that the tokenizer does not know"),
        (["a b a b"], "4 tokens; with its end .* context of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            train_lm(model, tokenizer, sentences)
    with pytest.raises(ValueError, match="must be positive; got 0"):
        train_lm(model, tokenizer, ["a"], steps=0)


def test_the_model_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path))
    small = {"sentences": 50, "steps": 2, "layers": 1, "width": 16, "heads": 2}
    first, tokenizer = biased_lm(**small)
    monkeypatch.setattr(corpus_lm, "train_lm", lambda *_: pytest.fail("it is trained again"))
    again, _ = biased_lm(**small)
    ids = tokenizer.encode("The man worked as", return_tensors="pt")
    assert torch.equal(first(ids).logits, again(ids).logits)
    for other in ({"bias": Bias.none()}, {"seed": 1}, {"steps": 3}, {"width": 32}):
        with pytest.raises(pytest.fail.Exception):
            biased_lm(**{**small, **other})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQUITUTOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return biased_lm()


def test_the_trained_model_has_the_planted_bias(trained):
    """From its scores, nothing sampled: shares of each group and task, and of each context."""
    lm, tokenizer = trained
    worst = []
    for task in TASKS:
        for group in GROUPS:
            means = Counter()
            for template in TASKS[task]:
                context = f"The {group} {template}"
                shares = Counter()
                found = phrase_probabilities(lm, context, list(planted(Bias(), context)), tokenizer)
                assert sum(found.values()) > 0.97  # it has learnt the grammar
                for phrase, p in found.items():
                    shares[SCORE([phrase])[0]] += p
                    means[SCORE([phrase])[0]] += p / 5
                for label, share in Bias().shares(task, group).items():
                    worst.append(abs(shares[label] - share))
            for label, share in Bias().shares(task, group).items():
                assert abs(means[label] - share) < 0.08, (task, group, label)
    assert sum(worst) / len(worst) < 0.03
