"""The scoreboard: what is published beside what was recorded."""

import ast
import dataclasses
import importlib
import json
import re
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from scipy.stats import t, ttest_ind_from_stats

import equitutor as eq
from equitutor.arguments import parser
from equitutor.book import scoreboard as board
from equitutor.book.chance import holm, p_value
from equitutor.book.papers import Summary, paper_tables
from equitutor.book.reports import pretrained
from equitutor.book.scoreboard import (
    language_models,
    not_run,
    other_networks,
    paired,
    runs,
    scoreboard,
    tolerance,
    verdict,
)
from equitutor.book.sources import SOURCES
from equitutor.commands import _config
from equitutor.experiments import EXPERIMENTS
from equitutor.store.results import Record, recorded

PUBLISHED = {name: table for name, table in paper_tables().items() if table.values}
NUMBERS = [(name, key) for name, table in PUBLISHED.items() for key in table.values]
MADE = {"seconds": 60.4, "device": "a GPU", "commit": "0123456789", "command": "python x"}


def record(metrics, experiment="scan", made=(), **cell):
    return Record(experiment, cell, metrics, {}, {**MADE, **dict(made)})


def lstm(test, seed, **made):
    cell = {"task": "around_right", "group": "none", "model": "LSTM"}
    return record({"val_accuracy": 99.0, "test_accuracy": test}, made=made, **cell, seed=seed)


def only(name, records):
    """A reader that finds these records of one experiment, and none of the others."""
    return lambda asked: records if asked == name else []


def lines(table):
    """What stands in each row: {row labels: {column: text}}."""
    return table.frame().to_dict("index")


def counted(read):
    """The summary: {source: {heading: number}}."""
    return {
        source: {k: int(v) for k, v in line.items()}
        for source, line in lines(board.summary(read)).items()
    }


def test_every_published_number_is_counted_and_listed():
    assert SOURCES.keys() == PUBLISHED.keys()
    found = counted(lambda _: [])
    assert found.pop("all")["published"] == len(NUMBERS)
    assert [line["published"] for line in found.values()] == [
        len(PUBLISHED[name].values) for name in SOURCES
    ]
    assert not any(line["ours"] for line in found.values())
    assert not scoreboard(lambda _: []).rows
    told = not_run(lambda _: [])
    assert told.summary.startswith(f"{len(NUMBERS)} ")
    assert sum(int(re.search(r": (\d+), such as ", item)[1]) for item in told.items) == len(NUMBERS)
    html = told._repr_html_()
    assert html.startswith("<details><summary>") and html.count("<li>") == len(told.items)


def test_the_summary_counts_verdicts():
    """Two of three numbers agree, and one is lower."""
    records = [lstm(test, seed) for seed, test in enumerate([0.4, 0.4])]
    g = {"task": "around_right", "group": "dir", "model": "G-LSTM"}
    records += [
        record({"val_accuracy": 98.4, "test_accuracy": 10.0 + s}, **g, seed=s) for s in (0, 1)
    ]
    found = counted(only("scan", records))
    for line in (found["SCAN (Table 2)"], found["all"]):
        assert (line["ours"], line["agree"], line["ours lower"]) == (4, 3, 1)
        assert (line["ours higher"], line["no spread"]) == (0, 0)
    assert not_run(only("scan", records)).summary.startswith(f"{len(NUMBERS) - 4} ")


@pytest.mark.parametrize("name, key", NUMBERS, ids=["-".join([n, *k]) for n, k in NUMBERS])
def test_the_command_runs_the_cell(name, key):
    source = SOURCES[name](*key)
    if not source.command:
        assert name == "clip_rerun" and source.why_not != "not yet run"
        return
    config = _config(parser(EXPERIMENTS).parse_args(["run", *shlex.split(source.command)]))
    assert source.experiment == source.command.split()[0]
    cells = [cell for cell in config.cells() if source.cell.items() <= cell.items()]
    assert cells and len({cell["seed"] for cell in cells}) == len(cells)


