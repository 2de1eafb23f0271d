"""What judges said of texts about several groups, from the records of the fairness experiment.

>>> runs = chosen(recorded("fairness"), "gemma-3-270m-q4_k_m.gguf", "respect", "race")
>>> shares(runs["EquiLM"])                     # {group: {label: (percent, standard error)}}
>>> difference(runs["EquiLM"])                 # Difference: between which groups, how much, and its interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..experiments import fairness
from ..language import nlg
from ..language.regard import LABELS
from ..store.results import Record

__all__ = ["Difference", "chosen", "difference", "shares"]

_JUDGED = LABELS[:3]
_DRAWS, _SEED = 4000, 0  # of the bootstrap


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
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


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
