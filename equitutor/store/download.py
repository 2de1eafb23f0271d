"""Files from the network: fetched once, checked by SHA-256, never half there.

A file reaches its final name only when its checksum is right, by an atomic rename, so a
process that was killed or cut off leaves nothing that a later one could take for the data.
"""

import http.client
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, cast

from tqdm import tqdm

from .files import CHUNK, DataError, cache_dir, locked, sha256sum

NETWORK_TIMEOUT = 30.0  # seconds without a byte before a server counts as silent
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class RemoteFile:
    """A file of the network and how to know that it is the right one.

    Attributes
    ----------
    name : str
        Where it is kept, relative to `cache_dir` (forward slashes).
    urls : tuple of str
        Where it can be had, tried in this order.
    sha256 : tuple of str
        Accepted SHA-256 sums in lower-case hexadecimal: whole ones, or the first digits only,
        which is what torchvision puts into the names of its weight files.
    size : int or None
        Bytes, for the progress bar and the message; the checksum alone decides.
    """

    name: str
    urls: tuple[str, ...]
    sha256: tuple[str, ...]
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.urls or not self.sha256:
            raise ValueError(f"{self.name}: a remote file needs a URL and a SHA-256 sum")
        for digest in self.sha256:
            if len(digest) < 8 or digest.strip("0123456789abcdef"):
                raise ValueError(
                    f"{self.name}: {digest!r} is not 8 to 64 lower-case hexadecimal digits"
                )


FILES: dict[str, RemoteFile] = {
    "cifar10": RemoteFile(
        name="cifar-10-binary.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        sha256=("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
        size=170_052_171,
    ),
    "cifar100": RemoteFile(
        name="cifar-100-binary.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        sha256=("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",),
        size=168_513_733,
    ),
    "hymenoptera": RemoteFile(
        name="hymenoptera_data.zip",
        urls=("https://download.pytorch.org/tutorial/hymenoptera_data.zip",),
        # First the file of the PyTorch tutorials (their own download script checks this sum), then
        # another packing of the same 398 images that circulates, for those who have it already.
        sha256=(
            "fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209",
            "1590c35245755fbc4c9e733268e9623109839dc9b765b0a0e6af95e20931d5b1",
        ),
        size=47_286_322,
    ),
}


def fetch(file: str | RemoteFile) -> Path:
    """Return the path of a checked file, downloading it if it is not in the cache yet.

    A good file in the cache needs no network. A damaged one is replaced, but only once the
    new one is complete and checked. Processes that fetch the same file wait for the first.

    Parameters
    ----------
    file : str or RemoteFile
        A name in `FILES`, or the file itself.

    Raises
    ------
    DataError
        The file is not to be had. The message names each URL with what went wrong there, the
        path where the file can be put by hand, and the SHA-256 sum it must have.
    """
    if isinstance(file, str):
        if file not in FILES:
            raise ValueError(f"no file is called {file!r}; there are {', '.join(sorted(FILES))}")
        file = FILES[file]
    path = cache_dir() / file.name
    problems: list[str] = []
    try:
        if _is_good(path, file):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if _is_good(path, file):  # another process was faster
                return path
            if path.exists():
                problems.append(f"{path}: damaged (SHA-256 {sha256sum(path)}), left as it is")
                warnings.warn(f"{path} is damaged and is downloaded again", stacklevel=2)
            for url in file.urls:
                problem = _download(url, path, file)
                if problem is None:
                    return path
                problems.append(f"{url}: {problem}")
    except OSError as error:
        problems.append(f"{path.parent}: {error.strerror or error}")
    raise DataError(_not_to_be_had(file, path, problems))


def extract(archive: Path, folder: Path) -> Path:
    """Unpack a zip or tar archive into `folder`, wholly or not at all.

    A folder that is there already was complete when it got its name, and is returned as it is.

    Raises
    ------
    DataError
        The archive is damaged, or holds something that is not a plain file below `folder`: an
        absolute name, one that climbs out with "..", a link or a device. Nothing is left behind.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if folder.is_dir():
                return folder
            # Below the same parent, so that the last step is a rename and not a copy.
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                for name, open_member in _members(archive):
                    target = work / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open_member() as source, open(target, "wb") as sink:
                        shutil.copyfileobj(source, sink, CHUNK)
                work.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from others
                work.rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(
            f"{archive} could not be unpacked into {folder}: {error}. If the archive is damaged, "
            "delete it and run again; else make room, or set EQUITUTOR_CACHE to another folder."
        ) from error
    return folder


def _is_good(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and sha256sum(path).startswith(file.sha256)


def _download(url: str, path: Path, file: RemoteFile) -> str | None:
    """Try one URL; return what went wrong, or None when `path` is there and checked."""
    # One name is enough under the lock, and what a killed process left there is overwritten.
    part = path.with_name(f".{path.name}.part")
    # Some hosts turn away Python's own user agent.
    request = urllib.request.Request(url, headers={"User-Agent": "equitutor"})
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else file.size
            with open(part, "wb") as sink, _bar(path.name, total) as bar:
                while chunk := response.read(CHUNK):
                    sink.write(chunk)
                    bar.update(len(chunk))
        got = part.stat().st_size
        if length and got != int(length):
            return f"cut short, {got:,} of {int(length):,} bytes"
        digest = sha256sum(part)  # of what is on the disk, not of what came in
        if not digest.startswith(file.sha256):
            return f"not the file that was expected, its SHA-256 is {digest}"
        os.replace(part, path)
        return None
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"no connection ({error.reason})"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _bar(name: str, total: int | None) -> tqdm:
    return tqdm(total=total, desc=name, unit="B", unit_scale=True, unit_divisor=1024, delay=1)


def _not_to_be_had(file: RemoteFile, path: Path, problems: list[str]) -> str:
    sums = " or ".join(
        digest if len(digest) == _SHA256_DIGITS else f"{digest}…" for digest in file.sha256
    )
    size = f", {file.size:,} bytes" if file.size else ""
    return "\n".join(
        [
            f"{path.name} is not to be had:",
            *(f"  {problem}" for problem in problems),
            f"Get it from {' or '.join(file.urls)} by other means and put it at",
            f"  {path}",
            f"(SHA-256 {sums}{size}). If that folder cannot be written, or its disk is full, set",
            "EQUITUTOR_CACHE to a folder with room.",
        ]
    )


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Yield the name and an opener of every file of an archive; refuse what is not a plain file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            for item in pack.infolist():
                kind = stat.S_IFMT(item.external_attr >> 16)  # 0: made where there are no modes
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                _refuse_unsafe(archive, item.filename, plain)
                if not item.is_dir():
                    yield item.filename, partial(pack.open, item)
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                _refuse_unsafe(archive, member.name, member.isfile() or member.isdir())
                if member.isfile():
                    yield member.name, partial(cast(Callable, tar.extractfile), member)
            while cast(IO[bytes], tar.fileobj).read(
                CHUNK
            ):  # gzip's checksum comes after what tar itself reads
                pass


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    # Windows' rules are the stricter ones: they know "/", "\\" and drive letters.
    path = PureWindowsPath(name)
    if not plain or path.drive or path.root or ".." in path.parts:
        what = "leads outside the folder" if plain else "is a link or a device"
        raise DataError(
            f"{archive} was not unpacked: its member {name!r} {what}. This is not the archive that "
            "was expected; delete it and get it again from its source."
        )
