r"""The methods: ways of making a pretrained model equivariant by the group average of its views.

All but :class:`RegularFeatures` are a :class:`equitutor.symmetrize.GroupAverage`, each with other weights:
the table is in :mod:`equitutor.symmetrize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .actionmap import ActionMap, Actions, action_maps
from .actions import Action, Regular
from .choosers import Canonical, Frame, Sampled
from .symmetrize import GroupAverage
from .trainable import average_of
from .weights import AttentionWeights, LearnedWeights, LeastLoss, Uniform

__all__ = [
    "RegularFeatures",
    "RegularFeaturesAction",
    "canonicalize",
    "equiattention",
    "equitune",
    "equizero",
    "frame_average",
    "lambda_equitune",
    "stochastic_average",
]


def equitune(
    model: nn.Module, in_action: Actions, out_action: Actions | None = None
) -> GroupAverage:
    r"""Equi-tuning (Basu et al., AAAI 2023, eq. 3): the mean of g^-1 M(g x) over the group.

    If the output action preserves lengths, this is the equivariant map closest to M in the sense of
    eq. 1: see chapter 3.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.

    Returns
    -------
    GroupAverage
        Called as the model is: :class:`equitutor.symmetrize.GroupAverage` says more.

    Raises
    ------
    TypeError, ValueError
        If the model is not an nn.Module, or the actions are not of one group.

    Examples
    --------
    >>> rot = Rotations(cyclic(4))
    >>> invariant = equitune(classifier, rot)          # the same scores for all four rotations
    >>> equivariant = equitune(backbone, rot, rot)     # feature maps that turn with the image
    """
    return average_of(model, in_action, out_action, Uniform())


def equizero(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    loss: Callable[[Any], Tensor],
) -> GroupAverage:
    """equizero (Basu et al., NeurIPS 2023): g*^-1 M(g* x) for the g* of least loss l(M(g x)).

    Gradients are straight-through: forward the chosen view, backward the mean of all.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    loss : callable
        Takes the model's output for N inputs and returns N numbers, the smaller the better, e.g.
        :func:`equitutor.entropy`, :func:`equitutor.top_probability` or :func:`equitutor.max_value`. Views that
        tie are averaged (:class:`equitutor.LeastLoss` says when they do), which keeps inputs with a
        symmetry of their own equivariant.
    """
    return average_of(model, in_action, out_action, LeastLoss(loss))


def lambda_equitune(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    weight_net: nn.Module,
    features: str | None = None,
) -> GroupAverage:
    """lambda-equitune (Basu et al., NeurIPS 2023): weights lambda(g x) / sum_h lambda(h x).

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    weight_net : nn.Module
        lambda: takes the features of N views, (N, ...), and returns N numbers >= 0, shape (N,) or
        (N, 1), e.g. :class:`equitutor.LambdaNet`.
    features : str, optional
        The name of the submodule of ``model`` whose output is the features, e.g. "avgpool".
        Default: the model's own output.
    """
    return average_of(model, in_action, out_action, LearnedWeights(weight_net, features))


def equiattention(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    dim: int,
    key_dim: int = 32,
    features: str | None = None,
) -> GroupAverage:
    """Attention over the views (Vlasenko et al., 2024): :class:`equitutor.AttentionWeights`.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    dim : int
        How many features one view has.
    key_dim : int
        Size of queries and keys.
    features : str, optional
        The name of the submodule whose output is the features. Default: the model's own output.
    """
    weighting = AttentionWeights(dim, key_dim, features)
    return average_of(model, in_action, out_action, weighting)


def canonicalize(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    chooser: Callable[..., Tensor],
    gradient: str = "straight-through",
) -> GroupAverage:
    """Canonicalisation (Kaba et al., 2023; Mondal et al., 2023): g*^-1 M(g* x) for the g* that a small network picks.

    The model runs on one view of each input, whatever the group. Where the choice jumps, so does the output.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    chooser : nn.Module, or a function
        Called as the model is. Any that gives one number for each of N inputs, (N,) or (N, 1): it
        scores all views, and the highest is chosen. Or an equivariant one, marked by the attribute
        ``equivariant = True``, such as :class:`equitutor.OrientationNet`: it sees the input alone and gives
        ``(B, |G|)`` scores that move as :class:`equitutor.Regular`. Views that tie are averaged
        (:class:`equitutor.LeastLoss` says when they do).
    gradient : "straight-through" or "softmax"
        How the chooser learns. "straight-through": forward the chosen view, backward as if the softmax of
        the scores had mixed the views of the input, and the outputs that are moved back. "softmax": in
        train mode the views are weighted by the softmax, exact and ``|G|`` passes; in eval mode one is chosen.

    Notes
    -----
    A chooser that was not trained picks views that the model has not met: teach it with :func:`prior_loss`.
    In a graph made by torch.compile or torch.export, whose shapes may not depend on values, all views are run.
    """
    group = action_maps(in_action, out_action)[0].group
    return average_of(model, in_action, out_action, Canonical(group, chooser, gradient))


def frame_average(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    frame: Callable[..., Tensor],
) -> GroupAverage:
    """Frame averaging (Puny et al., 2022): the mean of g M(g^-1 x) over the g of a frame F(x).

    Only the views of the frame are run. The whole group as the frame is :func:`equitune`.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    frame : callable
        Called as the model is; returns which elements are in F(x), ``(B, |G|)`` booleans, one or more for
        each input, with F(g x) = g F(x): h is in F(x) just if g h is in F(g x). So F(x) holds the elements
        that bring a canonical input to x, and their inverses are undone.

    Raises
    ------
    ValueError
        When it is run first, if the law fails on what it is run on; the message names the elements and the likely
        mistake. And whenever a frame is empty.
    """
    group = action_maps(in_action, out_action)[0].group
    return average_of(model, in_action, out_action, Frame(group, frame))


def stochastic_average(
    model: nn.Module,
    in_action: Actions,
    out_action: Actions | None = None,
    *,
    chooser: Callable[..., Tensor],
    samples: int,
) -> GroupAverage:
    """Stochastic symmetrisation (Kim et al., 2023): the average of views drawn from a learned distribution.

    The mean over the draws is the average with the softmax of the chooser's scores as weights, which is
    equivariant; a single draw is only so far as :func:`sampling_variance` says, and exactly if ``samples`` is
    ``|G|``. The draws take torch's random numbers, in train and eval mode.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    chooser : nn.Module, or a function
        As for :func:`canonicalize`. Its gradient has the mean of the exact one.
    samples : int
        How many views of each input are run, drawn without replacement: :class:`equitutor.choosers.Sampled`.
    """
    group = action_maps(in_action, out_action)[0].group
    return average_of(model, in_action, out_action, Sampled(group, chooser, samples))


class RegularFeatures(GroupAverage):
    """The ``|G|`` terms g M(g^-1 x), stacked instead of averaged (AAAI paper, appendix H).

    Returns ``(B, |G|, ...)`` for each tensor of the output. When x is moved, the output action moves
    the terms and the group's multiplication the new axis; ``out_action`` is that action. The mean
    over the group axis is :func:`equitune`.

    Parameters
    ----------
    model : nn.Module
        The pretrained model M.
    in_action : Action, or dict {argument: Action}
        How the group moves the input: one action for the first argument that holds a tensor, or an action for
        each argument that is moved, by position or name.
    out_action : Action, or dict {key: Action}, optional
        How it moves the output. Default: not at all, the output is invariant. Of several outputs a dict
        says which move, by position, key or field name.
    """

    def __init__(self, model: nn.Module, in_action: Actions, out_action: Actions | None = None):
        super().__init__(model, in_action, out_action)

    @property
    def result_actions(self) -> ActionMap:
        """The actions on the regular features, :class:`RegularFeaturesAction`."""
        return self.out_actions.map(RegularFeaturesAction)

    def _merge(self, y: Tensor, action: Action, weights: Tensor | None) -> Tensor:
        y = y.unflatten(0, (len(self.group), -1))  # (|G|, B, ...)
        # h M(h^-1 x) is at index h, so that the axis moves by the left regular representation.
        return torch.stack([action.undo(g, y[g]) for g in action.inverse_of], 1)  # (B, |G|, ...)


class RegularFeaturesAction(Action):
    """g moves the group axis of ``(B, |G|, ...)`` by left multiplication, and each term by g."""

    def __init__(self, action: Action):
        super().__init__(action.group)
        self.action = action
        self.axis = Regular(action.group, dim=1)

    def act(self, g: int, x: Tensor) -> Tensor:
        x = self.axis.act(g, x)  # (B, |G|, ...); each term is then moved, as a batch of B |G|
        return self.action.act(g, x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def validate(self, x: Tensor) -> None:
        self.axis.validate(x)
        self.action.validate(x.flatten(0, 1))
