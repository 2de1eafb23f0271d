"""Right answers to the exercises of the chapters, and known wrong ones."""

import torch
from torch.nn.functional import conv2d

import equitutor as eq
from equitutor.checks.settings import acting


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
        gaps = [term(f, act, g, x).abs().max().item() for g in act.group]
        return over(gaps) / (f(x).abs().max().item() if relative else 1)

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


def each(rotate):
    return lambda x, k: torch.stack([rotate(y, int(j)) for y, j in zip(x, k, strict=True)])


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


def layer(p_in, p_out):
    """The library's layer, where no two elements move the inputs alike."""
    a = acting(p_in)
    with torch.random.fork_rng([]):
        return eq.EquivariantLinear(a, eq.Permutation(a.group, p_out), bias=False).double()


def convolve_by_layer(group, kernel, x):
    """W[g, h] = W[h^-1 g, e]: the column of e is the kernel."""
    regular = layer(eq.Regular(group).perms, eq.Regular(group).perms)
    regular.weight.data[0, 0, regular.weight_orbit[:, group.identity.index]] = kernel
    return regular(x[None])[0].detach()


def matrix_by_library(matrix, rho_in, rho_out):
    """The average of the linear map, on the unit vectors."""
    group = eq.cyclic(3) if len(rho_in) == 3 else eq.dihedral(3)
    linear = torch.nn.Linear(*matrix.T.shape, bias=False, dtype=matrix.dtype)
    linear.weight.data = matrix
    actions = eq.MatrixAction(group, rho_in), eq.MatrixAction(group, rho_out)
    return eq.equitune(linear, *actions)(torch.eye(matrix.shape[1]).double()).T


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


def recolour_by_product(turn, colours, images):
    group = eq.direct_product(turn.group, S3)
    action = eq.ProductAction(group, [eq.Rotations(turn.group), eq.Permutation(S3, dim=-3)], images)
    return action(f"({turn}, {colours})", images)


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
            "returned the places": lambda p, x: p + 0 * x,
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
            "only tested that the identity": lambda t, p: torch.equal(
                p[0], torch.arange(p.shape[1])
            ),
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
            "that is invariance": error(lambda f, act, g, x: f(act(g, x)) - f(x)),
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
            "stride 1 only": lambda n, k, s, p: s < 2,
            "an odd size": lambda n, k, s, p: n % 2 != 0,
            "divides the size": lambda n, k, s, p: not n % s,
            "left out the padding": lambda n, k, s, p: (n - k) % s == 0,
            "padding once": lambda n, k, s, p: (n - k + p) % s == 0,
            "wrong way round": lambda n, k, s, p: not windows(n, k, s, p),
            "accept everything": lambda n, k, s, p: True,
        },
    ),
    "consistent": (
        [
            lambda p: (p == p[0]).all(0).double().mean().item(),
            lambda p: float((p.amax(0) == p.amin(0)).float().mean()),
            lambda p: sum(len(set(c.tolist())) == 1 for c in p.T) / p.shape[1],
        ],
        {
            "single agreements": lambda p: (p == p[0]).double().mean().item(),
            "percentage": lambda p: 100 * (p == p[0]).all(0).double().mean().item(),
            "count": lambda p: (p == p[0]).all(0).sum().item(),
            "one other rotation": lambda p: (p[0] == p[1]).double().mean().item(),
            "half turn only": lambda p: (p[0] == p[2]).double().mean().item(),
            "left out the last": lambda p: (p[:-1] == p[0]).all(0).double().mean().item(),
            "wrong axis": lambda p: (p == p[:, :1]).all(1).double().mean().item(),
        },
    ),
    "turn_each": (
        [
            each(lambda y, k: y.rot90(k, (-2, -1))),
            each(lambda y, k: [y, y.mT.flip(-2), y.flip(-1, -2), y.mT.flip(-1)][k]),
            lambda x, k: torch.stack([x.rot90(j, (2, 3)) for j in range(4)])[
                k, torch.arange(len(x))
            ],
        ],
        {
            "clockwise": each(lambda y, k: y.rot90(-k, (-2, -1))),
            "whole batch": lambda x, k: x.rot90(int(k[0]), (-2, -1)),
            "channels": each(lambda y, k: y.rot90(k)),
            "transposed": each(lambda y, k: y.mT if k % 2 else y.rot90(k, (1, 2))),
            "changed nothing": lambda x, k: x,
        },
    ),
    "reynolds": (
        [
            lambda model, perms, x: sum(model(move(p, x))[..., p] for p in perms) / len(perms),
            # the other half of every pair: g^-1 on the input, g on the output
            lambda model, perms, x: torch.stack([move(p, model(x[..., p])) for p in perms]).mean(0),
            lambda model, perms, x: eq.equitune(model, acting(perms), acting(perms))(x),
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
            matrix_by_library,
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
        [
            lambda p, q: sharing(q, p),
            sharing_by_search,
            lambda p, q: layer(p, q).weight_orbit,
        ],
        {
            "transposed": lambda p, q: sharing(p, q),
            "input index j alone": lambda p, q: sharing(still(q), p),
            "output index i alone": lambda p, q: sharing(q, still(p)),
            "but j by g^-1": lambda p, q: sharing(q, p.argsort(1)),
            "two different elements": lambda p, q: eq.orbits(q)[:, None] * 99 + eq.orbits(p),
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
            lambda p, q: layer(p, q).weight.shape[-1],
        ],
        {
            "not divide the sum": lambda p, q: (fixed(p) * fixed(q)).sum(),
            "no g but e": lambda p, q: p.shape[1] * q.shape[1] / len(p),
            "orbits of i and of j separately": lambda p, q: (
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
            convolve_by_layer,
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
            lambda m, a, x: eq.RegularFeatures(m, a, a)(x),
        ],
        {
            "put the term": regular(lambda m, a, h, x: a(~h, m(a(h, x)))),
            "not move the output by h": regular(lambda m, a, h, x: m(a(~h, x))),
            "neither moved": regular(lambda m, a, h, x: m(a(h, x))),
            "by the same element.": regular(lambda m, a, h, x: a(h, m(a(h, x)))),
            "by the same element, h^-1": regular(lambda m, a, h, x: a(~h, m(a(~h, x)))),
            "group axis first": lambda m, a, x: torch.stack([a(h, m(a(~h, x))) for h in a.group]),
            "keep the terms separate": lambda m, a, x: eq.equitune(m, a, a)(x),
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
            recolour_by_product,
        ],
        {
            "which is the inverse": lambda turn, colours, x: turned(
                turn, x[:, S3.permutations[colours.index]]
            ),
            "you turned clockwise;": lambda turn, colours, x: turned(
                ~turn, recolour_by_hand(eq.cyclic(4)["e"], colours, x)
            ),
            "together this is g^-1": lambda turn, colours, x: turned(
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
