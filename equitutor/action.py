"""What a group action is.

An action gives every group element g a map x -> g x with e x = x and (g h) x = g (h x). The group
average needs to know nothing else about the data: it moves the input by g, and moves the output back
by g^-1, where g^-1 comes from the group's table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .groups import Element, FiniteGroup

__all__ = ["Action"]


class Action(nn.Module):
    """A group acting on tensors: ``action(g, x)`` is g x, of the shape of x.

    A subclass implements :meth:`act`. The same g moves every item of a batch. Actions are modules
    without parameters: they follow ``.to(device)`` and leave no trace in a state_dict.

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
        """g x for the element with index g."""
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
        """Check both laws of an action on a sample.

        It suffices to check (s h) x = s (h x) for all generators s and all h: the law then holds
        for all products.

        Raises
        ------
        ValueError
            If a law fails. The message names the elements that break it.
        """
        self.validate(sample)
        group = self.group
        moved = [self.act(h, sample) for h in range(len(group))]
        if not _close(moved[group.identity.index], sample, rtol):
            raise ValueError(
                f"this is not an action of {group!r}: the identity {group.identity} moves the "
                "sample, but e x must be x."
            )
        for s in group.generators:
            for h in group:
                if not _close(moved[(s @ h).index], self.act(s.index, moved[h.index]), rtol):
                    raise ValueError(
                        f"this is not an action of {group!r}: ({s} {h}) x differs from {s} ({h} x) "
                        f"on the sample, though {s} {h} = {s @ h}. An action must be a homomorphism; "
                        "acting in the reverse order is the usual cause: try the inverse element."
                    )

    def extra_repr(self) -> str:
        return repr(self.group)


def _close(a: Tensor, b: Tensor, rtol: float) -> bool:
    """Equal up to rtol times the largest entry of b; exactly equal if integers."""
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0.0, atol=rtol * scale))
