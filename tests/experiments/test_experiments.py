import multiprocessing
import os
import pickle
import platform
import random
import shlex
import signal
import sys
from dataclasses import replace

import pytest
import torch
import toy_experiment as toy
from joblib import Parallel, parallel_config

from equitutor.__main__ import main
from equitutor.experiments import CellsFailed, dqn, run, runner
from equitutor.experiments.cluster import ClusterError
from equitutor.experiments.failures import Failure, attempt
from equitutor.store import results
from equitutor.store.files import DataError
from equitutor.store.results import Record, ResultsError, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "toy.json")


def values(records):
    return {r.cell["seed"]: r.metrics["value"] for r in records}


def test_every_cell_is_run_and_recorded(store):
    records = run(toy.Config(), store)
    assert values(records) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}
    assert all(r.config == {"scale": 2.0} and r.provenance["seconds"] >= 0 for r in records)
    assert values(store.records()) == values(records)


def test_what_is_done_is_not_run_again(store, tmp_path):
    config = toy.Config(seeds=(0, 1), log=str(tmp_path / "log"))
    run(config, store)
    run(replace(config, seeds=(0, 1, 2)), store)
    assert (tmp_path / "log").read_text().split("\n") == [
        "prepared",
        "seed 0",
        "seed 1",
        "seed 2",
        "",
    ]


def test_only_the_cells_asked_for_come_back(store):
    run(toy.Config(), store)
    assert values(run(toy.Config(seeds=(3,)), store)) == {3: 6.0}


def test_other_settings_do_not_count_as_done(store):
    run(toy.Config(), store)
    with pytest.warns(UserWarning, match=r"scale: 2\.0 -> 5\.0"):
        records = run(toy.Config(seeds=(1,), scale=5.0), store)
    assert values(records) == {1: 5.0}


def test_a_killed_run_goes_on_where_it_stopped(store, tmp_path):
    config = toy.Config(log=str(tmp_path / "log"))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=run, args=(replace(config, kill_at=2), store))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert values(store.records()) == {0: 0.0, 1: 2.0}
    assert values(run(config, store)) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}
    ran = [w for w in (tmp_path / "log").read_text().splitlines() if w.startswith("seed")]
    assert sorted(ran) == ["seed 0", "seed 1", "seed 2", "seed 3"]


