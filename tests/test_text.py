"""Names of others in a terminal."""

import os
import sys

import pytest
from PIL import Image

from equitutor.__main__ import main
from equitutor.experiments import methods
from equitutor.store.results import Record, Store
from equitutor.text import printable

NASTY = "pets\x1b[2J\x07\r\u202e\x9b31m"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("λ-equitune, 中文 é", "λ-equitune, 中文 é"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("a\tb\nc", r"a\tb\nc"),
        ("\udc80", r"\udc80"),  # of a file's name that is no UTF-8
        ("\u202eabc", r"\u202eabc"),  # would turn the line around
        (7, "7"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(given, shown):
    assert printable(given) == shown
    shown.encode()


def test_lines_can_be_kept():
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"


def test_the_tables_of_records_are_escaped(tmp_path, capsys):
    """All commands that show a data set's name."""
    metrics = dict.fromkeys(("zero_shot_upright", "zero_shot", "upright", "accuracy"), 1.0)
    cell = {"dataset": NASTY, "weights": "random", "backbone": NASTY, "group": "c4"}
    store = Store(tmp_path / "methods.json")
    store.add(Record("methods", {**cell, "method": "none", "seed": 0}, metrics))
    assert main(["results", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert r"pets\x1b[2J" in told and told.count(r"\u202e") >= 2
    assert not set(told) - {"\n"} & {c for c in told if not c.isprintable()}


def test_the_names_of_a_model_s_layers_are_escaped(tmp_path, capsys):
    (tmp_path / "model.py").write_text(
        "from torch import nn\nmodel = nn.Sequential()\n"
        "model.add_module('head\\x1b[2J', nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))"
    )
    assert main(["check", f"{tmp_path / 'model.py'}:model", "--size", "3,4,4"]) == 1
    told = capsys.readouterr().out
    assert r"head\x1b[2J" in told and "\x1b" not in told


def test_errors_are_escaped(tmp_path, capsys):
    path = tmp_path / "methods.json"
    path.write_text('{"format": 1, "experiment": "a\\u001b[2J", "cells": []}')
    assert main(["results", "--results", str(tmp_path)]) == 1
    assert main(["check", f"{NASTY}.py:model"]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told and r"pets\x1b[2J" in told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_run_with_names_that_are_no_utf_8(tmp_path, capsys, monkeypatch):
    """A data set, its classes and images, the results and the cache; what is said can be printed."""
    odd = os.fsdecode(b"\xff") + "\x1b[2J"
    root, results = tmp_path / f"pets{odd}", tmp_path / f"results{odd}"
    for name in (f"cat{odd}", f"dog{odd}"):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (40, 40), 50 * i).save(root / name / f"{odd}{i}.png")
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / f"cache{odd}"))
    words = ["run", "methods", "--dataset", str(root), "--results", str(results)]
    monkeypatch.setattr(sys, "orig_argv", words)
    metrics = dict.fromkeys(("zero_shot_upright", "zero_shot", "upright", "accuracy"), 1.0)
    monkeypatch.setattr(methods, "run_cell", lambda *_: metrics)
    words += ["--methods", "none", "--pretrain-epochs", "1"]
    assert main(words) == 0
    assert main(["results", "--results", str(results)]) == main(["verify", str(results)]) == 0
    assert list((tmp_path / f"cache{odd}" / "checkpoints").glob("*.safetensors"))
    (results / "methods.json").unlink()
    (root / f"cat{odd}" / f"{odd}0.png").write_bytes(b"damaged")
    assert main(words) == 1
    told = "".join(capsys.readouterr())
    told.encode()
    assert not {c for c in told if not c.isprintable()} - {"\n", "\r"}
    assert rf"\udcff\x1b[2J{0}.png (none of" in told and "go on with: run methods" in told
