"""Checkpoints that our own code made, kept in the cache folder under the recipe that made them.

A few come with the package, beside the results: those that a chapter starts from.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import cache_dir
from .results import recorded_folder

State = dict[str, Tensor]


def kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
    """The state_dict of this name and recipe: shipped, or in the cache folder, or made and put there.

    A file that is damaged or was made by another recipe is never taken for this one; a damaged one
    is made anew. Where the folder cannot be written, the state is returned all the same.
    """
    text = json.dumps(recipe, sort_keys=True)
    file = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    path = cache_dir() / "checkpoints" / file
    for there in (recorded_folder() / "checkpoints" / file, path):
        if there.exists():
            try:
                return _read(there, text)
            except (SafetensorError, OSError, ValueError) as error:
                warnings.warn(f"{there} cannot be used ({error}); it is made anew", stacklevel=2)
    state = make()
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in state.items()}, part, {"recipe": text})
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        warnings.warn(f"{path} could not be kept ({error}); set EQUITUTOR_CACHE", stacklevel=2)
    return state


def _read(path: Path, recipe: str) -> State:
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("recipe") != recipe:
            raise ValueError("it was made by another recipe")
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
