import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import equitutor as eq
from equitutor import environment
from equitutor.environment import setup


@pytest.fixture(autouse=True)
def no_colab(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_the_same_seed_gives_the_same_numbers():
    first, second, third = [(setup(seed=seed), draw()) for seed in (3, 3, 4)]
    assert first == second
    assert all(a != b for a, b in zip(first[1], third[1], strict=True))


def test_it_returns_and_prints_what_was_chosen(capsys):
    found = setup("paper", seed=7, device="cpu")
    assert found == environment.Environment(
        "paper", 7, torch.device("cpu"), torch.get_num_threads()
    )
    printed = capsys.readouterr().out
    for part in (
        f"equitutor {eq.__version__}",
        "Python 3.",
        f"torch {torch.__version__}",
        f"numpy {np.__version__}",
        "transformers ",
        "preset paper",
        "seed 7",
    ):
        assert part in printed
    assert "device cpu" in printed and "thread" in printed
    assert "Colab" not in printed and "Runtime >" not in printed
    assert "can take days" in printed


def test_the_default_device(monkeypatch):
    for there, name in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert environment.usable_device(None) == torch.device(name)


def test_on_colab_without_a_gpu_it_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    setup(device="cpu")
    assert "Runtime > Change runtime type" in capsys.readouterr().out


def test_on_colab_it_says_how_to_keep_what_a_paper_run_makes(monkeypatch, capsys):
    monkeypatch.delenv("EQUITUTOR_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "google.colab", None)
    setup("paper", device="cpu")
    assert "set EQUITUTOR_CACHE" in capsys.readouterr().out
    setup("quick", device="cpu")  # downloads nothing
    assert "EQUITUTOR_CACHE" not in capsys.readouterr().out
    monkeypatch.setenv("EQUITUTOR_CACHE", "/content/drive/MyDrive/equitutor")
    setup("paper", device="cpu")
    assert "EQUITUTOR_CACHE" not in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["fast", "Quick", "", None, 1])
def test_the_preset_is_checked(preset):
    with pytest.raises(ValueError, match='"quick" or "paper"'):
        setup(preset)


def test_the_seed_is_checked():
    for bad in (-1, 2**32):
        with pytest.raises(ValueError, match="seed must lie"):
            setup(seed=bad)
    for bad in (1.0, "1", None, True):
        with pytest.raises(TypeError, match="an integer"):
            setup(seed=bad)


def test_a_bad_call_changes_no_generator():
    setup(seed=5)
    expected = draw()
    setup(seed=5)
    for bad in ({"preset": "x"}, {"device": "abacus"}, {"seed": -1}):
        with pytest.raises(ValueError):
            setup(**bad)
    assert draw() == expected


@pytest.mark.parametrize("device", ["abacus", "cuda:99", ""])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match='Use "cpu"'):
        setup(device=device)


def test_it_works_without_git_and_network(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from equitutor.environment import setup\n"
        "setup()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "preset quick" in found.stdout


def test_quick_on_a_cpu_takes_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert setup(preset="paper", device="cpu").threads == 2
        assert setup(preset="quick", device="cpu").threads == 1
        assert setup(preset="quick", device="cpu").threads == 1
        assert setup(preset="paper", device="cpu").threads == 2  # they are given back
        assert setup(preset="quick", device="cpu").threads == 1
        torch.set_num_threads(3)  # what somebody chose meanwhile stays
        assert setup(preset="paper", device="cpu").threads == 3
        torch.set_num_threads(1)
        assert setup(preset="quick", device="cpu").threads == 1
    finally:
        torch.set_num_threads(before)
