"""The cache folder, locks, and files that are written whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["DataError", "cache_dir", "locked", "sha256sum", "whole"]

CHUNK = 1 << 20  # bytes read at a time
LOCK_TIMEOUT = 3600.0  # seconds to wait for another process that fetches the same file


class DataError(RuntimeError):
    """Data that is missing, damaged or unavailable; the message says what to do."""


def cache_dir() -> Path:
    """Return the folder for downloads: ``$EQUITUTOR_CACHE``, else ``~/.cache/equitutor``."""
    chosen = os.environ.get("EQUITUTOR_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "equitutor"


def sha256sum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole(path: Path, fsync: bool = False) -> Iterator[Path]:
    """Write a file or folder whole or not at all.

    Yields a temporary path in the same folder (which is created if needed) with the same suffix.
    If the block succeeds, it is renamed to `path`, atomically; if not, it is removed.

    Parameters
    ----------
    path : Path
        A file, which is replaced if it exists, or a folder that does not exist yet.
    fsync : bool
        Flush the file to the disk first: a power cut could otherwise leave it empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield part
        if fsync:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        _remove(part)


@contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock that belongs to `path`; the system frees it when its holder dies.

    Whatever a holder that was killed inside :func:`whole` left behind is removed.

    Raises
    ------
    OSError
        The lock cannot be created (read-only folder), or was not free within `timeout` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout)
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout as error:
        raise TimeoutError(f"another process has held {path} for {timeout:g} s") from error
    try:
        for leftover in path.parent.glob(f".*.part.{glob.escape(path.name)}"):
            _remove(leftover)
        yield
    finally:
        lock.release()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
