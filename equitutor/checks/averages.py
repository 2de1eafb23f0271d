"""Chapter 3 and assignment 2: the Reynolds operator, its cost and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import Action, Permutation, Regular
from ..groups import FiniteGroup, cyclic, dihedral, direct_product, permutation_group, symmetric
from ..methods import equitune
from ..representations import MatrixAction
from ..rotations import Rotations, rotation_matrices
from .settings import Net, acting, natural_actions, random
from .verdict import verdict

__all__ = [
    "check_asymmetry",
    "check_dimension",
    "check_finish_average",
    "check_hides_wrong_inverse",
    "check_in_one_batch",
    "check_reynolds",
    "check_symmetrize_matrix",
    "check_symmetrized",
]


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
        "S3 from one row of scores to itself": (Net(3, 6), Permutation(s3), Regular(s3), random(1, 3)),
        "D4 from images to vectors": (_camera(4, 2), turn, vectors, random(2, 1, 4, 4)),
        "D4 from other images": (_camera(4, 2), turn, vectors, random(2, 1, 4, 4, seed=5)),
    }


def _mean(out: int, into: int) -> Callable:
    """The mean of g^out M(g^into x) over the group; the Reynolds average has out=-1, into=1."""
    return lambda m, a, b, x: sum(b(g**out, m(a(g**into, x))) for g in a.group) / len(a.group)


def _some(elements: slice, divide: bool = True) -> Callable:
    """The same with some of the terms only, divided by |G| or by their number."""

    def average(m: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
        some = list(a.group)[elements]
        terms = sum(b(~g, m(a(g, x))) for g in some)
        return terms / (len(a.group) if divide else len(some))

    return average


def _average(model: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
    """The Reynolds average of eq. 3."""
    return equitune(model, a, b)(x)


_MISTAKES = {
    "you moved the output by g instead of g^-1; for C2 the two are the same.": _mean(1, 1),
    "you did not divide the sum by |G|.": lambda m, a, b, x: len(a.group) * _average(m, a, b, x),
    "you did not move the output back by g^-1.": _mean(0, 1),
    "you gave the model x where it should see g x.": _mean(-1, 0),
    "you kept the first term alone, divided by |G|: does the `return` or a `break` stand inside the "
    "loop?": _some(slice(1)),
    "you kept the last term alone, divided by |G|: each overwrites the one before. Add them up.": (
        _some(slice(-1, None))
    ),
    "you left out the first term, that of g = e.": _some(slice(1, None)),
    "you left out the last term.": _some(slice(-1)),
    "you averaged nothing: this is M(x), the term of g = e.": lambda m, a, b, x: m(x),
    "this is the last term alone; the average needs all of them.": _some(slice(-1, None), False),
    "you divided |G| by the sum.": lambda m, a, b, x: 1 / _average(m, a, b, x),
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


# -- chapter 3 --------------------------------------------------------------------------------


def check_reynolds(student: Callable[[Callable, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, perms, x)``: the Reynolds average.

    ``perms``, of shape ``(|G|, n)``, moves x and the output.
    """

    def by_rows(function: Callable) -> Callable:
        return lambda model, perms, x: function(model, acting(perms), acting(perms), x)

    right = by_rows(_average)
    cases = {}
    for action in natural_actions():
        n = action.degree
        cases[f"{action.group.name} on {n} points"] = Net(n, n), action.perms, random(2, n)
    mistakes = {sentence: by_rows(wrong) for sentence, wrong in _MISTAKES.items()} | {
        "you divided by the number of points, not by |G|, the number of elements.": (
            lambda model, perms, x: right(model, perms, x) * len(perms) / perms.shape[1]
        ),
        "you averaged nothing: this is M(x).": lambda model, perms, x: model(x),
    }
    return verdict(student, right, cases, mistakes)


def check_hides_wrong_inverse(student: Callable[[FiniteGroup], bool]) -> bool:
    """``student(group)``: can no test on this group tell g from g^-1?"""
    # by left multiplication with i and j on 1, i, j, k, -1, -i, -j, -k
    quaternions = permutation_group([(1, 4, 3, 6, 5, 0, 7, 2), (2, 7, 4, 1, 6, 3, 0, 5)], "Q8")
    groups = [cyclic(2), cyclic(3), cyclic(4), dihedral(4), symmetric(3), quaternions]
    groups += [direct_product(cyclic(2), cyclic(2)), cyclic(1)]
    mistakes = {
        "you tested whether the group is abelian; C3 is, and yet r is not its own inverse.": (
            lambda g: g.is_abelian
        ),
        "you tested whether the group has at most two elements; others hide the mistake too.": (
            lambda g: len(g) <= 2
        ),
        "you tested whether any element is its own inverse; all of them must be.": (
            lambda g: any(~a == a for a in g if a != g.identity)
        ),
        "you have it the wrong way round: True means that the mistake stays hidden.": (
            lambda g: any(~a != a for a in g)
        ),
        "you tested the generators only; (1 2) and (0 1) are their own inverses, but their product "
        "is not.": lambda g: all(~s == s for s in g.generators),
    }
    cases = {g.name: (g,) for g in groups}
    return verdict(student, lambda g: all(~a == a for a in g), cases, mistakes)


