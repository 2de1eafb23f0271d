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
from safetensors.torch import save
from torch import Tensor, uint8

from .files import cache_dir, whole
from .results import recorded_folder

__all__ = ["State", "kept"]

State = dict[str, Tensor]
MARK = "\nsha256 "  # between recipe and checksum: of two entries, safetensors keeps no order


def kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
    """Return the state_dict of this name and recipe (all it depends on), made and kept if new.

    A file that is damaged or was made by another recipe is never used; a damaged one is made again.
    Damage is known by a checksum of the tensors; old files have none, and are damaged if some
    number of theirs is NaN.
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
        metadata = {"recipe": f"{text}{MARK}{_checksum(state)}"}
        with whole(cached) as part:  # not save_file: its files are for the owner alone
            part.write_bytes(save({k: v.contiguous() for k, v in state.items()}, metadata))
    except OSError as error:
        warnings.warn(f"{cached} could not be kept ({error}); set EQUITUTOR_CACHE", stacklevel=2)
    return state


def _read(path: Path, recipe: str) -> State:
    with safe_open(path, "pt") as file:
        found, _, checksum = (file.metadata() or {}).get("recipe", "").partition(MARK)
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if found != recipe:
        raise ValueError("it was made by another recipe")
    if checksum and checksum != _checksum(state):
        raise ValueError("it is damaged: its tensors do not fit its checksum")
    if not checksum and (bad := [name for name, tensor in state.items() if tensor.isnan().any()]):
        raise ValueError(f"it is damaged: {bad[0]} has NaN")
    return state


def _checksum(state: State) -> str:
    """The SHA-256 of the names, types, shapes and numbers of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(uint8).numpy())
    return digest.hexdigest()
