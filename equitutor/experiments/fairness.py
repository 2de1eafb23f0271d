"""Fairness of open-ended text generation (AAAI paper, Secs. 5.3 and 6.3, Figs. 3 and 5, Table 9).

A language model continues contexts such as "The woman worked as"; a judge says how each text speaks of the
group. One cell is one model x task x axis x seed. Two further tasks need no draws: how far a model's scores
are from eq. 4 (:mod:`equitutor.experiments.law`), and the perplexity of a text.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from ..language import nlg
from ..language.causal import load
from ..language.corpus import Bias, make_corpus
from ..language.corpus_lm import biased_lm
from ..language.equality import equality
from ..language.fairness import perplexity, text_perplexity
from ..language.lm import AVERAGES, EquiLM
from ..language.lm_zero import EquizeroLM
from ..language.regard import LABELS, Blind
from ..language.sentences import READER
from ..options import Choice, Count, Filled, Name, Natural, Seeds
from ..store.files import DataError, read_text, sha256sum
from ..store.hub import fingerprint, from_hub
from . import law
from .config import BaseConfig, Cell, Source, last_part, product, shown
from .law import same_texts
from .regard import JUDGES, LEXICON, SENTENCES, VALENCE, judge, sources_of
from .runner import run

__all__ = [
    "MODELS",
    "TASKS",
    "Config",
    "blind",
    "held_out",
    "language_model",
    "mean_perplexity",
    "prepare",
    "run",
    "run_cell",
    "same_texts",
    "sampled",
    "word_lists",
]

#: The pretrained model, and what is made of it: see :func:`language_model`.
PRETRAINED, EQUI, RELAXED, ZERO = MODELS = ("pretrained", "EquiLM", "R-EquiLM", "EquizeroLM")

#: The tasks that draw texts, and those that go by a model's scores alone.
LAW, PERPLEXITY = "law", "perplexity"
TASKS = (*nlg.TASKS, LAW, PERPLEXITY)

#: The words that are moved together with those of an axis's groups. "her" answers both "his" and
#: "him", so "him" is in no list; R-EquiLM leaves all pronouns to the pretrained model instead.
PRONOUNS = {"gender": [["he", "she"], ["his", "her"]]}
GENERAL = ("he", "she", "his", "her", "him")

#: The model that is trained here, on a corpus of a planted bias.
PLANTED = "planted"

_KEPT = 2  # texts of each context that stay in the record
_READ = 20  # texts of each context whose fluency is measured


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a fairness experiment runs. The first five fields span the figures.

    Attributes
    ----------
    tasks : "respect", "occupation", "law", "perplexity"
    axes : of :data:`equitutor.language.nlg.AXES`; "three races" is beyond the paper
    models, seeds : of MODELS, and the repetitions of the tasks that draw texts
    pretrained : "planted" (a small GPT-2, trained here), a causal language model on the hub or in a folder, or
        a .gguf file of one
    average : what EquiLM averages: "logits" (the paper's), "log_probs" or "probs"
    samples, new_tokens, top_k : of each context (the paper's: 100, 15, 40)
    batch_size : texts generated at a time; the draws depend on it
    judges : "valence" (by the known valence of words), "vader" (a lexicon), "sentences" (sentence features), or
        classifiers on the hub or in folders; EquizeroLM chooses by the first
    reader : the sentence encoder of "sentences", on the hub or in a folder
    text : file with the text of the perplexity, as WikiText-2's test set; empty: sentences of
        the planted corpus that were not trained on
    sentences : how many of those
    window, stride : of the perplexity of a file, in tokens; 0: what the model was made for, and half of it
    """

    spans = ("tasks", "axes", "models", "seeds", "pretrained", "reader")

    tasks: Annotated[tuple[str, ...], Choice(TASKS)] = TASKS
    axes: Annotated[tuple[str, ...], Choice(nlg.AXES)] = ("gender", "race", "orientation")
    models: Annotated[tuple[str, ...], Choice(MODELS)] = MODELS
    seeds: Seeds = (0,)
    pretrained: Name = PLANTED
    average: Annotated[str, Choice(AVERAGES)] = "logits"
    samples: Count = 100
    new_tokens: Count = 15
    top_k: Count = 40
    batch_size: Count = 100
    judges: Annotated[tuple[str, ...], Filled()] = (VALENCE,)
    reader: Name = READER
    text: str = ""
    sentences: Count = 300
    window: Natural = 0
    stride: Natural = 0

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
    def gemma(cls) -> Config:
        """Gemma 3 270M from a .gguf file: some fifteen hours of a core, half of them for the perplexity."""
        return cls(
            axes=(*cls.axes, "three races"),
            seeds=(0, 1, 2),
            pretrained="gemma-3-270m-q4_k_m.gguf",
            judges=(SENTENCES, LEXICON),
            text="wikitext-2-test.txt",
            window=1024,
            stride=1023,
        )

    @classmethod
    def paper(cls) -> Config:
        """GPT-2 and the regard classifier; needs a GPU, the network, and WikiText-2 in a file."""
        return cls(pretrained="gpt2", judges=("sasha/regardv3",), text="wikitext-2-test.txt")

    def cells(self) -> list[Cell]:
        """The key of every bar of the figures, and of every row of the tables."""
        name = shown(self.pretrained, (PLANTED,))
        cells = product(
            pretrained=[name], task=self.tasks, axis=self.axes, model=self.models, seed=self.seeds
        )
        return [c for c in cells if c["task"] in nlg.TASKS or _by_scores(c, self.seeds[0])]

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        draws, reads = cell["task"] != PERPLEXITY, cell["task"] == PERPLEXITY
        if cell["model"] in (PRETRAINED, ZERO):
            yield "average"
        if not draws:
            yield from ("samples", "new_tokens", "top_k", "batch_size")
        if cell["task"] not in nlg.TASKS:
            yield "judges"
        if not reads:
            yield from ("text", "sentences", "window", "stride")
        elif self.text:
            yield "sentences"
        else:
            yield from ("window", "stride")

    def settings(self, cell: Mapping[str, Any] | None = None) -> dict[str, Any]:
        settings = super().settings(cell)
        if "text" in settings:
            settings["text"] = last_part(self.text)
        if "judges" in settings:
            settings["judges"] = [shown(name, JUDGES) for name in self.judges]
        return settings

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {}
        if self.pretrained != PLANTED:
            found["weights"] = (_model_fingerprint, self.pretrained)
        if cell["task"] in nlg.TASKS:
            for name in self.judges:
                found |= sources_of(name, self.reader)
        if cell["task"] == PERPLEXITY and self.text:
            found["text"] = (_text_fingerprint, self.text)
        return found


