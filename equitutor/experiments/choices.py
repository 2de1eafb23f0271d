"""The methods that experiments compare: from a name to the weighting of a model's views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..actions import Action
from ..methods import equiattention, equitune, equizero, lambda_equitune
from ..symmetrize import GroupAverage
from ..weights import LambdaNet, entropy

__all__ = ["weighted"]


def weighted(
    method: str,
    model: nn.Module,
    in_action: Action,
    out_action: Any = None,
    *,
    loss: Callable[[Any], Tensor] = entropy,
    width: int,
    features: str | None,
) -> GroupAverage:
    """A model under the weighting of its views that a method stands for.

    Parameters
    ----------
    method : str
        "lambda", "attention", "equizero" or one of its kind, such as "equizero-top", with this ``loss``,
        "equitune", or "none": the mean over a group that has one element.
    model, in_action, out_action
        See :class:`equitutor.GroupAverage`.
    loss : callable
        What equizero minimises.
    width, features : int, str or None
        Of lambda and attention: the size and the submodule of the features that they see; None: the
        model's own output.
    """
    if method == "lambda":
        net = LambdaNet(width)
        return lambda_equitune(model, in_action, out_action, weight_net=net, features=features)
    if method == "attention":
        return equiattention(model, in_action, out_action, dim=width, features=features)
    if method.startswith("equizero"):
        return equizero(model, in_action, out_action, loss=loss)
    if method not in ("none", "equitune"):
        raise ValueError(
            f"method must be none, equitune, equizero, lambda or attention; got {method!r}"
        )
    return equitune(model, in_action, out_action)
