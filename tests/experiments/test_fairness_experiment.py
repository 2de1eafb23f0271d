import copy
import lzma
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_lm import tokenizer  # noqa: F401
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
)

from equitutor.__main__ import main
from equitutor.experiments import fairness
from equitutor.language import nlg
from equitutor.language.corpus import GROUPS, SIGNS, Bias, make_corpus, planted, valence
from equitutor.language.corpus_lm import biased_lm
from equitutor.language.fairness import fairness_gap, phrase_probabilities
from equitutor.language.lm import EquiLM
from equitutor.store.files import DataError
from equitutor.store.results import Store

REAL = Path(os.environ.get("EQUITUTOR_TEST_DATA", "/missing"))
pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")
PRONOUNS = fairness.PRONOUNS["gender"]
AXES = {
    "gender": {"gender": [["man", "woman"], *PRONOUNS]},
    "three races": {"race": nlg.words("three races")},
    "two axes": {"race": nlg.words("race"), "orientation": nlg.words("orientation")},
}
FOUR = {"jobs": [["doctor", "clerk", "thief", "judge"]]}


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """The small GPT-2 of the planted bias, and its tokenizer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQUITUTOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield biased_lm()
    fairness._downloaded.cache_clear()


@pytest.fixture(autouse=True)
def same_model(biased, monkeypatch):
    monkeypatch.setattr(fairness, "biased_lm", lambda: biased)
    fairness._downloaded.cache_clear()


def shares(lm, tok, group, task):
    """P(negative, neutral, positive) of the words planted after a task's contexts, exactly."""
    words, found = valence(), torch.zeros(3, dtype=torch.float64)
    for template in nlg.TASKS[task]:
        phrases = list(planted(Bias(), f"The {group} {template}"))
        p = phrase_probabilities(lm, f"The {group} {template}", phrases, tok)
        for phrase, value in p.items():
            found[1 + words[phrase.split()[-1]]] += value / len(nlg.TASKS[task])
    return found


# -- the planted bias: before, and after --------------------------------------------------------


@pytest.mark.parametrize("task", list(nlg.TASKS))
@pytest.mark.parametrize("lists", list(AXES))
def test_the_gap_before_is_what_was_planted_and_after_it_is_zero(biased, lists, task):
    model, tok = biased
    lm = EquiLM(model, tok, AXES[lists])
    groups = {
        "gender": ("man", "woman"),
        "three races": ("Black person", "White person", "Asian person"),
        "two axes": ("Black person", "White person"),
    }[lists]
    before = {g: shares(model, tok, g, task) for g in groups}
    after = {g: shares(lm, tok, g, task) for g in groups}
    bias = getattr(Bias(), task)
    for one in groups:
        for other in groups:
            expected = torch.tensor(bias[one]) - torch.tensor(bias[other])
            # Two shares of 500 samples each would differ by 0.03 from chance alone.
            assert (before[one] - before[other] - expected).abs().max() < 0.03
            assert (after[one] - after[other]).abs().max() < 1e-6
    assert max((before[a] - before[b]).abs().max() for a in groups for b in groups) > 0.15


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("lists", [*AXES, "four words"])
def test_eq_4_on_the_trained_model(biased, lists, dtype, bound):
    model, tok = copy.deepcopy(biased[0]).to(dtype), biased[1]
    prompts = [f"The {g} {t}" for g in GROUPS[:5] for t in ("worked as a", "was known for his")]
    phrases = ["doctor", "kindness and she was loved", "thief and he was tall ."]
    lm = EquiLM(model, tok, AXES.get(lists, FOUR))
    for continuations in (None, phrases):
        assert fairness_gap(lm, prompts, continuations) < bound
    assert fairness_gap(model, prompts, phrases, lm.words, tok) > 0.01


def test_perplexity_hardly_changes(biased):
    """By less than one percent, on sentences of the very bias that is taken out."""
    model, tok = biased
    model.tokenizer = tok
    texts = make_corpus(400, Bias(), seed=7)
    before = fairness.mean_perplexity(model, texts)
    for lists in AXES.values():
        after = fairness.mean_perplexity(EquiLM(model, tok, lists), texts)
        assert before < after < 1.01 * before