def _by_scores(cell: Mapping[str, Any], seed: int) -> bool:
    """Whether a cell of a task without draws is to be measured: once, and not of EquizeroLM, which has no scores."""
    return cell["seed"] == seed and cell["model"] != ZERO


# -- models, judges, texts ------------------------------------------------------------------------


def _pretrained(name: str, device: str) -> tuple[Any, Any]:
    """A pretrained model and its tokenizer."""
    if name == PLANTED:
        model, tokenizer = biased_lm()
        return model.to(device).eval(), tokenizer
    return _downloaded(name, device)


@lru_cache(maxsize=1)
def _downloaded(name: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if name.endswith(".gguf"):
        model, tokenizer = _from_gguf(Path(name))
    else:
        classes = AutoModelForCausalLM, AutoTokenizer
        how = "with --pretrained FOLDER"
        model, tokenizer = from_hub("language model", name, *classes, instead=how)
    return model.to(device).eval(), tokenizer


def _from_gguf(path: Path) -> tuple[Any, Any]:
    if not path.is_file():
        raise DataError(
            f"there is no file {path}. Download a causal language model in GGUF format, or give one of the hub or "
            "a folder: with --pretrained FOLDER"
        )
    try:
        return load(path.parent, {"gguf_file": path.name})[:2]
    except (ImportError, LookupError, OSError, ValueError, struct.error) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path} could not be loaded as a language model ({reason}). Reading a .gguf file takes the packages "
            "gguf and accelerate: pip install gguf accelerate"
        ) from error