def test_of_two_runs_at_once_with_other_settings_one_is_refused(store):
    """Neither knew of the other when it began; with --replace, the later measurement stays."""
    context = multiprocessing.get_context("fork")

    def both(replacing):
        processes = [
            context.Process(
                target=run, args=(toy.Config(scale=scale, pause=0.3), Store(store.path, replacing))
            )
            for scale in (3.0, 5.0)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        return [process.exitcode for process in processes]

    codes = both(False)
    assert sorted(codes) == [0, 1]
    kept = 3.0 if codes[0] == 0 else 5.0
    assert values(store.records()) == {seed: kept * seed for seed in range(4)}
    assert both(True) == [0, 0]


def test_a_run_that_is_refused_keeps_what_it_measured(store):
    """The other's cells come while this one runs."""
    other = Record(store.experiment, {"seed": 2}, {"value": 7.0}, {"scale": 5.0})
    strict = Store(store.path, replace=False)
    add = strict.add

    def add_with_another(record):
        if record.cell["seed"] == 1:
            store.add(other)
        add(record)

    strict.add = add_with_another
    with pytest.raises(ResultsError, match=r"seed=2 with other settings .*scale: 5\.0 -> 2\.0"):
        run(toy.Config(), strict)
    assert values(store.records()) == {0: 0.0, 1: 2.0, 2: 7.0}


KILLS = 20


def test_kills_at_random_moments_lose_the_cell_in_work_and_no_more(store, tmp_path):
    config = toy.Config(tuple(range(40)), log=str(tmp_path / "log"), pause=0.02)
    context, draw, kills = multiprocessing.get_context("fork"), random.Random(0), 0
    while kills < KILLS:
        before = values(store.records())
        process = context.Process(target=run, args=(config, store))
        process.start()
        process.join(draw.uniform(0, 0.3))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join(60)
        after = values(store.records())  # the file can always be read, and no cell is lost again
        assert before.items() <= after.items()
        if len(after) == len(config.seeds):  # done too soon: kill what is left of another table
            store.path.unlink()
            (tmp_path / "log").unlink()
            kills = 0
            config = replace(config, pause=config.pause * 2)
    undisturbed = run(replace(config, log=""), Store(tmp_path / "alone" / "toy.json"))
    assert values(run(config, store)) == values(undisturbed)
    ran = [w for w in (tmp_path / "log").read_text().splitlines() if w.startswith("seed")]
    assert len(ran) <= len(config.seeds) + kills


def test_cells_in_parallel_give_the_same_records(store, tmp_path):
    parallel = run(toy.Config(), store, jobs=2)
    alone = run(toy.Config(), Store(tmp_path / "alone" / "toy.json"))
    assert values(parallel) == values(alone)


@pytest.mark.parametrize(("jobs", "backend"), [(1, "loky"), (2, "loky"), (2, "threading")])
def test_a_cell_that_fails_does_not_end_the_others(store, jobs, backend):
    with parallel_config(backend), pytest.raises(CellsFailed) as caught:
        run(toy.Config(fail_at=1), store, jobs)
    error = caught.value
    assert str(error).splitlines() == [
        "1 of 4 cells failed; run the same again to retry them.",
        "",
        "seed=1",
        "  ZeroDivisionError: float division by zero",
    ]
    assert [f.cell for f in error.failures] == [{"seed": 1}]
    assert "toy_experiment.py" in error.failures[0].traceback
    assert error.__notes__[0].endswith(error.failures[0].traceback)
    assert values(error.records) == values(store.records()) == {0: 0.0, 2: 4.0, 3: 6.0}
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert values(run(toy.Config(), store)) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}


def test_the_record_of_a_failed_cell_with_other_settings_is_not_among_the_runs(store):
    run(toy.Config(scale=5.0), store)
    with pytest.warns(UserWarning, match="not done"), pytest.raises(CellsFailed) as caught:
        run(toy.Config(fail_at=1), store)
    assert values(caught.value.records) == {0: 0.0, 2: 4.0, 3: 6.0}
    assert values(store.records())[1] == 5.0


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_cannot_be_prepared_fails_its_own_cells_alone(store, tmp_path, jobs):
    config = toy.Config(stuck_at=1, fail_at=3, log=str(tmp_path / "log"))
    with pytest.raises(CellsFailed) as caught:
        run(config, store, jobs)
    assert [line for line in str(caught.value).splitlines() if line] == [
        "2 of 4 cells failed; run the same again to retry them.",
        "seed=1",
        "  ZeroDivisionError: division by zero",
        "seed=3",
        "  ZeroDivisionError: float division by zero",
    ]
    assert values(store.records()) == {0: 0.0, 2: 4.0}
    log = (tmp_path / "log").read_text().splitlines()
    assert "seed 1" not in log and log.count("start 1") == 1, "the hour is not lost twice"


def test_no_more_processes_than_cells(store, monkeypatch):
    asked = []
    monkeypatch.setattr(
        runner, "Parallel", lambda n_jobs, **more: asked.append(n_jobs) or Parallel(1, **more)
    )
    assert len(run(toy.Config(), store, jobs=10**12)) == 4
    assert run(toy.Config(), store, jobs=10**12) == store.records()
    assert asked == [4, 1]


@pytest.mark.parametrize("before", [False, True])
def test_numbers_too_small_for_float32_are_zero_while_a_cell_runs(before):
    """Elsewhere as they were before; 1e-40 can be stored, and is slow."""
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor cannot do it")
    try:
        assert (torch.tensor(1e-40) == 0) == before
        assert attempt(1, "key", lambda: torch.tensor(1e-40).item()) == ("key", 0)
        assert isinstance(attempt(1, "key", lambda: 1 / 0)[1], Failure)
        assert (torch.tensor(1e-40) == 0) == before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_keyboard_interrupt_ends_everything(store, jobs):
    with pytest.raises(KeyboardInterrupt):
        run(toy.Config(tuple(range(8)), interrupt_at=1, pause=0.1), store, jobs)
    assert 1 not in values(store.records()) and len(store.records()) < 7


