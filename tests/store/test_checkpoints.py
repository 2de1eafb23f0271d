"""Checkpoints: what is damaged is never used, and what cannot be kept is no loss."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from equitutor.store import checkpoints
from equitutor.store.checkpoints import kept

RECIPE = {"epochs": 1}


def make():
    return {"w": torch.arange(1.0, 7.0).reshape(2, 3), "n": torch.tensor(7)}


def never():
    pytest.fail("made again")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def is_made_anew(path):
    with pytest.warns(UserWarning, match="it is made anew") as warned:
        state = kept("net", RECIPE, make)
    assert torch.equal(state["w"], make()["w"])
    return str(path) in str(warned[0].message)


@pytest.mark.parametrize("place", ["in the cache", "with the package"])
def test_one_bit_that_flipped_is_noticed(cache, tmp_path, monkeypatch, place):
    kept("net", RECIPE, make)
    (path,) = cache.glob("net-*.safetensors")
    if place == "with the package":
        monkeypatch.setattr(checkpoints, "recorded_folder", lambda: tmp_path)
        cache.rename(tmp_path / "checkpoints")
        path = tmp_path / "checkpoints" / path.name
    good = path.read_bytes()
    for at in range(-28, 0):  # the bytes of the numbers
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bad)
        assert is_made_anew(path)
        if place == "in the cache":
            assert path.read_bytes() == good
            kept("net", RECIPE, never)


@pytest.mark.parametrize(
    "state",
    [{**make(), "w": torch.zeros(3, 2)}, {**make(), "w": torch.full((2, 3), torch.nan)}, {}],
    ids=["another shape", "NaN", "nothing"],
)
def test_the_right_recipe_is_not_enough(cache, state):
    kept("net", RECIPE, make)
    (path,) = cache.glob("net-*.safetensors")
    save_file(state, path, {"recipe": json.dumps(RECIPE)})
    assert is_made_anew(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    kept("net", RECIPE, never)
    save_file(state, path, metadata)
    assert is_made_anew(path)


def test_all_kinds_of_tensors_have_a_checksum(cache):
    kinds = (torch.bool, torch.bfloat16, torch.float64, torch.int64, torch.uint8)
    state = {str(kind): torch.ones(2, 3).to(kind).T for kind in kinds}
    state |= {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "nan": torch.tensor(torch.nan),
    }
    kept("net", RECIPE, lambda: state)
    again = kept("net", RECIPE, never)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], state[k]) for k in state if k != "nan")


def test_tensors_may_share_memory(cache, recwarn):
    w = torch.arange(6.0).reshape(2, 3)
    state = {"embedding": w, "head": w, "turned": w.T, "part": w[1:]}
    made = kept("net", RECIPE, lambda: state)
    again = kept("net", RECIPE, never)
    assert made is state and not recwarn
    assert again.keys() == state.keys() and all(torch.equal(again[k], state[k]) for k in state)


def test_what_no_file_takes_is_no_loss(cache):
    state = {"w": torch.eye(3).to_sparse()}
    with pytest.warns(UserWarning, match="could not be kept"):
        assert kept("net", RECIPE, lambda: state) is state
    assert not cache.exists()


def test_a_full_disk_is_no_loss(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.Path, "write_bytes", full)
    with pytest.warns(UserWarning, match=r"could not be kept .*No space left.* EQUITUTOR_CACHE"):
        state = kept("net", RECIPE, make)
    assert torch.equal(state["w"], make()["w"]) and not list(cache.iterdir())


def test_a_cache_that_others_closed_is_no_loss(cache, monkeypatch):
    def closed(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints.Path, "read_bytes", closed)
    monkeypatch.setattr(checkpoints.Path, "exists", closed)
    monkeypatch.setattr(checkpoints, "whole", closed)
    with (
        pytest.warns(UserWarning, match=r"cannot be used .*Permission denied"),
        pytest.warns(UserWarning, match=r"could not be kept .*Permission denied"),
    ):
        assert kept("net", RECIPE, make).keys() == {"w", "n"}


def test_names_that_a_terminal_would_obey_are_escaped(cache):
    name = "upright-pets\x1b[2J\udcff"
    kept(name, RECIPE, make)
    kept(name, RECIPE, never)
    (path,) = cache.glob("upright*")
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match=r"pets\\x1b\[2J\\udcff-\w+\.safetensors cannot be used"):
        kept(name, RECIPE, make)
