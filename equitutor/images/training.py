"""Data, training and measuring of image classifiers: what the image experiments share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..actions import Action, Rotations
from ..groups import cyclic
from . import data

#: Data sets known by name; anything else is the path of an image folder.
NAMED = ("digits", "cifar10", "cifar100", "hymenoptera")

#: Colour statistics of ImageNet, which torchvision's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(dataset: str, folder: str = "", size: int = 224) -> dict[str, data.ImageSet]:
    """{"train", "test"} of a data set by its name, or of an image folder by its path."""
    if dataset == "digits":
        return data.digits()
    if dataset == "cifar10":
        return data.cifar10(folder or None)
    if dataset == "cifar100":
        return data.cifar100(folder or None)
    if dataset == "hymenoptera":
        return data.hymenoptera(folder or None, size=size)
    return data.image_folder(dataset, size=size)


def limit(images: data.ImageSet, count: int, seed: int) -> data.ImageSet:
    """``count`` images drawn by the seed; 0 means all."""
    if not 0 < count < len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.subset(order[:count])


def fingerprint(dataset: str, images: data.ImageSet) -> dict[str, str]:
    """What a recipe needs beside the name of a data set.

    Nothing where the name says all; two folders may have one name, and a folder may change.
    """
    if dataset in NAMED:
        return {}
    return {"images": hashlib.sha256(images.images.numpy().tobytes()).hexdigest()[:16]}


def to_input(images: Tensor, size: int, device: torch.device | str) -> Tensor:
    """uint8 (B, 3, H, W) -> normalised float (B, 3, size, size) on the device."""
    x = images.to(device).float() / 255
    if x.shape[-1] != size or x.shape[-2] != size:
        x = nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v, device=device).reshape(3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its own number of quarter turns, (B, 3, d, d) and (B,)."""
    return torch.stack([x.rot90(int(k), (-2, -1)) for x, k in zip(images, turns, strict=True)])


def batches(
    images: data.ImageSet,
    size: int,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device | str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order; a last batch of one image is left out (batch norm needs two)."""
    for index in torch.randperm(len(images), generator=generator).split(batch_size):
        if len(index) > 1:
            yield to_input(images.images[index], size, device), images.labels[index].to(device)


def train_upright(
    model: nn.Module,
    train: data.ImageSet,
    size: int,
    epochs: int,
    lr: float,
    seed: int,
    device: torch.device | str,
    title: str,
    batch_size: int = 128,
) -> None:
    """Train a classifier on shifted crops of upright images: SGD, one-cycle."""
    order = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(train) / batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    with tqdm(total=steps, desc=title, unit="step", delay=2) as bar:
        for _ in range(epochs):
            for x, labels in batches(train, size, batch_size, order, device):
                pad = size // 8
                top, left = torch.randint(0, 2 * pad + 1, (2,), generator=order).tolist()
                x = nn.functional.pad(x, [pad] * 4)[..., top : top + size, left : left + size]
                loss = nn.functional.cross_entropy(model(x), labels)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()


def tune(
    model: nn.Module,
    train: data.ImageSet,
    config: Any,
    size: int,
    cell: dict,
    device: torch.device | str,
    watch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Fine-tune the whole model (AAAI paper, Sec. 6.1), with or without turns of the training images.

    The config has ``lr``, ``momentum``, ``epochs`` and ``batch_size``; the cell a seed, and perhaps an
    augmentation. ``watch`` is called after each epoch with the number of epochs done.
    """
    order = torch.Generator().manual_seed(cell["seed"])
    draw = torch.Generator().manual_seed(cell["seed"])  # its own: augmentation keeps the order
    optimizer = torch.optim.SGD(model.parameters(), config.lr, momentum=config.momentum)
    title = " ".join(str(v) for v in cell.values())
    for epoch in tqdm(range(config.epochs), desc=title, unit="epoch", delay=2, leave=False):
        model.train()
        for x, labels in batches(train, size, config.batch_size, order, device):
            if cell.get("augmentation") == "c4":
                x = turn(x, torch.randint(0, 4, (len(x),), generator=draw))
            loss = nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if watch:
            watch(epoch + 1)
    return model


@torch.no_grad()
def predictions(
    model: nn.Module,
    images: data.ImageSet,
    size: int,
    device: torch.device | str,
    action: Action | None = None,
) -> Tensor:
    """The predicted class of each image in each of its views, ``(|G|, N)``; default the four turns."""
    action = Rotations(cyclic(4)) if action is None else action
    model.eval()
    found = []
    for index in torch.arange(len(images)).split(64):
        x = to_input(images.images[index], size, device)
        views = [model(action.act(g, x)).argmax(1).cpu() for g in range(len(action.group))]
        found.append(torch.stack(views))
    return torch.cat(found, 1)


def evaluate(
    model: nn.Module,
    test: data.ImageSet,
    size: int,
    device: torch.device | str = "cpu",
    action: Action | None = None,
) -> dict[str, float]:
    """Test figures in percent.

    ``accuracy`` is on turned images: the mean over all four rotations of each test image (or over the
    views of another action), which is what a random turn gives on average. ``upright`` is on images
    as they are, ``consistent`` the share of images that get the same class in all views.
    """
    found = predictions(model, test, size, device, action)
    right = (found == test.labels).double()
    return {
        "accuracy": 100 * right.mean().item(),
        "upright": 100 * right[0].mean().item(),
        "consistent": 100 * (found == found[0]).all(0).double().mean().item(),
    }