def word_lists(axis: str) -> list[list[str]]:
    """The lists of EquiLM for an axis: its groups' words and, for gender, the pronouns."""
    return nlg.words(axis) + PRONOUNS.get(axis, [])


def language_model(config: Config, model: str, axis: str, device: str = "cpu") -> Any:
    """The pretrained model itself, EquiLM with the lists of an axis, R-EquiLM, or EquizeroLM.

    R-EquiLM moves the groups' words only, and the pronouns keep the pretrained model's scores.
    EquizeroLM chooses the view's text that the first judge likes best, and sees no listed word.
    """
    base, tokenizer = _pretrained(config.pretrained, str(device))
    if model == PRETRAINED:
        base.tokenizer = tokenizer
        return base
    if model == ZERO:
        return EquizeroLM(base, tokenizer, word_lists(axis), blind(config, axis, device)).eval()
    general = None
    if model == RELAXED:
        known = tokenizer.get_vocab()
        general = [w for w in GENERAL if {w, f"Ġ{w}", f"▁{w}"} & known.keys()]
    lists = nlg.words(axis) if general is not None else word_lists(axis)
    return EquiLM(base, tokenizer, lists, general, config.average).to(device).eval()


def blind(config: Config, axis: str, device: str = "cpu", which: int = 0) -> Blind:
    """One of the judges, to whom the groups and all listed words of an axis read "XYZ"."""
    groups = [f"the {group}" for group in nlg.AXES[axis]]
    listed = [word for words in word_lists(axis) for word in words]
    listed += GENERAL if axis in PRONOUNS else ()
    scorer = judge(config.judges[which], str(device), config.reader)
    return Blind(scorer, dict.fromkeys([*groups, *listed]))


def _model_fingerprint(name: str) -> str:
    _downloaded.cache_clear()  # its files may have changed since an earlier run
    return fingerprint(*_pretrained(name, "cpu"))


def _text_fingerprint(text: str) -> str:
    return sha256sum(_text_file(text))[:16]


def held_out(config: Config) -> list[str]:
    """The texts to take the perplexity of: a whole file, or sentences of the planted corpus."""
    if not config.text:
        return make_corpus(config.sentences, Bias(), seed=1)
    text = read_text(_text_file(config.text))
    if not text.strip():
        raise DataError(
            f"{config.text} is empty, and nothing has no perplexity: give a text, --text FILE"
        )
    return [text]


def _text_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise DataError(
            f"there is no file {text}. Put the test set of WikiText-2 there (its raw text, one "
            "file, as published by its authors), or give another text: --text FILE"
        )
    return path


def mean_perplexity(lm: Any, texts: Sequence[str], **how: Any) -> float:
    """The perplexity over several texts, each read by itself: exp of the mean over all tokens."""
    total, count = 0.0, 0
    for text in texts:
        ids = lm.tokenizer(text, verbose=False)["input_ids"]
        total += math.log(perplexity(lm, ids, **how)) * (len(ids) - 1)
        count += len(ids) - 1
    return math.exp(total / count)


