"""The checkers of chapters 1 and 2 against right answers and known wrong ones."""

import pytest
import torch
from torch.nn.functional import conv2d

import equitutor as eq
from equitutor import checks


def inverses(table):
    e = (table == torch.arange(len(table))).all(1).nonzero()[0, 0]
    return (table == e).int().argmax(1)


def scatter(p, x):
    y = torch.empty_like(x)
    y[..., p] = x
    return y


def action(table, perms, first=lambda p, g, h: p[g][p[h]], identity=True):
    n = len(table)
    e = table[0, inverses(table)[0]]
    still = torch.equal(perms[e], torch.arange(perms.shape[1]))
    return (still or not identity) and all(
        torch.equal(perms[table[g, h]], first(perms, g, h)) for g in range(n) for h in range(n)
    )


def by_library(table, perms):
    try:
        eq.Permutation(eq.FiniteGroup(table), perms)
    except ValueError:
        return False
    return True


def cycles(p):
    seen, count = set(), 0
    for start in range(len(p)):
        count += start not in seen
        while start not in seen:
            seen.add(start)
            start = int(p[start])
    return count


def listed(perms, colours):
    every = torch.cartesian_prod(*[torch.arange(colours)] * perms.shape[1])
    place = colours ** torch.arange(perms.shape[1])
    return len(torch.stack([(every[:, p] * place).sum(1) for p in perms]).amin(0).unique())


def error(term, over=max, relative=True):
    def answer(f, act, x):
        found = [term(f, act, g, x).abs().max().item() for g in act.group]
        return over(found) / (f(x).abs().max().item() if relative else 1)

    return answer


def turns(w):
    return torch.stack([w.rot90(k, (-2, -1)) for k in range(4)])


def windows(size, kernel, stride, padding):
    starts = list(range(-padding, size + padding - kernel + 1, stride))
    return starts == sorted(size - kernel - i for i in starts)


def measured(size, kernel, stride, padding):
    """A convolution by an even filter of ones, turned before and after."""
    x = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(1, 1, kernel, kernel)
    y = conv2d(x, ones, stride=stride, padding=padding)
    z = conv2d(x.flip(-1), ones, stride=stride, padding=padding)
    return torch.allclose(y.flip(-1), z, rtol=1e-4)


