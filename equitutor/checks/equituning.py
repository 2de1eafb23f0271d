"""Exercises of chapter 3, equi-tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import MatrixAction, Permutation, rotation_matrices
from ..groups import FiniteGroup, cyclic, dihedral, direct_product, permutation_group, symmetric
from ..symmetrize import equitune
from .verdict import Net, natural_actions, quaternions, random, verdict

__all__ = [
    "check_finish_average",
    "check_hides_wrong_inverse",
    "check_reynolds",
    "check_symmetrize_matrix",
]


def _move(p: Tensor, x: Tensor) -> Tensor:
    """g x, if p is the row of g: the entry at i moves to p[i]."""
    return x[..., p.argsort()]


def _back(p: Tensor, y: Tensor) -> Tensor:
    """g^-1 y, if p is the row of g."""
    return y[..., p]


def check_reynolds(student: Callable[[Callable, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, perms, x)``: the Reynolds average.

    ``perms``, of shape ``(|G|, n)``, moves x and the output.
    """

    def total(term: Callable) -> Callable:
        return lambda model, perms, x: sum(term(model, p, x) for p in perms)

    def mean(term: Callable) -> Callable:
        return lambda model, perms, x: total(term)(model, perms, x) / len(perms)

    def right(model, p, x):
        return _back(p, model(_move(p, x)))

    cases = []
    for what, action in natural_actions():
        model, x = Net(action.degree, action.degree), random(2, action.degree)
        cases.append((what, (model, action.perms, x), equitune(model, action, action)(x)))
    return verdict(
        student,
        cases,
        {
            "you moved the output by g instead of g^-1; for C2 the two are the same.": mean(
                lambda model, p, x: _move(p, model(_move(p, x)))
            ),
            "you did not divide the sum by |G|.": total(right),
            "you divided by the number of points, not by |G|, the number of elements.": (
                lambda model, perms, x: total(right)(model, perms, x) / perms.shape[1]
            ),
            "you did not move the output back by g^-1.": mean(lambda m, p, x: m(_move(p, x))),
            "you gave the model x where it should see g x.": mean(lambda m, p, x: _back(p, m(x))),
            "you averaged nothing: this is M(x).": lambda model, perms, x: model(x),
        },
    )


def check_hides_wrong_inverse(student: Callable[[FiniteGroup], bool]) -> bool:
    """``student(group)``: can no test on this group tell g from g^-1?"""
    c2xc2 = direct_product(cyclic(2), cyclic(2))
    groups = [cyclic(2), cyclic(3), cyclic(4), dihedral(4), symmetric(3), quaternions(), c2xc2]
    groups.append(cyclic(1))
    return verdict(
        student,
        [(g.name, (g,), all(~a == a for a in g)) for g in groups],
        {
            "you asked whether the group is abelian; C3 is, and yet r is not its own inverse.": (
                lambda g: g.is_abelian
            ),
            "you asked whether the group has at most two elements; others hide the mistake too.": (
                lambda g: len(g) <= 2
            ),
            "you asked whether some element is its own inverse; all of them must be.": (
                lambda g: any(~a == a for a in g if a != g.identity)
            ),
            "you have it the wrong way round: True means that the mistake stays hidden.": (
                lambda g: any(~a != a for a in g)
            ),
            "you asked the generators only; (1 2) and (0 1) are their own inverses, their product "
            "is not.": lambda g: all(~s == s for s in g.generators),
        },
    )


