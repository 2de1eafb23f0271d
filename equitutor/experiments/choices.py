"""What the configs of all experiments have: fields that name some of what there is, and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def check_choices(config: Any, **known: Iterable[str]) -> None:
    """Raise ValueError unless each of these fields of a config names some of what is known."""
    for field, names in known.items():
        there = list(names)
        unknown = [v for v in getattr(config, field) if v not in there]
        if unknown or not getattr(config, field):
            raise ValueError(f"{field} must be some of {', '.join(there)}; got {unknown or '()'}")


def last_part(path: str) -> str:
    """The name at the end of a path, of any system, or of a model on a hub: it may be published."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