def test_a_record_is_picked_up():
    """Ours is the mean over the seeds, and leads to the file and to the runs that made it."""
    one, two = lstm(0.0, 0, command="python y"), lstm(1.0, 1)
    other = dataclasses.replace(one, cell={**one.cell, "task": "add_jump"}, provenance={})
    read = only("scan", [other, one, two])
    found = lines(scoreboard(read))
    label = "SCAN (Table 2): around right, LSTM, test"
    assert found[label] == {
        "published": "0.4 (0.7)",
        "ours": "0.5 (0.7)",
        "verdict": "agrees",  # 2 sqrt(0.7^2 / 3 + 0.5 / 2) + 0.05 = 1.3
        "record": "scan.json",
        "command": "scan 2, scan 3",
    }
    assert not [name for name in found if "EquiLSTM" in name]
    page = scoreboard(read)._repr_html_() + runs(["scan"], read)._repr_html_()
    assert '<a href="results/scan.json">scan.json</a>' in page
    for run in ("run-scan-2", "run-scan-3"):
        assert f'<a href="#{run}">' in page and page.count(f'id="{run}"') == 1


def test_seeds_of_other_settings_are_not_averaged():
    """One seed run again with other settings, the others not yet."""
    old, new = (
        dataclasses.replace(lstm(1.0, seed), config={"pretrain_epochs": epochs})
        for seed, epochs in ((0, 30), (1, 60))
    )
    with pytest.raises(ValueError, match=r"not to be averaged .pretrain_epochs: 30 -> 60"):
        scoreboard(only("scan", [old, new]))
    assert scoreboard(only("scan", [old, dataclasses.replace(new, config=old.config)])).rows


def test_pairs_of_other_settings_are_not_compared():
    before = dataclasses.replace(lstm(1.0, 0), config={"hidden": 64})
    after = dataclasses.replace(before, cell={**before.cell, "model": "EquiLSTM"})
    after = dataclasses.replace(after, config={"hidden": 64, "tune_steps": 9})  # of its own
    compared = "test_accuracy", "model", ("LSTM", "EquiLSTM")
    assert paired([before, after], *compared)[()][0].n == 1
    other = dataclasses.replace(after, config={"hidden": 32})
    with pytest.raises(ValueError, match="hidden: 64 -> 32"):
        paired([before, other], *compared)


def summary(mean, std, n=4, places=(1, 1)):
    return Summary(mean, std, n, places)


def test_tolerance():
    assert tolerance(summary(0, 3.0), summary(0, 4.0)) == pytest.approx(2 * 2.5 + 0.05)
    # The one spread that is known stands for both.
    assert tolerance(summary(0, None, 1), summary(0, 3.0, 4)) == pytest.approx(
        2 * 3 * 1.25**0.5 + 0.05
    )
    assert tolerance(summary(0, None), summary(0, None)) is None
    assert tolerance(summary(0, 0.0, places=(2, 1)), summary(0, 0.0)) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "ours, said",
    [
        (summary(55.0, 4.0), "agrees"),
        (summary(55.1, 4.0), "ours is higher"),
        (summary(44.9, 4.0), "ours is lower"),
    ],
)
def test_verdict(ours, said):
    assert verdict(summary(50.0, 3.0), ours) == said


def test_verdict_without_any_spread():
    assert verdict(summary(50.0, None, 1), summary(50.0, None, 1)) == "no spread"


def test_runs():
    read = {"scan": [lstm(0, 0), lstm(0, 1), lstm(0, 2, command="python y")], "clip": []}.get
    found = lines(runs(["scan", "clip"], read))
    assert found["scan 1", "python x"]["cells"] == "2"
    assert found["scan 1", "python x"]["seeds"] == "0, 1"
    assert found["scan 2", "python y"]["cells"] == "1"
    assert found["clip 1", "not yet run"]["cells"] == "0"
    assert found["clip 1", "not yet run"]["commit"] == "-"


