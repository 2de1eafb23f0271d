"""How a group acts on tensors.

An action gives every group element g a map x -> g x with e x = x and (g h) x = g (h x). That is the
only thing the group average needs to know about the data: it moves the input by g, and moves the
output back by g^-1, where g^-1 comes from the group's table.

Permutations are index vectors, never dense matrices, so acting on a vocabulary of V words costs
``O(|G| V)`` integers of memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .groups import (
    Element,
    FiniteGroup,
    check_permutations,
    check_rows,
    cyclic,
    dihedral,
    direct_product,
)

__all__ = [
    "Action",
    "Flip",
    "FunctionAction",
    "MatrixAction",
    "Permutation",
    "ProductAction",
    "Regular",
    "Rotations",
    "TokenPermutation",
    "Trivial",
    "cycle_group",
    "rotation_matrices",
]


class Action(nn.Module):
    """A group acting on tensors: ``action(g, x)`` is g x, of the shape of x.

    A subclass implements :meth:`act`. Acting is elementwise over a leading batch dimension: the
    same g moves every item of the batch. Actions are modules without parameters: they follow
    ``.to(device)`` and leave no trace in a state_dict.

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
        """g x for the element of index g."""
        raise NotImplementedError

    def validate(self, x: Tensor) -> None:
        """Raise ValueError, saying why, if this action does not fit x."""

    def validate_batch(self, x: Tensor) -> None:
        """Raise ValueError, saying why, if this action does not fit a batch x, (B, ...)."""
        self.validate(x)
        if x.ndim <= self.dims:
            raise ValueError(
                f"{type(self).__name__} moves the last {self.dims} dimensions, and the batch comes "
                f"before them; got shape {tuple(x.shape)}, whose rows it would mix"
            )

    def forward(self, g: Element | str | int, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"an action moves tensors, got {type(x).__name__}")
        self.validate(x)
        return self.act(self.group.index(g), x)

    def views(self, x: Tensor) -> Tensor:
        """All g x, folded into the batch: ``(B, ...) -> (|G| B, ...)``, g varying slowest."""
        self.validate_batch(x)
        return torch.cat([self.act(g, x) for g in range(len(self.group))])

    def undo(self, g: int, y: Tensor) -> Tensor:
        """g^-1 y, with the inverse read off the group's table."""
        return self.act(self.inverse_of[g], y)

    def check(self, sample: Tensor, rtol: float = 1e-5) -> None:
        """Check the two laws of an action on a sample; the error names the elements that break them.

        It is enough to let the generators s meet every h: if (s h) x = s (h x) for these, the law
        holds for all products.
        """
        self.validate(sample)
        g = self.group
        moved = [self.act(h, sample) for h in range(len(g))]
        if not _same(moved[g.identity.index], sample, rtol):
            raise ValueError(
                f"this is no action of {g!r}: the identity {g.identity} moves the sample, e x must "
                "be x."
            )
        for s in g.generators:
            for h in g:
                if not _same(moved[(s @ h).index], self.act(s.index, moved[h.index]), rtol):
                    raise ValueError(
                        f"this is no action of {g!r}: ({s} {h}) x differs from {s} ({h} x) on the "
                        f"sample, though {s} {h} = {s @ h}. An action must be a homomorphism; "
                        "acting in the reverse order is the usual cause: try the inverse element."
                    )

    def extra_repr(self) -> str:
        return repr(self.group)


def _same(a: Tensor, b: Tensor, rtol: float) -> bool:
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0.0, atol=rtol * scale))


class Trivial(Action):
    """Every element leaves x where it is: the action on an invariant output."""

    def act(self, g: int, x: Tensor) -> Tensor:
        return x


# -- images and feature maps ------------------------------------------------------------------


