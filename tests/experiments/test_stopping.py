"""Ctrl-C and SIGTERM, with real processes."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equitutor.store.results import Store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
ROOT = Path(__file__).parents[2]

COMMAND = """\
import sys
import toy_experiment as toy
from equitutor.__main__ import main
from equitutor.experiments import EXPERIMENTS

if __name__ == "__main__":
    EXPERIMENTS["toy_experiment"] = toy
    sys.exit(main())
"""


def alive(group):
    """The processes of a group but those that are dead and wait to be collected."""
    words = ["ps", "-A", "-o", "pgid=,stat=,args="]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines]
    return [row for row in rows if row[0] == str(group) and row[1][0] != "Z"]


@pytest.mark.parametrize(
    ("options", "number", "to_all"),
    [
        ([], signal.SIGTERM, False),
        (["--jobs", "2"], signal.SIGTERM, False),
        (["--jobs", "2"], signal.SIGINT, True),  # as a terminal does
        (["--jobs", "2", "--cluster", "local"], signal.SIGINT, True),
    ],
)
def test_a_run_that_is_stopped_says_what_is_kept(tmp_path, options, number, to_all):
    if "--cluster" in options:
        pytest.importorskip("distributed")
    script, log = tmp_path / "command.py", tmp_path / "log"
    script.write_text(COMMAND)
    words = [sys.executable, str(script), "run", "toy_experiment", "--results", str(tmp_path)]
    words += ["--seeds", "0,1,2,3,4,5,6,7", "--pause", "2", "--log", str(log), *options]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "experiments")])
    run = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": paths, "TQDM_DISABLE": "1"},
    )
    store = Store(tmp_path / "toy_experiment.json")
    try:
        until = time.monotonic() + 120
        while not store.records() and time.monotonic() < until:
            time.sleep(0.05)
        (os.killpg if to_all else os.kill)(run.pid, number)
        told = run.communicate(timeout=60)[1]
        until = time.monotonic() + 5  # what was killed takes a moment to die
        while alive(run.pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert alive(run.pid) == []
    finally:
        if alive(run.pid):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 128 + number
    count = len(store.records())
    kept = "1 cell is" if count == 1 else f"{count} cells are"
    said = f"stopped: {kept} kept in {store.path}; go on with: {shlex.join(words)}"
    assert [line for line in told.splitlines() if line and "distributed" not in line] == [said]
