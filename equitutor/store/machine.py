"""What a machine is and has installed, told without torch, whose import takes seconds."""

from __future__ import annotations

import platform
from importlib.metadata import version

from ..version import __version__

__all__ = ["cpu_model", "versions"]


def versions(torch: str | None = None) -> str:
    """The versions of the package, of Python and of what results depend on, in one line.

    ``torch`` is what torch says of itself, which names its CUDA too.
    """
    found = {"torch": torch or version("torch")}
    found |= {name: version(name) for name in ("torchvision", "transformers", "numpy")}
    others = ", ".join(f"{name} {number}" for name, number in found.items())
    return f"equitutor {__version__}, Python {platform.python_version()}, {others}"


def cpu_model() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "CPU"
