"""Options: the values that each may take, declared in its type, and checked before any work.

``lr: Annotated[float, Range(0, 10, "(]")]`` is a number above 0 and up to 10. Of a tuple the rule
holds for each item, and there must be one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_origin

__all__ = [
    "Batch",
    "Choice",
    "Count",
    "Filled",
    "Momentum",
    "Name",
    "Natural",
    "Range",
    "Rate",
    "Seed",
    "Seeds",
    "Share",
    "Size",
    "checked",
    "parsed",
    "split",
]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; a round bracket in ``ends`` leaves that end out."""

    low: float
    high: float = math.inf
    ends: str = "[]"

    def __contains__(self, value: float) -> bool:
        low, high = self.low, self.high
        inside = low < value if self.ends[0] == "(" else low <= value
        return inside and (value < high if self.ends[1] == ")" else value <= high)

    def __str__(self) -> str:
        low = f"{'more than' if self.ends[0] == '(' else 'at least'} {self.low}"
        high = f"{'less than' if self.ends[1] == ')' else 'at most'} {self.high}"
        return low if self.high == math.inf else f"{low} and {high}"


@dataclass(frozen=True, eq=False)
class Choice:
    """One of these names."""

    names: Iterable[str]

    def __contains__(self, value: str) -> bool:
        return value in tuple(self.names)

    def __str__(self) -> str:
        return " or ".join(f'"{name}"' for name in self.names)


@dataclass(frozen=True)
class Filled:
    """Any text that is not blank."""

    def __contains__(self, value: str) -> bool:
        return bool(value.strip())

    def __str__(self) -> str:
        return "a name or a path"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Batch = Annotated[int, Range(2)]  # of images: batch norm needs two
Size = Annotated[int, Range(1, 4096)]  # of images, in pixels
Seed = Annotated[int, Range(0, 2**32 - 1)]
Seeds = Annotated[tuple[int, ...], Range(0, 2**32 - 1)]
Rate = Annotated[float, Range(0, 10, "(]")]
Share = Annotated[float, Range(0, 1)]
Momentum = Annotated[float, Range(0, 1, "[)")]
Name = Annotated[str, Filled()]

_KINDS = {int: "a whole number", float: "a finite number", str: "text"}


def split(hint: Any) -> tuple[Any, Any]:
    """The type and the rule of an option, or None without a rule."""
    return get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)


def checked(name: str, hint: Any, value: Any) -> Any:
    """The value of an option as its type: numpy's and torch's numbers as Python's, lists as tuples.

    Raises
    ------
    TypeError
        If it is of another type.
    ValueError
        If the rule leaves it out; the message says what may be given.
    """
    kind, rule = split(hint)
    if get_origin(kind) is not tuple:
        value = _typed(name, kind, value)
        if rule is not None and value not in rule:
            raise ValueError(f"{name} must be {rule}, got {value!r}{_advice(rule, value)}")
        return value
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a tuple, got {value!r}")
    kinds, items = get_args(kind), tuple(value)
    if kinds[-1] is not ... and len(items) != len(kinds):
        raise ValueError(f"{name} must have {len(kinds)} values, got {len(items)}")
    items = tuple(_typed(name, kinds[0], item) for item in items)
    wrong = [item for item in items if rule is not None and item not in rule]
    if isinstance(rule, Choice) and (wrong or not items):
        known = ", ".join(rule.names)
        raise ValueError(f"{name} must be some of {known}; got {wrong or '()'}")
    if rule is not None and not items:
        raise ValueError(f"{name} must have at least one value, got none")
    if wrong:
        raise ValueError(f"{name} must be {rule}, got {wrong[0]!r}{_advice(rule, wrong[0])}")
    return items


def _advice(rule: Any, value: Any) -> str:
    return f"; {rule.advice(value)}" if hasattr(rule, "advice") else ""


def _typed(name: str, kind: type, value: Any) -> Any:
    """The value as an int, float or str; whole numbers count as float, and stay what they are."""
    if kind is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    number = {int: Integral, float: Real}.get(kind)
    if number and math.prod(getattr(value, "shape", (0,))) == 1:  # an array or tensor of one
        value = value.item()
    if number and isinstance(value, number) and not isinstance(value, bool):
        value = int(value) if isinstance(value, Integral) else float(value)
        if isinstance(value, int) or math.isfinite(value):
            return value
    error = ValueError if isinstance(value, float) and kind is float else TypeError
    raise error(f"{name} must be {_KINDS[kind]}, got {value!r}")


def parsed(name: str, hint: Any, text: str) -> Any:
    """The value that stands for an option on the command line; commas separate a tuple's items."""
    kind, _ = split(hint)
    item, more = (kind, "") if isinstance(kind, type) else (get_args(kind)[0], " each")
    try:
        value = tuple(map(item, filter(None, text.split(",")))) if more else item(text)
    except ValueError:
        raise ValueError(f"{name} must be {_KINDS[item]}{more}, got {text!r}") from None
    return checked(name, hint, value)
