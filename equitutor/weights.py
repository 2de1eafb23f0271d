"""The weightings of the group average: uniform, least loss, learned lambda, attention.

A weighting sees the model's outputs for all views, M(g x), before they are moved back, and returns
one weight for each view of each input. The average stays equivariant as long as the weight of a
view depends only on that view g x (and on the set of all views), never on the index g: moving x by
h only reorders the views, and the weights follow.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .modes import at_least_float32, readable, rounding
from .options import Count, checked
from .pages import Module

__all__ = [
    "AttentionWeights",
    "LambdaNet",
    "LearnedWeights",
    "LeastLoss",
    "Uniform",
    "Weighting",
    "entropy",
    "max_value",
    "top_probability",
]


class Weighting(Module):
    """Base class: ``forward(outputs, inputs, n, batch) -> (|G|, B) weights`` or None for uniform.

    ``outputs`` are the model's for all ``|G| B`` views, ``inputs`` the (args, kwargs) it was run on.
    """

    straight_through = False

    def attach(self, model: nn.Module) -> None:
        """Called once with the wrapped model: raise ValueError if it does not suit this weighting."""

    def watch(self, model: nn.Module, call: Callable, *args: Any, **kwargs: Any) -> Any:
        """``call(*args, **kwargs)``, which runs the model, for weightings that read its submodules."""
        return call(*args, **kwargs)

    def ahead(self, inputs: tuple, n: int, batch: int) -> tuple[tuple, Tensor] | None:
        """The inputs to run and the weights, where these are known without the outputs: see :mod:`equitutor.choosers`."""
        return None

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor | None:
        raise NotImplementedError


class Uniform(Weighting):
    """``1 / |G|`` for every view: equi-tuning."""

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> None:
        return None


class LeastLoss(Weighting):
    r"""All weight on the view of least loss l(M(g x)): equizero. Views that tie share it.

    Two views tie if they are the same up to rounding, g x = h x, as for an input with a symmetry of its
    own; or if their losses are. Rounding decides which of such views comes out least, so taking one
    would let the output jump; their mean does not. "Up to rounding" is a relative difference of
    :math:`\epsilon^{3/4}` (:func:`equitutor.modes.rounding`, with the reason for it): for the inputs relative
    to the largest entry, for the losses to the least one, in the coarsest dtype of loss and outputs.
    Integers tie if they are equal.
    """

    straight_through = True

    def __init__(self, loss: Callable[[Any], Tensor]):
        super().__init__()
        if not callable(loss):
            raise TypeError(
                f"loss must be a function of the model's output, such as entropy; got {loss!r}"
            )
        self.loss = loss

    @torch.no_grad()
    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor:
        try:
            loss = self.loss(outputs)
        except (AttributeError, TypeError) as error:
            if isinstance(outputs, Tensor):
                raise
            raise TypeError(
                f"the loss of equizero is given the model's whole output, of type {type(outputs).__name__}, "
                f"and failed on it ({error}): let it take what it needs from there, e.g. "
                "loss=lambda out: entropy(out.logits), or out[0]"
            ) from error
        check_shape("the loss of equizero must return", loss, "(|G| B,)", (n * batch,))
        if readable(loss) and bool(loss.isnan().any()):
            raise ValueError(
                "the loss of equizero is NaN for some view, so no view has the least: check the "
                "model's output for NaN, and the loss for 0 * log 0"
            )
        loss = loss.reshape(n, batch)
        return shared_by_ties(loss, coarsest(loss, outputs), inputs, n)


def shared_by_ties(loss: Tensor, tol: float, inputs: tuple, n: int) -> Tensor:
    """Weights that share 1 among the views that tie for the least ``(|G|, B)`` loss."""
    tied = least(loss, tol) | _same_views(inputs, loss.argmin(0), n)
    weights = tied.to(at_least_float32(loss.dtype))
    return weights / weights.sum(0)


def least(loss: Tensor, tol: float) -> Tensor:
    """Which of ``(|G|, B)`` losses are the least of their input, up to ``tol`` times its size."""
    smallest = loss.amin(0)
    if not loss.is_floating_point():
        return loss == smallest
    loss, smallest = (t.to(at_least_float32(t.dtype)) for t in (loss, smallest))
    return (loss == smallest) | (loss <= smallest + tol * smallest.abs())  # == for infinities


def coarsest(loss: Tensor, outputs: Any) -> float:
    """The rounding of the coarsest dtype that took part in computing the loss."""
    dtypes = {t.dtype for t in (loss, *tree_leaves(outputs)) if isinstance(t, Tensor)}
    kind = loss.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        dtypes.add(torch.get_autocast_dtype(kind))
    return max(map(rounding, dtypes))


def _same_views(inputs: tuple, best: Tensor, n: int) -> Tensor:
    """Which views g x are the view of number ``best``, (B,), up to rounding: ``(|G|, B)`` bool."""
    same = torch.zeros(n, *best.shape, dtype=torch.bool, device=best.device)
    found = False
    for x in tree_leaves(inputs):
        if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[0] != n * best.shape[0]:
            continue
        views = x.flatten(1) if x.ndim > 1 else x[:, None]
        views = views.unflatten(0, (n, best.shape[0]))  # (|G|, B, entries)
        index = best[None, :, None].expand(1, -1, views.shape[-1])
        equal = _alike(views, views.gather(0, index)[0])
        same = same & equal if found else equal
        found = True
    return same


def _alike(views: Tensor, one: Tensor) -> Tensor:
    """Which ``(|G|, B, entries)`` are ``one`` (B, entries), up to rounding. A few entries tell most of them apart."""
    tol = rounding(views.dtype)
    allowed = tol * one.abs().amax(-1, keepdim=True) if tol else one[:, :1]

    def close(rows: Tensor | slice, entries: slice) -> Tensor:
        a, b = views[:, rows, entries], one[rows, entries]
        return ((a - b).abs() <= allowed[rows] if tol else a == b).all(-1)

    every = views.shape[-1] // 64
    if every < 2 or not readable(views):
        return close(slice(None), slice(None))
    equal = close(slice(None), slice(None, None, every))
    rows = (equal.sum(0) > 1).nonzero()[:, 0]
    if len(rows):
        equal[:, rows] = close(rows, slice(None))
    return equal


class _Tap:
    """A forward hook that keeps the output of the last run, and no reference to who wants it."""

    output: Any = None

    def __call__(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.output = output

    def __getstate__(self) -> dict:
        # An output is not state, and tensors with a gradient history cannot be copied.
        return {}


class _OnFeatures(Weighting):
    """A weighting that reads features of the views: the output, or that of a named submodule."""

    def __init__(self, features: str | None):
        super().__init__()
        self.features = features
        self._tap = _Tap()

    def attach(self, model: nn.Module) -> None:
        modules = dict(model.named_modules())
        if self.features is not None and self.features not in modules:
            first = [name for name in modules if name][:12]
            raise ValueError(
                f"the model has no submodule {self.features!r} to take features from; its submodules "
                f"begin with {first} (see model.named_modules())"
            )
        parts = (self.features or "").split(".")
        for outer in (".".join(parts[:k]) for k in range(len(parts))):
            if self.features and isinstance(getattr(modules[outer], "weighting", None), Weighting):
                raise ValueError(
                    f"{self.features!r} is inside an average, which runs it on views of its own: name the average "
                    f"itself, {outer!r}, or a module that contains it"
                    if outer
                    else f"{self.features!r} is inside the model's own average, which runs it on views of its own: "
                    "leave out features, so that the output is taken"
                )

    def watch(self, model: nn.Module, call: Callable, *args: Any, **kwargs: Any) -> Any:
        if self.features is None:
            return call(*args, **kwargs)
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            self._stay(model)
            return call(*args, **kwargs)
        # Only for this run: nothing of ours stays on the user's model.
        handle = model.get_submodule(self.features).register_forward_hook(self._tap)
        try:
            return call(*args, **kwargs)
        except BaseException:
            self._tap.output = None
            raise
        finally:
            handle.remove()

    def _stay(self, model: nn.Module) -> None:
        """Compiled code looks for the hooks it was made with, so that they stay as long as self does."""
        module = model.get_submodule(self.features)
        if self._tap not in module._forward_hooks.values():
            weakref.finalize(self, module.register_forward_hook(self._tap).remove)

    # All that torch.compiler.assume_constant_result does, which imports torch._dynamo, for seconds.
    _stay._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def take(self, outputs: Any, views: int) -> Tensor:
        """The features of all views, ``(|G| B, ...)``."""
        if self.features is None:
            taken = outputs
        elif self._tap.output is not None:
            taken, self._tap.output = self._tap.output, None
        else:
            raise RuntimeError(
                f"submodule {self.features!r} did not run in this forward pass, so there are no "
                "features to weight the views by"
            )
        if not isinstance(taken, Tensor):
            raise TypeError(
                f"the features must be one tensor, got {type(taken).__name__}: name a submodule that "
                "returns a tensor with features=..."
            )
        if taken.ndim == 0 or taken.shape[0] != views:
            raise ValueError(
                f"the features must have one row per view, |G| x B = {views}; got shape "
                f"{tuple(taken.shape)}"
            )
        return taken


class LearnedWeights(_OnFeatures):
    """lambda(g x) / sum_h lambda(h x) with a learned lambda >= 0: lambda-equitune.

    For ``net`` and ``features`` see :func:`equitutor.lambda_equitune`.
    """

    def __init__(self, net: nn.Module, features: str | None = None):
        super().__init__(features)
        self.net = net

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor:
        value = self.net(self.take(outputs, n * batch))
        if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 1:
            value = value[:, 0]
        check_shape("the lambda net must return", value, "(|G| B,)", (n * batch,))
        value = value.reshape(n, batch).to(at_least_float32(value.dtype))
        total = value.sum(0)
        valid = (value >= 0).all(0) & (total > 0) & total.isfinite()
        if readable(value) and not bool(valid.all()):
            raise ValueError(
                "the lambda net must return finite numbers >= 0, and not 0 for all views of an "
                f"input; got values from {value.min().item():.3g} to {value.max().item():.3g}. End "
                "it with softplus or exp, as LambdaNet does."
            )
        return value / total


class LambdaNet(Module):
    """lambda: features -> hidden -> hidden -> 1 positive number (NeurIPS paper: 100, 100, dropout 0.5).

    Parameters
    ----------
    in_features : int
        How many features one view has.
    hidden : int
        Width of the two hidden layers.
    dropout : float
        Dropout probability of the hidden layers.
    """

    def __init__(self, in_features: int, hidden: int = 100, dropout: float = 0.5):
        super().__init__()
        self.in_features = in_features = checked("in_features", Count, in_features)
        hidden = checked("hidden", Count, hidden)
        self.net = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, ...) features -> (N,) positive weights."""
        flat = features.flatten(1)
        if flat.shape[1] != self.in_features:
            raise ValueError(
                f"this LambdaNet takes {self.in_features} features but got {flat.shape[1]} (from a "
                f"tensor of shape {tuple(features.shape)}): make it with LambdaNet({flat.shape[1]}), or name "
                f"a layer that gives {self.in_features} with features=..."
            )
        # softplus in at least float32: under autocast small weights would round to exactly zero.
        # The floor keeps the sum over the group above zero.
        value = self.net(flat.to(self.net[0].weight.dtype))[:, 0]
        return nn.functional.softplus(value.to(at_least_float32(value.dtype))) + 1e-12


