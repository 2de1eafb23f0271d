"""How a group acts on tensors.

An action gives every group element g a map x -> g x with e x = x and (g h) x = g (h x). The group
average needs to know nothing else about the data: it moves the input by g, and moves the output back
by g^-1, where g^-1 comes from the group's table.

Permutations are index vectors, never dense matrices, so acting on a vocabulary of V words takes
``O(|G| V)`` integers of memory. Actions on images are in :mod:`equitutor.rotations`,
by matrices and signs in :mod:`equitutor.representations`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .groups import Element, FiniteGroup, cyclic, direct_product
from .modes import readable
from .options import Count, checked
from .pages import Module
from .permutations import Generators, Rows, complete, integers

__all__ = [
    "Action",
    "FunctionAction",
    "Permutation",
    "ProductAction",
    "Regular",
    "TokenPermutation",
    "Trivial",
    "cycle_group",
]


class Action(Module):
    """A group acting on tensors: ``action(g, x)`` is g x, of the shape of x.

    A subclass implements :meth:`act`. The same g moves every item of a batch. Actions are modules
    without parameters: they follow ``.to(device)`` and leave no trace in a state_dict.

    Attributes
    ----------
    dims : int
        How many of the last dimensions are moved, where that is fixed: a batch has one more.
    """

    dims = 0

    def __init__(self, group: FiniteGroup):
        super().__init__()
        if not isinstance(group, FiniteGroup):
            raise TypeError(
                f"an action needs a FiniteGroup first, e.g. cyclic(4); got {type(group).__name__}"
            )
        self.group = group
        self.inverse_of: list[int] = group.inverses.tolist()

    def act(self, g: int, x: Tensor) -> Tensor:
        """g x for the element with index g."""
        raise NotImplementedError

    def validate(self, x: Tensor) -> None:
        """Raise ValueError, saying why, if this action does not fit x."""

    def validate_batch(self, x: Tensor) -> None:
        """Raise ValueError, saying why, if this action does not fit a batch x, (B, ...)."""
        self.validate(x)
        dim = getattr(self, "dim", None)
        if x.ndim <= self.dims or (dim is not None and dim % x.ndim == 0):
            moved = f"the last {self.dims} dimensions" if self.dims else f"dimension {dim}"
            raise ValueError(
                f"{type(self).__name__} moves {moved}, and the batch comes before; got shape "
                f"{tuple(x.shape)}, whose rows it would mix. A single input needs a batch dimension: x[None]."
            )

    def forward(self, g: Element | str | int, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"an action moves tensors, got {type(x).__name__}")
        check_strided(x)
        self.validate(x)
        return self.act(self.group.index(g), x)

    def views(self, x: Tensor) -> Tensor:
        """All g x, folded into the batch: ``(B, ...) -> (|G| B, ...)``, g varying slowest."""
        self.validate_batch(x)
        return torch.cat([self.act(g, x) for g in range(len(self.group))])

    def undo(self, g: Element | str | int, y: Tensor) -> Tensor:
        """g^-1 y, with the inverse read off the group's table."""
        if not isinstance(g, int):
            g = self.group.index(g)
        return self.act(self.inverse_of[g], y)

    def check(self, sample: Tensor, rtol: float = 1e-5) -> None:
        """Check both laws of an action on a sample.

        It suffices to check (s h) x = s (h x) for all generators s and all h: the law then holds
        for all products.

        Raises
        ------
        ValueError
            If a law fails. The message names the elements that break it.
        """
        self.validate(sample)
        group = self.group
        moved = [self.act(h, sample) for h in range(len(group))]
        if not _close(moved[group.identity.index], sample, rtol):
            raise ValueError(
                f"this is not an action of {group!r}: the identity {group.identity} moves the "
                "sample, but e x must be x."
            )
        for s in group.generators:
            for h in group:
                if not _close(moved[(s @ h).index], self.act(s.index, moved[h.index]), rtol):
                    raise ValueError(
                        f"this is not an action of {group!r}: ({s} {h}) x differs from {s} ({h} x) "
                        f"on the sample, though {s} {h} = {s @ h}. An action must be a homomorphism; "
                        "acting in the reverse order is the usual cause: try the inverse element."
                    )

    def extra_repr(self) -> str:
        return repr(self.group)


