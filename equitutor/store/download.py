"""Files from the network: downloaded once, checked by SHA-256, never left half-written.

A file gets its final name only once its checksum is right, by an atomic rename, so a process that
was killed or cut off leaves nothing that a later one could take for the data.
"""

from __future__ import annotations

import http.client
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from ..text import printable
from .files import CHUNK, DataError, cache_dir, locked, sha256sum, whole

__all__ = ["FILES", "RemoteFile", "extract", "fetch"]

NETWORK_TIMEOUT = 30.0  # seconds without a byte before a server counts as silent


def _leads_outside(name: str) -> bool:
    """Whether a relative name would lead out of its folder."""
    path = PureWindowsPath(name)  # its rules are the stricter ones: "/", "\\" and drive letters
    return bool(path.drive or path.root) or ".." in path.parts


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network, and how to recognise it.

    Attributes
    ----------
    name : str
        Path in the cache, relative to `cache_dir`, with forward slashes.
    urls : tuple of str
        Where it can be downloaded, tried in this order.
    sha256 : tuple of str
        Accepted SHA-256 sums in lower-case hexadecimal, in full or just their first digits (at
        least 8), which is what torchvision puts into the names of its weight files.
    size : int or None
        In bytes, for the progress bar and the error message; only the checksum is checked.
    """

    name: str
    urls: tuple[str, ...]
    sha256: tuple[str, ...]
    size: int | None = None

    def __post_init__(self) -> None:
        if _leads_outside(self.name) or not Path(self.name).parts:
            raise ValueError(f"the name {self.name!r} is no path inside the cache folder")
        for field in ("urls", "sha256"):
            if isinstance(given := getattr(self, field), str):
                raise TypeError(
                    f"{self.name}: {field} must be a tuple, got {given!r}: write ({given!r},)"
                )
        if not self.urls or not self.sha256:
            raise ValueError(f"{self.name}: a remote file needs a URL and a SHA-256 sum")
        for digest in self.sha256:
            if not 8 <= len(digest) <= 64 or digest.strip("0123456789abcdef"):
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
        # The file of the PyTorch tutorials (their own download script checks this sum), and
        # another archive of the same 398 images that circulates, for those who already have it.
        sha256=(
            "fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209",
            "1590c35245755fbc4c9e733268e9623109839dc9b765b0a0e6af95e20931d5b1",
        ),
        size=47_286_322,
    ),
}


def fetch(file: str | RemoteFile) -> Path:
    """Return the path of a checked file, downloading it if it is not in the cache yet.

    A good file in the cache needs no network. A damaged one is replaced, but only once the new one
    is complete and checked. Of several processes that fetch the same file, one downloads it.

    Parameters
    ----------
    file : str or RemoteFile
        A name in `FILES`, or the file itself.

    Raises
    ------
    ValueError
        There is no file of this name.
    DataError
        The file is unavailable. The message says what went wrong at each URL, where to put the file
        by hand, and the SHA-256 sum it must have.
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
        with locked(path):
            if _is_good(path, file):  # another process was faster
                return path
            if path.exists():
                problems.append(f"{path}: damaged (SHA-256 {sha256sum(path)}), left as it is")
                warnings.warn(printable(f"{path} is damaged and is downloaded again"), stacklevel=2)
            for url in file.urls:
                try:
                    _download(url, path, file)
                    return path
                except DataError as error:
                    problems.append(f"{url}: {error}")
    except OSError as error:
        problems.append(f"{path.parent}: {error.strerror or error}")
    sums = " or ".join(digest if len(digest) == 64 else f"{digest}…" for digest in file.sha256)
    size = f", {file.size:,} bytes" if file.size else ""
    raise DataError(
        "\n  ".join([f"{path.name} is unavailable:", *problems])
        + f"\nDownload it by other means from {' or '.join(file.urls)} and put it at\n  {path}\n"
        f"(SHA-256 {sums}{size}). If that folder cannot be written, or its disk is full, set\n"
        "EQUITUTOR_CACHE to a folder with room."
    )


def extract(archive: Path, folder: Path) -> Path:
    """Unpack a zip or tar archive into `folder`, whole or not at all.

    A folder that exists was complete when it got its name, and is returned as it is.

    Raises
    ------
    DataError
        The archive is damaged, or holds something that is not a plain file below `folder`: an
        absolute name, one that climbs out with "..", a link or a device. Nothing is left behind.
    """
    if folder.is_dir():
        return folder
    try:
        with locked(folder):
            if not folder.is_dir():  # else another process was faster
                with whole(folder) as part:
                    part.mkdir()
                    _unpack(archive, part)
    except (  # the third: a compression that zipfile does not know
        *(OSError, EOFError, NotImplementedError),
        *(zlib.error, zipfile.BadZipFile, tarfile.TarError),
    ) as error:
        raise DataError(
            f"{archive} could not be unpacked into {folder}: {error}. If the archive is damaged, "
            "delete it and run again; else make room, or set EQUITUTOR_CACHE to another folder."
        ) from error
    return folder


def _is_good(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and sha256sum(path).startswith(file.sha256)


def _download(url: str, path: Path, file: RemoteFile) -> None:
    """Download `path` from one URL and check it; raise DataError with what went wrong there."""
    try:
        # Some hosts turn away Python's own user agent.
        request = urllib.request.Request(url, headers={"User-Agent": "equitutor"})
        with whole(path) as part:
            with (
                urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT) as response,
                open(part, "wb") as sink,
            ):
                length = int(response.headers.get("Content-Length") or 0)
                total = length or file.size
                with tqdm.wrapattr(sink, "write", total, desc=path.name, delay=1) as counted:
                    shutil.copyfileobj(response, counted, CHUNK)
            received = part.stat().st_size
            if length and received != length:
                raise DataError(f"cut short, {received:,} of {length:,} bytes")
            digest = sha256sum(part)  # of what is on the disk, not of what was received
            if not digest.startswith(file.sha256):
                raise DataError(f"not the expected file, its SHA-256 is {digest}")
    except urllib.error.HTTPError as error:
        raise DataError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DataError(f"no connection ({error.reason})") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DataError(f"{type(error).__name__}: {error}") from error


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder; refuse members that are not plain files or folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            for item in pack.infolist():
                kind = stat.S_IFMT(item.external_attr >> 16)  # 0: made where there are no modes
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                _refuse_unsafe(archive, item.filename, plain)
                if item.flag_bits & 1:
                    raise zipfile.BadZipFile("it is encrypted; unpack it there yourself")
            pack.extractall(folder)
        return
    with tarfile.open(archive) as tar:
        # Python before 3.11.4 has no filters; then the checks here are the only ones.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        for member in tar:
            _refuse_unsafe(archive, member.name, member.isfile() or member.isdir())
            if member.isfile():
                tar.extract(member, folder, set_attrs=False)
        # gzip's checksum comes after what tar itself reads.
        while tar.fileobj.read(CHUNK):
            pass


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    if not plain or _leads_outside(name):
        what = "leads outside the folder" if plain else "is a link or a device"
        raise DataError(
            f"{archive} was not unpacked: its member {name!r} {what}. This is not the expected "
            "archive; delete it and download it again from its source."
        )
