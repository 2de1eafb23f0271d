"""Generated bad input over the public functions: one of our errors, or a right answer.

An error counts as ours if the last line of its traceback is a line of this package: a bare
IndexError, or torch's word on a shape it met deep inside, does not. What is returned must pass the
oracle of its case.
"""

import random
import signal
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from zoo import C2, C3, C4, D4, S3

import equitutor as eq
from equitutor.sequences.scan_data import ACTIONS, COMMANDS
from equitutor.sequences.vocabulary import Vocabulary
from equitutor.sequences.wordgroups import word_symmetry
from equitutor.testing import relative_error

PACKAGE = Path(eq.__file__).parent
OURS = (ValueError, TypeError, KeyError, IndexError, RuntimeError)
EACH = 40  # inputs for each function below


class Wrong(Exception):
    """A bad input that gave neither an error of ours nor a right answer."""


@contextmanager
def seconds(limit):
    def late(*_):
        raise Wrong(f"no answer within {limit} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(call, right):
    """Whether the call was refused; raises Wrong where it was neither refused nor answered well."""
    try:
        with seconds(20):
            result = call()
    except Wrong:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if not isinstance(error, OURS) or PACKAGE not in Path(frame.filename).parents:
            raise Wrong(f"{type(error).__name__} from {frame.filename}: {error}") from error
        if len(str(error)) < 20:
            raise Wrong(f"an error that says too little: {error!r}") from error
        return True
    if not right(result):
        raise Wrong(f"a wrong answer: {result!r}")
    return False


# -- bad input ------------------------------------------------------------------------------------

JUNK = [
    None,
    -1,
    0,
    1.5,
    10**9,
    "3",
    b"3",
    True,
    (),
    [],
    [[]],
    {},
    [1.0, 2.0],
    [[0, 1], [1]],
    object(),
]
JUNK += [
    float("nan"),
    float("inf"),
    1j,
    torch.tensor(3),
    torch.zeros(0),
    torch.rand(2, 2),
    "e",
    ["a"],
]
SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (0, 3, 4, 4),
    (2, 3, 4, 5),
    (2, 3, 4, 4),
    (2, 0, 4, 4),
    (4, 4),
    (1,) * 7,
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64]
DTYPES += [torch.uint8, torch.bool, torch.complex64]


def tensor(draw, junk=True, meta=True) -> Tensor:
    """A tensor of an odd shape or dtype, or with values that are no numbers; or no tensor at all.

    Three in ten are images: what is refused is of little use beside nothing that is answered.
    """
    if junk and draw.random() < 0.1:
        return draw.choice(JUNK)
    generator = torch.Generator().manual_seed(draw.randrange(10**6))
    if draw.random() < 0.3:
        return 4 * torch.rand(2, 3, 4, 4, generator=generator)
    x = (4 * torch.rand(draw.choice(SHAPES), generator=generator)).to(draw.choice(DTYPES))
    if x.is_floating_point() and x.numel() and draw.random() < 0.2:
        x.view(-1)[0] = draw.choice([float("nan"), float("inf"), -float("inf"), 1e30])
    return x.to("meta") if junk and meta and draw.random() < 0.1 else x


def equal(a, b) -> bool:
    """Equal, NaN where the other is NaN; on the meta device shapes are all there is."""
    if a.is_meta or b.is_meta:
        return a.shape == b.shape
    return (
        torch.equal(a.isnan(), b.isnan()) and relative_error(a.nan_to_num(), b.nan_to_num()) < 1e-2
    )


# -- the functions --------------------------------------------------------------------------------


def groups(draw):
    """Constructors of groups: what they return keeps the laws of a group."""
    make = draw.choice([eq.cyclic, eq.dihedral, eq.symmetric, eq.permutation_group, eq.FiniteGroup])
    odd = [
        [list(p) for p in torch.randint(-1, 4, (3, 3)).tolist()],
        [[0, 1], [1, 1]],
        [[1, 0], [0, 1]],
    ]
    argument = draw.choice([*JUNK, *odd, 3])

    def right(g):
        laws = [(a @ b) @ c == a @ (b @ c) for a in g for b in g for c in g]
        return all(laws) and all(a @ ~a == ~a @ a == g.identity for a in g)

    return lambda: make(argument), right


def products(draw):
    some = [C2, C3, S3, *draw.sample(JUNK, 2)]
    factors = [draw.choice(some) for _ in range(draw.randrange(4))]

    def right(g):
        return len(g) == torch.tensor([len(f) for f in factors]).prod()

    return lambda: eq.direct_product(*factors), right


def elements(draw):
    group, key = (
        draw.choice([C4, D4, S3]),
        draw.choice([*JUNK, "r7", 99, -99, C3["r"], S3.identity]),
    )
    return lambda: group[key], lambda g: g.group == group and (g @ ~g) == group.identity


