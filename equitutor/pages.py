"""Classes whose ``help()`` is a page: their own members, not the hundred of ``nn.Module``."""

from __future__ import annotations

from abc import ABCMeta

from torch import nn

__all__ = ["Module", "Page"]

FOREIGN = ("torch", "transformers", "builtins")


class Page(ABCMeta):
    """``dir`` of a class, and so ``help``, leaves out what it inherits from torch and transformers.

    A metaclass, since that is where ``help`` asks; of ABCMeta, so that abstract subclasses are possible.
    """

    def __dir__(cls) -> list[str]:
        ours = (base for base in cls.__mro__ if base.__module__.split(".")[0] not in FOREIGN)
        return sorted({name for base in ours for name in vars(base)})


class Module(nn.Module, metaclass=Page):
    """A module of this library: an ``nn.Module`` in all else."""

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(nn.Module)})
