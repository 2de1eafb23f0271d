"""Assignment 2: the average for any two actions, in one batch, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import Action, Permutation, Regular
from ..groups import cyclic, dihedral, symmetric
from ..representations import MatrixAction
from ..rotations import Rotations, rotation_matrices
from .averages import MISTAKES, mean_of, points, reynolds, sheared
from .settings import Net, random
from .verdict import verdict

__all__ = ["check_asymmetry", "check_dimension", "check_in_one_batch", "check_symmetrized"]


def _camera(n: int, m: int) -> nn.Module:
    """A small map without any symmetry from images (B, 1, n, n) to (B, m)."""
    return nn.Sequential(nn.Flatten(), Net(n * n, m))


def _settings() -> dict[str, tuple[nn.Module, Action, Action, Tensor]]:
    """Models with different actions on input and output; C2 first, which forgives g for g^-1.

    One case has a single input, and two differ in nothing but their numbers.
    """
    c2, c4, s3, d4 = cyclic(2), cyclic(4), symmetric(3), dihedral(4)
    x, turn, vectors = random(3, 1, 3, 3), Rotations(d4), MatrixAction(d4, rotation_matrices(d4))
    return {
        "C2 from images to 2 scores": (_camera(3, 2), Rotations(c2), Permutation(c2), x),
        "C4 from images to 4 corners": (_camera(3, 4), Rotations(c4), Permutation(c4), x),
        "S3 from one row of scores to itself": (
            Net(3, 6),
            Permutation(s3),
            Regular(s3),
            random(1, 3),
        ),
        "D4 from images to vectors": (_camera(4, 2), turn, vectors, random(2, 1, 4, 4)),
        "D4 from other images": (_camera(4, 2), turn, vectors, random(2, 1, 4, 4, seed=5)),
    }


def _count_calls(function: Callable, model: nn.Module, *rest: object) -> dict | None:
    """What the function returns, and how often it runs the model, as model(x) or model.forward."""
    calls: list[int] = []
    forward = model.forward

    def counting(*args: object) -> Tensor:
        calls.append(1)
        return forward(*args)

    model.forward = counting
    y = function(model, *rest)
    return None if y is None else {"answer": y, "calls of the model": len(calls)}


def check_symmetrized(student: Callable[[nn.Module, Action, Action, Tensor], Tensor]) -> bool:
    """``student(model, in_action, out_action, x)``: the Reynolds average, eq. 3."""
    mistakes = MISTAKES | {
        "you divided by the number of inputs in the batch, not by |G|.": (
            lambda m, a, b, x: len(a.group) * reynolds(m, a, b, x) / len(x)
        ),
        "you averaged the views and ran the model on their mean.": (
            lambda m, a, b, x: m(sum(a(g, x) for g in a.group) / len(a.group))
        ),
        "you moved the output by in_action; outputs have an action of their own.": (
            lambda m, a, b, x: sum(a(~g, m(a(g, x))) for g in a.group) / len(a.group)
        ),
        "you took -i, counted around, for the number of the inverse of element i: that is so in cyclic "
        "groups only. The inverse of g is ~g.": lambda m, a, b, x: (
            sum(b(-i % len(a.group), m(a(i, x))) for i in range(len(a.group))) / len(a.group)
        ),
    }
    return verdict(student, reynolds, _settings(), mistakes, gradients=(3,))


def check_in_one_batch(student: Callable[[nn.Module, Action, Action, Tensor], Tensor]) -> bool:
    """``student(model, in_action, out_action, x)``: the same with a single call of the model.

    How often the model is called is counted, as a part of the answer.
    """

    def folded(power: int, batch_first: bool = False, some: slice = slice(None)) -> Callable:
        """The mean of g^power y_g, with all views in one batch, (|G| B, ...) or (B |G|, ...)."""

        def average(model: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
            n = len(a.group)
            y = model(a.views(x))
            y = y.unflatten(0, (-1, n)).transpose(0, 1) if batch_first else y.unflatten(0, (n, -1))
            return sum(b(g**power, y[g.index]) for g in list(a.group)[some]) / n

        return average

    mistakes = {
        "you called the model once for every g. The average is right, but fold the views into the "
        "batch, and one call will do.": mean_of(-1, 1),
        "you unfolded the batch along the wrong axis: if the views are joined by torch.cat, the "
        "group comes first and the batch second, (|G|, B, ...).": folded(-1, batch_first=True),
        "you moved the outputs by g instead of g^-1.": folded(1),
        "you did not move the outputs back.": folded(0),
        "you did not divide by |G|.": lambda m, a, b, x: len(a.group) * reynolds(m, a, b, x),
        "you averaged over the batch too: each input has an answer of its own.": (
            lambda m, a, b, x: reynolds(m, a, b, x).mean(0)
        ),
        "you moved back the outputs of one view, again and again: take those of g, y[g.index].": (
            lambda m, a, b, x: sum(b(~g, m(x)) for g in a.group) / len(a.group)
        ),
        "you moved back the outputs of the last view, again and again: take those of g, "
        "y[g.index].": lambda m, a, b, x: (
            sum(b(~g, m(a(len(a.group) - 1, x))) for g in a.group) / len(a.group)
        ),
        "you kept the first view alone, divided by |G|: does the `return` stand inside the loop?": (
            folded(-1, some=slice(1))
        ),
        "you left out the first view, that of g = e.": folded(-1, some=slice(1, None)),
        "you divided |G| by the sum.": lambda m, a, b, x: 1 / folded(-1)(m, a, b, x),
    }
    return verdict(student, reynolds, _settings(), mistakes, _count_calls, gradients=(3,))


def check_asymmetry(student: Callable[[nn.Module, Action, Action, Tensor], float]) -> bool:
    """``student(model, in_action, out_action, x)``: what eq. 1 leaves, as a share from 0 to 1.

    ``sum_g |M(g x) - M_G(g x)|^2 / sum_g |M(g x)|^2``, both sums over the batch too.
    """

    def output(m, a, b, g, x, y):
        return m(a(g, x))

    def gap(power):
        return lambda m, a, b, g, x, y: m(a(g, x)) - b(g**power, y)

    def share(above, below=output, power=1.0):
        def answer(model: nn.Module, a: Action, b: Action, x: Tensor) -> float:
            y = reynolds(model, a, b, x)

            def total(term):
                return sum(term(model, a, b, g, x, y).square().sum() for g in a.group)

            return float((total(above) / total(below)) ** power)

        return answer

    right = share(gap(1))
    mistakes = {
        "you returned the share that is kept; the share that is lost is 1 minus this.": (
            lambda *args: 1 - right(*args)
        ),
        "you returned a percentage; the share is a number from 0 to 1.": (
            lambda *args: 100 * right(*args)
        ),
        "you divided by |G| |M(x)|^2; M(g x) has another size for each g.": share(
            gap(1), lambda m, a, b, g, x, y: m(x)
        ),
        "you left out the first term, that of g = e.": lambda m, a, b, x: _lost(m, a, b, x, 1),
        "you compared M(g x) with M_G(x); its counterpart is M_G(g x) = g M_G(x).": share(gap(0)),
        "you moved M_G(x) by g^-1 where M_G(g x) is g M_G(x).": share(gap(-1)),
        "you did not divide by the size of M.": share(
            gap(1), lambda m, a, b, g, x, y: torch.ones(1).double() / len(a.group) ** 0.5
        ),
        "you looked at g = e alone; eq. 1 sums over all views.": share(
            lambda m, a, b, g, x, y: m(x) - y, lambda m, a, b, g, x, y: m(x)
        ),
        "you took the root.": share(gap(1), power=0.5),
        "you added up lengths; eq. 1 adds up their squares.": (
            lambda m, a, b, x: _of_views(
                m, a, b, x, lambda top, size: top.sqrt().sum() / size.sqrt().sum()
            )
        ),
        "you averaged one share for each g; take both sums over all g, then divide.": (
            lambda m, a, b, x: _of_views(m, a, b, x, lambda top, size: (top / size).mean())
        ),
        "you added up one share for each g; take both sums over all g, then divide.": (
            lambda m, a, b, x: _of_views(m, a, b, x, lambda top, size: (top / size).sum())
        ),
        "below the line you have g = e alone; both sums run over all g.": (
            lambda m, a, b, x: _of_views(m, a, b, x, lambda top, size: top.sum() / size[0])
        ),
        "you divided by |M_G|^2 instead of |M|^2.": share(gap(1), lambda m, a, b, g, x, y: y),
        "you averaged the shares of the single inputs; take both sums over the whole batch, then "
        "divide.": lambda m, a, b, x: sum(right(m, a, b, row[None]) for row in x) / len(x),
    }
    return verdict(student, right, _settings(), mistakes, helpers={"symmetrized": reynolds})


def _of_views(m: nn.Module, a: Action, b: Action, x: Tensor, what: Callable) -> float:
    """A function of the two terms of each g, |M(g x) - g M_G(x)|^2 and |M(g x)|^2."""
    y, outputs = reynolds(m, a, b, x), [m(a(g, x)) for g in a.group]
    top = [(z - b(g, y)).square().sum() for g, z in zip(a.group, outputs, strict=True)]
    return float(what(torch.stack(top), torch.stack([z.square().sum() for z in outputs])))


def _lost(m: nn.Module, a: Action, b: Action, x: Tensor, start: int) -> float:
    """The share of eq. 1 over the elements from `start` on."""
    y, some = reynolds(m, a, b, x), list(a.group)[start:]
    above = sum((m(a(g, x)) - b(g, y)).square().sum() for g in some)
    return float(above / sum(m(a(g, x)).square().sum() for g in some))


def check_dimension(student: Callable[[Tensor, Tensor], int]) -> bool:
    """``student(rho_in, rho_out)``: how many free numbers an equivariant matrix has.

    The representations are ``(|G|, n, n)`` and ``(|G|, m, m)``.
    """

    def nearly_whole(function: Callable, *args: Tensor) -> object:
        """The answer, made whole where only rounding keeps it from being so."""
        value = function(*args)
        if isinstance(value, (str, bool)):
            return value
        try:
            value = round(float(value), 4)
        except (TypeError, ValueError):
            return value
        return int(value) if value == int(value) else value

    def traces(term: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        return lambda p, q: term(*(rho.diagonal(dim1=-2, dim2=-1).sum(-1) for rho in (p, q)))

    c3, c4, s3, d4 = cyclic(3), cyclic(4), symmetric(3), dihedral(4)
    swap = torch.eye(3).double()[torch.tensor([[0, 1, 2], [1, 0, 2]])]
    plane3, still3 = rotation_matrices(c3), torch.eye(2).double().repeat(3, 1, 1)
    d4_itself = torch.eye(8).double()[d4.table].mT  # e_h to e_(g h)
    d7 = rotation_matrices(dihedral(7))  # its traces are no whole numbers
    cases = {
        "C3 from plane to plane": (plane3, plane3),
        "C3 from plane to two numbers that stay": (plane3, still3),
        "C3 from two numbers that stay to plane": (still3, plane3),
        "C4 from corners to plane": (points(c4), rotation_matrices(c4)),
        "S3 from points to points": (points(s3), points(s3)),
        "D4 from corners to corners": (points(d4), points(d4)),
        "D4 from itself to corners": (d4_itself, points(d4)),
        "C2 that swaps two of three points": (swap, swap),
        "D4 from corners to a sheared plane": (points(d4), sheared(rotation_matrices(d4))),
        "D7 from corners to plane": (points(dihedral(7)), d7),
        "C10 from plane to plane": (rotation_matrices(cyclic(10)), rotation_matrices(cyclic(10))),
    }
    mistakes = {
        "you did not divide by |G|.": traces(lambda p, q: (p * q).sum()),
        "you divided the number of all entries by |G|.": (
            lambda p, q: p.shape[1] * q.shape[1] / len(p)
        ),
        "you divided the number of all entries by |G|, and dropped the rest.": (
            lambda p, q: p.shape[1] * q.shape[1] // len(p)
        ),
        "you counted the invariants on either side, and multiplied; the mean is of the product of "
        "the traces.": traces(lambda p, q: p.mean() * q.mean()),
        "you added the traces; the pairs (i, j) need their product.": traces(
            lambda p, q: (p + q).mean()
        ),
        "you multiplied the trace of rho_in by itself; rho_out has a trace of its own.": traces(
            lambda p, q: (p * p).mean()
        ),
        "you multiplied the trace of rho_out by itself; rho_in has a trace of its own.": traces(
            lambda p, q: (q * q).mean()
        ),
        "you left out e.": traces(lambda p, q: (p * q)[1:].mean()),
        "you took the trace of rho_in alone.": traces(lambda p, q: p.mean()),
        "you took the trace of rho_out alone.": traces(lambda p, q: q.mean()),
        "you took the diagonal along the first two axes, the elements and the rows: `diagonal` needs "
        "dim1=-2, dim2=-1.": lambda p, q: (
            (p.diagonal().sum(-1) * q.diagonal().sum(-1)).mean().round()
        ),
        "you counted all entries, without any symmetry.": lambda p, q: p.shape[1] * q.shape[1],
    }
    return verdict(student, traces(lambda p, q: (p * q).mean()), cases, mistakes, nearly_whole)
