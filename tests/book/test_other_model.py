"""Chapter 7 on a model of the reader's own: one line changed, and every cell runs on it."""

import json
from pathlib import Path

import pytest
from test_lm import gpt2, tokenizer  # noqa: F401

import equitutor as eq
from equitutor.experiments import runner

CHAPTER = Path(__file__).parents[2] / "book" / "07_fairness.ipynb"
LINE = 'other = ""'


def cells():
    found = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"][1:]


def test_one_line_names_the_model():
    assert sum(source.count(LINE) for source in cells()) == 1


@pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")
def test_every_cell_runs_on_another_model(tmp_path, monkeypatch, tokenizer, capsys):  # noqa: F811
    """A GPT-2 of random weights with a tokenizer of GPT-2's kind, from a folder."""
    pytest.importorskip("vaderSentiment")
    monkeypatch.setattr(runner, "results_folder", lambda: tmp_path)
    tokenizer.pad_token = tokenizer.eos_token
    gpt2(tokenizer).save_pretrained(tmp_path / "mine")
    tokenizer.save_pretrained(tmp_path / "mine")
    space = {"eq": eq, "env": eq.setup("quick", seed=0), "__name__": "__main__"}
    small = "import dataclasses\nconfig = dataclasses.replace(config, samples=3, sentences=3)\n"
    for source in cells():
        if LINE in source:
            own = source.replace(LINE, f'other = "{(tmp_path / "mine").as_posix()}"')
            source = own.replace("planted = ", f"{small}planted = ")
        exec(source, space)
    assert space["config"].judges == ("vader",) and not space["planted"]
    assert {r.cell["pretrained"] for r in space["live"]} == {"mine"}
    law = {r.cell["model"]: r.metrics for r in space["live"] if r.cell["task"] == "law"}
    assert law["EquiLM"]["gap"] < 1e-6 < law["pretrained"]["gap"]
    assert "P(negative)" not in capsys.readouterr().out  # what was planted is in another model
