"""What wrong answers have in common with the right ones, whatever the exercise."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .answers import as_tensor, plain, same

__all__ = ["difference", "relation", "unused"]

Pair = tuple[Tensor, Tensor]


def relation(wrong: list[tuple[Any, Any, tuple]], names: list[str]) -> str | None:
    """What holds of all wrong answers: of the right sign, scale, shape, order, ...

    Parameters
    ----------
    wrong : list of (yours, expected, arguments)
        The cases in which the answer is wrong.
    names : list of str
        What the student's function calls its arguments.
    """
    if isinstance(wrong[0][1], (tuple, dict)):
        return _part(relation, wrong, names)
    if kind := _of_kind(*wrong[0][:2]):
        return kind
    pairs = _pairs(wrong)
    if pairs is None:
        return None
    if isinstance(wrong[0][1], bool):
        return None
    if any(a.shape != b.shape for a, b in pairs):
        return _of_shape([(a, b) for a, b in pairs if a.shape != b.shape])
    for sentence, holds in VALUES.items():
        if all(holds(a, b) for a, b in pairs):
            return sentence
    return _of_scale(pairs, [args for *_, args in wrong], names)


def difference(wrong: list[tuple[Any, Any, tuple]], names: list[str]) -> str | None:
    """How the answers differ, where :func:`relation` finds nothing that explains it."""
    if isinstance(wrong[0][1], (tuple, dict)):
        return _part(difference, wrong, names)
    pairs = _pairs(wrong)
    if pairs is None or isinstance(wrong[0][1], bool):
        return None
    return _of_lengths(pairs[0]) or _of_factors(pairs)


def _pairs(wrong: list[tuple[Any, Any, tuple]]) -> list[Pair] | None:
    """Yours and the right ones as tensors; None if some are no numbers."""
    pairs = [(as_tensor(a), as_tensor(b)) for a, b, _ in wrong]
    return None if any(a is None or b is None for a, b in pairs) else pairs


def _part(find: Callable, wrong: list[tuple[Any, Any, tuple]], names: list[str]) -> str | None:
    """The same of the first part that is wrong, where answers have several."""
    first, right, _ = wrong[0]
    first = plain(first)
    if isinstance(first, Tensor):
        first = first.tolist()
    keys = list(right) if isinstance(right, dict) else list(range(len(right)))
    if not isinstance(first, (tuple, list, dict)) or len(first) != len(right):
        return f"you returned one thing where {len(right)} belong, or too many."
    bad = [key for key in keys if not same(first[key], right[key])]
    parts = [
        (plain(a)[key], b[key], args)
        for a, b, args in wrong
        for key in bad[:1]
        if not same(plain(a)[key], b[key])
    ]
    found = find(parts, names) if parts else None
    label = bad[0] if isinstance(bad[0], str) else f"part {bad[0] + 1}"
    return found and f"in the {label}: {found}"


def _of_kind(yours: Any, right: Any) -> str | None:
    """Answers that are no numbers, or of another kind."""
    if isinstance(yours, (str, dict)) or callable(yours):
        return f"you returned a {type(yours).__name__}, not numbers."
    if isinstance(yours, tuple) and isinstance(right, Tensor):
        return (
            f"you returned a tuple of {len(yours)}, not one tensor: a comma after a value makes a tuple "
            "of it."
        )
    if isinstance(yours, list) and as_tensor(yours) is None:
        return f"you returned a list of {len(yours)} things that fit no tensor."
    return None


# -- shapes -----------------------------------------------------------------------------------


def _of_shape(pairs: list[Pair]) -> str | None:
    """What was done to the axes."""
    for sentence, holds in SHAPES.items():
        if all(holds(a, b) for a, b in pairs):
            return sentence
    a, b = pairs[0]
    for d in range(b.ndim):
        word = "first" if d == 0 else "last" if d == b.ndim - 1 else f"number {d}"
        for what, short in {
            "summed over": b.sum(d),
            "averaged over": b.mean(d),
            "took the first entry along": b.select(d, 0),
            "took the last entry along": b.select(d, -1),
        }.items():
            if same(a, short) or same(a, short.unsqueeze(d)):
                return f"you {what} the {word} axis of the answer, which has to stay."
    return None


def _of_lengths(pair: Pair) -> str | None:
    """Where two shapes differ."""
    a, b = pair
    if a.shape == b.shape:
        return None
    if a.ndim > b.ndim:
        return (
            f"an axis too many: the shape is {tuple(a.shape)}, not {tuple(b.shape)}. Is a sum or mean "
            "over it missing, or was it added by stack, [None] or broadcasting?"
        )
    if a.ndim < b.ndim:
        return (
            f"an axis is missing: the shape is {tuple(a.shape)}, not {tuple(b.shape)}. A sum, mean or "
            "index took it away; a sum or mean without an axis takes all of them."
        )
    d = next(d for d in range(a.ndim) if a.shape[d] != b.shape[d])
    return (
        f"axis {d} has the length {a.shape[d]}, not {b.shape[d]}: was the sum or the slice taken along "
        "another axis, or two shapes broadcast against each other?"
    )


def _without_ones(x: Tensor) -> tuple[int, ...]:
    return tuple(n for n in x.shape if n != 1)


SHAPES: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "the numbers are right, but the shape has too many or too few axes of length 1: keepdim=True, "
    "[None] and unsqueeze add one, squeeze() takes all of them away, also that of a batch of one.": (
        lambda a, b: _without_ones(a) == _without_ones(b) and same(a.reshape(b.shape), b)
    ),
    "the axes are in another order.": lambda a, b: (
        a.ndim == b.ndim
        and a.ndim <= 4
        and any(same(a, b.permute(p)) for p in itertools.permutations(range(b.ndim)))
    ),
    "the numbers are right, but two axes are folded into one, or one into two.": (
        lambda a, b: a.numel() == b.numel() and same(a.reshape(b.shape), b)
    ),
    "the right answer is repeated along an axis that should not be there.": lambda a, b: (
        a.ndim > b.ndim and same(a, b.expand_as(a) if _fits(a, b) else b)
    ),
    "you summed over everything; one axis or some should stay.": lambda a, b: (
        a.ndim == 0 and (same(a, b.sum()) or same(a, b.mean()))
    ),
}


def _fits(a: Tensor, b: Tensor) -> bool:
    return all(m in (n, 1) for n, m in zip(reversed(a.shape), reversed(b.shape), strict=False))


# -- values -----------------------------------------------------------------------------------


def _near(a: Tensor, b: Tensor, how: float = 1e-4) -> bool:
    """Whether two answers agree in their first digits."""
    return torch.allclose(a, b, rtol=how, atol=how / 10 * max(1.0, float(b.abs().max())))


def _all_finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def _reordered(a: Tensor, b: Tensor) -> bool:
    """Whether the slices along some axis are the same in another order."""
    return any(_sorted_rows(a.movedim(d, 0), b.movedim(d, 0)) for d in range(a.ndim))


def _sorted_rows(a: Tensor, b: Tensor) -> bool:
    rows = sorted(a.flatten(1).tolist() if a.ndim > 1 else a[:, None].tolist())
    return same(
        rows,
        torch.tensor(
            sorted(b.flatten(1).tolist() if b.ndim > 1 else b[:, None].tolist()), dtype=b.dtype
        ),
    )


def _first_row_alone(a: Tensor, b: Tensor) -> bool:
    return a.ndim > 0 and [same(x, y) for x, y in zip(a, b, strict=True)] == [True] + [False] * (
        len(a) - 1
    )


def _is(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], bool]:
    """Whether yours is a change of the right one, which leaves not all as it is."""
    return lambda a, b: same(a, change(b), equal_nan=True)


VALUES: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "somewhere you compute in float32: the answer is right to seven digits only, where the arguments "
    "are float64. torch.zeros, torch.ones and torch.tensor take dtype=x.dtype.": (
        lambda a, b: _near(a, b) and torch.equal(a.float().double(), a)
    ),
    "you rounded the answer; give all its digits.": lambda a, b: (
        _near(a, b, 0.05) and any(same(a, b.round(decimals=k)) for k in range(1, 9))
    ),
    "it is nearly right, but not to the last digits: is something computed in float32 on the way (from "
    "torch.zeros, torch.tensor, or a quotient of bools or whole numbers, where dtype=x.dtype is missing), "
    "or a small number added, as a tolerance or in log(p + 1e-9), or a temperature not quite 0?": (
        lambda a, b: _near(a, b)
    ),
    "you divided 0 by 0, took log 0 or subtracted infinities: there are NaNs.": (
        lambda a, b: bool(a.isnan().any()) and _all_finite(b)
    ),
    "something is divided by 0, or its logarithm taken: there are infinities.": (
        lambda a, b: not _all_finite(a) and _all_finite(b)
    ),
    "your answer is 0 everywhere.": lambda a, b: not a.any(),
    "the sign is wrong: you returned minus the answer.": _is(torch.neg),
    "you took absolute values; the signs belong to the answer.": _is(torch.abs),
    "you cut off the digits after the point: int, long and // make whole numbers.": (
        lambda a, b: same(a, b.trunc()) or same(a, b.floor())
    ),
    "you rounded to whole numbers.": _is(torch.round),
    "you squared too much: this is the square of the answer.": _is(torch.square),
    "a square root too much, or a square too few: this is the root of the answer.": (
        lambda a, b: bool((b >= 0).all()) and same(a, b.sqrt())
    ),
    "you returned 1 minus the answer.": _is(lambda b: 1 - b),
    "you returned a percentage, not a share.": _is(lambda b: 100 * b),
    "it is off by one: one too many.": _is(lambda b: b + 1),
    "it is off by one: one too few.": _is(lambda b: b - 1),
    "you took a softmax too many.": _is(lambda b: b.softmax(-1) if b.ndim else b),
    "you took an exponential too many, or a logarithm too few.": _is(torch.exp),
    "you took a logarithm too many.": _is(torch.log),
    "you exchanged the last two axes: this is the transpose.": (
        lambda a, b: a.ndim > 1 and a.shape == b.mT.shape and same(a, b.mT)
    ),
    "all rows of your answer are alike: the first one, or one of them, was used for all.": (
        lambda a, b: a.ndim > 0 and len(a) > 1 and same(a, a[:1].expand_as(a).clone())
    ),
    "all entries of your answer are alike.": (
        lambda a, b: a.numel() > 1 and same(a, a.flatten()[0].expand_as(a).clone())
    ),
    "the right numbers are there, but in other places along one axis: as by g in place of g^-1, or in "
    "another order of elements, points or inputs.": _reordered,
    "the right numbers are there, but in other places.": lambda a, b: (
        a.ndim > 0 and same(a.flatten().sort().values, b.flatten().sort().values)
    ),
    "only the first row is right: something belongs to the first and is used for all, or rows are "
    "mixed that should stay apart.": _first_row_alone,
    "only the last row is right: something is overwritten on the way, or belongs to the last and is "
    "used for all.": lambda a, b: _first_row_alone(a.flip(0), b.flip(0)) if a.ndim else False,
}


def _of_scale(pairs: list[Pair], args: list[tuple], names: list[str]) -> str | None:
    """A factor, or a difference, that is the same in all entries of a case."""
    factors = []
    for a, b in pairs:
        used = b.abs() > 1e-6 * max(1e-12, float(b.abs().max()))
        if not used.any():
            return None
        factor = float((a[used] / b[used]).flatten()[0])
        if not same(a, factor * b):
            return _of_offset(pairs)
        factors.append(factor)
    if all(math.isclose(f, 1) for f in factors):
        return None
    for inverse in (False, True):
        wanted = [1 / f if inverse else f for f in factors if f]
        sizes = [_sizes(arg, names) for arg in args]
        for name in sizes[0]:
            got = [size.get(name) for size in sizes]
            if len(wanted) == len(got) and all(
                n is not None and math.isclose(f, n, rel_tol=1e-6)
                for f, n in zip(wanted, got, strict=True)
            ):
                how = "divided by it once too often" if inverse else "did not divide by it"
                return f"your answer is wrong by a factor, which is {name}: you {how}."
    if all(math.isclose(f, factors[0], rel_tol=1e-6) for f in factors):
        return f"your answer is {factors[0]:.4g} times the right one."
    return None


def _of_factors(pairs: list[Pair]) -> str | None:
    """Factors that differ between the cases."""
    pairs = [(a, b) for a, b in pairs if a.shape == b.shape and b.numel() > 1]
    ratios = [a / b for a, b in pairs if bool((b != 0).all())]
    if not ratios or not all(same(r, r.flatten()[0].expand_as(r).clone()) for r in ratios):
        return None
    listed = ", ".join(f"{float(r.flatten()[0]):.3g}" for r in ratios)
    return (
        f"your answer is the right one times a factor, which differs between the cases: {listed}."
    )


def _of_offset(pairs: list[Pair]) -> str | None:
    if all(
        a.numel() > 1 and same(a - b, (a - b).flatten()[0].expand_as(b).clone()) for a, b in pairs
    ):
        return "the same number is added to all entries of the right answer."
    return None


def _sizes(args: tuple, names: list[str]) -> dict[str, int]:
    """The lengths that are in the arguments: of the group, of every axis."""
    sizes = {}
    for name, arg in zip(names, args, strict=False):
        group = getattr(arg, "group", arg)
        if hasattr(group, "is_abelian"):
            sizes["|G|"] = len(group)
        if isinstance(arg, Tensor):
            for d, n in enumerate(arg.shape):
                sizes[f"the length of axis {d} of {name}"] = n
    return sizes


# -- arguments that are not used --------------------------------------------------------------


def unused(
    student: Callable,
    right: Callable,
    cases: Mapping[str, tuple],
    run: Callable[..., Any],
    names: list[str],
) -> str | None:
    """The name of an argument that the right answer depends on, and the student's does not."""

    def answers(function: Callable, args: tuple) -> Any:
        try:
            return run(function, *copy.deepcopy(args))
        except Exception as error:
            return repr(error)

    for i, name in enumerate(names):
        moved = still = 0
        for args in cases.values():
            other = _another(args[i])
            if other is None:
                break
            changed = (*args[:i], other, *args[i + 1 :])
            right_moves = not same(answers(right, changed), answers(right, args))
            moved += right_moves
            still += right_moves and same(answers(student, changed), answers(student, args))
        if moved and moved == still:
            return name
    return None


def _another(value: Any) -> Any:
    """An argument of the same shape with other values, or None."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return 1.5 * value + 0.25
    if isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1:
        return value.flip(0)
    if isinstance(value, nn.Module) and not hasattr(value, "group"):
        return _Doubled(value)
    return None


class _Doubled(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> Any:
        return 2 * self.model(*args)
