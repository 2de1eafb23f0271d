import errno
import hashlib
import http.server
import io
import multiprocessing
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equitutor.images import data, imageset, pretrained
from equitutor.images.catalogue import KNOWN
from equitutor.images.data import ImageSet
from equitutor.store import download, files
from equitutor.store.download import RemoteFile, extract, fetch
from equitutor.store.files import DataError

CONTENT = bytes(range(256)) * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()
OFFICIAL = "EQUITUTOR_TEST_DATA"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has a cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EQUITUTOR_CACHE", str(folder))
    return folder


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        body = {"/wrong": b"<html>log in first</html>", "/silent": b""}.get(self.path, CONTENT)
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(body) or 10))
        self.end_headers()
        if self.path in ("/silent", "/slow"):
            self.server.release.wait(5 if self.path == "/silent" else 0.5)
        self.wfile.write(body[: len(body) // 2] if self.path in ("/short", "/unsized") else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.asked, web.release = [], threading.Event()
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        web.url = f"http://127.0.0.1:{web.server_port}"
        yield web
        web.release.set()
        web.shutdown()


def remote(*urls, sha=SHA):
    return RemoteFile("thing.bin", urls, (sha,), len(CONTENT))


def files_below(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


# Downloads


def test_a_file_is_downloaded_once(server, cache):
    path = fetch(remote(f"{server.url}/good"))
    assert path == cache / "thing.bin"
    assert path.read_bytes() == CONTENT
    assert fetch(remote(f"{server.url}/good")) == path
    assert server.asked == ["/good"]
    assert files_below(cache) == ["thing.bin"]


def test_a_good_file_needs_neither_network_nor_a_cache_that_can_be_written(cache, monkeypatch):
    cache.mkdir()
    (cache / "thing.bin").write_bytes(CONTENT)

    def refuse(*args, **kwargs):
        raise AssertionError("no lock and no network is needed for a file that is there")

    monkeypatch.setattr(download, "locked", refuse)
    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)
    assert fetch(remote("http://127.0.0.1:9/never")).read_bytes() == CONTENT


@pytest.mark.parametrize("sha", [SHA[:8], SHA])
def test_whole_sums_and_first_digits_are_accepted(server, sha):
    assert fetch(remote(f"{server.url}/good", sha=sha)).is_file()


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("missing", "HTTP 404"),
        ("short", "cut short, 640,000 of 1,280,000 bytes"),
        ("unsized", "not the expected file"),
        ("wrong", "not the expected file"),
    ],
)
def test_a_bad_answer_is_one_clear_error_and_leaves_nothing(server, cache, page, reason):
    with pytest.raises(DataError) as caught:
        fetch(remote(f"{server.url}/{page}"))
    message = str(caught.value)
    for part in (reason, f"{server.url}/{page}", str(cache / "thing.bin"), SHA):
        assert part in message
    assert files_below(cache) == []


def test_no_network_says_where_to_put_the_file(cache):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/good"
    with pytest.raises(DataError, match="no connection") as caught:
        fetch(remote(url))
    assert str(cache / "thing.bin") in str(caught.value)
    assert files_below(cache) == []


def test_a_silent_server_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download, "NETWORK_TIMEOUT", 0.2)
    with pytest.raises(DataError, match="timed out"):
        fetch(remote(f"{server.url}/silent"))


def test_the_next_url_is_tried(server):
    urls = [f"{server.url}/{page}" for page in ("missing", "wrong", "good")]
    assert fetch(remote(*urls)).read_bytes() == CONTENT


def test_a_damaged_file_is_replaced_once_the_new_one_is_good(server, cache):
    cache.mkdir()
    path = cache / "thing.bin"
    path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataError, match="left as it"):
        fetch(remote(f"{server.url}/short"))
    assert path.read_bytes() == b"damaged"
    with pytest.warns(UserWarning, match="damaged"):
        fetch(remote(f"{server.url}/good"))
    assert path.read_bytes() == CONTENT


