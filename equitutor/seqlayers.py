"""The layers of the sequence-to-sequence networks: plain, or with weights shared over a group."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .actions import Permutation, Regular
from .layers import EquivariantLinear
from .wordgroups import WordSymmetry

__all__ = ["PlainLayers", "Reused", "SharedLayers", "dense"]


class PlainLayers:
    """The layers of the plain network."""

    def words(self, count: int, size: int, side: str) -> nn.Module:
        return nn.Embedding(count, size)

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Linear(inputs, outputs)

    scores = linear


class SharedLayers:
    """Their equivariant counterparts: channels of functions on the group."""

    def __init__(self, symmetry: WordSymmetry):
        self.regular = Regular(symmetry.group)
        self.points = {
            side: Permutation(symmetry.group, getattr(symmetry, side))
            for side in ("source", "target")
        }

    def words(self, count: int, size: int, side: str) -> nn.Module:
        self._check(count, side)
        layer = EquivariantLinear(self.points[side], self.regular, 1, size, bias=False)
        nn.init.normal_(layer.weight)  # as nn.Embedding
        return layer

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        return EquivariantLinear(self.regular, self.regular, inputs, outputs)

    def scores(self, inputs: int, count: int) -> nn.Module:
        self._check(count, "target")
        return EquivariantLinear(self.regular, self.points["target"], inputs, 1)

    def _check(self, count: int, side: str) -> None:
        if self.points[side].degree != count:
            raise ValueError(
                f"the symmetry moves {self.points[side].degree} {side} words, the model has {count}"
            )


def dense(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias as plain matrices; of an embedding the (words, size) table."""
    if isinstance(layer, nn.Embedding):
        return layer.weight, None
    if isinstance(layer, nn.Linear):
        return layer.weight, layer.bias
    weight = layer.dense().flatten(2).flatten(0, 1)
    if layer.bias is None:
        return weight.T, None
    return weight, layer.bias[:, layer.bias_orbit].flatten()


class Reused:
    """A matrix that multiplies at every step of a loop: ``reused(x)`` is x @ weight + bias.

    Its gradient is a sum over steps, sum_t x_t^T dy_t. Autograd would add up one small product a
    step; this notes the factors down and takes a single product over all steps at the end, which is
    the same and a good deal faster. It does so once: make a new one for each forward pass.

    Parameters
    ----------
    weight : (..., n, m)
    bias : (..., 1, m), optional
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self.notes: list[tuple[Tensor, Tensor]] = []
        self.weight, self.bias = weight, bias
        if torch.is_grad_enabled():
            self.weight, self.bias = _Collect.apply(weight, bias, self.notes)

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x @ weight + bias + plus, (..., B, n) -> (..., B, m); ``plus`` is of the result's shape."""
        if torch.is_grad_enabled():
            return _Multiply.apply(x, self.weight, self.bias, plus, self.notes)
        return _product(x, self.weight, self.bias, plus)

    def keep(self, rows: Tensor) -> Reused:
        """The same for some rows of a batch of matrices."""
        return Reused(self.weight[rows])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    add = plus if bias is None else bias
    if add is None:
        return x @ weight
    y = (torch.addmm if x.ndim == 2 else torch.baddbmm)(add, x, weight)
    return y if bias is None or plus is None else y.add_(plus)


class _Multiply(torch.autograd.Function):
    """One product. It passes no gradient to the matrix, but notes what that is made of."""

    @staticmethod
    def forward(ctx, x, weight, bias, plus, notes):
        ctx.save_for_backward(x, weight)
        ctx.notes, ctx.plus = notes, plus is not None
        return _product(x, weight, bias, plus)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        ctx.notes.append((x, dy))
        return dy @ weight.mT, None, None, dy if ctx.plus else None, None


class _Collect(torch.autograd.Function):
    """The identity; its backward, which autograd calls after those of all products, adds up."""

    @staticmethod
    def forward(ctx, weight, bias, notes):
        ctx.notes, ctx.bias = notes, bias is not None
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), None if bias is None else bias.view_as(bias)

    @staticmethod
    def backward(ctx, *_):
        if not ctx.notes:
            return None, None, None
        x, dy = (torch.cat(parts, -2) for parts in zip(*ctx.notes, strict=True))
        ctx.notes.clear()
        return x.mT @ dy, dy.sum(-2, keepdim=True) if ctx.bias else None, None