def check_strided(x: Tensor) -> None:
    """Raise ValueError for sparse tensors, which cannot be turned or permuted."""
    if x.layout != torch.strided:
        raise ValueError(f"actions move dense tensors, not {x.layout}: call x.to_dense() first")


def _close(a: Tensor, b: Tensor, rtol: float) -> bool:
    """Equal up to rtol times the largest entry of b; exactly equal if integers."""
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0.0, atol=rtol * scale))


class Trivial(Action):
    """g x = x for every g: the action on an invariant output."""

    def act(self, g: int, x: Tensor) -> Tensor:
        return x


# -- permutations -----------------------------------------------------------------------------


def cycle_group(axes: Sequence[Sequence[Sequence[int]]], size: int) -> tuple[FiniteGroup, Tensor]:
    """The group that moves ids along disjoint cycles, each axis independently.

    Parameters
    ----------
    axes : for each axis its cycles, lists of d >= 2 ids
        One step along an axis sends each id to the next of its cycle, in all cycles of the axis at
        once: C_d. Several axes give the direct product.
    size : int
        The number of ids; those in no cycle stay where they are.

    Returns
    -------
    group : FiniteGroup
    perms : ``(|G|, size)`` long tensor
        ``perms[g][i]`` is where g sends id i.
    """
    axes = [[integers("a cycle's ids", ids) for ids in cycles] for cycles in axes]
    size = checked("size", Count, size)
    factors = [cyclic(len(cycles[0])) for cycles in axes]
    group = direct_product(*factors) if len(factors) > 1 else factors[0]
    perms = torch.arange(size, device="cpu").repeat(len(group), 1)
    # (steps along each axis) for each element: the last axis varies fastest, as in a direct product
    counts = itertools.product(*(range(len(f)) for f in factors))
    for row, steps in zip(perms, counts, strict=True):
        for cycles, step in zip(axes, steps, strict=True):
            for ids in cycles:
                row[ids] = torch.tensor(ids, device="cpu").roll(-step)
    return group, perms


class _IndexAction(Action):
    """An action given by rows of integers: ``perms[g][i]`` is where g sends i."""

    def __init__(self, group: FiniteGroup, perms: Rows | Generators | None = None):
        super().__init__(group)
        self.register_buffer("perms", complete(group, perms), persistent=False)

    @property
    def degree(self) -> int:
        """How many indices or ids are permuted."""
        return self.perms.shape[1]

    def extra_repr(self) -> str:
        return f"{self.group!r}, degree={self.degree}"