def test_what_a_killed_process_left_is_no_obstacle(server, cache):
    cache.mkdir()
    (cache / ".12345.part.thing.bin").write_bytes(CONTENT * 2)
    assert fetch(remote(f"{server.url}/good")).read_bytes() == CONTENT
    assert files_below(cache) == ["thing.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk(server, cache, monkeypatch):
    @contextmanager
    def on_a_full_disk(path):
        with files.whole(path) as part:
            part.symlink_to("/dev/full")
            yield part

    monkeypatch.setattr(download, "whole", on_a_full_disk)
    with pytest.raises(DataError, match=os.strerror(errno.ENOSPC)):
        fetch(remote(f"{server.url}/good"))
    assert files_below(cache) == []


def test_a_cache_that_cannot_be_written(server, cache, monkeypatch):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="EQUITUTOR_CACHE"):
        fetch(remote(f"{server.url}/good"))

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.unlink()
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(DataError, match=os.strerror(errno.EROFS)):
        fetch(remote(f"{server.url}/good"))
    assert server.asked == []


def _fetch_in_child(url, together, done):
    together.wait(60)
    done.put(hashlib.sha256(fetch(remote(url)).read_bytes()).hexdigest())


def test_two_processes_fill_one_cache(server, cache):
    context = multiprocessing.get_context("spawn")
    together, done = context.Barrier(2), context.Queue()
    children = [
        context.Process(target=_fetch_in_child, args=(f"{server.url}/slow", together, done))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    assert [done.get(timeout=60) for _ in children] == [SHA, SHA]
    for child in children:
        child.join()
    assert server.asked == ["/slow"], "the second waits for the first"
    assert files_below(cache) == ["thing.bin"]


def test_unknown_names_and_sums():
    with pytest.raises(ValueError, match="cifar10, cifar100, hymenoptera"):
        fetch("cifar1000")
    for bad in ("", "abc", "Z" * 64, SHA.upper(), f"{SHA}0"):
        with pytest.raises(ValueError, match="hexadecimal"):
            RemoteFile("x", ("http://x",), (bad,))
    with pytest.raises(ValueError, match="needs a URL"):
        RemoteFile("x", (), (SHA,))
    for urls, sums, field in (("http://x", (SHA,), "urls"), (("http://x",), SHA, "sha256")):
        with pytest.raises(TypeError, match=rf"{field} must be a tuple, got '\w+.*: write \("):
            RemoteFile("x", urls, sums)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:x", "a\\..\\..\\x", ".", ""])
def test_a_name_that_leads_out_of_the_cache(name):
    with pytest.raises(ValueError, match="is no path inside the cache folder"):
        RemoteFile(name, ("http://x",), (SHA,))


@pytest.mark.parametrize("wrong", ["example/thing.bin", "", "foo://x/y", "http://"])
def test_an_address_that_is_none_does_not_hide_the_next(server, cache, wrong):
    with pytest.raises(DataError, match=f"  {wrong}: .*\n"):
        fetch(remote(wrong))
    assert fetch(remote(wrong, f"{server.url}/good")).read_bytes() == CONTENT


def test_the_cache_folder(monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", "~/here")
    assert download.cache_dir() == Path.home() / "here"
    monkeypatch.delenv("EQUITUTOR_CACHE")
    assert download.cache_dir() == Path.home() / ".cache" / "equitutor"


# Archives


def make_zip(path, members, mode=None):
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if mode is not None:
                info.external_attr = mode << 16
            pack.writestr(info, content)
    return path


def make_tar(path, members, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as pack:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            pack.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archives_are_unpacked_once(tmp_path, make):
    archive = make(tmp_path / "a", {"top/one.txt": b"1", "top/deep/two.txt": b"2"})
    folder = extract(archive, tmp_path / "out")
    assert (folder / "top" / "deep" / "two.txt").read_bytes() == b"2"
    archive.unlink()
    assert extract(archive, tmp_path / "out") == folder


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "a\\..\\..\\evil"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_lead_outside_are_refused(tmp_path, make, name):
    archive = make(tmp_path / "a", {"good": b"1", name: b"2"})
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="leads outside"):
        extract(archive, tmp_path / "deep" / "out")
    assert files_below(tmp_path) == before
    assert not (tmp_path / "deep" / "out").exists()


def test_links_and_devices_are_refused(tmp_path):
    bad = [make_zip(tmp_path / "z", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        bad.append(make_tar(tmp_path / f"t{kind.decode()}", {"link": b""}, kind=kind))
    for archive in bad:
        with pytest.raises(DataError, match="link or a device"):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_damaged_archive_leaves_nothing(tmp_path, make):
    archive = make(tmp_path / "a", {f"{i}": os.urandom(20_000) for i in range(5)})
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:50_000] + b"\0" * 99 + whole[50_099:], b"no"):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match="could not be unpacked"):
            extract(archive, tmp_path / "out")
        assert files_below(tmp_path) == ["a"]


# Image folders


def write_image(path, size=(40, 30), color=(200, 30, 90)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def split_folder(tmp_path):
    root = tmp_path / "pictures"
    for part, count in (("train", 3), ("val", 2)):
        for label, kind in enumerate(("ants", "bees")):
            for i in range(count):
                write_image(root / part / kind / f"{i}.png", color=(100 * label, 50, i))
    return root


def test_a_folder_that_is_split(split_folder):
    sets = data.image_folder(split_folder, size=28)
    assert [len(sets["train"]), len(sets["test"])] == [6, 4]
    train = sets["train"]
    assert train.images.shape == (6, 3, 28, 28)
    assert train.classes == ("ants", "bees")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.images[4].unique().tolist() == [1, 50, 100]
    assert "pictures" in repr(train)


def test_test_wins_over_val(split_folder):
    (split_folder / "val").rename(split_folder / "test")
    for kind in ("ants", "bees"):
        write_image(split_folder / "val" / kind / "x.png")
    assert len(data.image_folder(split_folder, size=8)["test"]) == 4


def test_a_folder_that_is_not_split(tmp_path):
    for kind, count in (("a", 20), ("b", 10), ("c", 2)):
        for i in range(count):
            write_image(tmp_path / "own" / kind / f"{i}.png", color=(i, 0, ord(kind)))
    first = data.image_folder(tmp_path / "own", size=8)
    assert first["test"].labels.bincount().tolist() == [4, 2, 1]
    assert first["train"].labels.bincount().tolist() == [16, 8, 1]
    pixels = {(*x[:, 0, 0].tolist(),) for s in first.values() for x in s.images}
    assert len(pixels) == 32, "every image is in exactly one of the two"
    again = data.image_folder(tmp_path / "own", size=8)
    other = data.image_folder(tmp_path / "own", size=8, seed=1)
    assert torch.equal(first["test"].images, again["test"].images)
    assert not torch.equal(first["test"].images, other["test"].images)


def test_the_centre_is_cut_out(tmp_path):
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 36:92] = 255  # the middle 56 columns: what is left of 64 after the margin
    for kind in ("a", "b"):
        for i in range(2):
            write_image(tmp_path / "own" / kind / f"{i}.png")
            Image.fromarray(pixels).save(tmp_path / "own" / kind / f"{i}.png")
    assert data.image_folder(tmp_path / "own", size=56)["train"].images.min() == 255


@pytest.mark.parametrize("size", [(5, 300), (300, 5), (1, 1), (224, 224)])
def test_images_of_any_shape_come_out_square(tmp_path, size):
    for kind in ("a", "b"):
        write_image(tmp_path / "own" / "train" / kind / "0.png", size=size)
        write_image(tmp_path / "own" / "test" / kind / "0.png", size=size)
    assert data.image_folder(tmp_path / "own", size=20)["train"].images.min() == 30, "no black rim"


def test_grey_palette_and_transparent_images_become_rgb(tmp_path):
    for kind in ("a", "b"):
        for i, mode in enumerate(("L", "P", "RGBA", "1", "LA")):
            write_image(tmp_path / "own" / kind / f"{i}.png")
            Image.new(mode, (9, 9)).save(tmp_path / "own" / kind / f"{i}.png")
    assert data.image_folder(tmp_path / "own", size=8)["train"].images.shape == (8, 3, 8, 8)


def test_the_orientation_of_a_photograph_is_kept(tmp_path):
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # to be shown upside down
    for kind in ("a", "b"):
        for i in range(2):
            write_image(tmp_path / "own" / kind / f"{i}.png")
            Image.fromarray(pixels).save(tmp_path / "own" / kind / f"{i}.png", exif=exif)
    image = data.image_folder(tmp_path / "own", size=14)["train"].images[0]
    assert image[0, 0, 0] < image[0, -1, 0]


def test_what_is_no_image_is_left_out(split_folder):
    ants = split_folder / "train" / "ants"
    Image.new("RGB", (9, 9)).save(ants / "imageNotFound.gif")
    for junk in ("Thumbs.db", ".DS_Store", "._0.jpg"):
        (ants / junk).write_bytes(b"junk")
    (split_folder / "train" / ".ipynb_checkpoints").mkdir()
    assert len(data.hymenoptera(split_folder, size=8)["train"]) == 6


def test_what_is_left_out_of_a_folder_is_said(split_folder):
    ants = split_folder / "train" / "ants"
    for name in ("a.gif", "b.GIF", "Thumbs.db", "notes", "x\x1b.t\x1bt", ".DS_Store", "._0.jpg"):
        (ants / name).write_bytes(b"junk")
    (ants / "deeper").mkdir()
    write_image(ants / "deeper" / "0.png")
    (ants / ".ipynb_checkpoints").mkdir()
    write_image(ants / ".ipynb_checkpoints" / "0.png")
    says = r"^6 files skipped: \.db 1, \.gif 2, \.png 1, \.t\\x1bt 1, no ending 1\. Read are"
    with pytest.warns(UserWarning, match=says):
        assert len(data.image_folder(split_folder, size=8)["train"]) == 6


def test_folders_that_will_not_do(tmp_path, split_folder):
    def fails(match, path=split_folder):
        with pytest.raises(DataError, match=match):
            data.image_folder(path, size=8)

    fails("there is no folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    fails("found none", tmp_path / "empty")
    write_image(tmp_path / "one" / "cats" / "0.png")
    fails("found only cats", tmp_path / "one")
    for kind in ("a", "b"):
        write_image(tmp_path / "bare" / kind / "0.png")
    fails("at least two images", tmp_path / "bare")
    (split_folder / "val" / "wasps").mkdir()
    fails("no images in .*wasps")
    write_image(split_folder / "val" / "wasps" / "0.png")
    fails("differ: wasps")
    (split_folder / "val").rename(split_folder / "valid")
    fails("no test or val folder")


def test_broken_images_are_named_and_left(split_folder):
    ants = split_folder / "train" / "ants"
    whole = (ants / "0.png").read_bytes()
    (ants / "0.png").write_bytes(whole[: len(whole) // 2])
    (ants / "1.png").write_bytes(b"")
    (ants / "page.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="replace or remove") as caught:
        data.image_folder(split_folder, size=8)
    assert all(name in str(caught.value) for name in ("0.png", "1.png", "page.jpg"))
    assert "2.png" not in str(caught.value)
    assert (ants / "1.png").read_bytes() == b""


@pytest.mark.parametrize("load", [partial(data.image_folder, "x"), data.hymenoptera, data.digits])
def test_size_is_checked(load):
    for bad in (0, -3):
        with pytest.raises(ValueError, match="at least 1"):
            load(size=bad)
    for bad in (2.5, "8", True, None, np.float64(8), np.True_, np.array([8, 8])):
        with pytest.raises(TypeError, match="whole number"):
            load(size=bad)


@pytest.mark.parametrize("size", [np.uint8(96), np.int64(96), torch.tensor(96)])
def test_a_size_may_be_any_whole_number(split_folder, size):
    own = data.image_folder(split_folder, size=96)["train"].images
    assert torch.equal(data.image_folder(split_folder, size=size)["train"].images, own)
    assert data.digits(size=size)["test"].images.shape[2:] == (96, 96)


# Data sets


def test_digits():
    sets = data.digits()
    assert (len(sets["train"]), len(sets["test"])) == (1438, 359)
    train = sets["train"]
    assert train.images.shape == (1438, 3, 32, 32)
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert torch.equal(train.images[:, 0], train.images[:, 2])
    assert train.classes == tuple("0123456789")
    shares = sets["test"].labels.bincount() / (
        sets["test"].labels.bincount() + train.labels.bincount()
    )
    assert (shares - 0.2).abs().max() < 0.01
    assert torch.equal(data.digits()["test"].images, sets["test"].images)
    assert not torch.equal(data.digits(seed=1)["test"].labels, sets["test"].labels)


def test_digits_at_their_own_size_are_the_original():
    from sklearn.datasets import load_digits

    own = torch.as_tensor(load_digits().images * 255 / 16).round().to(torch.uint8)
    found = torch.cat([s.images[:, 0] for s in data.digits(size=8).values()])
    assert sorted(map(bytes, found.numpy())) == sorted(map(bytes, own.numpy()))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_the_test_fraction_is_checked(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        data.digits(test_fraction=fraction)


@pytest.fixture
def cifar_folder(tmp_path):
    root = tmp_path / "cifar"
    for part in ("train", "test"):
        for label, kind in enumerate(data.CIFAR10_CLASSES):
            write_image(root / part / kind / "0000.png", (32, 32), (label, 1, 2))
    return root


def test_cifar10_from_image_files_is_decoded_once(cifar_folder, cache, monkeypatch):
    first = data.cifar10(cifar_folder)
    assert first["train"].images.shape == (10, 3, 32, 32)
    assert first["train"].images[:, 0, 0, 0].tolist() == list(range(10)), "no margin, no scaling"
    monkeypatch.setattr(imageset, "decode", None)
    second = data.cifar10(cifar_folder)
    assert torch.equal(first["test"].images, second["test"].images)
    assert torch.equal(first["test"].labels, second["test"].labels)
    monkeypatch.undo()
    assert len(files_below(cache)) == 1


def test_the_decoded_file_follows_the_images(cifar_folder):
    def red_of_cats():
        return data.cifar10(cifar_folder)["train"].images[3, 0].unique().tolist()

    cats = cifar_folder / "train" / "cat"
    (cats / "0000.png").unlink()
    write_image(cats / "0000.bmp", (32, 32), (50, 0, 0))
    assert red_of_cats() == [50]
    size = (cats / "0000.bmp").stat().st_size
    write_image(cats / "0000.bmp", (32, 32), (99, 0, 0))
    os.utime(cats / "0000.bmp", (1e9, 1e9))
    assert (cats / "0000.bmp").stat().st_size == size
    assert red_of_cats() == [99]


def test_pixels_kept_by_another_way_of_reading_are_not_used(cifar_folder, cache, monkeypatch):
    old = data.cifar10(cifar_folder)
    (kept,) = (cache / "decoded").glob("*.npz")
    np.savez(kept, **{part: 255 - images.images.numpy() for part, images in old.items()})
    assert not torch.equal(data.cifar10(cifar_folder)["train"].images, old["train"].images)
    monkeypatch.setattr(imageset, "DECODING", imageset.DECODING + 1)
    assert torch.equal(data.cifar10(cifar_folder)["train"].images, old["train"].images)
    assert len(list((cache / "decoded").glob("*.npz"))) == 2


def test_a_damaged_decoded_file_is_made_anew(cifar_folder, cache):
    first = data.cifar10(cifar_folder)
    (kept,) = (cache / "decoded").glob("*.npz")
    whole = kept.read_bytes()
    flipped = bytes([whole[2000] ^ 1])
    for damaged in (b"", whole[:5000], whole[:2000] + flipped + whole[2001:]):
        kept.write_bytes(damaged)
        assert torch.equal(data.cifar10(cifar_folder)["train"].images, first["train"].images)
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_only_slower(cifar_folder, cache):
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be written"):
        assert len(data.cifar10(cifar_folder)["train"]) == 10


def test_a_folder_that_is_not_cifar10(cifar_folder, split_folder):
    for path, match in (
        (cifar_folder / "train", "no train and test folders"),
        (split_folder, "found ants, bees"),
    ):
        with pytest.raises(DataError, match=match):
            data.cifar10(path)


def cifar_members():
    rng = np.random.default_rng(0)
    members = {}
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rows = np.zeros((10_000, 3073), dtype=np.uint8)
        rows[:, 0] = rng.integers(0, 10, 10_000)
        rows[:, 1:] = rows[:, :1] * 20  # the pixels tell the label
        rows[:, 1] = 255  # the first row's first red pixel
        members[f"cifar-10-batches-bin/{name}"] = rows.tobytes()
    return members


def test_cifar10_from_the_official_archive(tmp_path, cache, monkeypatch):
    cache.mkdir()
    archive = make_tar(cache / "cifar-10-binary.tar.gz", cifar_members())
    fake = replace(download.FILES["cifar10"], sha256=(download.sha256sum(archive),))
    monkeypatch.setitem(download.FILES, "cifar10", fake)
    sets = data.cifar10()
    assert (len(sets["train"]), len(sets["test"])) == (50_000, 10_000)
    train = sets["train"]
    assert torch.equal(train.images[:, 1, 5, 7].long(), train.labels * 20)
    assert (train.images[:, 0, 0, 0] == 255).all()
    away = archive.rename(tmp_path / archive.name)  # the unpacked folder is enough
    batches = cache / "cifar-10" / "cifar-10-batches-bin"
    assert torch.equal(data.cifar10()["test"].labels, data.cifar10(batches)["test"].labels)
    mine = shutil.copytree(batches, tmp_path / "mine")
    for folder in (batches, mine):
        os.truncate(folder / "data_batch_3.bin", 999)
    with pytest.raises(DataError, match=r"data_batch_3.bin is missing or damaged: 999 of") as error:
        data.cifar10()
    assert str(error.value).endswith(f"Delete the folder {batches.parent} and run again.")
    with pytest.raises(DataError, match="Unpack the official archive anew"):  # it is not ours
        data.cifar10(mine)
    away.rename(archive)
    shutil.rmtree(batches.parent)  # as advised
    assert torch.equal(data.cifar10()["train"].labels, train.labels)


def cifar100_members(names=100):
    members = {}
    for name, count in {"train.bin": 50_000, "test.bin": 10_000}.items():
        rows = np.zeros((count, 3074), dtype=np.uint8)
        rows[:, 1] = np.arange(count) % 100  # the second byte is the fine label
        rows[:, 0] = rows[:, 1] // 5
        rows[:, 2:] = rows[:, 1:2]
        members[f"cifar-100-binary/{name}"] = rows.tobytes()
    text = "\n".join(f"thing_{i:02}" for i in range(names))
    return {**members, "cifar-100-binary/fine_label_names.txt": text.encode()}


def test_cifar100_from_the_official_archive(tmp_path, cache, monkeypatch):
    cache.mkdir()
    archive = make_tar(cache / "cifar-100-binary.tar.gz", cifar100_members())
    fake = replace(download.FILES["cifar100"], sha256=(download.sha256sum(archive),))
    monkeypatch.setitem(download.FILES, "cifar100", fake)
    sets = data.cifar100()
    assert (len(sets["train"]), len(sets["test"])) == (50_000, 10_000)
    test = sets["test"]
    assert len(test.classes) == 100 and test.classes[7] == "thing_07"
    assert torch.equal(test.labels, torch.arange(10_000) % 100)
    assert torch.equal(test.images[:, 2, 31, 31].long(), test.labels)
    folder = cache / "cifar-100" / "cifar-100-binary"
    (folder / "fine_label_names.txt").write_text("thing")
    with pytest.raises(DataError, match="1 of 100 class names"):
        data.cifar100(folder)


def test_official_files_are_registered():
    for file in download.FILES.values():
        assert all(len(digest) == 64 for digest in file.sha256)
        assert all(url.startswith("https://") for url in file.urls)


@pytest.mark.skipif(OFFICIAL not in os.environ, reason=f"needs ${OFFICIAL}")
def test_the_real_hymenoptera(cache):
    cache.mkdir()
    (cache / "hymenoptera_data.zip").symlink_to(
        Path(os.environ[OFFICIAL]).absolute() / "hymenoptera_data.zip"
    )
    sets = data.hymenoptera(size=64)
    assert sets["train"].labels.bincount().tolist() == [123, 121]
    assert sets["test"].labels.bincount().tolist() == [70, 83]
    assert sets["train"].classes == ("ants", "bees")


# Image sets


def test_subsets():
    whole = ImageSet(
        torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 2),
        torch.tensor([0, 1, 0, 1, 0]),
        ("a", "b"),
        "five",
    )
    mask = whole.labels == 1
    for pick in ([1, 3], (1, 3), np.array([1, 3]), mask, mask.numpy(), slice(1, None, 2)):
        part = whole.subset(pick)
        assert part.images[:, 0, 0, 0].tolist() == [1, 3]
        assert part.labels.tolist() == [1, 1]
    assert len(whole.subset([])) == 0


def test_image_sets_are_checked():
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)
    for bad_images, bad_labels, match in [
        (images.float(), labels, "uint8"),
        (images[:, :1], labels, "N, 3, H, W"),
        (images, labels[:1], "one for each"),
        (images, labels.int(), "int64"),
        (images, labels + 2, "0 to 1"),
    ]:
        with pytest.raises(ValueError, match=match):
            ImageSet(bad_images, bad_labels, ("a", "b"), "bad")


# Pretrained weights


def test_the_weight_files_are_torchvisions():
    for arch in KNOWN[:5]:
        file = pretrained.weights_file(arch)
        assert re.fullmatch(rf"weights/{arch}(-owt)?-{file.sha256[0]}\.pth", file.name)
    with pytest.raises(ValueError, match="resnet5"):
        pretrained.weights_file("resnet5")


def test_weights_that_are_not_to_be_had(cache, monkeypatch):
    file = replace(pretrained.weights_file("resnet18"), urls=("http://127.0.0.1:9/w.pth",))
    monkeypatch.setattr(pretrained, "weights_file", lambda arch: file)
    with pytest.raises(DataError, match="SHA-256 f37072fd") as caught:
        pretrained.pretrained_state("resnet18")
    assert str(cache / "weights" / "resnet18-f37072fd.pth") in str(caught.value)


def old_names(state):
    """DenseNet's keys as the published checkpoint has them."""
    pattern = r"(denselayer\d+\.(?:norm|conv))(\d)\."
    return {re.sub(pattern, r"\1.\2.", key): value for key, value in state.items()}


@pytest.mark.parametrize("arch", KNOWN[:5])
def test_weights_that_are_there(cache, monkeypatch, arch):
    from torchvision.models import get_model

    file = pretrained.weights_file(arch)
    path = cache / file.name
    path.parent.mkdir(parents=True)
    with torch.device("meta"):
        shapes = get_model(arch).state_dict()
    # One byte a number keeps VGG's half gigabyte out of a test.
    state = {k: torch.randint(0, 9, v.shape, dtype=torch.uint8) for k, v in shapes.items()}
    torch.save(old_names(state), path)
    digest = download.sha256sum(path)[:8]
    monkeypatch.setattr(pretrained, "weights_file", lambda arch: replace(file, sha256=(digest,)))
    found = pretrained.pretrained_state(arch)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    path.write_bytes(b"no checkpoint")
    digest = download.sha256sum(path)[:8]
    with pytest.raises(DataError, match="no weights that torch can load"):
        pretrained.pretrained_state(arch)


def test_densenet_weights_load_into_the_model(cache, monkeypatch):
    from torchvision.models import densenet121

    file = pretrained.weights_file("densenet121")
    path = cache / file.name
    path.parent.mkdir(parents=True)
    model, other = densenet121(), densenet121()
    torch.save(old_names(model.state_dict()), path)
    digest = download.sha256sum(path)[:8]
    monkeypatch.setattr(pretrained, "weights_file", lambda arch: replace(file, sha256=(digest,)))
    other.load_state_dict(pretrained.pretrained_state("densenet121"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), other.eval()(x))


GROWTH = """
import re, sys
from equitutor.images import data
def most():  # not getrusage, which counts the process that started this one
    return int(re.search("VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
before = most()
sets = data.image_folder(sys.argv[1], size=32)
assert sum(map(len, sets.values())) == 8
print(most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
def test_large_images_are_not_in_memory_at_once(tmp_path):
    """Eight of 36 million pixels, 144 MB each as Pillow holds them."""
    for name in "ab":
        (tmp_path / name).mkdir()
    first = tmp_path / "a" / "0.png"
    Image.new("RGB", (6000, 6000)).save(first, compress_level=1)
    for i in range(1, 8):
        (tmp_path / "ab"[i % 2] / f"{i}.png").hardlink_to(first)
    words = [sys.executable, "-c", GROWTH, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250_000  # KB


def test_small_and_large_images_keep_their_places(split_folder, monkeypatch):
    before = data.image_folder(split_folder, size=8)
    monkeypatch.setattr(imageset, "SMALL", 1)
    Image.new("L", (1, 1), 9).save(sorted((split_folder / "train").glob("*/*.png"))[0])
    after = data.image_folder(split_folder, size=8)
    assert torch.equal(before["test"].images, after["test"].images)
    assert torch.equal(before["train"].images[1:], after["train"].images[1:])
    assert (after["train"].images[0] == 9).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_names_that_are_no_utf_8_are_decoded_once(tmp_path, monkeypatch):
    root = tmp_path / os.fsdecode(b"\xff")
    for name in "ab":
        write_image(root / name / f"{root.name}.png")
    first = imageset.decode_once("x", imageset.list_images(root), 8)["all"]
    monkeypatch.setattr(imageset, "decode", lambda *_: pytest.fail("decoded again"))
    again = imageset.decode_once("x", imageset.list_images(root), 8)["all"]
    assert torch.equal(first.images, again.images)
