"""Chapter 4 and assignment 3: shared weights, regular features and equivariant heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Action, Permutation, Regular
from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from ..layers import orbits
from ..rotations import Flip, Rotations
from .settings import Net, natural_actions, random
from .verdict import verdict

__all__ = [
    "check_autocorrelation",
    "check_free_weights",
    "check_group_convolution",
    "check_lift",
    "check_pixel_orbits",
    "check_pool",
    "check_regular_features",
    "check_sharing_pattern",
]


def _numbered(function: Callable, *args: Tensor) -> Tensor | None:
    """The labels that a function returns, numbered in the order in which they appear."""
    labels = function(*args)
    if labels is None:
        return None
    names: dict[int, int] = {}
    labels = torch.as_tensor(labels)
    flat = [names.setdefault(label, len(names)) for label in labels.flatten().tolist()]
    return torch.tensor(flat).reshape(labels.shape)


# -- chapter 4 --------------------------------------------------------------------------------


def _representations() -> dict[str, tuple[Tensor, Tensor]]:
    """Permutations ``(|G|, n)`` and ``(|G|, m)``, of points, of the group itself, of one point."""
    c3, s3, d4 = (Permutation(group).perms for group in (cyclic(3), symmetric(3), dihedral(4)))
    swap = torch.tensor([[0, 1, 2], [1, 0, 2]])
    return {
        "C3 from 3 to 3 points": (c3, c3),
        "S3 from 3 to 3 points": (s3, s3),
        "D4 from 4 corners to itself": (d4, Regular(dihedral(4)).perms),
        "S3 from 3 points to 1": (s3, torch.zeros(6, 1, dtype=torch.long)),
        "C2 that swaps 2 of 3 points": (swap, swap),
    }


def check_sharing_pattern(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p_in, p_out)``: the pattern of equal weights, of shape ``(m, n)``.

    The permutations are ``p_in (|G|, n)`` and ``p_out (|G|, m)``.
    """

    def pattern(i: Tensor, j: Tensor) -> Tensor:
        """Orbits of index pairs (i, j), where i moves by the rows of the one and j of the other."""
        pairs = (i[:, :, None] * j.shape[1] + j[:, None, :]).flatten(1)
        return orbits(pairs).reshape(i.shape[1], j.shape[1])

    def still(p: Tensor) -> Tensor:
        return torch.arange(p.shape[1]).expand_as(p)

    mistakes = {
        "your pattern is transposed: row i is an output, column j an input.": pattern,
        "you moved the input index j alone; g moves the pair, to (g i, g j).": (
            lambda p, q: pattern(still(q), p)
        ),
        "you moved the output index i alone; g moves the pair, to (g i, g j).": (
            lambda p, q: pattern(q, still(p))
        ),
        "you moved i by g but j by g^-1; W rho(g) = rho(g) W requires W[g i, g j] = W[i, j].": (
            lambda p, q: pattern(q, p.argsort(1))
        ),
        "you moved i and j by two different elements; one g moves both.": (
            lambda p, q: orbits(q)[:, None] * p.shape[1] + orbits(p)
        ),
        "you shared nothing: every pair has a number of its own.": (
            lambda p, q: torch.arange(q.shape[1] * p.shape[1]).reshape(q.shape[1], -1)
        ),
    }
    return verdict(student, lambda p, q: pattern(q, p), _representations(), mistakes, _numbered)


