r"""The one formula of this library: the weighted group average.

.. math::  M_G(x) = \sum_{g \in G} w_g(x)\, g^{-1} M(g x), \qquad \sum_g w_g(x) = 1

Every method is a weighting w, every task a pair of actions, on the input and on the output:

=============== ======================================= ===============================
equitune        w = 1 / ``|G|``                         Basu et al., AAAI 2023, eq. 3
equizero        w = 1 for the g of least loss l(M(gx))  Basu et al., NeurIPS 2023
lambda-equitune w = lambda(gx) / sum_h lambda(hx)       Basu et al., NeurIPS 2023
equiattention   w = attention over the views            Vlasenko et al., 2024
canonicalize    w = 1 for the g that a small net picks  Kaba et al., 2023
frame average   w = 1 / ``|F(x)|`` for the g of a frame Puny et al., 2022
stochastic      w = p / pi for the g that are drawn     Kim et al., 2023
=============== ======================================= ===============================

The views g x of a batch are folded into the batch: the model runs once, on ``|G| B`` inputs, or only on the
views that have weight where the weights are known before. The methods of the table are in
:mod:`equitutor.methods`, their weights in :mod:`equitutor.weights` and :mod:`equitutor.choosers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from .actionmap import ActionMap, Actions, Key, Signature, action_maps
from .actions import Action, check_strided
from .modes import at_least_float32, readable
from .nested import has_batch, map_leaves, map_tensors, named_leaves, where
from .pages import Module
from .weights import Uniform, Weighting, check_shape

__all__ = ["GroupAverage", "group_average"]


def group_average(
    outputs: Tensor,
    action: Action,
    weights: Tensor | None = None,
    straight_through: bool = False,
) -> Tensor:
    """sum_g w_g g^-1 y_g: the weighted average of the outputs of the views, moved back.

    Parameters
    ----------
    outputs : ``(|G| B, ...)`` floats
        y_g = M(g x) for all g, folded into the batch as :meth:`Action.views` does, g slowest.
    action : Action
        The action on the output.
    weights : ``(|G|, B)``, optional
        w_g(x), summing to 1 over g. None is the uniform ``1 / |G|`` (the Reynolds operator).
    straight_through : bool
        Forward with ``weights``, backward as if they were uniform: every view learns, even where
        only one was chosen.

    Returns
    -------
    (B, ...) tensor of the dtype of ``outputs``

    Raises
    ------
    TypeError
        If the outputs are not a tensor.
    ValueError
        If the outputs are integers (the mean of class numbers is meaningless) or not ``|G| B`` rows
        that the action fits, or if the weights are not ``(|G|, B)`` on the same device.
    """
    n = len(action.group)
    views = _unfold(outputs, n)  # (|G|, B, ...)
    action.validate_batch(views[0])
    if weights is None:
        return uniform_average(views, action)
    check_shape("the weights must be", weights, "(|G|, B)", views.shape[:2])
    if weights.device != views.device:
        raise ValueError(f"the weights are on {weights.device}, the outputs on {views.device}")
    w = weights.to(at_least_float32(outputs.dtype)).reshape(n, -1, *[1] * (views.ndim - 2))

    def term(g: int) -> Tensor:
        # Not w * y alone: masked scores of -inf in a view of weight 0 would give 0 * inf.
        if not w.requires_grad:
            return torch.where(w[g] != 0, w[g] * action.undo(g, views[g]), 0)
        kept = torch.where(
            (w[g] != 0) | views[g].isfinite(), views[g], 0
        )  # a weight of 0 may learn
        return w[g] * action.undo(g, kept)

    terms = map(term, range(n))
    total = next(terms)
    for term in terms:
        total += term
    chosen = total.to(outputs.dtype)
    if not (straight_through and _differentiated(outputs)):
        return chosen
    # uniform - uniform is exactly zero, so the value is that of the chosen views and the gradient
    # that of the mean. Scores of -inf are left out: their mean has no gradient.
    uniform = uniform_average(views, action)
    zero = torch.where(uniform.isfinite(), uniform - uniform.detach(), 0)
    return chosen.detach() + zero


def uniform_average(views: Iterable[Tensor], action: Action) -> Tensor:
    """The mean of g^-1 y_g for the outputs y_g of the views, in the order of the group's elements.

    Views are consumed one at a time, so a generator need never hold more than one in memory. The sum is
    kept in at least float32 and divided by a power of two on the way: it does not overflow where the
    views do not, and the mean is rounded to their dtype once.
    """
    n = len(action.group)
    scale = 2.0 ** -(n - 1).bit_length()
    rest = iter(views)
    first = action.undo(0, next(rest))
    total = first.to(at_least_float32(first.dtype)) * scale
    # In place: scores of a large vocabulary are not copied each time.
    for g, y in enumerate(rest, 1):
        total.add_(action.undo(g, y), alpha=scale)
    return total.div_(n * scale).to(first.dtype)


def _differentiated(outputs: Tensor) -> bool:
    """Whether gradients will be asked for, backward or (torch.func.jvp) forward."""
    if outputs.requires_grad or torch.compiler.is_compiling():
        return outputs.requires_grad
    return unpack_dual(outputs).tangent is not None


def _unfold(outputs: Tensor, n: int) -> Tensor:
    """``(|G| B, ...)`` outputs that can be averaged, as ``(|G|, B, ...)``."""
    if not isinstance(outputs, Tensor):
        raise TypeError(f"the outputs must be a tensor, got {type(outputs).__name__}")
    if not (outputs.is_floating_point() or outputs.is_complex()):
        raise ValueError(
            f"an output of dtype {outputs.dtype} has no average: return scores from the model, and "
            "take the argmax after the average"
        )
    check_strided(outputs)
    if outputs.ndim == 0 or outputs.shape[0] % n:
        raise ValueError(
            f"the first dimension must be the batch of all views, |G| x B with |G| = {n}; got shape "
            f"{tuple(outputs.shape)}"
        )
    return outputs.unflatten(0, (n, outputs.shape[0] // n))


def _rows(inputs: Any, rows: Tensor, count: int) -> Any:
    """Of ``count`` views only those of these rows, in every tensor that has a row for each."""
    return map_tensors(lambda _, t: t[rows.to(t.device)] if t.shape[0] == count else t, inputs)


def _spread(outputs: Any, rows: Tensor | None, weights: Tensor) -> Any:
    """The outputs of the views that were run, ``(R, ...)``, as those of all, ``(|G| B, ...)``.

    A view of weight 0 is given the output of one of the same input that has weight. ``rows``: which views were
    run; None: all.
    """
    n, batch = weights.shape
    every = torch.arange(n * batch, device=weights.device)
    first = (weights.argmax(0) * batch + every[:batch]).repeat(n)
    place = torch.where(weights.flatten() != 0, every, first)
    if rows is not None:
        place = torch.searchsorted(rows, place)
    count = n * batch if rows is None else len(rows)
    return map_tensors(lambda _, y: y[place.to(y.device)] if y.shape[0] == count else y, outputs)


class GroupAverage(Module):
    """A model made equivariant: the weighted average of g^-1 M(g x) over the group.

    Made by :func:`equitutor.equitune` and its relatives, which differ only in the weighting.

    Parameters
    ----------
    model : nn.Module
        The pretrained M. It is a registered submodule, ``self.model``: trained, moved and saved.
    in_action : Action, or dict {argument: Action}
        The action on the input. A single action moves the first argument that holds a tensor, in the
        order of the parameters of the model's forward; a dict says, by position (int) or name
        (str), which arguments are moved, however the call gives them. All other tensor arguments
        are repeated for each view. Tensors have the batch as their first dimension; those of one
        row are shared by the batch, as in the model itself. Tensors and numpy arrays are also found
        in dicts, tuples and dataclasses.
    out_action : Action, or dict {key: Action}, optional
        The action on the output; None for an invariant output. If the model returns a tuple, a
        dict, a dataclass or a Hugging Face ModelOutput, a single action moves all its tensors; a dict
        says, by position (int), key or field name (str), which ones are moved, and the others are
        invariant.
    weighting : Weighting, optional
        How the views are weighted. Default: :class:`Uniform`.

    Raises
    ------
    TypeError
        If the model is not an nn.Module.
    ValueError
        If the actions are of different groups; and, when run, if an action does not fit the input
        or the output, or if an output cannot be averaged (no batch dimension, not a tensor).
    """

    def __init__(
        self,
        model: nn.Module,
        in_action: Actions,
        out_action: Actions | None = None,
        weighting: Weighting | None = None,
    ):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"the model must be an nn.Module, so that it trains, moves and saves with the wrapper; "
                f"got {type(model).__name__}. Call a function or a method in the forward of a module."
            )
        self.model = model
        self.in_actions, self.out_actions = action_maps(in_action, out_action)
        self.group = self.in_actions.group
        self.signature = Signature.of(model)
        self.weighting = Uniform() if weighting is None else weighting
        self.weighting.attach(model)

    @property
    def in_action(self) -> Action:
        """The action on the first input."""
        return self.in_actions.first

    @property
    def out_action(self) -> Action:
        """The action on the first output."""
        return self.result_actions.first

    @property
    def result_actions(self) -> ActionMap:
        """The actions on the outputs of this module: here the same as on the model's outputs."""
        return self.out_actions

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The average for the model's own arguments: what the model returns, with B rows in each tensor."""
        return self._combine(*self._run(args, kwargs))

    def weights(self, *args: Any, **kwargs: Any) -> Tensor:
        """The weights w_g(x) of the views of the inputs, ``(|G|, B)``, summing to 1 over g."""
        inputs, batch = self.moved(*args, **kwargs)
        if ahead := self.weighting.ahead(inputs, len(self.group), batch):
            return ahead[1]
        outputs, weights, batch = self._run(args, kwargs)
        if weights is None:
            n = len(self.group)
            device = next((t.device for _, t in named_leaves(outputs) if has_batch(t)), None)
            return torch.full((n, batch), 1 / n, device=device)
        return weights

    def views(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs for all views, before they are moved back: ``(|G| B, ...)``, g slowest.

        In place of a view that has weight 0 and was not run stands the output of one that was.
        """
        return self._run(args, kwargs)[0]

    def moved(self, *args: Any, **kwargs: Any) -> tuple[tuple[tuple, dict], int]:
        """The (args, kwargs) of all views, each tensor ``(|G| B, ...)``, and the batch size B."""
        return self._views(args, kwargs)

    def _run(self, args: tuple, kwargs: dict) -> tuple[Any, Tensor | None, int]:
        """The model's outputs for all views, their weights, and the batch size."""
        if torch.jit.is_tracing():
            raise RuntimeError(
                "torch.jit.trace would keep the batch size of its example: use torch.export.export "
                "with dynamic_shapes (or torch.onnx.export with dynamo=True)"
            )
        moved, batch = self.moved(*args, **kwargs)
        n = len(self.group)
        rows = None
        if ahead := self.weighting.ahead(moved, n, batch):
            moved, weights = ahead
            if readable(weights):  # in a graph that is compiled, shapes may not depend on values
                rows = weights.detach().flatten().nonzero()[:, 0]
        run = moved if rows is None else _rows(moved, rows, n * batch)
        try:
            outputs = self.weighting.watch(self.model, self.model, *run[0], **run[1])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            self._explain(args, kwargs, error)
            raise
        if ahead is None:
            return outputs, self.weighting(outputs, moved, n, batch), batch
        return _spread(outputs, rows, weights), weights, batch

    def _combine(self, outputs: Any, weights: Tensor | None, batch: int) -> Any:
        """The outputs, with the views of each tensor merged."""
        self.out_actions.require(path for path, _ in named_leaves(outputs))

        def merged(path: tuple, y: Any) -> Any:
            array = has_batch(y) and not isinstance(y, Tensor)
            y = torch.as_tensor(y) if array else y
            mean = self._merge(y, self._action_on(path, y, batch), weights)
            return mean.numpy() if array else mean

        return map_leaves(merged, outputs)

    def _merge(self, y: Tensor, action: Action, weights: Tensor | None) -> Tensor:
        return group_average(y, action, weights, self.weighting.straight_through)

    def _action_on(self, path: tuple, y: Any, batch: int) -> Action:
        """The action on the output y at this path, checked to fit it."""
        n = len(self.group)
        name = "output" + where(path)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"{name} is a {type(y).__name__}, which has no group average. Ask the model "
                "not to return it (e.g. use_cache=False), or wrap the model so that it returns "
                "tensors only."
            )
        if y.ndim == 0 or y.shape[0] != n * batch:
            raise ValueError(
                f"{name} has shape {tuple(y.shape)}; its first dimension should be the batch of "
                f"all views, |G| x B = {n} x {batch} = {n * batch}. Return one row per input; take a "
                "loss, say, after the average. A single input needs a batch dimension: x[None]."
            )
        action = self.out_actions.get(path)
        try:
            action.validate_batch(y[:batch])
        except ValueError as error:
            raise ValueError(f"the output action does not fit {name}: {error}") from error
        return action

    def _views(self, args: tuple, kwargs: dict) -> tuple[tuple[tuple, dict], int]:
        """The arguments for all views, moved or repeated, and the batch size."""
        named = self.signature.bind(args, kwargs)
        actions = self.in_actions.over(named, self.signature)
        sizes = {
            (key, path): t.shape[0]
            for key in dict.fromkeys([*actions, *named])  # those that are moved first
            for path, t in named_leaves(named[key])
            if has_batch(t)
        }
        reached = {key for key, _ in sizes}
        for key in actions:
            if isinstance(named[key], list):
                raise ValueError(
                    f"argument {key!r} is a list of {len(named[key])}: make it one tensor with the batch "
                    "in front, torch.stack(images) say, padded to one size where sizes differ"
                )
        # An argument that is moved may be left out (None), but not all of them.
        missed = [key for key in actions if key not in reached and named[key] is not None]
        if missed or reached.isdisjoint(actions):
            raise ValueError(
                f"no tensor with a batch dimension to act on: the input action is for argument "
                f"{', '.join(map(repr, missed or actions)) or '0'}, the call has {list(named)}"
            )
        batch = next(iter(sizes.values()))
        for (key, _), size in sizes.items():
            if size == batch:
                continue
            if batch == 1:
                batch = size
            elif size != 1:
                raise ValueError(
                    f"argument {key!r} has {size} rows but the input {batch}: tensor arguments "
                    "need the batch as their first dimension"
                )

        def views(key: Key, value: Any) -> Any:
            return map_tensors(lambda _, t: self._fold(t, batch, actions.get(key)), value)

        moved = tuple(views(self.signature.key(i), value) for i, value in enumerate(args))
        return (moved, {key: views(key, value) for key, value in kwargs.items()}), batch

    def _fold(self, value: Tensor, batch: int, action: Action | None) -> Tensor:
        """All views of one tensor, ``(B, ...) -> (|G| B, ...)``; repeated if it has no action."""
        check_strided(value)
        if action is None:
            if value.shape[0] != batch:  # one row, which the model itself spreads over the batch
                return value
            return value.repeat(len(self.group), *[1] * (value.ndim - 1))
        if value.shape[0] != batch:
            value = value.expand(batch, *value.shape[1:])
        return action.views(value)

    def _explain(self, args: tuple, kwargs: dict, error: Exception) -> None:
        """Raise a ValueError if the model failed on what may be an input without a batch dimension."""
        named = self.signature.bind(args, kwargs)
        for key, action in self.in_actions.over(named, self.signature).items():
            for _, x in named_leaves(named[key]):
                if has_batch(x) and x.ndim == action.dims + 1:
                    raise ValueError(
                        f"the model failed on the views of argument {key!r} of shape {tuple(x.shape)}, "
                        f"whose first dimension is taken as the batch: is it a single input? Then give "
                        f"x[None], with a batch dimension. The model's own words: {error}"
                    ) from error
