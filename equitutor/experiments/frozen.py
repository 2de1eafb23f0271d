"""Pretrained networks as they are: what can be had on turned images without touching their weights.

The network answers with its own 1,000 classes, or a head is trained on its features, and the answers for
the views of an image are averaged under each weighting. The features of the views are computed once. One
cell is one data set x backbone x head x group x method x seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..actions import Action, Trivial
from ..environment import generator
from ..groups import cyclic
from ..images import backbones, imagenet
from ..images.backbones import backbone
from ..images.catalogue import KNOWN, BackboneName, labels, min_side
from ..images.data import LOADERS
from ..images.imageset import ImageSet
from ..images.pretrained import WeightsName
from ..images.training import fingerprint, limit, load
from ..images.views import ViewsAction, ViewSet, on_views, view_set
from ..options import Batch, Choice, Count, Momentum, Name, Natural, Rate, Seeds, Size
from ..rotations import Rotations
from ..symmetrize import GroupAverage
from ..weights import entropy
from .choices import weighted
from .config import BaseConfig, Cell, Source, distinct, product, shown
from .methods import LOSSES, measured
from .runner import run
from .vision import GROUPS

if TYPE_CHECKING:
    from . import clip, landscape

__all__ = ["HEADS", "METHODS", "Config", "prepare", "run", "run_cell", "train_head", "views"]

#: Who answers: the network's own classes, grouped as the data's; all of its classes; a head trained here.
HEADS = ("own", "own 1000", "trained")

#: "none" is the network itself; "augmented" and "equi-tuned" are heads trained on turned images and on
#: averaged features; the others average a head that was trained on upright images.
METHODS = (
    *("none", "augmented", "equi-tuned"),
    *("equitune", "equizero", "equizero-top", "equizero-max", "lambda", "attention"),
)
_HEAD_ONLY = ("augmented", "equi-tuned")
_DRAWN = (*_HEAD_ONLY, "lambda", "attention")  # of the own heads, what depends on the seed


@dataclass(frozen=True)
class Config(BaseConfig):
    """What is measured with frozen networks. The first six fields span the table.

    Attributes
    ----------
    dataset : "digits", "cifar10", "hymenoptera", or the path of an image folder
    backbones, heads, groups, methods, seeds : the rows and repetitions
    folder : where the data set lies already; empty: download it
    size : side in pixels at which the network sees the images
    weights : "imagenet", or a safetensors file of a network's weights
    pool_limit : number of training images whose views are computed, drawn once; 0: all
    train_limit, tune_limit, test_limit : number of images of the head's training, of lambda's and the
        tuning, and of the test; 0: all. Drawn by the seed, except the test images
    head_epochs, head_lr : of the trained heads (AdamW, batches of 64, the rate falls to 0)
    lambda_epochs, lambda_lr : of the weights alone (Adam, batches of 32)
    epochs, batch_size, lr, momentum : of the tuning of the trained head and the weights together
    """

    spans = ("dataset", "backbones", "heads", "groups", "methods", "seeds", "folder", "weights")

    dataset: Name = "digits"
    backbones: Annotated[tuple[str, ...], BackboneName()] = ("efficientnet_lite0",)
    heads: Annotated[tuple[str, ...], Choice(HEADS)] = ("trained",)
    groups: Annotated[tuple[str, ...], Choice(GROUPS)] = ("c4",)
    methods: Annotated[tuple[str, ...], Choice(METHODS)] = METHODS
    seeds: Seeds = (0, 1, 2, 3, 4)
    folder: str = ""
    size: Size = 64
    weights: Annotated[str, WeightsName(("imagenet",))] = "imagenet"
    pool_limit: Natural = 0
    train_limit: Natural = 0
    tune_limit: Natural = 500
    test_limit: Natural = 0
    head_epochs: Count = 20
    head_lr: Rate = 1e-3
    lambda_epochs: Natural = 5
    lambda_lr: Rate = 1e-3
    epochs: Natural = 5
    batch_size: Batch = 32
    lr: Rate = 1e-3
    momentum: Momentum = 0.9

    @classmethod
    def quick(cls) -> Config:
        """Digits at 64 pixels, no network: one seed, half a minute on a laptop's CPU."""
        return cls(seeds=(0,), pool_limit=400, tune_limit=300, test_limit=150)

    @classmethod
    def lite0(cls) -> Config:
        """CIFAR-10 at 160 pixels, all heads: three quarters of an hour on one core of a CPU."""
        return cls(
            dataset="cifar10",
            heads=HEADS[::2],
            groups=("c4", "d4"),
            size=160,
            pool_limit=20_000,
            train_limit=15_000,
            tune_limit=2_000,
            head_epochs=10,
        )

    @classmethod
    def insects(cls) -> Config:
        """Hymenoptera at 224 pixels, all heads: five minutes on one core of a CPU."""
        limits = replace(cls.lite0(), train_limit=0, tune_limit=0, head_epochs=20)
        limits = replace(limits, lambda_epochs=40, lambda_lr=3e-3)  # there are few images
        return replace(limits, dataset="hymenoptera", heads=HEADS, size=224)

    @classmethod
    def paper(cls) -> Config:
        """CIFAR-10 at 224 pixels with the paper's four networks. Needs a GPU and the network."""
        return replace(cls.lite0(), size=224, backbones=KNOWN[:4], pool_limit=0, train_limit=0)

    def cells(self) -> list[Cell]:
        """The key of every cell.

        "none" and "augmented" have the group of one element; of the network's own answers, what nothing is
        drawn for has the first seed only.
        """
        every = product(
            dataset=[shown(self.dataset, LOADERS)],
            backbone=self.backbones,
            head=self.heads,
            group=self.groups,
            method=self.methods,
            seed=self.seeds,
        )

        def wanted(cell: Cell) -> Cell | None:
            method, own = cell["method"], cell["head"] != "trained"
            if own and method in _HEAD_ONLY:
                return None
            if method in ("none", "augmented"):
                cell = cell | {"group": "none"}
            return cell | {"seed": self.seeds[0]} if own and method not in _DRAWN else cell

        return distinct(filter(None, map(wanted, every)))

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        unused = [] if cell["method"] in ("lambda", "attention") else ["lambda_epochs", "lambda_lr"]
        if cell["head"] != "trained":
            unused += [
                "train_limit",
                "head_epochs",
                "head_lr",
                "epochs",
                "batch_size",
                "lr",
                "momentum",
            ]
            if cell["method"] not in _DRAWN:
                unused += ["pool_limit", "tune_limit"]
        return unused

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        return {
            "images": (fingerprint, self.dataset, self.folder),
            "weights": (backbones.fingerprint, cell["backbone"], self.weights),
        }


