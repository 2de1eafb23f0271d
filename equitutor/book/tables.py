"""Tables of what we measured, beside what the papers report."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..store.results import Record, differences
from .papers import NOT_IN_SOURCES, Key, PaperTable, summarize

NOT_RUN = "not yet run"


def table(
    records: Sequence[Record],
    rows: Sequence[str] = (),
    column: str | None = None,
    metric: str | Sequence[str] = "test_accuracy",
    *,
    paper: PaperTable | None = None,
    over: str = "seed",
    scale: float = 1.0,
    places: tuple[int, int] | None = None,
    expected: Sequence[Key] = (),
    command: str | Callable[..., str] = "",
    title: str = "",
) -> "Table":
    """Average records over seeds, beside what the paper reports.

    Parameters
    ----------
    records : sequence of Record
        Of one kind: apart from `rows`, `column` and `over` their cells must agree, and within
        an average their configs too (but for a setting called as `over` is).
    rows, column : field names of the cells
        What labels the rows and the columns. Default: as in `paper`.
    metric : str or sequence of str
        What to average; several, one a column, where there is no `column`.
    paper : PaperTable, optional
        Gives the order of rows and columns, and the cells that there should be.
    over : str
        The field to average over.
    scale : float
        Factor for our numbers: 100 for accuracies kept as fractions.
    places : (int, int), optional
        Digits after the point of mean and standard deviation. Default: as the paper prints.
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
    groups = _grouped(records, rows, column, metrics, over)
    published = paper.values if paper else {}
    keys = list(dict.fromkeys([*published, *expected, *groups]))
    row_keys = list(dict.fromkeys(key[:-1] for key in keys))
    columns = list(dict.fromkeys(key[-1] for key in keys))
    if places is None:
        places = next((value.places for value in published.values()), (2, 1))
    body: dict[Key, tuple[str, str]] = {}
    missing: dict[str, None] = {}  # ordered, each command once
    for key in [(*row, col) for row in row_keys for col in columns]:
        theirs = str(published[key]) if key in published else NOT_IN_SOURCES
        if key in groups:
            ours = summarize([value * scale for value in groups[key]], places)
            body[key] = (theirs, f"{ours}, n = {ours.n}")
        else:
            fields = dict(zip((*rows, column or "metric"), key, strict=True))
            body[key] = (theirs, NOT_RUN)
            if command:
                fill = command.format if isinstance(command, str) else command
                missing[fill(**fields)] = None
    return Table(
        title or (paper.title if paper else ""),
        rows,
        column or "",
        tuple(row_keys),
        tuple(columns),
        body,
        (paper.label, paper.source) if paper else ("", ""),
        tuple(missing),
    )


def _grouped(
    records: Sequence[Record], rows: Key, column: str | None, metrics: Key, over: str
) -> dict[Key, list[float]]:
    """Return the numbers to average, having checked that they may be averaged."""
    fields = (*rows, column) if column else rows
    groups: dict[Key, list[float]] = {}
    first: dict[Key, Record] = {}
    for i, record in enumerate(records):
        lacking = [name for name in fields if name not in record.cell]
        lacking += [name for name in metrics if name not in record.metrics]
        if lacking:
            raise ValueError(f"the record {dict(record.cell)} has no {', '.join(lacking)}")
        if any(record.cell == other.cell for other in records[:i]):
            raise ValueError(f"the cell {dict(record.cell)} is there twice")
        check_same(records[0].cell, record.cell, (*fields, over), "records of several kinds")
        row = tuple(str(record.cell[name]) for name in rows)
        for name in metrics:
            key = (*row, str(record.cell[column]) if column else name)
            other = first.setdefault(key, record)
            check_same(
                other.config, record.config, (over,), f"runs of {', '.join(key)} with two configs"
            )
            groups.setdefault(key, []).append(record.metrics[name])
    return groups


def check_same(before: Mapping, after: Mapping, but: Key, what: str) -> None:
    """Raise if two mappings differ in more than the fields named in `but`."""
    here, there = ({k: v for k, v in m.items() if k not in but} for m in (before, after))
    if here != there:
        raise ValueError(
            f"{what} are not to be averaged ({'; '.join(differences(here, there))}): choose among "
            "the records first, add the field to the rows, or run again with one config"
        )


@dataclass(frozen=True, repr=False)
class Table:
    """A finished table: each cell holds the paper's number and ours, as text.

    It prints as plain text, and notebooks show it as HTML with header cells that screen
    readers understand.
    """

    title: str
    rows: tuple[str, ...]
    column: str
    row_keys: tuple[Key, ...]
    columns: tuple[str, ...]
    body: Mapping[Key, tuple[str, str]]
    paper: tuple[str, str] = ("", "")  # its label and source; empty: a table of ours alone
    missing: tuple[str, ...] = ()  # commands that run the cells nobody has run
    todo: str = f'To run what is "{NOT_RUN}":'  # what stands above these commands
    note: str = "Ours: mean (sample standard deviation, n - 1 in the denominator) of n runs."

    def __str__(self) -> str:
        lines = [self._header(), *self._lines()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        todo = [self.todo, *(f"  {line}" for line in self.missing)] if self.missing else []
        return "\n".join([*filter(None, [self.title]), *text, self._note(), *todo])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        header = self._header()
        title = [f"**{self.title}**", ""] if self.title else []
        todo = ["", self.todo, "", *(f"- `{x}`" for x in self.missing)] if self.missing else []
        body = [line(header), line(["---"] * len(header)), *map(line, self._lines())]
        return "\n".join([*title, *body, "", self._note(), *todo])

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
        out += ["</tbody></table>", tag("p", self._note())]
        if self.missing:
            items = [f"<li>{tag('code', x)}</li>" for x in self.missing]
            out += [tag("p", self.todo), "<ul>", *items, "</ul>"]
        return "\n".join(out)

    def _header(self) -> list[str]:
        names = [f"{self.column} {name}".strip() for name in self.columns]
        label, _ = self.paper
        if label:
            names = [f"{name}, {whose}" for name in names for whose in (label, "ours")]
        return [*self.rows, *names]

    def _lines(self) -> list[list[str]]:
        start = 0 if any(self.paper) else 1
        return [
            [*row, *(text for column in self.columns for text in self.body[(*row, column)][start:])]
            for row in self.row_keys
        ]

    def _note(self) -> str:
        label, source = self.paper
        return f"{self.note} {label.capitalize()}: {source}." if label else self.note
