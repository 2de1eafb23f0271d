"""What state models and tensors are in: evaluation mode; values that can be read; how they round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["at_least_float32", "evaluating", "readable", "rounding"]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Set every module to evaluation mode, and restore each one's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def readable(values: Tensor) -> bool:
    """Whether Python may look at the values: not while compiling, under vmap or on the meta device."""
    return not (
        torch.compiler.is_compiling()
        or values.is_meta
        or hasattr(values, "fake_mode")
        or torch._C._functorch.is_functorch_wrapped_tensor(values)
    )


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which to add up numbers of this dtype: float16 overflows, bfloat16 rounds."""
    return torch.promote_types(dtype, torch.float32)


def rounding(dtype: torch.dtype) -> float:
    r"""The relative difference below which two results in this dtype count as equal.

    :math:`\epsilon^{3/4}`, with :math:`\epsilon` the spacing of numbers at 1: 6e-6 for float32, 2e-12
    for float64, 0.03 for bfloat16, 0.006 for float16. A deep network computes the same number twice,
    in another order, with a difference of some :math:`\epsilon` times the root of the number of terms that
    were added: tens of :math:`\epsilon` where terms are kept in float32, a few where they are kept in
    half precision (and added in float32). Three quarters of the digits leave room for both. 0 for integers.
    """
    exact = not (dtype.is_floating_point or dtype.is_complex)
    return 0.0 if exact else torch.finfo(dtype).eps ** 0.75
