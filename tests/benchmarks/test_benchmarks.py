"""What the benchmarks share is tested; times are not."""

import argparse
import json
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import report
import torch

import equitutor as eq


@pytest.mark.parametrize(
    "value, target, met",
    [(1.05, "<= 1.05", True), (1.06, "<= 1.05", False), (40, ">= 40", True), (39, ">= 40", False)],
)
def test_a_target_is_met_or_not(value, target, met):
    assert report.met(value, target) is met


def test_rows_are_the_median_and_the_spread_and_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "KEPT", tmp_path / "trust")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bench_toy.py", "--keep"])
    told = report.Report("toy", argparse.Namespace(keep=True))
    told.row("a / b", [3.0, 1.0, 2.0], "<= 1.5")
    told.done()
    assert "MISSED" in capsys.readouterr().out
    kept = json.loads((tmp_path / "trust" / "toy.json").read_text())
    (row,) = kept["rows"]
    assert (row["median"], row["low"], row["high"], row["met"]) == (2.0, 1.0, 3.0, False)
    assert kept["command"] == "python tests/benchmarks/bench_toy.py --keep"


def test_nothing_is_kept_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "KEPT", tmp_path / "trust")
    report.Report("toy", argparse.Namespace(keep=False)).done()
    assert not (tmp_path / "trust").exists()


def test_all_are_run_and_those_that_fail_are_named(tmp_path):
    for name, end in (("bench_a", "raise SystemExit(3)"), ("bench_b", ""), ("report", "")):
        code = f"import sys; open(__file__ + '.ran', 'w').write(' '.join(sys.argv[1:])); {end}"
        (tmp_path / f"{name}.py").write_text(code)
    main = runpy.run_path(str(Path(__file__).parent / "__main__.py"))
    assert main["run"](tmp_path, ["--keep"]) == ["bench_a.py"]
    ran = {file.name: file.read_text() for file in tmp_path.glob("*.ran")}
    assert ran == {"bench_a.py.ran": "--keep", "bench_b.py.ran": "--keep"}


def test_from_nothing_takes_no_pretraining_from_the_cache(tmp_path, monkeypatch, capsys):
    import bench_scan

    from equitutor.experiments import scan

    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path))
    sizes = {"hidden": 4, "train_limit": 60, "test_limit": 20, "checks": 1}
    config = scan.Config(**sizes, pretrain_epochs=1, tune_steps=2)
    scan.pretrain(config, "around_right", "LSTM", 0)
    before = sorted(tmp_path.rglob("*"))
    fits = []
    monkeypatch.setattr(scan, "fit", lambda *a, fit=scan.fit, **kw: fits.append(0) or fit(*a, **kw))
    told = report.Report("toy", argparse.Namespace(keep=False))
    cell = {"task": "around_right", "group": "dir", "model": "EquiLSTM", "seed": 0}
    bench_scan.from_nothing(told, config, cell)
    assert len(fits) == 2  # the pretraining and the tuning
    assert sorted(tmp_path.rglob("*")) == before
    assert 0 < told.rows[0]["median"] < 2 and "minutes (validation" in capsys.readouterr().out


def test_the_settings_and_the_sample_of_the_mutants():
    pytest.importorskip("mutmut")
    import measure_mutants

    for module, tests in measure_mutants.TESTS.items():
        found = tomllib.loads(measure_mutants.settings(module))["tool"]["mutmut"]
        assert found["only_mutate"] == [f"equitutor/{module}.py"]
        files = found["pytest_add_cli_args_test_selection"]
        assert len(files) == len(tests)
        assert all((Path(__file__).parents[2] / file).is_file() for file in files)
    names = [str(i) for i in range(50)]
    sample = measure_mutants.drawn(names, 20, seed=1)
    assert len(set(sample)) == 20 and sample[:5] == measure_mutants.drawn(names, 5, seed=1)
    assert sample != measure_mutants.drawn(names, 20, seed=2)


@pytest.mark.parametrize("kind", ["rotation", "roto-reflection"])
def test_the_peers_average_is_the_same_and_its_pose_is_invariant(kind):
    pytest.importorskip("equiadapt")
    import bench_peer

    torch.manual_seed(0)
    made = bench_peer.models(32, kind)
    x = torch.randn(2, 3, 32, 32)
    rot = eq.Rotations(bench_peer.GROUPS[kind])
    with torch.no_grad():
        ours, theirs = (made[name].eval()(x) for name in ("equitune", "averaged"))
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    for name, model in made.items():
        error = eq.equivariance_error(model.eval(), x, rot, eq.Trivial(rot.group))
        assert error < (1e-5 if name == "equitune" else 1e-3), name
