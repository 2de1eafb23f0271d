import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equitutor.book.papers import NOT_IN_SOURCES, paper_tables, summarize
from equitutor.book.tables import NONE, NOT_RUN, table
from equitutor.store import files, results
from equitutor.store import provenance as origin
from equitutor.store.files import locked
from equitutor.store.provenance import provenance
from equitutor.store.results import Record, ResultsError, Store

names = st.text("abcdefg_", min_size=1, max_size=6)
cells = st.dictionaries(names, st.integers() | st.text(max_size=8), min_size=1, max_size=4)
numbers = st.floats(allow_nan=False, allow_infinity=False)
configs = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def record(seed=0, accuracy=0.5, **more):
    cell = {"backbone": "resnet18", "group": "c4", "augmentation": "none", "seed": seed}
    return Record("vision", {**cell, **more}, {"test_accuracy": accuracy}, {"lr": 3e-4}, {})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "vision.json")


# Records


def test_a_record_holds_what_json_gives_back():
    @dataclass
    class Config:
        sizes: tuple = (1, 2)
        rate: object = np.float32(0.5)

    found = Record("x", {"seed": np.int64(3)}, {"loss": torch.tensor(0.25)}, Config())
    assert found.cell == {"seed": 3} and type(found.cell["seed"]) is int
    assert found.metrics == {"loss": 0.25}
    assert found.config == {"sizes": [1, 2], "rate": 0.5}


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"metrics": {"accuracy": math.nan}}, ValueError, "is nan, which is not a result"),
        ({"config": {"a": [1, {"b": math.inf}]}}, ValueError, r"config\['a'\]\[1\]\['b'\] is inf"),
        ({"metrics": {"accuracy": "0.9"}}, TypeError, "must be a number"),
        ({"metrics": {"accuracy": True}}, TypeError, "must be a number"),
        ({"cell": {"seed": 0.5}}, TypeError, "string or an integer"),
        ({"cell": {"seed": True}}, TypeError, "string or an integer"),
        ({"cell": {1: "a"}}, TypeError, "strings for names"),
        ({"cell": {}}, ValueError, "a cell"),
        ({"metrics": []}, TypeError, "must be a mapping"),
        ({"config": {"folder": Path("x")}}, TypeError, "must be text, a number"),
        ({"config": {"w": torch.ones(2)}}, TypeError, "must be text, a number"),
        ({"texts": {"man": "a text"}}, TypeError, r"texts\['man'\] must be a list of strings"),
        ({"texts": {"man": [1]}}, TypeError, "must be a list of strings"),
    ],
)
def test_what_a_record_refuses(change, kind, match):
    with pytest.raises(kind, match=match):
        replace(record(), **change)


# The store


def test_records_come_back(store):
    assert store.records() == []
    added = [record(seed, accuracy=seed / 7) for seed in (10, 2, 0)]
    for one in added:
        store.add(one)
    assert store.records() == added[::-1], "seeds are sorted as numbers"
    assert Store(store.path).records() == store.records()
    assert store.path.read_text().count("\n") > 20, "a file for people"


def test_texts_come_back_and_only_where_there_are_some(store):
    said = {"man": ["The man said “so”.", ""], "woman": []}
    store.add(replace(record(), texts=said))
    store.add(record(1))
    found = store.records()
    assert [dict(r.texts) for r in found] == [said, {}]
    assert ["texts" in cell for cell in json.loads(store.path.read_text())["cells"]] == [
        True,
        False,
    ]


@given(
    cells=st.lists(cells, min_size=1, max_size=5),
    config=st.dictionaries(names, configs, max_size=3),
    metrics=st.dictionaries(names, numbers, max_size=3),
)
def test_any_record_comes_back(tmp_path_factory, cells, config, metrics):
    store = Store(tmp_path_factory.mktemp("store") / "any.json")
    for cell in cells:
        store.add(Record("any", cell, metrics, config))
        assert store.done(cell, config)
    found = store.records()
    assert all(Record("any", cell, metrics, config) in found for cell in cells)
    assert len(found) == len({json.dumps(cell, sort_keys=True) for cell in cells})
    before = store.path.read_bytes()
    store.add(found[-1])
    assert store.path.read_bytes() == before, "the file depends on the records alone"


