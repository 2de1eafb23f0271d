"""Fairness of open-ended text generation (AAAI paper, Secs. 5.3 and 6.3, Figs. 3 and 5, Table 9).

A language model continues contexts such as "The woman worked as"; a scorer says how each text speaks
of the group. One cell is one model x task x axis x seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, cast

from ..language import nlg
from ..language.corpus import Bias, make_corpus, valence
from ..language.corpus_lm import biased_lm
from ..language.equality import equality
from ..language.fairness import fairness_gap, perplexity
from ..language.lm import AVERAGES, EquiLM
from ..language.regard import LABELS, Regard, Scorer, Valence
from ..options import Choice, Count, Name, Seeds
from ..store.files import DataError, sha256sum
from ..store.hub import fingerprint, from_hub
from .config import BaseConfig, Cell, Source, last_part, product, shown
from .runner import run

__all__ = [
    "MODELS",
    "Config",
    "beginnings",
    "held_out",
    "language_model",
    "mean_perplexity",
    "prepare",
    "run",
    "run_cell",
    "same_texts",
    "sampled",
    "scorer",
    "word_lists",
]

#: The pretrained model, its equi-tuned forms, and what each keeps: see :func:`language_model`.
MODELS = ("GPT2", "EquiGPT2", "R-EquiGPT2")

#: The words that are moved together with those of an axis's groups. "her" answers both "his" and
#: "him", so "him" is in no list; R-EquiLM leaves all pronouns to the pretrained model instead.
PRONOUNS = {"gender": [["he", "she"], ["his", "her"]]}
GENERAL = ("he", "she", "his", "her", "him")

#: The model that is trained here, on a corpus of a planted bias.
PLANTED = "planted"

#: The scorer that goes by words of known valence.
VALENCE = "valence"


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a fairness experiment runs. The first four fields span the figures.

    Attributes
    ----------
    tasks : "respect", "occupation"
    axes : of :data:`equitutor.language.nlg.AXES`; "three races" is beyond the paper
    models, seeds : of MODELS, and the repetitions
    pretrained : "planted" (a small GPT-2, trained here), or a GPT-2 on the hub or in a folder
    average : what EquiLM averages: "logits" (the paper's), "log_probs" or "probs"
    samples, new_tokens, top_k : of each context (the paper's: 100, 15, 40)
    batch_size : texts generated at a time; the draws depend on it
    regard : the classifier on the hub, or in a folder; "valence": by the known valence of words
    text : file with the text of the perplexity, as WikiText-2's test set; empty: sentences of
        the planted corpus that were not trained on
    sentences : how many of those
    """

    spans = ("tasks", "axes", "models", "seeds", "pretrained")

    tasks: Annotated[tuple[str, ...], Choice(nlg.TASKS)] = tuple(nlg.TASKS)
    axes: Annotated[tuple[str, ...], Choice(nlg.AXES)] = ("gender", "race", "orientation")
    models: Annotated[tuple[str, ...], Choice(MODELS)] = MODELS
    seeds: Seeds = (0,)
    pretrained: Name = PLANTED
    average: Annotated[str, Choice(AVERAGES)] = "logits"
    samples: Count = 100
    new_tokens: Count = 15
    top_k: Count = 40
    batch_size: Count = 100
    regard: Name = VALENCE
    text: str = ""
    sentences: Count = 300

    @classmethod
    def quick(cls) -> Config:
        """A small GPT-2 of a planted bias: a minute on a laptop's CPU, no network."""
        return cls(samples=40, new_tokens=9, batch_size=200)

    @classmethod
    def planted(cls) -> Config:
        """The same with 400 samples per context, five seeds and three races."""
        axes = (*cls.axes, "three races")
        return cls(axes=axes, seeds=(0, 1, 2, 3, 4), samples=400, new_tokens=9, batch_size=1000)

    @classmethod
    def paper(cls) -> Config:
        """GPT-2 and the regard classifier; needs a GPU, the network, and WikiText-2 in a file."""
        return cls(pretrained="gpt2", regard="sasha/regardv3", text="wikitext-2-test.txt")

    def cells(self) -> list[Cell]:
        """The key of every bar of the figures."""
        name = shown(self.pretrained, (PLANTED,))
        return product(
            pretrained=[name], task=self.tasks, axis=self.axes, model=self.models, seed=self.seeds
        )

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        return ("average",) if cell["model"] == "GPT2" else ()

    def settings(self, cell: Mapping[str, Any] | None = None) -> dict[str, Any]:
        settings = super().settings(cell)
        if self.text:
            del settings["sentences"]
        return settings | {"text": last_part(self.text), "regard": shown(self.regard, (VALENCE,))}

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {}
        if self.pretrained != PLANTED:
            found["weights"] = (_model_fingerprint, self.pretrained)
        if self.regard != VALENCE:
            found["regard"] = (_regard_fingerprint, self.regard)
        if self.text:
            found["text"] = (_text_fingerprint, self.text)
        return found


# -- models, scorers, texts -----------------------------------------------------------------------


def _pretrained(name: str, device: str) -> tuple[Any, Any]:
    """A pretrained model and its tokenizer."""
    if name == PLANTED:
        model, tokenizer = biased_lm()
        return model.to(device).eval(), tokenizer
    return _downloaded(name, device)


