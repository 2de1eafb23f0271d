"""Where the file name of a checkpoint is made: its name, and a hash of the recipe that made it.

Checkpoints made by our own code are kept in the cache folder. Those that a chapter starts from come
with the package, beside the recorded results.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import cache_dir, whole
from .results import recorded_folder

__all__ = ["State", "kept"]

State = dict[str, Tensor]


def kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
    """Return the state_dict of this name and recipe (all it depends on), made and kept if new.

    A file that is damaged or was made by another recipe is never used; a damaged one is made again.
    If the cache folder cannot be written, the state is returned all the same, with a warning.
    """
    text = json.dumps(recipe, sort_keys=True)
    file = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    cached = cache_dir() / "checkpoints" / file
    for path in (recorded_folder() / "checkpoints" / file, cached):
        if path.exists():
            try:
                return _read(path, text)
            except (SafetensorError, OSError, ValueError) as error:
                warnings.warn(f"{path} cannot be used ({error}); it is made anew", stacklevel=2)
    state = make()
    try:
        with whole(cached) as part:
            save_file({k: v.contiguous() for k, v in state.items()}, part, {"recipe": text})
    except OSError as error:
        warnings.warn(f"{cached} could not be kept ({error}); set EQUITUTOR_CACHE", stacklevel=2)
    return state


def _read(path: Path, recipe: str) -> State:
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("recipe") != recipe:
            raise ValueError("it was made by another recipe")
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
