"""What the command line answers at once, and what a run tells while it goes on."""

import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tqdm import tqdm

from equitutor import __main__, commands
from equitutor.experiments import runner
from equitutor.store.machine import versions


def run(*words):
    """The standard output and error of a Python with these words, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    return done.stdout, done.stderr, time.perf_counter() - start


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--help"], "print versions, device and cache folder"),
        (["-h"], "run an experiment"),
        (["info"], "cache folder"),
        (["check", "--help"], "FILE.py:NAME"),
        (["verify", "--help"], "Exit status 1 if something is wrong"),
        ([], "the following arguments are required: command"),
        (["chekc"], "invalid choice: 'chekc'"),
    ],
)
def test_help_and_info_do_not_wait_for_torch(words, says):
    out, imported, _ = run("-X", "importtime", "-m", "equitutor", *words)
    assert says in " ".join((out + imported).split())
    if words != ["info"] or "device cpu" in out:  # a GPU is torch's to name
        assert "equitutor.arguments" in imported and "torch" not in imported


def test_help_takes_less_than_a_second():
    """Or, on a slow machine, less than half of what torch alone takes."""
    took = statistics.median(run("-m", "equitutor", "--help")[2] for _ in range(3))
    assert took < max(1.0, run("-c", "import torch")[2] / 2)


def test_the_command_and_main_say_the_same(capsys):
    for words in (["--help"], ["results", "--help"]):
        with pytest.raises(SystemExit):
            __main__.main(words)
        assert capsys.readouterr().out == run("-m", "equitutor", *words)[0]
    assert __main__.main(["info"]) == 0
    assert capsys.readouterr().out == run("-m", "equitutor", "info")[0]


def test_info_asks_torch_where_there_may_be_a_gpu(monkeypatch, tmp_path, capsys):
    import torch

    monkeypatch.setattr(__main__, "_DRIVERS", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Voodoo 3")
    __main__.info()
    told = capsys.readouterr().out.splitlines()
    assert told[0] == versions() and told[1] == "device cuda (Voodoo 3)"


def test_a_run_says_where_its_results_go_and_which_cell_it_is_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("equitutor.experiments.dqn.run_cell", lambda *_: dict.fromkeys(_METRICS, 1))
    monkeypatch.setattr("equitutor.experiments.dqn.prepare", lambda *_: [])
    monkeypatch.setattr(runner, "tqdm", partial(tqdm, disable=False, mininterval=0))
    assert __main__.main(["run", "dqn", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"results go to {tmp_path / 'dqn.json'}\n")
    for method in ("none", "equitune", "equizero", "lambda"):
        assert f"grid {method} 0" in told.err
    assert "6/6 [00:" in told.err and "<" in told.err  # the time that is left


_METRICS = [
    f"{name}{side}" for name in ("last", "at_once", "after", "passes") for side in ("", "_side")
]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way there")
def test_a_reader_who_has_seen_enough_is_no_error():
    """As `python -m equitutor results | head -1`."""
    words = [sys.executable, "-m", "equitutor", "results"]
    asked = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asked.stdout.close()
    assert not asked.stderr.read() and asked.wait() == 128 + 13
    asked.stderr.close()


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (ModuleNotFoundError("timm is not installed"), 1, "error: timm is not installed\n"),
        (PermissionError(13, "Permission denied", "out\x1b"), 1, "Permission denied: 'out\\x1b'\n"),
    ],
)
def test_other_commands_end_in_one_line_too(error, status, told, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setitem(commands.COMMANDS, "verify", fail)
    assert __main__.main(["verify"]) == status
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize("words", [["results"], ["run", "dqn"], ["check", "model.py:net"]])
def test_ctrl_c_while_torch_is_imported_is_one_line(words, tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    places = os.pathsep.join([str(tmp_path), str(Path(__main__.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "equitutor", *words],
        env={**os.environ, "PYTHONPATH": places},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nstopped\n")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "dqn", "--results", ""],
        ["results", "--results", ""],
        ["verify", " "],
        ["assignments", "--out", ""],
        ["assignments", "--source", ""],
    ],
)
def test_an_empty_name_is_not_the_current_folder(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        __main__.main(words)
    assert end.value.code == 2 and "it must name a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_cell_says_so(tmp_path, capsys):
    words = ["run", "fairness", "--tasks", "law", "--models", "EquizeroLM"]
    assert __main__.main([*words, "--results", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "there is nothing to run" in told and "tasks=('law',), " in told
    assert "models=('EquizeroLM',)" in told and told.count("\n") == 1


def test_info_says_what_is_wrong_with_the_cache(monkeypatch, capsys):
    monkeypatch.setenv("EQUITUTOR_CACHE", "~nobody-of-this-name/cache")
    assert __main__.main(["info"]) == 1
    told = capsys.readouterr().err
    assert "EQUITUTOR_CACHE" in told and "~nobody-of-this-name/cache" in told
    assert told.startswith("error: ") and told.count("\n") == 1
