"""Is this model equivariant, and if not, why not?

>>> equivariance_error(model, x)            # the largest relative error over all g
>>> assert_equivariant(model, x)            # raises, names the worst g, says what to look at
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .actionmap import ActionMap, Actions, action_maps, named_leaves
from .actions import Action
from .symmetrize import GroupAverage

__all__ = ["assert_equivariant", "equivariance_error", "equivariance_errors"]

#: What a model is run on: a tensor, positional arguments or keyword arguments.
Inputs: TypeAlias = Tensor | tuple | Mapping[str, Any]
MaybeActions: TypeAlias = Actions | ActionMap | None

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
    model: Callable, x: Inputs, in_action: MaybeActions = None, out_action: MaybeActions = None
) -> float:
    """The largest relative equivariance error over the group, ``max_g |f(g x) - g f(x)| / |f(x)|``.

    Parameters
    ----------
    model : nn.Module or callable
        Run as it is: in train mode if it is in train mode. It is left unchanged.
    x : tensor, tuple of positional arguments, or dict of keyword arguments
        The input. Use random values: smooth ones hide mistakes.
    in_action, out_action : Action, or dict of them, optional
        Taken from the model if it is a :class:`GroupAverage`. If only in_action is given, the output
        should be invariant.

    Returns
    -------
    float
        Norms are the largest absolute values over all entries of an output tensor; of several
        tensors the worst counts. For integer outputs, the fraction of entries that differ. inf if an
        output is not finite.
    """
    return max(equivariance_errors(model, x, in_action, out_action).values())


def equivariance_errors(
    model: Callable, x: Inputs, in_action: MaybeActions = None, out_action: MaybeActions = None
) -> dict[str, float]:
    """:func:`equivariance_error` for each element separately: {name: error}."""
    return _Comparison(model, x, in_action, out_action).errors()


def assert_equivariant(
    model: Callable,
    x: Inputs,
    in_action: MaybeActions = None,
    out_action: MaybeActions = None,
    tol: float | None = None,
) -> None:
    """Raise AssertionError if the equivariance error exceeds ``tol``.

    The message names the worst element and what to look at. The default tolerance depends on the
    output's dtype: 1e-12 for float64, 1e-5 for float32, 1e-2 for float16, 5e-2 for bfloat16; of several
    outputs the coarsest dtype counts.
    """
    comparison = _Comparison(model, x, in_action, out_action)
    errors = comparison.errors()
    tol = comparison.tolerance if tol is None else tol
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] <= tol:
        return
    hints = "\n".join(f"- {hint}" for hint in comparison.hints(tol))
    raise AssertionError(
        f"not equivariant: relative error {errors[worst]:.2e} at g = {worst}, allowed {tol:.1e}.\n"
        f"What to look at:\n{hints}"
    )


class _Comparison:
    """f(x) and f(g x) for one model, one input and all g, each computed once."""

    def __init__(
        self, model: Callable, x: Inputs, in_action: MaybeActions, out_action: MaybeActions
    ):
        if not isinstance(x, Tensor | tuple | Mapping):
            raise TypeError(
                f"x must be a tensor, a tuple of positional or a dict of keyword arguments; got "
                f"{type(x).__name__}"
            )
        if not isinstance(x, Tensor) and not x:
            raise ValueError("x holds no argument to run the model on")
        if in_action is None:
            if not isinstance(model, GroupAverage):
                raise ValueError(
                    "in_action is missing: only models made by equitune and its relatives know their "
                    "actions. Say how the group moves the input, e.g. "
                    "in_action=Rotations(cyclic(4))."
                )
            in_action = model.in_actions
            out_action = model.result_actions if out_action is None else out_action
        self.model, self.x = model, x
        self.ins, outs = action_maps(in_action, out_action)
        self.group = self.ins.group
        leaves = self.run(x)
        outs.require(path for path, _ in leaves)
        self.actions = [outs.get(path) for path, _ in leaves]
        self.plain = [y for _, y in leaves]
        for action, y in zip(self.actions, self.plain, strict=True):
            action.validate(y)
        self.tolerance = max(TOLERANCE.get(y.dtype, 0.0) for y in self.plain)
        moved = [self.run(self.ins.move(g, x)) for g in range(len(self.group))]
        self.moved = [[y for _, y in leaves] for leaves in moved]

    @torch.no_grad()
    def run(self, x: Any) -> list[tuple[tuple, Tensor]]:
        """The tensors of the output with their paths; buffers (BatchNorm's) are restored after."""
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
            raise ValueError(f"the model must return a tensor to compare, got a {type(y).__name__}")
        return tensors

    def errors(
        self, expected: Callable[[Action, int, Tensor], Tensor] = lambda a, g, y: a.act(g, y)
    ) -> dict[str, float]:
        """{name of g: error} where f(g x) should be ``expected(action, g, f(x))``, here g f(x)."""
        return {
            name: _worst(self.moved[g], map(expected, self.actions, repeat(g), self.plain))
            for g, name in enumerate(self.group.names)
        }

    def hints(self, tol: float) -> list[str]:
        """The most likely mistakes, found by trying them."""
        hints = []
        if not all(bool(y.isfinite().all()) for ys in (self.plain, *self.moved) for y in ys):
            hints.append("the output holds NaN or infinite values.")
        elif _worst([y for _, y in self.run(self.x)], self.plain) > tol:
            hints.append("two runs on the same input differ: is dropout on? Call model.eval().")
        if max(self.errors(lambda a, g, y: a.undo(g, y)).values()) <= tol:
            hints.append(
                "the output moves by g^-1 where it should move by g: the wrong inverse. Move the "
                "output of M(g x) back with g^-1, and let both actions move in the same direction."
            )
        elif max(self.errors(lambda a, g, y: y).values()) <= tol:
            hints.append("the output does not move at all: it is invariant, so omit out_action.")
        moved_inputs = (self.ins.move(g, self.x) for g in range(len(self.group)))
        if any(_shapes(gx) != _shapes(self.x) for gx in moved_inputs):
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
        # Last, and in addition to the others: it spoils a comparison, but is rarely the only reason.
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in modules):
            hints.append(
                "BatchNorm is in train mode, so each output depends on the whole batch: call "
                "model.eval()."
            )
        return hints


def _shapes(x: Any) -> list[torch.Size]:
    return [t.shape for t in tree_leaves(x) if isinstance(t, Tensor)]


def _worst(outputs: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest relative error of several output tensors."""
    return max(relative_error(a, b) for a, b in zip(outputs, expected, strict=True))


def relative_error(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|; for integers, the fraction of entries that differ.

    0 for equal tensors, inf if shapes differ or a value is not finite.
    """
    if a.shape != b.shape or not bool(a.isfinite().all() & b.isfinite().all()):
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return float((a != b).double().mean())
    difference, scale = (a - b).abs().max().item(), b.abs().max().item()
    return difference / max(scale, torch.finfo(b.dtype).tiny)
