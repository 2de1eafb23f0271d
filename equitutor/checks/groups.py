"""Chapter 1: groups and their actions on points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from ..rotations import Rotations
from .settings import random
from .verdict import verdict

__all__ = [
    "check_count_colourings",
    "check_inverses",
    "check_is_action",
    "check_move_scores",
]


def _identity(table: Tensor) -> int:
    """The element whose row of the Cayley table is 0, 1, 2, ..."""
    return int((table == torch.arange(len(table))).all(1).nonzero())


def burnside(exponent: Callable) -> Callable:
    """The mean of k^exponent(p) over the rows p: if cycles are counted, k-colourings up to G."""
    return lambda perms, k=2: round(sum(k ** exponent(p) for p in perms.tolist()) / len(perms))


def count_cycles(p: list[int], items: list) -> int:
    """The number of cycles of p on tuples (ordered) or frozensets (unordered) of points."""
    left, count = set(items), 0
    for item in items:
        count += item in left
        while item in left:
            left.remove(item)
            item = type(item)(p[i] for i in item)
    return count


def check_inverses(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(table)``: the index of the inverse of each element, shape (n,)."""
    shuffled = torch.tensor([2, 0, 3, 1])  # C4 with its identity in place 2
    table = torch.empty(4, 4, dtype=torch.long)
    table[shuffled[:, None], shuffled] = shuffled[cyclic(4).table]
    cases = {g.name: (g.table,) for g in (cyclic(2), cyclic(4), symmetric(3), dihedral(4))}
    cases["C4 in another order"] = (table,)
    mistakes = {
        "you looked for 0 in the row, but the identity need not be element 0. Find it first.": (
            lambda t: (t == 0).int().argmax(1)
        ),
        "you took -i modulo n, which is the inverse in cyclic groups only.": (
            lambda t: -torch.arange(len(t)) % len(t)
        ),
        "you returned g g, the diagonal of the table.": lambda t: t.diagonal(),
        "you returned g itself, which is its own inverse only if g g = e.": (
            lambda t: torch.arange(len(t))
        ),
        "you returned True and False instead of the number of the column that holds e.": (
            lambda t: t == _identity(t)
        ),
    }
    return verdict(student, lambda t: FiniteGroup(t).inverses, cases, mistakes)


