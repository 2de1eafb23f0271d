"""Modules whose ``help()`` is a page: their own members, not the hundred of ``nn.Module``."""

from __future__ import annotations

from abc import ABCMeta

from torch import nn

__all__ = ["Module"]


class _Page(ABCMeta):
    """``dir`` of a class, and so ``help``, leaves out what every module has.

    A metaclass, since it is the class that ``help`` asks; of ABCMeta, so that a subclass may be abstract.
    """

    def __dir__(cls) -> list[str]:
        every = (*nn.Module.__mro__, Module)
        return sorted({name for base in cls.__mro__ if base not in every for name in vars(base)})


class Module(nn.Module, metaclass=_Page):
    """An ``nn.Module`` in all else, which completion still knows of an instance."""

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(nn.Module)})
