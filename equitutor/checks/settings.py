"""What cases are made of: random numbers, models without symmetry, actions of small groups."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..actions import Action, Permutation
from ..groups import FiniteGroup, cyclic, dihedral, symmetric

__all__ = ["Net", "acting", "natural_actions", "random"]


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal float64 numbers, drawn without touching the global random generator."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A small map without any symmetry, (B, n) -> (B, m)."""

    def __init__(self, n: int, m: int):
        super().__init__()
        self.a, self.b, self.c = random(n, 6, seed=1), random(6, seed=2), random(6, m, seed=3)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.a + self.b).tanh() @ self.c


def natural_actions() -> list[Permutation]:
    """C2 first, which forgives every wrong inverse; then C3; then groups that do not commute."""
    return [Permutation(group) for group in (cyclic(2), cyclic(3), symmetric(3), dihedral(4))]


def acting(perms: Tensor, kind: Callable[..., Action] = Permutation) -> Any:
    """The action of a permutation group, given by its rows ``(|G|, n)`` in any order."""
    return _acting(tuple(map(tuple, perms.tolist())), kind)


@functools.cache
def _acting(rows: tuple[tuple[int, ...], ...], kind: Callable[..., Action]) -> Action:
    table = [[rows.index(tuple(g[i] for i in h)) for h in rows] for g in rows]
    return kind(FiniteGroup(table), rows)
