"""Cells that failed: the others are run all the same, and the failures told at the end."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..store.results import Record, cell_label
from .config import Cell

__all__ = ["Call", "CellsFailed", "Each", "Failure", "attempt"]

Call = tuple[Any, ...]  # (key, function, *arguments)
#: Makes calls, and yields the key and what came of each as it comes.
Each = Callable[[Iterable[Call]], Iterator[tuple[Any, Any]]]


@dataclass(frozen=True)
class Failure:
    """Why a cell could not be measured.

    Attributes
    ----------
    reason : str
        The exception and its message.
    traceback : str
        All of it.
    cell : dict
    """

    reason: str
    traceback: str
    cell: Cell = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception is."""
        text = "".join(traceback.format_exception(error))
        return cls(f"{type(error).__name__}: {error}", text)


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


def attempt(jobs: int, key: Any, function: Callable, *args: Any) -> tuple[Any, Any]:
    """Call a function on this process's share of the processors: the key, and what came of it.

    An exception comes back as a Failure, which any process can pickle. Numbers below float32's 1e-38, which
    the gradients of a network that has learned its task become, count as 0 meanwhile: some processors are many
    times slower at them.
    """
    before, flushed = torch.get_num_threads(), torch.tensor(1e-40).item() == 0
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) // max(1, jobs))))
    torch.set_flush_denormal(True)
    try:
        return key, function(*args)
    except Exception as error:
        return key, Failure.of(error)
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)
