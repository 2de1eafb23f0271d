"""Tables of what we measured, beside what the papers report."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..store.results import Record, cell_label, differences
from ..text import printable
from . import names
from .papers import Key, PaperTable, summarize

if TYPE_CHECKING:
    import pandas

__all__ = ["NONE", "NOT_RUN", "Folded", "Linked", "Table", "check_same", "table"]

NOT_RUN = "not yet run"
NONE = "-"  # in a cell: nobody has run it, or our sources do not give it


def table(
    records: Sequence[Record],
    rows: Sequence[str] = (),
    column: str | None = None,
    metric: str | Sequence[str] | Mapping[str, str] = "test_accuracy",
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
        What labels the rows and the columns. Default: as in `paper`. What labels all rows alike
        stands in the title instead.
    metric : str, sequence of str, or mapping of str to str
        What to average; several metrics, one per column, if there is no `column`. A mapping gives
        their headings. A metric that is the same in all runs of every row is shown without deviation, and
        without decimals if it is a whole number everywhere.
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
    missing: dict[str, None] = {}  # ordered, each command once
    counts = {len(values) for values in groups.values()}
    of_row = {row: {len(v) for key, v in groups.items() if key[:-1] == row} for row in row_keys}
    by_row = len(counts) > 1 and all(len(some) <= 1 for some in of_row.values())

    # A metric that no run changes is written without "(0.0)", and a count, as of passes, as whole numbers.
    of = {name: [v for key, v in groups.items() if key[-1] == name] for name in columns}
    exact = {name for name in of if not column and all(len(set(v)) == 1 for v in of[name])}
    whole = {name for name in exact if all(float(v[0]).is_integer() for v in of[name])}

    def ours(key: Key) -> str:
        if key in groups:
            values = groups[key][:1] if key[-1] in exact else groups[key]
            digits = (0, 0) if key[-1] in whole else places
            summary = replace(summarize(values, digits), n=len(groups[key]))
            return str(summary) if by_row or len(counts) < 2 else f"{summary}, n = {summary.n}"
        if command:
            fill = command.format if isinstance(command, str) else command
            missing[fill(**dict(zip((*rows, column or "metric"), key, strict=True)))] = None
        return NONE

    headings = metric if isinstance(metric, Mapping) else {}
    header = [names.value(column, x) if column else headings.get(x, x) for x in columns]
    lines = []
    if paper:
        header = [f"{name}, {whose}" for name in header for whose in (paper.label, "ours")]
    header += ["n"] if by_row else []
    title = title or (paper.title if paper else "")
    kept = [i for i in range(len(rows)) if len({key[i] for key in row_keys}) != 1] or [0]
    if len(row_keys) > 1:  # what labels all rows alike is said once
        same = [i for i in range(len(rows)) if i not in kept]
        said = (f"{names.field(rows[i])}: {names.value(rows[i], row_keys[0][i])}" for i in same)
        title = "; ".join(filter(None, [title, *said]))
    else:
        kept = [*range(len(rows))]
    for row in row_keys:
        lines.append([names.value(rows[i], row[i]) for i in kept])
        for key in [(*row, name) for name in columns]:
            lines[-1] += [str(published.get(key, NONE))] if paper else []
            lines[-1].append(ours(key))
        lines[-1] += [str(*of_row[row]) or NONE] if by_row else []
    runs = f"{min(counts)} runs" if len(counts) == 1 else "n runs"
    note = f"Ours: mean (sample standard deviation, n - 1 in the denominator) of {runs}."
    if counts == {1}:
        note = "Ours: one run."
    if any(NONE in line[len(kept) :] for line in lines):
        note += f" A dash: {'not in our sources, or ' if paper else ''}{NOT_RUN}."
    return Table(
        title,
        [*(names.field(rows[i]) for i in kept), *header],
        lines,
        labels=len(kept),
        note=f"{note} {paper.label.capitalize()}: {paper.source}." if paper else note,
        missing=tuple(missing),
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
            raise ValueError(
                f"the cell {cell_label(cell)} of {record.experiment} has no {', '.join(lacking)}"
            )
        if any(cell == other.cell for other in records[:i]):
            raise ValueError(f"the cell {cell_label(cell)} occurs twice")
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


class Linked(str):
    """Text of a table, made of (text, where it leads) pairs; a page leads to it by ``anchor``."""

    def __new__(cls, *links: tuple[str, str], anchor: str = "") -> Linked:
        made = super().__new__(cls, ", ".join(text for text, _ in links))
        made.links, made.anchor = links, anchor
        return made

    links: tuple[tuple[str, str], ...]
    anchor: str

    def to_html(self) -> str:
        """Its links, and its anchor if it has one."""
        inner = ", ".join(
            f'<a href="{html.escape(href)}">{html.escape(text)}</a>' if href else html.escape(text)
            for text, href in self.links
        )
        return f'<span id="{html.escape(self.anchor)}">{inner}</span>' if self.anchor else inner


@dataclass(frozen=True, repr=False)
class Table:
    """A finished table of text.

    It prints as plain text; notebooks show it as HTML, with header cells for screen readers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1  # the number of columns at the left that label their row
    note: str = ""  # stands below the table
    missing: Sequence[str] = ()  # commands listed below the table
    todo: str = f"To run what is {NOT_RUN}:"  # stands above these commands

    def frame(self) -> pandas.DataFrame:
        """The same text as a data frame, indexed by the labels."""
        import pandas

        whole = pandas.DataFrame(self.rows, columns=list(self.header))
        return whole.set_index(list(self.header[: self.labels]))

    def __str__(self) -> str:
        lines = [[*map(printable, line)] for line in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        todo = [self.todo, *(f"  {printable(line)}" for line in self.missing)]
        title = [printable(self.title)] if self.title else []
        return "\n".join([*title, *text, printable(self.note), *(todo if self.missing else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def tag(name: str, text: str) -> str:
            inner = text.to_html() if isinstance(text, Linked) else html.escape(text)
            return f"<{name}>{inner}</{name.split()[0]}>"

        out = ["<table>", *([tag("caption", self.title)] if self.title else [])]
        out += ["<thead><tr>", *(tag('th scope="col"', x) for x in self.header), "</tr></thead>"]
        out.append("<tbody>")
        for line in self.rows:
            cells = [tag('th scope="row"', x) for x in line[: self.labels]]
            out += ["<tr>", *cells, *(tag("td", x) for x in line[self.labels :]), "</tr>"]
        out += ["</tbody></table>", tag("p", self.note)]
        if self.missing:
            items = [f"<li>{tag('code', x)}</li>" for x in self.missing]
            out += [tag("p", self.todo), "<ul>", *items, "</ul>"]
        return "\n".join(out)


@dataclass(frozen=True, repr=False)
class Folded:
    """A list under one line, which a page unfolds on demand; as plain text, all of it.

    What follows "python -m" in an item is a command, and is shown as code.
    """

    summary: str
    items: Sequence[str]

    def __str__(self) -> str:
        return "\n".join([printable(self.summary), *(f"  {printable(x)}" for x in self.items)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        escaped = (html.escape(x) for x in self.items)
        coded = (re.sub("python -m .*", r"<code>\g<0></code>", x) for x in escaped)
        items = "".join(f"<li>{x}</li>" for x in coded)
        return f"<details><summary>{html.escape(self.summary)}</summary><ul>{items}</ul></details>"
