"""Assignment 6, the open project: checks of what must hold, whatever the task is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..actions import Action, Trivial
from ..groups import Element
from ..modes import evaluating
from ..testing import equivariance_error
from .answers import same, show
from .verdict import NOT_DONE, crash

__all__ = ["check_examples", "check_symmetry", "check_tuned"]

ENOUGH = 50
TOLERANCE = 1e-4  # of an equivariance error in float32, and of a number between others


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


def _ask(function: Callable, what: str, *args: Any, of: Callable | None = None) -> Any:
    """What a function gives; if it stops, that is said, with the line of the student's that led to it.

    `of` is the student's, where the function itself is not.
    """
    try:
        return function(*args)
    except NotImplementedError:
        print(NOT_DONE)
    except Exception as error:  # whatever a student's code raises is part of the verdict
        print(f"Not right yet: {crash(of or function, error, f'in {what}')}")
    raise _NotYetError


def _kind(value: Any) -> str:
    """What was returned, as the end of a sentence."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}."
    if isinstance(value, np.ndarray):
        return "an array of NumPy: torch.from_numpy makes a tensor of it."
    if isinstance(value, list):
        return f"a list of {len(value)}: torch.stack makes one tensor of tensors, torch.tensor of numbers."
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(v).__name__ for v in value)})."
    return "nothing: is the `return` missing?" if value is None else f"{type(value).__name__}."


@_judge
def check_examples(examples: Callable[[], Tensor], label: Callable[[Tensor], Tensor]) -> None:
    """``examples()``: a batch of inputs; ``label(x)``: their right answers, one row each."""
    x = _ask(examples, "examples()")
    fine = isinstance(x, Tensor) and x.ndim > 1
    _require(fine, f"examples() should return one tensor (B, ...); you returned {_kind(x)}")
    _require(len(x) >= ENOUGH, f"there are only {len(x)} examples; take {ENOUGH} or more.")
    _require(not bool(x.isnan().any()), "some examples hold NaN.")
    fine = len(x.flatten(1).unique(dim=0)) >= ENOUGH
    _require(fine, "most examples are the same; they should differ.")
    fine = torch.equal(examples(), x)
    _require(fine, "examples() returns others each time: draw them with a seed of their own.")
    given = x.clone()
    y = _ask(label, "label(x)", given)
    fine = isinstance(y, Tensor) and y.ndim > 0 and len(y) == len(x)
    _require(
        fine,
        f"label(x) should return one tensor, a row for each of {len(x)} inputs; you returned {_kind(y)}",
    )
    _require(torch.equal(given, x), "label(x) changed its input: work on a clone.")
    if bool(y.isnan().any()):
        i = (
            int(y.isnan().flatten(1).any(1).nonzero()[0])
            if y.ndim > 1
            else int(y.isnan().nonzero()[0])
        )
        _require(False, f"the label of example {i} is NaN: a root, logarithm or quotient of 0?")
    _require(not bool((y == y[:1]).all()), "all labels are the same, so there is nothing to learn.")
    again = _ask(label, "label(x), asked again", x.clone())
    _require(same(again, y), "asked twice, label(x) gives two answers: it depends on chance.")
    few = _ask(label, "label(x) of three examples", x[:3].clone())
    fine = same(few, y[:3])
    _require(
        fine,
        "the label of an example depends on the rest of the batch.\n"
        f"  yours:    label(x)[:3] = {show(y[:3], few)}\n"
        f"  but also: label(x[:3]) = {show(few, y[:3])}\n"
        "  Probably something is summed, averaged or compared over the batch, axis 0, too.",
    )
    order = torch.arange(len(x)).flip(0)
    fine = same(_ask(label, "label(x) of the examples in another order", x[order]), y[order])
    _require(
        fine,
        "with the examples in another order, the labels do not follow. Probably they are stored and "
        "given out by number: label(x) should compute each from its input, for it will be asked about "
        "moved inputs, too.",
    )
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
    a, b = _actions(symmetry)
    x = _ask(examples, "examples()")
    y = _ask(label, "label(x)", x.clone())
    # All g x, label(g x) and g label(x), in the order of the elements.
    moved = _ask(lambda: a.views(x).split(len(x)), "moving the examples", of=symmetry)
    labels = _ask(lambda: [label(gx) for gx in moved], "label(g x)", of=label)
    expected = _ask(lambda: b.views(y).split(len(y)), "moving the labels", of=symmetry)
    _require(not all(torch.equal(gx, x) for gx in moved), "your input action moves no example.")
    fine = all(isinstance(z, Tensor) and z.shape == y.shape for z in labels)
    _require(fine, f"label(g x) has another shape than label(x), which is {tuple(y.shape)}.")
    order = torch.arange(len(x)).flip(0)
    fine = same(_ask(label, "label(x) in another order", x[order]), y[order])
    _require(fine, "label(x) does not follow its inputs: mend milestone 1 first.")
    for g in a.group:
        if not same(labels[g.index], expected[g.index]):
            _explain(g, b, y, labels, expected)
            raise _NotYetError
    elements = f"all {len(a.group)} elements of {a.group.name}"
    print(f"Right: label(g x) = g label(x) for {elements} on {len(x)} examples.")
    if all(~g == g for g in a.group):
        print(
            f"But in {a.group.name} every element is its own inverse, so nothing here could tell g from "
            "g^-1. If the task has a larger symmetry, take that."
        )


