"""Every published number in our sources beside ours, computed from the recorded results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..store.results import Record, recorded
from .papers import Key, Summary, paper_tables, summarize
from .reports import pretrained
from .tables import NOT_RUN, Table, check_same

__all__ = [
    "OTHER",
    "SOURCES",
    "Source",
    "holm",
    "p_value",
    "paired",
    "runs",
    "scoreboard",
    "tolerance",
    "verdict",
]

NONE = "-"  # an empty cell
OTHER = "another network"  # of ours, with nothing published to compare


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
SOURCES: dict[str, Callable[..., Source]] = {
    "table1": _table_1,
    "table2": _table_2,
    "regard_rerun": _regard,
    "clip_rerun": _clip,
}


def _other_networks(
    name: str, read: Callable[[str], list[Record]]
) -> dict[Key, tuple[str, list[Record]]]:
    """{row labels: (metric, our records)} of a published table's experiment with other networks."""
    dataset = {"table1": "hymenoptera", "table6": "cifar10"}.get(name)
    found: dict[Key, tuple[str, list[Record]]] = {}
    if dataset is None:
        return found
    for record in pretrained([r for r in read("vision") if r.cell["dataset"] == dataset]):
        key = tuple(str(record.cell[field]) for field in ("backbone", "group", "augmentation"))
        if key not in paper_tables()[name].values:
            found.setdefault(key, ("accuracy", []))[1].append(record)
    for record in read("frozen"):
        augmentation = {"none": "none", "augmented": "c4", "equi-tuned": "none"}
        cell = record.cell
        wanted = cell["dataset"] == dataset and cell["head"] == "trained"
        if wanted and cell["method"] in augmentation:
            key = (f"{cell['backbone']}, frozen", cell["group"], augmentation[cell["method"]])
            found.setdefault(key, ("zero_shot", []))[1].append(record)
    return found


def tolerance(theirs: Summary, ours: Summary) -> float | None:
    """How far two means may differ by chance: two standard errors, plus the rounding in print.

    If one side has no standard deviation, the other's is used for both; None if neither has.
    """
    a = ours.std if theirs.std is None else theirs.std
    b = theirs.std if ours.std is None else ours.std
    if a is None or b is None:
        return None
    error = math.hypot(a / math.sqrt(theirs.n), b / math.sqrt(ours.n))
    return 2 * error + 0.5 * 10 ** -theirs.places[0]


def verdict(theirs: Summary, ours: Summary) -> str:
    """Whether our mean agrees with the published one, within the tolerance, or on which side it lies."""
    allowed = tolerance(theirs, ours)
    if allowed is None:
        return "no spread known"
    if abs(ours.mean - theirs.mean) <= allowed:
        return "agrees"
    return "ours is higher" if ours.mean > theirs.mean else "ours is lower"


_COLUMNS = ("published", "ours", "tolerance", "verdict", "seeds", "device", "seconds", "commit")


def scoreboard(name: str, read: Callable[[str], list[Record]] = recorded) -> Table:
    """One published table as a list: each number, ours, and how ours was obtained.

    Parameters
    ----------
    name : str
        A name in SOURCES, as in :func:`equitutor.book.papers.paper_tables`, or "table6", of which nothing
        is published in our sources. The rows of networks that the paper has not come last.
    read : callable
        From the name of an experiment to its records. Default: those that come with the book.

    Raises
    ------
    ValueError
        If runs that are averaged had different settings.
    """
    published = paper_tables()[name]
    if name not in SOURCES and not _other_networks(name, read):
        raise ValueError(f"neither the papers' {name} nor our records have numbers for it")
    rows: list[list[str]] = []
    commands: dict[str, None] = {}  # ordered, each once
    for key, theirs in published.values.items():
        source = SOURCES[name](*key)
        records = source.records(read)
        cells = dict.fromkeys(_COLUMNS, NONE) | {"published": str(theirs), "ours": source.why_not}
        if records:
            for record in records[1:]:
                _check_settings(records[0], record)
            ours = summarize([r.metrics[source.metric] for r in records], theirs.places)
            allowed = tolerance(theirs, ours)
            cells |= {"ours": str(ours), "verdict": verdict(theirs, ours), **_how(records)}
            if allowed is not None:
                cells["tolerance"] = f"{allowed:.{theirs.places[0]}f}"
        if source.command:
            commands[f"python -m equitutor run {source.command}"] = None
        rows.append([*key, *cells.values()])
    places = next((value.places for value in published.values.values()), (2, 1))
    for key, (metric, records) in _other_networks(name, read).items():
        for record in records[1:]:
            _check_settings(records[0], record)
        ours = summarize([r.metrics[metric] for r in records], places)
        cells = dict.fromkeys(_COLUMNS, NONE) | {"published": OTHER, "ours": str(ours)}
        rows.append([*key, *(cells | _how(records)).values()])
        commands |= {r.provenance["command"]: None for r in records if "command" in r.provenance}
    return Table(
        published.title,
        [*published.rows, published.column or "metric", *_COLUMNS],
        rows,
        labels=len(published.rows) + 1,
        missing=tuple(commands),
        todo="What makes our numbers:",
        note=f"Published: {published.source}. Ours: mean (sample standard deviation) over the seeds.",
    )


