"""The mechanism behind the checkers: run a function on cases and name the mistake it makes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..actions import Action, Permutation
from ..groups import FiniteGroup, cyclic, dihedral, symmetric

__all__ = ["Net", "acting", "ask", "natural_actions", "random", "same", "verdict"]

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # what counts as equal


def verdict(
    student: Callable,
    right: Callable,
    cases: Mapping[str, tuple],
    mistakes: Mapping[str, Callable],
    run: Callable = lambda function, *args: function(*args),
) -> bool:
    """Run the student's function on the cases, print the verdict, return whether all is right.

    Parameters
    ----------
    student : callable
        Called with a fresh copy of each case's arguments.
    right : callable
        Gives the right answer for the same arguments. Tensors are compared up to rounding, and a
        list or array of numbers is accepted in place of a tensor.
    cases : {description: arguments}
        Tried in this order.
    mistakes : {sentence: callable}
        Each function makes, for the same arguments, the mistake that its sentence names. The one
        that explains the first wrong answer and most of the others is printed.
    run : callable, optional
        ``run(function, *args)`` returns what is compared, where that is more than the answer.
    """
    answers = []
    for what, args in cases.items():
        given = copy.deepcopy(args)
        done, answer = ask(functools.partial(run, student), what, *given)
        if not done:
            return False
        if _changed(given, args):
            print(
                f"Not right yet: on {what} your function changed its arguments. The caller still "
                "needs them: write into a new tensor or a clone."
            )
            return False
        answers.append(answer)
    names = list(cases)
    expected = [run(right, *copy.deepcopy(args)) for args in cases.values()]
    correct = list(map(same, answers, expected))
    if all(correct):
        print(f"Right in all cases: {', '.join(names)}.")
        return True
    first = correct.index(False)
    passed = f" Right on {', '.join(names[:first])}, but:" if first else ""
    print(f"Not right yet.{passed}\n  case:     {names[first]}")
    print(f"  yours:    {_show(answers[first], expected[first])}")
    print(f"  expected: {_show(expected[first], answers[first])}")
    if answers[first] is None:
        print("  Your function returned nothing: is the `return` missing?")
        return False
    hits = {
        sentence: list(map(functools.partial(_makes, run, wrong), cases.values(), answers))
        for sentence, wrong in mistakes.items()
    }
    likely = max(hits, key=lambda sentence: (hits[sentence][first], sum(hits[sentence])))
    if hits[likely][first]:
        print(f"  Probably {likely}")
    return False


def ask(student: Callable, what: str, *args: Any) -> tuple[bool, Any]:
    """Whether the student's function runs to its end on these arguments, and what it returns."""
    try:
        return True, student(*args)
    except NotImplementedError:
        print("Not done yet: write your answer in place of `raise NotImplementedError`.")
    except Exception as error:  # whatever a student's code raises is part of the verdict
        print(f"Not right yet: on {what} it stopped with {type(error).__name__}: {error}")
    return False, None


def _changed(given: tuple, args: tuple) -> bool:
    """Whether a tensor among the arguments was changed in place."""
    pairs = [(a, b) for a, b in zip(given, args, strict=True) if isinstance(b, Tensor)]
    return not all(same(a, b, equal_nan=True) for a, b in pairs)


def _makes(run: Callable, wrong: Callable, args: tuple, answer: Any) -> bool:
    """Whether the wrong function gives this answer."""
    try:
        return same(answer, run(wrong, *copy.deepcopy(args)), equal_nan=True)
    except Exception:  # a mistake that cannot even be made on this case
        return False


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
    if isinstance(b, (tuple, list)):
        parts = isinstance(a, (tuple, list)) and len(a) == len(b)
        return parts and all(same(x, y, equal_nan) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor):
        return False  # many numbers where one was asked for
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
