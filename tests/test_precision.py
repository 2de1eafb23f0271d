"""Low precision and ties: averages keep the digits of their dtype, and equal views count as equal."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from zoo import C3, C4, D4, Net

import equitutor as eq
from equitutor.modes import rounding
from equitutor.weights import least

GROUPS = [C3, C4, eq.symmetric(3), D4, eq.symmetric(4), eq.cyclic(48)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
groups = pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# -- the digits of an average -----------------------------------------------------------------


def averages(views: torch.Tensor, group: eq.FiniteGroup):
    """(the average, its exact value) of (|G| B, n) views, uniform and weighted."""
    moves, n = eq.Regular(group), len(group)
    exact = torch.stack(
        [moves.undo(g, v) for g, v in enumerate(views.double().unflatten(0, (n, -1)))]
    )
    yield eq.group_average(views, moves), exact.mean(0)
    weights = torch.rand(n, exact.shape[1]).softmax(0)
    weighted = eq.group_average(views, moves, weights)
    yield weighted, (weights.double()[..., None] * exact).sum(0)


@dtypes
@groups
def test_one_rounding_of_the_dtype(group, dtype):
    """The table: (worst relative error) / (half the spacing of the dtype), at most 1 in half precision.

    Of the sums in float32 and float64 some roundings are added up, and less than the group has elements.
    """
    n, eps = len(group), torch.finfo(dtype).eps
    for offset in (0, 5, 1000):  # around 0, and far from it, where sums of low precision lose most
        views = (torch.randn(n * 50, n) + offset).to(dtype)
        for got, exact in averages(views, group):
            assert got.dtype == dtype
            spared = (
                1e-5 if dtype in DTYPES[:2] else n
            )  # of the float32 sum, in units of this dtype
            allowed = eps / 2 * exact.abs() * (1 + 1e-5) + spared * eps * views.double().abs().max()
            assert ((got.double() - exact).abs() <= allowed).all()


#: The worst relative error of the mean of views around 5, as measured: a row for each dtype, a column for each group
#: (of 3, 4, 6, 8, 24 and 48 elements). Half the spacing of numbers is 4.9e-4, 3.9e-3 and 6.0e-8.
TABLE = {
    torch.float16: (4.9e-4, 4.7e-4, 4.8e-4, 4.4e-4, 4.3e-4, 4.2e-4),
    torch.bfloat16: (3.8e-3, 3.9e-3, 3.7e-3, 3.7e-3, 3.4e-3, 3.4e-3),
    torch.float32: (1.1e-7, 1.1e-7, 1.5e-7, 1.6e-7, 2.6e-7, 4.0e-7),
}


@pytest.mark.parametrize("column", range(len(GROUPS)), ids=[g.name for g in GROUPS])
@pytest.mark.parametrize("dtype", TABLE, ids=str)
def test_the_table_of_errors(dtype, column):
    group = GROUPS[column]
    views = (torch.randn(len(group) * 200, len(group)) + 5).to(dtype)
    mean, exact = next(averages(views, group))
    worst = ((mean.double() - exact).abs() / exact.abs()).max().item()
    half = dtype != torch.float32
    assert 0.5 * TABLE[dtype][column] < worst < (1.2 if half else 1.5) * TABLE[dtype][column]
    assert not half or worst <= torch.finfo(dtype).eps / 2 * (1 + 1e-6)


def test_adding_in_low_precision_would_be_noticed():
    views = (torch.randn(48 * 50, 48) + 5).bfloat16()
    naive = sum(views.unflatten(0, (48, -1))) / 48  # what was done before
    exact = views.double().unflatten(0, (48, -1)).mean(0)
    assert ((naive.double() - exact).abs() / exact.abs()).max() > torch.finfo(torch.bfloat16).eps


@dtypes
@groups
def test_no_overflow_where_the_views_fit(group, dtype):
    n, largest = len(group), torch.finfo(dtype).max
    for share in (1, -1) if dtype in DTYPES[:2] else (0.99999, -0.99999):  # the sum's own rounding
        views = torch.full((n * 2, n), share * largest, dtype=dtype)
        mean = eq.group_average(views, eq.Regular(group))
        torch.testing.assert_close(mean, views[:2], rtol=1e-6, atol=0)
    if dtype == torch.float16:
        views = torch.full((n * 2, n), 10_000.0, dtype=dtype)
        for got, exact in averages(views, group):
            torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=0)


@groups
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_autocast_and_half_models(group, dtype):
    """The average of what a half-precision model gives, to the last bit but one rounding."""
    points, n = eq.Regular(group), len(group)
    net = nn.Linear(n, 2)
    x = 50 * torch.randn(4, n)
    with torch.autocast("cpu", dtype):
        half = net(points.views(x))
        got = eq.equitune(net, points)(x)
    exact = half.double().unflatten(0, (n, 4)).mean(0)
    assert got.dtype == half.dtype == dtype
    error = (got.double() - exact).abs() / half.double().abs().max()
    assert error.max() <= torch.finfo(dtype).eps / 2 + 1e-6
    model, x = eq.equitune(net.to(dtype), points), x.to(dtype)
    assert eq.equivariance_error(model, x) <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("make", ["lambda", "attention"])
def test_learned_weights_in_half_precision(make):
    group = eq.cyclic(48)
    points, net = eq.Regular(group), nn.Linear(48, 2).half()
    model = (
        eq.lambda_equitune(
            net, points, weight_net=nn.Sequential(nn.Linear(2, 1), nn.Softplus()).half()
        )
        if make == "lambda"
        else eq.equiattention(net, points, dim=2).half()
    )
    y = model(torch.full((3, 48), 3000.0, dtype=torch.half))
    assert y.dtype == torch.half and y.isfinite().all()


# -- ties -------------------------------------------------------------------------------------


def test_the_tolerance_is_three_quarters_of_the_digits():
    assert rounding(torch.float32) == pytest.approx(6.4e-6, rel=0.01)
    assert rounding(torch.float64) == pytest.approx(1.8e-12, rel=0.01)
    assert rounding(torch.bfloat16) == pytest.approx(0.026, rel=0.02)
    assert rounding(torch.int64) == 0


def test_least_by_hand():
    inf = math.inf
    for losses, expected in [
        ([1.0, 1.0, 2.0], [1, 1, 0]),
        ([1.0, 1.009, 2.0], [1, 1, 0]),
        ([1.0, 1.011, 2.0], [1, 0, 0]),
        ([-1.0, -0.991, -1.011], [0, 0, 1]),
        ([-1.0, -1.0, -0.9905], [1, 1, 1]),
        ([0.0, 1e-30, 0.0], [1, 0, 1]),
        ([inf, inf, inf], [1, 1, 1]),
        ([-inf, 0.0, -inf], [1, 0, 1]),
    ]:
        assert least(torch.tensor(losses)[:, None], 0.01)[:, 0].int().tolist() == expected
    assert least(torch.tensor([[10**9], [10**9 + 1]]), 0.01)[:, 0].tolist() == [True, False]


def symmetric_states(batch, side, dtype):
    """Pictures that are equal to all four of their turns, exactly: their entries are small integers."""
    r = torch.randint(0, 2, (batch, 2, side, side)).to(dtype)
    return sum(r.rot90(k, (2, 3)) for k in range(4))


def value_net(side, hidden, dtype):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(side * side * 2, hidden), nn.ReLU(), nn.Linear(hidden, 4)
    ).to(dtype)


LOSSES = {"entropy": eq.entropy, "max": eq.max_value, "top": eq.top_probability}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_an_input_that_is_its_own_image(dtype, loss):
    """Its views are equal, their losses are up to rounding; taking one would break the law."""
    rot, regular = eq.Rotations(C4), eq.Regular(C4)
    for side, hidden in ((3, 17), (5, 32), (7, 64), (9, 100)):
        for batch in (1, 2, 5, 10, 31, 64):
            torch.manual_seed(side * batch)
            net = value_net(side, hidden, dtype)
            x = symmetric_states(batch, side, dtype)
            zero = eq.equizero(net, rot, regular, loss=LOSSES[loss])
            assert (zero.weights(x) == 0.25).all()
            assert eq.equivariance_error(zero, x) <= 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_symmetric_up_to_rounding(dtype):
    """As after a resize: equal to its half turn but for the last digit. Both halves of the pair count."""
    rot = eq.Rotations(D4)
    x = torch.randn(16, 2, 4, 4, dtype=torch.float64)
    x = ((x + rot("r2", x)) / 3).to(dtype)
    x = x + torch.finfo(dtype).eps * x * torch.randn_like(x) / 2
    net = Net((2, 4, 4), (5,)).to(dtype)
    zero = eq.equizero(net, rot, loss=eq.entropy)
    assert (zero.weights(x).amax(0) <= 0.5).all()


def test_symmetric_under_autocast():
    rot = eq.Rotations(C4)
    net = nn.Sequential(value_net(5, 32, torch.float32), nn.LayerNorm(4))  # float32 out of bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        zero = eq.equizero(net, rot, eq.Regular(C4), loss=eq.max_value)
        assert (zero.weights(symmetric_states(31, 5, torch.float32)) == 0.25).all()


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_views_that_differ_are_not_taken_for_ties(dtype):
    """Of random inputs exactly one view is taken, and the least, however certain the model is."""
    rot = eq.Rotations(D4)
    for sharpness in (1, 10, 40):
        net = nn.Sequential(nn.Flatten(), nn.Linear(32, 5)).to(dtype)
        x = sharpness * torch.randn(200, 2, 4, 4, dtype=dtype)
        weights = eq.equizero(net, rot, loss=eq.entropy).weights(x)
        losses = eq.entropy(net(rot.views(x))).reshape(8, 200)
        clear = losses.sort(0).values.diff(dim=0)[0] > 1e-4 * losses.amin(0)
        assert clear.float().mean() > 0.9
        assert torch.equal(weights[:, clear].argmax(0), losses[:, clear].argmin(0))
        assert (weights[:, clear].amax(0) == 1).all()


def test_losses_that_are_equal_by_themselves():
    """Not the views but their losses: within rounding they tie, beyond they do not."""
    net, rot, x = Net((2, 4, 4), (5,)), eq.Rotations(C4), torch.randn(3, 2, 4, 4)

    def weights(losses, dtype=torch.float32):
        values = torch.tensor(losses, dtype=dtype).repeat_interleave(3)
        return eq.equizero(net, rot, loss=lambda y: values).weights(x)[:, 0].tolist()

    assert weights([2.0, 2.0 + 4e-7, 3.0, 2.0 + 2e-6]) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert weights([2.0, 2.0 + 1e-4, 3.0, 4.0]) == [1, 0, 0, 0]
    assert weights([7, 7, 8, 9], torch.int64) == [0.5, 0.5, 0, 0]
    assert weights([10**6, 10**6 + 1, 10**7, 10**7], torch.int64) == [1, 0, 0, 0]


def test_token_views_tie_exactly():
    words = eq.TokenPermutation(C3, {"r": [1, 2, 0, 3, 4]})
    net = Net((4,), (5,), vocabulary=5)
    zero = eq.equizero(net, words, loss=eq.entropy)
    ids = torch.tensor([[3, 4, 4, 3], [3, 0, 4, 3]])
    assert zero.weights(ids)[:, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert sorted(zero.weights(ids)[:, 1].tolist()) == [0, 0, 1]