class Rotations(Action):
    """Rotations by 90 degrees (and flips) of the last two dimensions of images and feature maps.

    Parameters
    ----------
    group : cyclic(4), dihedral(4), cyclic(2) or cyclic(1)
        For C4 the element r turns by 90 degrees counter-clockwise; D4 adds s, the left-right
        mirror image; C2 is the half turn.

    Raises
    ------
    ValueError
        For another group (a turn by another angle would need interpolation and would not be an
        action), and, when acting, for an image that is not square (except under C1 and C2).
    """

    dims = 2

    def __init__(self, group: FiniteGroup):
        super().__init__(group)
        fitting = {4: cyclic(4), 8: dihedral(4), 2: cyclic(2), 1: cyclic(1)}
        if group != fitting.get(len(group)):
            raise ValueError(
                f"Rotations turns the pixel grid by 90 degrees, which needs cyclic(4) or dihedral(4) "
                f"(or cyclic(2), the half turn, or cyclic(1)); got {group!r}. For the mirror image "
                "alone use Flip."
            )
        self.turns = {4: 4, 8: 4, 2: 2, 1: 1}[len(group)]

    def act(self, g: int, x: Tensor) -> Tensor:
        mirrored, quarter_turns = divmod(g, self.turns)
        if self.turns == 2:
            quarter_turns *= 2
        if mirrored:
            x = x.flip(-1)
        return x.rot90(quarter_turns, (-2, -1)) if quarter_turns else x

    def validate(self, x: Tensor) -> None:
        if x.ndim < 2 or (self.turns == 4 and x.shape[-1] != x.shape[-2]):
            raise ValueError(
                f"a turn by 90 degrees needs square images in the last two dimensions, got shape "
                f"{tuple(x.shape)}. Crop or pad to a square first, or use Flip or "
                "Rotations(cyclic(2)), which keep the shape of any rectangle."
            )

    def on_pixels(self, height: int, width: int | None = None) -> Permutation:
        """The same action as a permutation of the height * width pixels in row-major order."""
        return _on_pixels(self, height, width)


class Flip(Action):
    """Mirror images: C2 acting on the last two dimensions.

    Parameters
    ----------
    axis : "horizontal" or "vertical"
        "horizontal" mirrors left-right (reverses the last dimension), "vertical" up-down (the one
        before). One axis, never both: flipping both is the half turn.
    """

    dims = 2

    def __init__(self, axis: str = "horizontal"):
        super().__init__(cyclic(2))
        if axis not in ("horizontal", "vertical"):
            raise ValueError(
                f'axis must be "horizontal" (left-right) or "vertical" (up-down), got {axis!r}'
            )
        self.dim = -1 if axis == "horizontal" else -2

    def act(self, g: int, x: Tensor) -> Tensor:
        return x.flip(self.dim) if g else x

    def validate(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"Flip acts on the last two dimensions, got shape {tuple(x.shape)}")

    def on_pixels(self, height: int, width: int | None = None) -> Permutation:
        """The same action as a permutation of the height * width pixels in row-major order."""
        return _on_pixels(self, height, width)


def _on_pixels(action: Action, height: int, width: int | None) -> Permutation:
    number = torch.arange(height * (width or height), device="cpu").reshape(1, height, -1)
    # g x shows at pixel j the value that came from pixel (g x)[j]; a permutation says where i goes.
    came_from = action.views(number).flatten(1)
    return Permutation(action.group, came_from.argsort(1))


# -- permutations -----------------------------------------------------------------------------


def _as_permutations(
    group: FiniteGroup, perms: Tensor | Sequence | Mapping[str, Sequence[int]] | None
) -> Tensor:
    """A checked ``(|G|, n)`` long tensor from rows for all elements or for generators by name."""
    if perms is None:
        return group.permutations.clone()
    if isinstance(perms, Mapping):
        given = [group.index(g) for g in perms]
        rows = [torch.as_tensor(row, device="cpu").tolist() for row in perms.values()]
        rows = check_rows(rows, [group.names[g] for g in given])
        perms = _extend(group, dict(zip(given, rows, strict=True)))
    return check_permutations(group, perms)


def _extend(group: FiniteGroup, rows: dict[int, Tensor]) -> Tensor:
    """Rows for all elements, as products of the given ones."""
    known = {group.identity.index: torch.arange(len(next(iter(rows.values()))), device="cpu")}
    frontier = list(known)
    while frontier:
        fresh = []
        for h in frontier:
            for s, row in rows.items():
                product = int(group.table[s, h])
                if product not in known:
                    known[product] = row[known[h]]
                    fresh.append(product)
        frontier = fresh
    if len(known) < len(group):
        missing = next(g for g in group if g.index not in known)
        given = ", ".join(group.names[s] for s in rows)
        raise ValueError(
            f"{given} do not generate {group!r}: {missing} is no product of them. Give a row for "
            f"more elements, e.g. {', '.join(map(repr, group.generators))}."
        )
    # A given row must survive as given: if it disagrees, the homomorphism check will say so.
    return torch.stack([rows.get(i, known[i]) for i in range(len(group))])