def check_symmetrize_matrix(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(matrix, rho_in, rho_out)``: the Reynolds average of an (m, n) matrix."""
    corners = torch.eye(3, dtype=torch.float64)[dihedral(3).permutations].mT  # e_i to e_(g i)
    plane3, plane = rotation_matrices(cyclic(3)), rotation_matrices(dihedral(3))
    shear = torch.tensor([[1.0, 0.7], [0.0, 1.0]], dtype=torch.float64)
    cases = []
    for what, group, rho_in, rho_out in [
        ("C3 from plane to plane", cyclic(3), plane3, plane3),
        ("D3 from plane to corners", dihedral(3), plane, corners),
        ("D3 from plane to sheared plane", dihedral(3), plane, shear @ plane @ shear.inverse()),
    ]:
        matrix = random(rho_out.shape[-1], rho_in.shape[-1])
        actions = MatrixAction(group, rho_in), MatrixAction(group, rho_out)
        columns = equitune(_Linear(matrix), *actions)(torch.eye(matrix.shape[1]).double())
        cases.append((what, (matrix, rho_in, rho_out), columns.T))
    return verdict(
        student,
        cases,
        {
            "you multiplied by rho_out(g) where rho_out(g)^-1 belongs.": (
                lambda a, p, q: (q @ a @ p).mean(0)
            ),
            "you did not divide the sum by |G|.": lambda a, p, q: (q.inverse() @ a @ p).sum(0),
            "you left out rho_out: the output must be moved back.": lambda a, p, q: (a @ p).mean(0),
            "you left out rho_in: the input must be moved.": (
                lambda a, p, q: (q.inverse() @ a).mean(0)
            ),
            "you transposed where you should invert: that is the same for orthogonal rho only.": (
                lambda a, p, q: (q.mT @ a @ p).mean(0)
            ),
        },
    )


class _Linear(nn.Module):
    """x -> A x on rows."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


def check_finish_average(student: Callable) -> bool:
    """``student(model_h, group, subgroup, action, x)``: M_G from M_H with ``|G|/|H|`` evaluations.

    ``model_h`` is equivariant to the elements in the list ``subgroup``; ``action(g, x)`` moves
    inputs and outputs alike. How often it runs is counted, as a part of the answer.
    """

    def counted(model_h, *rest):
        rows = []

        def counting(x):
            rows.append(len(x))
            return model_h(x)

        y = student(counting, *rest)
        return None if y is None else (y, sum(rows) // len(rest[-1]))

    def average(choose: Callable, inverse: bool = True, by: Callable = lambda g, ts: len(ts)):
        def answer(model_h, group, subgroup, action, x):
            ts = choose(group, subgroup)
            terms = [action(~t if inverse else t, model_h(action(t, x))) for t in ts]
            return sum(terms) / by(group, ts), len(ts)

        return answer

    def one_each(coset: Callable) -> Callable:
        """The first element of each coset."""

        def choose(group, subgroup):
            first = {}
            for t in group:
                first.setdefault(frozenset(coset(h, t) for h in subgroup), t)
            return list(first.values())

        return choose

    right = one_each(lambda h, t: h @ t)
    cases = []
    for group, generator in [(cyclic(4), "r2"), (dihedral(4), "s"), (symmetric(3), "(0 1)")]:
        action, h = Permutation(group), group[generator]
        part = permutation_group([action.perms[h.index].tolist()])
        model, x = Net(action.degree, action.degree), random(2, action.degree)
        model_h = equitune(model, Permutation(part), Permutation(part))
        expected = equitune(model, action, action)(x), len(group) // 2
        args = (model_h, group, [group.identity, h], action, x)
        cases.append((f"{group.name} with H = {{e, {h}}}", args, expected))
    return verdict(
        counted,
        cases,
        {
            "you ran M_H for every g. The average is right, but all t of one coset H t give the "
            "same term: one t for each coset is enough.": average(lambda group, part: list(group)),
            "you divided by |G|, but there are |G|/|H| terms.": average(
                right, by=lambda group, ts: len(group)
            ),
            "you moved the output by t instead of t^-1.": average(right, inverse=False),
            "you took one t of each left coset t H. The terms t^-1 M_H(t x) agree along the right "
            "cosets H t, as M_H(h t x) = h M_H(t x).": average(one_each(lambda h, t: t @ h)),
            "you took the elements of H; M_H is the average over these already.": average(
                lambda group, subgroup: subgroup
            ),
            "you stopped at M_H.": lambda model_h, g, h, action, x: (model_h(x), 1),
        },
    )
