"""The methods on turned images: equitune, equizero and lambda-equitune (NeurIPS paper, CNNs).

A whole classifier, trained on upright images, is averaged under each weighting of its views: tested
at once (zero-shot), then tuned. One cell is one data set x backbone x group x method x seed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn

from ..actions import Action
from ..choosers import Canonical, prior_loss
from ..images import backbones
from ..images.backbones import backbone
from ..images.catalogue import BackboneName, min_side
from ..images.data import LOADERS
from ..images.imageset import Labelled
from ..images.pretrained import WeightsName
from ..images.training import (
    batches,
    evaluate,
    fingerprint,
    limit,
    load,
    lr_scale,
    to_input,
    train_upright,
    tune,
)
from ..options import Batch, Choice, Count, Momentum, Name, Natural, Rate, Seeds, Size
from ..rotations import Rotations
from ..store import checkpoints
from ..symmetrize import GroupAverage
from ..testing import equivariance_error
from ..weights import entropy, max_value, top_probability
from .choices import weighted
from .config import BaseConfig, Cell, Source, distinct, product, shown
from .runner import run
from .vision import GROUPS

if TYPE_CHECKING:
    from . import clip, frozen, landscape

__all__ = [
    "LOSSES",
    "METHODS",
    "Config",
    "classifier",
    "mean_weights",
    "measured",
    "prepare",
    "pretrain",
    "run",
    "run_cell",
    "train_lambda",
    "wrapped",
]

#: What the backbone starts from, if not from a file.
WEIGHTS = ("random", "imagenet")

#: The methods; "none" is the pretrained classifier itself.
METHODS = ("none", "equitune", "equizero", "equizero-top", "lambda")

#: What each kind of equizero minimises.
#:
#: :meta hide-value:
LOSSES = {"equizero": entropy, "equizero-top": top_probability, "equizero-max": max_value}


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a comparison of methods runs. The first five fields span the table.

    Attributes
    ----------
    dataset : "digits", "cifar10", or the path of an image folder
    backbones, groups, methods, seeds : the rows and repetitions; each seed has its own classifier
    folder : where the data set lies already; empty: download it
    size : side of the images in pixels
    weights : the backbone starts from "random" weights, from "imagenet", or from a safetensors file
    train_limit, tune_limit, test_limit : number of images of the pretraining, the tuning, the test;
        0: all. Drawn by the seed, except the test images, which are the same for all seeds
    pretrain_epochs, pretrain_lr, pretrain_batch : of the classifier, on upright images (one-cycle)
    lambda_epochs, lambda_lr : of lambda alone, with the classifier frozen (Adam, batches of 32)
    epochs, batch_size, lr, momentum : of the tuning
    """

    spans = ("dataset", "weights", "backbones", "groups", "methods", "seeds", "folder")
    later = ("pretrain_batch",)

    dataset: Name = "digits"
    backbones: Annotated[tuple[str, ...], BackboneName()] = ("resnet18", "alexnet")
    groups: Annotated[tuple[str, ...], Choice(GROUPS)] = ("c4",)
    methods: Annotated[tuple[str, ...], Choice(METHODS)] = METHODS
    seeds: Seeds = (0, 1, 2, 3, 4)
    folder: str = ""
    size: Size = 32
    weights: Annotated[str, WeightsName(WEIGHTS)] = "random"
    train_limit: Natural = 0
    tune_limit: Natural = 500
    test_limit: Natural = 0
    pretrain_epochs: Count = 15
    pretrain_lr: Rate = 0.05
    pretrain_batch: Batch = 128
    lambda_epochs: Natural = 5
    lambda_lr: Rate = 1e-3
    epochs: Natural = 5
    batch_size: Batch = 32
    lr: Rate = 1e-3
    momentum: Momentum = 0.9

    @classmethod
    def quick(cls) -> Config:
        """Digits on a laptop's CPU, no network: one small backbone, one seed, under a minute."""
        return cls(
            backbones=("resnet18",),
            seeds=(0,),
            tune_limit=120,
            test_limit=100,
            pretrain_epochs=2,
            pretrain_batch=32,
            lambda_epochs=5,
            epochs=2,
        )

    @classmethod
    def upright(cls) -> Config:
        """Classifiers trained here on upright digits, five seeds: an hour on a CPU."""
        return cls()

    @classmethod
    def paper(cls) -> Config:
        """CIFAR-10 with ImageNet weights at 224 pixels. Needs a GPU and the network."""
        return cls(dataset="cifar10", size=224, weights="imagenet", pretrain_epochs=2)

    def cells(self) -> list[Cell]:
        """The key of every cell of the table; "none" has the group of one element."""
        every = product(
            dataset=[shown(self.dataset, LOADERS)],
            weights=[shown(self.weights, WEIGHTS)],
            backbone=self.backbones,
            group=self.groups,
            method=self.methods,
            seed=self.seeds,
        )
        return distinct(c | ({"group": "none"} if c["method"] == "none" else {}) for c in every)

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        return () if cell["method"] == "lambda" else ("lambda_epochs", "lambda_lr")

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {"images": (fingerprint, self.dataset, self.folder)}
        if self.weights != "random":
            found["weights"] = (backbones.fingerprint, cell["backbone"], self.weights)
        return found

    def side(self, backbone: str) -> int:
        """The image side for this backbone: ``size``, or more where the network needs it."""
        return max(self.size, min_side(backbone))


