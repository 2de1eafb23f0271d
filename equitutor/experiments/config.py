"""What the configs of all experiments have in common: presets, cells, settings, and checks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, Self, get_origin, get_type_hints

from ..options import checked

__all__ = ["BaseConfig", "Cell", "Source", "distinct", "last_part", "product", "shown"]

Cell = dict[str, str | int]
Source = tuple[Any, ...]  # (function, *arguments) that returns a fingerprint of some content


class BaseConfig:
    """Base of the experiments' configs, which are frozen dataclasses with presets as class methods.

    The values that a field may take are declared in its type: see :mod:`equitutor.options`.
    """

    #: Fields that are no settings of a cell: those that span the table, and paths.
    spans: ClassVar[tuple[str, ...]] = ()
    #: Settings that the oldest records do not name: left out at their default.
    later: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, hint in self.options().items():
            object.__setattr__(self, name, checked(name, hint, getattr(self, name)))

    @classmethod
    @cache
    def options(cls) -> dict[str, Any]:
        """The type of each field, with the rule for its values."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}

    @classmethod
    def presets(cls) -> tuple[str, ...]:
        """The names of the presets."""
        return tuple(name for name, value in vars(cls).items() if isinstance(value, classmethod))

    @classmethod
    def preset(cls, name: str) -> Self:
        """The settings of a preset, such as "quick" or "paper"."""
        if name not in cls.presets():
            raise ValueError(f"preset must be one of {', '.join(cls.presets())}; got {name!r}")
        return getattr(cls, name)()

    def settings(self, cell: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a cell's result depends on beside its key; without a cell, what any cell's does.

        No path is among it, so that it can be published.
        """
        unused = {*self.spans, *(() if cell is None else self.unused(cell))}
        unused |= {name for name in self.later if getattr(self, name) == getattr(type(self), name)}
        return {name: value for name, value in vars(self).items() if name not in unused}

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        """What a cell is made from that its settings do not determine: data and weights from outside."""
        return {}

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        """The settings that do not matter to this cell."""
        return ()


def product(**fields: Iterable[str | int]) -> list[Cell]:
    """The cells of all combinations of some fields' values; the last field varies fastest."""
    return [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without repetitions, in their order."""
    return list({tuple(cell.values()): cell for cell in cells}.values())


def shown(name: str, own: Container[str]) -> str:
    """What tables call a data set or a model: its own name, or the last part of a path.

    A path that ends like one of our ``own`` names is told apart: "/my/digits" is "digits (folder)".
    """
    last = last_part(name)
    return f"{last} (folder)" if last != name and last in own else last


def last_part(path: str) -> str:
    """The last part of a path, of any system, or of a model's name on a hub: it may be published."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