def check_free_weights(student: Callable[[Tensor, Tensor], int]) -> bool:
    """``student(p_in, p_out)``: the number of free weights, by Burnside's count of fixed pairs."""

    def fixed(p: Tensor) -> Tensor:
        """The number of points that each g leaves in place, (|G|,)."""
        return (p == torch.arange(p.shape[1])).sum(1)

    def mean(term: Callable) -> Callable:
        return lambda p, q: term(fixed(p), fixed(q)).sum().item() / len(p)

    def right(p: Tensor, q: Tensor) -> int:
        return int(mean(torch.mul)(p, q))

    mistakes = {
        "you did not divide the sum by |G|.": lambda p, q: right(p, q) * len(p),
        "you divided all pairs by |G|; that holds only where no g but e fixes a pair.": (
            lambda p, q: p.shape[1] * q.shape[1] / len(p)
        ),
        "you counted the orbits of i and of j separately; count those of the pairs (i, j).": (
            lambda p, q: len(orbits(p).unique()) * len(orbits(q).unique())
        ),
        "you added where the pairs need the product: fixed pairs are fixed(i) x fixed(j).": mean(
            torch.add
        ),
        "you counted the fixed inputs j only; a pair is fixed if both i and j are.": mean(
            lambda i, j: i
        ),
        "you counted all pairs, without any sharing.": lambda p, q: p.shape[1] * q.shape[1],
    }
    return verdict(student, right, _representations(), mistakes)


def check_group_convolution(student: Callable[[FiniteGroup, Tensor, Tensor], Tensor]) -> bool:
    """``student(group, kernel, x)``: y[g] = sum_h kernel[h^-1 g] x[h]."""

    def with_index(index: Callable) -> Callable:
        """The convolution with kernel[index(g, h)]."""
        return lambda group, kernel, x: torch.stack(
            [sum(kernel[group.index(index(g, h))] * x[h.index] for h in group) for g in group]
        )

    groups = (cyclic(3), symmetric(3), dihedral(4))
    cases = {g.name: (g, random(len(g), seed=1), random(len(g), seed=2)) for g in groups}
    mistakes = {
        "you took kernel[g^-1 h], which is the transposed (a correlation).": with_index(
            lambda g, h: ~g @ h
        ),
        "you took kernel[g h^-1]. That is equivariant to multiplication from the right; moving x "
        "from the left needs h^-1 g, and the two agree if the group commutes.": with_index(
            lambda g, h: g @ ~h
        ),
        "you took kernel[h g^-1]: the inverse on the wrong factor, from the wrong side.": (
            with_index(lambda g, h: h @ ~g)
        ),
        "you took kernel[h g]: the inverse is missing.": with_index(lambda g, h: h @ g),
        "you took kernel[g h]: the inverse is missing, and the order is wrong.": with_index(
            lambda g, h: g @ h
        ),
        "you subtracted indices, which is h^-1 g for cyclic groups only.": with_index(
            lambda g, h: (g.index - h.index) % len(g.group)
        ),
    }
    return verdict(student, with_index(lambda g, h: ~h @ g), cases, mistakes)


def check_regular_features(student: Callable) -> bool:
    """``student(model, action, x)``: ``(B, |G|, n)``, with h M(h^-1 x) in place h."""

    def terms(out: int, into: int) -> Callable:
        """h^out M(h^into x) for each h."""
        return lambda m, a, x: torch.stack([a(h**out, m(a(h**into, x))) for h in a.group], 1)

    right = terms(1, -1)

    cases = {
        f"{a.group.name} on {a.degree} points": (Net(a.degree, a.degree), a, random(2, a.degree))
        for a in natural_actions()[1:]
    }
    mistakes = {
        "you put the term g^-1 M(g x) in place g; its place is g^-1, or the axis moves by another "
        "rule than left multiplication.": terms(-1, 1),
        "you did not move the output by h.": terms(0, -1),
        "you neither moved the output back nor used h^-1 on the input.": terms(0, 1),
        "you moved input and output by the same element.": terms(1, 1),
        "you moved input and output by the same element, h^-1.": terms(-1, -1),
        "you put the group axis first; the batch comes first, then the group.": (
            lambda *args: right(*args).transpose(0, 1)
        ),
        "you averaged; regular features keep the terms separate.": (
            lambda *args: right(*args).mean(1)
        ),
    }
    return verdict(student, right, cases, mistakes)


# -- assignment 3 -----------------------------------------------------------------------------