class AttentionWeights(_OnFeatures):
    """Attention over the views: softmax_g <query, key_g>, the query from the mean of the views.

    The mean does not depend on the order of the views, so the weights follow the views.

    Parameters
    ----------
    dim : int
        How many features one view has.
    key_dim : int
        Size of queries and keys.
    features : str, optional
        As for :func:`equitutor.lambda_equitune`.
    """

    def __init__(self, dim: int, key_dim: int = 32, features: str | None = None):
        super().__init__(features)
        dim, key_dim = checked("dim", Count, dim), checked("key_dim", Count, key_dim)
        self.query = nn.Linear(dim, key_dim)
        self.key = nn.Linear(dim, key_dim)

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor:
        views = self.take(outputs, n * batch).flatten(1).unflatten(0, (n, batch))  # (|G|, B, dim)
        if views.shape[-1] != self.key.in_features:
            raise ValueError(
                f"equiattention has dim={self.key.in_features}, but one view has "
                f"{views.shape[-1]} features: make it with dim={views.shape[-1]}"
            )
        dtype = self.key.weight.dtype
        mean = views.mean(0, dtype=at_least_float32(views.dtype))
        query, keys = self.query(mean.to(dtype)), self.key(views.to(dtype))
        query, keys = (t.to(at_least_float32(t.dtype)) for t in (query, keys))
        return ((query * keys).sum(-1) / keys.shape[-1] ** 0.5).softmax(0)


# -- losses for equizero: the smaller the better -----------------------------------------------


def entropy(logits: Tensor) -> Tensor:
    """-sum_k p_k log p_k of softmax(logits), (N, classes) -> (N,), in nats; 0 log 0 is 0."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)


def top_probability(logits: Tensor) -> Tensor:
    """Minus the largest class probability, (N, classes) -> (N,)."""
    return -logits.softmax(-1).amax(-1)


def max_value(values: Tensor) -> Tensor:
    """Minus the largest value, such as max_a Q(s, a), (N, actions) -> (N,)."""
    return -values.amax(-1)


def check_shape(what: str, value: Any, symbols: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the value is a tensor of this shape, one number per view."""
    # One size after the other: comparing the whole shape would fix the batch size in torch.export.
    if not isinstance(value, Tensor) or [*value.shape] != [*shape]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} one number per view, shape {symbols} = {tuple(shape)}; got {got}")