# -- the models -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)  # cells that come one after the other share them
def views(
    config: Config | landscape.Config,
    name: str,
    group: str,
    device: torch.device | str = "cpu",
) -> dict[str, ViewSet]:
    """What a backbone says of the views of the training pool and of the test images."""
    return pool_views(config, name, Rotations(GROUPS[group]), group, device)


def pool_views(
    config: Config | clip.Config | landscape.Config,
    name: str,
    action: Action,
    title: str,
    device: torch.device | str = "cpu",
) -> dict[str, ViewSet]:
    """The same under any action on images, and for every config with a pool."""
    if config.size < (least := min_side(name)):
        raise ValueError(f"{name} needs a size of at least {least} pixels, got {config.size}")
    sets = load(config.dataset, config.folder, config.size)
    net = backbone(name, config.weights)
    chosen = {
        "train": limit(sets["train"], config.pool_limit, 0),
        "test": limit(sets["test"], config.test_limit, 0),
    }
    return {
        part: view_set(net, images, action, config.size, device, f"{name} sees {part} {title}")
        for part, images in chosen.items()
    }


def train_head(
    config: Config | landscape.Config, train: ViewSet, method: str, seed: int
) -> nn.Linear:
    """Train a linear head on the frozen features of upright images, or as METHODS says."""
    features = train.images[..., : train.channels]  # (N, |G|, channels)
    order = generator(seed)
    torch.manual_seed(seed)
    head = nn.Linear(train.channels, len(train.classes))
    optimizer = torch.optim.AdamW(head.parameters(), config.head_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.head_epochs)
    for _ in range(config.head_epochs):
        for rows in torch.randperm(len(train), generator=order).split(64):
            x = features[rows]
            if method == "equi-tuned":
                x = x.mean(1)
            elif method == "augmented":
                x = x[range(len(x)), torch.randint(x.shape[1], (len(x),), generator=order)]
            else:
                x = x[:, 0]
            loss = cross_entropy(head(x), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return head


def answering(config: Config, sets: dict[str, ViewSet], head: str) -> dict[str, ViewSet]:
    """The images with the labels that the head gives: of all of ImageNet's classes for "own 1000".

    Raises
    ------
    ValueError
        If the head is the network's own, and its classes are not ImageNet's 1,000.
    """
    test = sets["test"]
    if head != "trained" and (count := test.images.shape[2] - test.channels) != len(labels()):
        raise ValueError(
            f"the heads own and own 1000 need a network of ImageNet's 1,000 classes, not of {count:,}; "
            "choose another one, or the head trained"
        )
    if head != "own 1000":
        return sets
    number = torch.tensor([group[0] for group in _groups(config, test)])
    classes = labels()
    return {
        part: replace(views, labels=number[views.labels], classes=classes)
        for part, views in sets.items()
    }


def _groups(config: Config | landscape.Config, images: ViewSet | ImageSet) -> list[tuple[int, ...]]:
    known = imagenet.GROUPS.get(shown(config.dataset, LOADERS), {})
    missing = [name for name in images.classes if name not in known]
    if missing:
        raise ValueError(
            f"it is not known which of ImageNet's classes are {missing[0]!r} of {config.dataset}: the own "
            f"head answers for {' and '.join(imagenet.GROUPS)}; choose the head trained"
        )
    return [known[name] for name in images.classes]


def model_of(config: Config, cell: Cell, sets: dict[str, ViewSet]) -> GroupAverage:
    """The averaged classifier of a cell, on the views of these images."""
    method, test, seed = str(cell["method"]), sets["test"], int(cell["seed"])
    group = GROUPS[_group_of_views(cell)]
    if cell["head"] == "trained":
        train = limit(sets["train"], config.train_limit, seed)
        head: nn.Module = train_head(config, train, method, seed)
    elif cell["head"] == "own":
        head = imagenet.OwnClasses(_groups(config, test))
    else:
        head = nn.Identity()
    torch.manual_seed(seed)
    base = on_views(test, head, group, own=cell["head"] != "trained")
    alone = method in ("none", "augmented")
    return weighted(
        {"augmented": "none", "equi-tuned": "equitune"}.get(method, method),
        base,
        Trivial(cyclic(1)) if alone else ViewsAction(group),
        loss=LOSSES.get(method, entropy),
        width=test.channels,
        features="features",
    )


# -- one cell -------------------------------------------------------------------------------------


def prepare(config: Config | landscape.Config, cells: list[Cell], device: str) -> list[tuple]:
    """The views of each backbone under each group, to be computed once."""
    views.cache_clear()  # the images may have changed since an earlier run
    if any(cell["head"] != "trained" for cell in cells):  # their error now, not after the views
        _groups(config, load(config.dataset, config.folder, config.size)["test"])
    once = dict.fromkeys((cell["backbone"], _group_of_views(cell)) for cell in cells)
    return [(views, config, *which, device) for which in once]


def _group_of_views(cell: Mapping[str, Any]) -> str:
    return "c4" if cell["group"] == "none" else cell["group"]


def run_cell(config: Config, cell: Cell, device: torch.device | str = "cpu") -> dict[str, float]:
    """Average a frozen network's answers and measure: see :func:`equitutor.experiments.methods.measured`.

    Returns
    -------
    dict
        Also ``images``, the number of test images. Only a trained head is tuned.
    """
    group = _group_of_views(cell)
    sets = views(config, str(cell["backbone"]), group, device)
    sets = answering(config, sets, str(cell["head"]))
    model = model_of(config, cell, sets).to(device)
    if cell["head"] != "trained" or cell["method"] in _HEAD_ONLY:
        config = replace(config, epochs=0)
    found = measured(config, cell, model, sets, config.size, device, ViewsAction(GROUPS[group]))
    return {**found, "images": len(sets["test"])}
