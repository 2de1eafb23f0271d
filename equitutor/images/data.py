"""Image data sets and pretrained weights.

Every loader returns ``{"train": ImageSet, "test": ImageSet}``. Images stay 8-bit RGB until a
batch is made of them: CIFAR-10 then takes 180 MB and not 740.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..store.download import RemoteFile, extract, fetch
from ..store.files import DataError, cache_dir
from .imageset import ImageSet, check_size, decode, decode_once, existing_folder, list_images, split

__all__ = [
    "ARCHITECTURES",
    "DataError",
    "ImageSet",
    "cache_dir",
    "cifar10",
    "cifar100",
    "digits",
    "fetch",
    "hymenoptera",
    "image_folder",
    "pretrained_state",
]

ARCHITECTURES = ("alexnet", "resnet18", "vgg11_bn", "densenet121")
# In the order of the labels, which is the alphabet's.
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def digits(size: int = 32, test_fraction: float = 0.2, seed: int = 0) -> dict[str, ImageSet]:
    """Load scikit-learn's 1,797 handwritten digits, which need no network.

    The 8 x 8 grey images are enlarged bilinearly to ``size`` and their one channel repeated,
    so that networks for photographs take them. The stratified split depends on `seed` alone.
    """
    from sklearn.datasets import load_digits

    check_size(size)
    raw = load_digits()
    grey = torch.as_tensor(raw.images, dtype=torch.float32)[:, None] * (255 / 16)  # 0..16 -> 0..255
    large = torch.nn.functional.interpolate(grey, size=(size, size), mode="bilinear")
    images = large.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    whole = ImageSet(
        images, torch.as_tensor(raw.target).long(), tuple(map(str, range(10))), "digits"
    )
    return split(whole, test_fraction, seed)


def cifar10(folder: str | Path | None = None) -> dict[str, ImageSet]:
    """Load CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in ten classes.

    Parameters
    ----------
    folder : path, optional
        Where the images lie already: {train,test}/CLASS/ files, or the six .bin files of the
        official binary version. Default: that version, downloaded into `cache_dir` (170 MB).
        Decoded image files are kept in the cache, so only the first load is slow.
    """
    if folder is None:
        unpacked = cache_dir() / "cifar-10"
        if not unpacked.is_dir():  # it was checked when it was unpacked
            extract(fetch("cifar10"), unpacked)
        return _cifar10_binary(unpacked / "cifar-10-batches-bin")
    path = existing_folder(folder)
    if (path / "test_batch.bin").is_file():
        return _cifar10_binary(path)
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
                f" and found {', '.join(classes)}. For other images use image_folder(path)."
            )
    return decode_once("cifar10", path, listing, size=32)


def cifar100(folder: str | Path | None = None) -> dict[str, ImageSet]:
    """Load CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 in a hundred classes.

    Parameters
    ----------
    folder : path, optional
        Where the files of the official binary version lie already. Default: that version,
        downloaded into `cache_dir` (169 MB).
    """
    if folder is not None:
        return _cifar100_binary(existing_folder(folder))
    unpacked = cache_dir() / "cifar-100"
    if not unpacked.is_dir():  # it was checked when it was unpacked
        extract(fetch("cifar100"), unpacked)
    return _cifar100_binary(unpacked / "cifar-100-binary")


def hymenoptera(folder: str | Path | None = None, size: int = 224) -> dict[str, ImageSet]:
    """Load the ants and bees of the paper's Table 1: 244 training and 153 test images.

    The test set is the archive's "val". Images are prepared as `image_folder` says.

    Parameters
    ----------
    folder : path, optional
        The unpacked archive. Default: download it into `cache_dir` (47 MB).
    size : int
        Height and width in pixels.
    """
    check_size(size)
    if folder is None:
        unpacked = cache_dir() / "hymenoptera"
        if not unpacked.is_dir():
            extract(fetch("hymenoptera"), unpacked)
        folder = unpacked / "hymenoptera_data"
    return decode("hymenoptera", list_images(existing_folder(folder)), size, _margin(size))


def image_folder(
    path: str | Path, size: int = 224, test_fraction: float = 0.2, seed: int = 0
) -> dict[str, ImageSet]:
    """Load a folder of your own images, one folder for each class.

    Parameters
    ----------
    path : path
        Either {train,test}/CLASS/ files ("val" counts as test where there is no "test"), or
        CLASS/ files, which are split here into train and test, each class alike.
    size : int
        Height and width in pixels. The shorter side is scaled to 8/7 of it (256 for 224) and
        the centre is cut out, as is usual with ImageNet networks.
    test_fraction, seed : float, int
        The share of each class that becomes the test set, and the seed of the draw.

    Raises
    ------
    DataError
        The folder is missing, has no images or one class only, its train and test sets have
        different classes, or images cannot be read (they are named).
    """
    check_size(size)
    root = existing_folder(path)
    listing = list_images(root)
    decoded = decode(root.name, listing, size, _margin(size))
    return decoded if "train" in decoded else split(decoded["all"], test_fraction, seed)


def weights_file(arch: str) -> RemoteFile:
    """Return where torchvision keeps the ImageNet weights of `arch`, and their checksum."""
    from torchvision.models import get_model_weights

    if arch not in ARCHITECTURES:
        raise ValueError(
            f"no pretrained weights for {arch!r}; there are {', '.join(ARCHITECTURES)}"
        )
    url = get_model_weights(arch)["IMAGENET1K_V1"].url
    name = url.rsplit("/", 1)[-1]
    # torchvision's promise: the digits after the dash begin the file's SHA-256.
    prefix = name.rpartition("-")[2].partition(".")[0]
    return RemoteFile(f"weights/{name}", (url,), (prefix,))


def pretrained_state(arch: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of `arch`, ready for ``load_state_dict``.

    Parameters
    ----------
    arch : {"alexnet", "resnet18", "vgg11_bn", "densenet121"}

    Raises
    ------
    DataError
        The weights are not to be had; the message says which file to put where.
    """
    path = fetch(weights_file(arch))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise DataError(
            f"{path} holds no weights that torch can load ({error}). Delete it and run again."
        ) from error
    # Old DenseNet checkpoints write "norm.1" where the modules are called "norm1".
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }


