"""Image classification with equi-tuned CNNs (AAAI paper, Sec. 6.1, Tables 1 and 6).

A pretrained backbone whose feature maps are averaged over the group, with an invariant head on top,
is tuned on upright images and tested on turned ones. One cell of the table is one backbone x group x
augmentation x seed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..groups import FiniteGroup, cyclic, dihedral
from ..images import backbones
from ..images.backbones import KNOWN, BackboneName, WeightsName, backbone
from ..images.data import LOADERS
from ..images.training import (
    evaluate,
    fingerprint,
    limit,
    load,
    lr_scale,
    train_upright,
    tune,
)
from ..layers import InvariantHead
from ..methods import equitune
from ..options import Batch, Choice, Count, Momentum, Name, Natural, Rate, Seeds, Size
from ..rotations import Rotations
from ..store import checkpoints
from .config import BaseConfig, Cell, Source, product, shown
from .runner import run

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "GROUPS",
    "WEIGHTS",
    "Config",
    "classifier",
    "prepare",
    "pretrain",
    "run",
    "run_cell",
]

#: The groups of the tables. "none" is the group of one element: ordinary fine-tuning.
GROUPS = {"none": cyclic(1), "c4": cyclic(4), "d4": dihedral(4)}

#: Turns of the training images: none, or a random one of the four for each image.
AUGMENTATIONS = ("none", "c4")

#: The paper's four networks.
BACKBONES = KNOWN[:4]

#: Where weights come from, if not from a file: trained here on upright images, or ImageNet's.
WEIGHTS = ("upright", "imagenet")


@dataclass(frozen=True)
class Config(BaseConfig):
    """What an image experiment runs. The first five fields span the table.

    Attributes
    ----------
    dataset : "digits", "cifar10", "hymenoptera", or the path of an image folder
    backbones, groups, augmentations, seeds : the rows, columns and repetitions
    folder, pretrain_folder : where the data sets lie already; empty: download them
    size, pretrain_size : side of the images in pixels, in the tuning and in the pretraining
    weights : "upright" (pretrain the backbone here first, on upright images), "imagenet" (those that
        its library knows), or a safetensors file of a network's weights
    pretrain_on : data set of the pretraining; empty: the same one
    train_limit, test_limit : number of images to use, drawn by the seed; 0: all
    epochs, batch_size, lr, momentum : of the tuning (Sec. 6.1: 10, 8, 3e-4, 0.9)
    pretrain_epochs, pretrain_lr, pretrain_batch : of the pretraining (one-cycle)
    """

    spans = (
        *("dataset", "weights", "backbones", "groups", "augmentations", "seeds"),
        *("folder", "pretrain_on", "pretrain_folder"),
    )
    later = ("pretrain_batch",)

    dataset: Name = "digits"
    backbones: Annotated[tuple[str, ...], BackboneName()] = BACKBONES
    groups: Annotated[tuple[str, ...], Choice(GROUPS)] = ("none", "c4", "d4")
    augmentations: Annotated[tuple[str, ...], Choice(AUGMENTATIONS)] = ("none", "c4")
    seeds: Seeds = (0, 1, 2)
    folder: str = ""
    size: Size = 32
    weights: Annotated[str, WeightsName(WEIGHTS)] = "upright"
    pretrain_on: str = ""
    pretrain_folder: str = ""
    train_limit: Natural = 0
    test_limit: Natural = 0
    epochs: Natural = 10
    batch_size: Batch = 8
    lr: Rate = 3e-4
    momentum: Momentum = 0.9
    pretrain_epochs: Count = 10
    pretrain_lr: Rate = 0.05
    pretrain_size: Size = 32
    pretrain_batch: Batch = 128

    @classmethod
    def quick(cls) -> Config:
        """Digits on a laptop's CPU, no network: one backbone, one seed, about a minute."""
        return cls(
            backbones=("resnet18",),
            seeds=(0,),
            train_limit=120,
            test_limit=60,
            epochs=2,
            pretrain_epochs=2,
            pretrain_batch=32,
        )

    @classmethod
    def upright(cls) -> Config:
        """Backbones pretrained here on upright images, three seeds: hours on a CPU."""
        return cls()

    @classmethod
    def paper(cls) -> Config:
        """Table 1 (with ``dataset="cifar10"`` Table 6): ImageNet weights, 224 pixels, five seeds.

        Needs a GPU and the network.
        """
        return cls(dataset="hymenoptera", size=224, weights="imagenet", seeds=(0, 1, 2, 3, 4))

    @classmethod
    def squeezenet(cls) -> Config:
        """Table 1 with SqueezeNet 1.1: the paper's settings in three hours of a CPU's core."""
        return replace(cls.paper(), backbones=("squeezenet1_1",))

    @classmethod
    def lite0(cls) -> Config:
        """Table 1 with EfficientNet-Lite0: the paper's settings in two hours of a core for each seed."""
        return replace(cls.paper(), backbones=("efficientnet_lite0",))

    def cells(self) -> list[Cell]:
        """The key of every cell of the table."""
        return product(
            dataset=[self.dataset_name],
            weights=[shown(self.weights, WEIGHTS)],
            backbone=self.backbones,
            group=self.groups,
            augmentation=self.augmentations,
            seed=self.seeds,
        )

    @property
    def dataset_name(self) -> str:
        """The data set as the tables call it."""
        return shown(self.dataset, LOADERS)

    def side(self, backbone: str) -> int:
        """The image side for this backbone: ``size``, or more where the network needs it."""
        return max(self.size, backbones.min_side(backbone))

    def settings(self, cell: Mapping[str, Any] | None = None) -> dict[str, Any]:
        settings = super().settings(cell)
        if self.weights != "upright":
            return {k: v for k, v in settings.items() if not k.startswith("pretrain")}
        return settings | {"pretrain_on": shown(self.pretrain_on or self.dataset, LOADERS)}

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {"images": (fingerprint, self.dataset, self.folder)}
        before = (fingerprint, self.pretrain_on, self.pretrain_folder)
        if self.weights != "upright":
            found["weights"] = (backbones.fingerprint, cell["backbone"], self.weights)
        elif self.pretrain_on and before != found["images"]:
            found["pretrained on"] = before
        return found


