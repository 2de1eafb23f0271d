"""Finite groups: elements, Cayley tables and inverses.

A group is its multiplication table and nothing more. Everything else (inverses, generators, the
regular representation) is read off the table, the single source of truth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from .options import Count, checked
from .permutations import (
    Rows,
    check_order,
    check_permutations,
    closure,
    cycle_notation,
    integer_matrix,
)

__all__ = [
    "Element",
    "FiniteGroup",
    "cyclic",
    "dihedral",
    "direct_product",
    "permutation_group",
    "symmetric",
]


class Element:
    """An element of a :class:`FiniteGroup`: ``g @ h`` multiplies, ``~g`` inverts, ``g**k`` powers."""

    __slots__ = ("group", "index")

    def __init__(self, group: FiniteGroup, index: int):
        self.group = group
        self.index = index

    @property
    def name(self) -> str:
        return self.group.names[self.index]

    def __matmul__(self, other: Element) -> Element:
        if not isinstance(other, Element):
            return NotImplemented
        if self.group != other.group:
            raise ValueError(
                f"cannot multiply {self!r} of {self.group!r} by {other!r} of {other.group!r}: "
                "both must belong to the same group. Use direct_product to combine two groups."
            )
        return self.group[int(self.group.table[self.index, other.index])]

    def __invert__(self) -> Element:
        return self.group[int(self.group.inverses[self.index])]

    def __pow__(self, exponent: int) -> Element:
        exponent = checked("the exponent", int, exponent)
        base = self if exponent >= 0 else ~self
        result = self.group.identity
        for _ in range(abs(exponent) % base.order):
            result = result @ base
        return result

    @property
    def order(self) -> int:
        """The smallest k > 0 with g**k = e."""
        power, k = self.index, 1
        while power != self.group.identity.index:
            power, k = int(self.group.table[power, self.index]), k + 1
        return k

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Element) and (self.index, self.group) == (other.index, other.group)

    def __hash__(self) -> int:
        return hash((len(self.group), self.index))

    def __repr__(self) -> str:
        return self.name


class FiniteGroup:
    """A finite group, given by its Cayley table, whose group laws are checked.

    Parameters
    ----------
    table : (n, n) integers
        ``table[i][j]`` is the index of the product of elements i and j. The elements may come in
        any order; the identity need not be first.
    names : n distinct strings, optional
        Readable names of the elements. Default: ``g0, g1, ...``
    name : str
        The group's own name, for printing.
    permutations : (n, degree) integers, optional
        The group's natural permutation representation: ``permutations[g][i]`` is where g sends
        point i. Default: the left regular representation, i.e. the table.

    Raises
    ------
    ValueError
        If a group law fails, or ``permutations`` is not a representation. The message names the
        law and the elements that break it.

    Examples
    --------
    >>> c3 = cyclic(3)
    >>> r = c3["r"]
    >>> r @ r, ~r, r**3
    (r2, r2, e)
    """

    def __init__(
        self,
        table: Rows,
        names: Sequence[str] | None = None,
        name: str = "G",
        permutations: Rows | None = None,
    ):
        self.table = integer_matrix(
            table,
            "a Cayley table must be a square array of the integers 0..n-1, n rows of n (n >= 1)",
            lambda t: t.shape[0] == t.shape[1] > 0,
        )
        n = len(self.table)
        self.names = tuple(names) if names is not None else tuple(f"g{i}" for i in range(n))
        if len(set(self.names)) != n or not all(isinstance(label, str) for label in self.names):
            raise ValueError(
                f"a table of {n} elements needs {n} distinct strings as names, got {list(self.names)}"
            )
        self.name = name
        self._index = {label: i for i, label in enumerate(self.names)}
        self.factors: tuple[FiniteGroup, ...] = ()

        self._check_closure()
        self.identity = Element(self, self._check_identity())
        self._check_associativity()
        self.inverses = self._check_inverses(self.identity.index)
        self.permutations = (
            self.table if permutations is None else check_permutations(self, permutations)
        )

    # -- the laws ---------------------------------------------------------------------------

    def _check_closure(self) -> None:
        n = self.order
        outside = (self.table < 0) | (self.table >= n)
        if outside.any():
            i, j = outside.nonzero()[0].tolist()
            raise ValueError(
                f"this table is not a group: it is not closed, the product of elements {i} and {j} is "
                f"{int(self.table[i, j])}, which is not the index of an element (0 to {n - 1})."
            )

    def _check_identity(self) -> int:
        unit = torch.arange(len(self.table), device="cpu")
        is_unit = (self.table == unit).all(1) & (unit == self.table.T).all(1)
        if not is_unit.any():
            raise ValueError(
                "this table is not a group: it has no identity (an element e with e g = g e = g for "
                "every g). For e, row and column must both list 0, 1, 2, ... in order."
            )
        return int(is_unit.nonzero()[0])

    def _check_associativity(self) -> None:
        # Light's test: the elements b with (a b) c = a (b c) for all a and c are closed under
        # products, so it is enough to check generators.
        for b in (g.index for g in self.generators):
            left = self.table[self.table[:, b]]  # (a b) c
            right = self.table[:, self.table[b]]  # a (b c)
            if not torch.equal(left, right):
                a, c = (left != right).nonzero()[0].tolist()
                x, y, z = (self.names[i] for i in (a, b, c))
                raise ValueError(
                    f"this table is not a group: it is not associative, ({x} {y}) {z} = "
                    f"{self.names[left[a, c]]} but {x} ({y} {z}) = {self.names[right[a, c]]}."
                )

    def _check_inverses(self, identity: int) -> Tensor:
        gives_identity = self.table == identity
        is_inverse = gives_identity & gives_identity.T
        lacking = ~is_inverse.any(1)
        if lacking.any():
            bad = self.names[int(lacking.nonzero()[0])]
            raise ValueError(
                f"this table is not a group: {bad} has no inverse (no h with {bad} h = h {bad} = "
                f"{self.names[identity]})."
            )
        return is_inverse.int().argmax(1)

    # -- the elements -----------------------------------------------------------------------

    @property
    def order(self) -> int:
        """The number of elements, ``|G|``."""
        return len(self.table)

    def __len__(self) -> int:
        return self.order

    def __iter__(self) -> Iterator[Element]:
        return (Element(self, i) for i in range(self.order))

    def __getitem__(self, key: int | str | Element) -> Element:
        """The element with this index or name."""
        return Element(self, self.index(key))

    def index(self, key: int | str | Element) -> int:
        """The index of an element given as an index, a name or an :class:`Element`."""
        if isinstance(key, Element):
            if key.group != self:
                raise ValueError(f"{key!r} is an element of {key.group!r}, not of {self!r}")
            return key.index
        if isinstance(key, str):
            if key not in self._index:
                raise KeyError(
                    f"{self!r} has no element {key!r}; it has {', '.join(self.names[:24])}"
                )
            return self._index[key]
        number: int = key if type(key) is int else checked("the index of an element", int, key)
        if not -self.order <= number < self.order:
            raise IndexError(f"{self!r} has {self.order} elements, and none has index {number}")
        return number % self.order

    @property
    def is_abelian(self) -> bool:
        return torch.equal(self.table, self.table.T)

    @property
    def generators(self) -> tuple[Element, ...]:
        """A small generating set, found greedily in the order of the elements."""
        chosen: list[int] = []
        reached = torch.zeros(self.order, dtype=torch.bool, device="cpu")
        reached[self.identity.index] = True
        while not reached.all():
            chosen.append(int((~reached).nonzero()[0]))
            size = 0
            while size != int(reached.sum()):  # close under multiplication by the generators
                size = int(reached.sum())
                reached[self.table[reached.nonzero(), chosen]] = True  # (reached, chosen) products
        return tuple(self[i] for i in chosen)

    def components(self, factor: int) -> Tensor:
        """Each element's index in the given factor of a direct product, shape ``(|G|,)``."""
        if not self.factors:
            raise ValueError(f"{self!r} is not a direct product; make one with direct_product")
        factor = checked("factor", int, factor)
        if not 0 <= factor < len(self.factors):
            raise IndexError(
                f"{self!r} has factors 0 to {len(self.factors) - 1}, and no factor {factor}"
            )
        orders = [len(f) for f in self.factors]
        step = math.prod(orders[factor + 1 :])
        return torch.arange(self.order, device="cpu") // step % orders[factor]

    # -- equality and printing --------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Same elements in the same order with the same products; names do not matter."""
        return self is other or (
            isinstance(other, FiniteGroup) and torch.equal(self.table, other.table)
        )

    def __hash__(self) -> int:
        return hash((self.order, int(self.table.diagonal().sum())))

    def __repr__(self) -> str:
        return f"{self.name} (order {self.order})"

    def __str__(self) -> str:
        """The Cayley table: row g, column h holds g @ h."""
        width = max(map(len, self.names))
        head = " " * width + " | " + " ".join(f"{n:>{width}}" for n in self.names)
        rows = [
            f"{g.name:>{width}} | " + " ".join(f"{(g @ h).name:>{width}}" for h in self)
            for g in self
        ]
        return "\n".join([repr(self), head, "-" * len(head), *rows])


