"""Tables of records that somebody changed: shown, or refused in one line that names file and cell."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from equitutor.__main__ import main
from equitutor.arguments import parser
from equitutor.book import names, reports, tables
from equitutor.book.papers import summarize
from equitutor.commands import _config
from equitutor.experiments import EXPERIMENTS, vision
from equitutor.store import results
from equitutor.store.results import Record, recorded_folder


def records(name):
    return json.loads(Path(recorded_folder() / f"{name}.json").read_text(encoding="utf-8"))


def told(folder, name, content, capsys):
    """The exit status of `results`, its output, and its errors."""
    (folder / f"{name}.json").write_text(json.dumps(content))
    return main(["results", "--results", str(folder)]), *capsys.readouterr()


CASES = [
    (name, part, field)
    for name in EXPERIMENTS
    for part in ("cell", "metrics")
    for field in records(name)["cells"][0][part]
]


@pytest.mark.parametrize(("name", "part", "field"), CASES)
def test_what_a_cell_lacks_is_said_in_one_line(name, part, field, tmp_path, capsys):
    content = records(name)
    del content["cells"][0][part][field]
    status, _, error = told(tmp_path, name, content, capsys)
    if status:  # not all fields are shown
        first = ", ".join(f"{k}={v}" for k, v in content["cells"][0]["cell"].items())
        where = tmp_path / f"{name}.json"
        assert (
            error == f"error: {where} makes no table: the cell {first} of {name} has no {field}\n"
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_most_of_what_a_cell_may_lack_is_noticed(name, tmp_path, capsys):
    noticed = 0
    for field in records(name)["cells"][0]["cell"]:
        content = records(name)
        del content["cells"][0]["cell"][field]
        noticed += told(tmp_path, name, content, capsys)[0]
    assert noticed >= len(content["cells"][0]["cell"])  # all but the seed


@pytest.mark.parametrize("field", ["model", "method", "backbone", "group", "checkpoint", "world"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_name_that_nobody_knows_is_shown(name, field, tmp_path, capsys):
    content = records(name)
    if field not in content["cells"][0]["cell"]:
        return
    content["cells"][0]["cell"][field] = "zork"
    status, shown, error = told(tmp_path, name, content, capsys)
    assert status == 0 and "zork" in shown and not error


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x", "must be a number, not 'x'"),
        (None, "must be a number, not None"),
        (10**400, "is too large for a float"),
        (float("nan"), "is nan"),
    ],
)
def test_a_metric_that_is_no_number_is_said_in_one_line(value, says, tmp_path, capsys):
    content = records("methods")
    content["cells"][0]["metrics"]["accuracy"] = value
    status, _, error = told(tmp_path, "methods", content, capsys)
    assert status == 1 and error.count("\n") == 1
    assert f"{tmp_path / 'methods.json'} is damaged: of cell 1, {{" in error
    assert f"metrics['accuracy'] {says}" in error


def test_a_damaged_file_does_not_hide_the_others(tmp_path, capsys):
    for name in EXPERIMENTS:
        (tmp_path / f"{name}.json").write_text(json.dumps(records(name)))
    assert main(["results", "--results", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    (tmp_path / "scan.json").write_text("[" * 100_000)
    (tmp_path / "fairness.json").write_text("{}")
    assert main(["results", "--results", str(tmp_path)]) == 1
    shown, error = capsys.readouterr()
    left = [f"# {name}: " for name in EXPERIMENTS if name not in ("scan", "fairness")]
    assert (
        re.findall(r"(?m)^# \w+: ", shown) == left
        and shown.splitlines()[-9:] == (whole.splitlines()[-9:])
    )
    assert error.count("\n") == 2 and error.count(" is damaged: ") == 2
    assert f"error: {tmp_path / 'scan.json'}" in error and str(tmp_path / "fairness.json") in error


@pytest.mark.parametrize("words", [["results", "--results"], ["verify"]])
def test_a_folder_that_does_not_exist_is_no_empty_one(words, tmp_path, capsys):
    assert main([*words, str(tmp_path / "none")]) == 1
    assert f"there is no folder {tmp_path / 'none'} of results" in capsys.readouterr().err


def test_numbers_too_large_to_average():
    assert summarize([1.5e308]).mean == 1.5e308
    with pytest.raises(ValueError, match=r"too large to average: 1\.5e\+308"):
        summarize([1.5e308, 1.5e308])


def test_some_columns_can_be_chosen():
    made = results.recorded("methods")
    kind = {"dataset": "digits", "weights": "random"}
    table = reports.table("methods", made, metrics=("zero_shot",), **kind)
    assert table.frame().columns.tolist() == ["turned, before tuning"]
    assert len(reports.table("methods", made, **kind).frame().columns) > 1


def test_how_many_runs_stands_once_where_it_is_the_same_for_all():
    def made(*seeds):
        cells = [("a", seed) for seed in seeds] + [("b", seed) for seed in (0, 1, 2)]
        return tables.table(
            [Record("x", {"row": row, "seed": seed}, {"m": float(seed)}) for row, seed in cells],
            ("row",),
            metric="m",
        )

    even, uneven = made(0, 1, 2), made(0, 1)
    assert [row[-1] for row in even.rows] == ["1.00 (1.0)"] * 2 and "of 3 runs" in even.note
    assert [row[-2:] for row in uneven.rows] == [["0.50 (0.7)", "2"], ["1.00 (1.0)", "3"]]
    assert "of n runs" in uneven.note and uneven.header[-1] == "n"
    cells = [("a", "x", 0), ("a", "y", 0), ("a", "y", 1), ("b", "y", 0)]
    mixed = [
        Record("x", dict(zip(("row", "c", "seed"), c, strict=True)), {"m": 1.0}) for c in cells
    ]
    mixed = tables.table(mixed, ("row",), "c", "m")
    assert mixed.rows[0] == ["a", "1.00, n = 1", "1.00 (0.0), n = 2"]  # of one row it differs
    one = tables.table([Record("x", {"row": "a", "seed": 0}, {"m": 1.5})], ("row",), metric="m")
    assert one.rows[0][-1] == "1.50" and one.note == "Ours: one run."


def test_only_a_count_that_no_run_changes_has_no_deviation():
    def run(method, seed, passes, accuracy):
        metrics = {"passes": passes, "accuracy": accuracy}
        return Record("x", {"method": method, "seed": seed}, metrics)

    runs = [run("equitune", 0, 4, 80.0), run("equitune", 1, 4, 80.0), run("none", 0, 1, 70.0)]
    runs.append(run("none", 1, 1, 72.0))
    made = tables.table(runs, ("method",), None, ("passes", "accuracy"), places=(1, 1))
    assert made.rows == [["equitune", "4", "80.0 (0.0)"], ["plain", "1", "71.0 (1.4)"]]
    runs[-1] = run("none", 1, 2, 72.0)  # now one cell's count has a spread
    made = tables.table(runs, ("method",), None, ("passes", "accuracy"), places=(1, 1))
    assert [line[1] for line in made.rows] == ["4.0 (0.0)", "1.5 (0.7)"]


def test_a_folded_command_is_code():
    shown = tables.Folded("two", ["6 <b>: python -m equitutor run vision", "not run"])._repr_html_()
    assert "<li>6 &lt;b&gt;: <code>python -m equitutor run vision</code></li><li>not run<" in shown


def test_the_rows_of_scan_stand_in_the_papers_order():
    """Its tasks, each with its own group first, and the models as they are listed."""
    from equitutor.experiments.scan import TASKS

    made = reports.scan_stages(list(reversed(results.recorded("scan"))))
    labels = [row[:3] for row in made.rows]
    tasks = [names.value("task", task) for task in TASKS]
    assert list(dict.fromkeys(task for task, *_ in labels)) == tasks
    of_first = [(group, model) for task, group, model in labels if task == tasks[0]]
    assert [group for group, _ in of_first] == sorted(group for group, _ in of_first)
    assert of_first[0] == ("verb", "EquiRNN") and of_first[-1][0] == "verb x dir"


def test_what_labels_all_rows_alike_is_said_once():
    made = [
        Record("x", {"backbone": "alexnet", "method": method, "seed": seed}, {"m": float(seed)})
        for method in ("none", "lambda")
        for seed in (0, 1)
    ]
    rows = ("backbone", "method")
    table = tables.table(made, rows, metric={"m": "accuracy"}, title="Here")
    assert table.title == "Here; network: AlexNet" and table.header == ["method", "accuracy"]
    assert [row[0] for row in table.rows] == ["plain", "λ-equitune"]
    alone = tables.table(made[:2], rows, metric="m")  # of one row nothing is said twice
    assert alone.rows == [["AlexNet", "plain", "0.50 (0.7)"]] and not alone.title


#: What code calls things, with its underscores and letters in lower case.
CODE = re.compile(r"\w_\w|\b(lambda|cifar|alexnet|resnet|densenet|vgg|squeezenet|hymenoptera)")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_tables_speak_as_people_do(name):
    """Headings, rows and titles; the commands below are to be typed."""
    shown = reports.report(name, results.recorded(name))
    said = [line for line in shown.splitlines() if not line.startswith("  python ")]
    assert len(said) > 3 and not [line for line in said if CODE.search(line)]
    assert CODE.search("zero_shot") and CODE.search("lambda") and not CODE.search("λ, AlexNet")


@pytest.mark.parametrize(
    "backbone", ["squeezenet1_1", "efficientnet_lite0", "resnet18", "mnasnet0_5"]
)
def test_what_is_missing_of_a_network_is_run_by_its_own_preset(backbone):
    """The command that is shown has the missing cells, and the settings of those that are there."""
    config = replace(vision.Config.paper(), dataset="hymenoptera", backbones=(backbone,), epochs=3)
    cell = config.cells()[0]
    record = Record("vision", cell, {"accuracy": 90.0}, config.settings(cell))
    shown = reports.table(
        "vision", [record], complete=True, dataset="hymenoptera", weights="imagenet"
    )
    (command,) = [line for line in shown.missing if backbone in line]
    asked = _config(parser(EXPERIMENTS).parse_args(shlex.split(command)[3:]))
    assert cell in asked.cells() and asked.settings(cell) == config.settings(cell)
    preset = {"squeezenet1_1": "squeezenet", "efficientnet_lite0": "lite0"}.get(backbone, "paper")
    assert f"--preset {preset} " in command