# -- models ---------------------------------------------------------------------------------------


def classifier(net: nn.Module, group: FiniteGroup, size: int, classes: int) -> nn.Module:
    """The model of the table: equi-tuned feature maps, then the head of Fig. 1b.

    With the group of one element this is ordinary fine-tuning, Fig. 1a.
    """
    rot = Rotations(group)
    with torch.no_grad():
        shape = net(torch.zeros(2, 3, size, size, device=next(net.parameters()).device)).shape
    return nn.Sequential(equitune(net, rot, rot), InvariantHead(rot, shape[1], shape[2], classes))


def pretrain(config: Config, name: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The backbone's state_dict: ImageNet's, or after training here on upright images.

    Upright training uses shifted images, neither turned nor mirrored. It is done once for each
    backbone and kept in the cache folder: the seeds of the table share it.
    """
    if config.weights != "upright":
        return backbone(name, config.weights).features.state_dict()
    source = config.pretrain_on or config.dataset
    folder = config.pretrain_folder if config.pretrain_on else config.folder
    size = max(config.pretrain_size, backbones.min_side(name))
    recipe = {
        "backbone": name,
        "data": shown(source, LOADERS),
        "images": fingerprint(source, folder),
        "size": size,
        "epochs": config.pretrain_epochs,
        "lr": config.pretrain_lr,
    }
    if config.pretrain_batch != Config.pretrain_batch:
        recipe["batch"] = config.pretrain_batch

    def make() -> dict[str, Tensor]:
        train = load(source, folder, size)["train"]
        torch.manual_seed(0)
        net = backbone(name, "random").features.to(device)
        model = classifier(net, GROUPS["none"], size, len(train.classes)).to(device)
        lr = config.pretrain_lr * lr_scale(net)
        title = f"pretrain {name} on {source}"
        epochs, batch = config.pretrain_epochs, config.pretrain_batch
        train_upright(model, train, size, epochs, lr, 0, device, title, batch)
        return net.cpu().state_dict()

    return checkpoints.kept(f"upright-{recipe['data']}-{name}", recipe, make)


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The pretraining of each backbone that the cells need, to be done once."""
    names = dict.fromkeys(cell["backbone"] for cell in cells)
    return [(pretrain, config, name, device) for name in names]


# -- one cell -------------------------------------------------------------------------------------


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Pretrained backbone -> model -> tuned -> metrics, for one cell of the table.

    Returns
    -------
    dict
        The metrics of :func:`equitutor.images.training.evaluate`, and ``tune_seconds``.
    """
    name, seed = cell["backbone"], cell["seed"]
    size = config.side(name)
    sets = load(config.dataset, config.folder, size)
    net = backbone(name, "random").features
    net.load_state_dict(pretrain(config, name, device))
    torch.manual_seed(seed)
    group = GROUPS[cell["group"]]
    net = net.to(device, memory_format=torch.channels_last)  # up to twice as fast on a CPU
    model = classifier(net, group, size, len(sets["train"].classes)).to(device)
    train = limit(sets["train"], config.train_limit, seed)
    start = time.perf_counter()
    title, turned = " ".join(map(str, cell.values())), cell["augmentation"] == "c4"
    tune(model, train, config, size, seed, device, title, turned=turned)
    seconds = time.perf_counter() - start
    metrics = evaluate(model, limit(sets["test"], config.test_limit, 0), size, device)
    return {**metrics, "tune_seconds": seconds}
