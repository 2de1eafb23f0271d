"""Finite groups: elements, Cayley tables and inverses.

A group is its multiplication table and nothing more. Everything else (inverses, generators, the
regular representation) is read off the table, so there is one source of truth and no hand-written
twin of any operation.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence

import torch

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
    """One element of a :class:`FiniteGroup`: ``g @ h`` multiplies, ``~g`` inverts, ``g**k`` powers."""

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
        base = self if exponent >= 0 else ~self
        result = self.group.identity
        for _ in range(abs(exponent) % base.order):
            result = result @ base
        return result

    @property
    def order(self) -> int:
        """The least k > 0 with g**k = e."""
        power, k = self.index, 1
        while power != self.group.identity.index:
            power, k = int(self.group.table[power, self.index]), k + 1
        return k

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Element) and self.index == other.index and self.group == other.group
        )

    def __hash__(self) -> int:
        return hash((len(self.group), self.index))

    def __repr__(self) -> str:
        return self.name


class FiniteGroup:
    """A finite group, given by its Cayley table and checked when it is made.

    Parameters
    ----------
    table : (n, n) integers
        ``table[i][j]`` is the index of the product of elements i and j. Any order of the elements
        will do; the identity need not come first.
    names : n distinct strings, optional
        Readable names of the elements; ``g0, g1, ...`` if left out.
    name : str
        The group's own name, for printing.
    permutations : (n, degree) integers, optional
        A permutation representation to be the group's natural one: ``permutations[g][i]`` is
        where g sends point i. The default is the left regular representation, i.e. the table.

    Raises
    ------
    ValueError
        If a group law fails, or ``permutations`` is no representation. The message names the law
        and the elements that break it.

    Examples
    --------
    >>> c3 = cyclic(3)
    >>> r = c3["r"]
    >>> r @ r, ~r, r**3
    (r2, r2, e)
    """

    def __init__(
        self,
        table: Sequence[Sequence[int]] | torch.Tensor,
        names: Sequence[str] | None = None,
        name: str = "G",
        permutations: Sequence[Sequence[int]] | torch.Tensor | None = None,
    ):
        self.table = _as_table(table)
        n = len(self.table)
        self.names = tuple(names) if names is not None else tuple(f"g{i}" for i in range(n))
        if len(set(self.names)) != n or not all(isinstance(label, str) for label in self.names):
            raise ValueError(
                f"a table of {n} elements needs {n} distinct strings as names, got {list(self.names)}"
            )
        self.name = name
        self._index = {label: i for i, label in enumerate(self.names)}
        self.factors: tuple[FiniteGroup, ...] = ()

        self.identity = Element(self, self._check_identity())
        self._check_associativity()
        self.inverses = self._check_inverses(self.identity.index)
        self.permutations = (
            self.table if permutations is None else check_permutations(self, permutations)
        )

    # -- the laws ---------------------------------------------------------------------------

    def _check_identity(self) -> int:
        unit = torch.arange(len(self.table), device="cpu")
        is_unit = (self.table == unit).all(1) & (unit == self.table.T).all(1)
        if not is_unit.any():
            raise ValueError(
                "this table is no group: it has no identity (an element e with e g = g e = g for "
                "every g). One row and the column of the same number must list 0, 1, 2, ... in order."
            )
        return int(is_unit.nonzero()[0])

    def _check_associativity(self) -> None:
        # Light's test: the b with (a b) c = a (b c) for all a and c are closed under products, so
        # it is enough to try generators.
        for b in (g.index for g in self.generators):
            left = self.table[self.table[:, b]]  # (a b) c
            right = self.table[:, self.table[b]]  # a (b c)
            if not torch.equal(left, right):
                a, c = (left != right).nonzero()[0].tolist()
                x, y, z = (self.names[i] for i in (a, b, c))
                raise ValueError(
                    f"this table is no group: it is not associative, ({x} {y}) {z} = "
                    f"{self.names[left[a, c]]} but {x} ({y} {z}) = {self.names[right[a, c]]}."
                )

    def _check_inverses(self, identity: int) -> torch.Tensor:
        hits = self.table == identity
        two_sided = hits & hits.T
        if not two_sided.any(1).all():
            bad = self.names[int((~two_sided.any(1)).nonzero()[0])]
            raise ValueError(
                f"this table is no group: {bad} has no inverse (no h with {bad} h = h {bad} = "
                f"{self.names[identity]})."
            )
        return two_sided.int().argmax(1)

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
        """The element of this index or name."""
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
        number = operator.index(key)  # refuses 1.5
        if not -self.order <= number < self.order:
            raise IndexError(f"{self!r} has {self.order} elements, there is no number {number}")
        return number % self.order

    @property
    def is_abelian(self) -> bool:
        return torch.equal(self.table, self.table.T)

    @property
    def generators(self) -> tuple[Element, ...]:
        """A small generating set, found greedily in the order of the elements."""
        found: list[int] = []
        reached = torch.zeros(self.order, dtype=torch.bool, device="cpu")
        reached[self.identity.index] = True
        while not reached.all():
            found.append(int((~reached).nonzero()[0]))
            size = 0
            while size != int(reached.sum()):  # close under multiplication by the generators
                size = int(reached.sum())
                for g in found:
                    reached[self.table[reached.nonzero()[:, 0], g]] = True
        return tuple(self[i] for i in found)

    def components(self, factor: int) -> torch.Tensor:
        """For a direct product: the index in the given factor of each element, shape ``(|G|,)``."""
        if not self.factors:
            raise ValueError(f"{self!r} is not a direct product; make one with direct_product")
        if not 0 <= factor < len(self.factors):
            raise IndexError(
                f"{self!r} has the factors 0 to {len(self.factors) - 1}, there is no {factor}"
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


def _as_table(table: Sequence[Sequence[int]] | torch.Tensor) -> torch.Tensor:
    """The Cayley table as a long tensor; closure is checked here."""
    try:
        t = torch.as_tensor(table, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            "a Cayley table must be a square array of integers, n rows of n"
        ) from error
    if t.ndim != 2 or t.shape[0] != t.shape[1] or t.shape[0] == 0:
        raise ValueError(
            f"a Cayley table must be a square array, n rows of n (n >= 1), got shape {tuple(t.shape)}"
        )
    if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        raise ValueError(f"a Cayley table holds the integer indices 0..n-1, got dtype {t.dtype}")
    t = t.to("cpu", torch.long, copy=True)
    outside = (t < 0) | (t >= len(t))
    if outside.any():
        i, j = outside.nonzero()[0].tolist()
        raise ValueError(
            f"this table is no group: it is not closed, the product of elements {i} and {j} is "
            f"{int(t[i, j])}, which is no index of the {len(t)} elements (0 to {len(t) - 1})."
        )
    return t


def check_rows(rows: Sequence | torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """One row of indices for each name, as a long tensor; each is checked to be a permutation."""
    try:
        p = torch.as_tensor(rows, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            "each element needs one row of integers, all of the same length"
        ) from error
    if p.ndim != 2 or len(p) != len(names) or p.is_floating_point() or p.is_complex():
        raise ValueError(
            f"each of the {len(names)} elements needs one row of integers, all of the same length: "
            f"shape ({len(names)}, n); got shape {tuple(p.shape)}, dtype {p.dtype}"
        )
    p = p.to(torch.long, copy=True)  # a later change of the caller's tensor must not change ours
    wrong = (p.sort(1).values != torch.arange(p.shape[1], device=p.device)).any(1)
    if wrong.any():
        raise ValueError(
            f"the row of element {names[int(wrong.nonzero()[0])]} is no permutation of "
            f"0..{p.shape[1] - 1}: each index must be listed exactly once"
        )
    return p


def check_permutations(group: FiniteGroup, perms: Sequence | torch.Tensor) -> torch.Tensor:
    """The rows ``perms[g][i]`` = g i as a ``(|G|, n)`` long tensor, checked to be a homomorphism."""
    p = check_rows(perms, group.names)
    if not torch.equal(p[group.identity.index], torch.arange(p.shape[1], device=p.device)):
        raise ValueError(f"this is no action of {group!r}: the identity must move nothing")
    for s in group.generators:  # p(s h) = p(s) p(h) for generators s gives it for all products
        broken = (p[group.table[s.index]] != p[s.index][p]).any(1)
        if broken.any():
            h = group[int(broken.nonzero()[0])]
            raise ValueError(
                f"this is no action of {group!r}: the permutation of {s} {h} = {s @ h} differs from "
                f"that of {h} followed by that of {s}. Row g must say where g sends each index."
            )
    return p


# -- the families ---------------------------------------------------------------------------

LARGEST = 2048  # n of a family: its table is an n x n array, and a model would run n times


def _need_positive(n: int, family: str) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{family} needs a whole number n >= 1, got {n!r}")
    if n > LARGEST:
        raise ValueError(
            f"{family}({n}) has more elements than a group average can hold: n up to {LARGEST} is supported"
        )


def _powers(letter: str, n: int) -> list[str]:
    return ["e", letter, *(f"{letter}{k}" for k in range(2, n))][:n]


def cyclic(n: int) -> FiniteGroup:
    """The cyclic group C_n: e, r, r2, ..., with r the rotation by 1/n of a turn."""
    _need_positive(n, "cyclic")
    k = torch.arange(n, device="cpu")
    return FiniteGroup((k[:, None] + k) % n, _powers("r", n), f"C{n}")


def dihedral(n: int) -> FiniteGroup:
    """The dihedral group D_n of the 2n symmetries of a regular n-gon.

    Elements are r^k s^f, "first the reflection s if f = 1, then k steps of the rotation r", in the
    order e, r, r2, ..., s, rs, r2s, ... The relation is s r = r^-1 s, so D_n is non-abelian for
    n >= 3. Its natural permutation representation is on the n corners (for n >= 3).
    """
    _need_positive(n, "dihedral")
    g = torch.arange(2 * n, device="cpu")
    k, f = g % n, g // n
    sign = 1 - 2 * f[:, None]  # r^k s^f r^l s^m = r^(k + (-1)^f l) s^(f + m)
    table = (k[:, None] + sign * k) % n + n * ((f[:, None] + f) % 2)
    rotations = _powers("r", n)
    names = [*rotations, "s", *(f"{r}s" for r in rotations[1:])]
    corners = (k[:, None] + sign * g[:n]) % n if n >= 3 else None
    return FiniteGroup(table, names, f"D{n}", corners)


def symmetric(n: int) -> FiniteGroup:
    """The symmetric group S_n of all n! permutations of n points, named in cycle notation."""
    _need_positive(n, "symmetric")
    if n > 6:
        raise ValueError(
            f"symmetric({n}) has {math.factorial(n)} elements, more than a group average can hold; "
            "n up to 6 is supported. Use permutation_group with a few generators instead."
        )
    return _from_permutations(list(itertools.permutations(range(n))), f"S{n}")


def permutation_group(
    generators: Iterable[Sequence[int]], name: str = "G", max_order: int = 720
) -> FiniteGroup:
    """The group that some permutations generate.

    Parameters
    ----------
    generators : permutations of 0..n-1
        Each lists where the points go: ``p[i]`` is the image of i.
    max_order : int
        Stop with an error when the closure grows beyond this many elements.

    Returns
    -------
    FiniteGroup
        Its elements are named in cycle notation; ``group.permutations`` holds them, a row each. The
        product ``g @ h`` is "first h, then g".
    """
    try:
        gens = [tuple(int(i) for i in p) for p in generators]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "permutation_group takes a list of permutations, each a list of the points' images"
        ) from error
    if not gens or not gens[0]:
        raise ValueError("permutation_group needs at least one permutation of at least one point")
    for p in gens:
        if len(p) != len(gens[0]) or sorted(p) != list(range(len(p))):
            raise ValueError(
                f"{list(p)} is no permutation of 0..{len(gens[0]) - 1}: each point must be listed "
                "exactly once, and all generators must permute the same points."
            )
    identity = tuple(range(len(gens[0])))
    elements, frontier = {identity: None}, [identity]  # a dict keeps the order of discovery
    while frontier:
        fresh = [tuple(g[i] for i in p) for p in frontier for g in gens]
        frontier = [p for p in dict.fromkeys(fresh) if p not in elements]
        elements.update(dict.fromkeys(frontier))
        if len(elements) > max_order:
            raise ValueError(
                f"these permutations generate more than max_order={max_order} elements, and a group "
                "average runs the model once for each: take fewer generators, or raise max_order"
            )
    return _from_permutations(list(elements), name)


def _from_permutations(perms: list[tuple[int, ...]], name: str) -> FiniteGroup:
    index = {p: i for i, p in enumerate(perms)}
    table = [[index[tuple(g[i] for i in h)] for h in perms] for g in perms]
    return FiniteGroup(table, [_cycles(p) for p in perms], name, perms)


def _cycles(p: tuple[int, ...]) -> str:
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
            text += "(" + " ".join(map(str, cycle)) + ")"
    return text or "e"


def direct_product(*groups: FiniteGroup) -> FiniteGroup:
    """The direct product: elements (g1, g2, ...), multiplied factor by factor.

    The last factor varies fastest. ``product.factors`` are the groups and
    ``product.components(i)`` gives each element's index in factor i.
    """
    if len(groups) < 2 or not all(isinstance(g, FiniteGroup) for g in groups):
        raise ValueError("direct_product needs two or more groups, e.g. cyclic(4), cyclic(2)")
    table = groups[0].table
    for group in groups[1:]:
        m = len(group)
        table = table[:, None, :, None] * m + group.table[None, :, None, :]
        table = table.reshape(table.shape[0] * m, -1)
    names = [f"({', '.join(parts)})" for parts in itertools.product(*(g.names for g in groups))]
    product = FiniteGroup(table, names, " x ".join(g.name for g in groups))
    product.factors = groups
    return product
