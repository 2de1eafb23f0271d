"""Every published number that our sources give, beside ours: made from the recorded results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..store.results import Record, recorded
from .papers import Key, Summary, paper_tables, summarize
from .tables import NOT_RUN, Table, check_same

__all__ = ["SOURCES", "Source", "paired", "runs", "scoreboard", "tolerance", "verdict"]

NONE = "-"  # nothing to say in this cell


@dataclass(frozen=True)
class Source:
    """Where our number for a published one is found.

    Attributes
    ----------
    experiment : str
        The name of the results file.
    cell : mapping
        What the records' cells say; their other fields, such as the seed, are averaged over.
    metric : str
    command : str
        What runs these cells, after ``python -m equitutor run``; empty where nothing here does.
    why_not : str
        Stands in place of our number where nothing here measures it.
    """

    experiment: str = ""
    cell: Mapping[str, str] | None = None
    metric: str = ""
    command: str = ""
    why_not: str = NOT_RUN

    def records(self, read: Callable[[str], list[Record]] = recorded) -> list[Record]:
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
    cell = {"pretrained": "gpt2", "task": "respect", "axis": "race", "model": model}
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


#: For each published table the function that finds the source of one of its numbers.
SOURCES: dict[str, Callable[..., Source]] = {
    "table1": _table_1,
    "table2": _table_2,
    "regard_rerun": _regard,
    "clip_rerun": _clip,
}


def tolerance(theirs: Summary, ours: Summary) -> float | None:
    """How far two means may lie apart by chance: two standard errors, and the rounding in print.

    Where one side gives no spread the other's stands in for it; None where neither does.
    """
    a = ours.std if theirs.std is None else theirs.std
    b = theirs.std if ours.std is None else ours.std
    if a is None or b is None:
        return None
    error = math.hypot(a / math.sqrt(theirs.n), b / math.sqrt(ours.n))
    return 2 * error + 0.5 * 10 ** -theirs.places[0]


def verdict(theirs: Summary, ours: Summary) -> str:
    """Whether our mean is the published one, within the tolerance; else on which side it lies."""
    allowed = tolerance(theirs, ours)
    if allowed is None:
        return "no spread known"
    if abs(ours.mean - theirs.mean) <= allowed:
        return "agrees"
    return "ours is higher" if ours.mean > theirs.mean else "ours is lower"


_COLUMNS = ("published", "ours", "tolerance", "verdict", "seeds", "device", "seconds", "commit")


def scoreboard(name: str, read: Callable[[str], list[Record]] = recorded) -> Table:
    """One published table as a list: each number, ours, and how ours came about.

    Parameters
    ----------
    name : str
        As :func:`equitutor.book.papers.paper_tables` calls it; one of SOURCES.
    read : callable
        Name of an experiment -> its records. Default: those that come with the book.

    Raises
    ------
    ValueError
        If the runs of several seeds, to be averaged, had different settings.
    """
    published = paper_tables()[name]
    column = published.column or "metric"
    body: dict[Key, tuple[str, str]] = {}
    commands: dict[str, None] = {}
    for key, theirs in published.values.items():
        source = SOURCES[name](*key)
        found = source.records(read)
        cells = dict.fromkeys(_COLUMNS, NONE) | {"published": str(theirs), "ours": source.why_not}
        if found:
            for record in found[1:]:
                _alike(found[0], record)
            cells |= _measured(theirs, found, source.metric)
        if source.command:
            commands[f"python -m equitutor run {source.command}"] = None
        body |= {(*key, label): ("", text) for label, text in cells.items()}
    return Table(
        published.title,
        (*published.rows, column),
        "",
        tuple(published.values),
        _COLUMNS,
        body,
        missing=tuple(commands),
        todo="What makes our numbers:",
        note=f"Published: {published.source}. Ours: mean (sample standard deviation) over the seeds.",
    )


def _alike(one: Record, other: Record, shared: bool = False) -> None:
    """Raise if two records differ in their settings; ``shared``: in those that both have."""
    here, there = one.config, other.config
    if shared:
        both = here.keys() & there.keys()
        here, there = ({name: config[name] for name in both} for config in (here, there))
    check_same(here, there, ("seed",), f"runs of {dict(one.cell)} and {dict(other.cell)}")


def _measured(theirs: Summary, found: Sequence[Record], metric: str) -> dict[str, str]:
    ours = summarize([r.metrics[metric] for r in found], theirs.places)
    allowed = tolerance(theirs, ours)
    return {
        "ours": str(ours),
        "tolerance": NONE if allowed is None else f"{allowed:.{theirs.places[0]}f}",
        "verdict": verdict(theirs, ours),
        **_how(found),
    }


def _how(found: Sequence[Record]) -> dict[str, str]:
    """How some records came about: seeds, device, seconds of one of them on average, commits."""

    def each(values: Sequence[object]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))

    made = [r.provenance for r in found]
    seconds = [p["seconds"] for p in made if "seconds" in p]
    commits = [
        str(p.get("commit") or "unknown")[:7] + ("*" if p.get("modified") else "") for p in made
    ]
    return {
        "seeds": each(sorted(r.cell["seed"] for r in found if "seed" in r.cell)),
        "device": each([p.get("device", "unknown") for p in made]),
        "seconds": f"{sum(seconds) / len(seconds):.0f}" if seconds else NONE,
        "commit": each(commits),
    }


def runs(experiments: Sequence[str], read: Callable[[str], list[Record]] = recorded) -> Table:
    """Every run that is recorded: the command, how many cells it gave, and how they came about."""
    columns = ("cells", "seeds", "device", "seconds", "commit", "date")
    body: dict[Key, tuple[str, str]] = {}
    rows: list[Key] = []
    for name in experiments:
        by_command: dict[str, list[Record]] = {}
        for record in read(name):
            by_command.setdefault(record.provenance.get("command", "unknown"), []).append(record)
        for command, found in by_command.items() or {NOT_RUN: []}.items():
            cells = {"cells": str(len(found)), **(_how(found) if found else {})}
            days = sorted(str(r.provenance.get("date", ""))[:10] for r in found)
            cells["date"] = days[-1] if days else NONE
            rows.append((name, command))
            body |= {(name, command, c): ("", cells.get(c, NONE)) for c in columns}
    note = "Seconds: of one cell on average. A star: the package differed from that commit."
    labels = ("experiment", "command")
    return Table("What was run", labels, "", tuple(rows), columns, body, note=note)


def paired(
    records: Sequence[Record],
    metric: str,
    field: str,
    change: tuple[str, str],
    by: Sequence[str] = (),
    ignore: Sequence[str] = (),
    places: tuple[int, int] = (1, 1),
) -> dict[Key, tuple[Summary, int]]:
    """What a change of one field of the cell does to a metric, all else being equal.

    Parameters
    ----------
    records : sequence of Record
    metric, field : str
    change : (before, after)
        Two values of the field; each record of the one is compared with the record of the other
        whose cell is the same otherwise, the seed included.
    by : field names
        A summary for each combination of their values.
    ignore : field names
        May differ between the two records as well.
    places : (int, int)
        Digits after the point of mean and standard deviation.

    Returns
    -------
    {values of ``by``: (summary of the differences after - before, how many are above zero)}

    Raises
    ------
    ValueError
        If two records that are compared differ in a setting that both have.
    """
    but = {field, *ignore}

    def rest(record: Record) -> tuple:
        return tuple(sorted((k, v) for k, v in record.cell.items() if k not in but))

    before = {rest(r): r for r in records if r.cell.get(field) == change[0]}
    found: dict[Key, list[float]] = {}
    for record in records:
        other = before.get(rest(record))
        if record.cell.get(field) != change[1] or other is None:
            continue
        if metric in record.metrics and metric in other.metrics:
            _alike(other, record, shared=True)
            key = tuple(str(record.cell[name]) for name in by)
            found.setdefault(key, []).append(record.metrics[metric] - other.metrics[metric])
    return {k: (summarize(v, places), sum(d > 0 for d in v)) for k, v in sorted(found.items())}
