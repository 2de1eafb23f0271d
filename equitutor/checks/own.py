"""Exercises of the chapter "bring your own model and group"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Permutation, ProductAction, Rotations, rotation_matrices
from ..groups import Element, FiniteGroup, cyclic, dihedral, direct_product, symmetric
from .verdict import random, verdict

__all__ = ["check_image_vectors", "check_turn_and_recolour"]


def check_image_vectors(student: Callable[[FiniteGroup], Tensor]) -> bool:
    """``student(group)``: how vectors (x, y) = (column, row) move with the image.

    The answer has the shape ``(|G|, 2, 2)``.
    """
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # (row, column) to (x, y)
    up = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)  # y counted upwards
    return verdict(
        student,
        [(g.name, (g,), swap @ rotation_matrices(g) @ swap) for g in (dihedral(4), cyclic(4))],
        {
            "you took rotation_matrices as they are: these fit (row, column). In (column, row) the "
            "same turn goes the other way round.": rotation_matrices,
            "you took the inverses: right for turns, but not for mirror images.": (
                lambda g: rotation_matrices(g).mT
            ),
            "your y points up, but rows are counted downwards.": (
                lambda g: swap @ up @ rotation_matrices(g) @ up @ swap
            ),
            "you swapped on one side only; the new basis needs P rho P^-1.": (
                lambda g: swap @ rotation_matrices(g)
            ),
            "you swapped on one side only; the new basis needs P rho P^-1, with P on both.": (
                lambda g: rotation_matrices(g) @ swap
            ),
            "your vectors do not move at all.": lambda g: torch.eye(2).repeat(len(g), 1, 1),
        },
    )


def check_turn_and_recolour(student: Callable[[Element, Element, Tensor], Tensor]) -> bool:
    """``student(turn, colours, images)``: C4 or D4 turns (B, 3, H, W), S3 permutes its channels.

    The entry at channel i moves to channel ``colours i``.
    """
    s3 = symmetric(3)
    channels = Permutation(s3, dim=-3)
    images = random(1, 3, 2, 2)
    cases = []
    for group, turn, colours in [
        (cyclic(4), "e", "(0 1)"),
        (cyclic(4), "r", "e"),
        (cyclic(4), "r", "(0 1 2)"),
        (dihedral(4), "rs", "(0 2 1)"),
    ]:
        both = direct_product(group, s3)
        action = ProductAction(both, [Rotations(group), channels], images)
        expected = action(f"({turn}, {colours})", images)
        cases.append((f"{turn} and {colours}", (group[turn], s3[colours], images), expected))

    def gathered(c: Element, x: Tensor) -> Tensor:
        return x[:, s3.permutations[c.index]]

    def turned(t: Element, x: Tensor) -> Tensor:
        return Rotations(t.group)(t, x)

    return verdict(
        student,
        cases,
        {
            "images[:, p] takes channel p[i] to i, which is the inverse; (0 1) does not show it, "
            "(0 1 2) does. Use the inverse row, p.argsort().": (
                lambda t, c, x: turned(t, gathered(c, x))
            ),
            "you turned clockwise; r is counter-clockwise, torch.rot90(x, 1, (-2, -1)).": (
                lambda t, c, x: turned(~t, channels(c, x))
            ),
            "you turned clockwise and permuted by the inverse: the whole thing is g^-1 x.": (
                lambda t, c, x: turned(~t, gathered(c, x))
            ),
            "you left the colours where they are.": lambda t, c, x: turned(t, x),
            "you did not turn the image.": lambda t, c, x: channels(c, x),
            "you turned in the wrong dimensions: the image is in the last two, (-2, -1).": (
                lambda t, c, x: channels(c, x).rot90(t.index, (0, 1))
            ),
        },
    )
