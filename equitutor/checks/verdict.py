"""The mechanism behind the checkers: run a function on cases and name the mistake it makes."""

from __future__ import annotations

import copy
import difflib
import inspect
import linecache
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from .answers import as_tensor, given, plain, same, show
from .diagnosis import difference, relation, unused
from .settings import random

__all__ = ["crash", "verdict"]

NOT_DONE = "Not done yet: write your answer in place of `raise NotImplementedError`."

Run = Callable[..., Any]


def verdict(
    student: Callable,
    right: Callable,
    cases: Mapping[str, tuple],
    mistakes: Mapping[str, Callable],
    run: Run = lambda function, *args: function(*args),
    *,
    helpers: Mapping[str, Callable] | None = None,
    gradients: Sequence[int] = (),
) -> bool:
    """Run the student's function on the cases, print the verdict, return whether all is right.

    Parameters
    ----------
    student : callable
        Called with a fresh copy of each case's arguments.
    right : callable
        Gives the right answer for the same arguments; see :func:`equitutor.checks.answers.same` for
        what else is accepted.
    cases : {description: arguments}
        Tried in this order: the smallest first.
    mistakes : {sentence: callable}
        Each function makes, for the same arguments, the mistake that its sentence names. One that
        explains all answers is printed; else one that explains the first wrong answer.
    run : callable, optional
        ``run(function, *args)`` returns what is compared, where that is more than the answer.
    helpers : {name: callable}, optional
        Functions of earlier parts which this one may call. If the answer is right with these in
        place of the student's own, it is right.
    gradients : sequence of int, optional
        The arguments that the answer must be differentiable in.
    """
    said = _complaint(student, right, cases, mistakes, run, gradients)
    space = getattr(student, "__globals__", {})
    wanted = {name: helper for name, helper in (helpers or {}).items() if name in space}
    if said and wanted:
        with patch.dict(space, wanted):
            if not _complaint(student, right, cases, mistakes, run, gradients):
                names = " and ".join(f"`{name}`" for name in wanted)
                print(
                    f"Right in all cases, with a right {names} in place of yours: mend that, too."
                )
                return True
    print(said or f"Right in all cases: {'; '.join(cases)}.")
    return not said


def _complaint(
    student: Callable,
    right: Callable,
    cases: Mapping[str, tuple],
    mistakes: Mapping[str, Callable],
    run: Run,
    gradients: Sequence[int],
) -> str | None:
    """What is wrong with the student's function, or None."""
    passed: list[str] = []
    for what, args in cases.items():
        copied = copy.deepcopy(args)
        try:
            answer = plain(run(student, *copied))
        except NotImplementedError:
            return NOT_DONE
        except Exception as error:  # whatever a student's code raises is part of the verdict
            start = _so_far(passed) + (" " if passed else ": ")
            return start + crash(student, error, f"on {what}")
        if _changed(copied, args):
            return (
                f"Not right yet: on {what} your function changed its arguments. The caller still "
                "needs them: write into a new tensor or a clone."
            )
        expected = run(right, *copy.deepcopy(args))
        if not same(answer, expected):
            head = _so_far(passed) + (":" if passed else ".")
            names = _names(student, args)
            lines = [
                f"{head}\n  case:     {what}\n  given:    {given(names, args)}",
                f"  yours:    {show(answer, expected)}",
                f"  expected: {show(expected, answer)}",
            ]
            if lines[1].partition(":")[2].strip() == lines[2].partition(":")[2].strip():
                lines += [
                    f"  (They differ{_by(answer, expected)}, which the digits shown do not reach.)"
                ]
            if answer is None:
                why = "  Your function returned nothing: is the `return` missing?"
            else:
                why = _why(student, right, cases, mistakes, run, what) or ""
            return "\n".join(lines + [why] * bool(why))
        passed.append(what)
    return _gradients(student, right, cases, gradients)


def _by(answer: Any, expected: Any) -> str:
    """By how much two answers differ, where that is a number."""
    a, b = as_tensor(answer), as_tensor(expected)
    return f" by {(a - b).abs().max():.0e}" if a is not None and b is not None else ""


def _so_far(passed: list[str]) -> str:
    """The beginning of a complaint: which cases were right before."""
    return f"Not right yet. Right on {'; '.join(passed)}, but" if passed else "Not right yet"