# -- models ---------------------------------------------------------------------------------------


def classifier(name: str, classes: int, size: int) -> nn.Sequential:
    """A backbone, the mean over its last feature map (``features``), and a linear layer."""
    net = backbone(name, "random").features.eval()
    with torch.no_grad():
        channels = net(torch.zeros(1, 3, size, size)).shape[1]
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(channels, classes)
    return nn.Sequential(OrderedDict(backbone=net, features=pool, head=head))


def wrapped(method: str, model: nn.Sequential, group: str) -> GroupAverage:
    """A classifier under the weighting of this method: invariant scores."""
    rot = Rotations(GROUPS["none" if method == "none" else group])
    loss, width = LOSSES.get(method, entropy), model.head.in_features
    return weighted(method, model, rot, loss=loss, width=width, features="features")


def pretrain(
    config: Config, name: str, seed: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The classifier's state_dict after training on upright images; kept in the cache folder."""
    size = config.side(name)
    keys = ("weights", "train_limit", "pretrain_epochs", "pretrain_lr")
    recipe = {key: getattr(config, key) for key in keys}
    if config.weights not in WEIGHTS:  # a file
        recipe["weights"] = backbones.fingerprint(name, config.weights)
    recipe |= {"backbone": name, "size": size, "seed": seed}
    recipe |= {"data": shown(config.dataset, LOADERS)}
    recipe |= {"images": fingerprint(config.dataset, config.folder)}
    if config.pretrain_batch != Config.pretrain_batch:
        recipe["pretrain_batch"] = config.pretrain_batch

    def make() -> dict[str, Tensor]:
        train = limit(load(config.dataset, config.folder, size)["train"], config.train_limit, seed)
        torch.manual_seed(seed)
        model = classifier(name, len(train.classes), size).to(device)
        if config.weights != "random":
            model.backbone.load_state_dict(backbone(name, config.weights).features.state_dict())
        lr = config.pretrain_lr * lr_scale(model.backbone)
        title = f"pretrain {name} on {recipe['data']}, seed {seed}"
        epochs, batch = config.pretrain_epochs, config.pretrain_batch
        train_upright(model, train, size, epochs, lr, seed, device, title, batch)
        return model.cpu().state_dict()

    return checkpoints.kept(f"classifier-{recipe['data']}-{name}-{seed}", recipe, make)


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The pretraining of each backbone and seed that the cells need, to be done once."""
    once = dict.fromkeys((cell["backbone"], cell["seed"]) for cell in cells)
    return [(pretrain, config, *which, device) for which in once]


# -- one cell -------------------------------------------------------------------------------------


def train_lambda(
    model: nn.Module,
    train: Labelled,
    config: Config | clip.Config | frozen.Config | landscape.Config,
    size: int,
    seed: int,
    device: torch.device | str,
) -> None:
    """Train lambda alone on upright images; the classifier is frozen, and in evaluation mode."""
    own = list(model.weighting.parameters())
    frozen = {p for p in model.parameters() if p.requires_grad} - set(own)
    for p in frozen:
        p.requires_grad_(False)
    optimizer = torch.optim.Adam(own, config.lambda_lr)
    order = torch.Generator().manual_seed(seed)
    model.eval()
    model.weighting.train()
    for _ in range(config.lambda_epochs):
        for x, labels in batches(train, size, 32, order, device):
            loss = nn.functional.cross_entropy(model(x), labels) + upright_prior(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    for p in frozen:
        p.requires_grad_(True)


def upright_prior(model: nn.Module, x: Tensor) -> Tensor | float:
    """What is added to the loss on upright images: :func:`equitutor.prior_loss` of a canonical model that learns."""
    learns = isinstance(model.weighting, Canonical) and [*model.weighting.parameters()]
    return prior_loss(model, x) if learns else 0.0


@torch.no_grad()
def mean_weights(
    model: nn.Module, images: Labelled, size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The mean weight of each view of the images, ``(|G|,)``, in the order of the group."""
    model.eval()
    total = sum(
        model.weights(to_input(images.images[rows], size, device)).sum(1)
        for rows in torch.arange(len(images)).split(64)
    )
    return (total / len(images)).cpu()


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Wrap, measure, tune, measure: see :func:`measured`."""
    name, seed = cell["backbone"], cell["seed"]
    size = config.side(name)
    sets = load(config.dataset, config.folder, size)
    base = classifier(name, len(sets["train"].classes), size)
    base.load_state_dict(pretrain(config, name, seed, device))
    torch.manual_seed(seed)
    model = wrapped(cell["method"], base, cell["group"]).to(device)
    return measured(config, cell, model, sets, size, device)


def measured(
    config: Config | clip.Config | frozen.Config | landscape.Config,
    cell: dict,
    model: nn.Module,
    sets: Mapping[str, Labelled],
    size: int,
    device: torch.device | str = "cpu",
    action: Action | None = None,
) -> dict[str, float]:
    """Measure a wrapped classifier, tune it on upright images, and measure again.

    Parameters
    ----------
    action : Action on images, optional
        How test images are moved; default: by the four rotations.

    Returns
    -------
    dict
        In percent, on turned and on upright test images: ``zero_shot``, ``zero_shot_upright`` before
        the tuning (for lambda: with lambda alone trained), ``accuracy`` and ``upright`` after it;
        ``accuracy_at_N`` after N epochs. ``weight_upright_start`` (lambda untrained), ``_before`` and
        ``_after``: the mean weight of an upright image's upright view. ``error``: the relative error
        of invariance after the tuning. ``tune_seconds``: of the training, without measurements.
    """
    seed = cell["seed"]
    train = limit(limit(sets["train"], config.train_limit, seed), config.tune_limit, seed)
    test = limit(sets["test"], config.test_limit, 0)
    metrics: dict[str, float] = {}

    def weigh(when: str) -> None:
        weights = mean_weights(model, test, size, device)
        metrics[f"weight_upright_{when}"] = weights[model.group.identity.index].item()

    weigh("start")
    start = time.perf_counter()
    if [*model.weighting.parameters()]:
        train_lambda(model, train, config, size, seed, device)
    seconds = time.perf_counter() - start
    weigh("before")
    scores = evaluate(model, test, size, device, action)
    metrics |= {"zero_shot": scores["accuracy"], "zero_shot_upright": scores["upright"]}
    metrics["accuracy_at_0"] = scores["accuracy"]

    def watch(epoch: int) -> None:
        nonlocal scores, seconds
        start = time.perf_counter()
        scores = evaluate(model, test, size, device, action)
        metrics[f"accuracy_at_{epoch}"] = scores["accuracy"]
        seconds -= time.perf_counter() - start  # measuring is not tuning

    start = time.perf_counter()
    title = " ".join(map(str, cell.values()))
    tune(model, train, config, size, seed, device, title, watch=watch, penalty=upright_prior)
    metrics["tune_seconds"] = seconds + time.perf_counter() - start
    weigh("after")
    x = to_input(test.images[:8], size, device)
    metrics["error"] = equivariance_error(model, x, model.in_action)
    return {**metrics, **scores}
