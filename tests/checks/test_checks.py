"""Each checker against the right answer, the same written differently, and known wrong ones."""

import pytest
import torch

import equitutor as eq
from equitutor import checks
from equitutor.checks.verdict import same, verdict


def move(p, x):
    return x[..., p.argsort()]


def one_each(group, subgroup, coset):
    first = {}
    for t in group:
        first.setdefault(frozenset(coset(t, h) for h in subgroup), t)
    return list(first.values())


def finish(terms, choose=lambda t, h: h @ t):
    def answer(model_h, group, subgroup, action, x):
        ts = one_each(group, subgroup, choose)
        return sum(terms(model_h, action, t, x) for t in ts) / len(ts)

    return answer


def back(model_h, action, t, x):
    return action(~t, model_h(action(t, x)))


def batched_finish(model_h, group, subgroup, action, x):
    ts = one_each(group, subgroup, lambda t, h: h @ t)
    y = model_h(torch.cat([action(t, x) for t in ts])).unflatten(0, (len(ts), -1))
    return torch.stack([action(~t, y[i]) for i, t in enumerate(ts)]).mean(0)


def sharing_by_search(p_in, p_out):
    pattern, number = -torch.ones(p_out.shape[1], p_in.shape[1], dtype=torch.long), 100
    for i in range(p_out.shape[1]):
        for j in range(p_in.shape[1]):
            if pattern[i, j] < 0:
                pattern[p_out[:, i], p_in[:, j]] = number = number - 7
    return pattern.tolist()


def sharing(i, j):
    """The orbits of pairs (i, j), when row g of the one moves i and of the other j."""
    return eq.orbits((i[:, :, None] * j.shape[1] + j[:, None, :]).flatten(1)).reshape(
        i.shape[1], j.shape[1]
    )


def still(p):
    return torch.arange(p.shape[1]).repeat(len(p), 1)


def fixed(p):
    return (p == torch.arange(p.shape[1])).sum(1)


def convolve(index):
    return lambda group, kernel, x: torch.stack(
        [sum(kernel[index(g, h).index] * x[h.index] for h in group) for g in group]
    )


def regular(term):
    return lambda model, action, x: torch.stack(
        [term(model, action, h, x) for h in action.group], 1
    )


SWAP = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
S3 = eq.symmetric(3)


def matrices_by_hand(group):
    """r: (x, y) -> (y, -x), s: (x, y) -> (-x, y)."""
    r = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    turns = torch.stack([torch.linalg.matrix_power(r, k) for k in range(4)])
    return torch.cat([turns, turns @ torch.diag(torch.tensor([-1.0, 1.0]))])[: len(group)]


def recolour_by_hand(turn, colours, images):
    out = torch.empty_like(images)
    for i, j in enumerate(S3.permutations[colours.index].tolist()):
        out[:, j] = images[:, i]
    quarter, mirrored = turn.index % 4, turn.index >= 4
    return torch.rot90(out.flip(-1) if mirrored else out, quarter, (-2, -1))


def turned(turn, x):
    return eq.Rotations(turn.group)(turn, x)


