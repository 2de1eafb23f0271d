"""Which action moves which argument of a model, or which part of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_map

from .actions import Action, Trivial

__all__ = ["ActionMap", "Actions", "action_maps", "check_same_group", "has_batch", "named_leaves"]

#: One action, or an action for each argument (or part of the output) that is moved.
Actions: TypeAlias = Action | Mapping[int | str, Action]


def has_batch(value: Any) -> bool:
    """Whether value is a tensor with a batch dimension, which an action can move."""
    return isinstance(value, Tensor) and value.ndim > 0


def named_leaves(outputs: Any) -> list[tuple[tuple, Any]]:
    """(path, leaf) for every leaf of a nested output."""
    # Some releases of transformers do not tell pytree the field names of a ModelOutput; a plain dict
    # always has them.
    return tree_flatten_with_path({**outputs} if isinstance(outputs, dict) else outputs)[0]


class ActionMap(nn.Module):
    """One action for everything, or one for each key of the arguments or outputs."""

    def __init__(self, actions: Actions):
        super().__init__()
        named = {None: actions} if isinstance(actions, Action) else actions
        if (
            not isinstance(named, Mapping)
            or not named
            or not all(isinstance(a, Action) for a in named.values())
        ):
            raise TypeError(
                f"expected an Action, such as Rotations(cyclic(4)), or a dict of them; got "
                f"{type(actions).__name__}"
            )
        self.keys: list[int | str | None] = list(named)
        self.actions = nn.ModuleList(named.values())
        self.group = self.first.group
        for a in self.actions:
            if a.group != self.group:
                raise ValueError(
                    f"actions of different groups, {self.group!r} and {a.group!r}: all the actions "
                    "of one model must be of the same group"
                )
        self.invariant = Trivial(self.group)

    @property
    def first(self) -> Action:
        """The only action, or that of the first key."""
        return self.actions[0]

    @property
    def keyed(self) -> dict[int | str, Action]:
        """The actions by key; empty where one action is for everything."""
        return {k: a for k, a in zip(self.keys, self.actions, strict=True) if k is not None}

    def over(self, named: dict) -> dict[int | str, Action]:
        """The actions of those arguments that are moved: one alone moves the first tensor."""
        if self.keys == [None]:
            tensors = [k for k, v in named.items() if has_batch(v)]
            return dict.fromkeys(tensors[:1], self.first)
        for key in self.keys:
            if key not in named:
                raise ValueError(
                    f"the input action names argument {key!r}, but the call has {list(named)}"
                )
        return self.keyed

    def move(self, g: int, x: Any) -> Any:
        """g x for a tensor, a tuple of positional or a dict of keyword arguments."""
        if isinstance(x, Tensor):
            return self.move(g, (x,))[0]
        named = dict(x) if isinstance(x, Mapping) else dict(enumerate(x))
        for key, action in self.over(named).items():
            named[key] = tree_map(partial(_move, action, g), named[key])
        return named if isinstance(x, Mapping) else tuple(named.values())

    def get(self, path: tuple) -> Action:
        """The action for the output at this path of the nested structure."""
        return self.first if self.keys == [None] else self.keyed.get(_top(path), self.invariant)

    def require(self, paths: Iterable[tuple]) -> None:
        """Raise ValueError if an action names an output that is missing."""
        present = list(dict.fromkeys(map(_top, paths)))
        for key in self.keys:
            if key is not None and key not in present:
                raise ValueError(f"the output action names {key!r}, but the output has {present}")

    def map(self, wrap: Callable[[Action], Action]) -> ActionMap:
        """The same keys, with each action wrapped."""
        wrapped = {key: wrap(action) for key, action in self.keyed.items()}
        actions = ActionMap(wrapped or wrap(self.first))
        actions.invariant = wrap(self.invariant)
        return actions


def check_same_group(in_action: Any, out_action: Any) -> None:
    """Raise ValueError unless both are of the same group."""
    if in_action.group != out_action.group:
        raise ValueError(
            f"the input action is of {in_action.group!r} but the output action of "
            f"{out_action.group!r}: both must be actions of the same group"
        )


def action_maps(
    in_action: Actions | ActionMap, out_action: Actions | ActionMap | None
) -> tuple[ActionMap, ActionMap]:
    """The actions of one group on input and output, as maps; None is an invariant output."""
    ins = in_action if isinstance(in_action, ActionMap) else ActionMap(in_action)
    if out_action is None:
        out_action = Trivial(ins.group)
    outs = out_action if isinstance(out_action, ActionMap) else ActionMap(out_action)
    check_same_group(ins, outs)
    return ins, outs


def _move(action: Action, g: int, value: Any) -> Any:
    return action(g, value) if has_batch(value) else value


def _top(path: tuple) -> int | str:
    """The outermost key, position or field name of a path; a bare tensor is at 0."""
    if not path:
        return 0
    top = path[0]
    return next(getattr(top, kind) for kind in ("key", "idx", "name") if hasattr(top, kind))
