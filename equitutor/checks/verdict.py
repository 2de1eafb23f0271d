"""The one mechanism behind all checkers: run a function on cases, name the mistake it made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..actions import Permutation
from ..groups import FiniteGroup, cyclic, dihedral, permutation_group, symmetric

Case = tuple[str, tuple, Any]  # what it is, the arguments, the right answer
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # what counts as equal


def verdict(student: Callable, cases: Iterable[Case], mistakes: Mapping[str, Callable]) -> bool:
    """Run the student's function on the cases, print what came of it, return whether all is right.

    Parameters
    ----------
    student : callable
        Called with fresh copies of each case's arguments.
    cases : (what, arguments, right answer), in the order in which they are tried
        Tensors are compared up to rounding, and a list or array of numbers does for a tensor.
    mistakes : {sentence: function}
        The function makes, on the same arguments, the mistake that the sentence names. Printed is
        the one that explains the first wrong answer and most of the others.
    """
    cases = list(cases)
    answers = []
    for what, args, _ in cases:
        given = copy.deepcopy(args)
        done, answer = ask(student, what, *given)
        if not done:
            return False
        if _changed(given, args):
            print(
                f"Not right yet: on {what} your function changed what it was given. Who called it still "
                "needs that: write into a new tensor or a clone."
            )
            return False
        answers.append(answer)
    right = [same(yours, expected) for yours, (_, _, expected) in zip(answers, cases, strict=True)]
    names = [what for what, _, _ in cases]
    if all(right):
        print(f"Right in all cases: {', '.join(names)}.")
        return True
    first = right.index(False)
    passed = f" Right on {', '.join(names[:first])}, but:" if first else ""
    print(f"Not right yet.{passed}\n  case:     {names[first]}")
    print(f"  yours:    {_show(answers[first], cases[first][2])}")
    print(f"  expected: {_show(cases[first][2], answers[first])}")
    if answers[first] is None:
        print("  Your function returned nothing: is the `return` missing?")
    else:
        _name_mistake(answers, cases, first, mistakes)
    return False


def _changed(given: tuple, args: tuple) -> bool:
    """Whether a tensor among the arguments is no longer what it was."""
    pairs = [(a, b) for a, b in zip(given, args, strict=True) if isinstance(b, Tensor)]
    return not all(same(a, b, equal_nan=True) for a, b in pairs)


def ask(student: Callable, what: str, *args: Any) -> tuple[bool, Any]:
    """Whether the student's function runs to its end on these arguments, and what it returns."""
    try:
        return True, student(*args)
    except NotImplementedError:
        print("Not done yet: write your answer in place of `raise NotImplementedError`.")
    except Exception as error:  # whatever a student's code raises is part of the verdict
        print(f"Not right yet: on {what} it stopped with {type(error).__name__}: {error}")
    return False, None


def solved(right: Callable, cases: Mapping[str, tuple]) -> list[Case]:
    """Cases for :func:`verdict` from {what: arguments}, answered by a right function."""
    return [(what, args, right(*copy.deepcopy(args))) for what, args in cases.items()]


def _name_mistake(
    answers: list, cases: list[Case], first: int, mistakes: Mapping[str, Callable]
) -> None:
    """Print the sentence of the mistake that gives most of the answers, the first wrong one too."""

    def agrees(wrong: Callable, yours: Any, args: tuple) -> bool:
        try:
            return same(yours, wrong(*copy.deepcopy(args)), equal_nan=True)
        except Exception:  # a mistake that cannot even be made on this case
            return False

    hits = {
        sentence: [agrees(wrong, a, args) for a, (_, args, _) in zip(answers, cases, strict=True)]
        for sentence, wrong in mistakes.items()
    }
    likely = max(hits, key=lambda sentence: (hits[sentence][first], sum(hits[sentence])))
    if hits[likely][first]:
        print(f"  Probably {likely}")


def same(a: Any, b: Any, equal_nan: bool = False) -> bool:
    """Equal up to rounding; a may be a list, an array or a number where b is a tensor."""
    if isinstance(b, Tensor):
        try:
            a = torch.as_tensor(a).detach().to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError):
            return False
        return a.shape == b.shape and torch.allclose(a, b.double(), **CLOSE, equal_nan=equal_nan)
    if isinstance(a, Tensor) and a.numel() == 1:
        a = a.item()
    if isinstance(a, Tensor) and not isinstance(b, (tuple, list)):
        return False  # many numbers where one was asked for
    if isinstance(b, (tuple, list)):
        parts = isinstance(a, (tuple, list)) and len(a) == len(b)
        return parts and all(same(x, y, equal_nan) for x, y in zip(a, b, strict=True))
    if isinstance(b, float) and isinstance(a, (int, float)):
        return abs(a - b) <= 1e-5 * max(1.0, abs(b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _show(value: Any, other: Any) -> str:
    """A short text for a value; of a large tensor, the first entry that differs from the other."""
    if isinstance(value, tuple):
        others = other if isinstance(other, tuple) and len(other) == len(value) else value
        return "(" + ", ".join(map(_show, value, others)) + ")"
    if not isinstance(value, Tensor):
        return repr(value)
    value = value.detach().cpu()
    if value.numel() <= 18:
        return str(_rounded(value.tolist()))
    text = f"shape {tuple(value.shape)}"
    if isinstance(other, Tensor) and other.shape == value.shape:
        other = other.detach().to("cpu", torch.float64)
        for at in (~torch.isclose(value.double(), other, **CLOSE)).nonzero()[:1].tolist():
            text += f", at {at}: {_rounded(value[tuple(at)].item())}"
    return text


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


# -- what cases are made of -------------------------------------------------------------------


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, which leave the global random generator alone."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A small map without any symmetry, (B, n) -> (B, m)."""

    def __init__(self, n: int, m: int):
        super().__init__()
        self.a, self.b, self.c = random(n, 6, seed=1), random(6, seed=2), random(6, m, seed=3)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.a + self.b).tanh() @ self.c


def quaternions() -> FiniteGroup:
    """Q8, generated by left multiplication with i and j on 1, i, j, k, -1, -i, -j, -k."""
    return permutation_group([(1, 4, 3, 6, 5, 0, 7, 2), (2, 7, 4, 1, 6, 3, 0, 5)], "Q8")


def natural_actions() -> list[tuple[str, Permutation]]:
    """C2 first, which forgives every wrong inverse; then C3; then groups that do not commute."""
    actions = map(Permutation, (cyclic(2), cyclic(3), symmetric(3), dihedral(4)))
    return [(f"{a.group.name} on {a.degree} points", a) for a in actions]
