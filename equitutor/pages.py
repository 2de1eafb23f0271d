"""Modules whose ``help()`` is a page: their own members, not the hundreds of torch and transformers."""

from __future__ import annotations

from abc import ABCMeta
from types import FunctionType

from torch import nn

__all__ = ["Module"]

LIBRARIES = {"builtins", "torch", "transformers"}


class _Page(ABCMeta):
    """``dir`` of a class, and so ``help``, leaves out what is the libraries' business.

    That is all they bring, and what replaces a part of it without a docstring; ``forward`` stays.
    A metaclass, since it is the class that ``help`` asks; of ABCMeta, so that a subclass may be abstract.
    """

    def __dir__(cls) -> list[str]:
        ours, theirs = [], set()
        for base in cls.__mro__:
            if base is Module or base.__module__.partition(".")[0] in LIBRARIES:
                theirs |= set(vars(base))
            else:
                ours.append(base)
        return sorted(
            name
            for name in {name for base in ours for name in vars(base)}
            if name == "forward"
            or _documented(name, ours)
            or not (name in theirs or name.startswith("__"))
        )


def _documented(name: str, classes: list[type]) -> bool:
    """Whether the first of the classes that has a member says what it is."""
    member = next(vars(c)[name] for c in classes if name in vars(c))
    return isinstance(member, (FunctionType, classmethod, staticmethod, property)) and bool(
        member.__doc__
    )


class Module(nn.Module, metaclass=_Page):
    """An ``nn.Module`` in all else, which completion still knows of an instance."""

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for c in type(self).__mro__ for n in vars(c))})
