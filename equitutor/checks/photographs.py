"""Assignment 7: weights and passes of a pretrained network, measured on photographs held back."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..groups import cyclic
from ..images.backbones import backbone
from ..images.data import photographs
from ..images.training import to_input
from ..rotations import Rotations
from .answers import same
from .verdict import NOT_DONE, crash

__all__ = ["check_combine", "check_within_budget"]

HELD_BACK = ("cameraman", "china", "motorcycle", "rocket")
CROPS = ((0, 0), (0, 64), (64, 0), (64, 64), (32, 32))  # where crops of 224 of 288 pixels begin


class _Counted(nn.Module):
    """EfficientNet-Lite0, which counts the images that it sees; it answers known ones from memory."""

    def __init__(self) -> None:
        super().__init__()
        self.net = backbone("efficientnet_lite0").eval()
        self.known: dict[bytes, Tensor] = {}
        self.passes = 0

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        names = [row.contiguous().numpy().tobytes() for row in x]
        new = [i for i, name in enumerate(names) if name not in self.known]
        if new:
            self.known |= {names[i]: y for i, y in zip(new, self.net(x[new]), strict=True)}
        return torch.stack([self.known[name] for name in names])


@functools.cache
def _held_back() -> tuple[_Counted, list[Tensor], Tensor]:
    """The network, the four turns of the crops ``(B, 3, 224, 224)``, and its scores ``(4, B, 1000)``."""
    everything, net, turn = photographs(288), _Counted(), Rotations(cyclic(4))
    pictures = [everything.images[everything.classes.index(name)] for name in HELD_BACK]
    crops = torch.stack([p[:, i : i + 224, j : j + 224] for p in pictures for i, j in CROPS])
    x = to_input(crops, 224, "cpu")
    views = [turn(g, x) for g in range(4)]
    return net, views, torch.stack([net(view) for view in views])


def _share(scores: Tensor, truth: Tensor) -> float:
    return float((scores.argmax(-1) == truth).float().mean())


def _answer(student: Callable, where: str, *args: object) -> Tensor | None:
    """Scores of the right shape; None, having said why, if there are none."""
    truth = _held_back()[2][0]
    try:
        y = student(*args)
    except NotImplementedError:
        print(NOT_DONE)
        return None
    except Exception as error:  # whatever a student's code raises is part of the verdict
        print(f"Not right yet: {crash(student, error, where)}")
        return None
    if not isinstance(y, Tensor) or y.shape != truth.shape or not y.isfinite().all():
        shape = f"a tensor of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        print(
            f"Not right yet: {where} it should return finite scores of shape {tuple(truth.shape)}; you "
            f"returned {shape}."
        )
        return None
    return y


def check_combine(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(scores)``: one answer ``(B, 1000)`` from those of the four views ``(4, B, 1000)``.

    It must not depend on which view comes first, and agree with the upright answer more often than the
    mean does, on photographs that the notebook has not.
    """
    _, _, scores = _held_back()
    truth, found = scores[0].argmax(-1), []
    for start in range(4):  # the views of the crops turned once, twice, ...
        y = _answer(student, "on held-back crops", scores.roll(-start, 0).clone())
        if y is None:
            return False
        found.append(y)
        if not same(y, found[0]):
            print(
                "Not right yet: the answer depends on which view comes first.\n  Probably the weights go "
                "with the place of a view, or its number; they may depend on its scores alone."
            )
            return False
    mine, mean, first = (_share(y, truth) for y in (found[0], scores.mean(0), scores[1]))
    said = f"{mine:.1%} of the answers on held-back crops are right; of the mean {mean:.1%}"
    if mine <= mean:
        print(
            f"Not right yet: {said}, of a single quarter turn {first:.1%}.\n  Probably you give weight to "
            "views that the network does not recognise: how can a view show that it is one of these?"
        )
        return False
    print(f"Right: {said}.")
    return True


def check_within_budget(student: Callable[[nn.Module, Tensor, int], Tensor]) -> bool:
    """``student(net, x, budget)``: scores ``(B, 1000)`` from at most ``budget * B`` passes of the net.

    The images are turned. With two or three passes for each, it must be right more often than the mean
    of two or three views; with four at least as often as the mean of all.
    """
    net, views, scores = _held_back()
    truth, b = scores[0].argmax(-1), len(views[0])
    said = []
    for budget in (1, 2, 3, 4):
        mine = mean = 0.0
        for start in range(4):
            net.passes = 0
            where = f"on crops turned {start} times, with {budget} passes for each,"
            y = _answer(student, where, net, views[start].clone(), budget)
            if y is None:
                return False
            if net.passes > budget * b:
                print(
                    f"Not right yet: {where} the network saw {net.passes} images; {budget * b} are allowed "
                    f"for {b} crops.\n  Probably every view of every crop was run: choose whom to ask again."
                )
                return False
            seen = [(start + k) % 4 for k in range(budget)]
            mine, mean = mine + _share(y, truth) / 4, mean + _share(scores[seen].mean(0), truth) / 4
        said.append(f"{mine:.1%} with a budget of {budget} (the mean {mean:.1%})")
        if mine < mean or (mine == mean and budget in (2, 3)):
            print(
                f"Not right yet: {said[-1]}.\n  Probably all crops get the same number of passes; those of "
                "which the network is sure need no second look."
            )
            return False
    print(f"Right: {', '.join(said)}.")
    return True
