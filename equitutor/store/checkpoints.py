"""Where the file name of a checkpoint is made: its name, and a hash of the recipe that made it.

Checkpoints made by our own code are kept in the cache folder. Those that a chapter starts from come
with the package, beside the recorded results.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from .files import cache_dir, whole
from .results import recorded_folder

__all__ = ["State", "checksum", "kept", "noted"]

State = dict[str, Tensor]
MARK = "\nsha256 "  # between recipe and checksum: of two entries, safetensors keeps no order


_NOTES: list[dict[str, str]] = []  # of every `noted` that is open


@contextmanager
def noted() -> Iterator[dict[str, str]]:
    """What :func:`kept` returns within it: the name of each checkpoint, and its checksum."""
    note: dict[str, str] = {}
    _NOTES.append(note)
    try:
        yield note
    finally:
        _NOTES[:] = [other for other in _NOTES if other is not note]


def kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
    """Return the state_dict of this name and recipe (all it depends on), made and kept if new.

    A file that is damaged or was made by another recipe is never used; a damaged one is made again.
    Damage is known by a checksum of the tensors; old files have none, and are damaged if some
    number of theirs is NaN.
    If the cache folder cannot be written, the state is returned all the same, with a warning.
    """
    state = _kept(name, recipe, make)
    if _NOTES:
        found = {name: checksum(state)[:16]}
        for note in _NOTES:
            note.update(found)
    return state


def _kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
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
        metadata = {"recipe": f"{text}{MARK}{checksum(state)}"}
        with whole(cached) as part:  # not save_file: its files are for the owner alone
            part.write_bytes(save({k: v.contiguous() for k, v in state.items()}, metadata))
    except OSError as error:
        warnings.warn(f"{cached} could not be kept ({error}); set EQUITUTOR_CACHE", stacklevel=2)
    return state


def _read(path: Path, recipe: str) -> State:
    with safe_open(path, "pt") as file:
        found, _, known = (file.metadata() or {}).get("recipe", "").partition(MARK)
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if found != recipe:
        raise ValueError("it was made by another recipe")
    if known and known != checksum(state):
        raise ValueError("it is damaged: its tensors do not fit its checksum")
    if not known and (bad := [name for name, tensor in state.items() if tensor.isnan().any()]):
        raise ValueError(f"it is damaged: {bad[0]} has NaN")
    return state


def checksum(state: State) -> str:
    """The SHA-256 of the names, types, shapes and numbers of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(uint8).numpy())
    return digest.hexdigest()