# checker: (right answers, {words of the verdict: wrong answer})
ANSWERS = {
    "reynolds": (
        [
            lambda model, perms, x: sum(model(move(p, x))[..., p] for p in perms) / len(perms),
            # the other half of every pair: g^-1 on the input, g on the output
            lambda model, perms, x: torch.stack([move(p, model(x[..., p])) for p in perms]).mean(0),
        ],
        {
            "by g instead of g^-1": lambda model, perms, x: (
                sum(move(p, model(move(p, x))) for p in perms) / len(perms)
            ),
            "not divide the sum": lambda model, perms, x: sum(
                model(move(p, x))[..., p] for p in perms
            ),
            "by the number of points": lambda model, perms, x: (
                sum(model(move(p, x))[..., p] for p in perms) / perms.shape[1]
            ),
            "not move the output back": lambda model, perms, x: (
                sum(model(move(p, x)) for p in perms) / len(perms)
            ),
            "gave the model x": lambda model, perms, x: (
                sum(model(x)[..., p] for p in perms) / len(perms)
            ),
            "averaged nothing": lambda model, perms, x: model(x),
        },
    ),
    "hides_wrong_inverse": (
        [
            lambda group: all(~g == g for g in group),
            lambda group: bool((group.table.diagonal() == group.identity.index).all()),
        ],
        {
            "C3 is, and yet": lambda group: group.is_abelian,
            "at most two": lambda group: len(group) <= 2,
            "all of them must be": lambda group: any(g.order == 2 for g in group),
            "wrong way round": lambda group: any(~g != g for g in group),
            "the generators only": lambda group: all(~g == g for g in group.generators),
        },
    ),
    "symmetrize_matrix": (
        [
            lambda a, p, q: (q.inverse() @ a @ p).mean(0),
            lambda a, p, q: sum(g @ a @ h.inverse() for g, h in zip(q, p, strict=True)) / len(p),
        ],
        {
            "where rho_out(g)^-1 belongs": lambda a, p, q: (q @ a @ p).mean(0),
            "not divide the sum": lambda a, p, q: (q.inverse() @ a @ p).sum(0),
            "left out rho_out": lambda a, p, q: (a @ p).mean(0),
            "left out rho_in": lambda a, p, q: (q.inverse() @ a).mean(0),
            "orthogonal rho only": lambda a, p, q: (q.mT @ a @ p).mean(0),
        },
    ),
    "finish_average": (
        [finish(back), batched_finish],
        {
            "for every g": lambda model_h, group, subgroup, action, x: (
                sum(back(model_h, action, t, x) for t in group) / len(group)
            ),
            "|G|/|H| terms": lambda model_h, group, *rest: (
                finish(back)(model_h, group, *rest) / len(rest[0])
            ),
            "by t instead of t^-1": finish(lambda m, action, t, x: action(t, m(action(t, x)))),
            "right cosets": finish(back, lambda t, h: t @ h),
            "average over these already": lambda model_h, group, subgroup, action, x: (
                sum(back(model_h, action, t, x) for t in subgroup) / len(subgroup)
            ),
            "stopped at M_H": lambda model_h, group, subgroup, action, x: model_h(x),
        },
    ),
    "sharing_pattern": (
        [lambda p, q: sharing(q, p), sharing_by_search],
        {
            "transposed": lambda p, q: sharing(p, q),
            "input index j alone": lambda p, q: sharing(still(q), p),
            "output index i alone": lambda p, q: sharing(q, still(p)),
            "but j by g^-1": lambda p, q: sharing(q, p.argsort(1)),
            "elements of their own": lambda p, q: eq.orbits(q)[:, None] * 99 + eq.orbits(p),
            "shared nothing": lambda p, q: torch.arange(q.shape[1] * p.shape[1]).reshape(
                q.shape[1], p.shape[1]
            ),
        },
    ),
    "free_weights": (
        [
            lambda p, q: int((fixed(p) * fixed(q)).sum()) // len(p),
            lambda p, q: (fixed(p) * fixed(q)).double().mean(),
            lambda p, q: len(sharing(q, p).unique()),
        ],
        {
            "not divide the sum": lambda p, q: (fixed(p) * fixed(q)).sum(),
            "no g but e": lambda p, q: p.shape[1] * q.shape[1] / len(p),
            "orbits of i and of j apart": lambda p, q: (
                len(eq.orbits(p).unique()) * len(eq.orbits(q).unique())
            ),
            "need the product": lambda p, q: int((fixed(p) + fixed(q)).sum()) / len(p),
            "fixed inputs j only": lambda p, q: int(fixed(p).sum()) / len(p),
            "without any sharing": lambda p, q: p.shape[1] * q.shape[1],
        },
    ),
    "group_convolution": (
        [
            convolve(lambda g, h: ~h @ g),
            lambda group, kernel, x: kernel[group.table[group.inverses].T] @ x,
        ],
        {
            "a correlation": convolve(lambda g, h: ~g @ h),
            "kernel[g h^-1]": convolve(lambda g, h: g @ ~h),
            "kernel[h g^-1]": convolve(lambda g, h: h @ ~g),
            "kernel[h g]:": convolve(lambda g, h: h @ g),
            "kernel[g h]:": convolve(lambda g, h: g @ h),
            "subtracted indices": lambda group, kernel, x: torch.stack(
                [sum(kernel[g - h] * x[h] for h in range(len(x))) for g in range(len(x))]
            ),
        },
    ),
    "regular_features": (
        [
            regular(lambda m, a, h, x: a(h, m(a(~h, x)))),
            lambda m, a, x: torch.stack(
                [a.undo(g, m(a.act(g, x))) for g in a.group.inverses.tolist()], 1
            ),
        ],
        {
            "filed the term": regular(lambda m, a, h, x: a(~h, m(a(h, x)))),
            "not move the output by h": regular(lambda m, a, h, x: m(a(~h, x))),
            "neither moved": regular(lambda m, a, h, x: m(a(h, x))),
            "by the same element.": regular(lambda m, a, h, x: a(h, m(a(h, x)))),
            "by the same element, h^-1": regular(lambda m, a, h, x: a(~h, m(a(~h, x)))),
            "group axis first": lambda m, a, x: torch.stack([a(h, m(a(~h, x))) for h in a.group]),
            "keep the terms apart": lambda m, a, x: eq.equitune(m, a, a)(x),
        },
    ),
    "image_vectors": (
        [lambda group: SWAP @ eq.rotation_matrices(group) @ SWAP, matrices_by_hand],
        {
            "fit (row, column)": eq.rotation_matrices,
            "not for mirror images": lambda group: eq.rotation_matrices(group).mT,
            "y points up": lambda group: (
                torch.diag(torch.tensor([1.0, -1.0]))
                @ matrices_by_hand(group)
                @ torch.diag(torch.tensor([1.0, -1.0]))
            ),
            "P rho P^-1": lambda group: SWAP @ eq.rotation_matrices(group),
            "with P on both": lambda group: eq.rotation_matrices(group) @ SWAP,
            "do not move": lambda group: torch.eye(2).repeat(len(group), 1, 1),
        },
    ),
    "turn_and_recolour": (
        [
            lambda turn, colours, x: turned(turn, eq.Permutation(S3, dim=1)(colours, x)),
            recolour_by_hand,
        ],
        {
            "which is the inverse": lambda turn, colours, x: turned(
                turn, x[:, S3.permutations[colours.index]]
            ),
            "you turned clockwise;": lambda turn, colours, x: turned(
                ~turn, recolour_by_hand(eq.cyclic(4)["e"], colours, x)
            ),
            "the whole thing is g^-1": lambda turn, colours, x: turned(
                ~turn, x[:, S3.permutations[colours.index]]
            ),
            "left the colours": lambda turn, colours, x: turned(turn, x),
            "did not turn": lambda turn, colours, x: recolour_by_hand(
                eq.cyclic(4)["e"], colours, x
            ),
            "the last two": lambda turn, colours, x: recolour_by_hand(
                eq.cyclic(4)["e"], colours, x
            ).rot90(turn.index, (0, 1)),
        },
    ),
}


