"""Sets of labelled images, and how a folder of image files becomes one."""

from __future__ import annotations

import hashlib
import operator
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, Self, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..store.files import DataError, cache_dir, sha256sum, whole
from ..text import printable
from .reading import EXTENSIONS, pixels, read_rgb

__all__ = [
    "ImageSet",
    "Labelled",
    "Listing",
    "check_size",
    "decode",
    "decode_once",
    "existing_folder",
    "list_images",
    "listing_digest",
    "split",
    "warn_of_skipped",
]

# Add 1 when files are read as other pixels than before, so that kept ones are not used again.
DECODING = 2

SMALL, AT_ONCE = 2**21, 2**26  # pixels: of a small image, and of those that are read at a time

# Part ("train" and "test", or "all") -> its files, the label of each file, the class names.
Listing = dict[str, tuple[list[Path], list[int], tuple[str, ...]]]


class Labelled(Protocol):
    """Labelled images, or what a network has made of them."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def subset(self, indices: Any) -> Self: ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images.

    Attributes
    ----------
    images : Tensor
        uint8, shape (N, 3, H, W), values 0 to 255.
    labels : Tensor
        int64, shape (N,), positions in ``classes``.
    classes : tuple of str
    name : str
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(
                f"images must be uint8 of shape (N, 3, H, W), not {self.images.dtype} of {shape}"
            )
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape ({shape[0]},), one for each image, not "
                f"{self.labels.dtype} of {tuple(self.labels.shape)}"
            )
        if shape[0] and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must be positions in classes, 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        _, _, height, width = self.images.shape
        return (
            f"ImageSet({self.name}: {len(self)} images of {height} x {width}, "
            f"{len(self.classes)} classes)"
        )

    def subset(self, indices: Sequence[int] | np.ndarray | Tensor | slice) -> ImageSet:
        """Return the images at ``indices`` (positions, a mask of N booleans, or a slice)."""
        if not isinstance(indices, slice):
            indices = torch.as_tensor(indices)
            if indices.numel() == 0:
                indices = indices.long()  # an empty list has no integer type of its own
        return ImageSet(self.images[indices], self.labels[indices], self.classes, self.name)


def check_size(size: SupportsIndex) -> int:
    """Return ``size`` as an int; raise TypeError or ValueError if it is no positive whole number."""
    try:
        side = operator.index(size)
    except TypeError:
        side = None
    if side is None or isinstance(size, bool):
        raise TypeError(f"size must be a whole number of pixels, not {size!r}")
    if side < 1:
        raise ValueError(f"size must be at least 1 pixel, not {side}")
    return side


def existing_folder(path: str | Path) -> Path:
    """Return the absolute path of a folder; raise DataError if it does not exist."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; check the path")
    return root.absolute()


def _subfolders(root: Path) -> list[Path]:
    # ".ipynb_checkpoints" and "__MACOSX" are not classes.
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def list_images(root: Path) -> Listing:
    """List {train,test|val}/CLASS/ files, or CLASS/ files as the one part "all"."""
    named = {p.name: p for p in _subfolders(root)}
    test = named.get("test") or named.get("val")
    if "train" not in named and test is None:
        return {"all": _list_classes(root)}
    if "train" not in named or test is None:
        there, missing = ("train", "test or val") if test is None else (test.name, "train")
        raise DataError(
            f"{root} has a {there} but no {missing} folder. Expected both, or neither and one "
            "folder for each class."
        )
    listing = {"train": _list_classes(named["train"]), "test": _list_classes(test)}
    if differing := set(listing["train"][2]) ^ set(listing["test"][2]):
        raise DataError(
            f"the classes of {named['train']} and {test} differ: {', '.join(sorted(differing))} "
            "in only one of them. Give both the same folders."
        )
    return listing


def listing_digest(listing: Listing) -> str:
    """The SHA-256 of the parts, classes, names and contents of the files of a listing."""
    digest = hashlib.sha256()
    for part, (files, labels, classes) in listing.items():
        for path, label in zip(files, labels, strict=True):
            what = (part, classes[label], path.name, sha256sum(path))
            digest.update(os.fsencode(repr(what)))
    return digest.hexdigest()


def warn_of_skipped(listing: Listing) -> None:
    """Warn of the files in the folders of a listing that are not in it, but for hidden ones."""
    listed = {path for files, _, _ in listing.values() for path in files}
    skipped = Counter(
        path.suffix.lower() or "no ending"
        for folder in {path.parent for path in listed}
        for path in folder.rglob("*")
        if path not in listed and path.is_file()
        if not any(p.startswith((".", "__")) for p in path.relative_to(folder).parts)
    )
    if skipped:
        kinds = ", ".join(f"{printable(kind)} {count}" for kind, count in sorted(skipped.items()))
        warnings.warn(
            f"{skipped.total()} files skipped: {kinds}. Read are the files in a class's own folder "
            f"that end in {', '.join(EXTENSIONS)}",
            stacklevel=3,
        )