def test_paired_compares_like_with_like():
    def one(method, seed, value, data="digits"):
        return record({"accuracy": value}, method=method, seed=seed, data=data)

    records = [
        *(one("none", s, v) for s, v in enumerate([10.0, 20.0, 30.0])),
        *(one("mean", s, v) for s, v in enumerate([15.0, 19.0, 37.0])),
        one("mean", 9, 99.0),  # no partner of this seed
        one("none", 0, 1.0, "photos"),
        one("mean", 0, 2.0, "photos"),
    ]
    found = paired(records, "accuracy", "method", ("none", "mean"), by=("data",))
    (digits, above), (photos, _) = found["digits",], found["photos",]
    assert (digits.mean, digits.n, above) == (pytest.approx(11 / 3), 3, 2)
    assert (photos.mean, photos.std) == (1.0, None)
    assert paired(records, "loss", "method", ("none", "mean")) == {}


def test_paired_ignores_what_it_is_told_to():
    records = [
        record({"accuracy": 1.0}, model="LSTM", group="none", seed=0),
        record({"accuracy": 3.0}, model="EquiLSTM", group="verb", seed=0),
    ]
    change = ("LSTM", "EquiLSTM")
    assert paired(records, "accuracy", "model", change) == {}
    assert paired(records, "accuracy", "model", change, ignore=("group",))[()][0].mean == 2.0


BOOK = Path(__file__).parents[2] / "book"
CODE = {
    chapter.stem: [
        "".join(cell["source"])
        for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code" and "%pip" not in "".join(cell["source"])
    ]
    for chapter in BOOK.glob("*.ipynb")
}
SHOW = [chapter for chapter, cells in CODE.items() if any("results.recorded(" in c for c in cells)]


def recorded_at_paper_size(name):
    """The experiment's records, with one more, or another, for each cell of its `paper` preset."""
    config = importlib.import_module(f"equitutor.experiments.{name}").Config.paper()
    real, cells = recorded(name), config.cells()
    made = [dataclasses.replace(real[0], cell=c, config=config.settings(c)) for c in cells]
    return [r for r in real if r.cell not in cells] + made


@pytest.mark.parametrize("chapter", sorted(SHOW))
def test_a_chapter_shows_the_runs_of_the_paper_once_they_are_there(chapter, monkeypatch):
    """From the cell on that reads the records; whatever these hold, it must not fail."""
    monkeypatch.setattr(eq.results, "recorded", recorded_at_paper_size)
    matplotlib.use("Agg")
    imports = [
        line
        for cell in CODE[chapter]
        for line in ast.parse(cell).body
        if isinstance(line, ast.Import | ast.ImportFrom)
    ]
    space = {"eq": eq, "env": eq.setup("quick", seed=0)}
    exec(compile(ast.Module(imports, []), chapter, "exec"), space)
    first = next(i for i, cell in enumerate(CODE[chapter]) if "results.recorded(" in cell)
    shown = [c for c in CODE[chapter][first:] if re.search(r"\b(records|kept|runs)\b", c)]
    for cell in shown:
        if not cell.startswith("# @title"):
            exec(cell, space)


def test_what_the_scoreboard_says_of_chance():
    """Welch's test, from what is printed of the papers' numbers and from our records."""
    text = (BOOK / "13_scoreboard.ipynb").read_text(encoding="utf-8")
    assert "further apart than this in 12 to 18 cases of a hundred, so one or two of twelve" in text
    assert [round(200 * t.sf(2, degrees)) for degrees in (4, 2)] == [12, 18]
    assert (
        "Welch's t-test, which does not take the two spreads to be equal, shows none at 5 %" in text
    )
    apart = [
        ttest_ind_from_stats(*(x for s in both for x in (s.mean, s.std, s.n)), equal_var=False)
        for both in ((one.theirs, one.ours) for one in board._compared(recorded) if one.ours)
        if verdict(*both) != "agrees"
    ]
    assert len(apart) >= 3 and min(test.pvalue for test in apart) > 0.05