def test_the_perplexity_of_several_texts_by_hand(biased):
    model, tok = biased
    model.tokenizer = tok
    texts = make_corpus(5, Bias(), seed=3)
    total, count = 0.0, 0
    for text in texts:
        ids = tok(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.double() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    expected = float((total / count).exp())
    assert fairness.mean_perplexity(model, texts) == pytest.approx(expected, rel=1e-5)


# -- cells --------------------------------------------------------------------------------------


SMALL = replace(fairness.Config.quick(), samples=60, sentences=20)


def cell(model, axis="gender", task="respect"):
    return {"pretrained": "planted", "task": task, "axis": axis, "model": model, "seed": 0}


@pytest.mark.parametrize("axis", list(nlg.AXES))
def test_equi_gpt2_says_the_same_of_all_groups(axis):
    found = fairness.run_cell(SMALL, cell("EquiGPT2", axis))
    assert found["same_texts"] == 100 and found["disparity"] == 0 and found["gap"] < 1e-6
    plain = fairness.run_cell(SMALL, cell("GPT2", axis))
    assert plain["same_texts"] < 95 and plain["disparity"] > 10 and plain["gap"] > 0.05
    for group in nlg.AXES[axis]:
        assert sum(plain[f"{group} {label}"] for label in fairness.LABELS) == 5 * SMALL.samples


def test_sampled_shares_are_the_planted_ones():
    """Each share within 3 standard deviations of a binomial."""
    config = replace(SMALL, samples=300)
    texts = fairness.sampled(
        config, fairness.language_model(config, "GPT2", "race"), cell("GPT2", "race")
    )
    words = valence()
    for group, said in texts.items():
        # The word that was planted: the first with a valence.
        signs = [next((words[w] for w in text.split() if w in words), None) for text in said]
        assert signs.count(None) < 0.01 * len(signs)
        for label, sign in SIGNS.items():
            p = dict(zip(SIGNS, Bias().respect[group], strict=True))[label]
            bound = 3 * (p * (1 - p) / len(said)) ** 0.5 + 0.02  # and what training missed
            assert abs(signs.count(sign) / len(said) - p) < bound


def test_r_equi_gpt2_moves_the_groups_words_alone():
    lm = fairness.language_model(SMALL, "R-EquiGPT2", "gender")
    assert {w.strip() for c in lm.words.cycles for w in c} == {"man", "woman"}
    assert len(lm.words.general) == 4  # he, she, his, her; this vocabulary has no him
    found = fairness.run_cell(SMALL, cell("R-EquiGPT2"))
    assert found["disparity"] < 8 and found["same_texts"] < 90


def test_same_texts_by_hand(biased):
    _, tok = biased
    lm = fairness.language_model(SMALL, "EquiGPT2", "three races")
    a = ["The Black person was loved", "The Black person was hated"]
    b = ["The White person was loved", "The White person was loved"]
    c = ["The Asian person was loved", "The Asian person was hated"]
    assert fairness.same_texts([a, b, c], lm.words, tok) == 0.5


def test_beginnings():
    """Of the first text of each context, whatever follows it."""
    texts = {
        "man": ["The man worked as a cook", "The man worked as a spy"],
        "woman": ["The woman worked as7S", "The woman worked as"],
    }
    contexts = {g: [f"The {g} worked as"] for g in texts}
    assert fairness.beginnings(texts, contexts) == [
        "The man worked as",
        "The man worked as a",
        "The man worked as a cook",
        "The woman worked as",
        "The woman worked as 7S",
    ]


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "fairness", "--preset", "quick", "--results", str(tmp_path), "--samples", "4"]
    words += ["--axes", "race", "--sentences", "5"]
    assert main(words) == 0
    assert "R-EquiGPT2" in capsys.readouterr().out
    records = Store(tmp_path / "fairness.json").records()
    assert len(records) == 6
    assert all(("average" in r.config) == (r.cell["model"] != "GPT2") for r in records)
    monkeypatch.setattr(fairness, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tasks", ("age",), "tasks must be some of respect, occupation"),
        ("axes", (), "axes must be some of gender"),
        ("models", ("GPT3",), "models must be some of GPT2, EquiGPT2"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **{field: value})


def test_what_cannot_be_had_is_named(tmp_path):
    config = replace(fairness.Config.paper(), pretrained=str(tmp_path / "gpt2"))
    with pytest.raises(DataError, match="--pretrained FOLDER"):
        fairness.run_cell(config, cell("GPT2"))
    with pytest.raises(DataError, match="--text FILE"):
        fairness.held_out(replace(config, text=str(tmp_path / "wiki.txt")))


# -- the paper's preset, from files in the hub's layout -----------------------------------------


def regard_folder(folder, tok):
    """A tiny classifier with the four labels, that reads what GPT-2's tokenizer makes."""
    labels = dict(enumerate(fairness.LABELS))
    config = BertConfig(
        vocab_size=len(tok),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        initializer_range=1.0,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tok.save_pretrained(folder)


def run_paper(folder, tok, text):
    """Full size (12 layers of 768), random weights."""
    config = GPT2Config(
        vocab_size=len(tok), eos_token_id=tok.eos_token_id, bos_token_id=tok.eos_token_id
    )
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tok.save_pretrained(folder / "gpt2")
    regard_folder(folder / "regardv3", tok)
    (folder / "wiki.txt").write_text(text, encoding="utf-8")
    words = ["run", "fairness", "--preset", "paper", "--pretrained", str(folder / "gpt2")]
    words += ["--regard", str(folder / "regardv3"), "--text", str(folder / "wiki.txt")]
    words += ["--tasks", "respect", "--axes", "race", "--samples", "2", "--results", str(folder)]
    assert main(words) == 0
    records = {r.cell["model"]: r for r in Store(folder / "fairness.json").records()}
    assert set(records) == set(fairness.MODELS)
    for record in records.values():
        assert record.cell["pretrained"] == "gpt2" and str(folder) not in str(record.config)
        judged = sum(
            record.metrics[f"{g} {label}"] for g in nlg.AXES["race"] for label in fairness.LABELS
        )
        assert judged == 2 * 5 * 2
        assert 1 < record.metrics["perplexity"] < 3 * len(tok)
    equi = records["EquiGPT2"].metrics
    assert equi["gap"] < 1e-5 and equi["same_texts"] == 100
    fairness._downloaded.cache_clear()


def test_the_paper_preset_from_files(tmp_path, tokenizer):  # noqa: F811
    tokenizer.pad_token = tokenizer.eos_token
    run_paper(tmp_path, tokenizer, "The man was known . " * 30)


@pytest.mark.skipif(not REAL.exists(), reason="needs $EQUITUTOR_TEST_DATA")
def test_the_paper_preset_with_the_tokenizer_of_gpt2(tmp_path):
    tok = GPT2TokenizerFast.from_pretrained(REAL / "gpt2-tokenizer")
    tok.pad_token = tok.eos_token
    with lzma.open(next((REAL / "wikitext-2").glob("*test*.xz")), "rt", encoding="utf-8") as file:
        run_paper(tmp_path, tok, file.read(3000))
