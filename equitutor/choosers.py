r"""Weightings that are known before the model runs: canonicalisation, frames, sampling.

They look at the input alone, so that views of weight 0 need not be run: the big model sees one view a sample
(:class:`Canonical`), those of a frame (:class:`Frame`), or a few that are drawn (:class:`Sampled`).

What finds the orientation of an input is an equivariant network: it gives ``(B, |G|)`` scores, one for each
element, that move with the input as :class:`equitutor.Regular` says. The view g x is upright if x is in the
orientation g^-1, so w_g(x) is the score at g^-1. Any network that gives one number for each input will do,
too: it scores every view, and no law is asked of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .actionmap import unwrapped
from .groups import FiniteGroup
from .modes import at_least_float32, readable
from .nested import has_batch, map_tensors, named_leaves
from .options import Count, checked
from .weights import Weighting, check_shape, coarsest, shared_by_ties

__all__ = ["Canonical", "Frame", "Sampled", "prior_loss", "sampling_variance"]

#: How a chooser learns from the one view that was run.
GRADIENTS = ("straight-through", "softmax")


class _FromInput(Weighting):
    """Base of the weightings that look at the input alone.

    ``finder`` is called as the model is. With the attribute ``equivariant = True`` it sees the input and
    returns ``(B, |G|)``, which moves as :class:`equitutor.Regular`: this is checked once, on the first input that
    comes. Otherwise it sees every view and returns a number for each.
    """

    kind = "chooser"
    trains = True  # whether dropout and the like may break its law in train mode

    def __init__(self, group: FiniteGroup, finder: Callable, equivariant: bool):
        super().__init__()
        if not callable(finder) or isinstance(finder, type):
            raise TypeError(
                f"the {self.kind} must be a network (an instance, not the class) or a function of the model's "
                f"input, got {getattr(finder, '__name__', type(finder).__name__)}"
            )
        other = getattr(finder, "group", group)
        if other != group:
            raise ValueError(
                f"the actions are of {group!r}, but what finds the orientation is of {other!r}"
            )
        self.group, self.finder, self.equivariant = group, finder, equivariant
        self._names = _names(finder)
        self._kept = False  # whether the law of an equivariant finder was seen to hold
        self._upright = group.identity.index
        self._inverses = group.inverses.tolist()

    def found(self, inputs: tuple, n: int, batch: int) -> Tensor:
        """What the finder gives for each view, ``(|G|, B)``."""
        if not self.equivariant:
            value = self._call(*inputs)
            if isinstance(value, Tensor) and value.dtype == torch.bool:
                raise TypeError(
                    "the chooser returned booleans, but scores are compared: return a number for each input. "
                    "(A function that gives a set of elements is for frame_average.)"
                )
            if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == n > 1:
                raise ValueError(
                    f"the chooser returned |G| = {n} numbers for each view. A network whose (B, |G|) scores "
                    "move with the input, as Regular(group) says, is marked by chooser.equivariant = True; "
                    "any other must return one number for each input"
                )
            if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 1:
                value = value[:, 0]
            check_shape("the chooser must return", value, "(|G| B,)", (n * batch,))
            return value.reshape(n, batch)
        value = self._orientation(inputs, n, batch, self._upright)
        if not self._kept and batch and readable(value) and not (self.training and self.trains):
            self._check_law(inputs, n, batch, value)
            self._kept = True
        return value[:, self._inverses].T  # the view g^-1 x of an x in orientation g is upright

    def _call(self, args: tuple, kwargs: dict) -> Any:
        """Call the finder as the model is; a single argument that it knows by another name goes by position."""
        if kwargs and self._names is not None and not self._names.issuperset(kwargs):
            given = [value for value in kwargs.values() if has_batch(value)]
            if args or len(given) != 1:
                raise TypeError(
                    f"the {self.kind} is called as the model is, here with {len(args)} arguments by position and "
                    f"{', '.join(kwargs)} by name, but it does not take all of these names: give it the model's "
                    "names, or **kwargs for those that it does not look at"
                )
            args, kwargs = (given[0],), {}
        return self.finder(*args, **kwargs)

    def _orientation(self, inputs: tuple, n: int, batch: int, g: int) -> Tensor:
        """What the finder gives for g x, ``(B, |G|)``."""

        def view(_: Any, t: Tensor) -> Tensor:
            return t.unflatten(0, (n, batch))[g] if t.shape[0] == n * batch else t

        value = self._call(*map_tensors(view, inputs))
        check_shape(f"the {self.kind} must return", value, "(B, |G|)", (batch, n))
        return value

    @torch.no_grad()
    def _check_law(self, inputs: tuple, n: int, batch: int, plain: Tensor) -> None:
        """Raise ValueError unless f(g x) = g f(x) on the first input that comes: h x -> f at g h is f(x) at h."""
        table = self.group.table
        moved = [self._orientation(inputs, n, batch, g) for g in range(n)]
        tol = 10 * coarsest(plain, inputs)

        def broken(values: list[Tensor]) -> list[str]:
            same = [
                _agree(v[:, table[g]], values[self._upright], tol) for g, v in enumerate(values)
            ]
            return [name for name, kept in zip(self.group.names, same, strict=True) if not kept]

        wrong = broken(moved)
        if not wrong:
            return
        hint = "Does it look at the input alone, without random numbers?"
        if not broken([v[:, self._inverses] for v in moved]):
            hint = (
                "It gives the elements that bring the input upright, where it should give their inverses: "
                "return value[:, group.inverses]"
            )
        raise ValueError(
            f"the {self.kind} does not move with the input, at g = {', '.join(wrong)}: what it gives for g x at "
            f"g h must be what it gives for x at h, as Regular(group) says. {hint}"
        )


def _names(finder: Callable) -> frozenset[str] | None:
    """The names by which arguments may be given; None if that may be any, or is not known."""
    try:
        known = inspect.signature(getattr(finder, "forward", finder)).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in known):
        return None
    return frozenset(p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _agree(a: Tensor, b: Tensor, tol: float) -> bool:
    """Whether two tensors agree, up to ``tol`` times the size of b if they are floats."""
    if not b.is_floating_point():
        return torch.equal(a, b)
    return bool(((a - b).abs() <= tol * b.abs().amax()).all())


class _ByScore(_FromInput):
    """A probability for each view: the softmax of a chooser's scores."""

    def __init__(self, group: FiniteGroup, chooser: Callable):
        super().__init__(group, chooser, bool(getattr(chooser, "equivariant", False)))

    def scores(self, inputs: tuple, n: int, batch: int) -> Tensor:
        """The score of each view, ``(|G|, B)``."""
        scores = self.found(inputs, n, batch)
        if readable(scores) and scores.numel() and not bool(scores.amax(0).isfinite().all()):
            raise ValueError(
                "the chooser's score is NaN or infinite for some view, or -inf for all: check the input for NaN"
            )
        return scores