def test_done_compares_the_config(store, recwarn):
    done = record()
    assert not store.done(done.cell, done.config)
    store.add(done)
    assert store.done(done.cell, {"lr": 3e-4})
    assert not store.done({**done.cell, "seed": 1}, done.config)
    assert not recwarn.list
    for config, match in (
        ({"lr": 1e-3}, r"lr: 0.0003 -> 0.001"),
        ({"lr": 3e-4, "epochs": 10}, r"epochs: 'absent' -> 10"),
        ({}, r"lr: 0.0003 -> 'absent'"),
    ):
        with pytest.warns(UserWarning, match=match):
            assert not store.done(done.cell, config)


def test_a_new_measurement_takes_the_place_of_the_old(store):
    store.add(record(accuracy=0.1))
    store.add(record(accuracy=0.2))
    assert [r.metrics["test_accuracy"] for r in store.records()] == [0.2]


def test_other_settings_are_replaced_only_where_that_was_asked_for(store):
    store.add(record(accuracy=0.1))
    other = replace(record(accuracy=0.2), config={"lr": 1.0})
    before = store.path.read_bytes()
    strict = Store(store.path, replace=False)
    with pytest.raises(ResultsError, match=r"seed=0 with other settings .*lr: 0\.0003 -> 1\.0"):
        strict.add(other)
    assert store.path.read_bytes() == before
    strict.add(record(accuracy=0.3))  # the same settings, and a cell of its own
    strict.add(replace(record(1), config={"lr": 1.0}))
    store.add(other)
    assert [r.metrics["test_accuracy"] for r in store.records()] == [0.2, 0.5]


def test_a_store_is_of_one_experiment(store):
    with pytest.raises(ValueError, match="does not belong"):
        store.add(replace(record(), experiment="scan"))
    with pytest.raises(ValueError, match=r"ends in \.json"):
        Store("vision.csv")


GOOD = '{"format": 1, "experiment": "vision", "cells": [%s]}'
CELL = '{"cell": {"a": 1}, "metrics": {}, "config": {}, "provenance": {}}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1"),
        ((GOOD % CELL)[:-9].encode(), "line 1"),
        (b'{\n<<<<<<< HEAD\n"format": 1', "line 2"),
        (b"\xff\xfe", "decode"),
        (b"[]", 'list of "cells"'),
        (b'{"cells": {}}', 'list of "cells"'),
        (b'{"format": 0, "cells": []}', "reads 1"),
        (b"[" * 100_000, "recursion"),
        (
            (GOOD % CELL)[:-1].encode() + b', "note": "mine"}',
            "unknown fields, which would be lost: note",
        ),
        (GOOD.replace("vision", "scan").replace("%s", "").encode(), "belongs to 'scan'"),
        ((GOOD % "{}").encode(), "cell 1 must have"),
        ((GOOD % f"{CELL}, 3").encode(), "cell 2 must have"),
        ((GOOD % f"{CELL}, {CELL}").encode(), "a=1 occurs twice"),
        ((GOOD % CELL.replace('"metrics": {}', '"metrics": {"x": NaN}')).encode(), "is nan"),
        ((GOOD % CELL.replace('"metrics": {}', '"metrics": []')).encode(), "metrics"),
        ((GOOD % CELL.replace('"config": {}', '"config": 3')).encode(), "config"),
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(store, content, reason):
    store.path.write_bytes(content)
    for act in (store.records, lambda: store.done({"a": 1}, {}), lambda: store.add(record())):
        with pytest.raises(ResultsError, match="left as it is") as caught:
            act()
        assert reason in str(caught.value) and str(store.path) in str(caught.value)
        assert store.path.read_bytes() == content


