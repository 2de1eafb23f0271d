"""What an experiment measured, kept with how it was measured.

One JSON file holds one experiment: one record for each cell of its table and each seed. A cell is
written as soon as it is done, so a run that was killed resumes where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from ..text import printable
from .files import cache_dir, locked, whole

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Record",
    "ResultsError",
    "Store",
    "cell_label",
    "differences",
    "existing",
    "frame",
    "recorded",
    "recorded_folder",
    "results_folder",
]

FORMAT = 1  # of the JSON file; raise it when an older reader would misread the file
LOCK_TIMEOUT = 60.0  # seconds; a write takes milliseconds
_FIELDS = ("cell", "metrics", "config", "provenance")
_TEXTS = "texts"  # only where there are some

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
        What identifies this cell: dataset, backbone, group, augmentation, seed, ...
    metrics : mapping of str to float
    config : mapping
        Every setting that could change the metrics.
    provenance : mapping
        What :func:`equitutor.store.provenance.provenance` returned.
    texts : mapping of str to list of str
        What a model wrote, as examples.
    """

    experiment: str
    cell: Cell
    metrics: Mapping[str, float]
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*_FIELDS, _TEXTS):
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
            if abs(value) > sys.float_info.max:
                raise ValueError(f"metrics[{name!r}] is too large for a float")
        for name, value in self.texts.items():
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise TypeError(f"texts[{name!r}] must be a list of strings, not {value!r}")


class Store:
    """The records of one experiment, in one JSON file that several processes may write.

    Parameters
    ----------
    path : str or Path
        The file, which need not exist yet; its name without ``.json`` is the experiment's.
    replace : bool
        Whether a new record may take the place of one that was measured with other settings.
    """

    def __init__(self, path: str | Path, replace: bool = True) -> None:
        self.path = Path(path)
        self.replace = replace
        if self.path.suffix != ".json":
            raise ValueError(f"the name of a results file ends in .json, not {self.path.name!r}")
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
            return self._parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except json.JSONDecodeError as error:
            raise self._damaged(f"line {error.lineno}: {error.msg}") from error
        except OSError as error:
            raise ResultsError(
                f"{self.path} cannot be read ({error.strerror}). Make it readable, or choose another folder."
            ) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise self._damaged(error) from error

    def differing(
        self, cell: Cell, config: Any, data: Mapping[str, str] | None = None
    ) -> list[str] | None:
        """Name what differs between the record of ``cell`` and these settings; None: no record.

        Other data differ too, if ``data`` has the fingerprints of what the cell would be made from and
        the record has its own.
        """
        cell, config = _plain(cell, "cell"), _plain(config, "config")
        old = next((record for record in self.records() if record.cell == cell), None)
        return None if old is None else _changes(old, config, data)

    def done(self, cell: Cell, config: Any, data: Mapping[str, str] | None = None) -> bool:
        """Return whether ``cell`` was measured under exactly this ``config``, on these data.

        A cell that was measured otherwise is not done. A warning names what differs, since the new
        measurement will replace the old one.
        """
        differing = self.differing(cell, config, data)
        if differing:
            warnings.warn(
                f"{printable(self.path.name)}: the cell {cell_label(cell)} was measured with other settings "
                f"({'; '.join(differing)}) and counts as not done",
                stacklevel=2,
            )
        return differing == []

    def add(self, record: Record) -> None:
        """Write a record immediately, replacing an earlier one of the same cell.

        Raises
        ------
        ResultsError
            The file is damaged or cannot be written, or it holds a record of this cell with other
            settings that must not be replaced. It is left as it was.
        """
        if record.experiment != self.experiment:
            raise ValueError(
                f"a record of {record.experiment!r} does not belong in {self.path.name}"
            )
        with self._writing(), whole(self.path, fsync=True) as part:
            others = []
            for old in self.records():
                if old.cell != record.cell:
                    others.append(old)
                else:  # in the lock: nobody can add it between this check and the writing
                    self._refuse_to_replace(old, record)
            part.write_bytes(self._dump([*others, record]))

    def try_to_write(self) -> None:
        """Write the records to a file that vanishes: what prevents it should be told before the work.

        Raises
        ------
        ResultsError
            The file is damaged or cannot be written. It is left as it was.
        """
        with self._writing(), TemporaryFile(dir=self.path.resolve().parent) as file:
            file.write(self._dump(self.records()))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Within it, nobody else writes."""
        try:
            with locked(self.path, LOCK_TIMEOUT):
                yield
        except OSError as error:
            raise ResultsError(
                f"{self.path} could not be written ({error}) and is unchanged. Make room or choose "
                "another folder, and run again: cells that were saved are not run twice."
            ) from error

    def _refuse_to_replace(self, old: Record, new: Record) -> None:
        differing = _changes(old, new.config, new.provenance.get("data"))
        if differing and not self.replace:
            raise ResultsError(
                f"{self.path} was given the cell {cell_label(new.cell)} with other settings meanwhile "
                f"({'; '.join(differing)}) by another run, whose record is kept. Run this one in "
                "another folder."
            )

    def _dump(self, records: list[Record]) -> bytes:
        cells = [
            {name: getattr(record, name) for name in _FIELDS}
            | ({_TEXTS: record.texts} if record.texts else {})
            for record in _sorted(records)
        ]
        content = {"format": FORMAT, "experiment": self.experiment, "cells": cells}
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return text.encode(errors="backslashreplace")  # names of files that are no UTF-8

    def _parse(self, text: str) -> list[Record]:
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
            raise ValueError('expected an object with a list of "cells"')
        if isinstance(newer := content.get("format"), int) and newer > FORMAT:
            raise ResultsError(
                f"{self.path} was written by a newer version of equitutor, in format {newer}; this one "
                f"reads {FORMAT}. Update equitutor, or choose another folder."
            )
        if content.get("format") != FORMAT:
            raise ValueError(f'"format" is {content.get("format")!r}, this version reads {FORMAT}')
        if unknown := content.keys() - {"cells", "experiment", "format"}:
            raise ValueError(
                f"it has unknown fields, which would be lost: {', '.join(sorted(unknown))}"
            )
        if content.get("experiment") != self.experiment:
            raise ValueError(f"it says it belongs to {content.get('experiment')!r}")
        records: list[Record] = []
        for number, entry in enumerate(content["cells"], start=1):
            if not isinstance(entry, dict) or sorted(entry.keys() - {_TEXTS}) != sorted(_FIELDS):
                raise ValueError(f"cell {number} must have {', '.join(_FIELDS)} and nothing else")
            try:
                record = Record(self.experiment, **entry)
            except (TypeError, ValueError) as error:
                raise ValueError(f"of cell {number}, {entry['cell']}, {error}") from error
            if any(record.cell == earlier.cell for earlier in records):
                raise ValueError(f"the cell {cell_label(record.cell)} occurs twice")
            records.append(record)
        return _sorted(records)

    def _damaged(self, reason: object) -> ResultsError:
        return ResultsError(
            f"{self.path} is damaged: {reason}. It was left as it is. Repair it by hand, restore it "
            f'with "git checkout -- {self.path.name}" in its folder, or move it away to start afresh.'
        )


def results_folder() -> Path:
    """Where runs are kept: book/results of the checkout, else the folder "results" in the cache."""
    return _checkout_else(cache_dir() / "results")


def existing(folder: str | Path) -> Path:
    """The folder of results, if there is one; else ValueError."""
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder} of results: give one, or run an experiment")
    return Path(folder)


def recorded_folder() -> Path:
    """Where the book's own results are: in the checkout, else in the installed package."""
    return _checkout_else(Path(__file__).parents[1] / "recorded")


