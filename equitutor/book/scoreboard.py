"""Every published number in our sources beside ours, computed from the recorded results alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..experiments import fairness
from ..language import nlg
from ..store.results import Record, recorded
from . import names
from .papers import Key, PaperTable, Summary, paper_tables, summarize
from .regard_shares import chosen, difference
from .reports import LAYOUTS, pretrained
from .sources import SOURCES, Read, Source
from .tables import NONE, NOT_RUN, Folded, Linked, Table, check_same

__all__ = [
    "language_models",
    "not_run",
    "other_networks",
    "paired",
    "runs",
    "scoreboard",
    "summary",
    "tolerance",
    "verdict",
]


def _other_networks(name: str, read: Read) -> dict[Key, tuple[str, list[Record]]]:
    """{row labels: (metric, our records)} of a published table's experiment with other networks.

    Network by network, the plain one first, in the order of the chapters' tables.
    """
    dataset = {"table1": "hymenoptera", "table6": "cifar10"}.get(name)
    found: dict[Key, tuple[str, list[Record]]] = {}
    if dataset is None:
        return found
    for record in pretrained([r for r in read("vision") if r.cell["dataset"] == dataset]):
        key = tuple(str(record.cell[field]) for field in ("backbone", "group", "augmentation"))
        if key not in paper_tables()[name].values:
            found.setdefault(key, ("accuracy", []))[1].append(record)
    for record in LAYOUTS["frozen"].sorted(read("frozen")):
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
        return "no spread"
    if abs(ours.mean - theirs.mean) <= allowed:
        return "agrees"
    return "ours is higher" if ours.mean > theirs.mean else "ours is lower"


#: What the published tables are about, and the metrics that label some of their columns.
_ABOUT = {
    "table1": "Images (Table 1)",
    "table2": "SCAN (Table 2)",
    "regard_rerun": "Regard (rerun)",
    "clip_rerun": "CLIP (rerun)",
}
_METRICS = {"val_accuracy": "validation", "test_accuracy": "test"}
_VERDICTS = ("agrees", "ours is higher", "ours is lower", "no spread")


def _label(table: PaperTable, key: Key) -> str:
    """Which number of a published table it is, in words."""
    fields = (*table.rows, table.column or "metric")
    words = [names.value(field, text) for field, text in zip(fields, key, strict=True)]
    return ", ".join(_METRICS.get(word, word) for word in words if word != "none")


@dataclass(frozen=True)
class _Compared:
    """A published number, what it is, and ours with its records, if there is one."""

    table: str
    label: str
    source: Source
    theirs: Summary
    ours: Summary | None
    records: list[Record]


def _compared(read: Read) -> list[_Compared]:
    """Every published number of our sources."""
    found = []
    for name, find in SOURCES.items():
        published = paper_tables()[name]
        for key, theirs in published.values.items():
            source, ours = find(*key), None
            if records := source.records(read):
                for record in records[1:]:
                    _check_settings(records[0], record)
                ours = summarize([r.metrics[source.metric] for r in records], theirs.places)
            label = _label(published, key)
            found.append(_Compared(name, label, source, theirs, ours, records))
    return found


def summary(read: Read = recorded) -> Table:
    """How many numbers are published, for how many there is ours, and how many of these agree.

    Parameters
    ----------
    read : callable
        From the name of an experiment to its records. Default: those that come with the book.

    Raises
    ------
    ValueError
        If runs that are averaged had different settings.
    """
    every = _compared(read)
    rows = []
    for name, about in [*_ABOUT.items(), (None, "all")]:
        some = [one for one in every if name in (one.table, None)]
        said = [verdict(one.theirs, one.ours) for one in some if one.ours]
        counts = [len(some), len(said), *map(said.count, _VERDICTS)]
        rows.append([about, *map(str, counts)])
    words = ["agree", "ours higher", "ours lower", "no spread"]
    return Table(
        "Published numbers, and how ours compare",
        ["source", "published", "ours", *words],
        rows,
        note="Counted from the records; when two numbers agree is said below.",
    )


def scoreboard(read: Read = recorded) -> Table:
    """Every published number for which there is ours: both, the verdict, the record and the command.

    Parameters and errors are those of :func:`summary`.
    """
    rows = [
        [
            f"{_ABOUT[one.table]}: {one.label}",
            str(one.theirs),
            str(one.ours),
            verdict(one.theirs, one.ours),
            *_where(one.records, read),
        ]
        for one in _compared(read)
        if one.ours
    ]
    sources = dict.fromkeys(paper_tables()[one.table].source for one in _compared(read) if one.ours)
    return Table(
        "What is published and what we measured",
        ["number", "published", "ours", "verdict", "record", "command"],
        rows,
        note=f"Published: {'; '.join(sources) or NONE}. Ours: mean (sample standard deviation) over "
        "the seeds.",
    )


def not_run(read: Read = recorded) -> Folded:
    """The published numbers for which there is none of ours, and what would run them: one folded list."""
    missing: dict[Key, list[str]] = {}
    for one in _compared(read):
        if not one.ours:
            command = f"python -m equitutor run {one.source.command}"
            what = command if one.source.command else one.source.why_not
            missing.setdefault((_ABOUT[one.table], what), []).append(one.label)
    items = [
        f"{about}: {len(labels)}, such as {labels[0]}: {what}"
        for (about, what), labels in missing.items()
    ]
    count = sum(map(len, missing.values()))
    return Folded(f"{count} published numbers without ours, and what would run them", items)


def other_networks(name: str, read: Read = recorded) -> Table:
    """Our numbers for the experiment of a published table with networks that the paper has not.

    Parameters
    ----------
    name : "table1" or "table6"
    read : as for :func:`summary`

    Raises
    ------
    ValueError
        If there are none.
    """
    found = _other_networks(name, read)
    if not found:
        raise ValueError(f"our records have no numbers for other networks than those of {name}")
    for _, records in found.values():
        for record in records[1:]:
            _check_settings(records[0], record)
    published = paper_tables()[name]
    places = next((value.places for value in published.values.values()), (2, 1))
    rows = [
        [
            _label(published, key),
            str(summarize([r.metrics[metric] for r in records], places)),
            str(len(records)),
            *_where(records, read),
        ]
        for key, (metric, records) in found.items()
    ]
    return Table(
        f"Other networks, as in {published.title.split(':')[0]}: accuracy in % on turned images",
        ["network, group, training images", "ours", "seeds", "record", "command"],
        rows,
        note="Mean (sample standard deviation) over the seeds. Nothing published stands beside them.",
    )


def _runs(experiment: str, read: Read) -> dict[str, list[Record]]:
    """The records of an experiment by the command that made them, in the order of the first of each."""
    found: dict[str, list[Record]] = {}
    for record in read(experiment):
        found.setdefault(record.provenance.get("command", "unknown"), []).append(record)
    return found


#: Whose numbers are the paper's own, or of a corpus made here.
_NOT_OTHERS = ("gpt2", fairness.PLANTED)


def language_models(read: Read = recorded) -> Table:
    """Ours for Figs. 3 and 5 and for Table 9 of the first paper, with other language models than its GPT-2.

    Of the figures: how much more often one group is judged negative than the other, with the interval of
    :func:`equitutor.book.regard_shares.difference`.
    """
    rows: list[list[str | Linked]] = []
    records = [r for r in read("fairness") if r.cell["pretrained"] not in _NOT_OTHERS]
    tasks = {"respect": "Fig. 3", "occupation": "Fig. 5", fairness.PERPLEXITY: "Table 9"}
    for name in dict.fromkeys(str(r.cell["pretrained"]) for r in records):
        for task, which in tasks.items():
            for axis in nlg.AXES:
                for model, some in chosen(records, name, task, axis).items():
                    for record in some[1:]:
                        _check_settings(some[0], record)
                    if task == fairness.PERPLEXITY:
                        ours = str(summarize([r.metrics["perplexity"] for r in some]))
                    else:
                        ours = str(difference(some))
                    number = f"{which}, {task}: {axis}, {model}"
                    shown = names.value("pretrained", name)
                    rows.append([number, shown, ours, str(len(some)), *_where(some, read)])
    return Table(
        "Other language models, as in Figs. 3 and 5 and Table 9",
        ["number", "made from", "ours", "seeds", "record", "command"],
        rows,
        note="Of the figures: the difference between two groups in the share of texts judged negative, in points, "
        "with its 95 % interval. The paper has GPT-2, and bars without numbers.",
    )


def _where(records: Sequence[Record], read: Read) -> list[Linked]:
    """Links to the file that holds these records, and to the runs that made them."""
    (experiment,) = {r.experiment for r in records}
    commands = {r.provenance.get("command", "unknown") for r in records}
    made = [k for k, command in enumerate(_runs(experiment, read), 1) if command in commands]
    file = f"{experiment}.json"
    return [
        Linked((file, f"results/{file}")),
        Linked(*((f"{experiment} {k}", f"#run-{experiment}-{k}") for k in made)),
    ]


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


def runs(experiments: Sequence[str], read: Read = recorded) -> Table:
    """Every recorded run: the command, the number of its cells, and how they were obtained."""
    columns = ("cells", "seeds", "device", "seconds", "commit", "date")
    rows: list[list[str]] = []
    for name in experiments:
        for k, (command, records) in enumerate((_runs(name, read) or {NOT_RUN: []}).items(), 1):
            cells = dict.fromkeys(columns, NONE) | {"cells": str(len(records))}
            if records:
                latest = max(str(r.provenance.get("date", ""))[:10] for r in records)
                cells |= {**_how(records), "date": latest}
            rows.append([Linked((f"{name} {k}", ""), anchor=f"run-{name}-{k}"), command])
            rows[-1] += cells.values()
    return Table(
        "What was run",
        ["run", "command", *columns],
        rows,
        labels=2,
        note="Seconds: of one cell on average. A star: the package differed from that commit.",
    )


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