def _names(function: Callable, args: tuple) -> list[str]:
    """What the function calls its arguments."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return names if len(names) == len(args) else [f"argument {i + 1}" for i in range(len(args))]


def _changed(copied: tuple, args: tuple) -> bool:
    """Whether a tensor among the arguments was changed in place."""
    pairs = [(a, b) for a, b in zip(copied, args, strict=True) if isinstance(b, Tensor)]
    lists = [(a, b) for a, b in zip(copied, args, strict=True) if isinstance(b, list)]
    return any(a != b for a, b in lists) or not all(same(a, b, equal_nan=True) for a, b in pairs)


def _answer(run: Run, function: Callable, args: tuple) -> Any:
    """What the function returns; an exception is an answer of its own, equal to nothing."""
    try:
        return plain(run(function, *copy.deepcopy(args)))
    except Exception as error:
        return error


def _why(
    student: Callable,
    right: Callable,
    cases: Mapping[str, tuple],
    mistakes: Mapping[str, Callable],
    run: Run,
    first: str,
) -> str | None:
    """What was probably done: a mistake that gives these numbers, or what they have in common."""
    yours = {what: _answer(run, student, args) for what, args in cases.items()}
    full, partial = (0, ""), (0, "")
    right_ones = {what: run(right, *copy.deepcopy(args)) for what, args in cases.items()}
    bad = [what for what in cases if not same(yours[what], right_ones[what])]
    whole = as_tensor(yours[first])  # one whole number may be hit by chance
    chancy = whole is not None and whole.numel() == 1 and bool(whole == whole.round())
    for sentence, wrong in mistakes.items():

        def hit(what: str, wrong: Callable = wrong) -> bool | None:
            """Whether the mistake gives this answer; None if it cannot be made here."""
            made = _answer(run, wrong, cases[what])
            return None if isinstance(made, Exception) else same(yours[what], made, equal_nan=True)

        if hit(first):
            hits = [one for what in cases if (one := hit(what)) is not None]
            found = sum(hits), sentence
            full = max(full, found, key=lambda f: f[0]) if all(hits) else full
            if not chancy or 2 * sum(bool(hit(what)) for what in bad) > len(bad):
                partial = max(partial, found, key=lambda f: f[0])
    if full[1]:
        return f"  Probably {full[1]}"
    wrong_ones = [
        (yours[what], right_ones[what], cases[what])
        for what in bad
        if not isinstance(yours[what], Exception)
    ]
    for what in list(cases)[: list(cases).index(first)]:
        kept = as_tensor(yours[what])  # of a few numbers, two may be equal by chance
        if kept is not None and kept.numel() > 3 and same(yours[first], kept):
            return (
                f"  Probably something is kept between two calls: this is your answer on {what}. Use "
                "nothing but the arguments."
            )
    if likely := relation(wrong_ones, _names(student, wrong_ones[0][2])):
        return f"  Probably {likely}"
    if partial[1]:
        return f"  Perhaps {partial[1]}"
    if name := unused(student, right, cases, run, _names(student, wrong_ones[0][2])):
        return f"  Probably your answer does not depend on {name}, and it should."
    if differs := difference(wrong_ones, _names(student, wrong_ones[0][2])):
        return f"  Probably {differs}"
    return None


def _gradients(
    student: Callable, right: Callable, cases: Mapping[str, tuple], positions: Sequence[int]
) -> str | None:
    """Whether the gradient of the answer reaches the arguments, on the last case."""
    *_, (what, args) = cases.items()

    def gradients(function: Callable) -> list[Tensor]:
        copied = list(copy.deepcopy(args))
        for i in positions:
            copied[i].requires_grad_()
        leaves = [copied[i] for i in positions]
        y = function(*copied)
        total = (y * random(*y.shape, seed=2)).sum()
        return list(torch.autograd.grad(total, leaves, materialize_grads=True))

    if not positions:
        return None
    names = [_names(student, args)[i] for i in positions]
    try:
        mine = gradients(student)
    except Exception as error:
        mine, reason = [], f"{type(error).__name__}: {str(error).splitlines()[0]}"
    else:
        reason = "a part of the answer is cut off from it"
    probably = (
        "you wrote into a tensor (+=, *=, y[i] = ..., mul_) that the gradient needs: make a new one."
        if "in-place" in reason or "inplace" in reason
        else "you detached something: the answer will be trained through, so no detach, no "
        "torch.no_grad, and no .data, .item, .tolist, NumPy or torch.tensor(...) on the way."
    )
    for name, a, b in zip(names, mine or [None] * len(names), gradients(right), strict=True):
        if not same(a, b):
            return (
                f"Not right yet: the values are right in all cases, but on {what} the gradient of "
                f"your answer with respect to {name} is not ({reason}).\n  Probably {probably}"
            )
    return None


# -- exceptions -------------------------------------------------------------------------------

HINTS = {
    r"is not an action of|made with dim=|must be an nn.Module": "",  # which say all
    r"'Element'|got Element": (
        "an element g stands where something else belongs: ~g is its inverse, g @ h a product, and g.index "
        "its number, as in y[g.index]."
    ),
    r"no len\(\)": "|G| is the length of the group, len(action.group).",
    r"'bool' object has no attribute": (
        "two things of different kinds were compared, which gives one False: x.min(0) is a pair of values "
        "and places, x.amin(0) the values alone."
    ),
    r"expected a matrix": "the function takes one matrix, and here is a batch of them, (|G|, n, n).",
    r"values to unpack": (
        "a shape or a tuple has another number of parts: inputs need not be images, and len(x) is the "
        "size of a batch of anything."
    ),
    r"requires grad. Use": "something leaves torch on the way; stay in it, or no gradient gets through.",
    r"missing \d+ required": "a function is called with too few arguments.",
    r"no end after": "a loop never ends: what it waits for never comes.",
    r"KeyError": "you look something up that was never put in, or under a name of another type.",
    r"non-empty": "a list is empty that should have been filled in the loop.",
    r"needs a square|is turned": (
        "an action moves something that is not of its kind: images are moved by the one, outputs by the "
        "other."
    ),
    r"Dimension out of range|Dimension specified as|dim .* out of range|appears multiple times": (
        "you name an axis that this tensor does not have; compare with the shapes above."
    ),
    r"must match|[Ss]hape mismatch|cannot be multiplied|could not be broadcast|expand|don't split|doesn't match"
    r"|[Uu]nflatten|invalid for input|do not sum|sizes of tensors": (
        "two shapes do not go together; compare those above. A factor of shape (B,) for each row of "
        "(B, n) needs [:, None], and a batch must not lose its axis."
    ),
    r"out of bounds|out of range|not in list|is not in": (
        "an index or number belongs to something else: another axis, another row, or too large by one."
    ),
    r"too many indices|IndexError|index .* dimension|not subscriptable|0-dim": (
        "you index something that has fewer axes than you think; compare with the shapes above."
    ),
    r"permutes|moves|belong|not an element|no element|group": (
        "an action, element or tensor is used where another belongs: were two of them exchanged?"
    ),
    r"operand|not callable|has no attribute|must be|not iterable|expected|argument|Expected|convert"
    r"|unhashable|supported|item assignment|interpreted as|__round__|Scalar|dtype of|not implemented for": (
        "something is of another type than you think, or arguments stand in the wrong order."
    ),
    r"not defined|referenced before|cannot access local": (
        "a name is used before it is given a value: on this way through your function, or because an "
        "earlier cell was not run."
    ),
    r"ZeroDivision|division by zero": "you divide by a count that is 0.",
    r"dtype|scalar type": "tensors of different dtypes meet; make new ones with dtype=x.dtype.",
    r"recursion": "your function calls itself without an end.",
}


def crash(student: Callable, error: Exception, where: str) -> str:
    """An exception, the student's line that led to it and the shapes there, and what it may mean."""
    said = f"{type(error).__name__}: {error}"
    if not callable(student):
        return f"{where} there is no function to call, but {given([''], (student,)).strip()}: give its name, without ( )."
    lines = [f"{where} it stopped with {said}"]
    space = getattr(student, "__globals__", None)
    frames = [
        (frame, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_globals is space
    ]
    likely = _meant(error, frames[-1][0] if frames else None)
    if space is not None and not frames:
        if re.match(rf"{re.escape(student.__name__)}\(\) (takes|missing|got)", str(error)):
            lines = [f"{where} it could not be called: {said}"]
            likely = "the line with `def` has other arguments than it had: put them back."
        elif where.startswith("on "):
            lines = [f"{where} your function returned something that cannot be used: {said}"]
    if frames:
        frame, number = frames[-1]
        line = linecache.getline(frame.f_code.co_filename, number).strip()
        if line:
            lines.append(f"  your line: {line}   (line {number} of its cell)")
        shapes = {k: v for k, v in frame.f_locals.items() if not k.startswith((".", "_"))}
        if shapes:
            lines.append(f"  there:     {given(list(shapes), tuple(shapes.values()))}")
    if likely is None:
        likely = next((hint for pattern, hint in HINTS.items() if re.search(pattern, said)), "")
    return "\n".join(lines + [f"  Probably {likely}"] * bool(likely))


def _meant(error: Exception, frame: FrameType | None) -> str | None:
    """The name that a misspelt one is close to."""
    if isinstance(error, AttributeError) and error.name:
        known = dir(error.obj)
    elif isinstance(error, NameError) and error.name and frame is not None:
        known = [*frame.f_locals, *frame.f_globals]
    else:
        return None
    close = difflib.get_close_matches(error.name, known, 1, 0.8)
    return f"you mean `{close[0]}`: `{error.name}` is not known here." if close else None
