"""What the experiments share: checks of their configs' fields, and the methods they compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ..actions import Action
from ..symmetrize import GroupAverage, equitune, equizero, lambda_equitune
from ..weights import LambdaNet, entropy

__all__ = ["check_choices", "last_part", "weighted"]


def check_choices(config: Any, **known: Iterable[str]) -> None:
    """Raise ValueError unless each of these fields of a config holds one or more known names."""
    for field, names in known.items():
        names = list(names)
        given = getattr(config, field)
        unknown = [name for name in given if name not in names]
        if unknown or not given:
            raise ValueError(f"{field} must be some of {', '.join(names)}; got {unknown or '()'}")


def last_part(path: str) -> str:
    """The last part of a path of any system, or of a model's name on a hub: it may be published."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def weighted(
    method: str,
    model: nn.Module,
    in_action: Action,
    out_action: Any = None,
    *,
    loss: Callable[[Any], Tensor] = entropy,
    width: int,
    features: str,
) -> GroupAverage:
    """A model under the weighting of its views that a method stands for.

    Parameters
    ----------
    method : str
        "lambda", one of "equizero..." with this ``loss``, or else the mean, equitune.
    model, in_action, out_action
        See :class:`equitutor.GroupAverage`.
    loss : callable
        What equizero minimises.
    width, features : int, str
        Of lambda: the size and the submodule of the features that it sees.
    """
    if method == "lambda":
        net = LambdaNet(width)
        return lambda_equitune(model, in_action, out_action, weight_net=net, features=features)
    if method.startswith("equizero"):
        return equizero(model, in_action, out_action, loss=loss)
    return equitune(model, in_action, out_action)