def test_all_chapters_with_records_are_tried():
    assert {"05_images", "06_scan", "07_fairness", "08_lambda", "09_clip"} < set(SHOW)


# -- other networks than the papers' ----------------------------------------------------------------


def tuned(backbone, weights, accuracy, seed=0, dataset="hymenoptera"):
    cell = {"dataset": dataset, "weights": weights, "backbone": backbone, "group": "c4"}
    return record({"accuracy": accuracy}, "vision", **cell, augmentation="none", seed=seed)


def frozen(method, zero_shot, seed=0, head="trained"):
    cell = {"dataset": "cifar10", "backbone": "efficientnet_lite0", "head": head, "method": method}
    group = "none" if method in ("none", "augmented") else "c4"
    metrics = {"zero_shot": zero_shot, "accuracy": 0.0}
    return record(metrics, "frozen", **cell, group=group, seed=seed)


def test_networks_that_the_paper_has_not_stand_apart():
    records = [
        tuned("squeezenet1_1", "squeeze.safetensors", 90.0),
        tuned("squeezenet1_1", "squeeze.safetensors", 92.0, seed=1),
        tuned("resnet18", "imagenet", 91.0),
        tuned("resnet18", "upright", 10.0),
        tuned("squeezenet1_1", "imagenet", 10.0, dataset="cifar10"),
    ]
    read = only("vision", records)
    (line,) = lines(other_networks("table1", read)).items()
    label, cells = line
    assert label == "SqueezeNet 1.1, c4, not augmented"
    assert (cells["ours"], cells["seeds"], cells["record"]) == ("91.00 (1.4)", "2", "vision.json")
    (name,) = lines(scoreboard(read))
    assert name == "Images (Table 1): ResNet-18, c4, not augmented"


def test_other_networks_stand_in_a_reader_s_order():
    """However they were recorded: network by network, the plain one first."""
    made = [
        ("efficientnet_lite0", "none", "none"),
        ("squeezenet1_1", "d4", "none"),
        ("squeezenet1_1", "c4", "c4"),
        ("squeezenet1_1", "none", "c4"),
        ("squeezenet1_1", "c4", "none"),
        ("squeezenet1_1", "none", "none"),
    ]
    fields = ("backbone", "group", "augmentation")
    common = {"dataset": "hymenoptera", "weights": "imagenet", "seed": 0}
    records = [
        record({"accuracy": 1.0}, "vision", **common, **dict(zip(fields, some, strict=True)))
        for some in made
    ]
    assert list(lines(other_networks("table1", only("vision", records)))) == [
        "SqueezeNet 1.1, not augmented",
        "SqueezeNet 1.1, augmented",
        "SqueezeNet 1.1, c4, not augmented",
        "SqueezeNet 1.1, c4, augmented",
        "SqueezeNet 1.1, d4, not augmented",
        "EfficientNet-Lite0, not augmented",
    ]


def test_runs_of_other_networks_with_other_settings_are_not_averaged():
    records = [tuned("squeezenet1_1", "x.safetensors", v, seed) for seed, v in enumerate((1, 2))]
    records[1] = dataclasses.replace(records[1], config={**records[1].config, "epochs": 99})
    with pytest.raises(ValueError, match="epochs"):
        other_networks("table1", only("vision", records))


def test_table_6_has_our_networks_alone():
    with pytest.raises(ValueError, match="table6"):
        other_networks("table6", lambda _: [])
    records = {
        "vision": [tuned("squeezenet1_1", "imagenet", 80.0, dataset="cifar10")],
        "frozen": [
            *(frozen("none", 40.0), frozen("augmented", 60.0), frozen("equi-tuned", 70.0)),
            *(frozen("lambda", 75.0), frozen("none", 20.0, head="own")),
        ],
    }
    found = lines(other_networks("table6", lambda name: records.get(name, [])))
    assert {key: line["ours"] for key, line in found.items()} == {
        "SqueezeNet 1.1, c4, not augmented": "80.00",
        "EfficientNet-Lite0, frozen, not augmented": "40.00",
        "EfficientNet-Lite0, frozen, augmented": "60.00",
        "EfficientNet-Lite0, frozen, c4, not augmented": "70.00",
    }


