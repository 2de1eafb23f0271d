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

__all__ = [
    "EquivariantLinear",
    "GroupConv2d",
    "InvariantHead",
    "OrientationNet",
    "RegularHead",
    "orbits",
]


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
    channels, size : int
        The feature map is (channels, size, size).
    classes : int
        Scores to give.
    """

    def __init__(self, action: Rotations | Flip, channels: int, size: int, classes: int):
        super().__init__()
        _check_moves_images(action)
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


class GroupConv2d(Module):
    """A group convolution of images or of regular feature maps (Cohen and Welling, 2016).

    From images (B, in_channels, H, W), or from feature maps ``(B, in_channels, |G|, H, W)``, to feature maps
    ``(B, out_channels, |G|, H, W)``. When the input moves by g, g moves the pixels of the maps and their axis of
    the group by left multiplication.

    Parameters
    ----------
    action : Rotations or Flip
        How the group moves the pixels.
    in_channels, out_channels : int
    size : int, odd
        Of the filters; zeros are padded so that H and W stay.
    lifting : bool
        Whether the input is images, without an axis of the group.
    """

    def __init__(
        self,
        action: Rotations | Flip,
        in_channels: int,
        out_channels: int,
        size: int = 3,
        lifting: bool = False,
    ):
        super().__init__()
        _check_moves_images(action)
        size = checked("size", Count, size)
        if size % 2 == 0:
            raise ValueError(f"size must be odd, so that a filter has a middle pixel; got {size}")
        self.action, self.lifting = action, lifting
        self.in_channels = checked("in_channels", Count, in_channels)
        axis = [] if lifting else [len(action.group)]
        shape = [checked("out_channels", Count, out_channels), self.in_channels, *axis, size, size]
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # as nn.Conv2d of the same fan-in
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))
        self.bias = nn.Parameter(nn.init.uniform_(torch.empty(shape[0]), -bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        group, w = self.action.group, self.weight
        expected = w.shape[1:-2]  # (in_channels,) or (in_channels, |G|)
        if x.ndim != len(expected) + 3 or x.shape[1:-2] != expected:
            axes = ", ".join(map(str, expected))
            raise ValueError(
                f"expected {'images' if self.lifting else 'regular feature maps'} (B, {axes}, H, W), got shape "
                f"{tuple(x.shape)}"
            )
        # The filter of element g: moved by g, and its entry for h read at g^-1 h.
        sources = group.table[group.inverses].to(w.device)
        filters = torch.stack(
            [
                self.action.act(g, w if self.lifting else w.index_select(2, sources[g]))
                for g in range(len(group))
            ],
            1,
        )  # (out, |G|, in[, |G|], k, k)
        merged = filters.flatten(0, 1).flatten(1, -3)
        y = nn.functional.conv2d(x.flatten(1, -3), merged, padding=w.shape[-1] // 2)
        return y.unflatten(1, filters.shape[:2]) + self.bias[:, None, None, None]


class OrientationNet(Module):
    """A small group-equivariant network that says how an image is turned: a chooser for :func:`equitutor.canonicalize`.

    (B, channels, H, W) to ``(B, |G|)`` scores, which move with the image as :class:`equitutor.Regular`: three
    group convolutions on the image at 32, 16 and 8 pixels or what it has, then the mean over the pixels.

    Parameters
    ----------
    action : Rotations or Flip
        How the group moves the images.
    channels : int
        Of the images.
    hidden : int
        Channels of the layers between.
    """

    equivariant = True

    def __init__(self, action: Rotations | Flip, channels: int = 3, hidden: int = 8):
        super().__init__()
        self.group = action.group
        self.convs = nn.ModuleList(
            [
                GroupConv2d(action, channels, hidden, 5, lifting=True),
                GroupConv2d(action, hidden, hidden),
                GroupConv2d(action, hidden, 1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ValueError(f"expected images (B, channels, H, W), got shape {tuple(x.shape)}")
        for layer, (most, conv) in enumerate(zip((32, 16, 8), self.convs, strict=True)):
            if max(x.shape[-2:]) > most:  # the pooling is slow even where it changes nothing
                size = [min(most, side) for side in x.shape[-2:]]
                flat = nn.functional.adaptive_avg_pool2d(x.flatten(1, -3), size)
                x = flat.unflatten(1, x.shape[1:-2])
            x = conv(x)
            x = x.relu() if layer < 2 else x  # not "conv is ...": torch.export replaces the modules
        return x.mean((-2, -1))[:, 0]


def _check_moves_images(action: object) -> None:
    if not isinstance(action, Rotations | Flip):
        raise TypeError(
            f"the action must move images, Rotations(...) or Flip(...); got {type(action).__name__}"
        )
