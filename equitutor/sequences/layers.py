"""The layers of the sequence-to-sequence networks, plain or shared over a group, and their steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..actions import Permutation, Regular
from ..layers import EquivariantLinear
from .wordgroups import WordSymmetry

tanh_backward, sigmoid_backward = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward

__all__ = ["Attend", "LSTMStep", "PlainLayers", "SharedLayers", "dense"]


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
    """Weight and bias as plain matrices; for an embedding the (words, size) table."""
    if isinstance(layer, nn.Embedding):
        return layer.weight, None
    if isinstance(layer, nn.Linear):
        return layer.weight, layer.bias
    weight = layer.dense().flatten(2).flatten(0, 1)  # (out channels x points, in channels x points)
    if layer.bias is None:
        return weight.T, None
    return weight, layer.bias[:, layer.bias_orbit].flatten()


class Attend(torch.autograd.Function):
    """One step's attention, ``word + sum_t a_t value_t`` with ``a = softmax(key_t . hidden)``.

    The gradients of keys and values are sums over the steps of outer products, each as large as the
    keys. Every step instead writes its factors on the run's tape, and the first step, which comes last
    in the backward pass, multiplies them all at once, in a single product. (Every step's state follows
    from the one before, so the backward pass does end at the first step.)

    ``word`` and ``hidden`` are (B, H), ``keys`` and ``values`` (B, T, H), ``mask`` is (B, 1, T); returned
    are the (B, H) sum and the (B, 1, T) attention.
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


class LSTMStep(torch.autograd.Function):
    """One step of an LSTM: from the input's part of the gates, h, W and c to the next h and c.

    By the usual equations, with the gates in torch's order (in, forget, new, out). On a CPU they cost
    as much as the matrix products, so they and their gradients are computed in place: ``gates`` is
    overwritten.

    ``gates`` is (..., B, 4 H), ``hidden`` and ``memory`` are (..., B, H), ``weight`` is (..., H, 4 H).
    """

    @staticmethod
    def forward(ctx, gates, hidden, weight, memory):  # type: ignore[no-untyped-def]
        (gates.addmm_ if hidden.ndim == 2 else gates.baddbmm_)(hidden, weight)
        size = hidden.shape[-1]
        new = gates[..., 2 * size : 3 * size].mul_(2)
        gates.sigmoid_()
        new.mul_(2).sub_(1)  # tanh(x) = 2 sigmoid(2x) - 1: torch's sigmoid is three times as fast
        let_in, forget, new, out = gates.chunk(4, -1)
        following = (forget * memory).addcmul_(let_in, new)
        shown = (following * 2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(gates, hidden, weight, memory, shown)
        return out * shown, following

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hidden, grad_memory):  # type: ignore[no-untyped-def]
        gates, hidden, weight, memory, shown = ctx.saved_tensors
        let_in, forget, new, out = gates.chunk(4, -1)
        grad_memory = grad_memory + tanh_backward(grad_hidden * out, shown)
        grad = torch.empty_like(gates)
        grad_in, grad_forget, grad_new, grad_out = grad.chunk(4, -1)
        torch.mul(grad_memory, new, out=grad_in)
        torch.mul(grad_memory, memory, out=grad_forget)
        torch.mul(grad_hidden, shown, out=grad_out)
        tanh_backward(grad_memory * let_in, new, grad_input=grad_new)
        sigmoids = ((grad_in, let_in), (grad_forget, forget), (grad_out, out))
        for part, gate in sigmoids:
            sigmoid_backward(part, gate, grad_input=part)
        return (
            grad,
            grad @ weight.transpose(-1, -2),
            hidden.transpose(-1, -2) @ grad,
            grad_memory * forget,
        )