# checker: (right answers, {words of the verdict: wrong answer})
ANSWERS = {
    "inverses": (
        [
            inverses,
            lambda t: [next(j for j in range(len(t)) if t[t[i, j], i] == i) for i in range(len(t))],
        ],
        {
            "need not be element 0": lambda t: (t == 0).nonzero()[:, 1],
            "-i modulo n": lambda t: -torch.arange(len(t)) % len(t),
            "the diagonal": lambda t: torch.diagonal(t),
            "g itself": lambda t: list(range(len(t))),
            "True and False": lambda t: t == t[0, inverses(t)[0]],
        },
    ),
    "move_scores": (
        [scatter, lambda p, x: x.index_select(-1, p.argsort())],
        {
            "which is g^-1 x": lambda p, x: x[..., p],
            "the first dimension; the scores": lambda p, x: x[torch.argsort(p)],
            "x[p]: the wrong way": lambda p, x: x.index_select(0, p),
            "changed nothing": lambda p, x: x,
            "gave the places": lambda p, x: p + 0 * x,
        },
    ),
    "is_action": (
        [action, by_library],
        {
            "wrong order": lambda t, p: action(t, p, lambda p, g, h: p[h][p[g]]),
            "left out the first law": lambda t, p: action(t, p, identity=False),
            "took element 0 for the identity": lambda t, p: (
                torch.equal(p[0], torch.arange(p.shape[1])) and action(t, p)
            ),
            "only whether the identity": lambda t, p: torch.equal(p[0], torch.arange(p.shape[1])),
            "move differently": lambda t, p: (
                action(t, p) and len({tuple(r) for r in p.tolist()}) == len(p)
            ),
            "each row is a permutation": lambda t, p: all(
                sorted(r) == list(range(len(r))) for r in p.tolist()
            ),
            "accept everything": lambda t, p: True,
        },
    ),
    "count_colourings": (
        [lambda perms, k: sum(k ** cycles(p) for p in perms) // len(perms), listed],
        {
            "count cycles": lambda perms, k: round(
                sum(k ** sum(p[i] == i for i in range(len(p))) for p in perms.tolist()) / len(perms)
            ),
            "not divide": lambda perms, k: sum(k ** cycles(p) for p in perms),
            "smaller orbits.": lambda perms, k: k ** perms.shape[1] // len(perms),
            "need not be whole": lambda perms, k: k ** perms.shape[1] / len(perms),
            "whole orbits of points": lambda perms, k: k ** int(eq.orbits(perms).max() + 1),
            "counted all": lambda perms, k: k ** perms.shape[1],
        },
    ),
    "equivariance_error": (
        [
            lambda f, act, x: eq.equivariance_error(f, x, act, act),
            error(lambda f, act, g, x: act(~g, f(act(g, x))) - f(x)),
        ],
        {
            "asks for invariance": error(lambda f, act, g, x: f(act(g, x)) - f(x)),
            "by g^-1": error(lambda f, act, g, x: f(act(g, x)) - act(~g, f(x))),
            "not divide": error(lambda f, act, g, x: f(act(g, x)) - act(g, f(x)), relative=False),
            "the worst element": error(
                lambda f, act, g, x: f(act(g, x)) - act(g, f(x)), over=lambda e: sum(e) / len(e)
            ),
            "not move the input": error(lambda f, act, g, x: f(x) - act(g, f(x))),
            "identity only": lambda f, act, x: 0.0,
        },
    ),
    "symmetric_kernel": (
        [
            lambda w: turns(w).mean(0),
            lambda w: (w + w.flip(-2, -1) + w.mT.flip(-1) + w.mT.flip(-2)) / 4,
        ],
        {
            "not divide by 4": lambda w: turns(w).sum(0),
            "two turns": lambda w: (w + w.flip(-2, -1)) / 2,
            "one quarter turn": lambda w: (w + w.rot90(1, (2, 3))) / 2,
            "mirror images": lambda w: (turns(w) + turns(w.flip(-1))).mean(0) / 2,
            "all entries equal": lambda w: w.mean((2, 3), keepdim=True) + 0 * w,
            "transpose": lambda w: (w + w.transpose(2, 3)) / 2,
        },
    ),
    "same_windows": (
        [lambda n, k, s, p: (n + 2 * p - k) % s == 0, windows, measured],
        {
            "stride 1 alone": lambda n, k, s, p: s < 2,
            "an odd size": lambda n, k, s, p: n % 2 != 0,
            "divides the size": lambda n, k, s, p: not n % s,
            "left out the padding": lambda n, k, s, p: (n - k) % s == 0,
            "padding once": lambda n, k, s, p: (n - k + p) % s == 0,
            "wrong way round": lambda n, k, s, p: not windows(n, k, s, p),
            "accept everything": lambda n, k, s, p: True,
        },
    ),
}


def check(name):
    return getattr(checks, f"check_{name}")


@pytest.mark.parametrize(
    ("name", "answer"), [(n, a) for n, (right, _) in ANSWERS.items() for a in right]
)
def test_right_answers_pass(name, answer, capsys):
    assert check(name)(answer), capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words", "answer"),
    [(n, words, a) for n, (_, wrong) in ANSWERS.items() for words, a in wrong.items()],
)
def test_mistakes_are_named(name, words, answer, capsys):
    assert check(name)(answer) is False
    assert words in capsys.readouterr().out.split("Probably ")[1]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stub_is_not_done_yet(name, capsys):
    def stub(*_):
        raise NotImplementedError

    assert check(name)(stub) is False
    assert "Not done yet" in capsys.readouterr().out
