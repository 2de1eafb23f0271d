"""Is this model equivariant, and if not, why not?

>>> equivariance_error(model, x)            # the largest relative error over all g
>>> assert_equivariant(model, x)            # raises, names the worst g, says what to look at
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .actionmap import ActionMap, Actions, named_leaves
from .actions import Action, Trivial
from .symmetrize import GroupAverage

__all__ = ["assert_equivariant", "equivariance_error", "equivariance_errors"]

#: Relative error allowed for each dtype of the output.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
    torch.complex128: 1e-12,
    torch.complex64: 1e-5,
}


def equivariance_error(
    model: Callable[..., Any],
    x: Tensor | tuple | Mapping[str, Any],
    in_action: Actions | ActionMap | None = None,
    out_action: Actions | ActionMap | None = None,
) -> float:
    """The largest relative equivariance error over the group, ``max_g |f(g x) - g f(x)| / |f(x)|``.

    Parameters
    ----------
    model : nn.Module or callable
        Run as it is: in train mode if it is in train mode. Nothing of it is changed.
    x : tensor, tuple of positional arguments, or dict of keyword arguments
        The input; random values show more than smooth ones.
    in_action, out_action : Action, or dict of them, optional
        Taken from the model if it is a :class:`GroupAverage`. A missing out_action beside a given
        in_action means an invariant output.

    Returns
    -------
    float
        Norms are largest absolute values over all entries of an output tensor; of several tensors
        the worst counts. For integer outputs, the fraction of entries that differ. inf if an output
        is not finite.
    """
    return max(equivariance_errors(model, x, in_action, out_action).values())


def equivariance_errors(
    model: Callable[..., Any],
    x: Tensor | tuple | Mapping[str, Any],
    in_action: Actions | ActionMap | None = None,
    out_action: Actions | ActionMap | None = None,
) -> dict[str, float]:
    """As :func:`equivariance_error`, for each element: {name: error}."""
    return _Probe(model, x, in_action, out_action).errors()


def assert_equivariant(
    model: Callable[..., Any],
    x: Tensor | tuple | Mapping[str, Any],
    in_action: Actions | ActionMap | None = None,
    out_action: Actions | ActionMap | None = None,
    tol: float | None = None,
) -> None:
    """Raise AssertionError if the equivariance error exceeds ``tol``.

    The message names the worst element and what to look at. The default tolerance depends on the
    output's dtype: 1e-12 for float64, 1e-5 for float32, 1e-2 for float16, 5e-2 for bfloat16; of several
    outputs the coarsest dtype counts.
    """
    probe = _Probe(model, x, in_action, out_action)
    errors = probe.errors()
    tol = probe.tolerance if tol is None else tol
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] <= tol:
        return
    hints = "\n".join(f"- {hint}" for hint in probe.hints(tol))
    raise AssertionError(
        f"not equivariant: relative error {errors[worst]:.2e} at g = {worst}, allowed {tol:.1e}.\n"
        f"What to look at:\n{hints}"
    )


class _Probe:
    """One model, one input, all g: f(x) and f(g x), computed once."""

    def __init__(
        self,
        model: Callable[..., Any],
        x: Tensor | tuple | Mapping[str, Any],
        in_action: Actions | ActionMap | None,
        out_action: Actions | ActionMap | None,
    ):
        if not isinstance(x, Tensor | tuple | Mapping):
            raise TypeError(
                f"x must be a tensor, a tuple of positional or a dict of keyword arguments; got "
                f"{type(x).__name__}"
            )
        if not isinstance(x, Tensor) and not x:
            raise ValueError("x holds no argument to run the model on")
        self.model = model
        if in_action is None:
            if not isinstance(model, GroupAverage):
                raise ValueError(
                    "in_action is missing: only models made by equitune and its relatives know their "
                    "actions. Say how the group moves the input, e.g. "
                    "in_action=Rotations(cyclic(4))."
                )
            in_action = model.in_actions
            out_action = model.result_actions if out_action is None else out_action
        self.ins = in_action if isinstance(in_action, ActionMap) else ActionMap(in_action)
        self.group = self.ins.group
        if out_action is None:
            out_action = Trivial(self.group)
        self.outs = out_action if isinstance(out_action, ActionMap) else ActionMap(out_action)
        if self.outs.group != self.group:
            raise ValueError(
                f"in_action is of {self.group!r} but out_action of {self.outs.group!r}: both must "
                "be actions of one group"
            )
        self.x = x
        self.plain = self.run(x)
        self.outs.require(path for path, _ in self.plain)
        for path, y in self.plain:
            self.outs.get(path).validate(y)
        self.tolerance = max(TOLERANCE.get(y.dtype, 0.0) for _, y in self.plain)
        self.moved = [self.run(self.ins.move(g, x)) for g in range(len(self.group))]

    @torch.no_grad()
    def run(self, x: Any) -> list[tuple[tuple, Tensor]]:
        """The tensors of the output, with their paths; buffers (BatchNorm's) are put back after."""
        buffers = list(self.model.buffers()) if isinstance(self.model, nn.Module) else []
        before = [b.clone() for b in buffers]
        try:
            if isinstance(x, Mapping):
                y = self.model(**x)
            else:
                y = self.model(*x) if isinstance(x, tuple) else self.model(x)
        finally:
            for b, old in zip(buffers, before, strict=True):
                b.copy_(old)
        tensors = [(path, t) for path, t in named_leaves(y) if isinstance(t, Tensor)]
        if not tensors:
            raise ValueError(f"the model returned no tensor to compare but a {type(y).__name__}")
        return tensors

    def errors(self, predict: Callable[[Action, int, Tensor], Tensor] | None = None) -> dict:
        """{name of g: error}, if f(g x) is to be ``predict(action, g, f(x))``; g f(x) by default."""
        predict = predict or (lambda action, g, y: action.act(g, y))
        found = {}
        for g, name in enumerate(self.group.names):
            expected = [(path, predict(self.outs.get(path), g, y)) for path, y in self.plain]
            found[name] = _worst(self.moved[g], expected)
        return found

    def reshaped(self) -> bool:
        """Whether some g changes the shape of the input, which no action may do."""
        moved = (self.ins.move(g, self.x) for g in range(len(self.group)))
        return any(_shapes(gx) != _shapes(self.x) for gx in moved)

    def hints(self, tol: float) -> list[str]:
        """What is most probably wrong, by trying it."""
        hints = []
        outputs = [y for run in (self.plain, *self.moved) for _, y in run]
        if not all(bool(y.isfinite().all()) for y in outputs):
            hints.append("the output holds NaN or infinite values.")
        elif _worst(self.run(self.x), self.plain) > tol:
            hints.append("two runs on the same input differ: is dropout on? Call model.eval().")
        if max(self.errors(lambda a, g, y: a.undo(g, y)).values()) <= tol:
            hints.append(
                "the output moves by g^-1 where it should move by g: the wrong inverse. Move the "
                "output of M(g x) back with g^-1, and let both actions go the same way round."
            )
        elif max(self.errors(lambda a, g, y: y).values()) <= tol:
            hints.append(
                "the output does not move at all: it is invariant, so leave out_action out."
            )
        if self.reshaped():
            hints.append(
                "the action changes the shape of the input: is it square, as turns by 90 degrees need?"
            )
        if not hints:
            hints = [
                "the inverse: is it g^-1 M(g x), with g^-1 taken from the group's table?",
                "the actions: are in_action and out_action the ones the model was made with?",
                "the averaging: are all |G| views in it, each once, divided by |G|?",
            ]
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        # Last and beside the others: it spoils a comparison, but is seldom the only reason.
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in modules):
            hints.append(
                "BatchNorm is in train mode, so each output depends on the whole batch: call "
                "model.eval()."
            )
        return hints


def _shapes(x: Any) -> list[torch.Size]:
    return [t.shape for t in tree_leaves(x) if isinstance(t, Tensor)]


def _worst(found: list[tuple[tuple, Tensor]], expected: list[tuple[tuple, Tensor]]) -> float:
    """The largest relative error of the tensors of two outputs."""
    return max(relative_error(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def relative_error(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|; 0 for equal tensors, inf where shapes differ or values are not finite.

    For integers the fraction of entries that differ.
    """
    if a.shape != b.shape or not bool(a.isfinite().all() & b.isfinite().all()):
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return float((a != b).double().mean())
    difference, scale = (a - b).abs().max().item(), b.abs().max().item()
    return difference / max(scale, torch.finfo(b.dtype).tiny)
