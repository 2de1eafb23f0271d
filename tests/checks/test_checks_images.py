"""The image chapter's checkers against right answers and known wrong ones."""

import pytest
import torch

from equitutor import checks

CONSISTENT = {
    "the book's": lambda p: (p == p[0]).all(0).double().mean().item(),
    "by extremes": lambda p: float((p.amax(0) == p.amin(0)).float().mean()),
    "in a loop": lambda p: sum(len(set(c.tolist())) == 1 for c in p.T) / p.shape[1],
}
TURN_EACH = {
    "the book's": lambda x, k: torch.stack(
        [y.rot90(int(j), (-2, -1)) for y, j in zip(x, k, strict=True)]
    ),
    "by transposing": lambda x, k: torch.stack(
        [
            [y, y.mT.flip(-2), y.flip(-1, -2), y.mT.flip(-1)][int(j)]
            for y, j in zip(x, k, strict=True)
        ]
    ),
    "views, then chosen": lambda x, k: torch.stack([x.rot90(j, (2, 3)) for j in range(4)])[
        k, torch.arange(len(x))
    ],
}
WRONG_CONSISTENT = [
    (lambda p: (p == p[0]).double().mean().item(), "single agreements"),
    (lambda p: 100 * (p == p[0]).all(0).double().mean().item(), "percentage"),
    (lambda p: (p == p[0]).all(0).sum().item(), "count"),
    (lambda p: (p[0] == p[1]).double().mean().item(), "one other rotation"),
    (lambda p: (p[0] == p[2]).double().mean().item(), "half turn only"),
    (lambda p: (p[:-1] == p[0]).all(0).double().mean().item(), "left out the last"),
    (lambda p: (p == p[:, :1]).all(1).double().mean().item(), "wrong axis"),
]
WRONG_TURN = [
    (
        lambda x, k: torch.stack([y.rot90(-int(j), (-2, -1)) for y, j in zip(x, k, strict=True)]),
        "clockwise",
    ),
    (lambda x, k: x.rot90(int(k[0]), (-2, -1)), "whole batch"),
    (lambda x, k: torch.stack([y.rot90(int(j)) for y, j in zip(x, k, strict=True)]), "channels"),
    (
        lambda x, k: torch.stack(
            [y.mT if j % 2 else y.rot90(int(j), (1, 2)) for y, j in zip(x, k, strict=True)]
        ),
        "transposed",
    ),
    (lambda x, k: x, "changed nothing"),
]


@pytest.mark.parametrize("answer", CONSISTENT.values(), ids=CONSISTENT.keys())
def test_consistent_accepts(answer):
    assert checks.check_consistent(answer)


@pytest.mark.parametrize(
    ("answer", "named"), WRONG_CONSISTENT, ids=[n for _, n in WRONG_CONSISTENT]
)
def test_consistent_names_the_mistake(answer, named, capsys):
    assert not checks.check_consistent(answer)
    assert named in capsys.readouterr().out


@pytest.mark.parametrize("answer", TURN_EACH.values(), ids=TURN_EACH.keys())
def test_turn_each_accepts(answer):
    assert checks.check_turn_each(answer)


@pytest.mark.parametrize(("answer", "named"), WRONG_TURN, ids=[n for _, n in WRONG_TURN])
def test_turn_each_names_the_mistake(answer, named, capsys):
    assert not checks.check_turn_each(answer)
    assert named in capsys.readouterr().out


@pytest.mark.parametrize("check", [checks.check_consistent, checks.check_turn_each])
def test_a_stub_is_not_done_yet(check, capsys):
    def stub(*_):
        raise NotImplementedError

    assert not check(stub)
    assert "Not done yet" in capsys.readouterr().out