def test_a_file_of_a_newer_version_is_not_called_damaged(store):
    content = GOOD.replace('"format": 1', '"format": 2') % CELL
    store.path.write_text(content)
    for act in (store.records, lambda: store.add(record())):
        with pytest.raises(ResultsError, match=r"newer version .* in format 2; this one reads 1"):
            act()
    assert store.path.read_text() == content


@pytest.mark.parametrize(
    ("metric", "reason"),
    [("1" * 400, "is too large for a float"), ("1e999", "is inf"), ('"x"', "must be a number")],
)
def test_a_metric_that_is_no_number_is_named_with_its_cell(store, metric, reason):
    store.path.write_text(GOOD % CELL.replace('"metrics": {}', f'"metrics": {{"loss": {metric}}}'))
    with pytest.raises(
        ResultsError, match=r"damaged: of cell 1, \{'a': 1\}, metrics\['loss'\]"
    ) as no:
        store.records()
    assert reason in str(no.value)


@pytest.mark.skipif(os.name == "nt", reason="making links is a privilege on Windows")
def test_a_link_to_records_stays_one(store, tmp_path):
    link = Store(tmp_path / "links" / "vision.json")
    link.path.parent.mkdir()
    link.path.symlink_to(store.path)
    link.add(record(0))
    link.try_to_write()
    store.add(record(1))
    assert link.path.is_symlink() and link.records() == store.records() == [record(0), record(1)]
    assert list(link.path.parent.iterdir()) == [link.path], "one lock for both"


def test_names_that_are_no_utf_8_come_back(store):
    one = record(dataset="pets\udcff")
    store.add(one)
    store.try_to_write()
    assert store.records() == [one]
    assert r'"pets\udcff"' in store.path.read_text(encoding="utf-8")


def test_trying_to_write_leaves_nothing(store):
    store.try_to_write()
    assert [p.name for p in store.path.parent.iterdir()] == [".vision.json.lock"]


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_a_file_that_cannot_be_read_is_not_called_damaged(store, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(results.Path, "read_text", fail)
    with pytest.raises(
        ResultsError, match=rf"vision\.json cannot be read \({error.strerror}\)"
    ) as no:
        store.records()
    assert "damaged" not in str(no.value) and "git" not in str(no.value)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_failed_write_changes_nothing(store, monkeypatch, function):
    store.add(record(0))
    before = store.path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, function, fail)
    with pytest.raises(ResultsError, match=r"No space left.* and is unchanged"):
        store.add(record(1))
    monkeypatch.undo()
    assert store.path.read_bytes() == before
    assert [p.name for p in store.path.parent.iterdir() if "part" in p.name] == []
    store.add(record(1))
    assert len(store.records()) == 2


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="could not be written"):
        Store(tmp_path / "file" / "vision.json").add(record())


def _add_many(path, first, count):
    for seed in range(first, first + count):
        Store(path).add(record(seed))


def test_processes_that_write_at_once_lose_nothing(store):
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_add_many, args=(store.path, first, 15)) for first in (0, 15)
    ]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        assert len(store.records()) <= 30, "a reader always finds a whole file"
        time.sleep(0.02)
    assert [child.exitcode for child in children] == [0] * 2
    assert [r.cell["seed"] for r in store.records()] == list(range(30))


def _hold_and_die(path, held):
    with locked(Path(path)):
        Path(path).with_name(f".{os.getpid()}.part.{Path(path).name}").write_text("half a fi")
        held.set()
        time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_holder_that_was_killed_blocks_nobody(store, monkeypatch):
    store.add(record(0))
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    child = context.Process(target=_hold_and_die, args=(str(store.path), held))
    child.start()
    assert held.wait(60)
    monkeypatch.setattr(results, "LOCK_TIMEOUT", 0.1)
    with pytest.raises(ResultsError, match="another process"):
        store.add(record(1))
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    store.add(record(1))
    assert len(store.records()) == 2
    assert [p.name for p in store.path.parent.iterdir() if "part" in p.name] == []


