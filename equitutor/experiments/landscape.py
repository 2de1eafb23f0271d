"""One formula, many weightings: what each gives on turned images, and for how many passes of the big network.

A head on a pretrained network's frozen features answers for the views of an image, as in
:mod:`equitutor.experiments.frozen`. Beside the papers' weightings stand those that look at the image alone, here at
a thumbnail, and so run the network on some views only. One cell is one data set x backbone x group x
method x seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..actions import Action, Trivial
from ..groups import FiniteGroup, cyclic
from ..images import backbones
from ..images.catalogue import BackboneName
from ..images.data import LOADERS
from ..images.pretrained import WeightsName
from ..images.training import fingerprint, limit, load, to_input
from ..images.views import ViewsAction, ViewSet, on_views
from ..layers import OrientationNet
from ..methods import canonicalize, frame_average, stochastic_average
from ..options import Batch, Choice, Count, Momentum, Name, Natural, Rate, Seeds, Size
from ..rotations import Rotations
from ..symmetrize import GroupAverage
from . import frozen
from .choices import weighted
from .config import BaseConfig, Cell, Source, distinct, product, shown
from .methods import measured
from .runner import run
from .vision import GROUPS

__all__ = ["METHODS", "Config", "OfThumbnail", "Template", "prepare", "run", "run_cell"]

#: The weightings. "canonical" chooses by a small network that learns, "template" by a fixed brightness template;
#: "frame" takes the half of the views that are brighter at the top; "stochastic k" draws k views.
METHODS = (
    *("none", "equitune", "equizero", "lambda", "attention"),
    *("canonical", "template", "frame", "stochastic 1", "stochastic 2"),
)
_LEARNED = ("lambda", "attention", "canonical", "stochastic 1", "stochastic 2")

THUMBNAIL = 16  # side in pixels of what the choosers see


@dataclass(frozen=True)
class Config(BaseConfig):
    """What is measured. The first five fields span the table.

    Attributes
    ----------
    dataset : "digits", "cifar10", "hymenoptera", or the path of an image folder
    backbones, groups, methods, seeds : the rows and repetitions
    folder : where the data set lies already; empty: download it
    size : side in pixels at which the network sees the images
    weights : "imagenet", or a safetensors file of a network's weights
    pool_limit : number of training images whose views are computed, drawn once; 0: all
    train_limit, tune_limit, test_limit : number of images of the head's training, of the weighting's and the
        tuning, and of the test; 0: all. Drawn by the seed, except the test images
    head_epochs, head_lr : of the head (AdamW, batches of 64, the rate falls to 0)
    lambda_epochs, lambda_lr : of what the weights learn alone (Adam, batches of 32)
    epochs, batch_size, lr, momentum : of the tuning of head and weights together
    """

    spans = ("dataset", "backbones", "groups", "methods", "seeds", "folder", "weights")

    dataset: Name = "digits"
    backbones: Annotated[tuple[str, ...], BackboneName()] = ("efficientnet_lite0",)
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
    lambda_epochs: Natural = 10
    lambda_lr: Rate = 3e-3
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
        """CIFAR-10 at 160 pixels: some five hours on one core of a CPU, of which "c4" alone takes two."""
        return cls(
            dataset="cifar10",
            groups=("c4", "d4"),
            size=160,
            pool_limit=20_000,
            train_limit=15_000,
            tune_limit=5_000,
            head_epochs=10,
        )

    @classmethod
    def insects(cls) -> Config:
        """Hymenoptera at 224 pixels: five minutes on one core of a CPU."""
        limits = replace(cls.lite0(), train_limit=0, tune_limit=0, head_epochs=20)
        return replace(limits, dataset="hymenoptera", size=224, lambda_epochs=40)

    @classmethod
    def paper(cls) -> Config:
        """CIFAR-10 at 224 pixels with the papers' four networks. Needs a GPU and the network."""
        backbones = frozen.Config.paper().backbones
        return replace(cls.lite0(), size=224, backbones=backbones, pool_limit=0, train_limit=0)

    def cells(self) -> list[Cell]:
        """The key of every cell; "none" has the group of one element."""
        cells = product(
            dataset=[shown(self.dataset, LOADERS)],
            backbone=self.backbones,
            group=self.groups,
            method=self.methods,
            seed=self.seeds,
        )
        return distinct(c | {"group": "none"} if c["method"] == "none" else c for c in cells)

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        return () if cell["method"] in _LEARNED else ("lambda_epochs", "lambda_lr")

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        return {
            "images": (fingerprint, self.dataset, self.folder),
            "weights": (backbones.fingerprint, cell["backbone"], self.weights),
        }


# -- what looks at the thumbnail ------------------------------------------------------------------


