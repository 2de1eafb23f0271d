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

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, contiguous_format, uint8

from ..text import printable
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


def kept(name: str, recipe: dict, make: Callable[[], State], is_noted: bool = True) -> State:
    """Return the state_dict of this name and recipe (all it depends on), made and kept if new.

    A file that was made by another recipe, or whose tensors do not fit its checksum, is never used
    but made again, with a warning. If the cache folder cannot be read, or the file not written, the state is
    returned all the same, with a warning. ``is_noted=False`` leaves it out of :func:`noted`: it is no weight,
    but follows from weights and data that are noted elsewhere.
    """
    state = _kept(name, recipe, make)
    if _NOTES and is_noted:
        found = {name: checksum(state)[:16]}
        for note in _NOTES:
            note.update(found)
    return state


def _kept(name: str, recipe: dict, make: Callable[[], State]) -> State:
    text = json.dumps(recipe, sort_keys=True)
    file = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    cached = cache_dir() / "checkpoints" / file
    for path in (recorded_folder() / "checkpoints" / file, cached):
        try:
            return _read(path, text)
        except FileNotFoundError:
            pass
        except (SafetensorError, OSError, ValueError) as error:
            warnings.warn(
                printable(f"{path} cannot be used ({error}); it is made anew"), stacklevel=3
            )
    state = make()
    try:
        metadata = {"recipe": f"{text}{MARK}{checksum(state)}"}
        with whole(cached) as part:  # not save_file: its files are for the owner alone
            # Copies: safetensors takes no two tensors that share memory.
            apart = {k: v.clone(memory_format=contiguous_format) for k, v in state.items()}
            part.write_bytes(save(apart, metadata))
    except Exception as error:  # whatever it is, what was made is not lost
        warnings.warn(
            printable(f"{cached} could not be kept ({error}); set EQUITUTOR_CACHE"), stacklevel=3
        )
    return state


def _read(path: Path, recipe: str) -> State:
    content = path.read_bytes()  # not by its path: safetensors opens none that is no UTF-8
    state = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found, _, known = header.get("__metadata__", {}).get("recipe", "").partition(MARK)
    if found != recipe:
        raise ValueError("it was made by another recipe")
    if not known:
        raise ValueError("it has no checksum, as those of version 0.1.0")
    if known != checksum(state):
        raise ValueError("it is damaged: its tensors do not fit its checksum")
    return state


def checksum(state: State) -> str:
    """The SHA-256 of the names, types, shapes and numbers of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(uint8).numpy())
    return digest.hexdigest()
