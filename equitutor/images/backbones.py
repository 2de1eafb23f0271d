"""Pretrained image networks: what is known about each, and their ImageNet weights.

Importing this module does not import torchvision, which takes seconds; the functions do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn

from ..store.checkpoints import checksum
from ..store.download import RemoteFile, fetch
from ..store.files import DataError

__all__ = [
    "BACKBONES",
    "IMAGENET",
    "Backbone",
    "backbone",
    "imagenet_fingerprint",
    "imagenet_state",
    "pretrained_state",
    "weights_file",
]

#: Mean and standard deviation of ImageNet's colours (RGB, 0 to 1), which torchvision's weights expect.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Backbone:
    """What the library knows about an image network.

    Attributes
    ----------
    name : str
        Torchvision's name of the whole network.
    convolutional : callable
        Takes the whole network and returns its convolutional part: (B, 3, d, d) -> last feature map.
    min_side : int
        Smallest side of its input images in pixels.
    lr_scale : float
        Factor of the learning rate in the pretraining on upright images.
    """

    name: str
    convolutional: Callable[[nn.Module], nn.Module] = attrgetter("features")
    min_side: int = 32
    lr_scale: float = 1.0

    def side(self, size: int) -> int:
        """The image side to use: ``size``, or more where the network needs it."""
        return max(size, self.min_side)

    def build(self) -> nn.Module:
        """The whole network, randomly initialised."""
        from torchvision.models import get_model

        return get_model(self.name, weights=None)


#: The backbones by name.
BACKBONES = {
    record.name: record
    for record in (
        # AlexNet has no batch norm and diverges at the learning rate of the others.
        Backbone("alexnet", min_side=64, lr_scale=0.4),
        Backbone("resnet18", lambda net: nn.Sequential(*list(net.children())[:-2])),
        Backbone("vgg11_bn"),  # with batch norm, as in the published code
        Backbone("densenet121", lambda net: nn.Sequential(net.features, nn.ReLU(inplace=True))),
    )
}


def backbone(name: str) -> nn.Module:
    """The convolutional part of a network, randomly initialised: (B, 3, d, d) -> last feature map."""
    return BACKBONES[name].convolutional(BACKBONES[name].build())


def imagenet_state(name: str) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights of ``backbone(name)``, ready for its ``load_state_dict``."""
    net = BACKBONES[name].build()
    net.load_state_dict(pretrained_state(name))
    return BACKBONES[name].convolutional(net).state_dict()


def imagenet_fingerprint(name: str) -> str:
    """What identifies torchvision's ImageNet weights of a backbone by their content."""
    return checksum(imagenet_state(name))[:16]


def weights_file(arch: str) -> RemoteFile:
    """Return where torchvision keeps the ImageNet weights of ``arch``, and their checksum."""
    from torchvision.models import get_model_weights

    if arch not in BACKBONES:
        raise ValueError(f"no pretrained weights for {arch!r}; choose from {', '.join(BACKBONES)}")
    url = get_model_weights(arch)["IMAGENET1K_V1"].url
    name = url.rsplit("/", 1)[-1]
    # torchvision promises that the digits after the dash begin the file's SHA-256.
    prefix = name.rpartition("-")[2].partition(".")[0]
    return RemoteFile(f"weights/{name}", (url,), (prefix,))


def pretrained_state(arch: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of the whole network, ready for ``load_state_dict``.

    Parameters
    ----------
    arch : {"alexnet", "resnet18", "vgg11_bn", "densenet121"}

    Raises
    ------
    DataError
        If the weights are unavailable; the message says which file to put where.
    """
    path = fetch(weights_file(arch))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise DataError(
            f"{path} holds no weights that torch can load ({error}). Delete it and run again."
        ) from error
    # Old DenseNet checkpoints write "norm.1" where the modules are called "norm1".
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }
