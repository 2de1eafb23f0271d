"""The open project's checkers against projects that are right and ones that are wrong."""

import copy
import re

import pytest
import torch
from torch import nn

import equitutor as eq
from equitutor import checks

D4, C4, C2 = eq.Rotations(eq.dihedral(4)), eq.Rotations(eq.cyclic(4)), eq.Rotations(eq.cyclic(2))


def pictures(n=60):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def brightest(x):  # a map with a 1 at the brightest pixel
    return (x == x.amax((-2, -1), keepdim=True)).float()[:, 0]


def centre(x):  # the centre of mass, as (row, column) from the middle
    place = torch.arange(4.0) - 1.5
    return torch.stack([(x.sum(3) * place).sum((1, 2)), (x.sum(2) * place).sum((1, 2))], 1)


def total(x):
    return x.sum((1, 2, 3))


def sequences():
    return torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


def ranks(x):
    return x.argsort(1).argsort(1)


def first_brightest(x):  # of several that are equally bright, the first
    at = (x * 60).round().flatten(1).argmax(1)
    return nn.functional.one_hot(at, 16).float().reshape(-1, 4, 4)


STORED = total(pictures())
S3 = eq.Permutation(eq.symmetric(3))
vectors = eq.MatrixAction(eq.dihedral(4), eq.rotation_matrices(eq.dihedral(4)).float())
backwards = eq.MatrixAction(eq.cyclic(4), eq.rotation_matrices(eq.cyclic(4)).float().mT)


@pytest.mark.parametrize(
    ("examples", "label"),
    [(pictures, brightest), (pictures, centre), (pictures, total), (sequences, ranks)],
)
def test_examples_that_will_do(examples, label, capsys):
    assert checks.check_examples(examples, label)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("examples", "label", "words"),
    [
        (lambda: [1, 2], total, "one tensor"),
        (lambda: pictures(10), total, "only 10 examples"),
        (lambda: pictures(1).repeat(60, 1, 1, 1), total, "are the same"),
        (lambda: torch.rand(60, 4), lambda x: x.sum(1), "others each time"),
        (pictures, lambda x: x.sum(), "a row for each"),
        (pictures, lambda x: total(x) - total(x).mean(), "the rest of the batch"),
        (pictures, lambda x: torch.rand(len(x)), "on chance"),
        (pictures, lambda x: torch.zeros(len(x)), "nothing to learn"),
        (lambda: [], total, "a list of 0"),
        (pictures, lambda x: None, "is the `return` missing"),
        (pictures, lambda x: (-total(x)).log(), "of example 0 is NaN"),
        (pictures, lambda x: STORED[: len(x)], "given out by number"),
        (pictures, lambda x: x.flatten(1).sub_(1).sum(1), "changed its input"),
        (pictures, lambda x: x.nothing, "AttributeError"),
        (pictures, lambda x: total(x).numpy(), "torch.from_numpy makes"),
        (pictures, lambda x: total(x).tolist(), "torch.stack makes one tensor"),
        (lambda: (pictures(), STORED), total, "a tuple of 2: (Tensor, Tensor)."),
        (pictures, lambda x: total(x) - total(x).mean(), "but also: label(x[:3]) ="),
        (pictures, lambda x: total(x) + torch.rand(len(x)), "asked twice, label(x) gives two"),
        (lambda n: pictures(n), total, "it could not be called"),
    ],
)
def test_examples_that_will_not_do(examples, label, words, capsys):
    assert checks.check_examples(examples, label) is False
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("actions", "examples", "label"),
    [
        ((D4, D4), pictures, brightest),
        ((D4, vectors), pictures, centre),
        ([C4, None], pictures, total),
        ((S3, S3), sequences, ranks),
    ],
)
def test_symmetries_that_the_task_has(actions, examples, label, capsys):
    assert checks.check_symmetry(lambda: actions, examples, label)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("actions", "label", "words"),
    [
        (D4, brightest, "should return in_action, out_action"),
        (
            (D4.group, D4.group),
            brightest,
            "(FiniteGroup, FiniteGroup). An action is made from a group",
        ),
        ((eq.Permutation(eq.symmetric(4), dim=-3), None), total, "made with dim=3?"),
        ((D4, C4), brightest, "use one group"),
        ((eq.Trivial(eq.cyclic(4)), None), total, "moves no example"),
        ((D4, D4), total, "moving the labels it stopped with ValueError"),
        ((D4, None), brightest, "an out_action of its own"),
        ((C4, backwards), centre, "by g^-1"),
        ((D4, D4), first_brightest, "have a tie"),
        ((D4, D4), lambda x: STORED[: len(x)], "stopped with ValueError"),
        ((D4, None), lambda x: STORED[: len(x)], "mend milestone 1 first"),
        ((D4, "none"), total, "(or None for the second)"),
        ((C4, C4), lambda x: (x[:, 0] * 0 + 1).cumsum(1), "not move at all"),
        ((D4, None), lambda x: x[:, 0, :2].sum((1, 2)), "It is right for e, s: perhaps"),
        ((D4, None), lambda x: brightest(x).bool(), "an out_action of its own"),
        ((D4, None), lambda x: 5e-5 * brightest(x), "an out_action of its own"),
        ((C4, C4), lambda x: torch.ones(len(x), 60).cumsum(0), "the batch comes before"),
        ((D4, None), lambda x: x[:, 0, 0, : 3 if x[0, 0, 0, 0] < 0.5 else 4], "another shape"),
    ],
)
def test_symmetries_that_it_has_not(actions, label, words, capsys):
    assert checks.check_symmetry(lambda: actions, pictures, label) is False
    assert words in capsys.readouterr().out


