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
from .answers import same
from .verdict import NOT_DONE, crash

__all__ = ["check_examples", "check_symmetry", "check_tuned"]

ENOUGH = 50


class _NotYetError(Exception):
    """The project is not right yet, and the reason has been printed."""


def _judge(check: Callable[..., None]) -> Callable[..., bool]:
    """Whether a check runs to its end."""

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
    try:
        return function(*args)
    except NotImplementedError:
        print(NOT_DONE)
    except Exception as error:  # whatever a student's code raises is part of the verdict
        print(f"Not right yet: {crash(function, error, f'in {what}')}")
    raise _NotYetError


def _kind(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"{type(value).__name__}{shape}"


@_judge
def check_examples(examples: Callable[[], Tensor], label: Callable[[Tensor], Tensor]) -> None:
    """``examples()``: a batch of inputs; ``label(x)``: their right answers, one row each."""
    x = _ask(examples, "examples()")
    fine = isinstance(x, Tensor) and x.ndim > 1
    _require(fine, f"examples() should return one tensor (B, ...), got {_kind(x)}.")
    _require(len(x) >= ENOUGH, f"there are only {len(x)} examples; take {ENOUGH} or more.")
    fine = len(x.flatten(1).unique(dim=0)) >= ENOUGH
    _require(fine, "most examples are the same; they should differ.")
    fine = torch.equal(examples(), x)
    _require(fine, "examples() returns others each time: draw them with a seed of their own.")
    y = _ask(label, "label(x)", x.clone())
    fine = isinstance(y, Tensor) and y.ndim > 0 and len(y) == len(x)
    _require(fine, f"label(x) should return one row for each of {len(x)} inputs, got {_kind(y)}.")
    fine = same(label(x[:3].clone()), y[:3])
    _require(fine, "the label of an example depends on the rest of the batch, or on chance.")
    _require(not bool((y == y[:1]).all()), "all labels are the same, so there is nothing to learn.")
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
    pair = _ask(symmetry, "symmetry()")
    fine = isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], Action)
    _require(fine, f"symmetry() should return in_action, out_action; got {_kind(pair)}.")
    a, b = pair[0], pair[1] or Trivial(pair[0].group)
    groups = f"the input moves under {a.group!r}, the answer under {b.group!r}"
    _require(a.group == b.group, f"{groups}: use one group for both.")
    _require(
        any(~g != g for g in a.group),
        f"in {a.group!r} every element is its own inverse, so no test can tell g from g^-1: use a "
        "group with an element that is not.",
    )
    x = _ask(examples, "examples()")
    y = _ask(label, "label(x)", x.clone())
    # All g x, label(g x) and g label(x), in the order of the elements.
    moved = _ask(lambda: a.views(x).split(len(x)), "moving the examples")
    labels = _ask(lambda: [label(gx) for gx in moved], "label(g x)")
    expected = _ask(lambda: b.views(y).split(len(y)), "moving the labels")
    _require(not all(torch.equal(gx, x) for gx in moved), "your input action moves no example.")
    fine = all(isinstance(z, Tensor) and z.shape == y.shape for z in labels)
    _require(fine, "label(g x) has another shape than label(x).")
    for g in a.group:
        if not same(labels[g.index], expected[g.index]):
            _explain(g, b, y, labels, expected)
            raise _NotYetError
    elements = f"all {len(a.group)} elements of {a.group.name}"
    print(f"Right: label(g x) = g label(x) for {elements} on {len(x)} examples.")


def _explain(
    g: Element, b: Action, y: Tensor, labels: Sequence[Tensor], expected: Sequence[Tensor]
) -> None:
    """Show the first example whose label does not follow g, and say why that may be."""
    pairs = zip(labels[g.index], expected[g.index], strict=True)
    i = [same(*pair) for pair in pairs].index(False)
    print(f"Not right yet.\n  case:     {g} on example {i}")
    print(f"  yours:    g label(x) = {expected[g.index][i].tolist()}")
    print(f"  expected: label(g x) = {labels[g.index][i].tolist()}")
    if all(same(z, y) for z in labels):
        print("  Probably the answer does not move at all: return None for out_action.")
    elif all(same(labels[h.index], b(~h, y)) for h in b.group):
        print("  Probably the answers move by g^-1: input and answer turn in opposite senses.")
    else:
        if all(same(z, y) for z in expected):
            print("  Probably the answer moves with the input and needs an out_action of its own.")
        fits = [str(h) for h in b.group if same(labels[h.index], expected[h.index])]
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
    _require(wrapped is not model, "you returned the pretrained model unchanged; wrap it.")
    _require(
        isinstance(wrapped, GroupAverage),
        "tuned(model) should return the result of eq.equitune or one of its relatives; got "
        f"{_kind(wrapped)}.",
    )
    inside = {id(p) for p in wrapped.parameters()}
    _require(
        all(id(p) in inside for p in model.parameters()),
        "the weights are not those of the given model: was it copied, or built anew?",
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
