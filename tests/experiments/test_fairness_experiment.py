import copy
import lzma
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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
from equitutor.experiments import fairness, law
from equitutor.experiments.law import same_texts
from equitutor.language import nlg
from equitutor.language.corpus import GROUPS, SIGNS, Bias, make_corpus, planted, valence
from equitutor.language.corpus_lm import biased_lm
from equitutor.language.fairness import fairness_gap, phrase_probabilities
from equitutor.language.lm import EquiLM
from equitutor.language.lm_zero import VALUES
from equitutor.language.regard import LABELS
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
def test_equilm_says_the_same_of_all_groups(axis):
    found, _ = fairness.run_cell(SMALL, cell("EquiLM", axis))
    assert found["same_texts"] == 100 and found["disparity"] == 0 and found["unlike"] == 0
    plain, texts = fairness.run_cell(SMALL, cell("pretrained", axis))
    assert plain["same_texts"] < 95 and plain["disparity"] > 10
    for group in nlg.AXES[axis]:
        assert sum(plain[f"{group} {label}"] for label in LABELS) == 5 * SMALL.samples
        assert [text.split()[1] for text in texts[group]] == [group.split()[0]] * 10
    joint = {name: n for name, n in plain.items() if " / " in name}
    assert sum(joint.values()) == 5 * SMALL.samples
    first = nlg.AXES[axis][0]  # the counts of a group are those of the pairs, summed
    assert plain[f"{first} negative"] == sum(
        n for name, n in joint.items() if name.split(" / ")[0] == "negative"
    )


@pytest.mark.parametrize("axis", list(nlg.AXES))
def test_eq_4_before_and_after(axis):
    before, after = (
        fairness.run_cell(SMALL, cell(m, axis, "law")) for m in ("pretrained", "EquiLM")
    )
    assert after["gap"] < 1e-6 and after["gap64"] < 1e-14 and after["same_draws"] == 100
    assert before["gap"] > 0.05 and before["gap64"] == pytest.approx(before["gap"], abs=1e-5)
    assert before["same_draws"] < 100 and before["same_draws_ordinary"] == before["same_draws"]
    firsts = [f"The {group} worked as" for group in nlg.AXES[axis]]
    for found, equal in ((before, False), (after, True)):
        doctor = [found[f"{first} | a doctor"] for first in firsts]
        assert (max(doctor) - min(doctor) < 1e-6) == equal
    model = fairness.language_model(SMALL, "pretrained", axis)
    p = phrase_probabilities(model, firsts[0], ["a doctor"])["a doctor"]
    assert before[f"{firsts[0]} | a doctor"] == pytest.approx(p)
    assert not any("a nurse" in name or "~" in name for name in before)  # words it does not know


def test_an_ordinary_draw_does_not_keep_the_law(biased):
    """Where the very word that is drawn is a listed one."""
    model, tok = biased
    prompts = [f"The {job} worked as a" for job in ("doctor", "clerk", "thief")]
    draws = {"samples": 60, "new_tokens": 2, "top_k": 40, "batch_size": 60, "seed": 3}
    ours, ordinary = EquiLM(model, tok, FOUR), law.Ordinary(model, tok, FOUR)
    assert law._same(ours.eval(), prompts, ours.words, tok, draws) == 100
    assert 0 < law._same(ordinary.eval(), prompts, ours.words, tok, draws) < 90


