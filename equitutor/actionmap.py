"""Which action moves which argument of a model, or which part of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_map

from .actions import Action, Trivial

__all__ = ["ActionMap", "Actions", "has_batch", "named_leaves"]

#: One action, or an action for each argument (or part of the output) that is moved.
Actions: TypeAlias = Action | Mapping[int | str, Action]


def has_batch(value: Any) -> bool:
    """A tensor with a batch dimension: what an action can move."""
    return isinstance(value, Tensor) and value.ndim > 0


def named_leaves(outputs: Any) -> list[tuple[tuple, Any]]:
    """Return (path, leaf) for all of a nested output."""
    # Not every release of transformers tells pytree the names in its outputs: as a plain dictionary
    # they have them.
    return tree_flatten_with_path({**outputs} if isinstance(outputs, dict) else outputs)[0]


class ActionMap(nn.Module):
    """One action for everything, or one for each key of the arguments or outputs."""

    def __init__(self, actions: Actions):
        super().__init__()
        single = isinstance(actions, Action)
        if not single and (
            not isinstance(actions, Mapping)
            or not actions
            or not all(isinstance(a, Action) for a in actions.values())
        ):
            raise TypeError(
                f"expected an Action, such as Rotations(cyclic(4)), or a dict of them; got "
                f"{type(actions).__name__}"
            )
        self.keys: list[int | str | None] = [None] if single else list(actions)
        self.actions = nn.ModuleList([actions] if single else actions.values())
        self.group = self.first.group
        for a in self.actions:
            if a.group != self.group:
                raise ValueError(
                    f"actions of different groups, {self.group!r} and {a.group!r}: all the actions "
                    "of one model must be of one group"
                )
        self.invariant = Trivial(self.group)

    @property
    def first(self) -> Action:
        return self.actions[0]

    @property
    def keyed(self) -> dict[int | str, Action]:
        """The actions by their keys; none where one action is for everything."""
        return {k: a for k, a in zip(self.keys, self.actions, strict=True) if k is not None}

    def over(self, named: dict) -> dict[int | str, Action]:
        """The arguments that are moved, with their actions."""
        if self.keys == [None]:
            tensors = (k for k, v in named.items() if has_batch(v))
            return dict.fromkeys(list(tensors)[:1], self.first)
        missing = [k for k in self.keys if k not in named]
        if missing:
            raise ValueError(
                f"the input action names argument {missing[0]!r}, but the call has {list(named)}"
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
        if self.keys == [None]:
            return self.first
        top = _top(path)
        return self.actions[self.keys.index(top)] if top in self.keys else self.invariant

    def require(self, paths: Iterable[tuple]) -> None:
        """Raise ValueError where an action names an output that is not there."""
        found = list(dict.fromkeys(map(_top, paths)))
        for key in self.keys:
            if key is not None and key not in found:
                raise ValueError(f"the output action names {key!r}, but the output has {found}")

    def map(self, wrap: Callable[[Action], Action]) -> ActionMap:
        """The same keys, with each action wrapped."""
        wrapped = {key: wrap(action) for key, action in self.keyed.items()}
        actions = ActionMap(wrapped or wrap(self.first))
        actions.invariant = wrap(self.invariant)
        return actions


def _move(action: Action, g: int, value: Any) -> Any:
    return action(g, value) if has_batch(value) else value


def _top(path: tuple) -> int | str:
    """The outermost key, position or field name of a path; a bare tensor stands at 0."""
    if not path:
        return 0
    top = path[0]
    return next(getattr(top, kind) for kind in ("key", "idx", "name") if hasattr(top, kind))
