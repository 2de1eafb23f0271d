"""The layers of the sequence-to-sequence networks: plain, or with weights shared over a group."""

from __future__ import annotations

from torch import Tensor, nn

from .actions import Permutation, Regular
from .layers import EquivariantLinear
from .wordgroups import WordSymmetry

__all__ = ["PlainLayers", "SharedLayers", "dense"]


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
