"""Assignment 1: whole groups from generators, and their actions on graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, combinations_with_replacement, permutations

import torch
from torch import Tensor

from ..actions import Permutation
from ..groups import FiniteGroup, cyclic, dihedral, direct_product, symmetric
from .groups import burnside, count_cycles
from .settings import random
from .verdict import verdict

__all__ = [
    "check_cayley_table",
    "check_count_graphs",
    "check_generate",
    "check_move_graph",
    "check_orbit_and_stabiliser",
]


def _klein() -> Tensor:
    """C2 x C2 on four points, none of which stays: as large as C4, and no element of order 4."""
    return torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])


def _closure(generators: Tensor) -> Tensor:
    """All products of the rows, sorted."""
    rows = {tuple(range(generators.shape[1]))}
    while True:
        more = rows | {tuple(g[i] for i in p) for g in generators.tolist() for p in rows}
        if len(more) == len(rows):
            return torch.tensor(sorted(rows))
        rows = more


def check_generate(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(generators)``: all products of the permutations ``(k, n)``, in any order."""

    def in_order(make: Callable, generators: Tensor) -> dict | None:
        """The distinct rows, sorted, and whether each was there once."""
        rows = make(generators)
        if rows is None:
            return None
        rows = [tuple(torch.as_tensor(row).tolist()) for row in rows]
        often = "each once" if len(set(rows)) == len(rows) else "some more than once"
        return {"rows": torch.tensor(sorted(set(rows))), "listed": often}

    def powers(p: Tensor) -> Tensor:
        return torch.cat([_closure(g[None]) for g in p]).unique(dim=0)

    def products(p: Tensor) -> Tensor:
        return torch.cat([_closure(p)[:1], p, p[:, p].flatten(0, 1)]).unique(dim=0)

    klein = direct_product(cyclic(2), cyclic(2))
    groups = (cyclic(4), symmetric(3), dihedral(4), klein, dihedral(5), symmetric(4))
    rows = [(g.name, g.permutations) if g is not klein else (g.name, _klein()) for g in groups]
    cases = {
        name: (perms[[s.index for s in g.generators]],)
        for g, (name, perms) in zip(groups, rows, strict=True)
    }
    mistakes = {
        "you took the powers of each generator alone; their products with each other belong to the "
        "group too.": powers,
        "you multiplied the generators once; multiply the products too, until nothing new comes.": (
            products
        ),
        "you left out the identity.": lambda p: _closure(p)[1:],
        "you returned the generators alone.": lambda p: p,
        "you listed all permutations of the points, not just those that the generators make.": (
            lambda p: list(permutations(range(p.shape[1])))
        ),
        "you listed some permutations more than once.": lambda p: [*_closure(p), _closure(p)[0]],
    }
    return verdict(student, _closure, cases, mistakes, in_order)


