"""Nested inputs and outputs: lists, tuples, dicts, dataclasses, and numpy arrays in them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["has_batch", "map_leaves", "map_tensors", "named_leaves", "where"]

Path = tuple[Any, ...]


def map_leaves(function: Callable[[Path, Any], Any], value: Any, path: Path = ()) -> Any:
    """The same structure with ``function(path, leaf)`` for every leaf; None stays.

    A path is of keys, positions and names of fields, from the outermost to the innermost.
    """
    if value is None or isinstance(value, Tensor):
        return value if value is None else function(path, value)
    parts = _parts(value)
    if parts is None:
        return function(path, value)
    new = {key: map_leaves(function, part, (*path, key)) for key, part in parts.items()}
    if type(value) is dict:
        return new
    if isinstance(value, tuple | list):
        return type(value)(**new) if hasattr(value, "_fields") else type(value)(new.values())
    if dataclasses.is_dataclass(value) and isinstance(value, Mapping):  # transformers' ModelOutput
        return type(value)(**new)
    if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        twin = copy.copy(value)
        for key, part in new.items():
            if isinstance(twin, Mapping):
                twin[key] = part  # type: ignore[index]
            else:
                object.__setattr__(twin, key, part)  # frozen dataclasses too
        return twin
    return tree_unflatten(list(new.values()), tree_flatten(value)[1])


def _parts(value: Any) -> dict[Any, Any] | None:
    """The children of a container by key, position or field; None of a leaf."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return dict(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    flat = tree_flatten(value)[0]  # classes of the user that PyTorch was told about
    return None if len(flat) == 1 and flat[0] is value else dict(enumerate(flat))


def named_leaves(value: Any) -> list[tuple[Path, Any]]:
    """(path, leaf) for every leaf but None."""
    leaves: list[tuple[Path, Any]] = []
    map_leaves(lambda path, leaf: leaves.append((path, leaf)), value)
    return leaves


def where(path: Path) -> str:
    """The path as one would write it in Python: ``['maps'][0]``."""
    return "".join(f"[{key!r}]" for key in path)


def is_array(value: Any) -> bool:
    """Whether value is a numpy array (or scalar); numpy itself is not needed."""
    return hasattr(value, "__array_interface__")


def has_batch(value: Any) -> bool:
    """Whether value is a tensor or array with a first dimension, which an action can move."""
    return (isinstance(value, Tensor) or is_array(value)) and value.ndim > 0


def map_tensors(function: Callable[[Path, Tensor], Tensor], value: Any) -> Any:
    """The same structure with ``function(path, tensor)`` where :func:`has_batch`.

    Numpy arrays are shown to it as tensors, and what it returns for them becomes an array.
    """

    def one(path: Path, leaf: Any) -> Any:
        if not has_batch(leaf):
            return leaf
        if isinstance(leaf, Tensor):
            return function(path, leaf)
        return function(path, torch.as_tensor(leaf)).numpy()

    return map_leaves(one, value)