# Provenance


def test_provenance_says_how_and_names_no_path(monkeypatch):
    home = "/home/me/checkout"
    monkeypatch.setattr(
        origin.sys,
        "argv",
        [
            f"{home}/equitutor/__main__.py",
            "run",
            "vision",
            "--data=/home/me/d",
            "/home/me/x y",
            "c/d",
        ],
    )
    found = provenance(1.234, "cpu")
    assert found["command"] == "python -m equitutor run vision --data=d 'x y' c/d"
    assert found["seconds"] == 1.23
    assert found["torch"] == torch.__version__
    assert "thread" in found["device"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert os.sep + "home" not in json.dumps(found) and str(Path.cwd()) not in json.dumps(found)
    assert Record("x", {"a": 1}, {}, {}, found).provenance == found
    assert provenance(0, command="by hand")["command"] == "by hand"
    monkeypatch.setattr(origin.sys, "argv", ["/a/ipykernel_launcher.py", "-f", "/b/kernel.json"])
    assert provenance(0)["command"] == "in a notebook"


def test_the_commit_is_that_of_our_own_checkout(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True)
        return done.stdout.strip()

    package = tmp_path / "equitutor"
    package.mkdir()
    (package / "groups.py").write_text("")
    monkeypatch.setattr(origin, "__file__", str(package / "store" / "provenance.py"))
    assert origin._commit() == (None, None)
    git("init")
    assert origin._commit() == (None, None), "no commit yet"
    git("add", ".")
    git("commit", "-m", "first")
    assert origin._commit() == (git("rev-parse", "HEAD"), False)
    (package / "groups.py").write_text("changed")
    assert origin._commit() == (git("rev-parse", "HEAD"), True)
    # Installed somewhere inside another project's checkout.
    inner = tmp_path / "venv" / "equitutor"
    inner.mkdir(parents=True)
    monkeypatch.setattr(origin, "__file__", str(inner / "store" / "provenance.py"))
    assert origin._commit() == (None, None)
    monkeypatch.setattr(origin, "__file__", str(package / "store" / "provenance.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert origin._commit() == (None, None), "no git on this machine"


def test_where_results_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(results, "__file__", str(tmp_path / "equitutor" / "store" / "results.py"))
    assert results.results_folder() == tmp_path / "cache" / "results"
    Store(tmp_path / "equitutor" / "recorded" / "vision.json").add(record(1))
    assert results.recorded("vision") == [record(1)], "what was installed with the package"
    Store(tmp_path / "book" / "results" / "vision.json").add(record(2))
    assert results.results_folder() == tmp_path / "book" / "results"
    assert results.recorded("vision") == [record(2)]
    with pytest.raises(ValueError, match=r"no records of 'visoin' come with the book; .* vision$"):
        results.recorded("visoin")


# Data frames


def test_means_of_a_frame_are_those_by_hand():
    records = [record(seed, seed / 7, group=group) for seed in range(3) for group in ("c4", "d4")]
    found = results.frame(records)
    assert list(found) == ["backbone", "group", "augmentation", "seed", "test_accuracy"]
    means = found.groupby("group")["test_accuracy"].agg(["mean", "std"])
    for group in ("c4", "d4"):
        values = [r.metrics["test_accuracy"] for r in records if r.cell["group"] == group]
        assert means.loc[group, "mean"] == pytest.approx(statistics.fmean(values))
        assert means.loc[group, "std"] == pytest.approx(statistics.stdev(values))


def test_what_a_record_lacks_is_nan_in_a_frame():
    other = Record("vision", {"group": "d4", "width": 3}, {"loss": 0.5})
    found = results.frame([record(), other])
    assert found["group"].tolist() == ["c4", "d4"]
    assert found["seed"].isna().tolist() == [False, True] and found["width"][1] == 3
    assert found["backbone"].isna().tolist() == [False, True]
    assert found["test_accuracy"].isna().tolist() == [False, True] and found["loss"][1] == 0.5
    assert results.frame([]).empty and results.frame([], config=True).empty


def test_settings_of_a_frame_have_names_of_their_own():
    one = Record("x", {"seed": 3, "loss": "l2"}, {"loss": 0.5}, {"seed": [1, 2], "lr": 0.1})
    found = results.frame([one], config=True)
    assert found.iloc[0].to_dict() == {
        "seed": 3,
        "loss": "l2",
        "metrics.loss": 0.5,
        "config.seed": [1, 2],
        "lr": 0.1,
    }
    assert "lr" not in results.frame([one])


# The papers' numbers


def test_the_papers_numbers():
    tables = paper_tables()
    first = tables["table1"].values
    assert len(first) == 24
    assert str(first["resnet18", "c4", "none"]) == "91.37 (1.5)"
    assert str(first["vgg11_bn", "none", "c4"]) == "77.12 (11.4)"
    assert str(first["densenet121", "d4", "c4"]) == "90.06 (0.8)"
    assert {v.n for v in first.values()} == {5}
    # What the text says of the table holds for the numbers typed in here.
    for augmentation in ("none", "c4"):
        best = {
            backbone: max(
                ("none", "c4", "d4"), key=lambda g, b=backbone: first[b, g, augmentation].mean
            )
            for backbone in ("alexnet", "resnet18", "vgg11_bn", "densenet121")
        }
        assert best == {"alexnet": "c4", "resnet18": "d4", "vgg11_bn": "d4", "densenet121": "c4"}
    second = tables["table2"].values
    assert len(second) == 12
    assert str(second["add_jump", "none", "LSTM", "test_accuracy"]) == "0.0 (0.0)"
    assert str(second["around_right", "dir", "EquiLSTM", "test_accuracy"]) == "95.7 (3.6)"
    regard = tables["regard_rerun"]
    assert [str(v) for v in regard.values.values()][:3] == ["308", "102", "96"]
    assert "ran the paper's code again" in regard.source
    clip = tables["clip_rerun"].values
    assert [v.mean for v in clip.values()] == [31.4, 51.2, 35.1, 56.2, 41.0]
    for number in (6, 7, 8, 9):
        assert not tables[f"table{number}"].values
        assert NOT_IN_SOURCES in tables[f"table{number}"].title


# Tables


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_the_standard_deviation_is_the_samples(values):
    found = summarize(values)
    assert found.n == len(values)
    assert math.isclose(found.mean, np.mean(values), abs_tol=1e-9)
    assert math.isclose(found.std, np.std(values, ddof=1), rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(found.std, statistics.stdev(values))


def test_how_a_summary_prints():
    assert str(summarize([90.0, 92.0])) == "91.00 (1.4)"
    assert str(summarize([90.0])) == "90.00", "one run has no spread"
    assert str(summarize([1.0, 3.0], (0, 3))) == "2 (1.414)"
    with pytest.raises(ValueError, match="nothing to average"):
        summarize([])


def vision(paper="table1", **changes):
    records = [record(seed, 90.0 + seed) for seed in range(3)]
    return table(records, paper=paper_tables()[paper], **changes)


def beside(found, *labels, column):
    """What a table has of the paper and of ours in one column of the row of these labels."""
    row = found.frame().loc[labels[0] if len(labels) == 1 else labels]
    return row[f"{column}, paper"], row[f"{column}, ours"]


def test_ours_stands_beside_the_papers():
    found = vision(command="python -m equitutor run vision --backbone {backbone}")
    assert len(found.rows) == 12
    assert beside(found, "ResNet-18", "c4", column="not augmented") == (
        "91.37 (1.5)",
        "91.00 (1.0)",
    )
    assert beside(found, "ResNet-18", "c4", column="augmented") == ("91.63 (1.4)", NONE)
    assert len(found.missing) == 4, "each command once"
    text = str(found)
    assert (
        "91.37 (1.5)" in text and "91.00 (1.0)" in text and "of 3 runs" in text and NOT_RUN in text
    )
    assert "--backbone densenet121" in text
    assert "n - 1" in text
    assert "To run" not in str(vision())


def test_columns_may_be_metrics():
    cell = {"task": "add_jump", "group": "none", "model": "LSTM", "seed": 0}
    one = Record("scan", cell, {"val_accuracy": 99.5, "test_accuracy": 0.25})
    metrics = {"val_accuracy": "validation", "test_accuracy": "test"}
    found = table([one], paper=paper_tables()["table2"], metric=metrics)
    key = ("add jump", "none", "LSTM")
    assert beside(found, *key, column="validation") == ("99.1 (0.3)", "99.5")
    assert beside(found, *key, column="test") == ("0.0 (0.0)", "0.2")


def test_a_paper_table_that_we_do_not_have():
    expected = [("resnet18", "d4", "none")]
    found = vision("table6", rows=("backbone", "group"), column="augmentation", expected=expected)
    assert found.title.endswith("; network: ResNet-18")  # which labels both rows
    assert beside(found, "c4", column="not augmented") == (NONE, "91.00 (1.0)")
    assert beside(found, "d4", column="not augmented") == (NONE, NONE)
    assert "A dash: not in our sources, or not yet run." in found.note


def test_a_table_of_ours_alone():
    found = table([record(0), record(1)], ("backbone",), "group", places=(3, 2))
    assert "0.500 (0.00)" in str(found) and "of 2 runs" in str(found) and "dash" not in str(found)
    assert "paper" not in str(found).lower()
    assert repr(found) == str(found)  # typed at a prompt, it reads as a table


def test_a_rerun_is_not_called_the_paper():
    found = table([], paper=paper_tables()["regard_rerun"], metric=("negative", "positive"))
    assert "negative, rerun" in str(found)
    assert "negative, paper" not in str(found)


@pytest.mark.parametrize(
    ("records", "match"),
    [
        ([record(0), record(1, dataset="cifar10")], "several kinds .*dataset"),
        ([record(0), replace(record(1), config={"lr": 1.0})], "two configs .*lr: 0.0003 -> 1.0"),
        ([record(0), record(0)], "occurs twice"),
        ([replace(record(0), cell={"group": "c4"})], "has no backbone"),
        ([replace(record(0), metrics={"loss": 1.0})], "has no test_accuracy"),
    ],
)
def test_what_must_not_be_averaged(records, match):
    with pytest.raises(ValueError, match=match):
        table(records, ("backbone",), "group")


def test_configs_may_differ_in_the_seed():
    runs = [replace(record(seed), config={"lr": 1.0, "seed": seed}) for seed in range(3)]
    assert "of 3 runs" in str(table(runs, ("backbone",), "group"))


def test_a_table_needs_rows_and_columns():
    with pytest.raises(ValueError, match="a table needs rows"):
        table([record()], (), "group")
    with pytest.raises(ValueError, match="a table needs rows"):
        table([record()], ("backbone",), "group", metric=("a", "b"))


class Cells(HTMLParser):
    """Count the tags, and check that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append((tag, dict(attrs).get("scope")))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_says_what_is_a_header():
    page = Cells(vision(command="run '{backbone}' <&>")._repr_html_())
    assert page.seen.count(("th", "col")) == 6
    assert page.seen.count(("th", "row")) == 24
    assert page.seen.count(("td", None)) == 48
    assert page.seen.count(("caption", None)) == 1
    assert page.seen.count(("li", None)) == 4
    assert "run 'alexnet' <&>" in page.text, "text is escaped"