def permutations(draw):
    group = draw.choice([C3, D4, S3])
    right_rows = group.permutations
    rows = [right_rows.roll(1, 0), right_rows[:-1], right_rows + 1, right_rows.double()]
    rows += [{"r": [1, 0]}, {"zz": [0]}, {}, *draw.sample(JUNK[1:], 4)]
    rows += [right_rows, right_rows.tolist(), torch.eye(right_rows.shape[1])[right_rows].mT]
    kind = draw.choice([eq.Permutation, eq.TokenPermutation, eq.MatrixAction])
    perms = draw.choice(rows)

    def right(action):
        size = right_rows.shape[1]
        x = torch.arange(size) if kind is eq.TokenPermutation else torch.rand(2, size)
        moved = [action(g, x) for g in group]
        laws = [
            torch.equal(action(g, moved[h.index]), moved[(g @ h).index])
            for g in group
            for h in group
        ]
        return all(laws) and len({str(y) for y in moved}) == len(group)

    return lambda: kind(group, perms), right


def moved(draw):
    """Actions on tensors: what is moved and moved back is what it was."""
    c3 = eq.Permutation(C3, dim=draw.choice([1, -1, 0, 9, -9]))
    some = [eq.Rotations(C4), eq.Rotations(D4), eq.Flip(), c3, eq.TokenPermutation(C3)]
    some += [eq.Regular(C4), eq.MatrixAction(C4, eq.rotation_matrices(C4)), eq.Trivial(C4)]
    action, x = draw.choice(some), tensor(draw)
    g = draw.choice([0, 1, -1, "r", 99, None])

    def call():
        y = action(g, x)
        return action(~action.group[g], y)

    return call, lambda back: equal(back, x) and back.dtype == x.dtype


class Plain(nn.Module):
    """A model that takes any tensor: what refuses is then the wrapper."""

    def forward(self, x):
        return (
            x
            if x.ndim == 0
            else (x * torch.linspace(0, 1, max(x.shape[-1], 1))[: x.shape[-1]].to(x)).cumsum(-1)
        )


def averages(draw):
    """The wrapper, beside a loop over the group."""
    rot = eq.Rotations(draw.choice([C4, D4]))
    out = draw.choice([None, rot])
    model, x = eq.equitune(Plain(), rot, out), tensor(draw)

    def right(y):
        g = len(rot.group)
        terms = [Plain()(rot.act(i, x)) for i in range(g)]
        terms = [t if out is None else rot.undo(i, t) for i, t in enumerate(terms)]
        return equal(y, sum(terms) / g)

    return lambda: model(x), right


def weighted(draw):
    """equizero, lambda and attention on what is no number: a weight is never NaN in silence."""
    rot, x = eq.Rotations(C4), tensor(draw, meta=False)
    flat = nn.Flatten()
    losses = [eq.entropy, eq.max_value, lambda y: y, lambda y: y.sum(), lambda y: None]
    make = draw.choice(
        [
            lambda: eq.equizero(flat, rot, loss=draw.choice(losses)),
            lambda: eq.lambda_equitune(flat, rot, weight_net=draw.choice([eq.LambdaNet(48), flat])),
            lambda: eq.equiattention(flat, rot, dim=draw.choice([48, 7])),
            lambda: eq.lambda_equitune(flat, rot, weight_net=eq.LambdaNet(48), features="nowhere"),
            lambda: eq.equizero(flat, rot, loss=draw.choice(JUNK)),
        ]
    )

    def right(weights):
        return bool((weights >= 0).all()) and equal(weights.sum(0), torch.ones(weights.shape[1]))

    return lambda: make().eval().weights(x), right


