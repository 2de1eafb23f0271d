"""python -m equitutor run|results|verify|check|assignments|info

What is answered without torch, whose import takes seconds, is answered here: ``--help`` and ``info``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from .arguments import parser
from .store.files import cache_dir
from .store.machine import cpu_model, versions
from .text import printable

# Where a driver of NVIDIA's or AMD's GPUs shows itself.
_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))

__all__ = ["info", "main"]


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = sys.argv[1:] if words is None else words
    experiments: dict[str, Any] = {}
    try:  # from the first import on, as they take seconds
        if words[:1] == ["run"]:
            from .experiments import EXPERIMENTS as experiments
        args = parser(experiments).parse_args(words)
        if args.command == "info":
            info()
            return 0
        from .commands import obey

        return obey(args)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"error: {printable(error, keep=chr(10))}", file=sys.stderr)
        return 2 if words[:1] == ["check"] else 1  # of a check, 1 says that the law is broken
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def info() -> None:
    """Print versions, device and cache folder."""
    device = f"cpu ({cpu_model()})"
    if shutil.which("nvidia-smi") or any(map(Path.exists, _DRIVERS)):
        import torch  # which alone knows whether it can use it

        device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else device
    print(versions())
    print(f"device {device}\ncache folder {cache_dir()}")


if __name__ == "__main__":
    sys.exit(main())
