"""Turns and mirror images: how groups act on images and feature maps, and on vectors of the plane."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .actions import Action, Permutation
from .groups import FiniteGroup, cyclic, dihedral
from .options import Count, checked

__all__ = ["Flip", "Rotations", "rotation_matrices"]


class _PixelAction(Action):
    """Moves the last two dimensions, rows and columns of pixels."""

    dims = 2

    def on_pixels(self, height: int, width: int | None = None) -> Permutation:
        """The same action as a permutation of the height * width pixels in row-major order."""
        height = checked("height", Count, height)
        width = height if width is None else checked("width", Count, width)
        index = torch.arange(height * width, device="cpu").reshape(1, height, width)
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
