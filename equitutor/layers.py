"""Equivariant linear layers by parameter sharing, and heads for equi-tuned features.

A linear map W between two permutation representations is equivariant exactly when its entries are
constant on the orbits of index pairs, W[g i, g j] = W[i, j] (Ravanbakhsh, Schneider and Poczos,
2017). So the layer has one free weight per orbit, found from the actions themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .actionmap import check_same_group
from .actions import Permutation, Regular
from .groups import FiniteGroup
from .options import Count, checked
from .pages import Module
from .rotations import Flip, Rotations

__all__ = ["EquivariantLinear", "InvariantHead", "RegularHead", "orbits"]


def orbits(images: Tensor) -> Tensor:
    """The number of each point's orbit, from 0: ``(|G|, n)`` images of n points to ``(n,)``.

    The orbit of i is {images[g, i]}; orbits are numbered in the order of their smallest points.
    """
    return images.amin(0).unique(return_inverse=True)[1]


class EquivariantLinear(Module):
    """The most general equivariant linear map between two permutation representations.

    Maps (..., in_channels, n) to (..., out_channels, m): channels mix freely, and the group moves the
    last dimension. Weights are shared over the orbits of index pairs, the bias over the orbits of
    output indices.

    Parameters
    ----------
    in_action, out_action : Permutation
        Of the same group, on n and m points: e.g. ``Regular(group)``,
        ``Rotations(c4).on_pixels(7)``, or ``Permutation(group, zeros)`` of one point for an
        invariant output.
    in_channels, out_channels : int
    bias : bool

    Raises
    ------
    ValueError
        If the actions are of different groups, or the input is not (..., in_channels, n).
    """

    def __init__(
        self,
        in_action: Permutation,
        out_action: Permutation,
        in_channels: int = 1,
        out_channels: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        for action in (in_action, out_action):
            if not isinstance(action, Permutation):
                raise TypeError(
                    f"parameter sharing needs permutation representations, got "
                    f"{type(action).__name__}; for images use Rotations(...).on_pixels(size)"
                )
        check_same_group(in_action, out_action)
        p, q = in_action.perms, out_action.perms
        n, m = p.shape[1], q.shape[1]
        pairs = (q[:, :, None] * n + p[:, None, :]).flatten(1)  # where g sends the pair (i, j)
        self.register_buffer("weight_orbit", orbits(pairs).reshape(m, n), persistent=False)
        self.register_buffer("bias_orbit", orbits(q), persistent=False)
        self.in_channels = checked("in_channels", Count, in_channels)
        self.out_channels = checked("out_channels", Count, out_channels)

        bound = 1 / math.sqrt(self.in_channels * n)  # as nn.Linear of the same fan-in

        def free(orbit: Tensor, *channels: int) -> nn.Parameter:
            values = torch.empty(*channels, int(orbit.max()) + 1)
            return nn.Parameter(nn.init.uniform_(values, -bound, bound))

        self.weight = free(self.weight_orbit, self.out_channels, self.in_channels)
        self.bias = free(self.bias_orbit, self.out_channels) if bias else None

    def dense(self) -> Tensor:
        """The full weight, (out_channels, m, in_channels, n), with all shared entries."""
        return self.weight[:, :, self.weight_orbit].transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        n = self.weight_orbit.shape[1]
        if x.shape[-2:] != (self.in_channels, n) or not x.is_floating_point():
            raise ValueError(
                f"expected floats of shape (..., {self.in_channels}, {n}): channels, then the {n} "
                f"points that the group permutes; got {tuple(x.shape)}, {x.dtype}"
            )
        weight = self.dense()
        y = x.flatten(-2) @ weight.flatten(2).flatten(0, 1).T
        y = y.unflatten(-1, weight.shape[:2])
        return y if self.bias is None else y + self.bias[:, self.bias_orbit]

    def extra_repr(self) -> str:
        m, n = self.weight_orbit.shape
        return (
            f"({self.in_channels}, {n}) -> ({self.out_channels}, {m}), free weights: "
            f"{self.weight.shape[-1]} of {m * n} per channel pair"
        )


class InvariantHead(Module):
    """From an equivariant feature map to invariant class scores (AAAI paper, Fig. 1b and Sec. 5.1).

    (B, channels, d, d) -> (B, classes): the d * d pixels of each channel to one number, with
    weights shared over the orbits of pixels under the group, then channels to classes. The pixel
    weights start as average pooling, as in ResNet and DenseNet.

    Parameters
    ----------
    action : Rotations or Flip
        How the group moves the feature map. ``Rotations(cyclic(1))`` shares nothing: the plain
        fine-tuning head of Fig. 1a.
    channels, size, classes : int
        The feature map is (channels, size, size).
    """

    def __init__(self, action: Rotations | Flip, channels: int, size: int, classes: int):
        super().__init__()
        if not isinstance(action, Rotations | Flip):
            raise TypeError(
                f"the action must move images, Rotations(...) or Flip(...); got {type(action).__name__}"
            )
        self.size = checked("size", Count, size)
        point = Permutation(action.group, [[0]] * len(action.group))  # the invariant output
        self.pool = EquivariantLinear(action.on_pixels(self.size), point, bias=False)
        nn.init.constant_(self.pool.weight, 1 / self.size**2)
        self.classify = nn.Linear(
            checked("channels", Count, channels), checked("classes", Count, classes)
        )

    def forward(self, features: Tensor) -> Tensor:
        shape = (self.classify.in_features, self.size, self.size)
        if features.shape[1:] != shape:
            raise ValueError(
                f"this head takes feature maps (B, {', '.join(map(str, shape))}), got "
                f"{tuple(features.shape)}"
            )
        pooled = self.pool(features.flatten(2).unsqueeze(2))  # (B, C, 1, d*d) -> (B, C, 1, 1)
        return self.classify(pooled.flatten(1))


class RegularHead(Module):
    """From regular features to invariant class scores: a group convolution, then the mean over G.

    ``(B, |G|, channels, ...) -> (B, classes)``. Trailing dimensions (pixels) are averaged first.
    Unlike a mean of the features, the group convolution sees how they differ between views.

    Parameters
    ----------
    group : FiniteGroup
    channels, hidden, classes : int
    """

    def __init__(self, group: FiniteGroup, channels: int, classes: int, hidden: int = 64):
        super().__init__()
        hidden = checked("hidden", Count, hidden)
        self.convolve = EquivariantLinear(Regular(group), Regular(group), channels, hidden)
        self.classify = nn.Linear(hidden, checked("classes", Count, classes))

    def forward(self, features: Tensor) -> Tensor:
        shape = (self.convolve.weight_orbit.shape[1], self.convolve.in_channels)
        if features.ndim < 3 or features.shape[1:3] != shape:
            raise ValueError(
                f"this head takes regular features (B, {shape[0]}, {shape[1]}, ...): the group, then "
                f"the channels; got {tuple(features.shape)}"
            )
        x = features.flatten(3).mean(3) if features.ndim > 3 else features  # (B, |G|, C)
        x = self.convolve(x.transpose(1, 2)).relu()  # (B, hidden, |G|)
        return self.classify(x.mean(2))
