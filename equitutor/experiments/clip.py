"""CLIP on turned and mirrored images: zero-shot and tuned (NeurIPS paper).

A CLIP model, pretrained elsewhere or trained here on upright images with captions, classifies by
prompts under each weighting of its views; or two pretrained towers do, joined by a projection that is
trained here. One cell of the table is one data set x checkpoint x group x method x place of the average
x seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..actions import Action, Trivial
from ..groups import cyclic
from ..images import backbones
from ..images.catalogue import BackboneName
from ..images.data import LOADERS
from ..images.imageset import ImageSet
from ..images.lit import TwoTowers
from ..images.pretrained import WeightsName
from ..images.small_clip import CAPTIONS, STATISTICS, small_clip, train_clip
from ..images.training import fingerprint, limit, load
from ..images.views import ViewsAction, ViewSet
from ..images.zeroshot import (
    TEMPLATES,
    MapAverage,
    ZeroShotClassifier,
    check_classes,
    load_clip,
)
from ..language import sentences
from ..language.tokenizer import EOS, word_tokenizer
from ..options import (
    Batch,
    Choice,
    Count,
    Filled,
    Momentum,
    Name,
    Natural,
    Range,
    Rate,
    Seeds,
    Size,
)
from ..rotations import Flip, Rotations
from ..store import checkpoints, hub
from ..weights import entropy
from . import towers
from .choices import weighted
from .config import BaseConfig, Cell, Source, distinct, product, shown
from .frozen import pool_views
from .methods import measured
from .runner import run

__all__ = [
    "ACTIONS",
    "LIT",
    "METHODS",
    "PLACES",
    "SMALL",
    "Config",
    "caption_tokenizer",
    "class_names",
    "classifier",
    "clip_fingerprint",
    "prepare",
    "pretrain",
    "run",
    "run_cell",
    "small",
    "views",
    "wrapped",
]

#: The actions on images. "none" is the group of one element.
ACTIONS: dict[str, Action] = {
    "none": Rotations(cyclic(1)),
    "c4": Rotations(cyclic(4)),
    "flip": Flip("vertical"),
}
METHODS = ("none", "equitune", "equizero", "lambda", "attention")
#: Where the views are averaged: on the scores, or on the last feature map.
PLACES = ("scores", "map")

#: The small CLIP is trained here; of "lit", two pretrained towers, the projection that joins them is. Any
#: other checkpoint is a name on the hub, or a folder.
SMALL, LIT = _OWN = ("small", "lit")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a CLIP experiment runs. The first six fields span the table.

    Attributes
    ----------
    dataset : "digits", "cifar10", "cifar100", or the path of an image folder
    checkpoints : "small" (trained here), "lit" (two pretrained towers, joined here), or names on the hub or
        folders of CLIP models
    groups : "c4", the quarter turns; "flip", mirroring up-down
    methods, places, seeds : out of METHODS and PLACES, and the repetitions
    folder : where the data set lies already; empty: download it
    classes : names for the prompts, in the order of the labels; empty: those of the data
    templates : prompts; empty: :data:`equitutor.images.zeroshot.TEMPLATES`, for the small model its
        captions
    backbone, weights : the picture tower of "lit": "imagenet", or a safetensors file of its weights
    reader : its text tower: a sentence encoder by its name on the hub, or a folder
    size : side in pixels at which its picture tower sees the images
    pool_limit : number of training images whose views that tower sees, drawn once; 0: all
    train_limit, tune_limit, test_limit : number of images of the training of the small model or of the
        projection, the tuning, the test; 0: all. Drawn by the seed, except the test images, which are
        the same for all seeds
    width, layers, patch, pretrain_steps, pretrain_lr : of the small model
    projection_epochs, projection_lr : of the projection (AdamW, batches of 64, the rate falls to 0)
    lambda_epochs, lambda_lr : of lambda, or the attention, alone (Adam, batches of 32)
    epochs, batch_size, lr, momentum : of the tuning: of the whole model, of "lit" of the projection
    """

    spans = (
        *("dataset", "checkpoints", "groups", "methods", "places", "seeds"),
        *("folder", "weights", "reader"),
    )

    dataset: Name = "digits"
    checkpoints: Annotated[tuple[str, ...], Filled()] = (SMALL,)
    groups: Annotated[tuple[str, ...], Choice(ACTIONS)] = ("c4", "flip")
    methods: Annotated[tuple[str, ...], Choice(METHODS)] = METHODS[:4]
    places: Annotated[tuple[str, ...], Choice(PLACES)] = PLACES
    seeds: Seeds = (0, 1, 2, 3, 4)
    folder: str = ""
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    backbone: Annotated[str, BackboneName()] = "efficientnet_lite0"
    weights: Annotated[str, WeightsName(("imagenet",))] = "imagenet"
    reader: Name = sentences.READER
    size: Size = 160
    pool_limit: Natural = 20_000
    train_limit: Natural = 0
    tune_limit: Natural = 500
    test_limit: Natural = 0
    width: Annotated[int, Range(16)] = 64
    layers: Count = 3
    patch: Annotated[int, Range(1, 32)] = 8
    pretrain_steps: Count = 1000
    pretrain_lr: Rate = 1.5e-3
    projection_epochs: Count = 10
    projection_lr: Rate = 1e-4
    lambda_epochs: Natural = 10
    lambda_lr: Rate = 1e-2
    epochs: Natural = 5
    batch_size: Batch = 32
    lr: Rate = 1e-3
    momentum: Momentum = 0.9

    @classmethod
    def quick(cls) -> Config:
        """A small CLIP, trained on upright digits with captions: under a minute on a laptop's CPU."""
        return cls(
            groups=("c4",),
            places=("scores",),
            seeds=(0,),
            tune_limit=300,
            test_limit=150,
            pretrain_steps=500,
            epochs=2,
        )

    @classmethod
    def upright(cls) -> Config:
        """Small CLIP models trained here on upright digits, five seeds: ten minutes on a CPU."""
        return cls(pretrain_steps=600, lambda_epochs=5, epochs=2)

    @classmethod
    def lit(cls) -> Config:
        """CIFAR-10 at 160 pixels, two real towers: the views take an hour on one core of a CPU, once."""
        return cls(
            dataset="cifar10",
            checkpoints=(LIT,),
            methods=METHODS,
            train_limit=18_000,
            projection_epochs=5,
            projection_lr=3e-4,
            lambda_epochs=5,
            lambda_lr=1e-3,
            tune_limit=2_000,
        )

    @classmethod
    def paper(cls) -> Config:
        """CIFAR-100 with CLIP's ViT-B/32 and ViT-B/16. Needs a GPU and the network."""
        return cls(
            dataset="cifar100",
            checkpoints=("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16"),
            templates=TEMPLATES,
            tune_limit=16_000,
            epochs=1,
            lr=5e-6,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [shown(c, _OWN) for c in dict.fromkeys(self.checkpoints)]
        if len(set(names)) < len(names):
            raise ValueError(
                f"checkpoints must differ in the last part of their names; got {', '.join(names)}"
            )
        heads = self.width // 16
        if self.width % heads:
            raise ValueError(f"width must be a multiple of its {heads} heads, got {self.width}")

    def cells(self) -> list[Cell]:
        """The key of every cell; "none" is tested under each group, and has one place."""
        every = product(
            dataset=[shown(self.dataset, LOADERS)],
            checkpoint=[shown(c, _OWN) for c in self.checkpoints],
            group=self.groups,
            method=self.methods,
            place=self.places,
            seed=self.seeds,
        )
        return distinct(c | ({"place": PLACES[0]} if c["method"] == "none" else {}) for c in every)

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        weighed = cell["method"] in ("lambda", "attention")
        unused = () if weighed else ("lambda_epochs", "lambda_lr")
        used = _KEYS.get(str(cell["checkpoint"]), ())
        return (*unused, *(key for keys in _KEYS.values() for key in keys if key not in used))

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {"images": (fingerprint, self.dataset, self.folder)}
        if cell["checkpoint"] == LIT:
            found["weights"] = (backbones.fingerprint, self.backbone, self.weights)
            found["text"] = (sentences.fingerprint, self.reader)
        elif cell["checkpoint"] != SMALL:
            found["weights"] = (clip_fingerprint, self.path(cell["checkpoint"]))
        return found

    def path(self, checkpoint: str) -> str:
        """The hub's name or the folder of what the tables call a checkpoint."""
        return next(c for c in self.checkpoints if shown(c, _OWN) == checkpoint)


# The settings that the small model's weights depend on; and those of both that are made here.
_SMALL_KEYS = ("train_limit", "width", "layers", "patch", "pretrain_steps", "pretrain_lr")
_KEYS = {SMALL: _SMALL_KEYS, LIT: towers.KEYS}


# -- models ---------------------------------------------------------------------------------------


def clip_fingerprint(name: str) -> str:
    """What identifies a CLIP model of the hub, or of a folder, by its content."""
    return hub.fingerprint(*load_clip(name))


def class_names(config: Config, images: ImageSet | ViewSet) -> tuple[str, ...]:
    """What the prompts call the classes."""
    default = _DIGITS if config.dataset == "digits" else images.classes
    names = config.classes or tuple(name.replace("_", " ") for name in default)
    check_classes(names, images)
    return names


def caption_tokenizer(classes: Sequence[str]) -> Any:
    """A tokenizer of the words in the captions of these classes; it ends every text by <eos>."""
    from tokenizers.processors import TemplateProcessing

    words = {w for caption in (*CAPTIONS, *classes) for w in caption.split() if w != "{}"}
    tokenizer = word_tokenizer(sorted(words))
    end = TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.eos_token_id)])
    tokenizer.backend_tokenizer.post_processor = end
    return tokenizer