def test_a_group_of_swaps_will_do_with_a_word(capsys):
    assert checks.check_symmetry(lambda: (C2, C2), pictures, brightest)
    said = capsys.readouterr().out
    assert said.startswith("Right") and "its own inverse" in said


def of_d4():
    return D4, vectors


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


class OwnAverage(nn.Module):
    def __init__(self, model, a, b):
        super().__init__()
        self.model, self.a, self.b = model, a, b

    def forward(self, x):
        terms = [self.b(~g, self.model(self.a(g, x))) for g in self.a.group]
        return torch.stack(terms).mean(0)


def in_a_function(model, a, b):
    return lambda x: sum(b(~g, model(a(g, x))) for g in a.group) / len(a.group)


@pytest.mark.parametrize(
    "wrap",
    [
        eq.equitune,
        lambda m, a, b: eq.equizero(m, a, b, loss=eq.max_value),
        lambda m, a, b: eq.lambda_equitune(m, a, b, weight_net=eq.LambdaNet(2)),
        lambda m, a, b: eq.equitune(copy.deepcopy(m), a, b),
        OwnAverage,
        in_a_function,
    ],
)
def test_models_that_are_tuned(net, wrap, capsys):
    assert checks.check_tuned(lambda m: wrap(m, D4, vectors), of_d4, lambda: net, pictures)
    assert "Right: equivariant to D4" in capsys.readouterr().out


class ByName(eq.Weighting):
    def forward(self, outputs, inputs, n, batch):
        return torch.eye(n)[:, :1].expand(n, batch)


def zeroed(m):
    nn.init.zeros_(m[1].weight)
    nn.init.zeros_(m[1].bias)
    return eq.equitune(m, D4, vectors)


def trained(m):
    wrapped = eq.equitune(m, D4, vectors)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    wrapped(pictures()).square().sum().backward()
    optimizer.step()
    return wrapped


class Sum(OwnAverage):
    def forward(self, x):
        return 8 * super().forward(x)


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


class Backwards(OwnAverage):
    """Moves its output by g^-1: a pair of actions that turn in opposite senses."""

    def forward(self, x):
        terms = [self.b(g, self.model(self.a(g, x))) for g in self.a.group]
        return torch.stack(terms).mean(0)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda m: m, "unchanged; wrap it"),
        (zeroed, "changed the weights"),
        (lambda m: zeroed(copy.deepcopy(m)), "or a copy trained"),
        (trained, "changed the weights"),
        (lambda m: trained(copy.deepcopy(m)), "or a copy trained"),
        (lambda m: eq.equitune(m, D4), "does not move at all: was out_action forgotten"),
        (lambda m: Sum(m, D4, vectors), "not divided by |G|"),
        (
            lambda m: in_a_function(nn.Sequential(m, Twice()), D4, vectors),
            "but 2 times the average",
        ),
        (lambda m: Backwards(m, D4, vectors), "not equivariant to your symmetry"),
        (lambda m: (m, D4), "should return a model; you returned a tuple of 2"),
        (lambda m: nn.Sequential(m), "not equivariant to your symmetry"),
        (lambda m: eq.equitune(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), D4), "built anew"),
        (lambda m: eq.GroupAverage(m, D4, vectors, ByName()), "not equivariant"),
        (lambda m: eq.equitune(m, D4, D4), "stopped with ValueError"),
        (lambda m: eq.equitune(m, C4), "not equivariant to your symmetry"),
        (lambda m: eq.equitune(m, eq.Trivial(D4.group)), "It is right for e"),
    ],
)
def test_models_that_are_not(net, wrap, words, capsys):
    assert checks.check_tuned(wrap, of_d4, lambda: net, pictures) is False
    assert words in capsys.readouterr().out


def test_stubs_are_not_done_yet(net, capsys):
    def stub(*args):
        raise NotImplementedError

    for check, right in [
        (checks.check_examples, [pictures, total]),
        (checks.check_symmetry, [lambda: (D4, None), pictures, total]),
        (checks.check_tuned, [lambda m: eq.equitune(m, D4, vectors), of_d4, lambda: net, pictures]),
    ]:
        assert check(*right)
        for i in range(len(right)):
            capsys.readouterr()
            assert check(*right[:i], stub, *right[i + 1 :]) is False
            assert capsys.readouterr().out.startswith("Not done yet")


def test_no_line_of_the_checker_is_called_yours(capsys):
    wrong = (eq.Permutation(eq.symmetric(4), dim=-3), None)
    assert not checks.check_symmetry(lambda: wrong, pictures, total)
    printed = capsys.readouterr().out
    assert "your line" not in printed and "there:" not in printed and "Probably" not in printed

    def label(x):
        return total(x) if torch.equal(x, pictures()) else x.nothing

    assert not checks.check_symmetry(lambda: (D4, None), pictures, label)
    assert "your line: return total(x) if" in capsys.readouterr().out


def test_labels_are_shown_to_three_digits(capsys):
    assert not checks.check_symmetry(lambda: (D4, None), pictures, centre)
    shown = [line for line in capsys.readouterr().out.splitlines() if "label(" in line]
    assert len(shown) == 2 and not any(re.search(r"\d\.\d{4}", line) for line in shown)
