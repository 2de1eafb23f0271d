"""Which layer of a model breaks its symmetry?

>>> for layer in broken_layers(model, images, Rotations(cyclic(4))):
...     print(layer)                      # "matrix (Linear): 1e-07 before, 0.8 after"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .actionmap import ActionMap, Actions, Signature, action_maps, unwrapped
from .actions import Action
from .nested import has_batch, named_leaves
from .symmetrize import GroupAverage
from .testing import TOLERANCE, Comparison, called, relative_error

__all__ = ["BrokenLayer", "broken_layers", "checkup"]

#: A tensor, seen as feature maps (..., H, W) or None if it is not seen so.
View = Callable[[Tensor], Tensor]


class BrokenLayer(NamedTuple):
    """A layer whose output breaks the law though its input keeps it, or keeps it far better.

    Attributes
    ----------
    name, kind : str
        Its name in ``model.named_modules()``, which is empty for the model itself, and its class.
    before, after : float
        The relative error of its input and of its output, the largest over the group.
    """

    name: str
    kind: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.name or 'the model itself'} ({self.kind}): {self.before:.1e} before, {self.after:.1e} after"


class _Call(NamedTuple):
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


@torch.no_grad()
def broken_layers(
    model: nn.Module, x: Any, in_action: Actions | ActionMap, tol: float | None = None
) -> list[BrokenLayer]:
    """The layers at which the law is first broken, the largest relative jump of the error first.

    What a layer gives may keep the law in several ways, of which the best counts: it is invariant;
    it moves as the input does, in its last two dimensions; or it is such a map, written as tokens or flattened.
    A container is left out if one of its own layers explains its jump, and so are the layers inside a
    :class:`equitutor.symmetrize.GroupAverage`, which see its views.

    Parameters
    ----------
    model : nn.Module
        May be inside ``torch.compile``, ``DistributedDataParallel`` or ``AveragedModel``: the names are
        those of the model inside.
    x : tensor, tuple of positional arguments, or dict of keyword arguments
    in_action : Action, or dict of them
        How the group moves the input, e.g. ``Rotations(cyclic(4))``.
    tol : float, optional
        An error that counts as none. Default: ten times what is allowed of an output of the dtype.

    Returns
    -------
    list of BrokenLayer
        Those whose error is more than ten times that of their input, and more than ``tol``.

    Raises
    ------
    TypeError
        If the model is a function, which shows no layers.
    ValueError
        If other layers run for some g than for the input itself.
    """
    model = unwrapped(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"a {type(model).__name__} shows no layers: give an nn.Module")
    ins, _ = action_maps(in_action, None)
    signature = Signature.of(model)
    plain = _record(model, x)
    errors: dict[int, tuple[float, float]] = {}  # number of the call -> error before and after
    for g in range(len(ins.group)):
        moved = _record(model, ins.move(g, x, signature))
        if [call.name for call in moved] != [call.name for call in plain]:
            raise ValueError(
                f"other layers run for g = {ins.group.names[g]} than for e: the model looks at its input "
                "to choose them, so that they cannot be compared"
            )
        seen: dict[int, float] = {}  # the errors of outputs, which are the inputs of later layers
        for i, (a, b) in enumerate(zip(plain, moved, strict=True)):
            shape = next((t.shape[1:] for t in a.inputs if t.ndim > 3), None)
            error = partial(_error, ins.first, g, shape)
            before = [seen.get(id(p), error(p, q)) for p, q in zip(a.inputs, b.inputs, strict=True)]
            after = [error(p, q) for p, q in zip(a.outputs, b.outputs, strict=True)]
            seen.update(zip(map(id, a.outputs), after, strict=True))
            past = errors.get(i, (0.0, 0.0))
            errors[i] = max([past[0], *before]), max([past[1], *after])
    modules = dict(model.named_modules())
    jumps: dict[str, tuple[float, BrokenLayer]] = {}
    for i, (entering, leaving) in errors.items():
        name, outputs = plain[i].name, plain[i].outputs
        usual = 10 * max((TOLERANCE.get(y.dtype, 0.0) for y in outputs), default=0.0)
        none = usual if tol is None else tol
        jump = leaving / max(entering, none, torch.finfo(torch.float64).tiny)
        if jump > 10 and jump > jumps.get(name, (0.0,))[0]:
            kind = type(modules[name]).__name__
            jumps[name] = jump, BrokenLayer(name, kind, entering, leaving)
    containers = {name[:i] for name in jumps for i, letter in enumerate(name) if letter == "."}
    found = [jump for name, jump in jumps.items() if name not in containers]
    return [layer for _, layer in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _record(model: nn.Module, x: Any) -> list[_Call]:
    """The inputs and outputs of all layers in one run, in the order in which they ended."""
    calls: list[_Call] = []
    with _watched(model, calls):
        called(model, x, model)
    return calls


@contextmanager
def _watched(model: nn.Module, calls: list[_Call]) -> Iterator[None]:
    handles = []
    held: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a tensor, so that it keeps it, and a copy

    def copies(value: Any) -> list[Tensor]:
        """What the tensors hold now, as some layers work in place; one copy while they hold it."""
        found = _floats(value)
        for t in found:
            if id(t) not in held or not torch.equal(held[id(t)][1], t):
                held[id(t)] = t, t.clone()
        return [held[id(t)][1] for t in found]

    def watch(name: str, module: nn.Module) -> None:
        entered: list[list[Tensor]] = []  # a layer may call itself

        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            entered.append(copies((args, kwargs)))

        def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            calls.append(_Call(name, entered.pop(), copies(output)))

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))

    layers = list(model.named_modules())
    averages = [n for n, m in layers if isinstance(m, GroupAverage)]
    try:
        for name, module in layers:
            if (name or len(layers) == 1) and not any(
                name.startswith(f"{a}." if a else "") for a in averages
            ):
                watch(name, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _floats(value: Any) -> list[Tensor]:
    leaves = (leaf for _, leaf in named_leaves(value) if has_batch(leaf))
    return [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]


def _error(action: Action, g: int, shape: Any, p: Tensor, q: Tensor) -> float:
    """How far q, computed from g x, is from p or g p: the least of the ways to move p."""
    errors = [relative_error(q, p)]
    for view in _maps(p, shape):
        try:
            a, b = view(p), view(q)
            action.validate_batch(a)
            errors.append(relative_error(b, action.act(g, a)))
        except Exception:  # not maps of this kind, to an action that may be anybody's function
            continue
    return min(errors)


def _maps(p: Tensor, shape: Any) -> Iterator[View]:
    """The ways to see a tensor as feature maps."""
    yield lambda t: t
    if shape is not None and p.ndim == 2:  # flattened maps
        yield lambda t: t.unflatten(1, shape)
    if p.ndim == 3:  # tokens of patches, perhaps with others in front
        side = math.isqrt(p.shape[1])
        yield lambda t: t[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


def checkup(
    model: nn.Module,
    x: Any,
    in_action: Actions | ActionMap,
    out_action: Actions | ActionMap | None = None,
    tol: float | None = None,
) -> tuple[bool, str]:
    """Whether the model keeps the law, and a report: the error of each element, the broken layers, hints.

    Parameters are those of :func:`equitutor.equivariance_error`; ``tol`` is the error allowed, by default as
    the type of the numbers has it.

    Returns
    -------
    (bool, str)

    Raises
    ------
    ValueError
        If that cannot be told, as of an output with NaN.
    """
    comparison = Comparison(model, x, in_action, out_action, None)
    if any(bool(y.isnan().any()) for y in comparison.plain):
        raise ValueError(
            "the model returns NaN, so that nothing can be compared: look at its weights and its forward"
        )
    tol = comparison.tolerance if tol is None else tol
    errors = comparison.errors()
    largest = max(worst.error for worst in errors.values())
    kept = largest <= tol
    lines = [f"relative error under {comparison.group!r}:"]
    for name, worst in errors.items():
        lines.append(
            f"  {name:<6} {worst.error:.1e}{'' if worst.error <= tol else f'   {worst.told}'}"
        )
    lines.append(
        f"{'equivariant' if kept else 'not equivariant'}: the largest is {largest:.1e}, allowed {tol:.1e}"
    )
    if kept and _constant(comparison.plain):
        lines.append(
            "note: the output is the same for all inputs, so that this says little: is the last layer "
            "initialised with zeros?"
        )
    if not kept:
        lines.append("the layers that break the law, the largest jump first:")
        try:
            layers = broken_layers(model, x, in_action)
            lines += [f"  {layer}" for layer in layers] or ["  none by itself: see the forward"]
        except (TypeError, ValueError) as error:
            lines.append(f"  not known: {error}")
        if hints := comparison.hints(tol, usual=[]):
            lines += ["what to look at:", *(f"  {hint}" for hint in hints)]
    return kept, "\n".join(lines)


def _constant(outputs: list[Tensor]) -> bool:
    """Whether each output has the same row for all inputs; of one input, one number over and over."""
    several = [y if len(y) > 1 else y.flatten() for y in outputs if y.ndim and y.numel() > 1]
    return bool(several) and all(bool((y == y[:1]).all()) for y in several)
