"""Pretrained image networks in two parts, features and head: any of torchvision's and timm's, by name."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..modes import evaluating
from ..store.checkpoints import checksum
from .catalogue import IMAGENET, Metadata, find
from .pretrained import pretrained

__all__ = ["Backbone", "backbone", "fingerprint"]


def backbone(name: str, weights: str | Path = "imagenet") -> Backbone:
    """A network of torchvision or timm with pretrained weights, in two parts: its features and its head.

    Parameters
    ----------
    name : str
        Torchvision's name, or else timm's, such as "resnet18" and "convnext_atto.d2_in1k"; where both
        have it, "timm/resnet18" is timm's. "efficientnet_lite0" is EfficientNet-Lite0 (timm's
        tf_efficientnet_lite0), whose weights come as a package: it needs no network.
    weights : "imagenet", "random" or path
        Those of the library's hub, or of the package; none; or a safetensors file of the network's
        state_dict, under the library's names.

    Returns
    -------
    Backbone
        In training mode, as every new module: call ``.eval()`` to use it as it is.

    Raises
    ------
    TypeError
        If the name is no string, or the weights are neither a string nor a path.
    ValueError
        If no network has this name; the message gives the nearest.
    ModuleNotFoundError
        If it is timm's, and timm is not installed.
    DataError
        If the weights are unavailable, damaged, or another network's; the message says what to do.
    """
    metadata = find(name)
    return Backbone(pretrained(metadata, weights), metadata)


def fingerprint(name: str, weights: str | Path = "imagenet") -> str:
    """What identifies the weights of a backbone by their content: 16 digits of a SHA-256."""
    return checksum(backbone(name, weights).net.state_dict())[:16]


class Backbone(nn.Module):
    """An image network in two parts: (B, 3, d, d) -> the last feature map -> (B, classes) scores.

    It takes images normalised by ImageNet's statistics, as everywhere in this library, and changes to
    its own itself. It can be wrapped whole, or only its features:

    >>> net = eq.images.backbone("efficientnet_lite0").eval()
    >>> eq.equizero(net, rot, loss=eq.entropy)         # invariant scores of the 1,000 classes
    >>> eq.equitune(net.features, rot, rot)            # equivariant feature maps

    Attributes
    ----------
    metadata : Metadata
    """

    def __init__(self, net: nn.Module, metadata: Metadata):
        super().__init__()
        self.net = net
        self.metadata = metadata
        self.own_colours = _Colours(metadata.mean, metadata.std)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.own_colours(x))

    @property
    def features(self) -> nn.Module:
        """(B, 3, d, d) -> the last feature map (B, C, h, w); the weights are the network's own.

        Raises
        ------
        ValueError
            If it has no feature map that turns with the image, as vision transformers have none.
        """
        part, _ = _parts(self.net, self.metadata)
        return part if self.own_colours.same else nn.Sequential(self.own_colours, part)

    @property
    def head(self) -> nn.Module:
        """The last feature map -> (B, classes) scores; the weights are the network's own."""
        return _parts(self.net, self.metadata)[1]

    def extra_repr(self) -> str:
        m = self.metadata
        return f"{m.name}, {m.source}'s {m.architecture}, {m.side} pixels"


class _Colours(nn.Module):
    """From ImageNet's normalisation to another one."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        (from_mean, from_std), to_mean, to_std = (
            map(torch.tensor, IMAGENET),
            torch.tensor(mean),
            torch.tensor(std),
        )
        self.same = (mean, std) == IMAGENET
        self.register_buffer("scale", (from_std / to_std)[:, None, None], persistent=False)
        shift = (from_mean - to_mean) / to_std
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.same else x * self.scale + self.shift


class _Method(nn.Module):
    """One method of a network as a module."""

    def __init__(self, net: nn.Module, method: str):
        super().__init__()
        self.net, self.method = net, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.net, self.method)(x)


# -- their parts ----------------------------------------------------------------------------------

# What comes after the last feature map, by torchvision's names.
_AFTER = ("avgpool", "dropout", "classifier", "fc", "heads", "head", "norm", "permute", "flatten")


def _parts(net: nn.Module, metadata: Metadata) -> tuple[nn.Module, nn.Module]:
    """A network's feature map and its head, tried on a random image to be the whole network."""
    split = _timm_parts if metadata.source == "timm" else _torchvision_parts
    try:
        features, head = split(net)
        size = (1, 3, metadata.side, metadata.side)
        x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(next(net.parameters()))
        with evaluating(net), evaluating(features), evaluating(head), torch.no_grad():
            maps = features(x)
            whole = torch.allclose(head(maps), net(x), rtol=1e-3, atol=1e-4)
        shape = tuple(maps.shape)
        fits, found = whole and len(shape) == 4 and shape[2] == shape[3], str(shape)
    except Exception as error:  # a network of another kind fails in its own way
        fits, found = False, f"unavailable ({error})"
    if not fits:
        raise ValueError(
            f"{metadata.name} has no last feature map (B, C, d, d) that turns with the image: its "
            f"features are {found}. Choose a convolutional network, or average its scores: "
            "eq.equitune(network, action)"
        )
    return features, head


def _timm_parts(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    return _Method(net, "forward_features"), _Method(net, "forward_head")


def _torchvision_parts(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    from torchvision.models import DenseNet

    children = dict(net.named_children())
    whole = next((name for name in ("features", "layers") if name in children), None)
    end = next((i for i, name in enumerate(children) if name in _AFTER), len(children))
    side_exits = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception, for training
    before = [whole] if whole else [name for name in list(children)[:end] if name not in side_exits]
    features = children[whole] if whole else nn.Sequential(*(children[name] for name in before))
    if isinstance(net, DenseNet):
        features = nn.Sequential(features, nn.ReLU(inplace=True))
    head = copy.copy(net)  # the network itself, with nothing before the last feature map
    head._modules = net._modules | {name: nn.Identity() for name in before}
    return features, head