class Canonical(_ByScore):
    """All weight on the view that the chooser scores highest. Views that tie share it: :class:`equitutor.LeastLoss`.

    For the parameters see :func:`equitutor.canonicalize`.
    """

    def __init__(self, group: FiniteGroup, chooser: Callable, gradient: str = "straight-through"):
        super().__init__(group, chooser)
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}; got {gradient!r}")
        self.gradient = gradient
        self._learns = False

    def ahead(self, inputs: tuple, n: int, batch: int) -> tuple[tuple, Tensor]:
        scores = self.scores(inputs, n, batch)
        soft = scores.to(at_least_float32(scores.dtype)).softmax(0)
        if self.training and self.gradient == "softmax":
            return inputs, soft
        hard = shared_by_ties(-scores.detach(), coarsest(scores, inputs), inputs, n)
        if not soft.requires_grad:
            return inputs, hard
        through = soft - soft.detach()  # zero, with the gradient of the softmax
        if self.training and not self._has_gradient(inputs, n, batch):
            raise ValueError(
                "a straight-through gradient goes through the mean of the input's views, and integer ids have "
                'none: train the chooser with gradient="softmax"'
            )

        def mixed(_: Any, views: Tensor) -> Tensor:
            if views.shape[0] != n * batch or not _moves_smoothly(views):
                return views
            views = views.unflatten(0, (n, batch))
            w = through.to(views.dtype).reshape(n, batch, *[1] * (views.ndim - 2))
            mean = (w * views.masked_fill(~views.isfinite(), 0)).sum(0)
            return (views + mean).flatten(0, 1)

        return map_tensors(mixed, inputs), hard + through

    def _has_gradient(self, inputs: tuple, n: int, batch: int) -> bool:
        """Whether the gradient of the mean view can reach the chooser: looked at until it can."""
        leaves = [t for _, t in named_leaves(inputs) if has_batch(t) and isinstance(t, Tensor)]
        if not self._learns and all(map(readable, leaves)):
            views = [t.unflatten(0, (n, batch)) for t in leaves if t.shape[0] == n * batch]
            moved = [v for v in views if bool((v != v[:1]).any())]
            # Ids that move have no gradient, and floats that do not, such as a mask, take none to the chooser.
            leaves = moved if any(not v.is_floating_point() for v in moved) else leaves
            self._learns = any(map(_moves_smoothly, leaves))
        return any(map(_moves_smoothly, leaves))


def _moves_smoothly(value: Any) -> bool:
    return has_batch(value) and isinstance(value, Tensor) and value.is_floating_point()


class Frame(_FromInput):
    """Equal weights on a subset of the views, which a function of the input gives.

    For the parameters see :func:`equitutor.frame_average`.
    """

    kind, trains = "frame", False

    def __init__(self, group: FiniteGroup, frame: Callable):
        super().__init__(group, frame, equivariant=True)

    def ahead(self, inputs: tuple, n: int, batch: int) -> tuple[tuple, Tensor]:
        inside = self.found(inputs, n, batch)
        if inside.dtype != torch.bool:
            raise TypeError(
                f"a frame is a set of elements for each input: return (B, |G|) booleans, got {inside.dtype}"
            )
        count = inside.sum(0)
        if readable(count) and bool((count == 0).any()):
            row = int((count == 0).nonzero()[0])
            raise ValueError(f"the frame of input {row} is empty: it must hold an element or more")
        return inputs, inside.to(_precise(inside)) / count