def cycle_group(axes: Sequence[Sequence[Sequence[int]]], size: int) -> tuple[FiniteGroup, Tensor]:
    """The group that moves some ids along cycles, each axis by itself.

    Parameters
    ----------
    axes : for each axis its cycles, lists of d >= 2 ids
        One step along an axis sends each id to the next of its cycle, in all cycles of the axis at
        once: C_d. Several axes give the direct product. All cycles are disjoint.
    size : int
        The number of ids; those in no cycle stay.

    Returns
    -------
    FiniteGroup, and ``(|G|, size)`` long tensor: where each element sends each id
    """
    factors = [cyclic(len(cycles[0])) for cycles in axes]
    group = direct_product(*factors) if len(factors) > 1 else factors[0]
    perms = torch.arange(size, device="cpu").repeat(len(group), 1)
    # the last axis varies fastest, as in a direct product
    for row, steps in zip(perms, itertools.product(*(range(len(f)) for f in factors)), strict=True):
        for cycles, count in zip(axes, steps, strict=True):
            for ids in cycles:
                row[ids] = torch.tensor(ids, device="cpu").roll(-count)
    return group, perms


class Permutation(Action):
    """Permutes the entries along one dimension: classes, features, Q-values, vocabulary scores.

    (g x)[g i] = x[i]: the entry at i moves to where g sends i.

    Parameters
    ----------
    perms : ``(|G|, n)`` integers, or a dict {generator name: n integers}, optional
        ``perms[g][i]`` is where g sends index i. The default is ``group.permutations``.
    dim : int
        The dimension to permute, of size n. Count from the end (-1, -2, ...) to be independent of
        the number of leading dimensions.

    Raises
    ------
    ValueError
        If a row is no permutation, if the rows are no homomorphism (the elements are named), or,
        when acting, if dimension ``dim`` is not of size n.
    """

    def __init__(
        self,
        group: FiniteGroup,
        perms: Tensor | Sequence | Mapping[str, Sequence[int]] | None = None,
        dim: int = -1,
    ):
        super().__init__(group)
        self.dim = dim
        self.register_buffer("perms", _as_permutations(group, perms), persistent=False)

    @property
    def degree(self) -> int:
        """The number n of points that are permuted."""
        return self.perms.shape[1]

    def act(self, g: int, x: Tensor) -> Tensor:
        if g == self.group.identity.index:
            return x
        # (g x)[j] = x[g^-1 j]
        source = self.perms[self.inverse_of[g]].to(x.device)
        return x.index_select(self.dim, source)

    def validate(self, x: Tensor) -> None:
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != self.degree:
            raise ValueError(
                f"this action permutes {self.degree} entries along dimension {self.dim}, but the "
                f"tensor has shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"{self.group!r}, degree={self.degree}, dim={self.dim}"


class Regular(Permutation):
    """The left regular representation: an axis indexed by the group itself, h -> g h."""

    def __init__(self, group: FiniteGroup, dim: int = -1):
        super().__init__(group, group.table, dim)


class TokenPermutation(Action):
    """Renames integer ids, such as the tokens of a sentence: id -> g id.

    With the same ``perms``, one_hot(g ids) is g one_hot(ids) under :class:`Permutation`: this is the
    input side of a language model's symmetry, that the output side.

    Parameters
    ----------
    perms : ``(|G|, V)`` integers, or a dict {generator name: V integers}, optional
        ``perms[g][i]`` is the id that g puts in place of i.
    """

    def __init__(
        self,
        group: FiniteGroup,
        perms: Tensor | Sequence | Mapping[str, Sequence[int]] | None = None,
    ):
        super().__init__(group)
        self.register_buffer("perms", _as_permutations(group, perms), persistent=False)

    @property
    def degree(self) -> int:
        """The size V of the vocabulary."""
        return self.perms.shape[1]

    def act(self, g: int, x: Tensor) -> Tensor:
        if g == self.group.identity.index:
            return x
        return self.perms[g].to(x.device)[x.long()].to(x.dtype)

    def validate(self, x: Tensor) -> None:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise ValueError(f"TokenPermutation acts on integer ids, got dtype {x.dtype}")
        # Reading the values waits for the device and breaks a compiled graph: eager CPU only.
        if x.numel() and x.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = int(x.min()), int(x.max())
            if low < 0 or high >= self.degree:
                bad = low if low < 0 else high
                raise ValueError(
                    f"token id {bad} is outside the vocabulary of {self.degree} tokens that this "
                    "action permutes"
                )

    def extra_repr(self) -> str:
        return f"{self.group!r}, degree={self.degree}"


# -- linear representations and everything else -----------------------------------------------


class MatrixAction(Action):
    """A matrix representation acting along one dimension: x -> rho(g) x.

    Parameters
    ----------
    matrices : ``(|G|, n, n)`` floats
        rho(g), one for each element, with rho(g h) = rho(g) rho(h). Give float64 for float64 work.
    dim : int
        The dimension of size n that rho acts along.
    """

    def __init__(self, group: FiniteGroup, matrices: Tensor | Sequence, dim: int = -1):
        super().__init__(group)
        rho = torch.as_tensor(matrices)
        if rho.ndim != 3 or len(rho) != len(group) or rho.shape[1] != rho.shape[2]:
            raise ValueError(
                f"{group!r} needs one square matrix an element, shape ({len(group)}, n, n), got "
                f"{tuple(rho.shape)}"
            )
        if rho.is_complex():
            raise ValueError(
                f"the matrices must be real, got dtype {rho.dtype}: write each complex number a + bi "
                "as the 2 x 2 block [[a, -b], [b, a]]"
            )
        if not rho.is_floating_point():
            rho = rho.to(torch.get_default_dtype())
        self._representation = rho.detach().clone()  # kept in its own precision, moved when used
        # On the columns of the identity matrix, acting along dim -1 of rows e_i: all of rho at once.
        self.dim = -1
        sample = torch.eye(rho.shape[-1], dtype=rho.dtype, device=rho.device)
        self.check(sample, rtol=1e-10 if rho.dtype == torch.float64 else 1e-5)
        self.dim = dim

    def act(self, g: int, x: Tensor) -> Tensor:
        rho = self._representation[g].to(x.device, x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # or it would round x to half precision
            return (x.movedim(self.dim, -1) @ rho.T).movedim(-1, self.dim)

    def validate(self, x: Tensor) -> None:
        n = self._representation.shape[-1]
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != n or not x.is_floating_point():
            raise ValueError(
                f"this representation acts on {n} real numbers along dimension {self.dim}, but the "
                f"tensor has shape {tuple(x.shape)} and dtype {x.dtype}"
            )


def rotation_matrices(group: FiniteGroup) -> Tensor:
    """The plane representation of cyclic(n) or dihedral(n), n >= 3: ``(|G|, 2, 2)`` in float64."""
    n = len(group)
    if n < 3 or group not in (cyclic(n), dihedral(n // 2)):
        raise ValueError(f"rotation_matrices needs cyclic(n) or dihedral(n), n >= 3; got {group!r}")
    turns = n if group == cyclic(n) else n // 2
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64, device="cpu") / turns
    c, s = angle.cos(), angle.sin()
    rho = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    rho[turns:, :, 1] *= -1  # r^k s with s = diag(1, -1)
    return rho


class FunctionAction(Action):
    """Your own function as an action, checked on a sample to be a homomorphism.

    Parameters
    ----------
    function : callable (element, tensor) -> tensor
        ``function(g, x)`` returns g x, of the shape of x; g is an :class:`Element`.
    sample : tensor
        A typical input, with a batch dimension if the action will meet one; random values show
        more than constant ones.
    """

    def __init__(
        self, group: FiniteGroup, function: Callable[[Element, Tensor], Tensor], sample: Tensor
    ):
        super().__init__(group)
        self.function = function
        if not isinstance(sample, Tensor) or sample.numel() == 0:
            raise ValueError(
                "FunctionAction needs a sample tensor to check the laws of an action on"
            )
        for g in group:
            given = sample.clone()
            y = function(g, given)
            if not torch.equal(given, sample):
                raise ValueError(
                    f"the function must not change its input, and for {g} it did: let it return a "
                    "new tensor"
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
        They must commute, as elements of different factors do; checked on the sample.
    sample : tensor
        A typical input.
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
        self._parts = torch.stack([group.components(i) for i in range(len(actions))], 1).tolist()
        self.validate(sample)
        try:
            self.check(sample)
        except ValueError as error:
            raise ValueError(
                f"the actions of the factors do not commute on the sample, so they are no action of "
                f"the product {group!r} ({error})"
            ) from error

    def act(self, g: int, x: Tensor) -> Tensor:
        for action, part in zip(reversed(self.actions), reversed(self._parts[g]), strict=True):
            x = action.act(part, x)
        return x

    def validate(self, x: Tensor) -> None:
        for action in self.actions:
            action.validate(x)
