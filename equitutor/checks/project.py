"""Assignment 6, the open project: checks of what must hold, whatever the task is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..actions import Action, Trivial
from ..groups import Element
from ..symmetrize import GroupAverage
from ..testing import assert_equivariant
from .verdict import ask

__all__ = ["check_examples", "check_symmetry", "check_tuned"]

ENOUGH = 50


class _NotYetError(Exception):
    """What is missing has been said."""


def _judge(check: Callable[..., None]) -> Callable[..., bool]:
    """Whether a check comes to its end."""

    @functools.wraps(check)
    def judged(*args: Any) -> bool:
        try:
            check(*args)
        except _NotYetError:
            return False
        return True

    return judged


def _require(fine: bool, complaint: str) -> None:
    if not fine:
        print(f"Not right yet: {complaint}")
        raise _NotYetError


def _ask(function: Callable, what: str, *args: Any) -> Any:
    done, answer = ask(function, what, *args)
    if not done:
        raise _NotYetError
    return answer


@_judge
def check_examples(examples: Callable[[], Tensor], label: Callable[[Tensor], Tensor]) -> None:
    """``examples()``: a batch of inputs; ``label(x)``: their right answers, one row each."""
    x = _ask(examples, "examples()")
    fine = isinstance(x, Tensor) and x.ndim > 1
    _require(fine, f"examples() should return one tensor (B, ...), got {_kind(x)}.")
    _require(len(x) >= ENOUGH, f"there are only {len(x)} examples; take {ENOUGH} or more.")
    different = len(x.flatten(1).unique(dim=0)) >= ENOUGH
    _require(different, "most examples are the same; they should differ.")
    same = torch.equal(examples(), x)
    _require(same, "examples() gives others each time: draw them with a seed of their own.")
    y = _ask(label, "label(x)", x.clone())
    fine = isinstance(y, Tensor) and y.ndim > 0 and len(y) == len(x)
    _require(fine, f"label(x) should return one row for each of {len(x)} inputs, got {_kind(y)}.")
    alone = _equal(label(x[:3].clone()), y[:3])
    _require(alone, "the label of an example depends on the rest of the batch, or on chance.")
    nothing = bool((y == y[:1]).all())
    _require(not nothing, "all labels are the same, so there is nothing to learn.")
    print(f"Right: {len(x)} examples {tuple(x.shape[1:])} with labels {tuple(y.shape[1:])}.")


@_judge
def check_symmetry(
    symmetry: Callable[[], tuple[Action, Action | None]],
    examples: Callable[[], Tensor],
    label: Callable[[Tensor], Tensor],
) -> None:
    """``symmetry()``: the actions on input and answer, tested on labels that are known.

    An invariant answer has None for its action.
    """
    found = _ask(symmetry, "symmetry()")
    pair = isinstance(found, (tuple, list)) and len(found) == 2 and isinstance(found[0], Action)
    _require(pair, f"symmetry() should return in_action, out_action; got {_kind(found)}.")
    a, b = found[0], found[1] or Trivial(found[0].group)
    one = a.group == b.group
    _require(
        one, f"the input moves under {a.group!r}, the answer under {b.group!r}: take one group."
    )
    _require(
        any(~g != g for g in a.group),
        f"in {a.group!r} every element is its own inverse, so no test can tell g from g^-1: take a "
        "group with an element that is not.",
    )
    x = _ask(examples, "examples()")
    y = _ask(label, "label(x)", x.clone())
    moved = _ask(lambda: a.views(x).split(len(x)), "moving the examples")
    there = _ask(lambda: [label(gx) for gx in moved], "label(g x)")
    expected = _ask(lambda: b.views(y).split(len(y)), "moving the labels")
    _require(not all(torch.equal(gx, x) for gx in moved), "your input action moves no example.")
    kept = all(isinstance(z, Tensor) and z.shape == y.shape for z in there)
    _require(kept, "label(g x) has another shape than label(x).")
    for g in a.group:
        if not _equal(there[g.index], expected[g.index]):
            _explain(g, b, y, there, expected)
            raise _NotYetError
    elements = f"all {len(a.group)} elements of {a.group.name}"
    print(f"Right: label(g x) = g label(x) for {elements} on {len(x)} examples.")


def _explain(
    g: Element, b: Action, y: Tensor, there: Sequence[Tensor], expected: Sequence[Tensor]
) -> None:
    """Show the first example whose label does not follow g, and say why that may be."""
    pairs = enumerate(zip(there[g.index], expected[g.index], strict=True))
    i = next(i for i, (one, other) in pairs if not _equal(one, other))
    print(f"Not right yet.\n  case:     {g} on example {i}")
    print(f"  yours:    g label(x) = {expected[g.index][i].tolist()}")
    print(f"  expected: label(g x) = {there[g.index][i].tolist()}")
    if all(_equal(z, y) for z in there):
        print("  Probably the answer does not move at all: return None for out_action.")
    elif all(_equal(there[h.index], b(~h, y)) for h in b.group):
        print("  Probably the answers move by g^-1: input and answer go round in opposite senses.")
    else:
        if all(_equal(z, y) for z in expected):
            print("  Probably the answer moves with the input and needs an out_action of its own.")
        fits = [str(h) for h in b.group if _equal(there[h.index], expected[h.index])]
        print(f"  It is right for {', '.join(fits)}: perhaps the task has that much symmetry only.")


@_judge
def check_tuned(
    tuned: Callable[[nn.Module], nn.Module],
    symmetry: Callable[[], tuple[Action, Action | None]],
    pretrained: Callable[[], nn.Module],
    examples: Callable[[], Tensor],
) -> None:
    """``tuned(model)``: the pretrained model, wrapped, with its weights and the task's symmetry."""
    action = _ask(symmetry, "symmetry()")[0]
    model = _ask(pretrained, "pretrained()")
    x = _ask(examples, "examples()")
    wrapped = _ask(tuned, "tuned(model)", model)
    _require(wrapped is not model, "you returned the pretrained model as it was; wrap it.")
    _require(
        isinstance(wrapped, GroupAverage),
        "tuned(model) should return what eq.equitune or one of its relatives makes; got "
        f"{_kind(wrapped)}.",
    )
    inside = {id(p) for p in wrapped.parameters()}
    _require(
        all(id(p) in inside for p in model.parameters()),
        "the weights are not those of the model that you were given: was it copied, or made anew?",
    )
    wanted = f"symmetry() moves the inputs by {action}"
    _require(
        wrapped.group == action.group,
        f"{wanted}, but the model is equivariant to {wrapped.group!r}: wrap it with that action.",
    )
    _require(
        all(torch.equal(wrapped.in_action(g, x), action(g, x)) for g in action.group),
        f"{wanted}, but the model was wrapped with another action, {wrapped.in_action}.",
    )
    test = functools.partial(assert_equivariant, wrapped.eval(), x[:16], tol=1e-4)
    _ask(test, "the test of equivariance")
    print(f"Right: equivariant to {wrapped.group!r}, with the weights of the pretrained model.")


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)


def _kind(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"{type(value).__name__}{shape}"
