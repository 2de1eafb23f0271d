"""What is said of records that are right, stale, or wrong."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from equitutor.__main__ import main
from equitutor.experiments import EXPERIMENTS
from equitutor.experiments.verify import AT_HAND, _unsound, pages, verify
from equitutor.store.provenance import provenance
from equitutor.store.results import Record, Store
from equitutor.text import counted

BOOK = Path(__file__).parents[2] / "book" / "results"


def made_from(config, cell):
    """The fingerprints of today, or any where they would need files."""
    sources = config.sources(cell).items()
    return {k: fingerprint(*source) if source in AT_HAND else "ab12" for k, source in sources}


fingerprint = cache(lambda function, *args: function(*args))
QUICK = EXPERIMENTS["methods"].Config.quick()


def origin(data=made_from(QUICK, QUICK.cells()[0]), **changes):  # noqa: B008
    made = provenance(1.0, command="by hand", data=data, weights={"net": "ab12"})
    return {**made, "modified": False, **changes}


def write(folder, name, records):
    """A results file as it may be, also one that Store.add would take long to write."""
    store = Store(folder / f"{name}.json")
    store.path.write_bytes(store._dump(records))


METRICS = dict.fromkeys(("zero_shot_upright", "zero_shot", "upright", "accuracy"), 50.0)


def good(name="methods", number=-1, **changes):
    config = EXPERIMENTS[name].Config.quick()
    cell = config.cells()[number]
    parts = {"cell": cell, "metrics": METRICS, "config": config.settings(cell)}
    return Record(name, **{**parts, "provenance": origin(), **changes})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_the_presets_make_needs_no_word(name, tmp_path):
    """Every kind of cell, such as those without a group, under every preset."""
    config_type = EXPERIMENTS[name].Config
    for preset in config_type.presets():
        config = config_type.preset(preset)
        write(
            tmp_path,
            name,
            [
                Record(name, c, {"accuracy": 1}, config.settings(c), origin(made_from(config, c)))
                for c in config.cells()
            ],
        )
        kept, told = verify(tmp_path)
        assert (
            kept
            and told == f"{name}.json: {counted(len(config.cells()), 'cell')}, shown on no page"
        )


def test_the_books_records_are_what_the_experiments_make(capsys):
    assert main(["verify", str(BOOK)]) == 0
    told = capsys.readouterr().out
    assert "wrong" not in told and all(f"{name}.json" in told for name in EXPERIMENTS)
    assert "05_images.ipynb" in told and "stale, by version unknown" in told


def test_pages_are_those_that_read_the_records():
    assert pages("fairness") == ["07_fairness.ipynb"]
    assert not pages("chess")


CONFIG, CELL = good().config, good().cell
WRONG = [
    ({"config": {**CONFIG, "colour": 1}}, "no setting is called colour"),
    ({"config": {**CONFIG, "lr": -1}}, "lr must be more than 0 and at most 10, got -1"),
    ({"config": {**CONFIG, "epochs": "2"}}, "epochs must be a whole number, got '2'"),
    ({"cell": {**CELL, "colour": "red"}}, "no Config makes cells with a field colour"),
    ({"cell": {k: v for k, v in CELL.items() if k != "seed"}}, "no Config makes this cell"),
    ({"cell": {**CELL, "method": "mean"}}, "methods must be some of none, equitune"),
    ({"cell": {**CELL, "method": "none"}}, "no Config makes this cell"),  # its group is "none"
    ({"cell": {**CELL, "seed": -1}}, "seeds must be at least 0"),
    ({"metrics": {}}, "there are no metrics"),
    ({"metrics": METRICS | {"acuracy": 3}}, "no metric is called acuracy"),
    ({"metrics": METRICS | {"accuracy": 250.0}}, "no accuracy can be 250.0"),
    ({"metrics": METRICS | {"accuracy": -5}}, "no accuracy can be -5"),
    ({"metrics": METRICS | {"upright": 1e308}}, "no upright can be 1e+308"),
    ({"metrics": METRICS | {"a | b": 1.5}}, "no a | b can be 1.5"),
    ({"metrics": METRICS | {"man negative": -1}}, "no man negative can be -1"),
    ({"metrics": METRICS | {"fluency": 0.5}}, "no fluency can be 0.5"),
    ({"provenance": origin(colour="red")}, "the provenance has an unknown field, colour"),
    ({"provenance": origin(seconds="1")}, "the provenance has seconds = '1'"),
    ({"provenance": origin(seconds=True)}, "the provenance has seconds = True"),
    ({"provenance": origin(date="9999-01-01")}, "the provenance has date = '9999-01-01'"),
    ({"provenance": origin(modified="no")}, "the provenance has modified = 'no'"),
    ({"provenance": origin(date="yesterday")}, "the provenance has date = 'yesterday'"),
    ({"provenance": origin(data={"digits": 7})}, "the provenance has data = {'digits': 7}"),
]


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_is_said_and_fails(changes, says, tmp_path, capsys):
    write(tmp_path, "methods", [good(number=0), good(**changes)])
    assert main(["verify", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert f"  wrong: {says}" in told and ": 1 cell, the first: " in told


def test_records_that_make_no_table_are_wrong(tmp_path, capsys):
    """What verify passes, results can show."""
    write(tmp_path, "scan", [])
    write(tmp_path, "methods", [good(number=0), good(metrics={"accuracy": 50.0})])
    assert main(["results", "--results", str(tmp_path)]) == 1
    assert "makes no table" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "methods.json: 2 cells, shown on no page\n  wrong: they make no table: the cell " in told


RETURN = r"(last|at_once|after|passes)(_side)?|return_at_\d+|possible"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_number_of_the_book_but_a_return_can_be_anything(name):
    names = {metric for r in Store(BOOK / f"{name}.json").records() for metric in r.metrics}
    names = {metric for metric in names if not re.fullmatch(RETURN, metric)}
    said = list(_unsound(good(metrics=dict.fromkeys(names, -1e300))))
    assert sorted(said) == sorted(f"no {metric} can be -1e+300" for metric in names)


OLD = {"seconds": 1.0}
NOTES = [
    ({"provenance": origin(equitutor="0.0.1")}, "stale, by version 0.0.1"),
    ({"provenance": origin(modified=True)}, "stale, the package differed from its commit"),
    ({"provenance": {**OLD, "data": origin()["data"]}}, "does not name command, "),
    (
        {"provenance": {k: v for k, v in origin().items() if k != "data"}},
        "made before fingerprints",
    ),
    ({"config": {**CONFIG, "lr": 0.5}}, "(the nearest, quick: lr: 0.5 -> 0.001)"),
    ({"config": CONFIG | {"pretrain_batch": 64}}, "(the nearest, quick: pretrain_batch: 64 -> 32)"),
    (
        {"config": {k: v for k, v in CONFIG.items() if k != "momentum"}},
        "(the nearest, quick: momentum: 'absent' -> 0.9)",
    ),
]


@pytest.mark.parametrize(("changes", "says"), NOTES, ids=[says for _, says in NOTES])
def test_what_is_stale_is_a_note(changes, says, tmp_path, capsys):
    write(tmp_path, "methods", [good(**changes)])
    assert main(["verify", str(tmp_path)]) == 0
    (note,) = capsys.readouterr().out.splitlines()[1:]
    assert note.startswith("  note: ") and says in note


def test_a_folder_that_others_closed_is_not_called_empty(tmp_path, capsys, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", closed)
    assert main(["verify", str(tmp_path)]) == 1
    assert f"Permission denied: '{tmp_path}'" in capsys.readouterr().err


def test_files(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "none")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 0
    assert "no results in" in capsys.readouterr().out
    (tmp_path / "chess.json").write_text("[]")
    (tmp_path / "dqn.json").write_text('{"cells": [')
    broken = {"cell": {"a": 1}, "metrics": {"a": float("nan")}, "config": {}, "provenance": {}}
    content = {"format": 1, "experiment": "scan", "cells": [broken]}
    (tmp_path / "scan.json").write_text(json.dumps(content))
    assert main(["verify", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "chess.json\n  note: no experiment has this name" in told
    assert told.count("  wrong: ") == 2 and "dqn.json is damaged" in told and "is nan" in told