def _check_settings(one: Record, other: Record, shared: bool = False) -> None:
    """Raise if two records differ in their settings; ``shared``: in those that both have."""
    before, after = one.config, other.config
    names = before.keys() ^ after.keys() if shared else set()
    what = f"runs of {dict(one.cell)} and {dict(other.cell)}"
    check_same(before, after, ("seed", *names), what)


def _how(records: Sequence[Record]) -> dict[str, str]:
    """How records were obtained: seeds, device, average seconds of a record, commits."""

    def distinct(values: Iterable[object]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))

    origins = [r.provenance for r in records]
    seconds = [p["seconds"] for p in origins if "seconds" in p]
    return {
        "seeds": distinct(sorted(r.cell["seed"] for r in records if "seed" in r.cell)),
        "device": distinct(p.get("device", "unknown") for p in origins),
        "seconds": f"{sum(seconds) / len(seconds):.0f}" if seconds else NONE,
        "commit": distinct(
            str(p.get("commit") or "unknown")[:7] + ("*" if p.get("modified") else "")
            for p in origins
        ),
    }


def runs(experiments: Sequence[str], read: Callable[[str], list[Record]] = recorded) -> Table:
    """Every recorded run: the command, the number of its cells, and how they were obtained."""
    columns = ("cells", "seeds", "device", "seconds", "commit", "date")
    rows: list[list[str]] = []
    for name in experiments:
        by_command: dict[str, list[Record]] = {}
        for record in read(name):
            by_command.setdefault(record.provenance.get("command", "unknown"), []).append(record)
        for command, records in by_command.items() or {NOT_RUN: []}.items():
            cells = dict.fromkeys(columns, NONE) | {"cells": str(len(records))}
            if records:
                latest = max(str(r.provenance.get("date", ""))[:10] for r in records)
                cells |= {**_how(records), "date": latest}
            rows.append([name, command, *cells.values()])
    return Table(
        "What was run",
        ["experiment", "command", *columns],
        rows,
        labels=2,
        note="Seconds: of one cell on average. A star: the package differed from that commit.",
    )


def p_value(difference: Summary) -> float:
    """The chance of a mean at least as far above zero, if the true mean were zero: a one-sided paired t-test.

    Parameters
    ----------
    difference : Summary
        Of at least two differences, such as :func:`paired` returns.
    """
    from scipy.stats import t  # here: it takes a second to import

    if difference.std is None:
        raise ValueError("one difference says nothing of chance: a test needs at least two")
    if difference.std == 0:
        return 0.0 if difference.mean > 0 else 1.0
    return float(t.sf(difference.mean / difference.std * math.sqrt(difference.n), difference.n - 1))


def holm(p_values: Mapping[str, float], level: float = 0.05) -> dict[str, bool]:
    """Which of several claims are shown, if all are tested at once (Holm, 1979).

    The chance that any untrue claim is among them is at most ``level``.
    """
    shown = dict.fromkeys(p_values, False)
    for rank, claim in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[claim] * (len(p_values) - rank) > level:
            break
        shown[claim] = True
    return shown


def paired(
    records: Sequence[Record],
    metric: str,
    field: str,
    change: tuple[str, str],
    by: Sequence[str] = (),
    ignore: Sequence[str] = (),
    places: tuple[int, int] = (1, 1),
) -> dict[Key, tuple[Summary, int]]:
    """What changing one field of the cell does to a metric, all else being equal.

    Parameters
    ----------
    records : sequence of Record
    metric, field : str
    change : (before, after)
        Two values of the field; each record with the one is compared to the record with the other
        whose cell is otherwise the same, including the seed.
    by : sequence of str
        Fields; there is one summary for each combination of their values.
    ignore : sequence of str
        Fields that may differ between the two records as well.
    places : (int, int)
        Decimals of mean and standard deviation.

    Returns
    -------
    {values of ``by``: (summary of the differences after - before, how many are above zero)}

    Raises
    ------
    ValueError
        If two records that are compared differ in a setting that both have.
    """

    def rest(record: Record) -> frozenset:
        return frozenset((k, v) for k, v in record.cell.items() if k not in (field, *ignore))

    before = {rest(r): r for r in records if r.cell.get(field) == change[0]}
    differences: dict[Key, list[float]] = {}
    for record in records:
        other = before.get(rest(record))
        if other is None or record.cell.get(field) != change[1]:
            continue
        if metric in record.metrics and metric in other.metrics:
            _check_settings(other, record, shared=True)
            key = tuple(str(record.cell[name]) for name in by)
            differences.setdefault(key, []).append(record.metrics[metric] - other.metrics[metric])
    return {
        key: (summarize(values, places), sum(value > 0 for value in values))
        for key, values in sorted(differences.items())
    }
