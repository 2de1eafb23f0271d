"""The cache folder, locks, and files that are written whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["DataError", "cache_dir", "locked", "read_text", "sha256sum", "sweep", "whole"]

CHUNK = 1 << 20  # bytes read at a time
OLD = 24 * 3600.0  # seconds without a write after which a part counts as left behind
LOCK_TIMEOUT = 3600.0  # seconds to wait for another process that fetches the same file


class DataError(RuntimeError):
    """Data that is missing, damaged or unavailable; the message says what to do."""


def cache_dir() -> Path:
    """Return the folder for downloads: ``$EQUITUTOR_CACHE``, else ``~/.cache/equitutor``."""
    chosen = os.environ.get("EQUITUTOR_CACHE") or "~/.cache/equitutor"
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise DataError(
            f"there is no cache folder {chosen}: {error} Set EQUITUTOR_CACHE to a folder."
        ) from error


def read_text(path: Path) -> str:
    """Return the content of a file of text in UTF-8; DataError if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8: {error}") from error


def sha256sum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole(path: Path, fsync: bool = False) -> Iterator[Path]:
    """Write a file or folder whole or not at all.

    Yields a temporary path in the same folder (which is created if needed) with the same suffix.
    If the block succeeds, it is renamed to `path`, atomically; if not, it is removed. A link stays
    one: what it leads to is written.

    Parameters
    ----------
    path : Path
        A file, which is replaced if it exists, or a folder that does not exist yet.
    fsync : bool
        Flush the file to the disk first: a power cut could otherwise leave it empty.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}@{platform.node()}.part.{path.name}")
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

    Whatever a holder that was killed inside :func:`whole` left behind is removed. The lock's file
    follows the umask, so that a group can share a folder. A link has the lock of what it leads to.

    Raises
    ------
    OSError
        The lock cannot be created (read-only folder), or was not free within `timeout` seconds.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    file.touch(0o666)  # less the umask, which filelock would not ask
    lock = FileLock(file, timeout=timeout, mode=stat.S_IMODE(file.stat().st_mode))
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


def sweep(folder: Path) -> None:
    """Remove what processes that were killed inside :func:`whole` left in a folder and just below.

    A part is left behind if its process, of this machine, is dead, or if nobody has written to it
    for a day: other machines may share the folder.
    """
    parts: list[Path] = []
    with suppress(OSError):  # of a folder that others closed
        parts = [*folder.glob(".*.part.*"), *folder.glob("*/.*.part.*")]
    for part in parts:
        with suppress(OSError, ValueError):
            process, _, machine = part.name[1:].partition(".part.")[0].partition("@")
            here = machine == platform.node() and os.name != "nt"
            if time.time() - _last_write(part) > OLD or (here and not _alive(int(process))):
                _remove(part)


def _followed(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _last_write(path: Path) -> float:
    return max(p.stat().st_mtime for p in [path, *path.rglob("*")])


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