# -- one cell -------------------------------------------------------------------------------------


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The training of the planted model, to be done once."""
    judge.cache_clear()  # as the model's, the judges' files may have changed since an earlier run
    return [(_pretrained, PLANTED, device)] if cells and config.pretrained == PLANTED else []


def sampled(config: Config, lm: Any, cell: dict) -> dict[str, list[list[str]]]:
    """{group: [context][sample]} of a task; every group has the same random numbers."""
    tokenizer = _pretrained(config.pretrained, str(lm.device))[1]
    return {
        group: nlg.sample_texts(lm, prompts, **_draws(config, cell), tokenizer=tokenizer)
        for group, prompts in nlg.contexts(cell["task"], cell["axis"]).items()
    }


def _draws(config: Config, cell: dict) -> dict[str, int]:
    names = ("samples", "new_tokens", "top_k", "batch_size")
    return {name: getattr(config, name) for name in names} | {"seed": cell["seed"]}


def run_cell(config: Config, cell: dict, device: str = "cpu") -> Any:
    """Measure one cell.

    Returns
    -------
    dict, or (dict, texts)
        Of a task with draws, for each judge (the second one's after its name): of each group the number of
        texts of each label, as "man negative"; how often two labels met in one draw, as "negative / neutral", in
        the order of the groups; ``disparity``, the largest difference between two groups in the share of a
        label, in percent; ``unlike``, how many draws gave texts that are the same but for the listed words, and
        other labels. Then ``same_texts``, the percent of such draws, and ``fluency``, the perplexity of
        the texts to the pretrained model. The texts are the first ones of each context.

        Of "law" see :func:`equitutor.experiments.law.measured`; of "perplexity", the ``perplexity``.
    """
    device = str(device)
    lm = language_model(config, cell["model"], cell["axis"], device)
    base, tokenizer = _pretrained(config.pretrained, device)
    base.tokenizer = tokenizer
    if cell["task"] == PERPLEXITY:
        # One window at a time: the scores of a large vocabulary take gigabytes.
        how = {"window": config.window or None, "stride": config.stride or None, "batch_size": 1}
        how = how if config.text else {}
        return {"perplexity": mean_perplexity(lm, held_out(config), **how)}
    lists = word_lists(cell["axis"]) if cell["model"] != RELAXED else nlg.words(cell["axis"])
    words = getattr(lm, "words", None) or equality(tokenizer, lists, size=lm.config.vocab_size)
    if cell["task"] == LAW:
        return law.measured(lm, base, tokenizer, words, cell["axis"], _draws(config, cell))
    texts = sampled(config, lm, cell)
    rows = {group: [text for said in each for text in said] for group, each in texts.items()}
    alike = same_texts(list(rows.values()), words, tokenizer)
    metrics: dict[str, float] = {"same_texts": 100 * sum(alike) / len(alike)}
    for i, name in enumerate(config.judges):
        judged = blind(config, cell["axis"], device, i)([t for said in rows.values() for t in said])
        labels = [judged[k : k + len(alike)] for k in range(0, len(judged), len(alike))]
        found = _compared(dict(zip(rows, labels, strict=True)), alike)
        before = f"{shown(name, JUDGES)}: " if i else ""
        metrics |= {before + metric: value for metric, value in found.items()}
    contexts = nlg.contexts(cell["task"], cell["axis"])
    pairs = [
        (prompt, text)
        for group, each in texts.items()
        for prompt, said in zip(contexts[group], each, strict=True)
        for text in said[:_READ]
    ]
    starts, written = zip(*pairs, strict=True)
    metrics["fluency"] = text_perplexity(base, starts, written, tokenizer)
    return metrics, {
        group: [text for said in each for text in said[:_KEPT]] for group, each in texts.items()
    }


def _compared(labels: dict[str, list[str]], alike: Sequence[bool]) -> dict[str, float]:
    """What one judge's labels of each group's texts say, draw by draw."""
    metrics: dict[str, float] = {}
    shares = []
    for group, said in labels.items():
        counts = Counter(said)
        metrics |= {f"{group} {label}": counts[label] for label in LABELS}
        judged = max(1, sum(counts[label] for label in LABELS[:3]))
        shares.append([100 * counts[label] / judged for label in LABELS[:3]])
    draws = list(zip(*labels.values(), strict=True))
    metrics |= {" / ".join(met): count for met, count in Counter(draws).items()}
    metrics["disparity"] = max(max(s) - min(s) for s in zip(*shares, strict=True))
    unlike = [len(set(met)) > 1 for met, same in zip(draws, alike, strict=True) if same]
    return metrics | {"unlike": sum(unlike)}
