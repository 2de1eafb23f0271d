"""The actions that models need: on images, classes, tokens, vectors, and by your own function.

Permutations are index vectors, never dense matrices, so acting on a vocabulary of V words takes
``O(|G| V)`` integers of memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .action import Action
from .groups import Element, FiniteGroup, cyclic, dihedral, direct_product
from .permutations import Generators, Rows, complete

__all__ = [
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


class Trivial(Action):
    """g x = x for every g: the action on an invariant output."""

    def act(self, g: int, x: Tensor) -> Tensor:
        return x


# -- images and feature maps ------------------------------------------------------------------


class _PixelAction(Action):
    """Moves the last two dimensions, rows and columns of pixels."""

    dims = 2

    def on_pixels(self, height: int, width: int | None = None) -> Permutation:
        """The same action as a permutation of the height * width pixels in row-major order."""
        index = torch.arange(height * (width or height), device="cpu").reshape(1, height, -1)
        source = self.views(index).flatten(1)  # (|G|, pixels): where the value at each comes from
        return Permutation(self.group, source.argsort(1))  # and where the value of each goes


class Rotations(_PixelAction):
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

    def __init__(self, group: FiniteGroup):
        super().__init__(group)
        if group not in (cyclic(1), cyclic(2), cyclic(4), dihedral(4)):
            raise ValueError(
                f"Rotations turns the pixel grid by 90 degrees, which needs cyclic(4) or dihedral(4) "
                f"(or cyclic(2), the half turn, or cyclic(1)); got {group!r}. For the mirror image "
                "alone use Flip."
            )
        self.turns = min(len(group), 4)

    def act(self, g: int, x: Tensor) -> Tensor:
        mirrored, step = divmod(g, self.turns)
        quarter_turns = step * 4 // self.turns
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


class Flip(_PixelAction):
    """Mirror images: C2 acting on the last two dimensions.

    Parameters
    ----------
    axis : "horizontal" or "vertical"
        "horizontal" mirrors left-right (reverses the last dimension), "vertical" up-down (the one
        before). Never both: that is the half turn, ``Rotations(cyclic(2))``.
    """

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

    Raises
    ------
    ValueError
        If a row is not a permutation, if the rows are not a homomorphism (the elements are named),
        or, when acting, if dimension ``dim`` is not of size n.
    """

    def __init__(self, group: FiniteGroup, perms: Rows | Generators | None = None, dim: int = -1):
        super().__init__(group, perms)
        self.dim = dim

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
        return self.perms[g].to(x.device)[x.long()].to(x.dtype)

    def validate(self, x: Tensor) -> None:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise ValueError(f"TokenPermutation acts on integer ids, got dtype {x.dtype}")
        # Reading values synchronises the device and breaks a compiled graph: eager CPU only.
        if x.numel() and x.device.type == "cpu" and not torch.compiler.is_compiling():
            outside = [i for i in (int(x.min()), int(x.max())) if not 0 <= i < self.degree]
            if outside:
                raise ValueError(
                    f"token id {outside[0]} is outside the vocabulary of {self.degree} tokens that this "
                    "action permutes"
                )


# -- linear representations and everything else -----------------------------------------------


class MatrixAction(Action):
    """A matrix representation acting along one dimension: x -> rho(g) x.

    Parameters
    ----------
    matrices : ``(|G|, n, n)`` floats
        rho(g) for each element, with rho(g h) = rho(g) rho(h). Give float64 for float64 work.
    dim : int
        The dimension of size n that rho acts along.
    """

    def __init__(self, group: FiniteGroup, matrices: Tensor | Sequence, dim: int = -1):
        super().__init__(group)
        rho = torch.as_tensor(matrices)
        if rho.ndim != 3 or len(rho) != len(group) or rho.shape[1] != rho.shape[2]:
            raise ValueError(
                f"{group!r} needs one square matrix per element, shape ({len(group)}, n, n), got "
                f"{tuple(rho.shape)}"
            )
        if rho.is_complex():
            raise ValueError(
                f"the matrices must be real, got dtype {rho.dtype}: write each complex number a + bi "
                "as the 2 x 2 block [[a, -b], [b, a]]"
            )
        if not rho.is_floating_point():
            rho = rho.to(torch.get_default_dtype())
        # Not a buffer: model.half() must not round it. It is converted when used.
        self._representation = rho.detach().clone()
        self.dim = -1  # on the rows of the identity matrix, the check sees all of rho
        basis = torch.eye(rho.shape[-1], dtype=rho.dtype, device=rho.device)
        self.check(basis, rtol=1e-10 if rho.dtype == torch.float64 else 1e-5)
        self.dim = dim

    def act(self, g: int, x: Tensor) -> Tensor:
        rho = self._representation[g].to(x.device, x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # it would round x to half precision
            return (x.movedim(self.dim, -1) @ rho.T).movedim(-1, self.dim)

    def validate(self, x: Tensor) -> None:
        n = self._representation.shape[-1]
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != n or not x.is_floating_point():
            raise ValueError(
                f"this representation acts on {n} real numbers along dimension {self.dim}, but the "
                f"tensor has shape {tuple(x.shape)} and dtype {x.dtype}"
            )


def rotation_matrices(group: FiniteGroup) -> Tensor:
    """How cyclic(n) or dihedral(n), n >= 3, moves the plane: ``(|G|, 2, 2)``, float64."""
    n = len(group)
    if n < 3 or group not in (cyclic(n), dihedral(n // 2)):
        raise ValueError(f"rotation_matrices needs cyclic(n) or dihedral(n), n >= 3; got {group!r}")
    turns = n if group == cyclic(n) else n // 2  # rotations in the group
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