def check_move_scores(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p, x)``: g x for scores (..., n), where p[i] says where g sends i."""
    cases = {
        "a swap": (torch.tensor([1, 0]), random(2)),
        "three in a circle": (torch.tensor([1, 2, 0]), random(3)),
        "a batch, four in a circle": (torch.tensor([1, 2, 3, 0]), random(5, 4)),
        "a square batch": (torch.tensor([2, 0, 1]), random(3, 3)),
    }
    mistakes = {
        "x[..., p] takes to place i what stood at p[i], which is g^-1 x; a swap does not show "
        "it.": lambda p, x: x[..., p],
        "you moved along the first dimension; the scores are in the last.": (
            lambda p, x: x[p.argsort()]
        ),
        "you took x[p]: the wrong way round, and along the first dimension.": lambda p, x: x[p],
        "you changed nothing.": lambda p, x: x,
        "you returned the places, p, and not the scores.": lambda p, x: p.expand(x.shape),
    }
    return verdict(student, lambda p, x: x[..., p.argsort()], cases, mistakes)


def check_is_action(student: Callable[[Tensor, Tensor], bool]) -> bool:
    """``student(table, perms)``: are the rows perms ``(|G|, n)`` an action of the group?"""

    def law(first: Callable) -> Callable:
        return lambda table, perms: all(
            torch.equal(perms[gh], first(perms, g, h))
            for g, row in enumerate(table)
            for h, gh in enumerate(row)
        )

    homomorphism = law(lambda p, g, h: p[g][p[h]])
    reverse = law(lambda p, g, h: p[h][p[g]])

    def fixes_all(row: Tensor) -> bool:
        return torch.equal(row, torch.arange(len(row)))

    def still(table: Tensor, perms: Tensor) -> bool:
        return fixes_all(perms[_identity(table)])

    def right(table: Tensor, perms: Tensor) -> bool:
        return still(table, perms) and homomorphism(table, perms)

    c2, c4, s3, d4 = cyclic(2), cyclic(4), symmetric(3), dihedral(4)
    late = FiniteGroup([[1, 2, 0], [2, 0, 1], [0, 1, 2]])  # r, r2, e
    cases = {
        "C4 on four corners": (c4.table, c4.permutations),
        "D4 on four corners": (d4.table, d4.permutations),
        "C4 by inverses": (c4.table, c4.permutations[c4.inverses]),
        "S3 by inverses": (s3.table, s3.permutations[s3.inverses]),
        "D4 that never moves": (d4.table, torch.arange(4).repeat(8, 1)),
        "C4 with r and r2 exchanged": (c4.table, c4.permutations[[0, 2, 1, 3]]),
        "C3 with its identity last": (late.table, late.permutations),
        "C2 whose identity moves": (c2.table, torch.tensor([[1, 0], [1, 0]])),
        "C2 that sends both points to 0": (c2.table, torch.tensor([[0, 0], [0, 0]])),
    }
    mistakes = {
        "you composed in the wrong order: g h is first h, then g, so i goes to p_g[p_h[i]]. Groups "
        "that commute do not show it.": lambda t, p: still(t, p) and reverse(t, p),
        "you left out the first law: the identity must move nothing.": homomorphism,
        "you took element 0 for the identity; the table says which one it is.": (
            lambda t, p: fixes_all(p[0]) and homomorphism(t, p)
        ),
        "you only tested that the identity moves nothing.": still,
        "you required different elements to move differently; in an action they need not.": (
            lambda t, p: right(t, p) and len(p.unique(dim=0)) == len(p)
        ),
        "you only tested that each row is a permutation.": lambda t, p: all(
            fixes_all(row.sort().values) for row in p
        ),
        "you accept everything.": lambda t, p: True,
    }
    return verdict(student, right, cases, mistakes)


def check_count_colourings(student: Callable[[Tensor, int], int]) -> bool:
    """``student(perms, colours)``: colourings of n points up to the group; perms ``(|G|, n)``."""

    def cycles(p: list[int]) -> int:
        return count_cycles(p, [(i,) for i in p])

    swap = torch.tensor([[0, 1, 2], [1, 0, 2]])
    cases = {
        "4 corners under C4, 2 colours": (cyclic(4).permutations, 2),
        "4 corners under D4, 3 colours": (dihedral(4).permutations, 3),
        "3 points, two of them exchanged, 2 colours": (swap, 2),
        "9 pixels under D4, 2 colours": (Rotations(dihedral(4)).on_pixels(3).perms, 2),
    }
    mistakes = {
        "you counted the points that g leaves in place; a colouring is fixed by g if each cycle of "
        "g has one colour, so count cycles.": burnside(
            lambda p: sum(i == j for i, j in enumerate(p))
        ),
        "you did not divide by |G|.": lambda perms, k: sum(k ** cycles(p) for p in perms.tolist()),
        "you divided the number of all colourings by |G|, but symmetric ones have smaller "
        "orbits.": lambda perms, k: k ** perms.shape[1] // len(perms),
        "you divided the number of all colourings by |G|, but symmetric ones have smaller orbits. "
        "(And the quotient need not be whole.)": lambda perms, k: k ** perms.shape[1] / len(perms),
        "you coloured whole orbits of points: that counts the colourings that every g fixes.": (
            lambda perms, k: k ** len(perms.amin(0).unique())
        ),
        "you counted all colourings.": lambda perms, k: k ** perms.shape[1],
    }
    return verdict(student, burnside(cycles), cases, mistakes)
