"""What an experiment measured, kept with how it was measured.

One JSON file holds one experiment, one record for each cell of its table and each seed. A cell
is written as soon as it is done, so a run that was killed goes on where it stopped.
"""

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import cache_dir, locked

FORMAT = 1  # of the JSON file; to be raised when an older reader would misread it
LOCK_TIMEOUT = 60.0  # seconds; a write takes milliseconds
_FIELDS = ("cell", "metrics", "config", "provenance")

Cell = Mapping[str, Any]  # strings and whole numbers


class ResultsError(RuntimeError):
    """A results file that cannot be read or written; the message says what to do."""


@dataclass(frozen=True)
class Record:
    """One measured cell.

    Attributes
    ----------
    experiment : str
        The name of the results file without ``.json``.
    cell : mapping of str to str or int
        What tells this cell from the others: dataset, backbone, group, augmentation, seed, ...
    metrics : mapping of str to float
    config : mapping
        Every setting that could change the metrics.
    provenance : mapping
        What `provenance` returned.
    """

    experiment: str
    cell: Cell
    metrics: Mapping[str, float]
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _FIELDS:
            value = _plain(getattr(self, name), name)
            if not isinstance(value, dict):
                raise TypeError(f"{name} must be a mapping, not {value!r}")
            object.__setattr__(self, name, value)
        if not self.experiment or not self.cell:
            raise ValueError("a record needs the name of its experiment and a cell")
        for name, value in self.cell.items():
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise TypeError(f"cell[{name!r}] must be a string or an integer, not {value!r}")
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"metrics[{name!r}] must be a number, not {value!r}")


class Store:
    """The records of one experiment, in one JSON file that several processes may write.

    Parameters
    ----------
    path : path
        The file, which need not be there yet; its name without ``.json`` is the experiment's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix != ".json":
            raise ValueError(f"a results file ends in .json, unlike {self.path}")
        self.experiment = self.path.stem

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def records(self) -> list[Record]:
        """Return all records, sorted by cell.

        Raises
        ------
        ResultsError
            The file is damaged. It is left as it is.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from error
        try:
            return self._parse(text)
        except json.JSONDecodeError as error:
            raise self._damaged(f"line {error.lineno}: {error.msg}") from error
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def differing(self, cell: Cell, config: Any) -> list[str] | None:
        """Name the settings in which the record of `cell` differs from `config`; None: no record."""
        cell, config = _plain(cell, "cell"), _plain(config, "config")
        there = next((r for r in self.records() if r.cell == cell), None)
        return None if there is None else differences(there.config, config)

    def done(self, cell: Cell, config: Any) -> bool:
        """Say whether `cell` was measured under exactly this `config`.

        A cell that was measured under another config is not done; a warning names the settings
        that differ, for the new measurement will take its place.
        """
        differing = self.differing(cell, config)
        if differing:
            warnings.warn(
                f"{self.path.name}: the cell {_label(cell)} was measured with other settings "
                f"({'; '.join(differing)}) and counts as not done",
                stacklevel=2,
            )
        return differing == []

    def add(self, record: Record) -> None:
        """Write a record at once; an earlier one of the same cell is replaced.

        Raises
        ------
        ResultsError
            The file is damaged or cannot be written. It is left as it was.
        """
        if record.experiment != self.experiment:
            raise ValueError(
                f"a record of {record.experiment!r} does not belong into {self.path.name}"
            )
        part = self.path.with_name(f".{self.path.name}.part")  # ours alone, under the lock
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path, LOCK_TIMEOUT):
                others = [r for r in self.records() if r.cell != record.cell]
                try:
                    with open(part, "w", encoding="utf-8") as file:
                        file.write(self._dump([*others, record]))
                        file.flush()
                        os.fsync(file.fileno())  # or a power cut could leave a renamed empty file
                    os.replace(part, self.path)
                finally:
                    with suppress(OSError):
                        part.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(
                f"{self.path} could not be written ({error}) and is as it was. Make room or "
                "choose another folder, and run again: cells that were saved are not run twice."
            ) from error

    def _dump(self, records: list[Record]) -> str:
        cells = [
            {name: getattr(record, name) for name in _FIELDS}
            for record in sorted(records, key=lambda record: _order(record.cell))
        ]
        whole = {"format": FORMAT, "experiment": self.experiment, "cells": cells}
        return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def _parse(self, text: str) -> list[Record]:
        whole = json.loads(text)
        if not isinstance(whole, dict) or not isinstance(whole.get("cells"), list):
            raise ValueError('expected an object with a list of "cells"')
        if whole.get("format") != FORMAT:
            raise ValueError(f'"format" is {whole.get("format")!r}, this version reads {FORMAT}')
        if whole.get("experiment") != self.experiment:
            raise ValueError(f"it says it belongs to {whole.get('experiment')!r}")
        records: list[Record] = []
        for number, entry in enumerate(whole["cells"], start=1):
            if not isinstance(entry, dict) or sorted(entry) != sorted(_FIELDS):
                raise ValueError(f"cell {number} must have {', '.join(_FIELDS)} and nothing else")
            records.append(Record(self.experiment, **entry))
            if any(records[-1].cell == earlier.cell for earlier in records[:-1]):
                raise ValueError(f"the cell {_label(records[-1].cell)} stands there twice")
        return sorted(records, key=lambda record: _order(record.cell))

    def _damaged(self, reason: object) -> ResultsError:
        return ResultsError(
            f"{self.path} is damaged: {reason}. It was left as it is. Mend it by hand, bring it "
            f'back with "git checkout -- {self.path.name}" in its folder, or move it away to '
            "start afresh."
        )


def results_folder() -> Path:
    """Where runs are kept: book/results of the checkout, else the folder "results" in the cache."""
    shelf = Path(__file__).parents[2] / "book" / "results"
    return shelf if shelf.is_dir() else cache_dir() / "results"


def recorded_folder() -> Path:
    """What comes with the book: in the checkout or in the installed package."""
    shelf = Path(__file__).parents[2] / "book" / "results"
    return shelf if shelf.is_dir() else Path(__file__).parents[1] / "recorded"


def recorded(experiment: str) -> list[Record]:
    """The records that come with the book."""
    return Store(recorded_folder() / f"{experiment}.json").records()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two configs differ, as "name: before -> after"."""
    return [
        f"{name}: {before.get(name, 'absent')!r} -> {after.get(name, 'absent')!r}"
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or before[name] != after[name]
    ]


def _plain(value: Any, where: str) -> Any:
    """Return `value` as JSON would give it back; refuse what JSON cannot hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} must have strings for names, not {key!r}")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, str | int | float | None) and getattr(value, "ndim", None) == 0:
        value = value.item()  # numpy's and torch's numbers
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"{where} is {value}, which is no result: find out why before recording it"
        )
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{where} must be text, a number, a list or a mapping, not {value!r}")
    return value


def _order(cell: Cell) -> list[tuple[str, bool, int, str]]:
    """Sort cells by name, numbers as numbers and before text."""
    return [
        (name, isinstance(value, str), *((0, value) if isinstance(value, str) else (value, "")))
        for name, value in sorted(cell.items())
    ]


def _label(cell: Cell) -> str:
    return ", ".join(f"{name}={value}" for name, value in cell.items())
