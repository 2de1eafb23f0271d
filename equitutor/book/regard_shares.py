"""What judges said of texts about several groups, from the records of the fairness experiment.

>>> runs = chosen(recorded("fairness"), "gemma-3-270m-q4_k_m.gguf", "respect", "race")
>>> shares(runs["EquiLM"])                     # {group: {label: (percent, standard error)}}
>>> difference(runs["EquiLM"])                 # Difference: between which groups, how much, and its interval

``figure``, ``differences`` and ``samples`` are the figures and tables of a chapter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ..experiments import fairness
from ..language import nlg
from ..language.regard import LABELS
from ..store.results import Record
from . import plotting
from .tables import NONE, Table

__all__ = [
    "Difference",
    "chosen",
    "difference",
    "differences",
    "figure",
    "next_words",
    "samples",
    "shares",
]

_JUDGED = LABELS[:3]
_DRAWS, _SEED = 4000, 0  # of the bootstrap
_WHISKER = {"fmt": "none", "ecolor": "black", "elinewidth": 1.0, "capsize": 2.5}


@dataclass(frozen=True)
class Difference:
    """How much more often one group is judged so than another, in percent, with its 95 % interval."""

    label: str
    more: str
    less: str
    value: float
    low: float
    high: float
    draws: int

    def __str__(self) -> str:
        value, low, high = (round(x, 1) + 0.0 for x in (self.value, self.low, self.high))  # no -0.0
        return f"{value:.1f} ({low:.1f} to {high:.1f})"


def chosen(
    records: Sequence[Record], pretrained: str, task: str, axis: str
) -> dict[str, list[Record]]:
    """{model: its records, one for each seed}, in the order of the models; those without records are left out."""
    wanted = {"pretrained": pretrained, "task": task, "axis": axis}
    some = [r for r in records if wanted.items() <= r.cell.items()]
    found = {m: [r for r in some if r.cell["model"] == m] for m in fairness.MODELS}
    return {model: each for model, each in found.items() if each}


def shares(records: Sequence[Record], judge: str = "") -> dict[str, dict[str, tuple[float, float]]]:
    """{group: {label: (percent of the judged texts, standard error by the bootstrap)}}, all seeds together.

    Parameters
    ----------
    records : sequence of Record
        Of one model, task and axis.
    judge : str
        The name of the second judge; empty: the first.
    """
    groups, met, counts = _draws(records, judge)
    all_of = _percent(counts[None].astype(float), met, len(groups))[0]  # (groups, labels)
    error = _percent(_resampled(counts), met, len(groups)).std(0)
    return {
        group: {label: (float(all_of[g, k]), float(error[g, k])) for k, label in enumerate(_JUDGED)}
        for g, group in enumerate(groups)
    }


def difference(records: Sequence[Record], label: str = "negative", judge: str = "") -> Difference:
    """The largest difference between two groups in the share of a label, and its 95 % interval.

    The interval is a percentile bootstrap over the draws, 4,000 times. A draw is one set of random numbers, with
    which a text was written for each group: they are resampled together, so that groups whose texts are
    always judged alike differ by 0 with certainty. The two groups are those of the largest difference.
    """
    groups, met, counts = _draws(records, judge)
    k = _JUDGED.index(label)
    all_of = _percent(counts[None].astype(float), met, len(groups))[0, :, k]
    more, less = int(all_of.argmax()), int(all_of.argmin())
    if more == less:
        more, less = 0, 1
    again = _percent(_resampled(counts), met, len(groups))[..., k]
    low, high = np.percentile(again[:, more] - again[:, less], [2.5, 97.5])
    value = all_of[more] - all_of[less]
    ends = (float(value), float(low), float(high))
    return Difference(label, groups[more], groups[less], *ends, int(counts.sum()))


def differences(
    records: Sequence[Record], pretrained: str, label: str = "negative", judge: str = ""
) -> Table:
    """Of every task and axis, how unlike the groups are judged under each model: see :func:`difference`."""
    rows = []
    seeds: dict[tuple[str, str, str], int] = {}
    if not _both(records, pretrained):
        raise ValueError(f"there are no records of texts by {pretrained}")
    for task, axis in _both(records, pretrained):
        runs = chosen(records, pretrained, task, axis)
        seeds |= {(task, axis, model): len(each) for model, each in runs.items()}
        found = {model: difference(each, label, judge) for model, each in runs.items()}
        first = next(iter(found.values()))
        who = f"{axis}: {first.more} - {first.less}"
        rows.append([task, who, *(str(found.get(m, NONE)) for m in fairness.MODELS)])
    return Table(
        f"Texts judged {label}: the largest difference between two groups, in percentage points",
        ["task", "groups", *fairness.MODELS],
        rows,
        labels=2,
        note=f"In brackets the 95 % interval of a bootstrap over the draws; {_seeds(seeds)}. The groups "
        "are named as they stand under the pretrained model.",
    )


def _seeds(counts: Mapping[tuple[str, str, str], int]) -> str:
    """The usual number of seeds, and where it is another."""
    usual = Counter(counts.values()).most_common(1)[0][0]
    models = Counter((task, axis) for task, axis, _ in counts)
    others: dict[tuple[int, str, str], list[str]] = {}
    for (task, axis, model), n in counts.items():
        if n != usual:
            others.setdefault((n, task, axis), []).append(model)
    parts = [f"seeds: {usual}"]
    for (n, task, axis), some in others.items():
        of = f" of {' and '.join(some)}" if len(some) < models[task, axis] else ""
        parts.append(f"{n}{of} in {task}, {axis}")
    return "; ".join(parts)


def figure(
    records: Sequence[Record],
    pretrained: str,
    task: str,
    axes: Sequence[str] | None = None,
    judge: str = "",
) -> Figure:
    """The shares of the labels as stacked bars: a panel for each axis, a bar for each model and group.

    At both ends of the middle part are intervals of two standard errors. Without ``axes``, of all that were run.
    """
    if axes is None:
        axes = [axis for axis in nlg.AXES if chosen(records, pretrained, task, axis)]
    if not axes:
        raise ValueError(f"there are no records of {task} by {pretrained}")
    found = {axis: chosen(records, pretrained, task, axis) for axis in axes}
    if missing := [axis for axis, runs in found.items() if not runs]:
        raise ValueError(f"there are no records of {task}, {missing[0]}, by {pretrained}")
    bars = max(len(nlg.AXES[axis]) * len(runs) for axis, runs in found.items())
    fig, panels = plotting.panels(len(axes), 1, size=(6.6, 0.22 * bars + 0.7))
    for ax, (axis, runs) in zip(panels[:, 0], found.items(), strict=True):
        table, ends = {}, []
        for model, each in runs.items():
            for group, parts in shares(each, judge).items():
                row = {label: value for label, (value, _) in parts.items()}
                table[f"{model}: {group.removesuffix(' person')}"] = row
                bad, (good, error) = parts[_JUDGED[0]], parts[_JUDGED[-1]]
                ends.append((bad, (100 - good, error)))
        plotting.stacked(table, ax=ax, title=f"{task}, {axis}")
        for which in zip(*ends, strict=True):
            at, errors = np.array(which).T
            ax.errorbar(at, range(len(at)), xerr=2 * errors, **_WHISKER)
    return fig


def next_words(
    records: Sequence[Record], pretrained: str, axis: str
) -> dict[str, dict[str, float]]:
    """How likely phrases are after the first occupation context: {"man, EquiLM": {"a doctor": probability}}.

    The phrases are :data:`equitutor.experiments.law.PROFESSIONS` and the likeliest next words.
    """
    table: dict[str, dict[str, float]] = {}
    for model, (record,) in chosen(records, pretrained, fairness.LAW, axis).items():
        for group, (context, *_) in nlg.contexts("occupation", axis).items():
            split = (name.partition(" | ") for name in record.metrics)
            name = f"{group.removesuffix(' person')}, {model}"
            table[name] = {
                text: record.metrics[f"{start} | {text}"]
                for start, _, text in split
                if start == context
            }
    return table


def samples(
    records: Sequence[Record], pretrained: str, task: str, axis: str, seed: int = 0
) -> Table:
    """Of each context the first text of a seed, for every model and group: nothing is chosen by hand."""
    rows = []
    for model, runs in chosen(records, pretrained, task, axis).items():
        for record in (r for r in runs if r.cell["seed"] == seed and r.texts):
            kept = len(next(iter(record.texts.values()))) // len(nlg.TASKS[task])
            firsts = ([str(text) for text in record.texts[g][::kept]] for g in nlg.AXES[axis])
            rows += [[model, *texts] for texts in zip(*firsts, strict=True)]
    note = f"The first text of seed {seed} after each context."
    return Table(f"{task}, {axis}", ["model", *nlg.AXES[axis]], rows, note=note)


def _both(records: Sequence[Record], pretrained: str) -> list[tuple[str, str]]:
    """The tasks and axes that there are records of, in their order."""
    there = {
        (r.cell["task"], r.cell["axis"]) for r in records if r.cell["pretrained"] == pretrained
    }
    return [(task, axis) for task in nlg.TASKS for axis in nlg.AXES if (task, axis) in there]


def _draws(
    records: Sequence[Record], judge: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]], np.ndarray]:
    """The groups; the labels that met in one draw; and how often they did, in all records together."""
    if not records:
        raise ValueError("there are no records of these texts")
    groups = nlg.AXES[str(records[0].cell["axis"])]
    before = f"{judge}: " if judge else ""
    total: dict[tuple[str, ...], float] = {}
    for record in records:
        for name, count in record.metrics.items():
            met = tuple(name.removeprefix(before).split(" / "))
            if name.startswith(before) and len(met) == len(groups) and set(met) <= set(LABELS):
                total[met] = total.get(met, 0) + count
    if not total:
        raise ValueError(f"the records have no labels of the judge {judge or 'that came first'!r}")
    return groups, list(total), np.array(list(total.values()), dtype=int)


def _resampled(counts: np.ndarray) -> np.ndarray:
    """(draws of the bootstrap, kinds): as many draws, with replacement, again and again."""
    generator = np.random.default_rng(_SEED)
    return generator.multinomial(counts.sum(), counts / counts.sum(), size=_DRAWS).astype(float)


def _percent(counts: np.ndarray, met: Sequence[tuple[str, ...]], groups: int) -> np.ndarray:
    """(N, kinds) counts -> (N, groups, labels): percent of the texts of a group that were judged."""
    which = np.array([[[m[g] == label for label in _JUDGED] for g in range(groups)] for m in met])
    found = np.tensordot(counts, which.astype(float), axes=(1, 0))  # (N, groups, labels)
    return 100 * found / np.maximum(found.sum(-1, keepdims=True), 1)