def _actions(symmetry: Callable[[], tuple[Action, Action | None]]) -> tuple[Action, Action]:
    """Both actions, of one group."""
    pair = _ask(symmetry, "symmetry()")
    fine = isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], Action)
    fine = fine and (pair[1] is None or isinstance(pair[1], Action))
    _require(
        fine,
        f"symmetry() should return in_action, out_action, two actions (or None for the second); you "
        f"returned {_kind(pair)} An action is made from a group, such as eq.Permutation(group, dim=1).",
    )
    a, b = pair[0], pair[1] or Trivial(pair[0].group)
    groups = f"the input moves under {a.group!r}, the answer under {b.group!r}"
    _require(a.group == b.group, f"{groups}: use one group for both.")
    return a, b


def _explain(
    g: Element, b: Action, y: Tensor, labels: Sequence[Tensor], expected: Sequence[Tensor]
) -> None:
    """Show the first example whose label does not follow g, and say why that may be."""
    pairs = zip(labels[g.index], expected[g.index], strict=True)
    follow = [same(*pair) for pair in pairs]
    i = follow.index(False)
    print(f"Not right yet.\n  case:     {g} on example {i}, one of {follow.count(False)}")
    mine, right = expected[g.index][i], labels[g.index][i]
    print(
        f"  yours:    g label(x) = {show(mine, right)}\n  expected: label(g x) = {show(right, mine)}"
    )
    if all(same(z, y) for z in labels):
        print("  Probably the answer does not move at all: return None for out_action.")
    elif all(same(labels[h.index], b(~h, y)) for h in b.group):
        print(
            "  Probably the answers move by g^-1: input and answer turn in opposite senses. Of a row p of "
            "integers, the inverse is p.argsort()."
        )
    else:
        if all(same(z, y) for z in expected):
            print("  Probably the answer moves with the input and needs an out_action of its own.")
        elif follow.count(False) < len(follow) / 2:
            print(
                "  Probably these examples have a tie: of two answers that are equally right, label "
                "takes the first, and which is first changes when the input moves. Mark all of them."
            )
        fits = [str(h) for h in b.group if same(labels[h.index], expected[h.index])]
        print(f"  It is right for {', '.join(fits)}: perhaps the task has that much symmetry only.")