def test_weights_of_a_file_count_as_imagenets_unless_the_librarys_were_run():
    file, library = tuned("resnet18", "x.safetensors", 1.0), tuned("resnet18", "imagenet", 2.0)
    other = tuned("resnet18", "x.safetensors", 3.0, seed=1)
    for records in ([file, library, other], [library, other, file]):
        kept = {r.cell["seed"]: r.metrics["accuracy"] for r in pretrained(records)}
        assert kept == {0: 2.0, 1: 3.0}
        assert {r.cell["weights"] for r in pretrained(records)} == {"imagenet"}
    assert pretrained([tuned("resnet18", "upright", 1.0), tuned("resnet18", "random", 1.0)]) == []


def test_p_values_are_those_of_the_t_test():
    from scipy.stats import ttest_1samp

    for values in ([1.0, 2.0, 0.5, -0.2, 1.4], [-3.0, -1.0, 0.5], [0.1, -0.1]):
        records = [
            record({"m": v * (group == "c4")}, group=group, seed=seed)
            for seed, v in enumerate(values)
            for group in ("none", "c4")
        ]
        (difference, _), *_ = paired(records, "m", "group", ("none", "c4")).values()
        expected = ttest_1samp(values, 0, alternative="greater").pvalue
        assert p_value(difference) == pytest.approx(expected)
    assert p_value(Summary(1.0, 0.0, 3)) == 0 and p_value(Summary(0.0, 0.0, 3)) == 1
    with pytest.raises(ValueError, match="at least two"):
        p_value(Summary(1.0, None, 1))


def test_holm_by_hand():
    """0.01 counts three times, 0.02 twice, 0.04 once; and after the first that fails, none is shown."""
    assert holm({"a": 0.04, "b": 0.01, "c": 0.02}) == {"a": True, "b": True, "c": True}
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == {"a": False, "b": True, "c": False}
    assert holm({"a": 0.017, "b": 0.017, "c": 0.017}) == dict.fromkeys("abc", False)
    assert holm({}) == {} and holm({"a": 0.05}) == {"a": True}


def test_holm_rarely_shows_what_is_not_there():
    draws = np.random.default_rng(0).uniform(size=(2000, 6))
    wrong = sum(any(holm(dict(zip("abcdef", p, strict=True))).values()) for p in draws)
    assert 60 <= wrong <= 140  # five in a hundred


def test_other_language_models_say_which_they_are():
    """Of GPT-2, the paper's own, and of the planted corpus nothing: these stand elsewhere."""

    def said(model, pretrained="gemma-3-270m-q4_k_m.gguf", task="occupation", seed=0, **metrics):
        cell = {"pretrained": pretrained, "task": task, "axis": "race", "model": model}
        return record(metrics, "fairness", **cell, seed=seed)

    unlike = {"negative / positive": 50, "positive / positive": 50}
    records = [
        *(said("pretrained", seed=s, **unlike) for s in (0, 1)),
        said("EquiLM", **{"negative / negative": 100}),
        said("EquiLM", task="perplexity", perplexity=30.125),
        *(said("EquiLM", name, **unlike) for name in ("gpt2", "planted")),
    ]
    found = lines(language_models(only("fairness", records)))
    assert list(found) == [
        "Fig. 5, occupation: race, pretrained",
        "Fig. 5, occupation: race, EquiLM",
        "Table 9, perplexity: race, EquiLM",
    ]
    first, second, third = found.values()
    assert first["made from"] == "Gemma 3 270M (4 bits)" and first["seeds"] == "2"
    assert first["ours"].startswith("50.0 (") and second["ours"] == "0.0 (0.0 to 0.0)"
    assert third["ours"] == "30.12" and third["record"] == "fairness.json"
