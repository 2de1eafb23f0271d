"""What all configs have in common, and where a run keeps its records."""

from dataclasses import dataclass, replace

import pytest
import toy_experiment as toy

from equitutor.experiments import EXPERIMENTS, runner
from equitutor.experiments.config import BaseConfig, distinct, product
from equitutor.store.results import Store


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_the_presets_that_chapters_use(name):
    config = EXPERIMENTS[name].Config
    assert {"quick", "paper"} <= set(config.presets())
    for preset in config.presets():
        assert config.preset(preset) == getattr(config, preset)()


@pytest.mark.parametrize("name", ["slow", "settings", "preset", "__init__"])
def test_an_unknown_preset_names_those_there_are(name):
    with pytest.raises(ValueError, match=rf"one of quick, .*paper.*; got '{name}'"):
        EXPERIMENTS["vision"].Config.preset(name)


def test_cells_are_all_combinations_the_last_varies_fastest():
    cells = product(model=["a", "b"], seed=(0, 1))
    assert [tuple(c.items()) for c in cells] == [
        (("model", m), ("seed", s)) for m in "ab" for s in (0, 1)
    ]
    assert distinct([*cells, *cells[::-1]]) == cells


@dataclass(frozen=True)
class Small(BaseConfig):
    spans = ("seeds",)
    seeds: tuple[int, ...] = (0,)
    lr: float = 0.1
    extra: int = 3

    def unused(self, cell):
        return () if cell["seed"] else ("extra",)


def test_settings_are_what_spans_no_table_and_matters_to_the_cell():
    assert Small().settings() == Small().settings({"seed": 1}) == {"lr": 0.1, "extra": 3}
    assert Small().settings({"seed": 0}) == {"lr": 0.1}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "results_folder", lambda: tmp_path / "results")
    return tmp_path / "results" / "toy_experiment.json"


def test_quick_runs_leave_nothing_behind_and_are_run_each_time(results, tmp_path):
    config = replace(toy.Config.quick(), log=str(tmp_path / "log"))
    assert len(runner.run(toy.Config.quick())) == 2
    assert not results.exists()
    runner.run(config)  # not the preset as it is: kept
    assert len(Store(results).records()) == 2


def test_other_runs_are_kept_and_go_on(results, tmp_path):
    config = toy.Config(seeds=(0, 1), log=str(tmp_path / "log"))
    assert runner.run(config) == runner.run(config) == Store(results).records()
    assert (tmp_path / "log").read_text().split() == ["prepared", "seed", "0", "seed", "1"]


def test_records_of_other_settings_are_never_replaced_unasked(results):
    runner.run(toy.Config(scale=3.0))
    before = results.read_bytes()
    with pytest.raises(ValueError, match=r"4 of the 4 cells .* scale: 3\.0 -> 5\.0.*store="):
        runner.run(toy.Config(scale=5.0))
    assert results.read_bytes() == before
