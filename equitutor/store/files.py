"""The cache folder, and files in it that are whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["DataError", "cache_dir", "locked", "sha256sum"]

CHUNK = 1 << 20  # bytes read at a time


LOCK_TIMEOUT = 3600.0  # seconds to wait for another process that fetches the same file


class DataError(RuntimeError):
    """Data that is missing, damaged or not to be had; the message says what to do."""


def cache_dir() -> Path:
    """Return the folder for downloads: ``$EQUITUTOR_CACHE``, else ``~/.cache/equitutor``."""
    chosen = os.environ.get("EQUITUTOR_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "equitutor"


def sha256sum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock that belongs to `path`; the system frees it when its holder dies.

    Raises
    ------
    OSError
        The lock cannot be made (read-only folder), or was not free within `timeout` seconds.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout)
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout as error:
        raise TimeoutError(f"another process has held {path} for {timeout:g} s") from error
    try:
        yield
    finally:
        lock.release()