def _margin(size: int) -> int:
    return round(size * 256 / 224)


def _cifar_binary(
    folder: Path, parts: dict[str, list[str]], classes: tuple[str, ...], label: int, name: str
) -> dict[str, ImageSet]:
    """Read the official binary versions: some bytes of labels and 3072 of pixels for each image.

    ``label`` is the place of the label that is wanted, and the last of them.
    """
    sets, width = {}, label + 1 + 3072
    for part, files in parts.items():
        rows = []
        for file in files:
            path = folder / file
            got = path.stat().st_size if path.is_file() else 0
            expected = width * (50_000 if file == "train.bin" else 10_000)
            if got != expected:
                raise DataError(
                    f"{path} is missing or damaged: {got:,} of {expected:,} bytes. {_mend(folder)}"
                )
            rows.append(np.fromfile(path, dtype=np.uint8).reshape(-1, width))
        table = np.concatenate(rows)
        images = torch.from_numpy(table[:, label + 1 :].reshape(-1, 3, 32, 32).copy())
        labels = torch.from_numpy(table[:, label].astype(np.int64))
        sets[part] = ImageSet(images, labels, classes, name)
    return sets


def _mend(folder: Path) -> str:
    if folder.is_relative_to(cache_dir()):  # it lies in the one that we unpacked the archive into
        return f"Delete the folder {folder.parent} and run again."
    return "Unpack the official archive anew."


def _cifar10_binary(folder: Path) -> dict[str, ImageSet]:
    parts = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    return _cifar_binary(folder, parts, CIFAR10_CLASSES, 0, "cifar10")


def _cifar100_binary(folder: Path) -> dict[str, ImageSet]:
    names = folder / "fine_label_names.txt"  # each image has a coarse label, then this one
    classes = tuple(names.read_text(encoding="utf-8").split()) if names.is_file() else ()
    if len(classes) != 100:
        raise DataError(
            f"{names} is missing or damaged: {len(classes)} of 100 class names. {_mend(folder)}"
        )
    parts = {"train": ["train.bin"], "test": ["test.bin"]}
    return _cifar_binary(folder, parts, classes, 1, "cifar100")
