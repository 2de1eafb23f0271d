"""Exercises of chapters 1 and 2: groups and actions, and why networks are not equivariant."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ..actions import Action, Permutation, Rotations
from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from .verdict import random, verdict

__all__ = [
    "check_count_colourings",
    "check_equivariance_error",
    "check_inverses",
    "check_is_action",
    "check_move_scores",
    "check_same_windows",
    "check_symmetric_kernel",
]


# -- chapter 1 --------------------------------------------------------------------------------


def check_inverses(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(table)``: the index of the inverse of each element, shape (n,)."""
    shuffled = torch.tensor([2, 0, 3, 1])  # C4 with its identity in place 2
    table = torch.empty(4, 4, dtype=torch.long)
    table[shuffled[:, None], shuffled] = shuffled[cyclic(4).table]
    groups = [cyclic(2), cyclic(4), symmetric(3), dihedral(4)]
    groups.append(FiniteGroup(table, name="C4 in another order"))
    return verdict(
        student,
        [(g.name, (g.table,), g.inverses) for g in groups],
        {
            "you looked for 0 in the row; the identity need not be element 0. Find it first.": (
                lambda t: (t == 0).int().argmax(1)
            ),
            "you took -i modulo n, which is the inverse in cyclic groups only.": (
                lambda t: -torch.arange(len(t)) % len(t)
            ),
            "you gave g g, the diagonal of the table.": lambda t: t.diagonal(),
            "you gave g itself: that is its own inverse only if g g = e.": (
                lambda t: torch.arange(len(t))
            ),
            "you gave True and False; asked for is the number of the column that holds e.": (
                lambda t: t == int((t == torch.arange(len(t))).all(1).nonzero())
            ),
        },
    )


