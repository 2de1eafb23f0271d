"""Assignment 7's checkers against answers that choose well, choose badly, and cheat."""

import json
from pathlib import Path

import pytest
import torch

import equitutor as eq
from equitutor import checks

SOURCE = Path(__file__).parents[2] / "book" / "assignments" / "source" / "07_real.ipynb"


@pytest.fixture(scope="module")
def model():
    """The model answers."""
    cells = json.loads(SOURCE.read_text(encoding="utf-8"))["cells"]
    space = {"torch": torch, "eq": eq}
    for cell in cells:
        if "# BEGIN SOLUTION" in "".join(cell["source"]):
            exec("".join(cell["source"]), space)
    return space


def most_probable(scores):
    best = scores.softmax(-1).amax(-1).argmax(0)
    return scores[best, torch.arange(len(best))]


def test_choices_that_are_better_than_the_mean(model, capsys):
    for combine in (model["combine"], most_probable, lambda s: most_probable(s).log_softmax(-1)):
        assert checks.check_combine(combine)
        assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("combine", "words"),
    [
        (lambda s: s.mean(0), "does not recognise"),
        (lambda s: 0 * s[0] + torch.arange(1000), "does not recognise"),
        (lambda s: s[0], "which view comes first"),
        (lambda s: s[3], "which view comes first"),
        (lambda s: (s * torch.tensor([0.7, 0.1, 0.1, 0.1])[:, None, None]).sum(0), "comes first"),
        (lambda s: s, "shape (20, 1000); you returned a tensor of shape (4, 20, 1000)"),
        (lambda s: s.argmax(-1)[0], "you returned a tensor of shape (20,)"),
        (lambda s: s.mean(0) / 0, "finite scores"),
        (lambda s: None, "you returned NoneType"),
        (lambda s: s[4], "your line"),
    ],
)
def test_choices_that_are_not(combine, words, capsys):
    assert checks.check_combine(combine) is False
    assert words in capsys.readouterr().out


def fixed(net, x, budget):
    """The mean of as many views of every crop."""
    return sum(net(x.rot90(k, (-2, -1))) for k in range(budget)) / budget


def test_passes_where_they_are_needed(model, capsys):
    assert checks.check_within_budget(model["within_budget"])
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fixed, "with a budget of 2"),
        (lambda net, x, budget: fixed(net, x, 4), "saw 80 images; 20 are allowed"),
        (lambda net, x, budget: net(x), "with a budget of 2"),
        (lambda net, x, budget: torch.zeros(len(x), 1000), "with a budget of 1"),
        (lambda net, x, budget: net(x)[:5], "you returned a tensor of shape (5, 1000)"),
        (lambda net, x, budget: net(x[None]), "your line"),
    ],
)
def test_passes_that_are_spent_badly(answer, words, capsys):
    assert checks.check_within_budget(answer) is False
    assert words in capsys.readouterr().out


def test_stubs_are_not_done_yet(capsys):
    def stub(*args):
        raise NotImplementedError

    for check in (checks.check_combine, checks.check_within_budget):
        assert check(stub) is False
        assert capsys.readouterr().out.startswith("Not done yet")