def _points(group: FiniteGroup) -> Tensor:
    """The permutation matrices (|G|, n, n): e_i to e_(g i)."""
    return torch.eye(group.permutations.shape[1]).double()[group.permutations].mT


def _sheared(rho: Tensor) -> Tensor:
    """The same representation in a basis that is not orthogonal."""
    shear = torch.tensor([[1.0, 0.7], [0.0, 1.0]], dtype=torch.float64)
    return shear @ rho @ shear.inverse()


def check_symmetrize_matrix(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(matrix, rho_in, rho_out)``: the Reynolds average of an (m, n) matrix."""
    plane3, plane = rotation_matrices(cyclic(3)), rotation_matrices(dihedral(3))
    cases = {
        "C3 from plane to plane": (random(2, 2), plane3, plane3),
        "D3 from plane to corners": (random(3, 2), plane, _points(dihedral(3))),
        "D3 from plane to sheared plane": (random(2, 2), plane, _sheared(plane)),
    }
    mistakes = {
        "you multiplied by rho_out(g) where rho_out(g)^-1 belongs.": (
            lambda a, p, q: (q @ a @ p).mean(0)
        ),
        "you did not divide the sum by |G|.": lambda a, p, q: (q.inverse() @ a @ p).sum(0),
        "you left out rho_out: the output must be moved back.": lambda a, p, q: (a @ p).mean(0),
        "you left out rho_in: the input must be moved.": lambda a, p, q: (q.inverse() @ a).mean(0),
        "you transposed where you should invert: that is the same for orthogonal rho only.": (
            lambda a, p, q: (q.mT @ a @ p).mean(0)
        ),
    }
    return verdict(student, lambda a, p, q: (q.inverse() @ a @ p).mean(0), cases, mistakes)


def check_finish_average(student: Callable) -> bool:
    """``student(model_h, group, subgroup, action, x)``: M_G from M_H with ``|G|/|H|`` evaluations.

    ``model_h`` is equivariant to the elements in the list ``subgroup``; ``action(g, x)`` moves
    inputs and outputs alike. How often it runs is counted, as a part of the answer.
    """

    def counted(function, model_h, *rest):
        rows = []

        def counting(x):
            rows.append(len(x))
            return model_h(x)

        y = function(counting, *rest)
        return None if y is None else (y, sum(rows) // len(rest[-1]))

    def average(choose, power=-1):
        def answer(model_h, group, subgroup, action, x):
            ts = choose(group, subgroup)
            return sum(action(t**power, model_h(action(t, x))) for t in ts) / len(ts)

        return answer

    def one_each(coset):
        """The first element of each coset."""

        def choose(group, subgroup):
            first = {}
            for t in group:
                first.setdefault(frozenset(coset(h, t) for h in subgroup), t)
            return list(first.values())

        return choose

    cosets = one_each(lambda h, t: h @ t)
    right = average(cosets)
    cases = {}
    for group, generator in [(cyclic(4), "r2"), (dihedral(4), "s"), (symmetric(3), "(0 1)")]:
        action, h = Permutation(group), group[generator]
        part = Permutation(permutation_group([action.perms[h.index].tolist()]))
        model_h = equitune(Net(action.degree, action.degree), part, part)
        x = random(2, action.degree)
        cases[f"{group.name} with H = {{e, {h}}}"] = model_h, group, [group.identity, h], action, x
    mistakes = {
        "you ran M_H for every g. The average is right, but all t of one coset H t give the same "
        "term: one t for each coset is enough.": average(lambda group, subgroup: list(group)),
        "you divided by |G|, but there are |G|/|H| terms.": (
            lambda m, group, subgroup, *rest: right(m, group, subgroup, *rest) / len(subgroup)
        ),
        "you moved the output by t instead of t^-1.": average(cosets, power=1),
        "you took one t of each left coset t H. The terms t^-1 M_H(t x) agree along the right "
        "cosets H t, as M_H(h t x) = h M_H(t x).": average(one_each(lambda h, t: t @ h)),
        "you took the elements of H; M_H is the average over these already.": average(
            lambda group, subgroup: subgroup
        ),
        "you stopped at M_H.": lambda model_h, group, subgroup, action, x: model_h(x),
    }
    return verdict(student, right, cases, mistakes, counted)


# -- assignment 2 -----------------------------------------------------------------------------


def check_symmetrized(student: Callable[[nn.Module, Action, Action, Tensor], Tensor]) -> bool:
    """``student(model, in_action, out_action, x)``: the Reynolds average, eq. 3."""
    mistakes = _MISTAKES | {
        "you divided by the number of inputs in the batch, not by |G|.": (
            lambda m, a, b, x: len(a.group) * _average(m, a, b, x) / len(x)
        ),
        "you averaged the views and ran the model on their mean.": (
            lambda m, a, b, x: m(sum(a(g, x) for g in a.group) / len(a.group))
        ),
    }
    return verdict(student, _average, _settings(), mistakes, gradients=(3,))


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
        "batch, and one call will do.": _mean(-1, 1),
        "you unfolded the batch along the wrong axis: if the views are joined by torch.cat, the "
        "group comes first and the batch second, (|G|, B, ...).": folded(-1, batch_first=True),
        "you moved the outputs by g instead of g^-1.": folded(1),
        "you did not move the outputs back.": folded(0),
        "you did not divide by |G|.": lambda m, a, b, x: len(a.group) * _average(m, a, b, x),
        "you averaged over the batch too: each input has an answer of its own.": (
            lambda m, a, b, x: _average(m, a, b, x).mean(0)
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
    return verdict(student, _average, _settings(), mistakes, _count_calls, gradients=(3,))


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
            y = _average(model, a, b, x)

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
            gap(1), lambda m, a, b, g, x, y: torch.ones(1) / len(a.group) ** 0.5
        ),
        "you looked at g = e alone; eq. 1 sums over all views.": share(
            lambda m, a, b, g, x, y: m(x) - y, lambda m, a, b, g, x, y: m(x)
        ),
        "you took the root.": share(gap(1), power=0.5),
        "you divided by |M_G|^2 instead of |M|^2.": share(gap(1), lambda m, a, b, g, x, y: y),
        "you averaged the shares of the single inputs; take both sums over the whole batch, then "
        "divide.": lambda m, a, b, x: sum(right(m, a, b, row[None]) for row in x) / len(x),
    }
    return verdict(student, right, _settings(), mistakes, helpers={"symmetrized": _average})


def _lost(m: nn.Module, a: Action, b: Action, x: Tensor, start: int) -> float:
    """The share of eq. 1 over the elements from `start` on."""
    y, some = _average(m, a, b, x), list(a.group)[start:]
    above = sum((m(a(g, x)) - b(g, y)).square().sum() for g in some)
    return float(above / sum(m(a(g, x)).square().sum() for g in some))


def check_dimension(student: Callable[[Tensor, Tensor], int]) -> bool:
    """``student(rho_in, rho_out)``: how many free numbers an equivariant matrix has.

    The representations are ``(|G|, n, n)`` and ``(|G|, m, m)``.
    """

    def nearly_whole(function: Callable, *args: Tensor) -> object:
        """The answer, made whole where only rounding keeps it from being so."""
        value = function(*args)
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
        "C4 from corners to plane": (_points(c4), rotation_matrices(c4)),
        "S3 from points to points": (_points(s3), _points(s3)),
        "D4 from corners to corners": (_points(d4), _points(d4)),
        "D4 from itself to corners": (d4_itself, _points(d4)),
        "C2 that swaps two of three points": (swap, swap),
        "D4 from corners to a sheared plane": (_points(d4), _sheared(rotation_matrices(d4))),
        "D7 from corners to plane": (_points(dihedral(7)), d7),
        "C10 from plane to plane": (rotation_matrices(cyclic(10)), rotation_matrices(cyclic(10))),
    }
    mistakes = {
        "you did not divide by |G|.": traces(lambda p, q: (p * q).sum()),
        "you divided the number of all entries by |G|.": (
            lambda p, q: p.shape[1] * q.shape[1] / len(p)
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
        "you counted all entries, without any symmetry.": lambda p, q: p.shape[1] * q.shape[1],
    }
    return verdict(student, traces(lambda p, q: (p * q).mean()), cases, mistakes, nearly_whole)