def check_move_scores(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p, x)``: g x for scores (..., n), where p[i] says where g sends i."""
    cases = []
    for what, p, x in [
        ("a swap", [1, 0], random(2)),
        ("three in a circle", [1, 2, 0], random(3)),
        ("a batch, four in a circle", [1, 2, 3, 0], random(5, 4)),
        ("a square batch", [2, 0, 1], random(3, 3)),
    ]:
        row = torch.tensor(p)
        cases.append((what, (row, x), x[..., row.argsort()]))
    return verdict(
        student,
        cases,
        {
            "x[..., p] takes to place i what stood at p[i], which is g^-1 x; a swap does not show "
            "it.": lambda p, x: x[..., p],
            "you moved along the first dimension; the scores are in the last.": (
                lambda p, x: x[p.argsort()]
            ),
            "you took x[p]: the wrong way round, and along the first dimension.": (
                lambda p, x: x[p]
            ),
            "you changed nothing.": lambda p, x: x,
            "you gave the places, p, and not the scores.": lambda p, x: p.expand(x.shape),
        },
    )


def check_is_action(student: Callable[[Tensor, Tensor], bool]) -> bool:
    """``student(table, perms)``: are the rows perms ``(|G|, n)`` an action of the group?"""

    def law(first: Callable) -> Callable:
        def holds(table: Tensor, perms: Tensor) -> bool:
            n = len(table)
            return all(
                torch.equal(perms[table[g, h]], first(perms, g, h))
                for g in range(n)
                for h in range(n)
            )

        return holds

    def still(table: Tensor, perms: Tensor) -> bool:
        e = (table == torch.arange(len(table))).all(1).nonzero()[0, 0]
        return torch.equal(perms[e], torch.arange(perms.shape[1]))

    def right(table: Tensor, perms: Tensor) -> bool:
        return still(table, perms) and homomorphism(table, perms)

    homomorphism = law(lambda p, g, h: p[g][p[h]])
    reverse = law(lambda p, g, h: p[h][p[g]])
    c2, c4, s3, d4 = cyclic(2), cyclic(4), symmetric(3), dihedral(4)
    late = FiniteGroup([[1, 2, 0], [2, 0, 1], [0, 1, 2]])  # r, r2, e
    cases = [
        (what, (group.table, torch.as_tensor(rows)), None)
        for what, group, rows in [
            ("C4 on four corners", c4, c4.permutations),
            ("D4 on four corners", d4, d4.permutations),
            ("C4 by inverses", c4, c4.permutations[c4.inverses]),
            ("S3 by inverses", s3, s3.permutations[s3.inverses]),
            ("D4 that never moves", d4, torch.arange(4).repeat(8, 1)),
            ("C4 with r and r2 exchanged", c4, c4.permutations[[0, 2, 1, 3]]),
            ("C3 with its identity last", late, late.permutations),
            ("C2 whose identity moves", c2, [[1, 0], [1, 0]]),
            ("C2 that sends both points to 0", c2, [[0, 0], [0, 0]]),
        ]
    ]
    return verdict(
        student,
        [(what, args, right(*args)) for what, args, _ in cases],
        {
            "you did them in the wrong order: g h is first h, then g, so i goes to p_g[p_h[i]]. "
            "Groups that commute do not show it.": lambda t, p: still(t, p) and reverse(t, p),
            "you left out the first law: the identity must move nothing.": homomorphism,
            "you took element 0 for the identity; the table says which one it is.": (
                lambda t, p: torch.equal(p[0], torch.arange(p.shape[1])) and homomorphism(t, p)
            ),
            "you asked only whether the identity moves nothing.": still,
            "you asked that different elements move differently; an action need not.": (
                lambda t, p: right(t, p) and len(p.unique(dim=0)) == len(p)
            ),
            "you asked only whether each row is a permutation.": (
                lambda t, p: bool((p.sort(1).values == torch.arange(p.shape[1])).all())
            ),
            "you accept everything.": lambda t, p: True,
        },
    )


def check_count_colourings(student: Callable[[Tensor, int], int]) -> bool:
    """``student(perms, colours)``: colourings of n points up to the group; perms ``(|G|, n)``."""

    def cycles(p: Tensor) -> int:
        """The number of cycles: each is counted at its least point."""
        least, row = torch.arange(len(p)), torch.arange(len(p))
        for _ in range(len(p)):
            row = p[row]
            least = torch.minimum(least, row)
        return len(least.unique())

    def mean(exponent: Callable) -> Callable:
        return lambda perms, k: round(sum(k ** exponent(p) for p in perms) / len(perms))

    right = mean(cycles)
    swap = Permutation(cyclic(2), {"r": [1, 0, 2]}).perms
    cases = [
        ("4 corners under C4, 2 colours", cyclic(4).permutations, 2),
        ("4 corners under D4, 3 colours", dihedral(4).permutations, 3),
        ("3 points, two of them exchanged, 2 colours", swap, 2),
        ("9 pixels under D4, 2 colours", Rotations(dihedral(4)).on_pixels(3).perms, 2),
    ]
    return verdict(
        student,
        [(what, (perms, k), right(perms, k)) for what, perms, k in cases],
        {
            "you counted the points that g leaves in place; a colouring is fixed by g if each cycle "
            "of g has one colour, so count cycles.": mean(
                lambda p: int((p == torch.arange(len(p))).sum())
            ),
            "you did not divide by |G|.": lambda perms, k: sum(k ** cycles(p) for p in perms),
            "you divided all colourings by |G|; symmetric ones have smaller orbits.": (
                lambda perms, k: k ** perms.shape[1] // len(perms)
            ),
            "you divided all colourings by |G|; symmetric ones have smaller orbits. (And the "
            "number need not be whole.)": lambda perms, k: k ** perms.shape[1] / len(perms),
            "you coloured whole orbits of points: that counts what every g leaves in place.": (
                lambda perms, k: k ** len(perms.amin(0).unique())
            ),
            "you counted all colourings.": lambda perms, k: k ** perms.shape[1],
        },
    )


# -- chapter 2 --------------------------------------------------------------------------------


def check_equivariance_error(student: Callable[[Callable, Action, Tensor], float]) -> bool:
    """``student(f, action, x)``: max_g |f(g x) - g f(x)| / |f(x)|, |.| the largest entry."""

    def worst(difference: Callable, relative: bool = True, over: Callable = max) -> Callable:
        def error(f: Callable, act: Action, x: Tensor) -> float:
            scale = f(x).abs().max().item() if relative else 1.0
            return over([difference(f, act, g, x).abs().max().item() for g in act.group]) / scale

        return error

    right = worst(lambda f, act, g, x: f(act(g, x)) - act(g, f(x)))
    x = random(2, 1, 6, 6)
    kernel, sheet = random(1, 1, 3, 3, seed=1), random(6, 6, seed=2)
    maps = {
        "an uneven filter under C2": (cyclic(2), lambda x: conv2d(x, kernel, padding=1)),
        "the same filter under C4": (cyclic(4), lambda x: conv2d(x, kernel, padding=1)),
        "a pointwise tanh under C4": (cyclic(4), torch.tanh),
        "an uneven brightness under D4": (dihedral(4), lambda x: x * sheet),
    }
    cases = [(what, (f, Rotations(group), x)) for what, (group, f) in maps.items()]
    return verdict(
        student,
        [(what, args, right(*args)) for what, args in cases],
        {
            "you compared f(g x) with f(x): that asks for invariance. The output should move.": (
                worst(lambda f, act, g, x: f(act(g, x)) - f(x))
            ),
            "you moved the output by g^-1; for C2 that is the same.": worst(
                lambda f, act, g, x: f(act(g, x)) - act(~g, f(x))
            ),
            "you did not divide by the size of f(x).": worst(
                lambda f, act, g, x: f(act(g, x)) - act(g, f(x)), relative=False
            ),
            "you took the mean over the group; asked for is the worst element.": worst(
                lambda f, act, g, x: f(act(g, x)) - act(g, f(x)),
                over=lambda errors: sum(errors) / len(errors),
            ),
            "you did not move the input of f.": worst(lambda f, act, g, x: f(x) - act(g, f(x))),
            "you tried the identity only.": lambda f, act, x: 0.0,
        },
    )


def check_symmetric_kernel(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(kernel)``: the closest (out, in, k, k) kernel that turns do not change."""
    quarter = Rotations(cyclic(4))
    cases = []
    for what, shape in [
        ("one 3 x 3 filter", (1, 1, 3, 3)),
        ("3 x 2 filters of 3 x 3", (3, 2, 3, 3)),
        ("4 x 4 filters of 4 x 4", (4, 4, 4, 4)),
    ]:
        kernel = random(*shape)
        cases.append((what, (kernel,), sum(quarter(g, kernel) for g in range(4)) / 4))
    return verdict(
        student,
        cases,
        {
            "you added the four turned kernels and did not divide by 4.": (
                lambda w: sum(w.rot90(k, (-2, -1)) for k in range(4))
            ),
            "you averaged over two turns; half turns alone leave quarter turns unequal.": (
                lambda w: (w + w.rot90(2, (-2, -1))) / 2
            ),
            "you averaged over upright and one quarter turn; all four are needed.": (
                lambda w: (w + w.rot90(1, (-2, -1))) / 2
            ),
            "you averaged over mirror images too: symmetric under turns, but not the closest.": (
                lambda w: sum(Rotations(dihedral(4))(g, w) for g in range(8)) / 8
            ),
            "you made all entries equal: symmetric, but not the closest.": (
                lambda w: w.mean((-2, -1), keepdim=True).expand(w.shape)
            ),
            "you averaged with the transpose: a transposition is no turn.": lambda w: (
                (w + w.mT) / 2
            ),
            "you turned the channels: rot90's default axes are the first two.": (
                lambda w: sum(w.rot90(k) for k in range(4)) / 4
            ),
        },
    )


