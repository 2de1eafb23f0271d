"""Is this model equivariant, and if not, why not?

>>> equivariance_error(model, x)            # the largest relative error over all g
>>> assert_equivariant(model, x)            # raises, names the worst g, says what to look at
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from .actionmap import ActionMap, Actions, Signature, action_maps, unwrapped
from .actions import Action, Trivial
from .choosers import Sampled
from .modes import at_least_float32
from .nested import has_batch, named_leaves, where
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


#: An entry is huge, a mask such as -1e9, if it is this many times larger than what is below it, and than 1.
HUGE = 1e3


#: What to look at where no mistake shows.
USUAL = (
    "the inverse: is it g^-1 M(g x), with g^-1 taken from the group's table?",
    "the actions: are in_action and out_action the ones the model was made with?",
    "the averaging: are all |G| views in it, each once, divided by |G|?",
)


def equivariance_error(
    model: Callable,
    x: Inputs,
    in_action: MaybeActions = None,
    out_action: MaybeActions = None,
    scale: float | None = None,
) -> float:
    """The largest relative equivariance error over the group, ``max_g |f(g x) - g f(x)| / |f(x)|``.

    Parameters
    ----------
    model : nn.Module or callable
        Run as it is: in train mode if it is in train mode. It is left unchanged. May be inside
        ``torch.compile``, ``DistributedDataParallel`` or ``AveragedModel``.
    x : tensor, tuple of positional arguments, or dict of keyword arguments
        The input. Use random values: smooth ones hide mistakes. Tensors and numpy arrays are also moved
        inside lists, dicts, tuples and dataclasses.
    in_action, out_action : Action, or dict of them, optional
        As for :class:`GroupAverage`, and taken from the model if it is one. If only in_action is given,
        the output should be invariant.
    scale : float, optional
        The size that errors are measured against. Default: for each entry of an output its own size or
        that of the largest entry of the output, or of the views that it is the average of, whichever is
        largest. So an average that is zero by symmetry has a small error. Entries that are 1,000
        times larger than the rest, such as masks of -1e9, count for themselves alone.

    Returns
    -------
    float
        The worst entry of the worst output. For integer outputs and strings, the fraction of entries
        that differ. Equal infinities are equal; inf if an output is NaN, or infinite in one place only.

    Raises
    ------
    ValueError
        If the check would see nothing: no element of the group moves the input, or the output holds
        something that cannot be compared.
    """
    return max(equivariance_errors(model, x, in_action, out_action, scale).values())


def equivariance_errors(
    model: Callable,
    x: Inputs,
    in_action: MaybeActions = None,
    out_action: MaybeActions = None,
    scale: float | None = None,
) -> dict[str, float]:
    """:func:`equivariance_error` for each element separately: {name: error}."""
    errors = Comparison(model, x, in_action, out_action, scale).errors()
    return {name: worst.error for name, worst in errors.items()}


def assert_equivariant(
    model: Callable,
    x: Inputs,
    in_action: MaybeActions = None,
    out_action: MaybeActions = None,
    tol: float | None = None,
    scale: float | None = None,
) -> None:
    """Raise AssertionError if the equivariance error exceeds ``tol``.

    The message names the worst element, the output and the entry, and what to look at. The default
    tolerance depends on the output's dtype: 1e-12 for float64, 1e-5 for float32, 1e-2 for float16, 5e-2 for
    bfloat16; of several outputs the coarsest dtype counts.
    """
    comparison = Comparison(model, x, in_action, out_action, scale)
    errors = comparison.errors()
    tol = comparison.tolerance if tol is None else tol
    name = max(errors, key=lambda name: errors[name].error)
    if errors[name].error <= tol:
        return
    hints = "\n".join(f"- {hint}" for hint in comparison.hints(tol))
    raise AssertionError(
        f"not equivariant: relative error {errors[name].error:.2e} at g = {name}, allowed {tol:.1e}.\n"
        f"The worst is {errors[name].told}.\nWhat to look at:\n{hints}"
    )


class Worst(NamedTuple):
    """The largest relative error, and where it is."""

    error: float
    told: str


class Comparison:
    """f(x) and f(g x) for one model, one input and all g, each computed once."""

    def __init__(
        self,
        model: Callable,
        x: Inputs,
        in_action: MaybeActions,
        out_action: MaybeActions,
        scale: float | None,
    ):
        if not (isinstance(x, tuple | Mapping) or has_batch(x)):
            raise TypeError(
                f"x must be a tensor, a tuple of positional or a dict of keyword arguments; got "
                f"{type(x).__name__}. Write (x,) if it is the model's only argument."
            )
        if not has_batch(x) and not x:
            raise ValueError("x holds no argument to run the model on")
        if scale is not None and not scale > 0:
            raise ValueError(f"scale must be a positive size, got {scale!r}")
        inner = unwrapped(model)
        if in_action is None:
            if not isinstance(inner, GroupAverage):
                raise ValueError(
                    "in_action is missing: only models made by equitune and its relatives know their "
                    "actions. Say how the group moves the input, e.g. "
                    "in_action=Rotations(cyclic(4)). (An EquiLM is checked by equitutor.language.fairness.fairness_gap.)"
                )
            in_action = inner.in_actions
            out_action = inner.result_actions if out_action is None else out_action
        self.model, self.x = model, x
        self.ins, outs = action_maps(in_action, out_action)
        self.group = self.ins.group
        signature = Signature.of(model)
        self.inputs = [self.ins.move(g, x, signature) for g in range(len(self.group))]
        self._refuse_if_nothing_moved(outs)
        leaves = self.run(model, x)
        outs.require(path for path, _ in leaves)
        self.names = ["output" + where(path) for path, _ in leaves]
        self.actions = [outs.get(path) for path, _ in leaves]
        self.plain = [y for _, y in leaves]
        for name, action, y in zip(self.names, self.actions, self.plain, strict=True):
            try:
                action.validate(y)
            except ValueError as error:
                raise ValueError(f"the model's {name} does not fit its action: {error}") from error
        self.tolerance = max(TOLERANCE.get(y.dtype, 0.0) for y in self.plain)
        self.moved = [[y for _, y in self.run(model, gx)] for gx in self.inputs]
        self.scale = scale
        if scale is not None:
            self.sizes = [scale] * len(leaves)
            return
        views = dict(self.run(inner.views, x)) if isinstance(inner, GroupAverage) else {}
        self.sizes = [max(map(ordinary_size, (y, views.get(path, y)))) for path, y in leaves]

    def _refuse_if_nothing_moved(self, outs: ActionMap) -> None:
        """A check that moves nothing passes whatever the model does."""
        if len(self.group) == 1 or all(isinstance(a, Trivial) for a in self.ins.actions):
            return
        before = _tensors(self.x)
        for moved in self.inputs:
            if any(not torch.equal(a, b) for a, b in zip(before, _tensors(moved), strict=True)):
                return
        # An image that is its own image under every g still shows whether an output that should move is.
        still = all(isinstance(a, Trivial) for a in outs.actions)
        if not still and any(t.is_floating_point() for t in before):
            return
        raise ValueError(
            f"no element of {self.group!r} moves this input, so the check would pass whatever the "
            "model does. Is the action for the right argument (in_action={argument: action} says which)? "
            "Does a text hold a word that is moved? Otherwise use random values."
        )

    @torch.no_grad()
    def run(self, model: Callable, x: Any) -> list[tuple[tuple, Tensor]]:
        """The leaves of the output as tensors, with their paths."""
        y = called(model, x, self.model)
        leaves = [(path, _comparable(path, leaf)) for path, leaf in named_leaves(y)]
        if not leaves:
            raise ValueError(f"the model must return a tensor to compare, got a {type(y).__name__}")
        return leaves

    def errors(
        self, expected: Callable[[Action, int, Tensor], Tensor] = lambda a, g, y: a.act(g, y)
    ) -> dict[str, Worst]:
        """{name of g: worst} where f(g x) should be ``expected(action, g, f(x))``, here g f(x)."""
        return {
            name: max(
                (
                    worst_entry(y, expected(action, g, plain), size, output, self.scale is not None)
                    for y, action, plain, size, output in zip(
                        self.moved[g], self.actions, self.plain, self.sizes, self.names, strict=True
                    )
                ),
                key=lambda worst: worst.error,
            )
            for g, name in enumerate(self.group.names)
        }

    def hints(self, tol: float, usual: Sequence[str] = USUAL) -> list[str]:
        """The most likely mistakes, found by trying them; the usual ones if none is found."""

        def largest(expected: Callable[[Action, int, Tensor], Tensor]) -> float:
            return max(worst.error for worst in self.errors(expected).values())

        hints = []
        modules = list(self.model.modules()) if isinstance(self.model, nn.Module) else []
        again = [y for _, y in self.run(self.model, self.x)]
        differ = max(relative_error(a, b) for a, b in zip(again, self.plain, strict=True))
        finite = all(bool(y.isfinite().all()) for ys in (self.plain, *self.moved) for y in ys)
        if not finite and largest(lambda a, g, y: a.act(g, y)) == float("inf"):
            hints.append("the output holds NaN or infinite values.")
        elif differ > tol and any(
            isinstance(m, Sampled) and m.samples < len(m.group) for m in modules
        ):
            hints.append(
                "the views are drawn at random: a single draw is equivariant in the mean only. All of them, "
                "samples = |G|, are exact, and sampling_variance says how far off fewer are."
            )
        elif differ > tol:
            hints.append("two runs on the same input differ: is dropout on? Call model.eval().")
        if largest(lambda a, g, y: a.undo(g, y)) <= tol:
            hints.append(
                "the output moves by g^-1 where it should move by g: the wrong inverse. Move the "
                "output of M(g x) back with g^-1, and let both actions move in the same direction."
            )
        elif largest(lambda a, g, y: y) <= tol:
            hints.append("the output does not move at all: it is invariant, so omit out_action.")
        if any(_shapes(gx) != _shapes(self.x) for gx in self.inputs):
            hints.append(
                "the action changes the shape of the input: is it square, as turns by 90 degrees need?"
            )
        hints = hints or [*usual]
        # Last, and in addition to the others: it spoils a comparison, but is rarely the only reason.
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in modules):
            hints.append(
                "BatchNorm is in train mode, so each output depends on the whole batch: call "
                "model.eval()."
            )
        return hints


def called(model: Callable, x: Any, owner: Any) -> Any:
    """What the model returns for x; the buffers of its owner, such as BatchNorm's, are as before."""
    modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
    before = [(m, k, b, b.clone()) for m in modules for k, b in m._buffers.items() if b is not None]
    try:
        if isinstance(x, Mapping):
            return model(**x)
        return model(*x) if isinstance(x, tuple) else model(x)
    finally:
        for module, name, buffer, old in before:
            module._buffers[name] = buffer.copy_(old)


