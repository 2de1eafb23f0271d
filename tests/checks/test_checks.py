"""Each checker against the right answer, the same written differently, and known wrong ones."""

import re
from importlib import import_module

import assignment_answers
import chapter_answers
import pytest
import torch
from chapter_answers import move

from equitutor import checks
from equitutor.checks.answers import same
from equitutor.checks.verdict import _answer, verdict

# checker: (right answers, {words of the verdict: wrong answer})
ANSWERS = chapter_answers.ANSWERS | assignment_answers.ANSWERS


def check(name):
    return getattr(checks, f"check_{name}")


def test_every_checker_is_tested():
    project = {"check_examples", "check_symmetry", "check_tuned"}  # see test_checks_project.py
    measured = {"check_combine", "check_within_budget"}  # see test_checks_photographs.py
    assert {f"check_{name}" for name in ANSWERS} == set(checks.__all__) - project - measured
    assert all(len(right) >= 2 and len(wrong) >= 4 for right, wrong in ANSWERS.values())
    assert all(len(right) >= 3 for right, _ in assignment_answers.ANSWERS.values())


@pytest.mark.parametrize(
    ("name", "answer"),
    [(name, a) for name, (right, _) in ANSWERS.items() for a in right],
    ids=[f"{name}-{i}" for name, (right, _) in ANSWERS.items() for i in range(len(right))],
)
def test_right_answers_pass(name, answer, capsys):
    assert check(name)(answer) is True, capsys.readouterr().out
    assert capsys.readouterr().out.startswith("Right in all cases")


@pytest.mark.parametrize(
    ("name", "words", "answer"),
    [(name, words, a) for name, (_, wrong) in ANSWERS.items() for words, a in wrong.items()],
    ids=[f"{name}-{words}" for name, (_, wrong) in ANSWERS.items() for words in wrong],
)
def test_mistakes_are_named(name, words, answer, capsys):
    assert check(name)(answer) is False
    printed = capsys.readouterr().out
    assert "yours:" in printed and "expected:" in printed
    assert words in re.split("Probably |Perhaps ", printed, maxsplit=1)[1], printed


@pytest.mark.parametrize("name", ANSWERS)
def test_stubs_errors_and_nothing_are_reported(name, capsys):
    def stub(*args):
        raise NotImplementedError

    def breaks(*args):
        raise KeyError("my own bug")

    assert check(name)(stub) is False
    assert capsys.readouterr().out.startswith("Not done yet")
    assert check(name)(breaks) is False
    assert "KeyError: 'my own bug'" in capsys.readouterr().out
    assert check(name)(lambda *args: None) is False
    assert "is the `return` missing" in capsys.readouterr().out


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    for name, (right, _) in ANSWERS.items():
        check(name)(right[0])
    assert torch.equal(before, torch.get_rng_state())


def test_a_change_of_its_arguments_is_noticed(capsys):
    def spoils(model, perms, x):
        y = sum(model(move(p, x))[..., p] for p in perms) / len(perms)
        x.zero_()
        return y

    assert not checks.check_reynolds(spoils)
    assert "changed its arguments" in capsys.readouterr().out


def test_a_change_in_a_batch_of_graphs_is_noticed(capsys):
    def in_place(p, graphs):
        graphs[..., p[:, None], p] = graphs.clone()
        return graphs

    assert not checks.check_move_graph(in_place)
    assert "changed its arguments" in capsys.readouterr().out


def test_large_tensors_are_shown_at_the_first_difference(capsys):
    expected = torch.arange(60.0).reshape(3, 20)
    off = expected.clone()
    off[1, 4] = -1
    assert not verdict(lambda: off, lambda: expected, {"sixty numbers": ()}, {"no": lambda: 0})
    printed = capsys.readouterr().out
    assert "shape (3, 20), at [1, 4]: -1.0" in printed and "at [1, 4]: 24.0" in printed
    assert "Probably" not in printed


def test_what_is_shown_where_a_difference_cannot_be_taken(capsys):
    expected = torch.ones(20)
    for yours, shown in [
        (torch.full((20,), torch.nan), "shape (20,), at [0]: nan"),
        (expected.bool() & (torch.arange(20) != 3), "shape (20,), at [3]: False"),
    ]:
        assert not verdict(lambda y=yours: y, lambda: expected, {"ones": ()}, {"no": lambda: 0})
        assert shown in capsys.readouterr().out
    answers = [lambda: (expected, 1), lambda: (expected, 2)]
    assert not verdict(*answers, {"a pair": ()}, {"no": lambda: 0})
    assert "(shape (20,), 1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ([1, 2], torch.tensor([1, 2]), True),
        ([0.1, 0.2], torch.tensor([0.1, 0.2], dtype=torch.float64), True),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), True),
        (torch.ones(2, 1), torch.ones(2), False),
        ("no numbers", torch.ones(2), False),
        (torch.tensor(3), 3, True),
        (3.0000000001, 3.0, True),
        (3.00001, 3.0, False),
        (3.0, 3, True),
        (1, True, False),
        (torch.tensor(True), True, True),
        ((1, torch.ones(1)), (1, torch.ones(1)), True),
        (["a"], ["a", "b"], False),
        ({"a"}, {"a"}, True),
        (None, 1, False),
        (torch.tensor([float("nan")]), torch.tensor([1.0]), False),
        (torch.ones(2), 1.0, False),
        (torch.ones(2, dtype=torch.bool), True, False),
    ],
)
def test_same(a, b, equal):
    assert same(a, b) is equal