class Sampled(_ByScore):
    """``samples`` views, drawn from the softmax of the chooser's scores without replacement.

    A view of probability p is drawn with pi = min(1, p / c), with c such that ``samples`` are drawn, and has the
    weight p / pi. So the weights sum to 1 and their mean is p; no other weights on as many views that have
    both are closer to p in the mean square (Fearnhead and Clifford, 2003). For the parameters see
    :func:`equitutor.stochastic_average`.
    """

    def __init__(self, group: FiniteGroup, chooser: Callable, samples: int):
        super().__init__(group, chooser)
        self.samples = checked("samples", Count, samples)
        if self.samples > len(group):
            raise ValueError(
                f"samples must be at most |G| = {len(group)}, which is exact; got {samples}"
            )

    def ahead(self, inputs: tuple, n: int, batch: int) -> tuple[tuple, Tensor]:
        scores = self.scores(inputs, n, batch)
        p = scores.to(_precise(scores)).softmax(0)
        if self.samples == n:
            return inputs, p
        pi = inclusion(p.detach(), self.samples)
        # One number a sample, and steps of 1 from it along the sum of pi: pi says how often one falls on g.
        start = torch.rand(batch, dtype=p.dtype, device=p.device)
        steps = (pi.cumsum(0) - start).ceil()
        drawn = (steps.diff(dim=0, prepend=(-start).ceil()[None]) > 0) | (pi == 1)
        return inputs, torch.where(drawn, p / pi.clamp_min(torch.finfo(p.dtype).tiny), 0)


def inclusion(p: Tensor, samples: int) -> Tensor:
    """The probabilities min(1, p / c) with which views are drawn, ``(|G|, B)``, summing to ``samples``."""
    if samples == len(p):
        return torch.ones_like(p)
    largest = p.sort(0, descending=True)[0]
    rest = largest.flip(0).cumsum(0).flip(0)  # rest[j]: of all but the j largest
    left = torch.arange(samples, 0, -1, device=p.device)[:, None]
    thresholds = rest[:samples] / left  # if the j largest are certain
    fits = largest[:samples] <= thresholds
    c = thresholds.gather(0, fits.to(torch.uint8).argmax(0, keepdim=True))
    return (p / c.clamp_min(torch.finfo(p.dtype).tiny)).clamp_max(1)


def sampling_variance(p: Tensor, samples: int) -> Tensor:
    r"""The sum over the views of the variance of their weights, when ``samples`` are drawn.

    .. math:: V(k) = \sum_g p_g^2\, (1 / \pi_g - 1), \qquad E\,|\hat M(x) - M(x)|^2 \le V(k) \sum_g |z_g - \bar z|^2

    with the terms z_g = g^-1 M(g x) and their plain mean: the weights' errors sum to 0, so that Cauchy and
    Schwarz give the bound. V falls to 0 at ``samples`` = ``|G|``.

    Parameters
    ----------
    p : ``(|G|, B)``
        The probabilities of the views, summing to 1 over the first dimension.
    samples : int
        k, from 1 to ``|G|``.

    Returns
    -------
    (B,) tensor
    """
    samples, p = checked("samples", Count, samples), torch.as_tensor(p)
    if p.ndim != 2 or not bool(((p.sum(0) - 1).abs() < 0.01).all() and (p >= 0).all()):
        raise ValueError(
            "p must be the probabilities of the views, (|G|, B), of sum 1 over the first dimension; got "
            f"shape {tuple(p.shape)}, sums from {p.sum(0).min():.3g} to {p.sum(0).max():.3g}"
        )
    if samples > len(p):
        raise ValueError(f"samples must be at most |G| = {len(p)}, got {samples}")
    pi = inclusion(p, samples)
    return torch.where(p > 0, p**2 * (1 / pi - 1), 0).sum(0)


def prior_loss(model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """Minus the mean log-probability of the identity: it teaches a chooser to leave upright inputs as they are.

    The prior regularisation of Mondal et al. (2023): the pretrained model was trained on upright inputs, and
    so is given such. Add it to the task's loss, with a weight, for a batch of inputs that are upright.

    Parameters
    ----------
    model : of :func:`equitutor.canonicalize` or :func:`equitutor.stochastic_average`
    args, kwargs
        Inputs of the model.

    Returns
    -------
    scalar tensor, in nats
    """
    model = unwrapped(model)
    weighting = getattr(model, "weighting", None)
    if not isinstance(weighting, _ByScore):
        raise TypeError(
            "prior_loss is of models made by canonicalize or stochastic_average, which have a chooser; got "
            f"{type(weighting or model).__name__}"
        )
    inputs, batch = model.moved(*args, **kwargs)
    log_p = weighting.scores(inputs, len(model.group), batch).log_softmax(0)
    return -log_p[weighting._upright].mean()


def _precise(like: Tensor) -> torch.dtype:
    """float64 where the device has it: weights such as 1/3 are then exact enough for any output."""
    return torch.float32 if like.device.type == "mps" else torch.float64