def formula(draw):
    """group_average with weights that do not fit."""
    y, w = tensor(draw), draw.choice([None, tensor(draw), torch.full((4, 1), 0.25)])
    action = draw.choice([eq.Trivial(C4), eq.Permutation(C4), eq.Regular(C3)])

    def right(mean):
        n = len(action.group)
        views = y.unflatten(0, (n, len(y) // n))
        some = torch.full((n, 1), 1 / n, device=y.device) if w is None else w.to(y.dtype)
        some = some.reshape(n, -1, *[1] * (views.ndim - 2))
        return equal(mean, sum(some[g] * action.undo(g, views[g]) for g in range(n)))

    return lambda: eq.group_average(y, action, w), right


def layers(draw):
    x = tensor(draw, junk=False)
    flat, rot = eq.Permutation(C4), eq.Rotations(C4)
    some = [
        lambda: eq.EquivariantLinear(draw.choice([flat, eq.Regular(C3), rot, None]), flat, 3)(x),
        lambda: eq.InvariantHead(draw.choice([rot, flat, None]), 3, draw.choice([4, 5]), 2)(x),
        lambda: eq.RegularHead(C4, 3, 2)(x),
        lambda: eq.LambdaNet(draw.choice([48, 3]))(x),
    ]
    return draw.choice(some), lambda y: isinstance(y, Tensor) and len(y) == len(x)


def probes(draw):
    """equivariance_error, beside the worst of f(g x) and g f(x) one by one."""
    rot, image = eq.Rotations(C4), torch.rand(2, 3, 4, 4)
    x = draw.choice([tensor(draw, junk=False), image, image.half(), None, 3, "x", (), {}])
    model = draw.choice([eq.equitune(Plain(), rot, rot), Plain(), Plain(), None, lambda *x: 3])
    actions = draw.choice([(), (rot,), (rot, rot), (eq.Trivial(C4), rot), (eq.Flip(), rot), ("r",)])

    def right(found):
        a, b = (*(actions or [rot, rot]), eq.Trivial(C4))[:2]
        a = a if x.ndim else eq.Trivial(C4)  # a scalar is no batch, and stays
        both = [(model(a.act(g, x)), b.act(g, model(x))) for g in range(4)]
        worst = max(far(*pair) for pair in both)
        # of an average the size of its views counts too
        inside = isinstance(model, eq.GroupAverage) and found <= worst
        return inside or found == pytest.approx(worst, rel=1e-5)

    return lambda: eq.equivariance_error(model, x, *actions), right


def far(y, z) -> float:
    y, z = torch.as_tensor(y), torch.as_tensor(z)
    if not (y.isfinite().all() and z.isfinite().all()):
        return float("inf")
    if not (y.is_floating_point() or y.is_complex()):
        return (y != z).sum().item() / max(y.numel(), 1)
    largest = z.abs().flatten().tolist()
    return max((y - z).abs().flatten().tolist(), default=0) / max(largest, default=1)


def words(draw):
    lists = [
        ["jump", "run"],
        ["JUMP", "RUN"],
        ["jump"],
        ["jump", "jump"],
        [],
        ["hop", "run"],
        "jump",
    ]
    pairs = [(draw.choice(lists), draw.choice(lists)) for _ in range(draw.randrange(3))]
    pairs = draw.choice([pairs, [draw.choice(JUNK)]])

    def right(symmetry):
        ids = torch.arange(len(COMMANDS))
        return torch.equal(symmetry.read(1, symmetry.read(1, ids)), ids)

    return lambda: word_symmetry(COMMANDS, ACTIONS, *pairs), right


def sentences(draw):
    odd = ["", " ", "hop", "jump hop", "JUMP", "jump  twice", None, 3]
    asked = draw.choice(
        [[draw.choice(odd) for _ in range(draw.randrange(3))], *JUNK, ["jump"] * 999]
    )
    vocabulary = draw.choice([COMMANDS, ACTIONS])

    def right(ids):
        return vocabulary.decode(ids) == [" ".join(s.split()) for s in asked]

    return lambda: vocabulary.encode(asked), right


def vocabularies(draw):
    odd = [("SOS", "EOS", "a", "a"), ("EOS", "SOS"), (), "SOS", ("SOS", "EOS"), ("SOS", "EOS", "a")]
    given = draw.choice([*odd, *JUNK])
    return lambda: Vocabulary(given), lambda v: v.words[:2] == ("SOS", "EOS")


FUNCTIONS = (groups, products, elements, permutations, moved, averages, weighted, formula, layers)
FUNCTIONS += (probes, words, sentences, vocabularies)


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda f: f.__name__)
def test_bad_input(case):
    refused = 0
    for seed in range(EACH):
        torch.manual_seed(seed)
        try:
            refused += judged(*case(random.Random(f"{case.__name__} {seed}")))
        except Wrong as problem:
            raise AssertionError(f"{case.__name__}, seed {seed}: {problem}") from problem
    assert 0 < refused < EACH  # else these were no bad inputs, or nothing else


def test_there_are_hundreds_of_inputs():
    assert EACH * len(FUNCTIONS) >= 300


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: [][3], "IndexError"),
        (lambda: torch.rand(2) @ torch.rand(3), "RuntimeError"),
        (lambda: 2, "wrong answer"),
    ],
)
def test_the_judge_notices(call, problem):
    """A bare error, torch's own, a wrong number."""
    with pytest.raises(Wrong, match=problem):
        judged(call, lambda result: result == 1)


def test_the_judge_knows_our_errors():
    assert judged(lambda: eq.cyclic(0), lambda result: False)
    assert not judged(lambda: 1, lambda result: result == 1)


def test_the_judge_does_not_wait_forever():
    def forever():
        while True:
            pass

    with pytest.raises(Wrong, match="no answer"), seconds(1):
        forever()