def test_the_command_line_lists_what_failed(tmp_path, monkeypatch, capsys):
    def run_cell(config, cell, device):
        if cell["method"] == "none":
            return {"value": 1.0}
        raise DataError("no data\nfor this")

    monkeypatch.setattr(dqn, "prepare", lambda *_: [])
    monkeypatch.setattr(dqn, "run_cell", run_cell)
    words = ["run", "dqn", "--methods", "none,equitune,lambda", "--results", str(tmp_path)]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "error: 2 of 3 cells failed" in told and "Traceback" not in told
    (where,) = {r.cell["world"] for r in Store(tmp_path / "dqn.json").records()}
    assert f"world={where}, method=equitune, seed=0\nworld={where}, method=lambda, seed=0\n" in told
    assert told.count("  DataError: no data\n  for this\n") == 1
    assert f"1 cell is kept in {tmp_path / 'dqn.json'}" in told
    assert f"go on with: {shlex.join(sys.orig_argv)}" in told


def test_cells_on_a_cluster_give_the_same_records(store, tmp_path):
    """Two worker processes, and a run that goes on where another stopped."""
    pytest.importorskip("distributed")
    config = toy.Config(log=str(tmp_path / "log"), pause=0.2)
    run(replace(config, seeds=(1,)), store)
    records = run(config, store, jobs=2, cluster="local")
    assert values(records) == values(store.records()) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}
    ran = (tmp_path / "log").read_text().splitlines()
    assert sorted(ran) == ["prepared", "seed 0", "seed 1", "seed 2", "seed 3"]
    assert len({r.provenance["command"] for r in records}) == 1  # ours, not the workers'
    assert len({r.metrics["process"] for r in records} - {os.getpid()}) == 2


def test_what_a_cluster_has_done_is_kept_when_a_cell_fails(store):
    pytest.importorskip("distributed")
    with pytest.raises(CellsFailed, match="1 of 4 cells failed"):
        run(toy.Config(fail_at=3, pause=0.2), store, jobs=1, cluster="local")
    assert values(store.records()) == {0: 0.0, 1: 2.0, 2: 4.0}


def test_workers_that_would_share_a_seed_are_refused(store):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as crowded,
        pytest.raises(ClusterError, match="several threads: start each with --nthreads 1"),
    ):
        run(toy.Config(), store, cluster=crowded.scheduler_address)
    assert not store.records()


def test_the_command_line_hands_the_cluster_on(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("equitutor.commands.run", lambda *given: asked.append(given) or [])
    words = ["run", "dqn", "--jobs", "3", "--cluster", "tcp://here:8786", "--results"]
    main([*words, str(tmp_path)])
    assert asked[0][2:] == (3, None, "tcp://here:8786")


def test_a_cluster_without_dask_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"equitutor\[cluster\]"):
        run(toy.Config(), store, cluster="local")


def test_a_damaged_results_file_is_left_as_it_is(store):
    store.path.write_text('{"cells": [')
    with pytest.raises(ResultsError, match="damaged"):
        run(toy.Config(), store)
    assert store.path.read_text() == '{"cells": ['


def test_what_prevents_writing_is_said_before_the_first_cell(store, tmp_path, monkeypatch):
    def fail(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(results, "TemporaryFile", fail)
    config = toy.Config(log=str(tmp_path / "log"))
    with pytest.raises(ResultsError, match=r"toy\.json could not be written .*Read-only"):
        run(config, store)
    assert not (tmp_path / "log").exists()


def test_the_next_run_sweeps_what_a_killed_one_left(store, tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    mark = f".{process.pid}@{platform.node()}.part."
    parts = [tmp_path / "cache" / "checkpoints" / f"{mark}a", tmp_path / f"{mark}toy.json"]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("half")
    run(toy.Config(), store)
    assert not any(part.exists() for part in parts)