def check_pixel_orbits(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(perms)``: a number for each of n points, equal in one orbit; perms ``(|G|, n)``."""
    pairs = [[3 * i + j for i in p for j in p] for p in symmetric(3).permutations.tolist()]
    pixels = torch.arange(9).reshape(3, 3)
    flips = [pixels, pixels.flip(0), pixels.flip(1), pixels.flip(0, 1)]
    mirrored = torch.stack(flips).flatten(1)
    cases = {
        "C4 on 3 x 3 pixels": (Rotations(cyclic(4)).on_pixels(3).perms,),
        "mirror images of 3 x 3 pixels, both ways": (mirrored,),
        "D4 on 4 x 4 pixels": (Rotations(dihedral(4)).on_pixels(4).perms,),
        "C2 on 3 x 3 pixels": (Rotations(cyclic(2)).on_pixels(3).perms,),
        "S3 on 9 pairs": (torch.tensor(pairs),),
        "a swap of two of three points": (torch.tensor([[0, 1, 2], [1, 0, 2]]),),
    }
    mistakes = {
        "you joined each point with its image under one element alone; an orbit holds the images "
        "under all of them.": lambda p: torch.minimum(p[0], p[1]),
        "you numbered by the size of the orbit; two orbits of one size are two orbits.": (
            lambda p: [len(column.unique()) for column in p.T]
        ),
        "every point has a number of its own: nothing is shared.": lambda p: p[0],
        "all points have one number; the group does not move every point to every other.": (
            lambda p: 0 * p[0]
        ),
        "you looked along the rows of perms, which belong to one g each; the images of point i are "
        "in column i.": lambda p: p.amin(1),
    }
    return verdict(student, orbits, cases, mistakes, _numbered)


def check_pool(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(features, labels, weights)``: the weighted sum over pixels, one weight per orbit.

    ``(B, C, d, d)`` features, ``(d, d)`` labels, one number in weights for each label; ``(B, C)``.
    """

    def weighted(weight: Callable[[Tensor, Tensor], Tensor], dims: tuple = (-2, -1)) -> Callable:
        return lambda x, labels, w: (x * weight(labels, w)).sum(dims)

    def shared(labels: Tensor, w: Tensor) -> Tensor:
        return w[labels]

    cases = {}
    for what, action, size in [
        ("C4 on 3 x 3 pixels", Rotations(cyclic(4)), 3),
        ("mirror images on 3 x 3 pixels", Flip("vertical"), 3),
        ("D4 on 4 x 4 pixels", Rotations(dihedral(4)), 4),
    ]:
        labels = orbits(action.on_pixels(size).perms).reshape(size, size)
        cases[what] = (random(2, 3, size, size), labels, random(int(labels.max()) + 1, seed=1))
    *_, labels, weights = cases[what]
    cases["other features"] = random(2, 3, 4, 4, seed=5), labels, random(len(weights), seed=6)
    cases["a single image"] = random(1, 3, 4, 4, seed=7), labels, weights
    mistakes = {
        "you took the mean over each orbit; the sum is over pixels, and large orbits count more.": (
            weighted(lambda labels, w: (w / labels.flatten().bincount())[labels])
        ),
        "you divided by the number of pixels; use the weights as they are given.": weighted(
            lambda labels, w: w[labels] / labels.numel()
        ),
        "you added up the channels too; each has its own answer.": weighted(shared, (-3, -2, -1)),
        "you transposed the labels.": weighted(lambda labels, w: w[labels.mT]),
        "you did not use the weights.": weighted(lambda labels, w: 1),
        "you used the labels as weights.": weighted(lambda labels, w: labels),
        "you summed over rows (or columns) only.": weighted(shared, (-1,)),
        "you divided by the weights; each pixel is multiplied by that of its orbit.": weighted(
            lambda labels, w: 1 / w[labels]
        ),
        "you used the weight of one orbit for all pixels.": weighted(lambda labels, w: w[0]),
        "you used the last weight for all pixels: w[labels] has one for each.": weighted(
            lambda labels, w: w[-1]
        ),
    }
    return verdict(student, weighted(shared), cases, mistakes, gradients=(0, 2))


def check_lift(student: Callable[[Action, Tensor, Tensor], Tensor]) -> bool:
    """``student(action, features, kernel)``: ``y[b, g] = <kernel, g^-1 features[b]>``.

    Features ``(B, C, d, d)`` and one kernel ``(C, d, d)`` give ``(B, |G|)``.
    """

    def products(power: int, dims: tuple = (-3, -2, -1)) -> Callable:
        """<kernel, g^power x> for each g."""
        return lambda a, x, k: torch.stack([(k * a(g**power, x)).sum(dims) for g in a.group], 1)

    right = products(-1)
    cases = {}
    for group, d in [(cyclic(2), 3), (cyclic(4), 3), (dihedral(4), 4)]:
        features, kernel = random(2, 3, d, d), random(3, d, d, seed=1)
        cases[f"{group.name} on {d} x {d} pixels"] = Rotations(group), features, kernel
    more = random(2, 3, 4, 4, seed=5), random(3, 4, 4, seed=6)
    cases["D4, other features"] = Rotations(dihedral(4)), *more
    cases["D4, a single image"] = Rotations(dihedral(4)), random(1, 3, 4, 4), more[1]
    mistakes = {
        "you put <kernel, g x> in place g. Then turning x by h moves the answers to g h^-1 and not "
        "to h g: compare with g^-1 x, or turn the kernel by g.": products(1),
        "you compared with x itself, every time.": products(0),
        "you put the group first; the batch comes first, then the group.": (
            lambda *args: right(*args).T
        ),
        "you took the mean over pixels and channels instead of the sum.": (
            lambda a, x, k: right(a, x, k) / k.numel()
        ),
        "you averaged over the group: that is invariant, and has lost the orientation.": (
            lambda *args: right(*args).mean(1)
        ),
        "you kept the channels separate; the sum is over them, too.": products(-1, (-2, -1)),
        "you divided by the features (or by the kernel); multiply, entry by entry.": (
            lambda a, x, k: products(-1)(a, 1 / x, k)
        ),
    }
    return verdict(student, right, cases, mistakes, gradients=(1, 2))


def check_autocorrelation(student: Callable[[FiniteGroup, Tensor], Tensor]) -> bool:
    """``student(group, f)``: ``a[b, d] = sum_h f[b, h] f[b, h d]`` for features ``(B, |G|)``."""

    def pairs(partner: Callable) -> Callable:
        return lambda group, f: torch.stack(
            [sum(f[:, h.index] * f[:, group.index(partner(h, d))] for h in group) for d in group], 1
        )

    right = pairs(lambda h, d: h @ d)
    cases = {g.name: (g, random(2, len(g))) for g in (cyclic(3), symmetric(3), dihedral(4))}
    cases["S3, a single row"] = symmetric(3), random(1, 6)
    cases["D4, other features"] = dihedral(4), random(2, 8, seed=5)
    cases["C8"] = cyclic(8), random(2, 8)
    mistakes = {
        "you took f[d h]. When x moves, h becomes g h: the g must stand outside, so multiply by d "
        "from the right. A group that commutes does not show it.": pairs(lambda h, d: d @ h),
        "you took f[h^-1 d], which is a convolution of f with itself and not invariant.": pairs(
            lambda h, d: ~h @ d
        ),
        "you added the numbers of the elements, which is h d for cyclic groups only.": pairs(
            lambda h, d: (h.index + d.index) % len(h.group)
        ),
        "you divided by |G|.": lambda group, f: right(group, f) / len(group),
        "you did not sum over h.": lambda group, f: f[:, :1] * f,
        "you squared each feature by itself; the products of two views are needed.": (
            lambda group, f: f.square()
        ),
        "you added up the batch.": lambda group, f: right(group, f).sum(0),
        "you divided by f[h d]; the two are multiplied.": lambda group, f: torch.stack(
            [sum(f[:, h.index] / f[:, (h @ d).index] for h in group) for d in group], 1
        ),
    }
    return verdict(student, right, cases, mistakes, gradients=(1,))