def test_every_checker_is_tested():
    modules = (checks.equituning, checks.sharing, checks.own)
    assert {f"check_{name}" for name in ANSWERS} == {n for m in modules for n in m.__all__}
    assert all(len(wrong) >= 4 for _, wrong in ANSWERS.values())


@pytest.mark.parametrize(
    ("name", "answer"),
    [(name, a) for name, (right, _) in ANSWERS.items() for a in right],
    ids=[f"{name}-{i}" for name, (right, _) in ANSWERS.items() for i in range(len(right))],
)
def test_right_answers_pass(name, answer, capsys):
    assert getattr(checks, f"check_{name}")(answer) is True
    assert capsys.readouterr().out.startswith("Right in all cases")


@pytest.mark.parametrize(
    ("name", "words", "answer"),
    [(name, words, a) for name, (_, wrong) in ANSWERS.items() for words, a in wrong.items()],
    ids=[f"{name}-{words}" for name, (_, wrong) in ANSWERS.items() for words in wrong],
)
def test_mistakes_are_named(name, words, answer, capsys):
    assert getattr(checks, f"check_{name}")(answer) is False
    said = capsys.readouterr().out
    assert "yours:" in said and "expected:" in said
    hint = said[said.index("Probably") :]
    assert words in hint


@pytest.mark.parametrize("name", ANSWERS)
def test_stub_is_not_done_yet(name, capsys):
    def stub(*args):
        raise NotImplementedError

    assert getattr(checks, f"check_{name}")(stub) is False
    assert capsys.readouterr().out.startswith("Not done yet")


@pytest.mark.parametrize("name", ANSWERS)
def test_errors_and_nothing_are_told(name, capsys):
    check = getattr(checks, f"check_{name}")

    def breaks(*args):
        raise KeyError("my own bug")

    assert check(breaks) is False
    assert "KeyError: 'my own bug'" in capsys.readouterr().out
    assert check(lambda *args: None) is False
    assert "is the `return` missing" in capsys.readouterr().out


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    for name, (right, _) in ANSWERS.items():
        getattr(checks, f"check_{name}")(right[0])
    assert torch.equal(before, torch.get_rng_state())


def test_a_students_change_of_its_arguments_is_noticed(capsys):
    def spoils(model, perms, x):
        y = sum(model(move(p, x))[..., p] for p in perms) / len(perms)
        x.zero_()
        return y

    assert not checks.check_reynolds(spoils)
    assert "changed what it was given" in capsys.readouterr().out


def test_large_tensors_are_shown_at_the_first_difference(capsys):
    expected = torch.arange(60.0).reshape(3, 20)
    off = expected.clone()
    off[1, 4] = -1
    assert not verdict(lambda: off, [("sixty numbers", (), expected)], {"no": lambda: 0})
    said = capsys.readouterr().out
    assert "shape (3, 20), at [1, 4]: -1.0" in said and "at [1, 4]: 24.0" in said
    assert "Probably" not in said


def test_what_is_shown_where_a_difference_cannot_be_taken(capsys):
    expected = torch.ones(20)
    for yours, said in [
        (torch.full((20,), torch.nan), "shape (20,), at [0]: nan"),
        (expected.bool() & (torch.arange(20) != 3), "shape (20,), at [3]: False"),
    ]:
        assert not verdict(lambda y=yours: y, [("ones", (), expected)], {"no": lambda: 0})
        assert said in capsys.readouterr().out
    assert not verdict(lambda: (expected, 1), [("a pair", (), (expected, 2))], {"no": lambda: 0})
    assert "(shape (20,), 1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ([1, 2], torch.tensor([1, 2]), True),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), True),
        (torch.ones(2, 1), torch.ones(2), False),
        ("no numbers", torch.ones(2), False),
        (torch.tensor(3), 3, True),
        (3.0000001, 3.0, True),
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