def _list_classes(root: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    folders = _subfolders(root)
    if len(folders) < 2:
        found = f"only {folders[0].name}" if folders else "none"
        raise DataError(
            f"{root} must have a folder for each of at least two classes; found {found}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        images = sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")
        )
        if not images:
            raise DataError(
                f"no images in {folder}. Expected files that end in {', '.join(EXTENSIONS)}; "
                "add some, or remove the folder."
            )
        files += images
        labels += [label] * len(images)
    return files, labels, tuple(folder.name for folder in folders)


def _read_into(target: np.ndarray, path: Path, shorter: int) -> str | None:
    """Fill ``target`` (3, size, size) from a file; return what went wrong, or None."""
    size = target.shape[-1]
    try:
        picture = read_rgb(path)
        width, height = picture.size
        if min(width, height) != shorter:
            scale = shorter / min(width, height)
            width, height = max(shorter, round(width * scale)), max(shorter, round(height * scale))
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        cut = np.asarray(picture.crop((left, top, left + size, top + size)))  # (size, size, 3)
        target[:] = cut.transpose(2, 0, 1)
    except DataError as error:
        return str(error)
    except (MemoryError, OverflowError):
        return f"{path} (its longer side is too long beside the other)"
    return None


def _by_threads(files: Sequence[Path]) -> Iterator[tuple[list[int], int]]:
    """Small images, then large ones: their positions, and how many may be in memory at a time."""
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(pixels, files))
    for is_large in (False, True):
        if group := [i for i, count in enumerate(counts) if (count > SMALL) == is_large]:
            most = max(1, *(counts[i] for i in group))
            yield group, max(1, min(os.cpu_count() or 1, AT_ONCE // most))


def decode(
    name: str, listing: Listing, size: int, shorter: int | None = None
) -> dict[str, ImageSet]:
    """Read all files of a listing.

    The shorter side is scaled to ``shorter`` (default: 8/7 of ``size``) and the centre cut out.
    """
    shorter = round(size * 256 / 224) if shorter is None else shorter
    sets: dict[str, ImageSet] = {}
    broken: list[str] = []
    for part, (files, labels, classes) in listing.items():
        images: np.ndarray = np.zeros((len(files), 3, size, size), dtype=np.uint8)
        with tqdm(total=len(files), desc=printable(f"{name} {part}"), unit="image", delay=2) as bar:
            for group, threads in _by_threads(files):
                chosen = ([images[i] for i in group], [files[i] for i in group])
                with ThreadPoolExecutor(threads) as pool:  # Pillow decodes outside Python's lock
                    for error in pool.map(_read_into, *chosen, repeat(shorter)):
                        bar.update()
                        broken += [error] if error else []
        sets[part] = ImageSet(torch.from_numpy(images), torch.tensor(labels), classes, name)
    if broken:
        shown = broken[:5] + ([f"and {len(broken) - 5} more"] if len(broken) > 5 else [])
        raise DataError(
            "these images cannot be read; replace or remove them:\n  " + "\n  ".join(shown)
        )
    return sets


def decode_once(name: str, listing: Listing, size: int) -> dict[str, ImageSet]:
    """Like `decode` with ``shorter=size``, but keep the pixels in the cache for the next time.

    The kept file is used as long as the content of the image files stays the same, and so does
    `DECODING`.
    """
    key = f"{listing_digest(listing)[:16]}-{size}-{DECODING}"
    kept = cache_dir() / "decoded" / f"{name}-{key}.npz"
    sets = {}
    # Zip keeps a checksum of each array, so a damaged file is noticed and written again.
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(kept) as f:
        for part, (_, labels, classes) in listing.items():
            sets[part] = ImageSet(torch.from_numpy(f[part]), torch.tensor(labels), classes, name)
        return sets
    sets = decode(name, listing, size, size)
    try:
        with whole(kept) as part_file:
            np.savez(part_file, **{part: images.images.numpy() for part, images in sets.items()})
    except OSError as error:
        warnings.warn(
            printable(f"{kept} could not be written ({error}); set EQUITUTOR_CACHE"), stacklevel=3
        )
    return sets


def split(whole: ImageSet, test_fraction: float, seed: int) -> dict[str, ImageSet]:
    """Split into train and test, the same share of each class; ``seed`` alone decides the draw."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, not {test_fraction}")
    random = np.random.RandomState(seed)  # its stream is frozen; default_rng's may change
    in_test = torch.zeros(len(whole), dtype=torch.bool)
    for label, name in enumerate(whole.classes):
        members = np.flatnonzero(whole.labels.numpy() == label)
        if len(members) < 2:
            raise DataError(f"class {name} needs at least two images: to train and to test with")
        count = min(max(1, round(test_fraction * len(members))), len(members) - 1)
        in_test[random.permutation(members)[:count]] = True
    return {"train": whole.subset(~in_test), "test": whole.subset(in_test)}