def _tensors(x: Any) -> list[Tensor]:
    return [torch.as_tensor(leaf) for _, leaf in named_leaves(x) if has_batch(leaf)]


def _shapes(x: Any) -> list[torch.Size]:
    return [t.shape for t in _tensors(x)]


def _comparable(path: tuple, leaf: Any) -> Tensor:
    """A tensor, array, number or string of an output as a dense tensor."""
    if isinstance(leaf, Tensor):
        return leaf if leaf.layout == torch.strided else leaf.to_dense()
    if isinstance(leaf, str | bytes):
        return torch.tensor(list(leaf.encode() if isinstance(leaf, str) else leaf))
    try:
        return torch.as_tensor(leaf)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"output{where(path)} is a {type(leaf).__name__}, which cannot be compared: return tensors, "
            "arrays, numbers or strings (and leave out a language model's cache: use_cache=False)"
        ) from error


def ordinary_size(y: Tensor) -> float:
    """The size of the largest finite entry, those left out that are :data:`HUGE` beside the others."""
    if y.numel() == 0 or not (y.is_floating_point() or y.is_complex()):
        return 0.0
    size = y.to(at_least_float32(y.dtype)).abs()
    size = size[size.isfinite() & (size > 0)]
    while size.numel() and (top := float(size.max())) > HUGE:
        rest = size[size < top / 2]
        if rest.numel() and top > HUGE * max(1.0, float(rest.max())):  # one constant, such as -1e9
            size = rest
            continue
        # Else what is far above the smaller entries, which are a hundredth of all or more.
        small = float(size.kthvalue(size.numel() // 100 + 1).values)
        return float(size[size <= HUGE * max(1.0, small)].max())
    return float(size.max()) if size.numel() else 0.0


def relative_error(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to its entry of b or the ordinary size of b's entries."""
    return worst_entry(a, b, ordinary_size(b)).error


def worst_entry(
    a: Tensor, b: Tensor, size: float, name: str = "output", fixed: bool = False
) -> Worst:
    """The entry where a differs most from b, relative to ``size``, or (unless fixed) to b if it is larger.

    For integers, the fraction of entries that differ. inf if shapes differ, or a value is NaN, or
    infinite in one of them.
    """
    if a.shape != b.shape:
        return Worst(float("inf"), f"{name}: shape {tuple(a.shape)} instead of {tuple(b.shape)}")
    if a.numel() == 0:
        return Worst(0.0, f"{name}, which is empty")
    a, b = a.detach(), b.detach()
    inexact = a.is_floating_point() or a.is_complex()
    if inexact:
        a, b = (t.to(at_least_float32(t.dtype)) for t in (a, b))
        scale = size if fixed else b.abs().clamp_min(max(size, torch.finfo(b.dtype).tiny))
        errors = torch.where(a == b, 0.0, (a - b).abs() / scale).nan_to_num(nan=float("inf"))
        errors = errors.masked_fill(a.isfinite() != b.isfinite(), float("inf"))
    else:
        errors = (a != b).double()
    place = errors.argmax()
    index = [int(i) for i in torch.unravel_index(place, a.shape)]
    error = float(errors.max() if inexact else errors.mean())
    got, expected = (t.flatten()[place].item() for t in (a, b))
    return Worst(
        error, f"{name}{index if index else ''}: {got:.6g} where {expected:.6g} is expected"
    )