def check_cayley_table(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(perms)``: ``table[g, h]``, the number of the row that first does h, then g."""

    def by(row: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def table(perms: Tensor) -> Tensor:
            number = {tuple(p): i for i, p in enumerate(perms.tolist())}
            return torch.tensor([[number[tuple(row(g, h).tolist())] for h in perms] for g in perms])

        return table

    right = by(lambda g, h: g[h])

    def by_rank(perms: Tensor) -> Tensor:
        ranks = [sorted(perms.tolist()).index(row) for row in perms.tolist()]
        return torch.tensor(ranks)[right(perms)]

    d4 = dihedral(4).permutations
    cases = {"C4": (cyclic(4).permutations,), "C2 x C2": (_klein(),)}
    cases["S3"] = (symmetric(3).permutations,)
    cases["D4 in another order"] = (d4[torch.tensor([3, 5, 0, 6, 1, 7, 2, 4])],)
    mistakes = {
        "you did g first, then h; g h is the other way round, and i goes to p_g[p_h[i]]. A group "
        "that commutes does not show it.": by(lambda g, h: h[g]),
        "you composed with the inverse of g.": by(lambda g, h: g.argsort()[h]),
        "you composed with the inverse of h.": by(lambda g, h: g[h.argsort()]),
        "you added the numbers of the rows, which is right only for cyclic groups in order.": (
            lambda p: (torch.arange(len(p))[:, None] + torch.arange(len(p))) % len(p)
        ),
        "you numbered the products in sorted order, not by their place in perms.": by_rank,
    }
    return verdict(student, right, cases, mistakes)


def check_move_graph(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p, graphs)``: renamed adjacency matrices (..., n, n), (g A)[g i, g j] = A[i, j]."""

    def right(p: Tensor, a: Tensor) -> Tensor:
        return a[..., p.argsort(), :][..., p.argsort()]

    cases = {}
    for g in cyclic(2)["r"], cyclic(3)["r"], symmetric(3)["(0 1 2)"], dihedral(4)["r"]:
        p = g.group.permutations[g.index]
        cases[f"{g} of {g.group.name}"] = (p, random(len(p), len(p)).sign())
    cases["r3 of D4"] = (dihedral(4).permutations[3], random(4, 4, seed=5))
    cases["r3 of D4 on a batch of four"] = (dihedral(4).permutations[3], random(4, 4, 4))
    cases["r of D4 on a batch of one"] = (dihedral(4).permutations[1], random(1, 4, 4))
    takes_n = (
        "A[..., q, q] takes n entries, at (q[0], q[0]), (q[1], q[1]) and so on, not all pairs: give "
        "rows and columns two different axes, such as"
    )
    mistakes = {
        "you put A[p[i], p[j]] into place (i, j), which is g^-1 A; a swap does not show it.": (
            lambda p, a: a[..., p, :][..., p]
        ),
        "you moved the rows alone; both ends of an edge are renamed.": (
            lambda p, a: a[..., p.argsort(), :]
        ),
        "you moved the columns alone; both ends of an edge are renamed.": (
            lambda p, a: a[..., p.argsort()]
        ),
        "you moved rows by g and columns by g^-1.": lambda p, a: a[..., p.argsort(), :][..., p],
        "you reversed the edges: i -> j became j -> i.": lambda p, a: right(p, a.mT),
        "you moved the first two dimensions; the matrices are in the last two, after any batch "
        "dimensions.": lambda p, a: a[p.argsort()][:, p.argsort()],
        f"{takes_n} q[:, None] and q[None, :].": lambda p, a: a[..., p, p],
        f"{takes_n} q[:, None] and q.": lambda p, a: a[..., p.argsort(), p.argsort()],
        "you changed nothing.": lambda p, a: a,
        "you returned a new tensor in which nothing was written: assign the graphs to its places.": (
            lambda p, a: 0 * a
        ),
    }
    return verdict(student, right, cases, mistakes)


def check_orbit_and_stabiliser(student: Callable[[Tensor, Tensor], tuple[int, int]]) -> bool:
    """``student(perms, graph)``: how many graphs the group makes of it, how many g fix it."""

    def moved(perms: Tensor, graph: Tensor) -> Tensor:
        return torch.stack([graph[p][:, p] for p in perms])  # (|G|, n, n)

    def orbit(perms: Tensor, graph: Tensor) -> int:
        return len(moved(perms, graph).unique(dim=0))

    def still(perms: Tensor, graph: Tensor) -> int:
        return int((moved(perms, graph) == graph).all((1, 2)).sum())

    def pointwise(perms: Tensor, graph: Tensor) -> int:
        return int((perms == torch.arange(len(graph))).all(1).sum())

    def pair(first: Callable, second: Callable) -> Callable:
        return lambda perms, graph: (first(perms, graph), second(perms, graph))

    square = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    path = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    arrows = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    cases = {
        # first a case in which the sizes of orbit, stabiliser, group and the like all differ
        "a path of four (S4)": (symmetric(4).permutations, path),
        "a path of four (D4)": (dihedral(4).permutations, path),
        "three arrows in a circle (C3)": (cyclic(3).permutations, arrows),
        "three arrows in a circle (S3)": (symmetric(3).permutations, arrows),
        "a square (D4)": (dihedral(4).permutations, square),
    }
    mistakes = {
        "you returned the two in the other order; the orbit comes first.": pair(still, orbit),
        "you counted all |G| moved graphs; equal ones count once.": pair(
            lambda perms, graph: len(perms), still
        ),
        "you left the identity out of the stabiliser; it leaves everything alone.": pair(
            orbit, lambda perms, graph: still(perms, graph) - 1
        ),
        "you counted the elements that move no point at all; the graph may stay the same though "
        "its points change places.": pair(orbit, pointwise),
        "you returned the size of the orbit twice.": pair(orbit, orbit),
        "you returned the size of the stabiliser twice.": pair(still, still),
        "you counted the elements that do move the graph.": pair(
            orbit, lambda perms, graph: len(perms) - still(perms, graph)
        ),
    }
    return verdict(student, pair(orbit, still), cases, mistakes)


def check_count_graphs(student: Callable[[Tensor], int]) -> bool:
    """``student(perms)``: how many undirected graphs without loops there are, up to the group."""

    def edges(n: int) -> list[frozenset[int]]:
        return list(map(frozenset, combinations(range(n), 2)))

    def cycles(items: Callable[[int], list]) -> Callable:
        return lambda p: count_cycles(p, items(len(p)))

    def unmoved(p: list[int]) -> int:
        return sum(frozenset(p[i] for i in edge) == edge for edge in edges(len(p)))

    klein = direct_product(cyclic(2), cyclic(2))
    groups: list[FiniteGroup] = [
        cyclic(3),
        symmetric(3),
        dihedral(4),
        klein,
        cyclic(4),
        symmetric(4),
    ]
    right = burnside(cycles(edges))
    mistakes = {
        "you did not divide by |G|.": lambda perms: right(perms) * len(perms),
        "you coloured the points; a graph chooses among the pairs of points.": burnside(
            cycles(lambda n: [(i,) for i in range(n)])
        ),
        "you counted directed graphs: i -> j and j -> i are one edge here.": burnside(
            cycles(lambda n: list(permutations(range(n), 2)))
        ),
        "you let a point be joined to itself.": burnside(
            cycles(lambda n: list(map(frozenset, combinations_with_replacement(range(n), 2))))
        ),
        "you divided the number of all graphs by |G|, but graphs with symmetry have smaller "
        "orbits.": lambda perms: 2 ** len(edges(perms.shape[1])) // len(perms),
        "you counted the pairs that g leaves in place; a graph is fixed by g if each cycle of "
        "pairs is all in or all out, so count cycles.": lambda perms: (
            sum(2 ** unmoved(p) for p in perms.tolist()) // len(perms)
        ),
        "you counted all graphs, without the group.": lambda perms: 2 ** len(edges(perms.shape[1])),
    }
    cases = {g.name: (Permutation(g).perms,) for g in groups}
    cases["three points that stay"] = (torch.arange(3)[None],)
    return verdict(student, right, cases, mistakes)
