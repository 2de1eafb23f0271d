"""The experiments' tables, made from records: one layout for each experiment.

>>> reports.table("methods", records, dataset="digits")   # one table, as a page shows it
>>> print(reports.report("methods", records))             # all tables of an experiment, as text
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..experiments import (
    agents,
    clip,
    dqn,
    fairness,
    frozen,
    landscape,
    methods,
    regard,
    scan,
    vision,
)
from ..experiments.config import product
from ..images.catalogue import KNOWN
from ..language import nlg
from ..sequences.scan_models import MODELS, OWN
from ..store.results import Record, cell_label
from ..worlds import WORLDS
from . import names, papers, tables

__all__ = [
    "pretrained",
    "report",
    "scan_others",
    "scan_splits",
    "scan_stages",
    "scan_table",
    "table",
]


@dataclass(frozen=True)
class Layout:
    """How the records of an experiment become tables.

    Attributes
    ----------
    kinds : fields of the cells; each combination of their values has a table of its own
    rows : fields that label the rows, and their values in order (empty: as they come)
    metrics : what the columns show, and their headings
    title : with the kinds in braces
    column : field that labels the columns, where there is one metric only, and its values in order
    places : digits after the point, of mean and standard deviation
    where : field of the cells and the values that this table is for; empty: all cells
    """

    kinds: tuple[str, ...]
    rows: Mapping[str, Iterable[str]]
    metrics: Mapping[str, str]
    title: str
    column: Mapping[str, Iterable[str]] = field(default_factory=dict)
    places: tuple[int, int] = (1, 1)
    where: Mapping[str, Iterable[str]] = field(default_factory=dict)

    def chosen(self, records: Sequence[Record]) -> list[Record]:
        """The records that it is for."""
        return [r for r in records if all(r.cell[k] in values for k, values in self.where.items())]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the cells that it needs."""
        return (*self.kinds, *self.rows, *self.column)

    def sorted(self, records: Sequence[Record]) -> list[Record]:
        """The records in the order of rows and columns; unknown values come last."""
        orders = {name: list(values) for name, values in {**self.rows, **self.column}.items()}

        def place(record: Record) -> list[int]:
            values = ((order, record.cell[name]) for name, order in orders.items())
            return [order.index(v) if v in order else len(order) for order, v in values]

        return sorted(records, key=place)


_STAGES = {
    "zero_shot_upright": "upright, before tuning",
    "zero_shot": "turned, before tuning",
    "upright": "upright, tuned",
    "accuracy": "turned, tuned",
}
LAYOUTS = {
    "vision": Layout(
        kinds=("dataset", "weights"),
        rows={"backbone": KNOWN, "group": vision.GROUPS},
        column={"augmentation": vision.AUGMENTATIONS},
        metrics={"accuracy": "accuracy"},
        title="{dataset}, {weights} weights: accuracy in % on turned images",
        places=(2, 1),
    ),
    "methods": Layout(
        kinds=("dataset", "weights"),
        rows={"backbone": KNOWN, "group": vision.GROUPS, "method": methods.METHODS},
        metrics=_STAGES,
        title="{dataset}: accuracy in %",
    ),
    "frozen": Layout(
        kinds=("dataset",),
        rows={
            "backbone": KNOWN,
            "head": frozen.HEADS,
            "group": vision.GROUPS,
            "method": frozen.METHODS,
        },
        metrics=_STAGES,
        title="Frozen networks on {dataset}: accuracy in %",
    ),
    "landscape": Layout(
        kinds=("dataset",),
        rows={"backbone": KNOWN, "group": vision.GROUPS, "method": landscape.METHODS},
        metrics={"passes": "passes"} | _STAGES,
        title="Weightings on {dataset}: accuracy in %",
    ),
    "clip": Layout(
        kinds=("dataset",),
        rows={
            "checkpoint": (),
            "group": clip.ACTIONS,
            "place": clip.PLACES,
            "method": clip.METHODS,
        },
        metrics=_STAGES,
        title="Prompts on {dataset}: accuracy in %",
    ),
    "fairness": Layout(
        kinds=("pretrained",),
        rows={"task": nlg.TASKS, "axis": nlg.AXES, "model": fairness.MODELS},
        metrics={
            "disparity": "largest difference between groups, %",
            "same_texts": "texts alike, %",
            "unlike": "of these judged unlike",
            "fluency": "fluency",
        },
        title="Fairness of {pretrained}",
        places=(2, 2),
        where={"task": nlg.TASKS},
    ),
    "fairness law": Layout(
        kinds=("pretrained",),
        rows={"axis": nlg.AXES, "model": fairness.MODELS},
        metrics={
            "gap": "eq. 4, float32",
            "gap64": "eq. 4, float64",
            "same_draws": "draws alike, %",
            "same_draws_ordinary": "alike with an ordinary sampler, %",
        },
        title="Equation 4 and draws of {pretrained}",
        places=(4, 4),
        where={"task": (fairness.LAW,)},
    ),
    "fairness perplexity": Layout(
        kinds=("pretrained",),
        rows={"axis": nlg.AXES, "model": fairness.MODELS},
        metrics={"perplexity": "perplexity"},
        title="Perplexity of {pretrained}",
        places=(3, 3),
        where={"task": (fairness.PERPLEXITY,)},
    ),
    "regard": Layout(
        kinds=("data",),
        rows={"judge": regard.JUDGES, "part": regard.PARTS},
        metrics={"sentences": "sentences", "accuracy": "agreement, %"},
        title="{data}: how well judges agree with the labels",
    ),
    "dqn": Layout(
        kinds=(),
        rows={"world": WORLDS, "method": dqn.METHODS},
        metrics={
            "last_side": "last, learned side",
            "last": "last, turned",
            "at_once_side": "at once, learned side",
            "at_once": "at once, turned",
            "after_side": "after, learned side",
            "after": "after, turned",
        },
        title="Mean return, on the learned side and on turned starts",
        places=(2, 2),
    ),
    "dqn passes": Layout(
        kinds=(),
        rows={"world": WORLDS, "method": agents.FROM_DATA},
        metrics={
            "after": "equal moves, turned",
            "passes_side": "equal passes, learned side",
            "passes": "equal passes, turned",
        },
        title="Mean return at equal moves, and at equal passes of the network",
        places=(2, 2),
        where={"method": agents.FROM_DATA},
    ),
}


