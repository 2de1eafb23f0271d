"""What a computation costs: its time relative to another's, and the peak memory of its tensors.

Times are measured in turns, so that a slow moment of the machine affects both; memory is counted per
tensor rather than taken from the process, so it is the same on every machine.
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
    """Seconds that one call takes.

    On a CPU this is the processor time of this process, so other jobs do not count; it is the sum
    over all threads, which can be longer than the call.
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
    """Time of ``run`` over time of ``base``, once per pair; they take turns in going first."""
    seconds(run, device), seconds(base, device)  # warm up
    result = []
    for k in range(pairs):
        pair = {f: seconds(f, device) for f in ((run, base) if k % 2 else (base, run))}
        result.append(pair[run] / max(pair[base], 1e-9))
    return result


def slowdown(
    run: Callable[[], Any],
    base: Callable[[], Any],
    pairs: int = 7,
    device: torch.device | str = "cpu",
) -> float:
    """The median of :func:`ratios`: how many times as long ``run`` takes as ``base``."""
    return statistics.median(ratios(run, base, pairs, device))


class _Peak(TorchDispatchMode):
    """Counts the bytes of the tensors made inside it, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.finalize] = {}
        self.now = self.most = 0

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key, size = storage._cdata, storage.nbytes()
            if key not in before and key not in self.alive:
                self.now += size
                self.most = max(self.most, self.now)
                self.alive[key] = weakref.finalize(storage, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        if self.alive.pop(key, None) is not None:
            self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [t.untyped_storage() for t in tree_leaves(tree) if isinstance(t, Tensor)]


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that the tensors made by a call occupied at any one moment.

    What existed before, such as weights and inputs, does not count; gradients made by the call do.
    """
    with _Peak() as peak:
        run()
    return peak.most
