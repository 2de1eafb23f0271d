"""Training and evaluation of image classifiers: what the image experiments share.

Data sets are loaded by :func:`equitutor.images.data.load`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad
from tqdm import tqdm

from ..actions import Action
from ..environment import generator
from ..groups import cyclic
from ..rotations import Rotations
from ..text import printable
from .catalogue import IMAGENET
from .data import fingerprint, load
from .imageset import Labelled

__all__ = [
    "MEAN",
    "STD",
    "TuneConfig",
    "batches",
    "evaluate",
    "fingerprint",
    "limit",
    "load",
    "lr_scale",
    "predictions",
    "shifted",
    "to_input",
    "train_upright",
    "tune",
    "turn",
]

Some = TypeVar("Some", bound=Labelled)

#: Colour statistics of the inputs of all image models: ImageNet's.
MEAN, STD = IMAGENET


def limit(images: Some, count: int, seed: int) -> Some:
    """Draw ``count`` of the images by the seed; 0 means all."""
    if not 0 < count < len(images):
        return images
    order = torch.randperm(len(images), generator=generator(seed))
    return images.subset(order[:count])


def to_input(images: Tensor, size: int, device: torch.device | str) -> Tensor:
    """uint8 (B, 3, H, W) -> normalised float (B, 3, size, size) on the device.

    Floating-point numbers are what a network has made of images already: they stay as they are.
    """
    if images.is_floating_point():
        return images.to(device)
    x = images.to(device).float() / 255
    if x.shape[-2:] != (size, size):
        x = interpolate(x, (size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v, device=device).reshape(3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its own number of quarter turns, (B, 3, d, d) and (B,)."""
    return torch.stack([x.rot90(int(k), (-2, -1)) for x, k in zip(images, turns, strict=True)])


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift a batch (B, 3, d, d) as a whole by up to ``most`` pixels each way; what comes in is 0."""
    height, width = x.shape[-2:]
    top, left = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    return pad(x, [most] * 4)[..., top : top + height, left : left + width]


def batches(
    images: Labelled,
    size: int,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device | str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, as :func:`to_input` makes it, with the labels, (B,).

    A last batch of one image is left out, as batch norm needs two.
    """
    for index in torch.randperm(len(images), generator=generator).split(batch_size):
        if len(index) > 1:
            yield to_input(images.images[index], size, device), images.labels[index].to(device)


def lr_scale(net: nn.Module) -> float:
    """The factor of the learning rate in :func:`train_upright`: AlexNet, without batch norm, diverges at 1."""
    normalised = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    return 1.0 if normalised else 0.4


def train_upright(
    model: nn.Module,
    train: Labelled,
    size: int,
    epochs: int,
    lr: float,
    seed: int,
    device: torch.device | str,
    title: str,
    batch_size: int = 128,
) -> None:
    """Train a classifier on shifted upright images: SGD, one-cycle."""
    order = generator(seed)
    steps = epochs * math.ceil(len(train) / batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    with tqdm(total=steps, desc=printable(title), unit="step", delay=2) as bar:
        for _ in range(epochs):
            for x, labels in batches(train, size, batch_size, order, device):
                loss = cross_entropy(model(shifted(x, size // 8, order)), labels)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()


class TuneConfig(Protocol):
    """The settings of :func:`tune` in the Config of an experiment."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...


def tune(
    model: nn.Module,
    train: Labelled,
    config: TuneConfig,
    size: int,
    seed: int,
    device: torch.device | str,
    title: str = "",
    *,
    turned: bool = False,
    watch: Callable[[int], None] | None = None,
    penalty: Callable[[nn.Module, Tensor], Tensor | float] | None = None,
) -> nn.Module:
    """Fine-tune the whole model on upright images by SGD (AAAI paper, Sec. 6.1), and return it.

    Parameters
    ----------
    turned : bool
        Turn each training image by a random number of quarter turns.
    watch : callable, optional
        Called after each epoch with the number of epochs done.
    penalty : callable, optional
        What is added to the loss of the model on a batch, ``penalty(model, x)``.
    """
    if not config.epochs:
        return model
    order = generator(seed)
    draw = generator(seed)  # its own, so that turning keeps the order
    optimizer = torch.optim.SGD(model.parameters(), config.lr, momentum=config.momentum)
    for epoch in tqdm(
        range(config.epochs), desc=printable(title), unit="epoch", delay=2, leave=False
    ):
        model.train()
        for x, labels in batches(train, size, config.batch_size, order, device):
            if turned:
                x = turn(x, torch.randint(0, 4, (len(x),), generator=draw))
            loss = cross_entropy(model(x), labels) + (penalty(model, x) if penalty else 0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if watch:
            watch(epoch + 1)
    return model


@torch.no_grad()
def predictions(
    model: nn.Module,
    images: Labelled,
    size: int,
    device: torch.device | str,
    action: Action | None = None,
) -> Tensor:
    """The predicted class of each image in each of its views, ``(|G|, N)``; default: the four turns."""
    action = Rotations(cyclic(4)) if action is None else action
    model.eval()
    predicted = []
    for index in torch.arange(len(images)).split(64):
        x = to_input(images.images[index], size, device)
        views = [model(action.act(g, x)).argmax(1).cpu() for g in range(len(action.group))]
        predicted.append(torch.stack(views))  # (|G|, B)
    return torch.cat(predicted, 1)


def evaluate(
    model: nn.Module,
    test: Labelled,
    size: int,
    device: torch.device | str = "cpu",
    action: Action | None = None,
) -> dict[str, float]:
    """Accuracy and consistency on test images, in percent.

    Returns
    -------
    dict
        ``accuracy`` on turned images: the mean over the four rotations of each image (or over the
        views of another action), which is what a random turn gives on average. ``upright``: on the
        images as they are. ``consistent``: the share of images with one class in all views.
    """
    predicted = predictions(model, test, size, device, action)
    right = (predicted == test.labels).double()
    return {
        "accuracy": 100 * right.mean().item(),
        "upright": 100 * right[0].mean().item(),
        "consistent": 100 * (predicted == predicted[0]).all(0).double().mean().item(),
    }
