"""The layers of the sequence-to-sequence networks, plain or shared over a group; their attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .actions import Permutation, Regular
from .layers import EquivariantLinear
from .wordgroups import WordSymmetry

__all__ = ["Attend", "PlainLayers", "SharedLayers", "dense"]


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


class Attend(torch.autograd.Function):
    """One step's attention, ``word + sum_t a_t value_t`` with ``a = softmax(key_t . hidden)``.

    The gradients of keys and values are sums over the steps of outer products, each as large as the
    keys. Here every step writes its factors on the run's tape, and the first step, which comes last
    on the way back, multiplies them all at once, in one product that is worth its memory. (Every
    step's state follows from the one before, so the way back does pass the first step at the end.)
    """

    @staticmethod
    def forward(ctx, word, hidden, keys, values, mask, tape):  # type: ignore[no-untyped-def]
        match = torch.baddbmm(mask, hidden.unsqueeze(1), keys.transpose(1, 2))
        attention = match.softmax(-1)
        ctx.first, ctx.tape = not tape, tape
        tape.append(())
        ctx.save_for_backward(hidden, keys, values, attention)
        ctx.mark_non_differentiable(attention)
        return torch.baddbmm(word.unsqueeze(1), attention, values).squeeze(1), attention

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):  # type: ignore[no-untyped-def]
        hidden, keys, values, attention = ctx.saved_tensors
        grad_row = grad.unsqueeze(1)
        slope = grad_row @ values.transpose(1, 2)
        match = attention * (slope - (slope * attention).sum(-1, keepdim=True))
        ctx.tape.append((match, hidden.unsqueeze(1), attention, grad_row))
        grad_keys = grad_values = None
        if ctx.first:
            matches, hiddens, looks, grads = (
                torch.cat(parts, 1) for parts in zip(*filter(None, ctx.tape), strict=True)
            )
            grad_keys = matches.transpose(1, 2) @ hiddens
            grad_values = looks.transpose(1, 2) @ grads
            ctx.tape[:] = [()]
        return grad, (match @ keys).squeeze(1), grad_keys, grad_values, None, None