def table(
    experiment: str,
    records: Sequence[Record],
    complete: bool = False,
    metrics: Sequence[str] = (),
    **kind: str,
) -> tables.Table:
    """One table of an experiment: mean (std) over the seeds.

    Parameters
    ----------
    experiment : a name of :data:`LAYOUTS`, such as "frozen" or "fairness law"
    records : sequence of Record
    complete : bool
        Of ``vision``: show the cells that nobody has run too, with the command that runs them.
    metrics : sequence of str, optional
        The columns, where not all of the layout's are wanted.
    kind : which table, such as ``dataset="digits"``; a field with one value only may be left out
    """
    layout = LAYOUTS[experiment]
    _check_fields(records, layout.fields)
    sorted_ = layout.sorted(layout.chosen(records))
    chosen = [r for r in sorted_ if kind.items() <= r.cell.items()]
    kind = {name: str(chosen[0].cell[name]) for name in layout.kinds if chosen} | kind
    if missing := [name for name in layout.kinds if name not in kind]:
        raise ValueError(f"there are no records, so say which table it is: {missing[0]}=...")
    options: dict = {}
    if experiment == "vision":
        if (kind.get("dataset"), kind.get("weights")) == ("hymenoptera", "imagenet"):
            options["paper"] = papers.paper_tables()["table1"]
        options["command"] = lambda backbone, **_: _vision_command(chosen, backbone, **kind)
        if complete:
            fields = {**layout.rows, **layout.column, "backbone": vision.BACKBONES}
            options["expected"] = [tuple(c.values()) for c in product(**fields)]
    shown = {name: names.value(name, text) for name, text in kind.items()}
    return tables.table(
        chosen,
        tuple(layout.rows),
        next(iter(layout.column), None),
        {name: layout.metrics[name] for name in metrics or layout.metrics},
        places=layout.places,
        title=layout.title.format(**shown) + _images(chosen),
        **options,
    )


def pretrained(records: Sequence[Record]) -> list[Record]:
    """The image records of pretrained weights, those from a file too, as if all were called "imagenet".

    What such a file holds, its fingerprint in the record's provenance tells. Where a network was run both
    with its library's weights and with a file, the library's count. They stand in the order of the tables.
    """
    chosen: dict[frozenset, Record] = {}
    for record in sorted(records, key=lambda r: r.cell["weights"] == "imagenet"):
        if record.cell["weights"] not in ("upright", "random"):
            cell = {**record.cell, "weights": "imagenet"}
            chosen[frozenset(cell.items())] = replace(record, cell=cell)
    return LAYOUTS["vision"].sorted(list(chosen.values()))


def _images(records: Sequence[Record]) -> str:
    """How many test images the records have, where they say so."""
    counts = sorted({int(r.metrics["images"]) for r in records if "images" in r.metrics})
    return f"; {' or '.join(f'{n:,}' for n in counts)} test images" if counts else ""


def _vision_command(records: Sequence[Record], backbone: str, dataset: str, weights: str) -> str:
    """What runs this backbone with the settings of its own cells, else of any of these records."""
    preset = "upright"
    if weights == "imagenet":  # the preset that is about this network, if there is one
        made = {name: vision.Config.preset(name) for name in vision.Config.presets()}
        known = [n for n, c in made.items() if c.weights != "upright" and backbone in c.backbones]
        preset = known[0] if known else "paper"
    usual = vision.Config.preset(preset).settings() | {"pretrain_on": dataset}
    own = [r for r in records if r.cell["backbone"] == backbone] or records
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in (own[0].config if own else {}).items()
        if value != usual.get(name)
    ]
    words = ["python -m equitutor run vision --preset", preset, "--dataset", dataset]
    return " ".join([*words, "--backbones", backbone, *options])