def test_every_mistake_that_a_checker_knows_is_a_mistake_and_named(monkeypatch):
    """Its own function, handed in, is refused with its own sentence, or with one as true of it."""
    asked = []

    def noted(student, right, cases, mistakes, *rest, **_):
        asked.append((right, cases, mistakes, rest))
        return True

    for name in ANSWERS:
        module = import_module(getattr(checks, f"check_{name}").__module__)
        monkeypatch.setattr(module, "verdict", noted)
        check(name)(None)
    for right, cases, mistakes, rest in asked:
        run = rest[0] if rest else lambda function, *args: function(*args)
        for sentence, wrong in mistakes.items():
            answers = [
                (_answer(run, wrong, args), _answer(run, right, args)) for args in cases.values()
            ]
            made = [(a, b) for a, b in answers if not isinstance(a, Exception)]
            assert made and not all(same(a, b) for a, b in made), sentence


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("symmetrized", lambda m, a, b, x: b(~g0(a).inverse, m(x)), "~g is its inverse"),
        ("symmetrized", lambda m, a, b, x: m(x) / len(a), "len(action.group)"),
        ("symmetrized", lambda m, a, b, x: m(x).sqaure(), "you mean `square`"),
        ("symmetrized", lambda model, a, b, x: modle(x), "you mean `model`"),  # noqa: F821
        ("symmetrized", lambda m, a, x: m(x), "other arguments than it had"),
        ("symmetrized", 3, "no function to call, but 3"),
        ("symmetrized", torch.ones(2), "no function to call"),
        (
            "in_one_batch",
            lambda m, a, b, x: [c for _, c in [x.shape]],
            "inputs need not be images",
        ),
        ("dimension", lambda p, q: torch.trace(p), "takes one matrix"),
        ("weighted_average", lambda y, lam, a: y[g0(a)], "as in y[g.index]"),
        ("entropies", lambda m, a, x: m(x).softmax(), "too few arguments"),
        (
            "choose_view",
            lambda y, losses, a: (losses == losses.min(0)).float(),
            "x.amin(0) the values",
        ),
    ],
)
def test_an_exception_is_explained(name, answer, words, capsys):
    assert check(name)(answer) is False
    assert words in capsys.readouterr().out


def g0(action):
    return action.group.identity


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda y, lam, a: average(y, lam.detach(), a), "with respect to lam is not (a part"),
        (lambda y, lam, a: average(y.detach(), lam, a), "with respect to y is not (a part"),
        (lambda y, lam, a: average(y, lam, a).tolist(), "NumPy or torch.tensor(...) on the way"),
        (lambda y, lam, a: average(y, lam.mul_(1), a), "that the gradient needs: make a new one"),
    ],
)
def test_which_gradient_is_missing_and_why(answer, words, capsys):
    assert checks.check_weighted_average(answer) is False
    assert words in capsys.readouterr().out


def average(y, lam, action):
    return sum((lam / lam.sum(0))[g.index, :, None] * action(~g, y[g.index]) for g in action.group)


def test_a_difference_that_the_digits_do_not_show_is_told(capsys):
    assert not verdict(lambda: 0.5 + 1e-6, lambda: 0.5, {"a half": ()}, {})
    printed = capsys.readouterr().out
    assert "yours:    0.5\n" in printed and "They differ by 1e-06" in printed
    assert not verdict(lambda: 0.6, lambda: 0.5, {"a half": ()}, {})
    assert "differ" not in capsys.readouterr().out


def test_a_chance_hit_of_one_whole_number_is_no_reason(capsys):
    cases = {f"number {n}": (n,) for n in range(2, 8)}
    assert not verdict(lambda n: 1, lambda n: n, cases, {"you halved it.": lambda n: n // 2})
    assert "halved" not in capsys.readouterr().out
    assert not verdict(lambda n: n // 2, lambda n: n, cases, {"you halved it.": lambda n: n // 2})
    assert "Probably you halved it" in capsys.readouterr().out
