"""What a computation costs: time as a ratio to another one's, memory as the peak of all its tensors.

Times are compared in turns, so that a slow moment of the machine meets both; memory is counted and
not guessed from the process, so it is the same on every machine.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["peak_bytes", "ratios", "seconds", "slowdown"]


def seconds(run: Callable[[], Any], device: torch.device | str = "cpu") -> float:
    """How long one call takes: on a CPU the processor time of this process, so other jobs do not count.

    Of several threads it is the sum, which is longer than the call.
    """
    cuda = torch.device(device).type == "cuda"

    def now() -> float:
        if not cuda:
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    start = now()
    run()
    return now() - start


def ratios(
    run: Callable[[], Any],
    base: Callable[[], Any],
    pairs: int = 7,
    device: torch.device | str = "cpu",
) -> list[float]:
    """Time of ``run`` over time of ``base``, for so many pairs; who is first changes in turn."""
    seconds(run, device), seconds(base, device)  # warm up
    found = []
    for k in range(pairs):
        pair = {f: seconds(f, device) for f in ((run, base) if k % 2 else (base, run))}
        found.append(pair[run] / max(pair[base], 1e-9))
    return found


def slowdown(
    run: Callable[[], Any],
    base: Callable[[], Any],
    pairs: int = 7,
    device: torch.device | str = "cpu",
) -> float:
    """The median of :func:`ratios`: how many times as long ``run`` takes."""
    return statistics.median(ratios(run, base, pairs, device))


class _Peak(TorchDispatchMode):
    """Counts the bytes of tensors made inside it, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.finalize] = {}
        self.now = self.most = 0

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        before = {self._key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and self._key(t) not in before:
                self._made(t.untyped_storage())
        return out

    @staticmethod
    def _key(t: Tensor) -> int:
        return t.untyped_storage()._cdata

    def _made(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return
        self.now += size
        self.most = max(self.most, self.now)
        self.alive[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        if self.alive.pop(key, None) is not None:
            self.now -= size


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that the tensors made by a call took at any one moment.

    What was there before, such as weights and inputs, does not count; gradients that the call makes do.
    """
    with _Peak() as peak:
        kept = run()
    del kept
    return peak.most
