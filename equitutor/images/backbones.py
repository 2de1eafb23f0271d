"""The convolutional parts of torchvision's networks, with ImageNet weights or without."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from . import data

#: Builders of torchvision, and a side of images that is large enough for the network.
BACKBONES = {
    "alexnet": (torchvision.models.alexnet, 63),
    "resnet18": (torchvision.models.resnet18, 32),
    "vgg11_bn": (torchvision.models.vgg11_bn, 32),  # with batch norm, as in the published code
    "densenet121": (torchvision.models.densenet121, 32),
}


def backbone(name: str) -> nn.Module:
    """The convolutional part of a torchvision network: (B, 3, d, d) -> last feature map."""
    return _convolutional(name, BACKBONES[name][0](weights=None))


def _convolutional(name: str, whole: nn.Module) -> nn.Module:
    if name == "resnet18":
        return nn.Sequential(*list(whole.children())[:-2])
    if name == "densenet121":
        return nn.Sequential(whole.features, nn.ReLU(inplace=True))
    return whole.features


def imagenet_state(name: str) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights of the backbone, ready for its ``load_state_dict``."""
    whole = BACKBONES[name][0](weights=None)
    whole.load_state_dict(data.pretrained_state(name))
    return _convolutional(name, whole).state_dict()