@_judge
def check_tuned(
    tuned: Callable[[nn.Module], nn.Module],
    symmetry: Callable[[], tuple[Action, Action | None]],
    pretrained: Callable[[], nn.Module],
    examples: Callable[[], Tensor],
) -> None:
    """``tuned(model)``: the model, wrapped: equivariant, with its weights, and between its views.

    It may be any module or function: what it does is tested, not what it is made of.
    """
    a, b = _actions(symmetry)
    model = _ask(pretrained, "pretrained()")
    x = _ask(examples, "examples()")
    x = x[:: max(1, len(x) // 16)][:16]
    before = copy.deepcopy(model)
    wrapped = _ask(tuned, "tuned(model)", model)
    _require(wrapped is not model, "you returned the pretrained model unchanged; wrap it.")
    _require(
        callable(wrapped), f"tuned(model) should return a model; you returned {_kind(wrapped)}"
    )
    _require(
        _holds(model, before),
        "tuned(model) changed the weights of the model that it was given: was it trained, or its last "
        "layer set to zero? This milestone only wraps it.",
    )
    _require(
        not isinstance(wrapped, nn.Module) or _holds(wrapped, before),
        "the weights are not those of the given model: was another one built anew, or a copy trained?",
    )
    with (
        evaluating(wrapped) if isinstance(wrapped, nn.Module) else torch.no_grad(),
        torch.no_grad(),
    ):
        y = _ask(wrapped, "the wrapped model", x)
        _require(
            isinstance(y, Tensor),
            f"the wrapped model should return one tensor; it returned {_kind(y)}",
        )
        error = _ask(
            lambda: equivariance_error(wrapped, x, a, b),
            "moving the outputs with your out_action",
            of=tuned,
        )
        if error > TOLERANCE:
            _require(False, _not_equivariant(wrapped, x, a, b, error))
        before.eval()
        views = torch.stack([b(~g, before(a(g, x))) for g in a.group])
    mean = views.mean(0)
    factor = float((y * mean).sum() / mean.square().sum()) if y.shape == mean.shape else 1.0
    fine = abs(factor - 1) < TOLERANCE or not same(y, factor * mean)
    _require(
        fine,
        f"it is equivariant, but {factor:.4g} times the average of the model's views g^-1 M(g x). "
        "Probably the sum is not divided by |G|, or by something else.",
    )
    room = TOLERANCE * float(views.abs().max())
    fine = y.shape == views.shape[1:] and bool(
        ((y >= views.amin(0) - room) & (y <= views.amax(0) + room)).all()
    )
    _require(
        fine,
        "it is equivariant, but not an average of the model's own views g^-1 M(g x): some outputs lie "
        "outside of them. Probably the sum is not divided by |G|, or something was added, left out or "
        "set to zero.",
    )
    print(f"Right: equivariant to {a.group!r}, with the weights of the pretrained model.")


def _holds(module: nn.Module, other: nn.Module) -> bool:
    """Whether all weights of the other module are in this one, whatever they are called."""
    mine = list(module.state_dict().values()) if isinstance(module, nn.Module) else []
    return all(any(torch.equal(p, q) for q in mine) for p in other.state_dict().values())


def _not_equivariant(wrapped: Callable, x: Tensor, a: Action, b: Action, error: float) -> str:
    """Why the wrapped model may not be equivariant to the task's actions."""
    said = f"the wrapped model is not equivariant to your symmetry(): its error is {error:.1g}."
    y = wrapped(x)
    moved = [wrapped(a(g, x)) for g in a.group]
    if all(same(z, y) for z in moved):
        return f"{said} Its output does not move at all: was out_action forgotten?"
    if all(same(moved[g.index], b(~g, y)) for g in a.group):
        return f"{said} Its output moves by g^-1: move the output of M(g x) back with ~g."
    fits = [str(g) for g in a.group if same(moved[g.index], b(g, y))]
    return (
        f"{said} It is right for {', '.join(fits)}. Was it wrapped with the same two actions, are all "
        "|G| views in the average, and do its weights go with the views, not with their names?"
    )
