"""Cells that failed: the others are run all the same, and the failures told at the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..store.results import Record, cell_label
from .config import Cell

__all__ = ["CellsFailed", "Failure", "attempt"]


@dataclass(frozen=True)
class Failure:
    """Why a cell could not be measured.

    Attributes
    ----------
    reason : str
        The last lines of the traceback: the exception and its message.
    traceback : str
        All of it.
    cell : dict
    """

    reason: str
    traceback: str
    cell: Cell = field(default_factory=dict)


class CellsFailed(RuntimeError):
    """Some cells of a run failed; all others are recorded.

    Attributes
    ----------
    failures : sequence of Failure
    records : sequence of Record
        Of all cells that did not fail, those of earlier runs included.
    """

    def __init__(self, failures: Sequence[Failure], records: Sequence[Record]) -> None:
        super().__init__(failures, records)
        self.failures, self.records = failures, records
        self.add_note(f"The first of them:\n{failures[0].traceback}")

    def __str__(self) -> str:
        cells: dict[str, list[str]] = {}
        for failure in self.failures:
            cells.setdefault(failure.reason, []).append(cell_label(failure.cell))
        total = len(self.failures) + len(self.records)
        lines = [f"{len(self.failures)} of {total} cells failed; run the same again to retry them."]
        for reason, labels in cells.items():
            lines += ["", *labels, *(f"  {line}" for line in reason.splitlines())]
        return "\n".join(lines)


def attempt(function: Callable, *args: Any) -> Any:
    """Call a function; if it raises an exception, return a Failure, which any process can pickle."""
    try:
        return function(*args)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