def report(experiment: str, records: Sequence[Record]) -> str:
    """All tables of an experiment as text."""
    if experiment == "scan":
        _check_fields(records, _SCAN_ROWS)
        made = [scan_table(records, cell) for cell in _SCAN_TABLES]
        made += filter(None, [scan_others(records), scan_stages(records)])
        made.append(scan_splits(records))
    else:
        made = []
        for name, layout in LAYOUTS.items():
            if name.split()[0] == experiment:
                _check_fields(records, dict.fromkeys([*layout.fields, *layout.where]))
                some = layout.chosen(records)
                kinds = dict.fromkeys(tuple(r.cell[field] for field in layout.kinds) for r in some)
                made += [
                    table(name, some, **dict(zip(layout.kinds, kind, strict=True)))
                    for kind in kinds
                ]
    return "\n\n".join(map(str, made))


def _check_fields(records: Sequence[Record], fields: Iterable[str]) -> None:
    for record in records:
        if lacking := [name for name in fields if name not in record.cell]:
            raise ValueError(
                f"the cell {cell_label(record.cell)} of {record.experiment} has no {', '.join(lacking)}"
            )


# -- SCAN, whose tables are those of the AAAI paper -------------------------------------------------

_SCAN_TABLES = {"LSTM": "table2", "RNN": "table7", "GRU": "table8"}
_SCAN_ROWS = ("task", "group", "model")
_ACCURACIES = {"val_accuracy": "validation", "test_accuracy": "test"}


def scan_table(records: Sequence[Record], cell: str) -> tables.Table:
    """Validation and test accuracy of the models of one kind of cell: Table 2 (LSTM), 7 (RNN) or 8 (GRU)."""
    published = papers.paper_tables()[_SCAN_TABLES[cell]]
    return _scan_tasks(
        records,
        scan.TASKS,
        cell,
        paper=published if published.values else None,
        command="python -m equitutor run scan --preset paper --tasks {task} --models {model}",
        title=published.title.replace(f" (appendix, {papers.NOT_IN_SOURCES})", ""),
    )


def scan_splits(records: Sequence[Record]) -> tables.Table:
    """The same of LSTMs on the splits of SCAN that the paper leaves out."""
    return _scan_tasks(
        records,
        scan.SPLITS,
        "LSTM",
        command=f"python -m equitutor run scan --preset paper --tasks {','.join(scan.SPLITS)}"
        " --models LSTM,G-LSTM,EquiLSTM --groups own",
        title="The other splits: accuracy in %",
    )


def _scan_tasks(
    records: Sequence[Record], tasks: Sequence[str], cell: str, **how: Any
) -> tables.Table:
    """The plain network, the G- network and the equi-tuned one on some tasks."""
    rows = [
        (task, group, f"{kind}{cell}")
        for task in tasks
        for group, kind in (("none", ""), (OWN[task], "G-"), (OWN[task], "Equi"))
    ]
    return tables.table(
        [r for r in records if tuple(r.cell[name] for name in _SCAN_ROWS) in rows],
        _SCAN_ROWS,
        metric=_ACCURACIES,
        expected=[(*row, metric) for row in rows for metric in _ACCURACIES],
        places=(1, 1),
        **how,
    )


def scan_others(records: Sequence[Record]) -> tables.Table | None:
    """What the paper's tables do not have: equizero, lambda, and other groups; None if not run."""
    chosen = [
        r
        for r in _of_the_paper(records)
        if MODELS.get(r.cell["model"], ("unknown",))[0] not in ("", "G-", "Equi")
        or r.cell["group"] not in ("none", *OWN.values())
    ]
    if not chosen:
        return None
    title = "Beyond the tables: accuracy in %"
    return tables.table(chosen, _SCAN_ROWS, metric=_ACCURACIES, title=title)


def scan_stages(records: Sequence[Record]) -> tables.Table | None:
    """Test accuracy before tuning (of Lambda: with lambda alone trained) and after; None if not run."""
    chosen = [r for r in _of_the_paper(records) if "zero_shot_test" in r.metrics]
    metrics = {"zero_shot_test": "before tuning", "test_accuracy": "tuned"}
    title = "Before and after tuning: test accuracy in %"
    return tables.table(chosen, _SCAN_ROWS, metric=metrics, title=title) if chosen else None


def _of_the_paper(records: Sequence[Record]) -> list[Record]:
    """Those of the paper's tasks, in its order: the task's own group first, then by model."""

    def place(record: Record) -> tuple[int, bool, int]:
        task, group, model = (str(record.cell[name]) for name in _SCAN_ROWS)
        other = group not in ("none", OWN[task])
        return scan.TASKS.index(task), other, [*MODELS, model].index(model)

    return sorted((r for r in records if r.cell["task"] in scan.TASKS), key=place)
