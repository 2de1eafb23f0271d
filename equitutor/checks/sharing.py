"""Exercises of chapter 4, parameter sharing and regular features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Permutation, Regular
from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from ..layers import EquivariantLinear, orbits
from ..symmetrize import RegularFeatures, equitune
from .verdict import Net, natural_actions, random, verdict

__all__ = [
    "check_free_weights",
    "check_group_convolution",
    "check_regular_features",
    "check_sharing_pattern",
]


def _pairs() -> list[tuple[str, Permutation, Permutation]]:
    """Pairs of permutation representations, between points, the group itself and one point."""
    c3, s3, d4 = cyclic(3), symmetric(3), dihedral(4)
    point = Permutation(s3, torch.zeros(6, 1, dtype=torch.long))
    swap = Permutation(cyclic(2), {"r": [1, 0, 2]})
    return [
        ("C3 from 3 to 3 points", Permutation(c3), Permutation(c3)),
        ("S3 from 3 to 3 points", Permutation(s3), Permutation(s3)),
        ("D4 from 4 corners to itself", Permutation(d4), Regular(d4)),
        ("S3 from 3 points to 1", Permutation(s3), point),
        ("C2 that swaps 2 of 3 points", swap, swap),
    ]


def _layer(a: Permutation, b: Permutation) -> EquivariantLinear:
    with torch.random.fork_rng([]):  # its random start shall not disturb the reader's seed
        return EquivariantLinear(a, b, bias=False).double()


def _numbered(labels: Tensor) -> Tensor:
    """The same partition with its parts numbered in the order in which they appear."""
    names: dict[int, int] = {}
    flat = [names.setdefault(v, len(names)) for v in torch.as_tensor(labels).flatten().tolist()]
    return torch.tensor(flat).reshape(torch.as_tensor(labels).shape)


def _pattern(rows: Tensor, columns: Tensor) -> Tensor:
    """Orbits of index pairs (i, j) under rows[g] on i and columns[g] on j."""
    pairs = (rows[:, :, None] * columns.shape[1] + columns[:, None, :]).flatten(1)
    return orbits(pairs).reshape(rows.shape[1], columns.shape[1])


def check_sharing_pattern(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p_in, p_out)``: the pattern of equal weights, of shape ``(m, n)``.

    The permutations are ``p_in (|G|, n)`` and ``p_out (|G|, m)``.
    """

    def pattern(rows: Callable, columns: Callable) -> Callable:
        return lambda p, q: _numbered(_pattern(rows(p, q), columns(p, q)))

    def still(p: Tensor) -> Tensor:
        return torch.arange(p.shape[1]).expand_as(p)

    cases = []
    for what, a, b in _pairs():
        cases.append((what, (a.perms, b.perms), _numbered(_layer(a, b).weight_orbit)))

    def numbered(p, q):
        labels = student(p, q)
        return None if labels is None else _numbered(labels)

    return verdict(
        numbered,
        cases,
        {
            "your pattern is transposed: row i is an output, column j an input.": pattern(
                lambda p, q: p, lambda p, q: q
            ),
            "you moved the input index j alone; g moves the pair, to (g i, g j).": pattern(
                lambda p, q: still(q), lambda p, q: p
            ),
            "you moved the output index i alone; g moves the pair, to (g i, g j).": pattern(
                lambda p, q: q, lambda p, q: still(p)
            ),
            "you moved i by g but j by g^-1; W rho(g) = rho(g) W asks for W[g i, g j] = W[i, j].": (
                pattern(lambda p, q: q, lambda p, q: p.argsort(1))
            ),
            "you moved i and j by elements of their own; one g moves both.": (
                lambda p, q: _numbered(orbits(q)[:, None] * p.shape[1] + orbits(p))
            ),
            "you shared nothing: every pair has a number of its own.": (
                lambda p, q: torch.arange(q.shape[1] * p.shape[1]).reshape(q.shape[1], -1)
            ),
        },
    )


