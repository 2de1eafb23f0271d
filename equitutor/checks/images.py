"""Exercises of the chapter on image classification."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import random, verdict

__all__ = ["check_consistent", "check_turn_each"]


def check_consistent(student: Callable[[Tensor], float]) -> bool:
    """``student(predictions)``: (4, N) classes -> share of images with one class in all four."""
    cases = [
        (what, (torch.tensor(p),), share)
        for what, p, share in [
            ("all agree", [[1, 2], [1, 2], [1, 2], [1, 2]], 1.0),
            ("one image of two", [[1, 2], [1, 0], [1, 2], [1, 2]], 0.5),
            ("agreement without the first", [[0, 1, 2], [1, 1, 2], [1, 1, 0], [1, 1, 2]], 1 / 3),
            ("all but the last turn", [[1, 2, 0], [1, 2, 0], [1, 2, 0], [0, 3, 0]], 1 / 3),
            ("the half turn alone", [[3, 3, 5], [1, 3, 5], [3, 3, 4], [1, 3, 4]], 1 / 3),
        ]
    ]
    return verdict(
        student,
        cases,
        {
            "you counted single agreements with the upright prediction; an image counts only if all "
            "four agree.": lambda p: (p == p[0]).double().mean().item(),
            "you gave a percentage; a share lies between 0 and 1.": (
                lambda p: 100 * (p == p[0]).all(0).double().mean().item()
            ),
            "you gave a count; divide by the number of images.": (
                lambda p: (p == p[0]).all(0).sum().item()
            ),
            "you compared upright with one other rotation only.": (
                lambda p: (p[0] == p[1]).double().mean().item()
            ),
            "you left out the last rotation.": (
                lambda p: (p[:3] == p[0]).all(0).double().mean().item()
            ),
            "you compared upright with the half turn only.": (
                lambda p: (p[0] == p[2]).double().mean().item()
            ),
            "you asked for any agreement where all four must agree.": (
                lambda p: (p[1:] == p[0]).any(0).double().mean().item()
            ),
            "you looked along the wrong axis: dimension 0 holds the rotations, 1 the images.": (
                lambda p: (p == p[:, :1]).all(1).double().mean().item()
            ),
        },
    )


def check_turn_each(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(images, turns)``: image i turned by turns[i] quarter turns, counter-clockwise."""
    images = random(4, 3, 3, 3)

    def by(rotate: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, k: torch.stack([rotate(y, int(j)) for y, j in zip(x, k, strict=True)])

    right = by(lambda y, k: y.rot90(k, (-2, -1)))
    cases = [
        (str(turns), (images[: len(turns)], torch.tensor(turns)), None)
        for turns in ([0, 0], [2, 0], [1, 2, 3, 0], [3, 3, 1, 2])
    ]
    return verdict(
        student,
        [(what, args, right(*args)) for what, args, _ in cases],
        {
            "you turned clockwise; torch.rot90(x, k, (-2, -1)) turns counter-clockwise.": by(
                lambda y, k: y.rot90(-k, (-2, -1))
            ),
            "you turned the whole batch by the first image's angle.": (
                lambda x, k: x.rot90(int(k[0]), (-2, -1))
            ),
            "you turned channels with rows: rot90's default axes are the first two.": by(
                lambda y, k: y.rot90(k)
            ),
            "you turned by one quarter, whatever the number.": by(
                lambda y, k: y.rot90(int(k > 0), (-2, -1))
            ),
            "you transposed; a turn is a transposition and a flip.": by(
                lambda y, k: y.mT if k % 2 else y.rot90(k, (-2, -1))
            ),
            "you changed nothing.": lambda x, k: x,
        },
    )
