"""Which action moves which argument of a model, or which part of its output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.optim.swa_utils import AveragedModel

from .actions import Action, Trivial
from .nested import has_batch, map_tensors, named_leaves
from .options import checked
from .pages import Module

__all__ = ["ActionMap", "Actions", "Signature", "action_maps", "check_same_group", "unwrapped"]

#: One action, or an action for each argument (or part of the output) that is moved.
Actions: TypeAlias = Action | Mapping[int | str, Action]

#: A key of an argument: its name, or its position where it has none.
Key: TypeAlias = int | str


def unwrapped(model: Any) -> Any:
    """The model inside torch.compile, DistributedDataParallel, DataParallel and AveragedModel."""
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        elif isinstance(
            model, nn.parallel.DistributedDataParallel | nn.DataParallel | AveragedModel
        ):
            model = model.module
        else:
            return model


class Signature(NamedTuple):
    """The names of a model's arguments: those that may be given by position come first."""

    positional: tuple[str, ...]
    keyword: tuple[str, ...]

    @classmethod
    def of(cls, model: Any) -> Signature:
        """Of a module's forward, or of a function; empty if it takes anything."""
        model = unwrapped(model)
        if isinstance(known := getattr(model, "signature", None), cls):
            return known  # a GroupAverage has the signature of its model
        function = model.forward if isinstance(model, nn.Module) else model
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # some functions written in C
            return cls((), ())
        kinds = {p.name: p.kind for p in parameters}
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return cls(
            tuple(name for name, kind in kinds.items() if kind in by_place),
            tuple(name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY),
        )

    def key(self, key: Key) -> Key:
        """The name of an argument that is given by name or position."""
        known = isinstance(key, int) and 0 <= key < len(self.positional)
        return self.positional[key] if known else key  # type: ignore[index]

    def bind(self, args: tuple, kwargs: Mapping[str, Any]) -> dict[Key, Any]:
        """The arguments of a call by name (or position, where there is none), in the order of the names."""
        given: dict[Key, Any] = {self.key(i): value for i, value in enumerate(args)}
        given.update(kwargs)
        order = [name for name in (*self.positional, *self.keyword) if name in given]
        return {key: given[key] for key in dict.fromkeys([*order, *given])}

    def missing_before(self, key: Key, given: Iterable[Key]) -> bool:
        """Whether an argument that comes before this one was not given, as far as one knows."""
        names: list[Key] = [*self.positional, *self.keyword]
        if key in names:
            return not set(names[: names.index(key)]) <= set(given)
        return key != 0 and 0 not in given  # all by keyword, and no names to order them by


class ActionMap(Module):
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
                f"expected an Action, such as Rotations(cyclic(4)), or a dict of them by name or "
                f"position, such as {{0: Rotations(cyclic(4))}}; got {type(actions).__name__}"
            )
        self.keys = [
            k if k is None or isinstance(k, str) else checked("a key that is no name", int, k)
            for k in named
        ]
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
    def keyed(self) -> dict[Key, Action]:
        """The actions by key; empty where one action is for everything."""
        return {k: a for k, a in zip(self.keys, self.actions, strict=True) if k is not None}

    def over(self, named: dict[Key, Any], signature: Signature) -> dict[Key, Action]:
        """The actions of those arguments that are moved: one alone moves the first with tensors.

        Raises
        ------
        ValueError
            If a key names no argument of the call, if an argument is moved that holds no tensor, or if
            it is not clear which tensors a single action is for.
        """
        if self.keys != [None]:
            actions = {signature.key(key): action for key, action in self.keyed.items()}
            for key in actions:
                if key not in named:
                    raise ValueError(
                        f"the input action names argument {key!r}, but the call has {list(named)}"
                    )
            return actions
        held = {key: _tensors_in(value) for key, value in named.items()}
        full = [key for key, names in held.items() if names]
        if not full:
            return {}
        first = full[0]
        given = [key for key, value in named.items() if value is not None]
        if len(full) > 1 and signature.missing_before(first, given):
            raise ValueError(
                f"which of the arguments {full} does the action move? It is not clear which one is the "
                f"first: give a dict, such as {{{first!r}: action}}, when the model is wrapped or checked"
            )
        if len(held[first]) > 1 and not isinstance(named[first], tuple | list):
            raise ValueError(
                f"argument {first!r} holds several tensors, {held[first]}: if the action moves all of them, "
                f"say so with {{{first!r}: action}}; else make each an argument of forward and name it"
            )
        return {first: self.first}

    def move(self, g: int, x: Any, signature: Signature) -> Any:
        """g x for a tensor, a tuple of positional or a dict of keyword arguments."""
        if not isinstance(x, tuple | Mapping):
            return self.move(g, (x,), signature)[0]
        args, kwargs = ((), x) if isinstance(x, Mapping) else (x, {})
        actions = self.over(signature.bind(args, kwargs), signature)

        def moved(key: Key, value: Any) -> Any:
            if key not in actions:
                return value
            return map_tensors(lambda _, t: actions[key](g, t), value)

        if isinstance(x, Mapping):
            return {key: moved(key, value) for key, value in x.items()}
        return tuple(moved(signature.key(i), value) for i, value in enumerate(x))

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


def _tensors_in(value: Any) -> list[str]:
    """The names of the tensors in an argument."""
    return [".".join(map(str, path)) for path, leaf in named_leaves(value) if has_batch(leaf)]


def _top(path: tuple) -> int | str:
    """The outermost key, position or field name of a path; a bare tensor is at 0."""
    return path[0] if path else 0
