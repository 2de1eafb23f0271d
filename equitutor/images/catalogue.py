"""Image networks by name: those of torchvision and of timm, and what these libraries say of them.

Importing this module imports neither torchvision nor timm, which take seconds; the functions do.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain
from typing import Any

__all__ = [
    "IMAGENET",
    "KNOWN",
    "LITE0",
    "BackboneName",
    "Metadata",
    "find",
    "labels",
    "min_side",
    "timm_for",
    "torchvision_weights",
]

#: Mean and standard deviation of ImageNet's colours (RGB, 0 to 1), by which all inputs are normalised.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

#: The backbones of the book: known without importing torchvision or timm.
KNOWN = ("alexnet", "resnet18", "vgg11_bn", "densenet121", "squeezenet1_1", "efficientnet_lite0")

#: EfficientNet-Lite0, whose ImageNet weights come as a package, and timm's name of it.
LITE0, LITE0_ARCHITECTURE = "efficientnet_lite0", "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Metadata:
    """What torchvision or timm says of a network.

    Attributes
    ----------
    name : str
        As in :func:`equitutor.images.backbone`.
    source, architecture : str
        "torchvision" or "timm", and the network's name there.
    side, min_side : int
        Side of its images in pixels: in the pretraining, and the smallest, a multiple of 32.
    mean, std : three floats each
        The colour statistics (RGB, 0 to 1) that its pretraining normalised by.
    """

    name: str
    source: str
    architecture: str
    side: int
    min_side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def find(name: str) -> Metadata:
    """What torchvision or timm says of the network of this name; see :func:`equitutor.images.backbone`."""
    if not isinstance(name, str):
        raise TypeError(f"a backbone has a name, such as 'resnet18'; got {name!r}")
    library, _, architecture = name.rpartition("/")
    if name == LITE0:
        return _from_timms_config(name, LITE0_ARCHITECTURE)
    if library in ("", "torchvision") and architecture in _torchvision_names():
        return _from_torchvisions_weights(name, architecture)
    if library == "timm" or (not library and find_spec("timm")):
        timm = timm_for(name)
        if timm.is_model(architecture):
            return _from_timms_config(name, architecture)
    raise ValueError(f"there is no backbone {name!r}; {_nearest(name)}")


def min_side(name: str) -> int:
    """The smallest side in pixels of a network's images, a multiple of 32."""
    return find(name).min_side


@dataclass(frozen=True)
class BackboneName:
    """The rule of an option: a name that :func:`find` knows."""

    def __contains__(self, value: str) -> bool:
        if value in KNOWN:
            return True
        try:
            find(value)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return "the name of a network of torchvision or timm"

    def advice(self, value: str) -> str:
        """Why a name is wrong, and what may have been meant."""
        try:
            find(value)
        except ValueError as error:
            return str(error).removeprefix(f"there is no backbone {value!r}").lstrip(":; ")
        return ""


def _nearest(name: str) -> str:
    own = name.rpartition("/")[2]
    others = [
        *sorted(_torchvision_names()),
        *(timm_for(name).list_models() if find_spec("timm") else ()),
    ]
    near = (difflib.get_close_matches(own.lower(), names) for names in (KNOWN, others))
    close = list(dict.fromkeys(chain(*near)))[:3]
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(KNOWN)}, ..."
    return meant if find_spec("timm") else f"{meant} (timm has many more: pip install timm)"


@cache
def _torchvision_names() -> frozenset[str]:
    from torchvision import models

    return frozenset(models.list_models(module=models))


def timm_for(name: str) -> Any:
    """The module timm, for the network of this name."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} is a network of timm, which is not installed: pip install timm"
        ) from error
    return timm


def _from_torchvisions_weights(name: str, architecture: str) -> Metadata:
    weights = torchvision_weights(architecture)
    transform = weights.transforms()
    least = max(weights.meta["min_size"])
    mean, std = tuple(transform.mean), tuple(transform.std)
    if architecture in (
        "googlenet",
        "inception_v3",
    ):  # torchvision says it by their transform_input
        mean = std = (0.5, 0.5, 0.5)
    return Metadata(
        name=name,
        source="torchvision",
        architecture=architecture,
        side=transform.crop_size[0],
        min_side=-(-least // 32) * 32,
        mean=mean,
        std=std,
    )


def _from_timms_config(name: str, architecture: str) -> Metadata:
    timm = timm_for(name)
    try:
        config = timm.get_pretrained_cfg(architecture)
    except RuntimeError as error:  # of a tag, such as "a1_in1k"
        raise ValueError(f"there is no backbone {name!r}: {error}; {_nearest(name)}") from error
    if config is None:  # of "xception" and other old names, which timm alone can translate
        said = f"it is an old name; timm.create_model({architecture!r}) says the new one"
        raise ValueError(f"there is no backbone {name!r}: {said}")
    least = config.min_input_size or (config.input_size if config.fixed_input_size else (3, 32, 32))
    return Metadata(
        name=name,
        source="timm",
        architecture=architecture,
        side=config.input_size[-1],
        min_side=-(-least[-1] // 32) * 32,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def torchvision_weights(architecture: str) -> Any:
    """Torchvision's entry of the first ImageNet weights of a network."""
    from torchvision.models import get_model_weights

    known = get_model_weights(architecture)
    return next((w for w in known if w.name == "IMAGENET1K_V1"), next(iter(known)))


def labels() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the scores."""
    return tuple(torchvision_weights("resnet18").meta["categories"])
