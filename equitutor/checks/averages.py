"""Chapter 3: the Reynolds operator, its cost and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import Action, Permutation
from ..groups import FiniteGroup, cyclic, dihedral, direct_product, permutation_group, symmetric
from ..methods import equitune
from ..rotations import rotation_matrices
from .settings import Net, acting, natural_actions, random
from .verdict import verdict

__all__ = [
    "check_finish_average",
    "check_hides_wrong_inverse",
    "check_reynolds",
    "check_symmetrize_matrix",
]


def mean_of(out: int, into: int) -> Callable:
    """The mean of g^out M(g^into x) over the group; the Reynolds average has out=-1, into=1."""
    return lambda m, a, b, x: sum(b(g**out, m(a(g**into, x))) for g in a.group) / len(a.group)


def some_terms(elements: slice, divide: bool = True) -> Callable:
    """The same with some of the terms only, divided by |G| or by their number."""

    def average(m: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
        some = list(a.group)[elements]
        terms = sum(b(~g, m(a(g, x))) for g in some)
        return terms / (len(a.group) if divide else len(some))

    return average


def reynolds(model: nn.Module, a: Action, b: Action, x: Tensor) -> Tensor:
    """The Reynolds average of eq. 3."""
    return equitune(model, a, b)(x)


MISTAKES = {
    "you moved the output by g instead of g^-1; for C2 the two are the same.": mean_of(1, 1),
    "you did not divide the sum by |G|.": lambda m, a, b, x: len(a.group) * reynolds(m, a, b, x),
    "you did not move the output back by g^-1.": mean_of(0, 1),
    "you gave the model x where it should see g x.": mean_of(-1, 0),
    "you kept the first term alone, divided by |G|: does the `return` or a `break` stand inside the "
    "loop?": some_terms(slice(1)),
    "you kept the last term alone, divided by |G|: each overwrites the one before. Add them up.": (
        some_terms(slice(-1, None))
    ),
    "you left out the first term, that of g = e.": some_terms(slice(1, None)),
    "you left out the last term.": some_terms(slice(-1)),
    "you averaged nothing: this is M(x), the term of g = e.": lambda m, a, b, x: m(x),
    "this is the last term alone; the average needs all of them.": some_terms(
        slice(-1, None), False
    ),
    "you divided |G| by the sum.": lambda m, a, b, x: 1 / reynolds(m, a, b, x),
}


def check_reynolds(student: Callable[[Callable, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, perms, x)``: the Reynolds average.

    ``perms``, of shape ``(|G|, n)``, moves x and the output.
    """

    def by_rows(function: Callable) -> Callable:
        return lambda model, perms, x: function(model, acting(perms), acting(perms), x)

    right = by_rows(reynolds)
    cases = {}
    for action in natural_actions():
        n = action.degree
        cases[f"{action.group.name} on {n} points"] = Net(n, n), action.perms, random(2, n)
    mistakes = {sentence: by_rows(wrong) for sentence, wrong in MISTAKES.items()} | {
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


def points(group: FiniteGroup) -> Tensor:
    """The permutation matrices (|G|, n, n): e_i to e_(g i)."""
    return torch.eye(group.permutations.shape[1]).double()[group.permutations].mT


def sheared(rho: Tensor) -> Tensor:
    """The same representation in a basis that is not orthogonal."""
    shear = torch.tensor([[1.0, 0.7], [0.0, 1.0]], dtype=torch.float64)
    return shear @ rho @ shear.inverse()


def check_symmetrize_matrix(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(matrix, rho_in, rho_out)``: the Reynolds average of an (m, n) matrix."""
    plane3, plane = rotation_matrices(cyclic(3)), rotation_matrices(dihedral(3))
    cases = {
        "C3 from plane to plane": (random(2, 2), plane3, plane3),
        "D3 from plane to corners": (random(3, 2), plane, points(dihedral(3))),
        "D3 from plane to sheared plane": (random(2, 2), plane, sheared(plane)),
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
