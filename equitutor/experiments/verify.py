"""Are the records what the experiments of today make? What is wrong with them, and what is stale."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from ..images import data as images
from ..language.regard import LABELS
from ..options import Range, split
from ..sequences import scan_data
from ..sequences import training as sentences
from ..store.results import Record, ResultsError, Store, differences, existing, recorded_folder
from ..text import counted, printable
from ..version import __version__
from . import EXPERIMENTS

#: The data that come with a package or are made here: what is asked for them needs no file.
AT_HAND = {
    (images.fingerprint, "digits", ""),
    *((sentences.fingerprint, task) for task in scan_data.TASKS),
}

__all__ = ["pages", "verify"]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_date(text: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(text))
    except (TypeError, ValueError):
        return False


def _is_mapping_of_text(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_past(text: Any) -> bool:
    tomorrow = date.today() + timedelta(days=1)  # clocks and time zones differ
    return _is_date(text) and datetime.fromisoformat(text).date() <= tomorrow


_ROUNDED = 1e-6  # means of shares in float32 may be that far outside
_SIZE, _SHARE, _PERCENT = Range(0), Range(-_ROUNDED, 1 + _ROUNDED), Range(-_ROUNDED, 100 + _ROUNDED)
#: What the experiments measure: patterns of the metrics' names, and the values that can be. Names of
#: contexts, groups and judges are free.
_METRICS = {
    r"accuracy(_at_\d+)?|consistent|upright|zero_shot(_upright)?": _PERCENT,
    r"(test|val)_accuracy|test_at_\d+|(apart|best|zero_shot)_(test|val)": _PERCENT,
    r"same_texts|same_draws(_ordinary)?|(.+: )?disparity": _PERCENT,
    r"weight_upright_\w+|.+ ([|~]) .+": _SHARE,
    r"error|gap|gap64|\w+_seconds|images|equivariant|test_commands|sentences|(.+: )?unlike": _SIZE,
    f".+ ({'|'.join(LABELS)})": _SIZE,  # counts
    r"perplexity|fluency": Range(1 - _ROUNDED),
    # Returns; of other experiments than dqn, passes are views.
    r"(last|at_once|after|passes)(_side)?|return_at_\d+|possible": Range(-math.inf),
}

#: What provenance may hold, and whether a value will do.
_PROVENANCE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("command", "device", "equitutor", "python", "torch"), _is_text),
    "commit": lambda value: value is None or _is_text(value),
    **dict.fromkeys(("data", "weights"), lambda value: _is_mapping_of_text(value)),
    "date": _is_past,
    "modified": lambda value: value is None or isinstance(value, bool),
    "seconds": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    ),
}


def verify(
    folder: str | Path, tables: Callable[[str, list[Record]], object] = lambda *_: None
) -> tuple[bool, str]:
    """Check every results file of a folder.

    Wrong is what is damaged, what has fields or settings that nothing knows, or values that they may
    not have, and cells that no Config makes. Other settings than those of every preset, another
    version, or a package that differed from its commit are worth a note.

    Parameters
    ----------
    folder : path
    tables : callable, optional
        What makes the tables of an experiment; records of which it makes none (ValueError) are wrong.

    Returns
    -------
    (bool, str)
        Whether nothing is wrong, and what was found, file by file.

    Raises
    ------
    ValueError
        If there is no such folder.
    """
    folder = existing(folder)
    kept, lines = True, []
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".json"):
        if path.stem not in EXPERIMENTS:
            lines.append(f"{printable(path.name)}\n  note: no experiment has this name")
            continue
        try:
            records = Store(path).records()
        except ResultsError as error:
            kept = False
            lines.append(f"{path.name}\n  wrong: {printable(error)}")
            continue
        shown = pages(path.stem) if folder.resolve() == recorded_folder().resolve() else []
        lines.append(
            f"{path.name}: {counted(len(records), 'cell')}, shown on {', '.join(shown) or 'no page'}"
        )
        try:
            tables(path.stem, records) if records else None
        except ValueError as error:
            kept = False
            lines.append(f"  wrong: they make no table: {printable(error)}")
        found: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            for finding in _findings(EXPERIMENTS[path.stem].Config, record):
                found.setdefault(finding, []).append(record)
        for (kind, text), where in sorted(found.items(), reverse=True):  # what is wrong comes first
            kept = kept and kind != "wrong"
            first = printable(" ".join(map(str, where[0].cell.values())))
            lines.append(
                f"  {kind}: {printable(text)}: {counted(len(where), 'cell')}, the first: {first}"
            )
    return kept, "\n".join(lines or [f"no results in {printable(folder)}"])


def pages(experiment: str) -> list[str]:
    """The book's pages that show the records of an experiment; none where there is no checkout."""
    found = []
    for path in sorted((Path(__file__).parents[2] / "book").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        if f'"{experiment}"' in code and "recorded(" in code:
            found.append(path.name)
    return found


def _findings(config_type: Any, record: Record) -> Iterator[tuple[str, str]]:
    """("wrong" or "note", what) of one record."""
    yield from (("wrong", text) for text in _unsound(record))
    origin = record.provenance
    if origin.get("modified"):
        yield "note", "stale, the package differed from its commit"
    if origin.get("equitutor", __version__) != __version__:
        yield "note", f"stale, by version {origin['equitutor']}, this is {__version__}"
    if missing := [name for name in _PROVENANCE if name not in {*origin, "data", "weights"}]:
        yield "note", f"the provenance does not name {', '.join(missing)}"
    if "data" not in origin:
        yield "note", "made before fingerprints were kept: of which data is not known"
    try:
        spanned = _spanned(config_type, record.cell)
        settings = {k: v for k, v in record.config.items() if k not in spanned}
        if unknown := settings.keys() - config_type.options().keys():
            raise ValueError(f"no setting is called {', '.join(sorted(unknown))}")
        if record.cell not in config_type(**spanned, **settings).cells():
            raise ValueError("no Config makes this cell")
        yield from _other_data(config_type(**spanned, **settings), record)
        presets = {name: config_type.preset(name) for name in config_type.presets()}
        others = {
            name: differences(record.config, _plain(replace(c, **spanned).settings(record.cell)))
            for name, c in presets.items()
        }
    except (TypeError, ValueError) as error:
        yield "wrong", str(error)
        return
    nearest = min(others, key=lambda name: len(others[name]))
    if others[nearest]:
        what = "; ".join(others[nearest])
        yield "note", f"stale, as no preset has these settings (the nearest, {nearest}: {what})"


def _other_data(config: Any, record: Record) -> Iterator[tuple[str, str]]:
    """What a record is made from, beside what it would be made from today, where that is at hand."""
    sources, known = config.sources(record.cell), record.provenance.get("data")
    if known is None or not _is_mapping_of_text(known):
        return
    if differing := sources.keys() ^ known.keys():
        yield "wrong", f"one of fingerprint and experiment knows no {', '.join(sorted(differing))}"
    for name in sources.keys() & known.keys():
        if sources[name] in AT_HAND and (today := _fingerprint(*sources[name])) != known[name]:
            yield "wrong", f"the fingerprint of its {name} is {known[name]}, today's is {today}"


_fingerprint = cache(lambda function, *args: function(*args))


def _unsound(record: Record) -> Iterator[str]:
    """What is wrong with the numbers of a record and with where it says they come from."""
    if not record.metrics:
        yield "there are no metrics"
    for name, value in record.metrics.items():
        ranges = [rule for names, rule in _METRICS.items() if re.fullmatch(names, name)]
        if not ranges:
            yield f"no metric is called {name}"
        elif value not in ranges[0]:
            yield f"no {name} can be {value!r}"
    for name, value in record.provenance.items():
        if name not in _PROVENANCE:
            yield f"the provenance has an unknown field, {name}"
        elif not _PROVENANCE[name](value):
            yield f"the provenance has {name} = {value!r}"


def _spanned(config_type: Any, cell: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Config that span a table of this one cell: seeds=(0,) of seed=0."""
    options, found = config_type.options(), {}
    for key, value in cell.items():
        field = next((f for f in options if f in (key, f"{key}s", f"{key[:-2]}es")), None)
        if field is None:
            raise ValueError(f"no Config makes cells with a field {key}")
        kind, rule = split(options[field])
        if value == "none" and rule and value not in rule:
            continue  # a model without a group, which no option names
        found[field] = value if isinstance(kind, type) else (value,)
    return found


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))
