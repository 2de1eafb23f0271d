"""Assignment 2: the Reynolds operator on library actions, in one batch, measured and counted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import Action, MatrixAction, Permutation, Rotations, rotation_matrices
from ..groups import cyclic, dihedral, symmetric
from ..symmetrize import equitune
from .verdict import Net, random, solved, verdict

__all__ = [
    "check_asymmetry",
    "check_dimension",
    "check_in_one_batch",
    "check_symmetrized",
]


class _Camera(nn.Module):
    """A small map without any symmetry from images (B, 1, n, n) to (B, m)."""

    def __init__(self, n: int, m: int):
        super().__init__()
        self.net = Net(n * n, m)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


def _settings() -> dict[str, tuple[nn.Module, Action, Action, Tensor]]:
    """Models with different actions on input and output; C2 first, which forgives g for g^-1."""
    c2, c4, s3, d4 = cyclic(2), cyclic(4), symmetric(3), dihedral(4)
    vectors = MatrixAction(d4, rotation_matrices(d4))
    return {
        "C2 from images to 2 scores": (
            _Camera(3, 2),
            Rotations(c2),
            Permutation(c2),
            random(3, 1, 3, 3),
        ),
        "C4 from images to 4 corners": (
            _Camera(3, 4),
            Rotations(c4),
            Permutation(c4),
            random(3, 1, 3, 3),
        ),
        "S3 from scores to scores": (Net(3, 3), Permutation(s3), Permutation(s3), random(2, 3)),
        "D4 from images to vectors": (_Camera(4, 2), Rotations(d4), vectors, random(2, 1, 4, 4)),
    }


def _total(term: Callable[[nn.Module, Action, Action, int, Tensor], Tensor]) -> Callable:
    """The sum of a term over the group."""
    return lambda model, a, b, x: sum(term(model, a, b, g, x) for g in a.group)


def _mean(term: Callable) -> Callable:
    return lambda model, a, b, x: _total(term)(model, a, b, x) / len(a.group)


def _average(model: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
    return equitune(model, a, b)(x)


_FORWARD = _mean(lambda m, a, b, g, x: b(g, m(a(g, x))))
_STILL = _mean(lambda m, a, b, g, x: m(a(g, x)))
_UNSEEN = _mean(lambda m, a, b, g, x: b(~g, m(x)))


def check_symmetrized(student: Callable[[nn.Module, Action, Action, Tensor], Tensor]) -> bool:
    """``student(model, in_action, out_action, x)``: the Reynolds average, eq. 3."""
    return verdict(
        student,
        solved(_average, _settings()),
        {
            "you moved the output by g instead of g^-1; for C2 the two are the same.": _FORWARD,
            "you did not divide the sum by |G|.": _total(lambda m, a, b, g, x: b(~g, m(a(g, x)))),
            "you divided by the number of inputs in the batch, not by |G|.": lambda m, a, b, x: (
                _total(lambda m, a, b, g, x: b(~g, m(a(g, x))))(m, a, b, x) / len(x)
            ),
            "you did not move the output back.": _STILL,
            "you gave the model x where it should see g x.": _UNSEEN,
            "you averaged the views and ran the model on their mean.": lambda m, a, b, x: m(
                sum(a(g, x) for g in a.group) / len(a.group)
            ),
        },
    )


def check_in_one_batch(student: Callable[[nn.Module, Action, Action, Tensor], Tensor]) -> bool:
    """``student(model, in_action, out_action, x)``: the same with a single call of the model.

    How often the model is called is counted, as a part of the answer.
    """

    def counted(answer: Callable) -> Callable:
        def run(model: nn.Module, *rest) -> tuple[Tensor, int] | None:
            calls = []
            hook = model.register_forward_pre_hook(lambda module, args: calls.append(1))
            y = answer(model, *rest)
            hook.remove()
            return None if y is None else (y, len(calls))

        return run

    def folded(unfold: Callable[[Tensor, int], Tensor], back: Callable) -> Callable:
        """One batch, taken apart into (|G|, B, ...) by unfold."""

        def average(model: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
            y = unfold(model(a.views(x)), len(a.group))
            return sum(back(b, g, y[g.index]) for g in a.group) / len(a.group)

        return average

    def by_group(y: Tensor, n: int) -> Tensor:
        return y.unflatten(0, (n, -1))

    def by_input(y: Tensor, n: int) -> Tensor:
        return y.unflatten(0, (-1, n)).transpose(0, 1)

    def undone(b: Action, g: int, y: Tensor) -> Tensor:
        return b(~g, y)

    return verdict(
        counted(student),
        solved(counted(_average), _settings()),
        {
            "you called the model once for every g. The average is right; fold the views into the "
            "batch, and one call will do.": lambda m, a, b, x: (_average(m, a, b, x), len(a.group)),
            "you took the batch apart along the wrong axis: if the views are joined by torch.cat, the "
            "group comes first and the batch second, (|G|, B, ...).": counted(
                folded(by_input, undone)
            ),
            "you moved the outputs by g instead of g^-1.": counted(
                folded(by_group, lambda b, g, y: b(g, y))
            ),
            "you did not move the outputs back.": counted(folded(by_group, lambda b, g, y: y)),
            "you did not divide by |G|.": counted(
                lambda m, a, b, x: _average(m, a, b, x) * len(a.group)
            ),
            "you averaged over the batch too: each input has an answer of its own.": counted(
                lambda m, a, b, x: _average(m, a, b, x).mean(0)
            ),
        },
    )


def check_asymmetry(student: Callable[[nn.Module, Action, Action, Tensor], float]) -> bool:
    """``student(model, in_action, out_action, x)``: what eq. 1 leaves, as a share from 0 to 1.

    ``sum_g |M(g x) - M_G(g x)|^2 / sum_g |M(g x)|^2``, both sums over the batch too.
    """

    def share(
        gap: Callable[..., Tensor],
        size: Callable[..., Tensor] = lambda m, a, b, g, x: m(a(g, x)),
        power: float = 1.0,
    ) -> Callable:
        def answer(model: nn.Module, a: Action, b: Action, x: Tensor) -> float:
            y = _average(model, a, b, x)
            over = sum(gap(model, a, b, g, x, y).square().sum() for g in a.group)
            return float(
                (over / sum(size(model, a, b, g, x).square().sum() for g in a.group)) ** power
            )

        return answer

    def right(m, a, b, g, x, y):
        return m(a(g, x)) - b(g, y)

    def still(m, a, b, g, x, y):
        return m(a(g, x)) - y

    def each(model: nn.Module, a: Action, b: Action, x: Tensor) -> float:
        shares = [share(right)(model, a, b, row[None]) for row in x]
        return sum(shares) / len(shares)

    return verdict(
        student,
        solved(share(right), _settings()),
        {
            "you compared M(g x) with M_G(x): what belongs beside it is M_G(g x) = g M_G(x).": share(
                still
            ),
            "you moved M_G(x) by g^-1 where M_G(g x) is g M_G(x).": share(
                lambda m, a, b, g, x, y: m(a(g, x)) - b(~g, y)
            ),
            "you did not divide by the size of M.": share(
                right, lambda m, a, b, g, x: torch.ones(1) / len(a.group) ** 0.5
            ),
            "you looked at g = e alone; eq. 1 sums over all views.": share(
                lambda m, a, b, g, x, y: m(x) - y, lambda m, a, b, g, x: m(x)
            ),
            "you took the root.": share(right, power=0.5),
            "you divided by |M_G|^2 instead of |M|^2.": share(
                right, lambda m, a, b, g, x: _average(m, a, b, x)
            ),
            "you averaged the shares of the single inputs; take both sums over the whole batch, then "
            "divide.": each,
        },
    )


def check_dimension(student: Callable[[Tensor, Tensor], int]) -> bool:
    """``student(rho_in, rho_out)``: how many free numbers an equivariant matrix has.

    The representations are ``(|G|, n, n)`` and ``(|G|, m, m)``.
    """

    def points(group) -> Tensor:
        return torch.eye(group.permutations.shape[1]).double()[group.permutations].mT

    def trace(rho: Tensor) -> Tensor:
        return rho.diagonal(dim1=-2, dim2=-1).sum(-1)

    def count(term: Callable[[Tensor, Tensor], Tensor | float]) -> Callable:
        return lambda p, q: round(float(term(trace(p), trace(q))), 4)

    c3, c4, s3, d4 = cyclic(3), cyclic(4), symmetric(3), dihedral(4)
    plane = {g.name: rotation_matrices(g) for g in (c3, c4, d4)}
    swap = torch.eye(3).double()[torch.tensor([[0, 1, 2], [1, 0, 2]])]
    shear = torch.tensor([[1.0, 0.7], [0.0, 1.0]], dtype=torch.float64)
    cases = {
        "C3 from plane to plane": (plane["C3"], plane["C3"]),
        "C4 from corners to plane": (points(c4), plane["C4"]),
        "S3 from points to points": (points(s3), points(s3)),
        "D4 from corners to corners": (points(d4), points(d4)),
        "C2 that swaps two of three points": (swap, swap),
        "D4 from corners to a sheared plane": (points(d4), shear @ plane["D4"] @ shear.inverse()),
    }

    def right(p: Tensor, q: Tensor) -> int:
        return round(float((trace(p) * trace(q)).mean()))

    return verdict(
        lambda p, q: _near(student(p, q)),
        solved(right, cases),
        {
            "you did not divide by |G|.": count(lambda p, q: (p * q).sum()),
            "you divided the number of all entries by |G|.": lambda p, q: round(
                p.shape[1] * q.shape[1] / len(p), 4
            ),
            "you counted what is invariant on either side, and multiplied; the mean is of the product "
            "of the traces.": count(lambda p, q: p.mean() * q.mean()),
            "you added the traces; the pairs (i, j) need their product.": count(
                lambda p, q: (p + q).mean()
            ),
            "you took the trace of rho_in alone.": count(lambda p, q: p.mean()),
            "you took the trace of rho_out alone.": count(lambda p, q: q.mean()),
            "you counted all entries, without any symmetry.": lambda p, q: p.shape[1] * q.shape[1],
        },
    )


def _near(value):
    """A number that rounding alone keeps from being whole, as a whole one."""
    try:
        value = round(float(value), 4)
    except (TypeError, ValueError):
        return value
    return int(value) if value == int(value) else value
