"""Permutations as rows of integers: ``row[i]`` is where point i goes.

Groups and actions check and complete their rows here. No dense matrices: a permutation of n points
costs n integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from .options import checked

if TYPE_CHECKING:
    from .groups import FiniteGroup

__all__ = [
    "Generators",
    "Rows",
    "check_order",
    "check_permutations",
    "check_rows",
    "closure",
    "complete",
    "cycle_notation",
    "integer_matrix",
    "integers",
]

#: One row of integers for each element.
Rows: TypeAlias = Tensor | Sequence[Sequence[int]]
#: Rows for the named generators only.
Generators: TypeAlias = Mapping[str, Sequence[int]]


def integer_matrix(values: Rows, requirement: str, fits: Callable[[Tensor], bool]) -> Tensor:
    """A copy of the values as a long tensor; ValueError unless they are a matrix that ``fits``."""
    try:
        matrix = torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(requirement) from error
    kind = torch.bool if _has_bools(values) else matrix.dtype
    is_integer = not (kind.is_floating_point or kind.is_complex or kind == torch.bool)
    if matrix.ndim != 2 or not is_integer or not fits(matrix):
        raise ValueError(f"{requirement}; got shape {tuple(matrix.shape)}, dtype {kind}")
    return matrix.to(torch.long, copy=True)


def _has_bools(values: Any) -> bool:
    """Whether there is a bool among the values, which torch would make 0 or 1."""
    if type(values) is int:  # most are
        return False
    if isinstance(values, list | tuple):
        return any(map(_has_bools, values))
    return isinstance(values, bool) or str(getattr(values, "dtype", None)).endswith("bool")


def integers(what: str, values: Any) -> list[int]:
    """The values as Python's integers; TypeError, naming what they are, if one is no whole number."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a list of whole numbers, got {values!r}")
    return [i if type(i) is int else checked(f"each of {what}", int, i) for i in values]


def check_rows(rows: Rows, names: Sequence[str]) -> Tensor:
    """One row for each of the named elements, ``(len(names), n)``, each a permutation of 0..n-1."""
    n = len(names)
    p = integer_matrix(
        rows,
        f"each of the {n} elements needs one row of integers, all of the same length: shape ({n}, n)",
        lambda matrix: len(matrix) == n,
    )
    wrong = (p.sort(1).values != torch.arange(p.shape[1], device="cpu")).any(1)
    if wrong.any():
        raise ValueError(
            f"the row of element {names[int(wrong.nonzero()[0])]} is not a permutation of "
            f"0..{p.shape[1] - 1}: each index must be listed exactly once"
        )
    return p


def check_permutations(group: FiniteGroup, rows: Rows) -> Tensor:
    """The rows ``p[g][i]`` = g i as a ``(|G|, n)`` tensor, checked to be a homomorphism."""
    p = check_rows(rows, group.names)
    if not torch.equal(p[group.identity.index], torch.arange(p.shape[1], device="cpu")):
        raise ValueError(f"this is not an action of {group!r}: the identity must move nothing")
    for s in group.generators:  # p(s h) = p(s) p(h) for generators s gives it for all products
        broken = (p[group.table[s.index]] != p[s.index][p]).any(1)
        if broken.any():
            h = group[int(broken.nonzero()[0])]
            raise ValueError(
                f"this is not an action of {group!r}: the permutation of {s} {h} = {s @ h} differs from "
                f"that of {h} followed by that of {s}. Row g must say where g sends each index."
            )
    return p


def complete(group: FiniteGroup, rows: Rows | Generators | None) -> Tensor:
    """Checked ``(|G|, n)`` rows from those of all elements or of generators, given by name.

    None gives ``group.permutations``.
    """
    if rows is None:
        return group.permutations.clone()
    if isinstance(rows, Mapping):
        given = [group.index(name) for name in rows]
        lists = [integers(f"the row of {name}", row) for name, row in rows.items()]
        checked = check_rows(lists, [group.names[s] for s in given])
        rows = _products(group, dict(zip(given, checked, strict=True)))
    return check_permutations(group, rows)


def _products(group: FiniteGroup, given: dict[int, Tensor]) -> Tensor:
    """The rows of all elements, as products of the given ones."""
    degree = len(next(iter(given.values())))
    known = {group.identity.index: torch.arange(degree, device="cpu")}
    queue = list(known)
    for h in queue:  # grows as new elements are reached
        for s, row in given.items():
            product = int(group.table[s, h])
            if product not in known:
                known[product] = row[known[h]]
                queue.append(product)
    if len(known) < len(group):
        missing = next(g for g in group if g.index not in known)
        raise ValueError(
            f"{', '.join(group.names[s] for s in given)} do not generate {group!r}: {missing} is not "
            f"a product of them. Give rows for more elements, e.g. "
            f"{', '.join(map(repr, group.generators))}."
        )
    # Keep the given rows even where a product disagrees: the homomorphism check then reports it.
    return torch.stack([given.get(i, known[i]) for i in range(len(group))])


def closure(generators: Iterable[Sequence[int]], max_order: int) -> list[tuple[int, ...]]:
    """All products of the generators, the identity first, in the order of discovery."""
    try:
        gens = [tuple(integers("a permutation's points", p)) for p in generators]
    except TypeError as error:
        raise ValueError(
            f"permutation_group takes a list of permutations, each a list of the points' images: {error}"
        ) from error
    if not gens or not gens[0]:
        raise ValueError("permutation_group needs at least one permutation of at least one point")
    identity = tuple(range(len(gens[0])))
    for p in gens:
        if tuple(sorted(p)) != identity:
            raise ValueError(
                f"{list(p)} is not a permutation of 0..{len(identity) - 1}: each point must be listed "
                "exactly once, and all generators must permute the same points."
            )
    elements = [identity]
    seen = set(elements)
    for p in elements:  # grows as products are found
        for g in gens:
            product = tuple(g[i] for i in p)
            if product not in seen:
                seen.add(product)
                elements.append(product)
        check_order("the group of these permutations, as far as found,", len(elements), max_order)
    return elements


def check_order(name: str, order: int, most: int) -> None:
    """Raise ValueError if a group is too large to average over, and say what helps."""
    if order > most:
        many = f"{order:,}" if order <= 10**9 else "over a billion"
        raise ValueError(
            f"{name} has {many} elements, and a group average runs the model once for each: at most "
            f"{most:,}. Take a subgroup (cyclic(n) for the shifts of n points), bring the input into one "
            "order (sort the points, or turn the input into a frame of its own), or use a network that is "
            "invariant by itself, such as a sum over points"
        )


def cycle_notation(p: Sequence[int]) -> str:
    """Cycle notation, e.g. (0 2 1)(3 4); the identity is e."""
    seen: set[int] = set()
    text = ""
    for start in range(len(p)):
        cycle, i = [], start
        while i not in seen:
            seen.add(i)
            cycle.append(i)
            i = p[i]
        if len(cycle) > 1:
            text += f"({' '.join(map(str, cycle))})"
    return text or "e"
