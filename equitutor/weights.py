"""The weightings of the group average: uniform, least loss, learned lambda, attention.

A weighting sees the model's outputs for all views, M(g x), before they are moved back, and returns
one weight for each view of each input. The average stays equivariant as long as the weight of a
view depends only on that view g x (and on the set of all views), never on the index g: moving x by
h only reorders the views, and the weights follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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


class Weighting(nn.Module):
    """Base class: ``forward(outputs, inputs, n, batch) -> (|G|, B) weights`` or None for uniform.

    ``outputs`` are the model's for all ``|G| B`` views, ``inputs`` the (args, kwargs) it was run on.
    """

    straight_through = False

    def attach(self, model: nn.Module) -> None:
        """Called once with the wrapped model, for weightings that read its submodules."""

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor | None:
        raise NotImplementedError


class Uniform(Weighting):
    """``1 / |G|`` for every view: equi-tuning."""

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> None:
        return None


class LeastLoss(Weighting):
    """All weight on the view of least loss l(M(g x)): equizero. Equal losses share it."""

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
        loss = self.loss(outputs)
        check_shape("the loss of equizero must return", loss, "(|G| B,)", (n * batch,))
        if _readable(loss) and bool(loss.isnan().any()):
            raise ValueError(
                "the loss of equizero is NaN for some view, so no view has the least: check the "
                "model's output for NaN, and the loss for 0 * log 0"
            )
        loss = loss.reshape(n, batch)
        least = (loss == loss.amin(0)).to(_at_least_float32(loss.dtype))
        return least / least.sum(0)


class _OnFeatures(Weighting):
    """A weighting that reads features of the views: the output, or that of a named submodule."""

    def __init__(self, features: str | None):
        super().__init__()
        self.features = features
        self._captured: list[Tensor] = []

    def attach(self, model: nn.Module) -> None:
        if self.features is None:
            return
        modules = dict(model.named_modules())
        if self.features not in modules:
            first = [name for name in modules if name][:12]
            raise ValueError(
                f"the model has no submodule {self.features!r} to take features from; its submodules "
                f"begin with {first} (see model.named_modules())"
            )
        # A bound method, not a closure: it survives copying and pickling of the whole wrapper.
        modules[self.features].register_forward_hook(self._capture)

    def _capture(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._captured[:] = [output]

    def __getstate__(self) -> dict:
        # Features captured in a run of the bare model are not state, and tensors with a gradient
        # history cannot be copied.
        return {**self.__dict__, "_captured": []}

    def take(self, outputs: Any, views: int) -> Tensor:
        """The features of all views, ``(|G| B, ...)``."""
        if self.features is None:
            taken = outputs
        elif self._captured:
            taken = self._captured.pop()
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
        if taken.ndim == 0 or len(taken) != views:
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
        value = value.reshape(n, batch)
        total = value.sum(0)
        valid = (value >= 0).all(0) & (total > 0) & total.isfinite()
        if _readable(value) and not bool(valid.all()):
            raise ValueError(
                "the lambda net must return finite numbers >= 0, and not 0 for all views of an "
                f"input; got values from {value.min().item():.3g} to {value.max().item():.3g}. End "
                "it with softplus or exp, as LambdaNet does."
            )
        return value / total


class LambdaNet(nn.Module):
    """lambda: features -> hidden -> hidden -> 1 positive number (NeurIPS paper: 100, 100, dropout 0.5).

    Parameters
    ----------
    in_features : int
        Features of one view, flattened.
    hidden : int
        Width of the two hidden layers.
    dropout : float
        Dropout probability of the hidden layers.
    """

    def __init__(self, in_features: int, hidden: int = 100, dropout: float = 0.5):
        super().__init__()
        self.in_features = in_features
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
                f"tensor of shape {tuple(features.shape)}): make it with LambdaNet({flat.shape[1]})"
            )
        # softplus in at least float32: under autocast small weights would round to exactly zero.
        # The floor keeps the sum over the group above zero.
        value = self.net(flat.to(self.net[0].weight.dtype))[:, 0]
        return nn.functional.softplus(value.to(_at_least_float32(value.dtype))) + 1e-12


class AttentionWeights(_OnFeatures):
    """Attention over the views: softmax_g <query, key_g>, the query from the mean of the views.

    The mean does not depend on the order of the views, so the weights follow the views.

    Parameters
    ----------
    dim : int
        Features of one view, flattened.
    key_dim : int
        Size of queries and keys.
    features : str, optional
        As for :func:`equitutor.lambda_equitune`.
    """

    def __init__(self, dim: int, key_dim: int = 32, features: str | None = None):
        super().__init__(features)
        self.query = nn.Linear(dim, key_dim)
        self.key = nn.Linear(dim, key_dim)

    def forward(self, outputs: Any, inputs: tuple, n: int, batch: int) -> Tensor:
        views = self.take(outputs, n * batch).flatten(1).unflatten(0, (n, batch))  # (|G|, B, dim)
        if views.shape[-1] != self.key.in_features:
            raise ValueError(
                f"equiattention has dim={self.key.in_features}, but one view has "
                f"{views.shape[-1]} features: make it with dim={views.shape[-1]}"
            )
        views = views.to(self.key.weight.dtype)
        query, keys = self.query(views.mean(0)), self.key(views)
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


def _readable(values: Tensor) -> bool:
    """Whether values can be inspected: not while compiling, nor on the meta device."""
    return not (torch.compiler.is_compiling() or values.is_meta)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def check_shape(what: str, value: Any, symbols: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the value is a tensor of this shape, one number per view."""
    if not isinstance(value, Tensor) or value.shape != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} one number per view, shape {symbols} = {tuple(shape)}; got {got}")
