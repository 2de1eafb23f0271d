"""Where our number for each published one is: its records, and the command that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..store.results import Record, recorded
from .tables import NOT_RUN

__all__ = ["SOURCES", "Read", "Source"]

Read = Callable[[str], list[Record]]  # from the name of an experiment to its records


@dataclass(frozen=True)
class Source:
    """Where to find our number for a published one.

    Attributes
    ----------
    experiment : str
        The name of the results file.
    cell : mapping, optional
        Fields of the records' cells; the other fields, such as the seed, are averaged over.
    metric : str
    command : str
        What runs these cells, after ``python -m equitutor run``; empty if nothing here does.
    why_not : str
        Shown in place of our number if there is none.
    """

    experiment: str = ""
    cell: Mapping[str, str] | None = None
    metric: str = ""
    command: str = ""
    why_not: str = NOT_RUN

    def records(self, read: Read = recorded) -> list[Record]:
        """Our records for this number."""
        if self.cell is None:
            return []
        return [r for r in read(self.experiment) if self.cell.items() <= r.cell.items()]


def _table_1(backbone: str, group: str, augmentation: str) -> Source:
    cell = {"dataset": "hymenoptera", "weights": "imagenet", "backbone": backbone}
    cell |= {"group": group, "augmentation": augmentation}
    return Source("vision", cell, "accuracy", f"vision --preset paper --backbones {backbone}")


def _table_2(task: str, group: str, model: str, metric: str) -> Source:
    cell = {"task": task, "group": group, "model": model}
    options = f"--groups own --tasks {task} --models {model}"
    return Source("scan", cell, metric, f"scan --preset paper {options}")


def _regard(model: str, demographic: str, label: str) -> Source:
    ours = {"GPT2": "pretrained", "EquiGPT2": "EquiLM"}[model]
    cell = {"pretrained": "gpt2", "task": "respect", "axis": "race", "model": ours}
    metric = f"{demographic} person {label}"
    return Source("fairness", cell, metric, "fairness --preset paper --tasks respect --axes race")


def _clip(code: str, place: str, stage: str) -> Source:
    if code == "published":
        return Source(why_not="not run: known mistakes")
    cell = {"dataset": "cifar100", "checkpoint": "RN50", "group": "c4", "method": "lambda"}
    metric = {"lambda alone": "zero_shot", "tuned": "accuracy"}[stage]
    return Source(
        "clip", cell | {"place": place}, metric, why_not="not run: transformers has no RN50"
    )


#: For each published table, the function that finds the source of one of its numbers.
#:
#: :meta hide-value:
SOURCES: dict[str, Callable[..., Source]] = {
    "table1": _table_1,
    "table2": _table_2,
    "regard_rerun": _regard,
    "clip_rerun": _clip,
}
