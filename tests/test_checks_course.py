"""The assignments' checkers against right answers, the same written differently, and wrong ones."""

import itertools

import pytest
import torch

from equitutor import checks


def closure(generators):
    e = tuple(range(generators.shape[1]))
    found, new = {e}, [e]
    while new:
        h = new.pop()
        for g in generators.tolist():
            gh = tuple(g[i] for i in h)
            if gh not in found:
                found.add(gh)
                new.append(gh)
    return found


def by_words(generators):
    """Products of ever more generators, as one tensor."""
    rows = torch.arange(generators.shape[1])[None]
    for _ in range(30):
        rows = torch.cat([rows, generators[:, rows].flatten(0, 1)]).unique(dim=0)
    return rows


def table(row):
    return lambda perms: [
        [next(i for i, p in enumerate(perms) if torch.equal(p, row(g, h))) for h in perms]
        for g in perms
    ]


def scatter_graph(p, a):
    b = torch.empty_like(a)
    b[..., p[:, None], p] = a
    return b


def by_matrix(p, a):
    m = torch.eye(len(p), dtype=a.dtype)[p].mT  # e_i to e_(p i)
    return m @ a @ m.mT


def images(perms, a):
    return [scatter_graph(p, a) for p in perms]


def orbit(perms, a):
    return len({tuple(b.flatten().tolist()) for b in images(perms, a)})


def still(perms, a):
    return sum(torch.equal(b, a) for b in images(perms, a))


def pair_cycles(p, pairs, image):
    left, count = set(pairs), 0
    while left:
        count += 1
        at = left.pop()
        while (at := image(p, at)) in left:
            left.remove(at)
    return count


def burnside(pairs, image=lambda p, e: frozenset(int(p[i]) for i in e), divide=True):
    def count(perms):
        total = sum(2 ** pair_cycles(p, pairs(perms.shape[1]), image) for p in perms)
        return total // len(perms) if divide else total

    return count


def edges(n):
    return [frozenset(e) for e in itertools.combinations(range(n), 2)]


def listed(perms):
    """All graphs, the least of each orbit kept."""
    pairs = edges(perms.shape[1])
    number = {e: 2**k for k, e in enumerate(pairs)}
    least = set()
    for chosen in itertools.product([0, 1], repeat=len(pairs)):
        graph = [e for e, take in zip(pairs, chosen, strict=True) if take]
        moved = (sum(number[frozenset(p[i] for i in e)] for e in graph) for p in perms.tolist())
        least.add(min(moved))
    return len(least)


GRAPHS = {
    "generate": (
        [closure, by_words, lambda p: [list(row) for row in closure(p)]],
        {
            "powers of each": lambda p: set().union(*(closure(g[None]) for g in p)),
            "generators once": lambda p: torch.cat(
                [torch.arange(p.shape[1])[None], p, *(g[p] for g in p)]
            ).unique(dim=0),
            "left out the identity": lambda p: closure(p) - {tuple(range(p.shape[1]))},
            "generators alone": lambda p: p,
            "all permutations of the points": lambda p: list(
                itertools.permutations(range(p.shape[1]))
            ),
            "more than once": lambda p: [*closure(p), *closure(p)],
        },
    ),
    "cayley_table": (
        [table(lambda g, h: g[h]), lambda p: (p[:, p][..., None, :] == p).all(-1).int().argmax(-1)],
        {
            "g first, then h": table(lambda g, h: h[g]),
            "inverse of g": table(lambda g, h: torch.argsort(g)[h]),
            "inverse of h": table(lambda g, h: g[torch.argsort(h)]),
            "added the numbers": lambda p: [
                [(i + j) % len(p) for j in range(len(p))] for i in range(len(p))
            ],
            "in sorted order": lambda p: [
                [sorted(p.tolist()).index(p[g][p[h]].tolist()) for h in range(len(p))]
                for g in range(len(p))
            ],
        },
    ),
    "move_graph": (
        [scatter_graph, by_matrix],
        {
            "which is g^-1 A": lambda p, a: a[..., p[:, None], p],
            "the rows alone": lambda p, a: a.index_select(-2, p.argsort()),
            "the columns alone": lambda p, a: a.index_select(-1, p.argsort()),
            "columns by g^-1": lambda p, a: a.index_select(-2, p.argsort()).index_select(-1, p),
            "turned the edges round": lambda p, a: scatter_graph(p, a.transpose(-2, -1)),
            "the first two dimensions": lambda p, a: a.index_select(0, p.argsort()).index_select(
                1, p.argsort()
            ),
            "changed nothing": lambda p, a: a.clone(),
        },
    ),
    "orbit_and_stabiliser": (
        [
            lambda p, a: (orbit(p, a), still(p, a)),
            lambda p, a: [len(p) // still(p, a), still(p, a)],
        ],
        {
            "the orbit comes first": lambda p, a: (still(p, a), orbit(p, a)),
            "all |G| moved graphs": lambda p, a: (len(images(p, a)), still(p, a)),
            "left the identity out": lambda p, a: (orbit(p, a), still(p, a) - 1),
            "move no point at all": lambda p, a: (
                orbit(p, a),
                sum(row == list(range(len(a))) for row in p.tolist()),
            ),
            "that do move the graph": lambda p, a: (orbit(p, a), len(p) - still(p, a)),
        },
    ),
    "count_graphs": (
        [burnside(edges), listed],
        {
            "not divide by |G|": burnside(edges, divide=False),
            "coloured the points": burnside(lambda n: range(n), lambda p, i: int(p[i])),
            "directed graphs": burnside(
                lambda n: list(itertools.permutations(range(n), 2)),
                lambda p, e: tuple(int(p[i]) for i in e),
            ),
            "joined to itself": burnside(
                lambda n: [*edges(n), *(frozenset([i]) for i in range(n))]
            ),
            "divided the number of all": lambda p: int(2 ** len(edges(p.shape[1])) / len(p)),
            "that g leaves in place": lambda p: (
                sum(
                    2 ** sum(frozenset(int(row[i]) for i in e) == e for e in edges(p.shape[1]))
                    for row in p
                )
                // len(p)
            ),
            "without the group": lambda p: 2 ** len(edges(p.shape[1])),
        },
    ),
}

# checker: (right answers, {words of the verdict: wrong answer})
ANSWERS = {**GRAPHS}
MODULES = (checks.graphs,)


def check(name):
    return getattr(checks, f"check_{name}")


def test_every_checker_is_tested():
    assert {f"check_{name}" for name in ANSWERS} == {n for m in MODULES for n in m.__all__}
    assert all(len(right) >= 2 and len(wrong) >= 4 for right, wrong in ANSWERS.values())


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
    said = capsys.readouterr().out
    assert "yours:" in said and "expected:" in said
    assert words in said.split("Probably ")[1], said


@pytest.mark.parametrize("name", ANSWERS)
def test_stubs_errors_and_nothing_are_told(name, capsys):
    def stub(*args):
        raise NotImplementedError

    def breaks(*args):
        raise KeyError("my own bug")

    for answer, told in [
        (stub, "Not done yet"),
        (breaks, "KeyError: 'my own bug'"),
        (lambda *args: None, "is the `return` missing"),
    ]:
        assert check(name)(answer) is False
        assert told in capsys.readouterr().out


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    for name, (right, _) in ANSWERS.items():
        check(name)(right[0])
    assert torch.equal(before, torch.get_rng_state())