def _checkout_else(folder: Path) -> Path:
    shelf = Path(__file__).parents[2] / "book" / "results"
    return shelf if shelf.is_dir() else folder


def recorded(experiment: str) -> list[Record]:
    """The records that come with the book; ValueError if there are none of this experiment."""
    path = recorded_folder() / f"{experiment}.json"
    if not path.exists():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.json")))
        raise ValueError(f"no records of {experiment!r} come with the book; there are {known}")
    return Store(path).records()


def frame(records: Sequence[Record], config: bool = False) -> pandas.DataFrame:
    """Records as a data frame with one row per record, to group, average and plot with pandas.

    Parameters
    ----------
    records : sequence of Record
    config : bool
        Whether to include the settings.

    Returns
    -------
    pandas.DataFrame
        The fields of the cells, then the metrics, then the settings; NaN where a record lacks one.
        A name that is taken is prefixed with "metrics." or "config.".

    Examples
    --------
    >>> runs = frame(recorded("vision"))
    >>> runs.groupby(["dataset", "backbone", "group"])["accuracy"].agg(["mean", "std"])
    """
    import pandas  # here: it takes longer to import than the rest of the package's core

    columns: dict[str, list] = {}
    for part in _FIELDS[: 3 if config else 2]:
        mappings = [getattr(record, part) for record in records]
        columns |= {
            f"{part}.{name}" if name in columns else name: [m.get(name, math.nan) for m in mappings]
            for name in dict.fromkeys(name for mapping in mappings for name in mapping)
        }
    return pandas.DataFrame(columns)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two configs differ, as "name: before -> after"."""
    return [
        f"{name}: {before.get(name, 'absent')!r} -> {after.get(name, 'absent')!r}"
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or before[name] != after[name]
    ]


def _changes(old: Record, config: Mapping[str, Any], data: Mapping[str, str] | None) -> list[str]:
    known = old.provenance.get("data")
    others = differences(known, data) if known is not None and data is not None else []
    return [*differences(old.config, config), *(f"fingerprint of {what}" for what in others)]


def _plain(value: Any, where: str) -> Any:
    """Return `value` as JSON would return it; refuse what JSON cannot hold."""
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
            f"{where} is {value}, which is not a result: find out why before recording it"
        )
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{where} must be text, a number, a list or a mapping, not {value!r}")
    return value


def _sorted(records: list[Record]) -> list[Record]:
    """Sort records by the fields of their cells, numbers as numbers and before text."""

    def key(record: Record) -> list[tuple[str, bool, str | int]]:
        cell = sorted(record.cell.items())
        return [(name, isinstance(value, str), value) for name, value in cell]

    return sorted(records, key=key)


def cell_label(cell: Cell) -> str:
    """A cell in words: "backbone=resnet18, seed=0"."""
    return printable(", ".join(f"{name}={value}" for name, value in cell.items()))