# -- the families ---------------------------------------------------------------------------

#: Largest order of a family or product: its table is an n x n array, and a model would run n times.
LARGEST = 4096


def _check_size(n: int, family: str, order: Callable[[int], int] = lambda n: n) -> int:
    """n as an int, if it is a whole number >= 1 and the group is not too large."""
    try:
        size = checked("n", Count, n)
    except (TypeError, ValueError):
        raise ValueError(f"{family} needs a whole number n >= 1, got {n!r}") from None
    check_order(f"{family}({size})", order(size), LARGEST)
    return size


def _powers(letter: str, n: int) -> list[str]:
    return ["e", letter, *(f"{letter}{k}" for k in range(2, n))][:n]


def cyclic(n: int) -> FiniteGroup:
    """The cyclic group C_n: e, r, r2, ..., with r the rotation by 1/n of a turn."""
    n = _check_size(n, "cyclic")
    k = torch.arange(n, device="cpu")
    return FiniteGroup((k[:, None] + k) % n, _powers("r", n), f"C{n}")


def dihedral(n: int) -> FiniteGroup:
    """The dihedral group D_n of the 2n symmetries of a regular n-gon.

    Elements are r^k s^f, "first the reflection s if f = 1, then k steps of the rotation r", in the
    order e, r, r2, ..., s, rs, r2s, ... The relation is s r = r^-1 s, so D_n is non-abelian for
    n >= 3. For n >= 3 its natural permutation representation is on the n corners.
    """
    n = _check_size(n, "dihedral", lambda n: 2 * n)
    g = torch.arange(2 * n, device="cpu")
    k, f = g % n, g // n
    sign = 1 - 2 * f[:, None]  # r^k s^f r^l s^m = r^(k + (-1)^f l) s^(f + m)
    table = (k[:, None] + sign * k) % n + n * ((f[:, None] + f) % 2)
    rotations = _powers("r", n)
    names = [*rotations, "s", *(f"{r}s" for r in rotations[1:])]
    corners = (k[:, None] + sign * g[:n]) % n if n >= 3 else None
    return FiniteGroup(table, names, f"D{n}", corners)


