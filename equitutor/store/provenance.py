"""Where a number comes from: command, commit, versions, device and date."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..version import __version__
from .machine import cpu_model

__all__ = ["command_line", "device_name", "provenance"]


def provenance(
    seconds: float,
    device: str | torch.device = "cpu",
    command: str | None = None,
    **made_from: dict[str, str],
) -> dict[str, Any]:
    """Describe the run that made a record, without any path of this machine.

    Parameters
    ----------
    seconds : float
        How long the cell took.
    device : str or torch.device
        Where it was computed.
    command : str, optional
        The command that was typed. Default: :func:`command_line`.
    made_from : dict
        ``data``, the fingerprints of the data and weights from outside, and ``weights``, those of the
        checkpoints that were made here.
    """
    commit, modified = _commit()
    return {
        "command": command_line() if command is None else command,
        "commit": commit,
        "modified": modified,  # whether the package differs from that commit
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(torch.device(device)),
        "equitutor": __version__,
        "python": platform.python_version(),
        "seconds": round(float(seconds), 2),
        "torch": torch.__version__,
        **made_from,
    }


def command_line() -> str:
    """The command that started this process, with absolute paths cut to their names."""
    program, *words = sys.argv or [""]
    name = Path(program).name
    if "ipykernel" in name:
        return "in a notebook"
    start = ["-m", Path(program).parent.name] if name == "__main__.py" else [name]
    # "/home/me/data" and "--data=/home/me/data" lose their folders.
    short = [re.sub(r"^(-[\w-]+=)?(?:[/~]|[A-Za-z]:[/\\]).*[/\\]", r"\1", word) for word in words]
    return shlex.join(["python", *start, *short])


def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of this package's checkout, and whether the package has changed since."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None, None  # installed: a repository further up is not ours

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=package, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None


def device_name(device: torch.device) -> str:
    """Return the model of the GPU, or of the CPU with the number of threads of torch."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_model()}, {threads} thread{'s' if threads > 1 else ''}"