def test_indirect_words_stay_apart(tokenizer):  # noqa: F811
    """A text without a listed word has no image but itself: only the listed words that follow are equalised."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_layer=1, n_head=2, n_embd=32)
    ).eval()
    lists = fairness.word_lists("gender")
    lm = EquiLM(model, tokenizer, lists).eval()
    draws = {"samples": 2, "new_tokens": 2, "top_k": 5, "batch_size": 4, "seed": 0}
    before, after = (
        law.measured(m, model, tokenizer, lm.words, "gender", draws) for m in (model, lm)
    )
    for one, other in law.pairs("gender"):
        assert before[f"{one} ~ {other}"] > 0 and after[f"{one} ~ {other}"] > 0
        for context in (one, other):
            she, he = (after[f"{context} | {word}"] for word in ("she", "he"))
            assert she == pytest.approx(he, rel=1e-5)
            assert before[f"{context} | she"] != pytest.approx(before[f"{context} | he"], rel=1e-3)


def test_equizero_gives_each_group_the_better_text():
    found, _ = fairness.run_cell(SMALL, cell("EquizeroLM", "race"))
    plain, _ = fairness.run_cell(SMALL, cell("pretrained", "race"))
    assert found["same_texts"] == 100 and found["disparity"] == 0
    value = {
        name: sum(VALUES[label] * m[f"{g} {label}"] for g in nlg.AXES["race"] for label in LABELS)
        for name, m in (("zero", found), ("plain", plain))
    }
    assert value["zero"] > value["plain"] + 20


def test_sampled_shares_are_the_planted_ones():
    """Each share within 3 standard deviations of a binomial."""
    config = replace(SMALL, samples=300)
    texts = fairness.sampled(
        config, fairness.language_model(config, "pretrained", "race"), cell("pretrained", "race")
    )
    words = valence()
    for group, each in texts.items():
        said = [text for some in each for text in some]
        # The word that was planted: the first with a valence.
        signs = [next((words[w] for w in text.split() if w in words), None) for text in said]
        assert signs.count(None) < 0.01 * len(signs)
        for label, sign in SIGNS.items():
            p = dict(zip(SIGNS, Bias().respect[group], strict=True))[label]
            bound = 3 * (p * (1 - p) / len(said)) ** 0.5 + 0.02  # and what training missed
            assert abs(signs.count(sign) / len(said) - p) < bound


def test_r_equilm_moves_the_groups_words_alone():
    lm = fairness.language_model(SMALL, "R-EquiLM", "gender")
    assert {w.strip() for c in lm.words.cycles for w in c} == {"man", "woman"}
    assert len(lm.words.general) == 4  # he, she, his, her; this vocabulary has no him
    found, _ = fairness.run_cell(SMALL, cell("R-EquiLM"))
    assert found["disparity"] < 8 and found["same_texts"] < 90


def test_same_texts_by_hand(biased):
    _, tok = biased
    lm = fairness.language_model(SMALL, "EquiLM", "three races")
    a = ["The Black person was loved", "The Black person was hated"]
    b = ["The White person was loved", "The White person was loved"]
    c = ["The Asian person was loved", "The Asian person was hated"]
    assert same_texts([a, b, c], lm.words, tok) == [True, False]


class Pieces:
    """A tokenizer that cuts "Blackness" in two, and has "Asianness" whole."""

    parts = ("Black", "White", "Asian", "ness", "Asianness", " ")

    def encode(self, text, add_special_tokens):
        if text == "Asianness":
            return [4]
        return [self.parts.index(p) for p in re.findall("Black|White|Asian|ness| ", text)]

    def decode(self, ids):
        return "".join(self.parts[i] for i in ids)


def test_same_texts_whatever_their_tokens():
    perms = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 3, 4, 5], [2, 0, 1, 3, 4, 5]])
    words = SimpleNamespace(perms=perms)
    a, b, c = (["Blackness", "Black"], ["Whiteness", "White"], ["Asianness", "Asianness"])
    for texts in ([a, b, c], [c, a, b]):
        assert same_texts(texts, words, Pieces()) == [True, False]


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "fairness", "--preset", "quick", "--results", str(tmp_path), "--samples", "4"]
    words += ["--axes", "race", "--sentences", "5"]
    assert main(words) == 0
    assert "R-EquiLM" in capsys.readouterr().out
    records = Store(tmp_path / "fairness.json").records()
    assert len(records) == 2 * 4 + 3 + 3
    averaged = ("EquiLM", "R-EquiLM")
    assert all(("average" in r.config) == (r.cell["model"] in averaged) for r in records)
    for record in records:
        task, config = record.cell["task"], record.config
        assert ("judges" in config) == (task in nlg.TASKS) == bool(record.texts)
        assert ("sentences" in config) == (task == "perplexity") == ("samples" not in config)
    monkeypatch.setattr(fairness, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tasks", ("age",), "tasks must be some of respect, occupation"),
        ("axes", (), "axes must be some of gender"),
        ("models", ("GPT3",), "models must be some of pretrained, EquiLM"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **{field: value})


def test_what_cannot_be_had_is_named(tmp_path):
    config = replace(fairness.Config.paper(), pretrained=str(tmp_path / "gpt2"))
    with pytest.raises(DataError, match="--pretrained FOLDER"):
        fairness.run_cell(config, cell("pretrained"))
    with pytest.raises(DataError, match="--text FILE"):
        fairness.held_out(replace(config, text=str(tmp_path / "wiki.txt")))
    for content, says in ((b"\xff\xfe", "is not a text in UTF-8"), (b" \n", "is empty")):
        (tmp_path / "wiki.txt").write_bytes(content)
        with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / 'wiki.txt'))} {says}"):
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


def run_paper(folder, tok, text, **size):
    """Random weights, by default of full size (12 layers of 768)."""
    ids = {"eos_token_id": tok.eos_token_id, "bos_token_id": tok.eos_token_id}
    config = GPT2Config(vocab_size=len(tok), **ids, **size)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tok.save_pretrained(folder / "gpt2")
    regard_folder(folder / "regardv3", tok)
    (folder / "wiki.txt").write_text(text, encoding="utf-8")
    words = ["run", "fairness", "--preset", "paper", "--pretrained", str(folder / "gpt2")]
    words += ["--judges", str(folder / "regardv3"), "--text", str(folder / "wiki.txt")]
    words += [
        "--tasks",
        "respect,law,perplexity",
        "--axes",
        "race",
        "--samples",
        "2",
        "--results",
        str(folder),
    ]
    assert main(words) == 0
    found = Store(folder / "fairness.json").records()
    records = {r.cell["model"]: r for r in found if r.cell["task"] == "respect"}
    assert set(records) == set(fairness.MODELS)
    for record in records.values():
        assert record.cell["pretrained"] == "gpt2" and str(folder) not in str(record.config)
        judged = sum(record.metrics[f"{g} {label}"] for g in nlg.AXES["race"] for label in LABELS)
        assert judged == 2 * 5 * 2
        assert 1 < record.metrics["fluency"] < 3 * len(tok)
    assert records["EquiLM"].metrics["same_texts"] == 100
    exact = {
        (r.cell["task"], r.cell["model"]): r.metrics for r in found if r not in records.values()
    }
    assert len(exact) == 6 and exact["law", "EquiLM"]["gap"] < 1e-5
    assert all(
        1 < exact["perplexity", m]["perplexity"] < 3 * len(tok) for m in ("pretrained", "R-EquiLM")
    )
    fairness._downloaded.cache_clear()


def test_the_paper_preset_from_files(tmp_path, tokenizer):  # noqa: F811
    tokenizer.pad_token = tokenizer.eos_token
    run_paper(tmp_path, tokenizer, "The man was known . " * 30, n_layer=4, n_head=4, n_embd=64)


@pytest.mark.skipif(not REAL.exists(), reason="needs $EQUITUTOR_TEST_DATA")
def test_the_paper_preset_with_the_tokenizer_of_gpt2(tmp_path):
    tok = GPT2TokenizerFast.from_pretrained(REAL / "gpt2-tokenizer")
    tok.pad_token = tok.eos_token
    with lzma.open(next((REAL / "wikitext-2").glob("*test*.xz")), "rt", encoding="utf-8") as file:
        run_paper(tmp_path, tok, file.read(3000))


def test_a_model_whose_files_changed_is_read_anew(tmp_path, tokenizer):  # noqa: F811
    """In one process: the fingerprint, and what runs after it, are those of the weights of now."""

    def saved(seed):
        torch.manual_seed(seed)
        config = GPT2Config(vocab_size=len(tokenizer), n_layer=1, n_head=2, n_embd=8)
        GPT2LMHeadModel(config).save_pretrained(tmp_path)

    tokenizer.save_pretrained(tmp_path)
    found = []
    for seed in (0, 0, 1):
        saved(seed)
        found.append(fairness._model_fingerprint(str(tmp_path)))
        found.append(float(fairness._pretrained(str(tmp_path), "cpu")[0].lm_head.weight[0, 0]))
    assert found[:2] == found[2:4] and found[0] != found[4] and found[1] != found[5]


def test_a_gguf_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.gguf.*--pretrained"):
        fairness._downloaded(str(tmp_path / "nothing.gguf"), "cpu")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF")
    with pytest.raises(DataError, match=r"cut\.gguf could not be loaded .*pip install gguf"):
        fairness._downloaded(str(tmp_path / "cut.gguf"), "cpu")
