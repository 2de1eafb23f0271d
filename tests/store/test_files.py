"""Files that are written whole or not at all."""

import multiprocessing
import os
import platform
import stat
import time
import zipfile

import pytest
import torch

from equitutor.store import files
from equitutor.store.checkpoints import kept
from equitutor.store.download import extract
from equitutor.store.files import DataError, locked, whole
from equitutor.store.results import Record, Store


def test_a_file_gets_its_name_when_it_is_finished(tmp_path):
    path = tmp_path / "new" / "a.npz"
    with whole(path, fsync=True) as part:
        assert part.parent == path.parent and part.suffix == ".npz" and part.name[0] == "."
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda p: p.write_text("half"), lambda p: p.mkdir(), id])
def test_what_fails_leaves_everything_as_it_was(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), whole(path) as part:
        write(part)
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_whole_too(tmp_path):
    with whole(tmp_path / "folder") as part:
        part.mkdir()
        (part / "file").write_text("")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "file"]


def test_a_lock_clears_away_what_a_killed_holder_left(tmp_path):
    (tmp_path / ".1.part.a.json").write_text("half")
    (tmp_path / ".2.part.a.json").mkdir()
    other = tmp_path / ".3.part.b.a.json"
    other.write_text("being written by another process")
    with locked(tmp_path / "a.json"):
        assert {p.name for p in tmp_path.iterdir()} - {".a.json.lock"} == {other.name}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_every_file_follows_the_umask(tmp_path, monkeypatch, umask):
    """So that a group can share the cache and the results."""
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.writestr("folder/file", "content")
    before = os.umask(umask)
    try:
        kept("net", {}, lambda: {"w": torch.ones(1)})
        Store(tmp_path / "results" / "x.json").add(Record("x", {"seed": 0}, {"a": 1}))
        extract(tmp_path / "a.zip", tmp_path / "cache" / "data")
    finally:
        os.umask(before)
    made = [*(tmp_path / "cache").rglob("*"), *(tmp_path / "results").rglob("*")]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in made}
    assert {".x.json.lock", "x.json", ".data.lock", "file"} < modes.keys()
    for path in made:
        assert modes[path.name] == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.skipif(os.name == "nt", reason="making links is a privilege on Windows")
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_one_and_its_target_is_written(tmp_path, exists):
    target, link = tmp_path / "there" / "data.json", tmp_path / "link.json"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    with locked(link), whole(link) as part:
        part.write_text("new")
        assert {p.name for p in target.parent.iterdir()} >= {".data.json.lock", part.name}
    assert link.is_symlink() and target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_killed_processes_left_is_swept(tmp_path):
    dead = multiprocessing.get_context("spawn").Process(target=print)
    dead.start()
    dead.join()
    here, old = platform.node(), time.time() - 2 * files.OLD
    names = {
        f".{dead.pid}@{here}.part.a": False,
        f"checkpoints/.{dead.pid}@{here}.part.b.safetensors": False,
        f".{dead.pid}@{here}.part.folder/inner/file": False,
        f".{os.getpid()}@{here}.part.c": True,
        f".{dead.pid}@elsewhere.part.d": True,
        ".x@elsewhere.part.e": True,
        f".x@{here}.part.f": True,
        "old/.1@elsewhere.part.g": False,
        "old/.1.part.h": False,
        "a.part.b": True,
    }
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("half")
        if name.startswith("old/"):
            os.utime(path, (old, old))
    files.sweep(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert not list(tmp_path.glob(f".{dead.pid}@{here}*")), "folders go with what is in them"


def test_a_folder_that_others_closed_is_not_swept(tmp_path, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.Path, "glob", closed)
    files.sweep(tmp_path)


def test_an_encrypted_archive_is_one_clear_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.writestr("file", "content")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[6] |= 1  # of the member's own header, and of the directory's
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip could not be unpacked into .*data: it is encrypt"):
        extract(tmp_path / "a.zip", tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
