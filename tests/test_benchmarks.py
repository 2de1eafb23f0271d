"""What the benchmarks share is tested; times are not."""

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))
import report


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
