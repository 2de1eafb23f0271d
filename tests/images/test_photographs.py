"""The photographs in the packages: what they are, how they are prepared, and what is said without them."""

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

import equitutor as eq
from equitutor.images import data
from equitutor.store.files import DataError

SKIMAGE = Path(skimage.__file__).parent / "data"


def closest(image, others):
    """The position of the picture of least mean difference."""
    differences = [(image.float() - other.float()).abs().mean() for other in others]
    return int(torch.stack(differences).argmin())


def test_there_are_nine_with_a_class_each():
    photographs = eq.data.photographs()
    assert photographs.images.shape == (9, 3, 224, 224)
    assert photographs.images.dtype == torch.uint8
    assert photographs.labels.tolist() == list(range(9))
    assert photographs.classes == tuple(sorted(set(photographs.classes)))
    assert {"cameraman", "cat", "rocket", "china", "flower"} <= set(photographs.classes)


def test_each_is_another_picture_with_something_on_it():
    images = eq.data.photographs(32).images.float()
    assert (images.flatten(1).std(1) > 20).all()
    assert all(closest(image, images) == i for i, image in enumerate(images))
    same = [torch.equal(a, b) for i, a in enumerate(images) for b in images[:i]]
    assert not any(same)


def test_the_cameraman_is_grey_and_the_others_are_as_they_are():
    photographs = eq.data.photographs(64)
    grey = (photographs.images == photographs.images[:, :1]).all(1).flatten(1).all(1)
    names = {name for name, one in zip(photographs.classes, grey, strict=True) if one}
    assert names == {"cameraman", "coins"}


@pytest.mark.parametrize(("name", "file"), [("cameraman", "camera.png"), ("cat", "chelsea.png")])
def test_the_centre_is_cut_out_of_the_shorter_side(name, file):
    """7/8 of the shorter side, as image_folder does."""
    photographs = eq.data.photographs(112)
    with Image.open(SKIMAGE / file) as picture:
        width, height = picture.size
        half = min(width, height) * 7 / 16
        middle = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        cut = picture.convert("RGB").resize((112, 112), Image.Resampling.BILINEAR, box=middle)
    expected = torch.from_numpy(np.array(cut)).movedim(-1, 0).float()
    found = photographs.images[photographs.classes.index(name)].float()
    assert (found - expected).abs().mean() < 3  # of 255; scaled first or cut first
    assert (found.flip(-1) - expected).abs().mean() > 20


def test_they_are_those_of_an_image_folder(tmp_path):
    for name, file in (("cat", "chelsea.png"), ("rocket", "rocket.jpg")):
        for part in ("train", "test"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            (folder / file).write_bytes((SKIMAGE / file).read_bytes())
    own = eq.data.image_folder(tmp_path, size=96)["train"]
    photographs = eq.data.photographs(96)
    for name, image in zip(own.classes, own.images, strict=True):
        assert torch.equal(image, photographs.images[photographs.classes.index(name)])


def test_no_network_is_asked(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(data, "fetch", refuse)
    assert len(eq.data.photographs(16)) == 9


def test_the_packages_are_not_imported(monkeypatch):
    """Their import takes a second."""
    for name in [m for m in sys.modules if m.partition(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, name)
    eq.data.photographs(16)
    assert "skimage" not in sys.modules


@pytest.mark.parametrize(
    ("package", "name"), [("skimage", "scikit-image"), ("sklearn", "scikit-learn")]
)
def test_a_package_that_is_missing_is_named(monkeypatch, package, name):
    found = data.find_spec
    monkeypatch.setattr(data, "find_spec", lambda p: None if p == package else found(p))
    with pytest.raises(ModuleNotFoundError, match=f"not installed: pip install {name}$"):
        eq.data.photographs()


def test_a_picture_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(data.PHOTOGRAPHS, "cat", ("skimage", "data/no_cat.png"))
    with pytest.raises(DataError, match=r"no_cat\.png is missing.*--no-deps scikit-image"):
        eq.data.photographs()


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-3, ValueError), (8.5, TypeError), (True, TypeError)]
)
def test_a_wrong_size_is_refused(size, error):
    with pytest.raises(error, match="size must be"):
        eq.data.photographs(size)
