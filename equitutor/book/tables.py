"""Tables of what we measured, beside what the papers report."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..store.results import Record, differences
from .papers import NOT_IN_SOURCES, Key, PaperTable, summarize

__all__ = ["NOT_RUN", "Table", "check_same", "table"]

NOT_RUN = "not yet run"


def table(
    records: Sequence[Record],
    rows: Sequence[str] = (),
    column: str | None = None,
    metric: str | Sequence[str] = "test_accuracy",
    *,
    paper: PaperTable | None = None,
    places: tuple[int, int] | None = None,
    expected: Sequence[Key] = (),
    command: str | Callable[..., str] = "",
    title: str = "",
) -> Table:
    """Average records over seeds, beside what the paper reports.

    Parameters
    ----------
    records : sequence of Record
        Their cells may differ in `rows`, `column` and the seed only; the configs of those that are
        averaged only in a setting called "seed".
    rows, column : field names of the cells
        What labels the rows and the columns. Default: as in `paper`.
    metric : str or sequence of str
        What to average; several metrics, one per column, if there is no `column`.
    paper : PaperTable, optional
        Gives the order of rows and columns, and the cells that there should be.
    places : (int, int), optional
        Decimals of the mean and of the standard deviation. Default: as the paper prints them.
    expected : sequence of tuple of str
        Cells that there should be beside the paper's: row labels, then the column's.
    command : str or callable
        How to run a missing cell, with fields in braces: ``"... --group {group}"``; or a function
        of the fields, as keyword arguments.

    Raises
    ------
    ValueError
        Records that must not be averaged together, or that lack a field or a metric.
    """
    rows = tuple(rows) or (paper.rows if paper else ())
    column = column or (paper.column if paper else None)
    metrics = (metric,) if isinstance(metric, str) else tuple(metric)
    if not rows or not metrics or (column and len(metrics) > 1):
        raise ValueError("a table needs rows, and either a column and one metric or metrics alone")
    groups = _grouped(records, rows, column, metrics)
    published = paper.values if paper else {}
    keys = dict.fromkeys([*published, *expected, *groups])
    row_keys = tuple(dict.fromkeys(key[:-1] for key in keys))
    columns = tuple(dict.fromkeys(key[-1] for key in keys))
    if places is None:
        places = next((value.places for value in published.values()), (2, 1))
    body: dict[Key, tuple[str, str]] = {}
    missing: dict[str, None] = {}  # ordered, each command once
    for key in [(*row, col) for row in row_keys for col in columns]:
        ours = NOT_RUN
        if key in groups:
            summary = summarize(groups[key], places)
            ours = f"{summary}, n = {summary.n}"
        elif command:
            fill = command.format if isinstance(command, str) else command
            missing[fill(**dict(zip((*rows, column or "metric"), key, strict=True)))] = None
        body[key] = (str(published.get(key, NOT_IN_SOURCES)), ours)
    return Table(
        title=title or (paper.title if paper else ""),
        rows=rows,
        column=column or "",
        row_keys=row_keys,
        columns=columns,
        body=body,
        paper=paper.label if paper else "",
        missing=tuple(missing),
        note=f"{Table.note} {paper.label.capitalize()}: {paper.source}." if paper else Table.note,
    )


def _grouped(
    records: Sequence[Record], rows: Key, column: str | None, metrics: Key
) -> dict[Key, list[float]]:
    """Return the values to average, having checked that they may be averaged."""
    fields = (*rows, column) if column else rows
    groups: dict[Key, list[float]] = {}
    first: dict[Key, Record] = {}
    for i, record in enumerate(records):
        cell = record.cell
        lacking = [name for name in fields if name not in cell]
        lacking += [name for name in metrics if name not in record.metrics]
        if lacking:
            raise ValueError(f"the record {dict(cell)} has no {', '.join(lacking)}")
        if any(cell == other.cell for other in records[:i]):
            raise ValueError(f"the cell {dict(cell)} occurs twice")
        check_same(records[0].cell, cell, (*fields, "seed"), "records of several kinds")
        for name in metrics:
            key = (*(str(cell[row]) for row in rows), str(cell[column]) if column else name)
            before = first.setdefault(key, record).config
            what = f"runs of {', '.join(key)} with two configs"
            check_same(before, record.config, ("seed",), what)
            groups.setdefault(key, []).append(record.metrics[name])
    return groups


def check_same(before: Mapping, after: Mapping, but: Key, what: str) -> None:
    """Raise a ValueError if two mappings differ in fields other than those in `but`."""
    before, after = ({k: v for k, v in m.items() if k not in but} for m in (before, after))
    if before != after:
        raise ValueError(
            f"{what} are not to be averaged ({'; '.join(differences(before, after))}): select among "
            "the records first, add the field to the rows, or run again with one config"
        )


@dataclass(frozen=True, repr=False)
class Table:
    """A finished table: each cell holds the paper's value and ours, as text.

    It prints as plain text; notebooks show it as HTML, with header cells for screen readers.
    """

    title: str
    rows: Sequence[str]  # names of the fields that label a row
    column: str  # name of the field that labels a column; "" if the labels say enough
    row_keys: Sequence[Key]  # the labels of each row
    columns: Sequence[str]  # the label of each column
    body: Mapping[Key, tuple[str, str]]  # (*row key, column) -> the paper's value and ours
    paper: str = ""  # what the paper's columns are called; "": a table of ours alone
    missing: Sequence[str] = ()  # commands listed below the table
    todo: str = f'To run what is "{NOT_RUN}":'  # stands above these commands
    note: str = "Ours: mean (sample standard deviation, n - 1 in the denominator) of n runs."

    def __str__(self) -> str:
        lines = [self._header(), *self._lines()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        todo = [self.todo, *(f"  {line}" for line in self.missing)] if self.missing else []
        return "\n".join([*filter(None, [self.title]), *text, self.note, *todo])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def tag(name: str, text: str) -> str:
            return f"<{name}>{html.escape(text)}</{name.split()[0]}>"

        out = ["<table>", *([tag("caption", self.title)] if self.title else [])]
        out += ["<thead><tr>", *(tag('th scope="col"', x) for x in self._header()), "</tr></thead>"]
        out.append("<tbody>")
        labels = len(self.rows)
        for line in self._lines():
            cells = [tag('th scope="row"', x) for x in line[:labels]]
            out += ["<tr>", *cells, *(tag("td", x) for x in line[labels:]), "</tr>"]
        out += ["</tbody></table>", tag("p", self.note)]
        if self.missing:
            items = [f"<li>{tag('code', x)}</li>" for x in self.missing]
            out += [tag("p", self.todo), "<ul>", *items, "</ul>"]
        return "\n".join(out)

    def _header(self) -> list[str]:
        names = [f"{self.column} {name}".strip() for name in self.columns]
        if self.paper:
            names = [f"{name}, {whose}" for name in names for whose in (self.paper, "ours")]
        return [*self.rows, *names]

    def _lines(self) -> list[list[str]]:
        start = 0 if self.paper else 1
        return [
            [*row, *(text for column in self.columns for text in self.body[(*row, column)][start:])]
            for row in self.row_keys
        ]