def check_same_windows(student: Callable[[int, int, int, int], bool]) -> bool:
    """``student(size, kernel, stride, padding)``: does a turn map the windows onto windows?"""
    cases = [
        (8, 3, 1, 1),
        (8, 3, 2, 1),
        (9, 3, 2, 1),
        (8, 2, 2, 0),
        (9, 2, 2, 0),
        (8, 3, 2, 0),
        (224, 7, 2, 3),
        (10, 3, 3, 1),
        (28, 4, 4, 2),
        (9, 4, 2, 1),
    ]
    return verdict(
        student,
        [
            (f"size {n}, kernel {k}, stride {s}, padding {p}", (n, k, s, p), _fits(n, k, s, p))
            for n, k, s, p in cases
        ],
        {
            "you let stride 1 alone pass; with a larger stride the windows may fit too.": (
                lambda n, k, s, p: s == 1
            ),
            "you asked for an odd size; that depends on kernel and stride.": (
                lambda n, k, s, p: n % 2 == 1
            ),
            "you asked whether the stride divides the size; the last window ends elsewhere.": (
                lambda n, k, s, p: n % s == 0
            ),
            "you left out the padding.": lambda n, k, s, p: (n - k) % s == 0,
            "you counted the padding once; it is on both sides.": (
                lambda n, k, s, p: (n + p - k) % s == 0
            ),
            "you have it the wrong way round.": lambda n, k, s, p: not _fits(n, k, s, p),
            "you accept everything.": lambda n, k, s, p: True,
        },
    )


def _fits(size: int, kernel: int, stride: int, padding: int) -> bool:
    """No row is left over at the end, so the windows lie symmetrically."""
    return (size + 2 * padding - kernel) % stride == 0
