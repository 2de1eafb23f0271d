"""Assignment 1: groups of renamings, acting on graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

from ..actions import Permutation
from ..groups import FiniteGroup, cyclic, dihedral, direct_product, symmetric
from .verdict import random, solved, verdict

__all__ = [
    "check_cayley_table",
    "check_count_graphs",
    "check_generate",
    "check_move_graph",
    "check_orbit_and_stabiliser",
]


def _closure(generators: Tensor) -> Tensor:
    """All products of the rows, sorted."""
    found = {tuple(range(generators.shape[1]))}
    while True:
        more = found | {tuple(g[i] for i in p) for g in generators.tolist() for p in found}
        if len(more) == len(found):
            return torch.tensor(sorted(found))
        found = more


def check_generate(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(generators)``: all products of the permutations ``(k, n)``, in any order."""

    def once(make: Callable[[Tensor], Tensor | list]) -> Callable:
        """Distinct rows in order, and whether each was there once."""

        def answer(generators: Tensor) -> tuple[Tensor, str] | None:
            rows = make(generators)
            if rows is None:
                return None
            rows = [tuple(torch.as_tensor(row).tolist()) for row in rows]
            often = "each once" if len(set(rows)) == len(rows) else "some more than once"
            return torch.tensor(sorted(set(rows))), often

        return answer

    def powers(generators: Tensor) -> Tensor:
        return torch.cat([_closure(g[None]) for g in generators])

    def without_identity(generators: Tensor) -> list:
        return [p for p in _closure(generators) if not torch.equal(p, p.sort().values)]

    def products(generators: Tensor) -> Tensor:
        return torch.cat(
            [_closure(generators)[:1], generators, generators[:, generators].flatten(0, 1)]
        )

    groups = [cyclic(4), symmetric(3), dihedral(4), dihedral(5), symmetric(4)]
    pairs = {
        g.name: (torch.stack([g.permutations[s.index] for s in g.generators]),) for g in groups
    }
    return verdict(
        once(student),
        solved(once(_closure), pairs),
        {
            "you took the powers of each generator alone; their products with each other belong to "
            "the group too.": once(lambda p: powers(p).unique(dim=0)),
            "you multiplied the generators once; go on with the products, until nothing new comes.": (
                once(lambda p: products(p).unique(dim=0))
            ),
            "you left out the identity.": once(without_identity),
            "you gave the generators alone.": once(lambda p: p),
            "you listed all permutations of the points; wanted are those that the generators make.": (
                once(lambda p: torch.tensor(list(permutations(range(p.shape[1])))))
            ),
            "you listed some permutations more than once.": once(
                lambda p: torch.cat([_closure(p), _closure(p)[:1]])
            ),
        },
    )