def symmetric(n: int) -> FiniteGroup:
    """The symmetric group S_n of all n! permutations of n <= 6 points, named in cycle notation."""
    n = _check_size(n, "symmetric", lambda n: math.factorial(min(n, 30)))
    return _from_permutations(list(itertools.permutations(range(n))), f"S{n}")


def permutation_group(
    generators: Iterable[Sequence[int]], name: str = "G", max_order: int = 720
) -> FiniteGroup:
    """The group generated by the given permutations.

    Parameters
    ----------
    generators : permutations of 0..n-1
        ``p[i]`` is the image of point i.
    max_order : int
        The largest number of elements allowed.

    Returns
    -------
    FiniteGroup
        Its elements are named in cycle notation and stored as the rows of ``group.permutations``.
        The product ``g @ h`` is "first h, then g".

    Raises
    ------
    ValueError
        If a generator is not a permutation, or there are more than ``max_order`` elements.
    """
    return _from_permutations(closure(generators, checked("max_order", Count, max_order)), name)


def _from_permutations(perms: list[tuple[int, ...]], name: str) -> FiniteGroup:
    index = {p: i for i, p in enumerate(perms)}
    table = [[index[tuple(g[i] for i in h)] for h in perms] for g in perms]
    return FiniteGroup(table, [cycle_notation(p) for p in perms], name, perms)


def direct_product(*groups: FiniteGroup) -> FiniteGroup:
    """The direct product: elements (g1, g2, ...), multiplied factor by factor.

    The last factor varies fastest. ``product.factors`` holds the groups, and
    ``product.components(i)`` gives each element's index in factor i.
    """
    if len(groups) < 2 or not all(isinstance(g, FiniteGroup) for g in groups):
        raise ValueError("direct_product needs two or more groups, e.g. cyclic(4), cyclic(2)")
    name = " x ".join(g.name for g in groups)
    check_order(name, math.prod(len(g) for g in groups), LARGEST)
    table = groups[0].table
    for group in groups[1:]:
        m = len(group)
        table = table[:, None, :, None] * m + group.table[None, :, None, :]
        table = table.reshape(table.shape[0] * m, -1)
    names = [f"({', '.join(parts)})" for parts in itertools.product(*(g.names for g in groups))]
    product = FiniteGroup(table, names, name)
    product.factors = groups
    return product