class Permutation(_IndexAction):
    """Permutes the entries along one dimension: classes, features, Q-values, vocabulary scores.

    (g x)[g i] = x[i]: the entry at i moves to where g sends i.

    Parameters
    ----------
    perms : ``(|G|, n)`` integers, or a dict {generator name: n integers}, optional
        ``perms[g][i]`` is where g sends index i. Default: ``group.permutations``.
    dim : int
        The dimension to permute, of size n. Count from the end (-1, -2, ...) to be independent of
        the number of leading dimensions.

    Attributes
    ----------
    degree : int
        The number n of entries that are permuted.

    Raises
    ------
    ValueError
        If a row is not a permutation, if the rows are not a homomorphism (the elements are named),
        or, when acting, if dimension ``dim`` is not of size n.
    """

    def __init__(self, group: FiniteGroup, perms: Rows | Generators | None = None, dim: int = -1):
        super().__init__(group, perms)
        self.dim = checked("dim", int, dim)

    def act(self, g: int, x: Tensor) -> Tensor:
        if g == self.group.identity.index:
            return x
        # (g x)[j] = x[g^-1 j]
        source = self.perms[self.inverse_of[g]].to(x.device)
        return x.index_select(self.dim, source)

    def validate(self, x: Tensor) -> None:
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != self.degree:
            fits = [d for d, n in enumerate(x.shape) if n == self.degree]
            raise ValueError(
                f"this action permutes {self.degree} entries along dimension {self.dim}, but the "
                f"tensor has shape {tuple(x.shape)}"
                + (f": should the action be made with dim={fits[-1]}?" if fits else "")
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dim={self.dim}"


class Regular(Permutation):
    """The left regular representation: an axis indexed by the group itself, h -> g h."""

    def __init__(self, group: FiniteGroup, dim: int = -1):
        super().__init__(group, group.table, dim)


class TokenPermutation(_IndexAction):
    """Renames integer ids, such as the tokens of a sentence: id -> g id.

    With the same ``perms``, one_hot(g ids) is g one_hot(ids) under :class:`Permutation`: this class
    is the input side of a language model's symmetry, that one the output side.

    Parameters
    ----------
    perms : ``(|G|, V)`` integers, or a dict {generator name: V integers}, optional
        ``perms[g][i]`` is the id that g puts in place of i. Default: ``group.permutations``.
    """

    def act(self, g: int, x: Tensor) -> Tensor:
        if g == self.group.identity.index:
            return x
        # index_select, not []: where values are not checked, [] would take -100 for a place from the end.
        moved = self.perms[g].to(x.device).index_select(0, x.long().flatten())
        return moved.view(x.shape).to(x.dtype)

    def validate(self, x: Tensor) -> None:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise ValueError(f"TokenPermutation acts on integer ids, got dtype {x.dtype}")
        # Reading values synchronises the device and breaks a compiled graph: eager CPU only.
        if x.device.type == "cpu" and readable(x) and x.numel():
            outside = [i for i in (int(x.min()), int(x.max())) if not 0 <= i < self.degree]
            if outside:
                raise ValueError(
                    f"token id {outside[0]} is outside the vocabulary of {self.degree} tokens that this "
                    "action permutes"
                )


# -- everything else --------------------------------------------------------------------------


class FunctionAction(Action):
    """Your own function as an action, checked on a sample to be a homomorphism.

    Parameters
    ----------
    function : callable (element, tensor) -> tensor
        ``function(g, x)`` returns g x, of the shape of x; g is an :class:`Element`.
    sample : tensor
        A typical input, with a batch dimension if the action will meet one. Use random values:
        constant ones hide mistakes.
    """

    def __init__(
        self, group: FiniteGroup, function: Callable[[Element, Tensor], Tensor], sample: Tensor
    ):
        super().__init__(group)
        self.function = function
        if not isinstance(sample, Tensor) or sample.numel() == 0:
            raise ValueError("FunctionAction needs a sample tensor to check the laws of an action")
        for g in group:
            x = sample.clone()
            y = function(g, x)
            if not torch.equal(x, sample):
                raise ValueError(
                    f"the function must not change its input, but did for {g}: return a new tensor"
                )
            if not isinstance(y, Tensor) or y.shape != sample.shape:
                got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
                raise ValueError(
                    f"the function must return a tensor of the shape of its input "
                    f"{tuple(sample.shape)}; for {g} it returned {got}"
                )
        self.check(sample)

    def act(self, g: int, x: Tensor) -> Tensor:
        return self.function(Element(self.group, g), x)


class ProductAction(Action):
    """An action of a direct product from actions of its factors: (g1, g2) x = g1 (g2 x).

    Parameters
    ----------
    group : FiniteGroup
        Made with :func:`direct_product`.
    actions : one action for each factor, in order
        They must commute, as elements of different factors do.
    sample : tensor
        A typical input, on which this is checked.
    """

    def __init__(self, group: FiniteGroup, actions: Sequence[Action], sample: Tensor):
        super().__init__(group)
        if [a.group for a in actions] != list(group.factors):
            raise ValueError(
                f"{group!r} has the factors {list(group.factors)}, but the actions are of "
                f"{[a.group for a in actions]}: give one action for each factor, in the same order"
            )
        self.actions = nn.ModuleList(actions)
        self.dims = max(action.dims for action in actions)
        # (|G|, factors): the index of each element's part in each factor
        self._parts = torch.stack([group.components(i) for i in range(len(actions))], 1).tolist()
        self.validate(sample)
        try:
            self.check(sample)
        except ValueError as error:
            raise ValueError(
                f"the actions of the factors do not commute on the sample, so they do not make an "
                f"action of the product {group!r} ({error})"
            ) from error

    def act(self, g: int, x: Tensor) -> Tensor:
        for action, part in zip(reversed(self.actions), reversed(self._parts[g]), strict=True):
            x = action.act(part, x)
        return x

    def validate(self, x: Tensor) -> None:
        for action in self.actions:
            action.validate(x)

    def validate_batch(self, x: Tensor) -> None:
        for action in self.actions:
            action.validate_batch(x)
