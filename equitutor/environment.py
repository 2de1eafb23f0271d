"""The first call of every chapter: sets and prints seeds, device and preset."""

from __future__ import annotations

import operator
import os
import random
import sys
from dataclasses import dataclass

import numpy as np
import torch

from .store.machine import versions
from .store.provenance import device_name

__all__ = ["PRESETS", "Environment", "generator", "setup", "usable_device"]

PRESETS = ("quick", "paper")
_LOWERED: list[int] = []  # the threads that there were before a quick setup, if it changed them


@dataclass(frozen=True)
class Environment:
    """The settings that a chapter runs with.

    Attributes
    ----------
    preset : {"quick", "paper"}
        Minutes on a laptop without a network, or the papers' own settings.
    seed : int
    device : torch.device
    threads : int
        CPU threads of torch.
    """

    preset: str
    seed: int
    device: torch.device
    threads: int


def setup(
    preset: str = "quick", seed: int = 0, device: str | torch.device | None = None
) -> Environment:
    """Seed Python, NumPy and torch, choose the device, and print what was chosen.

    The quick preset on a CPU runs torch on one thread, which is fastest for its small networks; another setup
    after it gives the threads back.

    Parameters
    ----------
    preset : {"quick", "paper"}
    seed : int
        From 0 to 2**32 - 1, the range of NumPy's seeds.
    device : str or torch.device, optional
        Default: the GPU if torch sees one, else the CPU.

    Raises
    ------
    ValueError
        If the preset or the device is unavailable, or the seed is out of range.
    TypeError
        If the seed is not an integer.
    """
    if preset not in PRESETS:
        raise ValueError(f'preset must be "quick" or "paper", not {preset!r}')
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be an integer, not {seed!r}")
    seed = operator.index(seed)  # numpy's integers, too
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie between 0 and 2**32 - 1, not {seed}")
    chosen = usable_device(device)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # every GPU's generator too
    threads = torch.get_num_threads()
    if preset == "quick" and chosen.type == "cpu":
        # Small networks gain little from more threads, and on a busy machine two threads that wait
        # for each other are ten times slower than one.
        torch.set_num_threads(1)
        _LOWERED[:] = [threads] if threads > 1 else _LOWERED
    elif threads == 1 and _LOWERED:
        torch.set_num_threads(_LOWERED.pop())
    environment = Environment(preset, seed, chosen, torch.get_num_threads())
    print(_describe(environment))
    return environment


def generator(seed: int) -> torch.Generator:
    """A generator of random numbers of its own, on the CPU: the same draws on every device."""
    return torch.Generator().manual_seed(operator.index(seed))  # numpy's integers, too


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device of a name, by default the GPU if there is one; ValueError if it cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).cpu()  # which "meta" cannot
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f'device {device!r} is unavailable ({error}). Use "cpu", or omit it to use a GPU if '
            "there is one."
        ) from error
    return chosen


def _describe(environment: Environment) -> str:
    lines = [
        versions(torch.__version__),
        f"preset {environment.preset}, seed {environment.seed}, "
        f"device {environment.device} ({device_name(environment.device)})",
    ]
    colab = "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules
    cpu, paper = environment.device.type == "cpu", environment.preset == "paper"
    if cpu and colab:
        lines.append("For a GPU: Runtime > Change runtime type > T4 GPU, then run from the top.")
    if cpu and paper:
        lines.append("The paper preset is meant for a GPU; on a CPU it can take days.")
    if paper and colab and "EQUITUTOR_CACHE" not in os.environ:
        lines.append(
            "Downloads and results are lost with this runtime. To keep them, mount Drive and set "
            "EQUITUTOR_CACHE, and HF_HOME for Hugging Face models, to folders there."
        )
    return "\n".join(lines)