def check_free_weights(student: Callable[[Tensor, Tensor], int]) -> bool:
    """``student(p_in, p_out)``: the number of free weights, by Burnside's count of fixed pairs."""

    def fixed(p: Tensor) -> Tensor:
        """How many points each g leaves where they are."""
        return (p == torch.arange(p.shape[1])).sum(1)

    cases = []
    for what, a, b in _pairs():
        cases.append((what, (a.perms, b.perms), _layer(a, b).weight.shape[-1]))
    return verdict(
        student,
        cases,
        {
            "you did not divide the sum by |G|.": lambda p, q: int((fixed(p) * fixed(q)).sum()),
            "you divided all pairs by |G|; that holds only where no g but e fixes a pair.": (
                lambda p, q: p.shape[1] * q.shape[1] / len(p)
            ),
            "you counted the orbits of i and of j apart; count those of the pairs (i, j).": (
                lambda p, q: len(orbits(p).unique()) * len(orbits(q).unique())
            ),
            "you added where the pairs need the product: fixed pairs are fixed(i) x fixed(j).": (
                lambda p, q: int((fixed(p) + fixed(q)).sum()) / len(p)
            ),
            "you counted the fixed inputs j only; a pair is fixed if i and j both are.": (
                lambda p, q: int(fixed(p).sum()) / len(p)
            ),
            "you counted all pairs, without any sharing.": lambda p, q: p.shape[1] * q.shape[1],
        },
    )


def check_group_convolution(student: Callable[[FiniteGroup, Tensor, Tensor], Tensor]) -> bool:
    """``student(group, kernel, x)``: y[g] = sum_h kernel[h^-1 g] x[h]."""

    def with_index(index: Callable) -> Callable:
        """The convolution with kernel[index(g, h)]."""
        return lambda group, kernel, x: torch.stack(
            [sum(kernel[index(g, h).index] * x[h.index] for h in group) for g in group]
        )

    cases = []
    for group in (cyclic(3), symmetric(3), dihedral(4)):
        kernel, x = random(len(group), seed=1), random(len(group), seed=2)
        layer = _layer(Regular(group), Regular(group))
        e = group.identity.index  # W[g, h] = W[h^-1 g, e]: the column of e is the kernel
        layer.weight.data[0, 0, layer.weight_orbit[:, e]] = kernel
        cases.append((group.name, (group, kernel, x), layer(x[None])[0].detach()))
    return verdict(
        student,
        cases,
        {
            "you took kernel[g^-1 h], which is the transposed (a correlation).": with_index(
                lambda g, h: ~g @ h
            ),
            "you took kernel[g h^-1]. That is equivariant to multiplication from the right; moving "
            "x from the left needs h^-1 g, and the two agree if the group commutes.": with_index(
                lambda g, h: g @ ~h
            ),
            "you took kernel[h g^-1]: the inverse on the wrong factor, from the wrong side.": (
                with_index(lambda g, h: h @ ~g)
            ),
            "you took kernel[h g]: the inverse is missing.": with_index(lambda g, h: h @ g),
            "you took kernel[g h]: the inverse is missing, and the order.": with_index(
                lambda g, h: g @ h
            ),
            "you subtracted indices, which is h^-1 g for cyclic groups only.": (
                lambda group, kernel, x: torch.stack(
                    [
                        sum(kernel[(g.index - h.index) % len(x)] * x[h.index] for h in group)
                        for g in group
                    ]
                )
            ),
        },
    )


def check_regular_features(student: Callable) -> bool:
    """``student(model, action, x)``: ``(B, |G|, n)``, with h M(h^-1 x) in place h."""

    def terms(term: Callable) -> Callable:
        return lambda model, action, x: torch.stack(
            [term(model, action, h, x) for h in action.group], 1
        )

    cases = []
    for what, action in natural_actions()[1:]:
        model, x = Net(action.degree, action.degree), random(2, action.degree)
        cases.append((what, (model, action, x), RegularFeatures(model, action, action)(x)))
    return verdict(
        student,
        cases,
        {
            "you filed the term g^-1 M(g x) at g; its place is g^-1, or the axis moves by another "
            "rule than left multiplication.": terms(lambda m, a, h, x: a(~h, m(a(h, x)))),
            "you did not move the output by h.": terms(lambda m, a, h, x: m(a(~h, x))),
            "you neither moved the output back nor used h^-1 on the input.": terms(
                lambda m, a, h, x: m(a(h, x))
            ),
            "you moved input and output by the same element.": terms(
                lambda m, a, h, x: a(h, m(a(h, x)))
            ),
            "you moved input and output by the same element, h^-1.": terms(
                lambda m, a, h, x: a(~h, m(a(~h, x)))
            ),
            "you put the group axis first; the batch comes first, then the group.": (
                lambda m, a, x: RegularFeatures(m, a, a)(x).transpose(0, 1)
            ),
            "you averaged; regular features keep the terms apart.": (
                lambda m, a, x: equitune(m, a, a)(x)
            ),
        },
    )