@lru_cache(maxsize=2)
def _downloaded(name: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    classes = AutoModelForCausalLM, AutoTokenizer
    instead = "with --pretrained FOLDER"
    model, tokenizer = from_hub("language model", name, *classes, instead=instead)
    return model.to(device).eval(), tokenizer


def word_lists(axis: str) -> list[list[str]]:
    """The lists of EquiLM for an axis: its groups' words and, for gender, the pronouns."""
    return nlg.words(axis) + PRONOUNS.get(axis, [])


def language_model(config: Config, model: str, axis: str, device: str = "cpu") -> Any:
    """GPT2 itself, EquiGPT2 with the lists of an axis, or R-EquiGPT2.

    R-EquiGPT2 moves the groups' words only, and the pronouns keep the pretrained model's scores.
    """
    base, tokenizer = _pretrained(config.pretrained, str(device))
    if model == "GPT2":
        base.tokenizer = tokenizer
        return base
    general = None
    if model == "R-EquiGPT2":
        known = tokenizer.get_vocab()
        general = [w for w in GENERAL if {w, f"Ġ{w}"} & known.keys()]
    lists = nlg.words(axis) if general is not None else word_lists(axis)
    return EquiLM(base, tokenizer, lists, general, config.average).to(device).eval()


@lru_cache(maxsize=2)
def scorer(name: str, device: str = "cpu") -> Scorer:
    """The regard classifier of a name, or words of known valence."""
    return Valence(valence()) if name == VALENCE else Regard(name, device=str(device))


def _model_fingerprint(name: str) -> str:
    return fingerprint(*_pretrained(name, "cpu"))


def _regard_fingerprint(name: str) -> str:
    regard = cast("Regard", scorer(name))
    return fingerprint(regard.model, regard.tokenizer)


def _text_fingerprint(text: str) -> str:
    return sha256sum(_text_file(text))[:16]


def held_out(config: Config) -> list[str]:
    """The texts to take the perplexity of: a whole file, or sentences of the planted corpus."""
    if not config.text:
        return make_corpus(config.sentences, Bias(), seed=1)
    return [_text_file(config.text).read_text(encoding="utf-8")]


def _text_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise DataError(
            f"there is no file {text}. Put the test set of WikiText-2 there (its raw text, one "
            "file, as published by its authors), or give another text: --text FILE"
        )
    return path


def mean_perplexity(lm: Any, texts: Sequence[str]) -> float:
    """The perplexity over several texts, each read by itself: exp of the mean over all tokens."""
    total, count = 0.0, 0
    for text in texts:
        ids = lm.tokenizer(text, verbose=False)["input_ids"]
        total += math.log(perplexity(lm, ids)) * (len(ids) - 1)
        count += len(ids) - 1
    return math.exp(total / count)


# -- one cell -------------------------------------------------------------------------------------


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The training of the planted model, to be done once."""
    return [(_pretrained, PLANTED, device)] if cells and config.pretrained == PLANTED else []


def sampled(config: Config, lm: Any, cell: dict) -> dict[str, list[str]]:
    """The texts of each group, all contexts of a task; every group has the same random numbers."""
    how = (config.samples, config.new_tokens, config.top_k, cell["seed"], config.batch_size)
    return {
        group: [text for texts in nlg.sample_texts(lm, prompts, *how) for text in texts]
        for group, prompts in nlg.contexts(cell["task"], cell["axis"]).items()
    }


def run_cell(config: Config, cell: dict, device: str = "cpu") -> dict[str, float]:
    """Sample, score and measure.

    Returns
    -------
    dict
        For each group the number of texts of each label, as "man negative"; ``disparity``, the
        largest difference between two groups in the share of a label, in percent;
        ``same_texts``, the percent of texts that are the same for all groups but for the words of
        the lists; ``gap``, the largest violation of eq. 4 for the next word of some beginnings of
        texts; ``perplexity``.
    """
    lm = language_model(config, cell["model"], cell["axis"], str(device))
    tokenizer = _pretrained(config.pretrained, str(device))[1]
    lists = word_lists(cell["axis"]) if cell["model"] != "R-EquiGPT2" else nlg.words(cell["axis"])
    words = getattr(lm, "words", None) or equality(tokenizer, lists, size=lm.config.vocab_size)
    texts = sampled(config, lm, cell)
    metrics: dict[str, float] = {}
    shares = []
    for group, samples in texts.items():
        counts = Counter(scorer(config.regard, str(device))(samples))
        metrics |= {f"{group} {label}": counts[label] for label in LABELS}
        judged = max(1, sum(counts[label] for label in LABELS[:3]))
        shares.append([100 * counts[label] / judged for label in LABELS[:3]])
    starts = beginnings(texts, nlg.contexts(cell["task"], cell["axis"]))
    metrics["disparity"] = max(max(s) - min(s) for s in zip(*shares, strict=True))
    metrics["same_texts"] = 100 * same_texts(list(texts.values()), words, tokenizer)
    metrics["gap"] = fairness_gap(lm, starts, words=words, tokenizer=tokenizer)
    metrics["perplexity"] = mean_perplexity(lm, held_out(config))
    return metrics


def beginnings(texts: dict[str, list[str]], contexts: dict[str, list[str]]) -> list[str]:
    """The contexts, and the first text of each up to its first and its second new word."""
    found: dict[str, None] = {}
    for group, prompts in contexts.items():
        each = len(texts[group]) // len(prompts)
        for prompt, text in zip(prompts, texts[group][::each], strict=True):
            after = text.removeprefix(prompt).split()
            found |= dict.fromkeys(" ".join([prompt, *after[:n]]) for n in range(3))
    return list(found)


def same_texts(texts: list[list[str]], words: Any, tokenizer: Any) -> float:
    """The share of texts that some g moves from the first group's to each other group's."""
    rows = [
        [tuple(tokenizer.encode(t, add_special_tokens=False)) for t in group] for group in texts
    ]
    perms = words.perms.tolist()
    orbits = [{tuple(p[i] for i in row) for p in perms} for row in rows[0]]
    same = sum(
        all(other in orbit for other in others)
        for orbit, others in zip(orbits, zip(*rows[1:], strict=True), strict=True)
    )
    return same / len(orbits)