def pretrain(config: Config, seed: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The small CLIP's state_dict after training on upright images; kept in the cache folder."""
    train = load(config.dataset, config.folder, 32)["train"]
    train = limit(train, config.train_limit, seed)
    names = class_names(config, train)
    recipe = {key: getattr(config, key) for key in _SMALL_KEYS}
    recipe |= {"data": shown(config.dataset, LOADERS), "seed": seed, "classes": names}
    recipe |= {"images": fingerprint(config.dataset, config.folder)}

    def make() -> dict[str, Tensor]:
        tokenizer = caption_tokenizer(names)
        torch.manual_seed(seed)
        clip = small(config, tokenizer).to(device)
        title = f"train a small CLIP on {recipe['data']}, seed {seed}"
        steps, lr = config.pretrain_steps, config.pretrain_lr
        train_clip(clip, tokenizer, train, names, 32, steps, lr, seed, device, title)
        return clip.cpu().state_dict()

    return checkpoints.kept(f"clip-{recipe['data']}-{seed}", recipe, make)


def small(config: Config, tokenizer: Any) -> nn.Module:
    """The untrained small CLIP of these settings."""
    return small_clip(len(tokenizer), 32, config.patch, config.width, config.layers)


def classifier(
    config: Config,
    checkpoint: str,
    images: ImageSet,
    seed: int,
    device: torch.device | str = "cpu",
) -> ZeroShotClassifier:
    """The zero-shot classifier of a checkpoint for the classes of these images."""
    names = class_names(config, images)
    if checkpoint == SMALL:
        tokenizer = caption_tokenizer(names)
        clip = small(config, tokenizer)
        clip.load_state_dict(pretrain(config, seed, device))
        templates = config.templates or CAPTIONS
        model = ZeroShotClassifier(clip.eval(), tokenizer, names, templates, STATISTICS)
    else:
        full, templates = config.path(checkpoint), config.templates or TEMPLATES
        model = ZeroShotClassifier.from_pretrained(full, names, templates)
    return model.to(device)


def wrapped(
    method: str,
    model: ZeroShotClassifier | TwoTowers,
    group: str | Action,
    place: str = "scores",
) -> nn.Module:
    """A zero-shot classifier under the weighting of this method, at this place: invariant scores.

    ``group`` is a name of ACTIONS, or an action on what the model takes.
    """
    action = ACTIONS[group] if isinstance(group, str) else group
    if method == "none":
        action = Trivial(cyclic(1))
    if place != "map":
        width = model.top.text.shape[1]
        return weighted(method, model, action, width=width, features="top.features")
    features, width = model.body_features
    make = partial(
        weighted,
        method,
        loss=lambda seen: entropy(model.top(seen)),
        width=width,
        features=features,
    )
    return MapAverage(model, action, make)


# -- one cell -------------------------------------------------------------------------------------


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The training of each small model, and the views of each group, that the cells need."""
    views.cache_clear()  # data and weights may have changed since an earlier run
    towers.made_from.cache_clear()
    seeds = dict.fromkeys(cell["seed"] for cell in cells if cell["checkpoint"] == SMALL)
    groups = dict.fromkeys(cell["group"] for cell in cells if cell["checkpoint"] == LIT)
    tasks: list[tuple] = [(pretrain, config, seed, device) for seed in seeds]
    return tasks + [(views, config, group, device) for group in groups]


@lru_cache(maxsize=1)  # the cells of a group, which come one after the other, share them
def views(config: Config, group: str, device: torch.device | str = "cpu") -> dict[str, ViewSet]:
    """What the picture tower of "lit" says of the views of the images; kept in the cache folder."""
    return pool_views(config, config.backbone, ACTIONS[group], group, device)


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Wrap, measure, tune, measure: see :func:`equitutor.experiments.methods.measured`.

    Of "lit" the towers are locked: the tuning changes the projection and the weights of the views.
    """
    seed, action = cell["seed"], ACTIONS[cell["group"]]
    base: ZeroShotClassifier | TwoTowers
    sets: Mapping[str, ImageSet] | Mapping[str, ViewSet]
    if cell["checkpoint"] == LIT:
        sets, action = views(config, cell["group"], device), ViewsAction(action.group)
        names = class_names(config, sets["test"])
        base = towers.towers_on_views(config, sets, names, action.group, seed)
        size = config.size
    else:
        sets = load(config.dataset, config.folder, 32)
        base = classifier(config, cell["checkpoint"], sets["test"], seed, device)
        size = base.size
        if size != 32 and config.dataset not in ("digits", "cifar10", "cifar100"):
            sets = load(config.dataset, config.folder, size)
        base.top.temperature.requires_grad_(False)
    torch.manual_seed(seed)
    model = wrapped(cell["method"], base, action, cell["place"]).to(device)
    return measured(config, cell, model, sets, size, device, action)