def check_cayley_table(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(perms)``: ``table[g, h]``, the number of the row that first does h, then g."""

    def by(row: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def table(perms: Tensor) -> Tensor:
            number = {tuple(p): i for i, p in enumerate(perms.tolist())}
            return torch.tensor([[number[tuple(row(g, h).tolist())] for h in perms] for g in perms])

        return table

    d4 = dihedral(4).permutations
    cases = {g.name: (g.permutations,) for g in (cyclic(4), symmetric(3))}
    cases["D4 in another order"] = (d4[torch.tensor([3, 5, 0, 6, 1, 7, 2, 4])],)
    return verdict(
        student,
        solved(by(lambda g, h: g[h]), cases),
        {
            "you did g first, then h; g h is the other way round, and i goes to p_g[p_h[i]]. A "
            "group that commutes does not show it.": by(lambda g, h: h[g]),
            "you composed with the inverse of g.": by(lambda g, h: g.argsort()[h]),
            "you composed with the inverse of h.": by(lambda g, h: g[h.argsort()]),
            "you added the numbers of the rows, which is right for cyclic groups in order only.": (
                lambda p: (torch.arange(len(p))[:, None] + torch.arange(len(p))) % len(p)
            ),
            "you numbered the products in sorted order, not by where they stand in perms.": (
                lambda p: torch.tensor([sorted(p.tolist()).index(row) for row in p.tolist()])[
                    by(lambda g, h: g[h])(p)
                ]
            ),
        },
    )


def check_move_graph(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(p, graphs)``: renamed adjacency matrices (..., n, n), (g A)[g i, g j] = A[i, j]."""
    cases = {}
    for group, g in [
        (cyclic(2), "r"),
        (cyclic(3), "r"),
        (symmetric(3), "(0 1 2)"),
        (dihedral(4), "r"),
    ]:
        n = group.permutations.shape[1]
        cases[f"{g} of {group.name}"] = (group.permutations[group.index(g)], random(n, n).sign())
    p = dihedral(4).permutations[3]
    cases["r3 of D4 on a batch of four"] = (p, random(4, 4, 4))
    return verdict(
        student,
        solved(lambda p, a: a[..., p.argsort(), :][..., p.argsort()], cases),
        {
            "you fetched A[p[i], p[j]] into place (i, j), which is g^-1 A; a swap does not show it.": (
                lambda p, a: a[..., p, :][..., p]
            ),
            "you moved the rows alone; both ends of an edge are renamed.": (
                lambda p, a: a[..., p.argsort(), :]
            ),
            "you moved the columns alone; both ends of an edge are renamed.": (
                lambda p, a: a[..., p.argsort()]
            ),
            "you moved rows by g and columns by g^-1.": lambda p, a: a[..., p.argsort(), :][..., p],
            "you turned the edges round: i -> j became j -> i.": (
                lambda p, a: a.mT[..., p.argsort(), :][..., p.argsort()]
            ),
            "you moved the first two dimensions; the matrices are in the last two, a batch may stand "
            "before.": lambda p, a: a[p.argsort()][:, p.argsort()],
            "A[..., q, q] takes n entries, at (q[0], q[0]), (q[1], q[1]) and so on, not all pairs: give "
            "rows and columns two different axes, such as q[:, None] and q[None, :].": (
                lambda p, a: a[..., p, p]
            ),
            "A[..., q, q] takes n entries, at (q[0], q[0]), (q[1], q[1]) and so on, not all pairs: give "
            "rows and columns two different axes, such as q[:, None] and q.": (
                lambda p, a: a[..., p.argsort(), p.argsort()]
            ),
            "you changed nothing.": lambda p, a: a,
        },
    )


def _moved(perms: Tensor, graph: Tensor) -> Tensor:
    """All g A, ``(|G|, n * n)``."""
    return torch.stack([graph[p][:, p].flatten() for p in perms])


def check_orbit_and_stabiliser(student: Callable[[Tensor, Tensor], tuple[int, int]]) -> bool:
    """``student(perms, graph)``: how many graphs the group makes of it; how many g leave it alone."""

    def orbit(perms: Tensor, graph: Tensor) -> int:
        return len(_moved(perms, graph).unique(dim=0))

    def still(perms: Tensor, graph: Tensor) -> int:
        return int((_moved(perms, graph) == graph.flatten()).all(1).sum())

    square = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    path = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    arrows = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    cases = {
        # first a case in which the sizes of orbit, stabiliser, group and their likes all differ
        "a path of four (S4)": (symmetric(4).permutations, path),
        "a path of four (D4)": (dihedral(4).permutations, path),
        "three arrows in a circle (C3)": (cyclic(3).permutations, arrows),
        "three arrows in a circle (S3)": (symmetric(3).permutations, arrows),
        "a square (D4)": (dihedral(4).permutations, square),
    }

    def both(a: Callable, b: Callable) -> Callable:
        return lambda perms, graph: (a(perms, graph), b(perms, graph))

    def size(perms: Tensor, graph: Tensor) -> int:
        return len(perms)

    return verdict(
        student,
        solved(both(orbit, still), cases),
        {
            "you gave the two in the other order; the orbit comes first.": both(still, orbit),
            "you counted all |G| moved graphs; those that are equal count once.": both(size, still),
            "you left the identity out of the stabiliser; it leaves everything alone.": both(
                orbit, lambda perms, graph: still(perms, graph) - 1
            ),
            "you counted the elements that move no point at all; the graph may stay the same though "
            "its points change places.": both(
                orbit, lambda perms, graph: int((perms == torch.arange(len(graph))).all(1).sum())
            ),
            "you gave the size of the orbit twice.": both(orbit, orbit),
            "you gave the size of the stabiliser twice.": both(still, still),
            "you counted the elements that do move the graph.": both(
                orbit, lambda perms, graph: len(perms) - still(perms, graph)
            ),
        },
    )


def check_count_graphs(student: Callable[[Tensor], int]) -> bool:
    """``student(perms)``: how many undirected graphs without loops there are, up to the group."""

    def cycles(p: Tensor, pairs: list[tuple]) -> int:
        """Cycles of p on the given tuples of points, each sorted unless it is ordered."""
        ordered = (1, 0) in pairs
        where = {pair: pairs.index(pair) for pair in pairs}
        images = []
        for pair in pairs:
            image = [int(p[i]) for i in pair]
            images.append(where[tuple(image if ordered else sorted(image))])
        row, count, seen = images, 0, set()
        for start in range(len(row)):
            count += start not in seen
            while start not in seen:
                seen.add(start)
                start = row[start]
        return count

    def edges(n: int) -> list[tuple]:
        return [(i, j) for j in range(n) for i in range(j)]

    def mean(tuples: Callable[[int], list[tuple]], divide: bool = True) -> Callable:
        def count(perms: Tensor) -> int:
            total = sum(2 ** cycles(p, tuples(perms.shape[1])) for p in perms)
            return total // len(perms) if divide else total

        return count

    def unmoved(perms: Tensor) -> int:
        fixed = [
            sum(sorted((p[i], p[j])) == [i, j] for i, j in edges(len(p))) for p in perms.tolist()
        ]
        return sum(2**k for k in fixed) // len(perms)

    klein = direct_product(cyclic(2), cyclic(2))
    groups: list[FiniteGroup] = [cyclic(3), symmetric(3), dihedral(4), klein, symmetric(4)]
    return verdict(
        student,
        solved(mean(edges), {g.name: (Permutation(g).perms,) for g in groups}),
        {
            "you did not divide by |G|.": mean(edges, divide=False),
            "you coloured the points; a graph chooses among the pairs of points.": mean(
                lambda n: [(i,) for i in range(n)]
            ),
            "you counted directed graphs: i -> j and j -> i are one edge here.": mean(
                lambda n: [(i, j) for i in range(n) for j in range(n) if i != j]
            ),
            "you let a point be joined to itself.": mean(
                lambda n: [(i, j) for j in range(n) for i in range(j + 1)]
            ),
            "you divided the number of all graphs by |G|; graphs with symmetry have smaller "
            "orbits.": lambda perms: 2 ** len(edges(perms.shape[1])) // len(perms),
            "you counted the pairs that g leaves in place; a graph is fixed by g if each cycle of "
            "pairs is all in or all out, so count cycles.": unmoved,
            "you counted all graphs, without the group.": (
                lambda perms: 2 ** len(edges(perms.shape[1]))
            ),
        },
    )
