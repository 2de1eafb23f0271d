"""What counts as the same answer, and how an answer is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["given", "plain", "same", "show"]

ROUNDING = 1e-10  # of float64, times the largest entry; float32 computes to seven digits
COARSE = 1e-4
SMALL = 18  # tensors up to this size are shown entry by entry


def plain(value: Any) -> Any:
    """A NumPy value as a torch or Python one, what a generator yields as a list; in a dict, too."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, Iterator) else value


def as_tensor(value: Any) -> Tensor | None:
    """A tensor, array, number or nested list as a float64 tensor; None if it is no such thing."""
    value = plain(value)
    try:
        if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
            value = torch.stack([torch.as_tensor(v) for v in value])
        if not isinstance(value, Tensor):  # Python's numbers have all digits
            return torch.tensor(value, dtype=torch.float64)
        return value.detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def same(a: Any, b: Any, equal_nan: bool = False) -> bool:
    """Whether the answer `a` equals the right one `b`, up to rounding.

    Where `b` is a tensor, `a` may be an array or a list; where it is a number, a scalar of NumPy
    or torch; a list will do for a tuple. Shapes must agree: a number is not a tensor of shape (1,).
    """
    a = plain(a)
    if isinstance(b, Tensor):
        coarse = b.is_floating_point() and b.dtype != torch.float64
        a, b = as_tensor(a), b.detach().to("cpu", torch.float64)
        if a is None or a.shape != b.shape:
            return False
        scale = float(b[b.isfinite()].abs().max()) if b.isfinite().any() else 0.0
        atol = COARSE * scale + 1e-6 if coarse else ROUNDING * max(1.0, scale)
        return torch.allclose(a, b, rtol=0, atol=atol, equal_nan=equal_nan)
    if isinstance(a, Tensor):
        a = a.tolist()
    if isinstance(b, Mapping):
        parts = isinstance(a, Mapping) and a.keys() == b.keys()
        return parts and all(same(a[key], b[key], equal_nan) for key in b)
    if isinstance(b, (tuple, list)):
        parts = isinstance(a, (tuple, list)) and len(a) == len(b)
        return parts and all(same(x, y, equal_nan) for x, y in zip(a, b, strict=True))
    if isinstance(b, float) and isinstance(a, (int, float)) and not isinstance(a, bool):
        if b != b or a != a:
            return equal_nan and a != a and b != b
        return abs(a - b) <= ROUNDING * max(1.0, abs(b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def show(value: Any, other: Any = None) -> str:
    """A short text for an answer; of a large tensor, the first entry that differs from `other`."""
    value = plain(value)
    if isinstance(value, Mapping):
        named = other if isinstance(other, Mapping) else {}
        return ", ".join(f"{key} {show(v, named.get(key))}" for key, v in value.items())
    if isinstance(value, tuple):
        others = other if isinstance(other, tuple) and len(other) == len(value) else value
        return "(" + ", ".join(map(show, value, others)) + ")"
    if not isinstance(value, Tensor):
        return repr(_rounded(value))
    text = f"shape {tuple(value.shape)}"
    value = value.detach().cpu()
    if value.numel() <= SMALL:
        return f"{_rounded(value.tolist())}, {text}" if value.ndim else f"{_rounded(value.item())}"
    other = as_tensor(other)
    if other is not None and other.shape == value.shape:
        scale = max(1.0, float(other.abs().max()))
        for at in (~torch.isclose(value.double(), other, atol=COARSE * scale)).nonzero()[:1]:
            text += f", at {at.tolist()}: {_rounded(value[tuple(at)].item())}"
    return text


def given(names: list[str], args: tuple) -> str:
    """The arguments of a call: shapes, and values where they are few."""
    return ", ".join(f"{name} {_kind(arg)}" for name, arg in zip(names, args, strict=False))


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        few = value.numel() <= 6
        return str(_rounded(value.tolist())) if few else f"of shape {tuple(value.shape)}"
    if isinstance(value, (int, float, str, bool, list, tuple)):
        return repr(value) if len(repr(value)) < 60 else type(value).__name__
    group = getattr(value, "group", None)
    if group is not None and hasattr(value, "index"):
        return f"= {value}"
    return f"({type(value).__name__}{f' of {group.name}' if group is not None else ''})"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value
