"""Assignment 3: an equivariant head, from orbits of pixels to invariants of regular features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Action, Flip, Rotations
from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from ..layers import orbits
from .sharing import _numbered
from .verdict import random, solved, verdict

__all__ = [
    "check_autocorrelation",
    "check_lift",
    "check_pixel_orbits",
    "check_pool",
]


def check_pixel_orbits(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(perms)``: a number for each of n points, equal in one orbit; perms ``(|G|, n)``."""

    def labels(number: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Which points have equal numbers, whatever these are."""
        return lambda perms: None if (found := number(perms)) is None else _numbered(found)

    cases = {
        f"{group.name} on {size} x {size} pixels": (Rotations(group).on_pixels(size).perms,)
        for group, size in [(cyclic(4), 3), (dihedral(4), 4), (cyclic(2), 3)]
    }
    pairs = torch.tensor(
        [[3 * i + j for i in p for j in p] for p in symmetric(3).permutations.tolist()]
    )
    cases["S3 on 9 pairs"] = (pairs,)
    cases["a swap of two of three points"] = (torch.tensor([[0, 1, 2], [1, 0, 2]]),)
    return verdict(
        labels(student),
        solved(labels(orbits), cases),
        {
            "you joined each point with its image under one element alone; an orbit holds the images "
            "under all of them.": labels(lambda p: torch.minimum(p[0], p[1])),
            "you numbered by the size of the orbit; two orbits of one size are two orbits.": labels(
                lambda p: torch.tensor([len(column.unique()) for column in p.T])
            ),
            "every point has a number of its own: nothing is shared.": labels(lambda p: p[0]),
            "all points have one number; the group does not move every point to every other.": labels(
                lambda p: 0 * p[0]
            ),
            "you looked along the rows of perms, which belong to one g each; the images of point i "
            "are in column i.": labels(lambda p: p.amin(1)),
        },
    )


def check_pool(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(features, labels, weights)``: the weighted sum over pixels, one weight an orbit.

    ``(B, C, d, d)`` features, ``(d, d)`` labels, one number in weights for each label; ``(B, C)``.
    """
    cases = {}
    for what, action, size in [
        ("C4 on 3 x 3 pixels", Rotations(cyclic(4)), 3),
        ("mirror images on 3 x 3 pixels", Flip("vertical"), 3),
        ("D4 on 4 x 4 pixels", Rotations(dihedral(4)), 4),
    ]:
        labels = orbits(action.on_pixels(size).perms).reshape(size, size)
        cases[what] = (random(2, 3, size, size), labels, random(int(labels.max()) + 1, seed=1))

    def weighted(
        weight: Callable[[Tensor, Tensor], Tensor], dims: tuple[int, ...] = (-2, -1)
    ) -> Callable:
        return lambda x, labels, w: (x * weight(labels, w)).sum(dims)

    def shared(labels: Tensor, w: Tensor) -> Tensor:
        return w[labels]

    def orbit_size(labels: Tensor) -> Tensor:
        return labels.flatten().bincount()[labels]

    return verdict(
        student,
        solved(weighted(shared), cases),
        {
            "you took the mean over each orbit; the sum goes over pixels, and large orbits count "
            "more.": weighted(lambda labels, w: w[labels] / orbit_size(labels)),
            "you divided by the number of pixels; the weights are as they are given.": weighted(
                lambda labels, w: w[labels] / labels.numel()
            ),
            "you added up the channels too; each has its own answer.": weighted(
                shared, dims=(-3, -2, -1)
            ),
            "you transposed the labels.": weighted(lambda labels, w: w[labels.mT]),
            "you did not use the weights.": weighted(lambda labels, w: torch.ones(labels.shape)),
            "you used the labels as weights.": weighted(lambda labels, w: labels),
            "you summed over rows (or columns) only.": weighted(shared, dims=(-1,)),
        },
    )


def check_lift(student: Callable[[Action, Tensor, Tensor], Tensor]) -> bool:
    """``student(action, features, kernel)``: ``y[b, g] = <kernel, g^-1 features[b]>``.

    Features ``(B, C, d, d)`` and one kernel ``(C, d, d)`` give ``(B, |G|)``.
    """

    def products(left: Callable[[Action, int, Tensor], Tensor]) -> Callable:
        return lambda action, x, k: torch.stack(
            [(k * left(action, g, x)).flatten(1).sum(1) for g in action.group], 1
        )

    right = products(lambda action, g, x: action(~g, x))
    cases = {}
    for group, size in [(cyclic(2), 3), (cyclic(4), 3), (dihedral(4), 4)]:
        cases[f"{group.name} on {size} x {size} pixels"] = (
            Rotations(group),
            random(2, 3, size, size),
            random(3, size, size, seed=1),
        )
    return verdict(
        student,
        solved(right, cases),
        {
            "you filed <kernel, g x> at g. Then turning x by h moves the answers to g h^-1 and not to "
            "h g: compare with g^-1 x, or turn the kernel by g.": products(lambda a, g, x: a(g, x)),
            "you compared with x itself, every time.": products(lambda a, g, x: x),
            "you put the group first; the batch comes first, then the group.": lambda a, x, k: (
                right(a, x, k).T
            ),
            "you took the mean over pixels and channels in place of the sum.": lambda a, x, k: (
                right(a, x, k) / k.numel()
            ),
            "you averaged over the group: that is invariant, and has forgotten which way it was.": (
                lambda a, x, k: right(a, x, k).mean(1)
            ),
            "you kept the channels apart; the sum goes over them, too.": lambda a, x, k: (
                torch.stack([(k * a(~g, x)).sum((-2, -1)) for g in a.group], 1)
            ),
        },
    )


def check_autocorrelation(student: Callable[[FiniteGroup, Tensor], Tensor]) -> bool:
    """``student(group, f)``: ``a[b, d] = sum_h f[b, h] f[b, h d]`` for features ``(B, |G|)``."""

    def pairs(partner: Callable) -> Callable:
        return lambda group, f: torch.stack(
            [sum(f[:, h.index] * f[:, partner(group, h, d)] for h in group) for d in group], 1
        )

    right = pairs(lambda group, h, d: (h @ d).index)
    groups = (cyclic(3), symmetric(3), dihedral(4))
    return verdict(
        student,
        solved(right, {g.name: (g, random(2, len(g))) for g in groups}),
        {
            "you took f[d h]. When x moves, h becomes g h: the g must stand outside, so multiply by d "
            "from the right. A group that commutes does not show it.": pairs(
                lambda group, h, d: (d @ h).index
            ),
            "you took f[h^-1 d], which is a convolution of f with itself and not invariant.": pairs(
                lambda group, h, d: (~h @ d).index
            ),
            "you added the numbers of the elements, which is h d for cyclic groups only.": pairs(
                lambda group, h, d: (h.index + d.index) % len(group)
            ),
            "you divided by |G|.": lambda group, f: right(group, f) / len(group),
            "you did not sum over h.": lambda group, f: f[:, :1] * f,
            "you squared the features, each by itself; what is wanted are products of two views.": (
                lambda group, f: f.square()
            ),
            "you added up the batch.": lambda group, f: right(group, f).sum(0),
        },
    )
