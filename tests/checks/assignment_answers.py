"""Right answers to the assignments, and known wrong ones."""

import copy
import itertools
import math

import numpy as np
import torch

import equitutor as eq


def closure(generators):
    e = tuple(range(generators.shape[1]))
    elements, new = {e}, [e]
    while new:
        h = new.pop()
        for g in generators.tolist():
            gh = tuple(g[i] for i in h)
            if gh not in elements:
                elements.add(gh)
                new.append(gh)
    return elements


def one_by_one(generators):
    """A generator of tuples."""
    yield from sorted(closure(generators), reverse=True)


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
        [
            closure,
            by_words,
            lambda p: [list(row) for row in closure(p)],
            one_by_one,
            lambda p: np.array(list(closure(p))),
        ],
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
        [
            table(lambda g, h: g[h]),
            lambda p: (p[:, p][..., None, :] == p).all(-1).int().argmax(-1),
            lambda p: np.array(table(lambda g, h: g[h])(p)),
        ],
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
        [scatter_graph, by_matrix, lambda p, a: a[..., p.argsort(), :][..., p.argsort()]],
        {
            "which is g^-1 A": lambda p, a: a[..., p[:, None], p],
            "the rows alone": lambda p, a: a.index_select(-2, p.argsort()),
            "the columns alone": lambda p, a: a.index_select(-1, p.argsort()),
            "columns by g^-1": lambda p, a: a.index_select(-2, p.argsort()).index_select(-1, p),
            "reversed the edges": lambda p, a: scatter_graph(p, a.transpose(-2, -1)),
            "the first two dimensions": lambda p, a: a.index_select(0, p.argsort()).index_select(
                1, p.argsort()
            ),
            "q[:, None] and q[None, :]": lambda p, a: a[..., p, p],
            "q[:, None] and q.": lambda p, a: a[..., p.argsort(), p.argsort()],
            "changed nothing": lambda p, a: a.clone(),
        },
    ),
    "orbit_and_stabiliser": (
        [
            lambda p, a: (orbit(p, a), still(p, a)),
            lambda p, a: [len(p) // still(p, a), still(p, a)],
            lambda p, a: torch.tensor([orbit(p, a), still(p, a)]),
            lambda p, a: (np.int64(orbit(p, a)), np.array(images(p, a)).shape[0] // orbit(p, a)),
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
            "size of the orbit twice": lambda p, a: (orbit(p, a), orbit(p, a)),
            "size of the stabiliser twice": lambda p, a: (still(p, a), still(p, a)),
        },
    ),
    "count_graphs": (
        [
            burnside(edges),
            listed,
            lambda p: np.float64(listed(p)),
            lambda p: torch.tensor(listed(p)),
        ],
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


def own_term(m, a, b, g, x):
    return b(~g, m.forward(a(g, x)))


def total(term):
    return lambda m, a, b, x: torch.stack([term(m, a, b, g, x) for g in a.group]).sum(0)


def mean(term):
    return lambda m, a, b, x: torch.stack([term(m, a, b, g, x) for g in a.group]).mean(0)


def batched(unfold=lambda y, n: y.reshape(n, -1, *y.shape[1:]), back=lambda b, g, y: b.undo(g, y)):
    def answer(m, a, b, x):
        y = unfold(m(torch.cat([a(g, x) for g in a.group])), len(a.group))
        return torch.stack([back(b, i, y[i]) for i in range(len(a.group))]).mean(0)

    return answer


def interleaved(m, a, b, x):
    """The other order of folding: the batch first, then the group."""
    views = torch.stack([a(g, x) for g in a.group], 1).flatten(0, 1)
    y = m(views).unflatten(0, (len(x), -1))
    return sum(b(~g, y[:, g.index]) for g in a.group) / len(a.group)


def by_chunks(m, a, b, x):
    """Lists of views, and model.forward."""
    parts = m.forward(torch.cat([a(i, x) for i in range(a.group.order)])).chunk(a.group.order)
    return torch.stack([b.undo(i, y) for i, y in enumerate(parts)]).sum(0).div(a.group.order)


own_average = mean(own_term)


def terms_of(what):
    """A function of |M(g x) - g M_G(x)|^2 and |M(g x)|^2, for each g."""

    def answer(m, a, b, x):
        views = [m(a(g, x)) for g in a.group]
        gaps = [y - b(g, own_average(m, a, b, x)) for g, y in zip(a.group, views, strict=True)]
        return what(*(torch.stack([z.square().sum() for z in zs]) for zs in (gaps, views)))

    return answer


def share(gap, size=lambda m, a, g, x: m(a(g, x))):
    def answer(m, a, b, x):
        y = eq.equitune(m, a, b)(x)
        top = sum((gap(m, a, b, g, x, y) ** 2).sum() for g in a.group)
        return top / sum((size(m, a, g, x) ** 2).sum() for g in a.group)

    return answer


def gap(m, a, b, g, x, y):
    return b(~g, m(a(g, x))) - y


def by_pythagoras(m, a, b, x):
    """What the average keeps is orthogonal to what it loses (where g keeps lengths)."""
    whole = sum(m(a(g, x)).square().sum() for g in a.group)
    return 1 - len(a.group) * eq.equitune(m, a, b)(x).square().sum() / whole


def traces(term):
    return lambda p, q: term(*(torch.einsum("gii->g", r) for r in (p, q))).item()


def null_space(p, q):
    """Solve W rho_in(g) = rho_out(g) W for all g at once."""
    n, m = p.shape[1], q.shape[1]
    rows = [
        torch.kron(torch.eye(m), r.T.contiguous()) - torch.kron(s.contiguous(), torch.eye(n))
        for r, s in zip(p, q, strict=True)
    ]
    return n * m - int(torch.linalg.matrix_rank(torch.cat(rows), rtol=1e-8))


AVERAGES = {
    "symmetrized": (
        [
            mean(lambda m, a, b, g, x: b(~g, m(a(g, x)))),
            mean(lambda m, a, b, g, x: b(g, m(a(~g, x)))),
            lambda m, a, b, x: eq.equitune(m, a, b)(x),
            lambda m, a, b, x: (
                sum(b.undo(g, copy.deepcopy(m)(a(g, x))) for g in reversed(list(a.group)))
                / a.group.order
            ),
            lambda m, a, b, x: torch.cat([mean(own_term)(m, a, b, row[None]) for row in x]),
        ],
        {
            "by g instead of g^-1": mean(lambda m, a, b, g, x: b(g, m(a(g, x)))),
            "not divide the sum": total(lambda m, a, b, g, x: b(~g, m(a(g, x)))),
            "inputs in the batch": lambda m, a, b, x: (
                total(lambda m, a, b, g, x: b(~g, m(a(g, x))))(m, a, b, x) / x.shape[0]
            ),
            "not move the output back": mean(lambda m, a, b, g, x: m(a(g, x))),
            "should see g x": mean(lambda m, a, b, g, x: b(~g, m(x))),
            "averaged the views": lambda m, a, b, x: m(
                torch.stack([a(g, x) for g in a.group]).mean(0)
            ),
            "moved the output by in_action": mean(lambda m, a, b, g, x: a(~g, m(a(g, x)))),
            "-i, counted around": mean(
                lambda m, a, b, g, x: b(-g.index % len(a.group), m(a(g, x)))
            ),
            "rounded the answer": lambda *args: own_average(*args).round(decimals=4),
            "a tuple of 1": lambda *args: (own_average(*args),),
            "compute in float32": lambda *args: own_average(*args).float(),
        },
    ),
    "in_one_batch": (
        [batched(), interleaved, by_chunks],
        {
            "once for every g": mean(lambda m, a, b, g, x: b(~g, m(a(g, x)))),
            "along the wrong axis": batched(
                unfold=lambda y, n: y.reshape(-1, n, *y.shape[1:]).swapaxes(0, 1)
            ),
            "by g instead of g^-1": batched(back=lambda b, g, y: b(g, y)),
            "not move the outputs back": batched(back=lambda b, g, y: y),
            "not divide by |G|": lambda m, a, b, x: batched()(m, a, b, x) * len(a.group),
            "over the batch too": lambda m, a, b, x: batched()(m, a, b, x).mean(dim=0),
        },
    ),
    "asymmetry": (
        [
            share(gap),
            by_pythagoras,
            lambda *args: float(share(gap)(*args)),
            lambda *args: np.float64(share(gap)(*args)),
            terms_of(lambda top, size: top.sum() / size.sum()),
        ],
        {
            "added up lengths": terms_of(lambda top, size: top.sqrt().sum() / size.sqrt().sum()),
            "averaged one share for each g": terms_of(lambda top, size: (top / size).mean().item()),
            "added up one share for each g": terms_of(lambda top, size: (top / size).sum().item()),
            "below the line": terms_of(lambda top, size: top.sum() / size[0]),
            "a str, not numbers": lambda *args: f"{float(share(gap)(*args)):.1%}",
            "compared M(g x) with M_G(x)": share(lambda m, a, b, g, x, y: m(a(g, x)) - y),
            "by g^-1 where": share(lambda m, a, b, g, x, y: m(a(g, x)) - b(~g, y)),
            "not divide by the size": lambda m, a, b, x: sum(
                gap(m, a, b, g, x, eq.equitune(m, a, b)(x)).square().sum() for g in a.group
            ),
            "g = e alone": lambda m, a, b, x: (
                (m(x) - eq.equitune(m, a, b)(x)).square().sum() / m(x).square().sum()
            ),
            "took the root": lambda *args: share(gap)(*args).sqrt(),
            "|M_G|^2 instead": lambda m, a, b, x: share(
                gap, lambda m, a, g, x: eq.equitune(m, a, b)(x)
            )(m, a, b, x),
            "shares of the single inputs": lambda m, a, b, x: (
                sum(share(gap)(m, a, b, x[i : i + 1]) for i in range(len(x))) / len(x)
            ),
        },
    ),
    "dimension": (
        [
            traces(lambda p, q: (p * q).mean()),
            null_space,
            lambda p, q: sum(r.trace() * s.trace() for r, s in zip(p, q, strict=True)) / len(p),
            lambda p, q: np.trace(
                np.array([np.kron(r, s.T) for r, s in zip(p, q, strict=True)]).mean(0)
            ),
        ],
        {
            "not divide by |G|": traces(lambda p, q: (p * q).sum()),
            "dim1=-2, dim2=-1": lambda p, q: round(
                float((p.diagonal().sum(-1) * q.diagonal().sum(-1)).mean())
            ),
            "dropped the rest": lambda p, q: p.shape[-1] * q.shape[-1] // p.shape[0],
            "a str, not numbers": lambda p, q: "9",
            "all entries by |G|": lambda p, q: p.shape[-1] * q.shape[-1] / p.shape[0],
            "on either side": traces(lambda p, q: p.mean() * q.mean()),
            "added the traces": traces(lambda p, q: (p + q).mean()),
            "rho_in alone": traces(lambda p, q: p.mean()),
            "rho_out alone": traces(lambda p, q: q.mean()),
            "without any symmetry": lambda p, q: p[0].numel() ** 0.5 * q[0].numel() ** 0.5,
        },
    ),
}


def connected(perms):
    """Colours that spread along all moves until nothing changes."""
    colour = list(range(perms.shape[1]))
    for _ in colour:
        for row in perms.tolist():
            for i, j in enumerate(row):
                colour[i] = colour[j] = min(colour[i], colour[j])
    return [100 - c for c in colour]


def pooled(weight, dims="bcij,ij->bc"):
    return lambda x, labels, w: torch.einsum(dims, x, weight(labels, w).to(x.dtype))


def orbit_by_orbit(x, labels, w):
    return sum(w[k] * x[..., labels == k].sum(-1) for k in range(len(w)))


def lifted(turn):
    return lambda action, x, k: torch.stack(
        [torch.einsum("cij,bcij->b", k, turn(action, g, x)) for g in range(len(action.group))], -1
    )


def lift_by_kernel(action, x, k):
    """Turn the kernel in place of the image: one layer with |G| outputs."""
    return x.flatten(1) @ torch.stack([action(g, k) for g in action.group]).flatten(1).T


def correlated(product):
    def answer(group, f):
        index = [[product(group, h, d) for h in group] for d in group]
        return torch.stack([(f * f[:, row]).sum(1) for row in index], 1)

    return answer


HEADS = {
    "pixel_orbits": (
        [eq.orbits, connected, lambda p: p.min(0).values],
        {
            "one element alone": lambda p: p[:2].amin(0),
            "by the size of the orbit": lambda p: [len(set(c.tolist())) for c in p.T],
            "number of its own": lambda p: torch.arange(p.shape[1]),
            "all points have one number": lambda p: torch.zeros(p.shape[1]),
            "along the rows of perms": lambda p: p.min(dim=1).values,
        },
    ),
    "pool": (
        [
            pooled(lambda labels, w: w[labels]),
            orbit_by_orbit,
            lambda x, labels, w: x.flatten(2) @ w.index_select(0, labels.flatten()),
        ],
        {
            "the mean over each orbit": lambda x, labels, w: sum(
                w[k] * x[..., labels == k].mean(-1) for k in range(len(w))
            ),
            "by the number of pixels": lambda x, labels, w: (x * w[labels]).mean((2, 3)),
            "added up the channels": pooled(lambda labels, w: w[labels], "bcij,ij->b"),
            "transposed the labels": pooled(lambda labels, w: w[labels], "bcij,ji->bc"),
            "did not use the weights": lambda x, labels, w: x.sum((2, 3)),
            "the labels as weights": pooled(lambda labels, w: labels),
            "rows (or columns) only": pooled(lambda labels, w: w[labels], "bcij,ij->bci"),
        },
    ),
    "lift": (
        [
            lifted(lambda a, g, x: a.undo(g, x)),
            lift_by_kernel,
            lambda a, x, k: (
                torch.stack([(a(~g, x) * k[None]).flatten(1).sum(1) for g in a.group]).T
            ),
        ],
        {
            "<kernel, g x> in place g": lifted(lambda a, g, x: a(g, x)),
            "with x itself": lifted(lambda a, g, x: x),
            "the group first": lambda a, x, k: lift_by_kernel(a, x, k).T,
            "the mean over pixels": lambda a, x, k: torch.stack(
                [(k * a(~g, x)).mean((1, 2, 3)) for g in a.group], 1
            ),
            "averaged over the group": lambda a, x, k: lift_by_kernel(a, x, k).mean(-1),
            "kept the channels separate": lambda a, x, k: torch.stack(
                [torch.einsum("cij,bcij->bc", k, a(~g, x)) for g in a.group], 1
            ),
        },
    ),
    "autocorrelation": (
        [
            correlated(lambda group, h, d: (h @ d).index),
            correlated(lambda group, h, d: (h @ ~d).index),
            lambda group, f: torch.einsum("bh,bdh->bd", f, f[:, group.table.T]),
        ],
        {
            "took f[d h]": correlated(lambda group, h, d: (d @ h).index),
            "a convolution": correlated(lambda group, h, d: (~h @ d).index),
            "numbers of the elements": correlated(
                lambda group, h, d: (h.index + d.index) % len(group)
            ),
            "divided by |G|": lambda group, f: torch.einsum(
                "bh,bdh->bd", f / len(group), f[:, group.table.T]
            ),
            "not sum over h": lambda group, f: f * f[:, [0]],
            "squared each feature": lambda group, f: f**2,
            "added up the batch": lambda group, f: torch.einsum(
                "bh,bdh->d", f, f[:, group.table.T]
            ),
        },
    ),
}


def views(weigh, back=lambda action, g, y: action.undo(g, y)):
    """sum_g w_g g^-1 y_g with weights (|G|, B) of the second argument."""

    def answer(outputs, given, action):
        w = weigh(given)
        return sum(w[g][:, None] * back(action, g, y) for g, y in enumerate(outputs))

    return answer


def shares(lam):
    return lam / lam.sum(0, keepdim=True)


def in_a_loop(outputs, lam, action):
    total = norm = 0
    for g in action.group:
        total = total + lam[g.index].unsqueeze(1) * action(~g, outputs[g.index])
        norm = norm + lam[g.index].unsqueeze(1)
    return total / norm


def entropies(measure, move=lambda action, g, x: action(g, x)):
    return lambda model, action, x: torch.stack(
        [measure(model(move(action, g, x))) for g in action.group]
    )


def all_at_once(model, action, x):
    p = model(action.views(x)).softmax(-1)
    return torch.where(p > 0, -p * p.log(), 0).sum(-1).unflatten(0, (-1, len(x)))


def least(losses):
    best = (losses == losses.min(0).values).double()
    return best / best.sum(0)


def choose_in_a_loop(outputs, losses, action):
    rows = []
    for b in range(losses.shape[1]):
        best = [g for g in action.group if losses[g.index, b] == losses[:, b].min()]
        rows.append(sum(action(~g, outputs[g.index, b : b + 1]) for g in best) / len(best))
    return torch.cat(rows)


def one_hot(find):
    return lambda losses: torch.nn.functional.one_hot(find(losses), len(losses)).T.double()


def picked(terms, weights):
    return (weights.unsqueeze(-1) * terms).sum(0)


class Through(torch.autograd.Function):
    """The gradient written by hand."""

    @staticmethod
    def forward(ctx, terms, weights):
        ctx.n = len(terms)
        return picked(terms, weights)

    @staticmethod
    def backward(ctx, gradient):
        return (gradient / ctx.n).expand(ctx.n, *gradient.shape), None


VIEWS = {
    "weighted_average": (
        [
            views(shares),
            in_a_loop,
            lambda y, lam, action: eq.group_average(y.flatten(0, 1), action, shares(lam)),
            lambda y, lam, action: sum(
                shares(lam)[(~g).index, :, None] * action(g, y[(~g).index]) for g in action.group
            ),
        ],
        {
            "not divide by the sum": views(lambda lam: lam),
            "divided by |G|, not": views(lambda lam: lam / lam.shape[0]),
            "along the wrong axis": views(lambda lam: lam / lam.sum(-1, keepdim=True)),
            "all views of all inputs": views(lambda lam: lam / lam.sum()),
            "took a softmax": views(lambda lam: torch.softmax(lam, 0)),
            "by g instead of g^-1": views(shares, lambda action, g, y: action(g, y)),
            "not move the outputs back": views(shares, lambda action, g, y: y),
            "did not use the lambdas": lambda y, lam, action: in_a_loop(y, lam * 0 + 1, action),
            "largest lambda alone": views(lambda lam: one_hot(lambda lam: lam.argmax(0))(lam)),
            "the weight of its inverse": lambda y, lam, action: sum(
                shares(lam)[(~g).index].unsqueeze(1) * action(~g, y[g.index]) for g in action.group
            ),
            "the sum of squares": views(lambda lam: lam / lam.square().sum(0).sqrt()),
            "nearly right": lambda y, lam, action: in_a_loop(y, lam.float(), action),
            "an axis too many": lambda y, lam, action: (
                action(~g, y[g.index]) for g in action.group
            ),
        },
    ),
    "entropies": (
        [
            entropies(eq.entropy),
            all_at_once,
            entropies(lambda s: torch.distributions.Categorical(logits=s).entropy()),
            lambda *args: all_at_once(*args).tolist(),
            lambda *args: iter(all_at_once(*args)),
        ],
        {
            "0 log 0": entropies(lambda s: -(s.softmax(-1) * s.softmax(-1).log()).sum(-1)),
            "the wrong sign": entropies(lambda s: (s.softmax(-1) * s.log_softmax(-1)).sum(-1)),
            "log p by log p": entropies(lambda s: -s.log_softmax(-1).square().sum(-1)),
            "left out the softmax": entropies(lambda s: -(s * s.abs().log()).sum(-1)),
            "left out p": entropies(lambda s: -s.log_softmax(-1).sum(-1)),
            "counted in bits": entropies(
                lambda s: -(s.softmax(-1) * s.log_softmax(-1) / math.log(2)).sum(-1)
            ),
            "the mean over the classes": entropies(
                lambda s: -(s.softmax(-1) * s.log_softmax(-1)).mean(-1)
            ),
            "moved x by g^-1": entropies(eq.entropy, lambda action, g, x: action(~g, x)),
            "should see g x": entropies(eq.entropy, lambda action, g, x: x),
            "the batch first": lambda *args: all_at_once(*args).T,
            "scores may be negative": entropies(lambda s: torch.special.entr(s).sum(-1)),
            "took a sigmoid": entropies(lambda s: torch.special.entr(s.sigmoid()).sum(-1)),
            "the largest probability": entropies(lambda s: 1 - s.softmax(-1).max(-1).values),
            "into (B, |G|)": lambda m, a, x: (
                eq.entropy(m(torch.cat([a(g, x) for g in a.group]))).reshape(len(x), -1).T
            ),
            "log(p + 1e-9)": entropies(
                lambda s: -(s.softmax(-1) * (s.softmax(-1) + 1e-9).log()).sum(-1)
            ),
            "a dict, not numbers": lambda *args: dict(enumerate(all_at_once(*args))),
        },
    ),
    "choose_view": (
        [
            views(least),
            choose_in_a_loop,
            lambda y, losses, action: eq.group_average(
                y.flatten(0, 1),
                action,
                eq.LeastLoss(lambda outputs: losses.flatten())(None, (), *losses.shape),
            ),
        ],
        {
            "of largest loss": views(lambda losses: least(-losses)),
            "the first of the best": views(one_hot(lambda losses: losses.min(0).indices)),
            "for the whole batch": views(
                one_hot(lambda losses: losses.mean(1).argmin().expand(losses.shape[1]))
            ),
            "along the wrong axis": views(
                lambda losses: torch.eye(losses.shape[1], dtype=torch.float64)[losses.argmin(1)]
            ),
            "chosen view back": views(least, lambda action, g, y: y),
            "chosen view by g instead": views(least, lambda action, g, y: action(g, y)),
            "exp(-loss)": views(lambda losses: shares((-losses).exp())),
            "averaged all views": views(lambda losses: shares(losses * 0 + 1)),
            "the last of the best": views(
                one_hot(lambda losses: len(losses) - 1 - losses.flip(0).argmin(0))
            ),
            "of the whole batch": views(
                lambda losses: (losses == losses.min()) / (losses == losses.min()).double().sum(0)
            ),
            "over the inputs": views(lambda losses: shares(1.0 * (losses.amin(1) == losses.T).T)),
            "by 1 / loss": views(lambda losses: shares(1 / losses)),
            "moved the mean back by one": lambda y, losses, action: torch.stack(
                [
                    action(~action.group[int(k)], (least(losses)[:, i, None] * y[:, i]).sum(0))
                    for i, k in enumerate(losses.argmin(0))
                ]
            ),
            "a temperature not quite 0": views(lambda losses: (-1000 * losses).softmax(0)),
            "bools or whole numbers": lambda y, losses, action: in_a_loop(
                y, shares((losses == losses.amin(0)).long()), action
            ),
            "added up the best views": views(lambda losses: 1.0 * (losses == losses.min(0).values)),
        },
    ),
    "straight_through": (
        [
            lambda t, w: picked(t, w).detach() + t.mean(0) - t.mean(0).detach(),
            lambda t, w: t.mean(0) + (picked(t, w) - t.mean(0)).detach(),
            Through.apply,
        ],
        {
            "others learn nothing": picked,
            "no gradient gets through": lambda t, w: picked(t, w).detach(),
            "that of the mean; forward": lambda t, w: t.mean(0),
            "the wrong way round": lambda t, w: (
                t.mean(0).detach() + picked(t, w) - picked(t, w).detach()
            ),
            "subtracting the mean's value": lambda t, w: picked(t, w).detach() + t.mean(0),
            "that of the sum": lambda t, w: picked(t, w).detach() + t.sum(0) - t.sum(0).detach(),
            "mean is over the inputs": lambda t, w: (
                picked(t, w).detach() + t.mean(1)[: t.shape[1]] - t.mean(1)[: t.shape[1]].detach()
            ),
            "of the chosen view, divided by": lambda t, w: (
                picked(t, w).detach() + picked(t, w) / len(t) - (picked(t, w) / len(t)).detach()
            ),
            "both parts have gradients": lambda t, w: picked(t, w) + t.mean(0) - t.mean(0).detach(),
        },
    ),
}


def word_rows(perms, lists, vocabulary):
    number = {w: i for i, w in enumerate(vocabulary)}
    rows = []
    for p in perms.tolist():
        to = dict(zip(vocabulary, vocabulary, strict=True))
        for words in lists:
            to |= {w: words[p[i]] for i, w in enumerate(words)}
        rows.append([number[to[w]] for w in vocabulary])
    return rows


def word_rows_by_scatter(perms, lists, vocabulary):
    rows = torch.arange(len(vocabulary)).repeat(len(perms), 1)
    for words in lists:
        ids = torch.tensor([vocabulary.index(w) for w in words])
        rows[:, ids] = ids[perms]
    return rows


def fair(model, ids, perms, back=lambda p, y: y[:, p], read=lambda p, ids: p[ids]):
    return torch.stack([back(p, model(read(p, ids))) for p in perms]).mean(0)


def in_one_go(model, ids, perms):
    y = model(perms[:, ids].flatten(0, 1)).unflatten(0, (len(perms), -1))
    return y.gather(-1, perms[:, None].expand(-1, len(ids), -1)).mean(0)


def forward(p, y):
    return y[:, p.argsort()]


def relaxed(kept, others=fair):
    def answer(model, ids, perms, general):
        mask = torch.zeros(perms.shape[1], dtype=torch.bool)
        mask[general] = True
        return torch.where(mask, kept(model, ids, perms), others(model, ids, perms))

    return answer


def relaxed_word_by_word(model, ids, perms, general):
    kept = set(general.tolist())
    columns = zip(model(ids).T, fair(model, ids, perms).T, strict=True)
    return torch.stack([a if v in kept else b for v, (a, b) in enumerate(columns)], 1)


def own(model, ids, perms):
    return model(ids)


def violations(model, ids, perms, scale=lambda y: y.softmax(-1), move=lambda p, y: y[:, p]):
    here = scale(model(ids))
    return torch.stack([move(p, scale(model(p[ids]))) - here for p in perms])


def gap_in_a_loop(model, ids, perms):
    worst = 0.0
    for p in perms.tolist():
        there = model(torch.tensor(p)[ids]).softmax(-1)
        here = model(ids).softmax(-1)
        for v, gv in enumerate(p):
            worst = max(worst, float((there[:, gv] - here[:, v]).abs().max()))
    return worst


def text(scores, start=lambda ids: ids, pick=lambda y: y.argmax(-1)):
    def answer(model, ids, perms, steps):
        for _ in range(steps):
            ids = torch.cat([ids, pick(scores(model, start(ids), perms))[:, None]], -1)
        return ids

    return answer


def branches(moved):
    """One context for each element; the new word joins each of them."""

    def answer(model, ids, perms, steps):
        contexts = [p[ids] for p in perms]
        for _ in range(steps):
            y = sum(model(c)[:, p] for c, p in zip(contexts, perms, strict=True))
            new = y.argmax(-1, keepdim=True)
            contexts = [
                torch.cat([c, p[new] if moved else new], 1)
                for c, p in zip(contexts, perms, strict=True)
            ]
            ids = torch.cat([ids, new], 1)
        return ids

    return answer


WORDS = {
    "word_rows": (
        [word_rows, word_rows_by_scatter, lambda *args: (tuple(row) for row in word_rows(*args))],
        {
            "sent word g i to word i": lambda p, lists, v: word_rows(p.argsort(1), lists, v),
            "the first list alone": lambda p, lists, v: word_rows(p, [lists[0]], v),
            "the last list alone": lambda p, lists, v: word_rows(p, [lists[-1]], v),
            "went to word 0": lambda p, lists, v: [
                [j if any(v[i] in words for words in lists) else 0 for i, j in enumerate(row)]
                for row in word_rows(p, lists, v)
            ],
            "have -1": lambda p, lists, v: [
                [j if any(v[i] in words for words in lists) else -1 for i, j in enumerate(row)]
                for row in word_rows(p, lists, v)
            ],
            "to the next of its list": lambda p, lists, v: word_rows(
                (torch.arange(p.shape[1]).repeat(len(p), 1) + 1) % p.shape[1], lists, v
            ),
            "moved nothing": lambda p, lists, v: torch.arange(len(v)).repeat(len(p), 1),
        },
    ),
    "fair_scores": (
        [
            fair,
            in_one_go,
            lambda m, ids, perms: (
                sum(copy.deepcopy(m)(p[ids]).index_select(1, p) for p in perms.flip(0)) / len(perms)
            ),
        ],
        {
            "softmax of the average": lambda *args: fair(*args).softmax(-1),
            "by g instead of g^-1": lambda *args: fair(*args, back=forward),
            "not move the scores back": lambda *args: fair(*args, back=lambda p, y: y),
            "the renamed perms[g][ids]": lambda *args: fair(*args, read=lambda p, ids: ids),
            "not divide by |G|": lambda m, ids, perms: sum(m(p[ids])[:, p] for p in perms),
            "the number of words": lambda m, ids, perms: (
                sum(m(p[ids])[:, p] for p in perms) / perms.shape[1]
            ),
            "averaged probabilities": lambda m, ids, perms: fair(
                lambda ids: torch.softmax(m(ids), -1), ids, perms
            ),
            "averaged nothing": own,
        },
    ),
    "relaxed_scores": (
        [
            relaxed(own),
            relaxed_word_by_word,
            lambda m, ids, perms, general: fair(m, ids, perms).index_copy(
                1, general, m(ids)[:, general]
            ),
        ],
        {
            "the wrong way round": relaxed(fair, own),
            "averaged the general words, too": relaxed(fair),
            "the score 0": relaxed(lambda m, ids, perms: 0 * m(ids)),
            "excluded the general words": relaxed(lambda m, ids, perms: m(ids) - torch.inf),
            "in the last view": relaxed(lambda m, ids, perms: m(perms[len(perms) - 1][ids])),
            "by g instead of g^-1": relaxed(own, lambda *args: fair(*args, back=forward)),
            "not average at all": relaxed(own, own),
        },
    ),
    "fairness_gap": (
        [
            lambda *args: violations(*args).abs().amax(),
            gap_in_a_loop,
            lambda *args: np.abs(violations(*args).numpy()).max(),
        ],
        {
            "the word moves, too": lambda *args: (
                violations(*args, move=lambda p, y: y).abs().max().item()
            ),
            "the word by g^-1": lambda *args: violations(*args, move=forward).abs().max(),
            "compared scores": lambda *args: violations(*args, scale=lambda y: y).abs().max(),
            "compared log-probabilities": lambda *args: (
                violations(*args, scale=lambda y: y.log_softmax(-1)).abs().max()
            ),
            "took the mean": lambda *args: violations(*args).abs().mean().item(),
            "the absolute value": lambda *args: violations(*args).max().item(),
            "one element of the group": lambda m, ids, perms: (
                violations(m, ids, perms[1:2]).abs().max()
            ),
            "kept the last element's": lambda m, ids, perms: (
                violations(m, ids, perms[-1:]).abs().max()
            ),
            "over the batch": lambda *args: (
                violations(*args, scale=lambda y: y.softmax(0)).abs().max()
            ),
        },
    ),
    "generate_fair": (
        [
            text(fair),
            branches(moved=True),
            lambda *args: np.array(
                [text(fair)(args[0], ids[None], *args[2:])[0] for ids in args[1]]
            ),
        ],
        {
            "every view with the same word": branches(moved=False),
            "without the average": text(own),
            "by g instead of g^-1": text(lambda *args: fair(*args, back=forward)),
            "not move the scores back": text(lambda *args: fair(*args, back=lambda p, y: y)),
            "from the first context every time": lambda m, ids, perms, steps: torch.cat(
                [ids, *[fair(m, ids, perms).argmax(-1)[:, None]] * steps], 1
            ),
            "the last word alone": text(fair, start=lambda ids: ids[:, [-1]]),
            "of least score": text(fair, pick=lambda y: y.argmin(-1)),
            "returned the new words alone": lambda m, ids, perms, steps: branches(moved=True)(
                m, ids, perms, steps
            )[:, -steps:],
        },
    ),
}


# checker: (right answers, {words of the verdict: wrong answer})
ANSWERS = {**GRAPHS, **AVERAGES, **HEADS, **VIEWS, **WORDS}