class Template(nn.Module):
    """How an image is turned, by a brightness template T: the scores <g T, x>, (B, 3, S, S) -> ``(B, |G|)``.

    Nothing is learned. Moving x by h moves the scores, as <g T, h x> = <h^-1 g T, x>.

    Parameters
    ----------
    action : Rotations
    side : int
        S, in pixels.
    slant : float
        T rises to the top by 1 and to the right by this much. At 0 it is its own mirror image.
    """

    equivariant = True

    def __init__(self, action: Action, side: int, slant: float = 0.4):
        super().__init__()
        self.group = action.group
        rise = torch.linspace(-1, 1, side)
        template = rise.flip(0)[:, None] + slant * rise
        moved = action.views(template[None, None])
        self.register_buffer("moved", moved.flatten(1), persistent=False)  # (|G|, S * S)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, S, S) to scores (B, ``|G|``)."""
        return x.mean(1).flatten(1) @ self.moved.T


class OfThumbnail(nn.Module):
    """The scores that a network gives the thumbnail of the view e, which ends each row of a view set's images.

    As a frame: the elements whose score is not negative.
    """

    equivariant = True

    def __init__(self, net: nn.Module, frame: bool = False):
        super().__init__()
        self.net, self.frame = net, frame
        self.group: FiniteGroup = net.group
        self.view, self.length = self.group.identity.index, 3 * THUMBNAIL**2

    def forward(self, x: Tensor) -> Tensor:
        """Rows of a view set (B, ``|G|``, n) to scores, or to membership in the frame, (B, ``|G|``)."""
        pixels = x[:, self.view, -self.length :]
        scores = self.net(pixels.unflatten(1, (3, THUMBNAIL, THUMBNAIL)))
        return scores >= 0 if self.frame else scores


def with_thumbnails(views: ViewSet, images: Tensor, action: Action) -> ViewSet:
    """A view set with the thumbnail of each view behind what the network says of it."""
    small = action.views(to_input(images, THUMBNAIL, "cpu")).flatten(1)
    small = small.unflatten(0, (len(action.group), -1)).transpose(0, 1)  # (N, |G|, 3 * 16 * 16)
    return replace(views, images=torch.cat([views.images, small], 2))


def model_of(method: str, base: nn.Module, group: FiniteGroup, width: int) -> GroupAverage:
    """The classifier ``base`` of a view set under a weighting of :data:`METHODS`."""
    if method == "none":
        return weighted(method, base, Trivial(cyclic(1)), width=width, features="features")
    moves, turns = ViewsAction(group), Rotations(group)
    if method in METHODS[:5]:
        return weighted(method, base, moves, width=width, features="features")
    if method == "frame":
        frame = OfThumbnail(Template(turns, THUMBNAIL, slant=0), frame=True)
        return frame_average(base, moves, frame=frame)
    if method == "template":
        return canonicalize(base, moves, chooser=OfThumbnail(Template(turns, THUMBNAIL)))
    chooser = OfThumbnail(OrientationNet(turns))
    if method == "canonical":
        return canonicalize(base, moves, chooser=chooser)
    return stochastic_average(base, moves, chooser=chooser, samples=int(method.split()[1]))


# -- one cell -------------------------------------------------------------------------------------


def prepare(config: Config, cells: list[Cell], device: str) -> list[tuple]:
    """The views of each backbone under each group, to be computed once."""
    return frozen.prepare(config, [cell | {"head": "trained"} for cell in cells], device)


def run_cell(config: Config, cell: Cell, device: torch.device | str = "cpu") -> dict[str, float]:
    """Train a head, weight its answers, measure, tune, measure: :func:`equitutor.experiments.methods.measured`.

    Returns
    -------
    dict
        Also ``passes``, of the big network for one test image, and ``images``, the number of those.
    """
    method, seed = str(cell["method"]), int(cell["seed"])
    name = "c4" if cell["group"] == "none" else str(cell["group"])
    group = GROUPS[name]
    sets = dict(frozen.views(config, str(cell["backbone"]), name, device))
    pictures = load(config.dataset, config.folder, config.size)
    for part, count in (("train", config.pool_limit), ("test", config.test_limit)):
        chosen = limit(pictures[part], count, 0).images
        sets[part] = with_thumbnails(sets[part], chosen, Rotations(group))
    train = limit(sets["train"], config.train_limit, seed)
    head = frozen.train_head(config, train, method, seed)
    torch.manual_seed(seed)
    base = on_views(train, head, group)
    model = model_of(method, base, GROUPS["none"] if method == "none" else group, train.channels)
    found = measured(config, cell, model.to(device), sets, config.size, device, ViewsAction(group))
    seen: list[int] = []
    base.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with torch.no_grad():
        for part in sets["test"].images.split(256):
            model(part.to(device))
    return {**found, "passes": sum(seen) / len(sets["test"]), "images": len(sets["test"])}
