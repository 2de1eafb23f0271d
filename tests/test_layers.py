"""Parameter sharing: equivariant, as many weights as Burnside counts, and nothing left out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import A4, C2, C3, C4, D3, D4, S3, S4, TOLERANCE, permutation_groups

import equitutor as eq


def point(group: eq.FiniteGroup) -> eq.Permutation:
    """The trivial representation."""
    return eq.Permutation(group, torch.zeros(len(group), 1, dtype=torch.long))


def both(*actions: eq.Permutation) -> eq.Permutation:
    """The direct sum: the points of the first, then those of the second."""
    rows, shift = [], 0
    for action in actions:
        rows.append(action.perms + shift)
        shift += action.degree
    return eq.Permutation(actions[0].group, torch.cat(rows, 1))


def matrices(action: eq.Permutation) -> torch.Tensor:
    """The dense permutation matrices, (|G|, n, n)."""
    eye = torch.eye(action.degree, dtype=torch.float64)
    return torch.stack([action(g, eye).T for g in action.group])


def burnside(*actions: eq.Permutation) -> int:
    """The number of orbits on tuples of points: the mean number of fixed ones."""
    group = actions[0].group
    fixed = [
        math.prod(sum(int(p) == i for i, p in enumerate(a.perms[g.index])) for a in actions)
        for g in group
    ]
    assert sum(fixed) % len(group) == 0
    return sum(fixed) // len(group)


PAIRS = [
    (eq.Permutation(S4), eq.Permutation(S4)),
    (eq.Permutation(C4), eq.Permutation(C4)),
    (eq.Regular(D4), eq.Regular(D4)),
    (eq.Regular(S3), eq.Permutation(S3)),
    (eq.Rotations(C4).on_pixels(3), eq.Regular(C4)),
    (eq.Rotations(D4).on_pixels(3), eq.Rotations(D4).on_pixels(2)),
    (eq.Flip().on_pixels(2, 3), point(C2)),
    (point(A4), eq.Permutation(A4)),
    (both(eq.Permutation(D3), point(D3)), both(eq.Regular(D3), eq.Permutation(D3))),
]
pairs = pytest.mark.parametrize(
    ("ins", "outs"), PAIRS, ids=[f"{i.group!r}: {i.degree} to {o.degree}" for i, o in PAIRS]
)


@pairs
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_layer_is_equivariant(ins, outs, dtype):
    layer = eq.EquivariantLinear(ins, outs, in_channels=3, out_channels=2).to(dtype)
    x = torch.randn(4, 3, ins.degree, dtype=dtype)
    assert layer(x).shape == (4, 2, outs.degree)
    assert eq.equivariance_error(layer, x, ins, outs) <= TOLERANCE[dtype]
    assert layer(torch.randn(5, 4, 3, ins.degree, dtype=dtype)).shape == (5, 4, 2, outs.degree)


@pairs
def test_it_has_one_free_weight_an_orbit(ins, outs):
    layer = eq.EquivariantLinear(ins, outs)
    assert layer.weight.shape == (1, 1, burnside(outs, ins))
    assert layer.bias.shape == (1, burnside(outs))
    assert f"free weights: {burnside(outs, ins)} of {ins.degree * outs.degree}" in repr(layer)


@pairs
def test_nothing_equivariant_is_left_out(ins, outs):
    """The projection of any matrix onto the commutant is a matrix of the layer."""
    p, q = matrices(ins), matrices(outs)
    dense = torch.randn(outs.degree, ins.degree, dtype=torch.float64)
    projected = (q.transpose(1, 2) @ dense @ p).mean(0)  # mean of Q(g)^-1 W P(g)
    layer = eq.EquivariantLinear(ins, outs).double()
    basis = []
    for k in range(layer.weight.shape[-1]):
        with torch.no_grad():
            layer.weight.zero_()[..., k] = 1
        basis.append(layer.dense()[0, :, 0].flatten().detach())
    basis = torch.stack(basis, 1)
    solution = torch.linalg.lstsq(basis, projected.flatten()[:, None]).solution
    torch.testing.assert_close((basis @ solution)[:, 0], projected.flatten())
    assert torch.linalg.matrix_rank(basis) == basis.shape[1]  # no weight stands for nothing


@settings(deadline=None, max_examples=20)
@given(permutation_groups(4), st.booleans(), st.booleans())
def test_random_groups(group, regular_in, regular_out):
    ins = eq.Regular(group) if regular_in else eq.Permutation(group)
    outs = eq.Regular(group) if regular_out else both(eq.Permutation(group), point(group))
    layer = eq.EquivariantLinear(ins, outs, 2, 2).double()
    x = torch.randn(2, 2, ins.degree, dtype=torch.float64)
    assert eq.equivariance_error(layer, x, ins, outs) <= 1e-12
    assert layer.weight.shape[-1] == burnside(outs, ins)


# -- known layers -----------------------------------------------------------------------------


def test_over_all_permutations_it_is_deep_sets():
    """W = a I + b 1 1^T."""
    layer = eq.EquivariantLinear(eq.Permutation(S4), eq.Permutation(S4))
    w = layer.dense()[0, :, 0]
    a, b = w[0, 0] - w[0, 1], w[0, 1]
    torch.testing.assert_close(w, a * torch.eye(4) + b)
    assert layer.weight.numel() == 2 and layer.bias.numel() == 1


def test_over_cyclic_shifts_it_is_circulant():
    w = eq.EquivariantLinear(eq.Permutation(eq.cyclic(5)), eq.Permutation(eq.cyclic(5))).dense()
    w = w[0, :, 0]
    assert all(w[i, j] == w[(i + 1) % 5, (j + 1) % 5] for i in range(5) for j in range(5))
    assert len(set(w.flatten().tolist())) == 5


@pytest.mark.parametrize("group", [C3, D4, S3], ids=repr)
def test_between_regular_representations_it_is_group_convolution(group):
    """(f * k)(g) = sum_h f(h) k(h^-1 g), channels mixed freely."""
    layer = eq.EquivariantLinear(eq.Regular(group), eq.Regular(group), 2, 3)
    kernel = layer.dense()[:, :, :, group.identity.index]  # k(g) = W[g, e]: (out, |G|, in)
    f = torch.randn(4, 2, len(group))
    expected = torch.zeros(4, 3, len(group))
    for g in group:
        for h in group:
            k = kernel[:, (~h @ g).index]
            expected[:, :, g.index] += f[:, :, h.index] @ k.T
    expected = expected + layer.bias[:, :1]
    torch.testing.assert_close(layer(f), expected)


def test_without_a_group_it_is_dense():
    trivial = eq.cyclic(1)
    ins = eq.Permutation(trivial, torch.arange(3)[None])
    outs = eq.Permutation(trivial, torch.arange(4)[None])
    layer, linear = eq.EquivariantLinear(ins, outs, 2, 5), torch.nn.Linear(6, 20)
    assert layer.weight.numel() == linear.weight.numel() and layer.bias.numel() == 20
    assert layer.weight.abs().max() <= 1 / 6**0.5  # the initial scale is that of nn.Linear
    with torch.no_grad():
        linear.weight.copy_(layer.dense().reshape(20, 6))
        linear.bias.copy_(layer.bias.flatten())
    x = torch.randn(7, 2, 3)
    torch.testing.assert_close(layer(x), linear(x.flatten(1)).unflatten(1, (5, 4)))


def test_without_bias():
    layer = eq.EquivariantLinear(eq.Regular(C3), eq.Regular(C3), bias=False)
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    assert not layer(torch.zeros(2, 1, 3)).any()


def test_orbits():
    c2 = torch.tensor([[0, 1, 2, 3, 4], [1, 0, 2, 4, 3]])
    assert eq.orbits(c2).tolist() == [0, 0, 1, 2, 2]
    assert eq.orbits(eq.Rotations(C4).on_pixels(3).perms).tolist() == [0, 1, 0, 1, 2, 1, 0, 1, 0]
    # under D4 the 4 x 4 grid has corners, edges and a middle: three orbits
    assert eq.orbits(eq.Rotations(D4).on_pixels(4).perms).unique().numel() == 3


# -- heads ------------------------------------------------------------------------------------

ACTIONS = [eq.Rotations(C4), eq.Rotations(D4), eq.Flip(), eq.Flip("vertical")]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: repr(a.group))
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_invariant_head(action, size):
    torch.manual_seed(0)
    head = eq.InvariantHead(action, channels=3, size=size, classes=4).double()
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    torch.testing.assert_close(head(x), head.classify(x.mean((2, 3))))  # starts as average pooling
    with torch.no_grad():
        head.pool.weight.normal_()
    assert head(x).shape == (2, 4)
    if size > 1:  # nothing moves a single pixel
        assert eq.equivariance_error(head, x, action) <= 1e-12
    pixels = head.pool.dense()[0, 0, 0]
    expected = head.classify((x.flatten(2) * pixels).sum(-1))
    torch.testing.assert_close(head(x), expected)
    assert head.pool.weight.numel() == burnside(action.on_pixels(size))


def test_the_head_of_the_trivial_group_shares_nothing():
    head = eq.InvariantHead(eq.Rotations(eq.cyclic(1)), channels=2, size=3, classes=4)
    assert head.pool.weight.numel() == 9
    with torch.no_grad():
        head.pool.weight.normal_()
    assert eq.equivariance_error(head, torch.randn(2, 2, 3, 3), eq.Rotations(C4)) > 1e-2


@pytest.mark.parametrize("action", [eq.Rotations(C4), eq.Rotations(D4)], ids=["c4", "d4"])
def test_heads_make_a_backbone_invariant(action):
    torch.manual_seed(0)
    backbone = torch.nn.Conv2d(2, 3, 3, padding=1).double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    head = eq.InvariantHead(action, 3, 5, classes=4).double()
    with torch.no_grad():
        head.pool.weight.normal_()
    model = torch.nn.Sequential(eq.equitune(backbone, action, action), head)
    assert eq.equivariance_error(model, x, action) <= 1e-12
    assert eq.equivariance_error(torch.nn.Sequential(backbone, head), x, action) > 1e-2

    regular = eq.RegularHead(action.group, 3, classes=4, hidden=6).double()
    model = torch.nn.Sequential(eq.RegularFeatures(backbone, action, action), regular)
    assert eq.equivariance_error(model, x, action) <= 1e-12
    assert eq.equivariance_error(regular, model[0](x), model[0].out_action) <= 1e-12


def test_the_regular_head_sees_how_the_views_differ():
    """Unlike a head on the average: features that differ only by a constant sum."""
    torch.manual_seed(0)
    head = eq.RegularHead(D4, 3, classes=4)
    x = torch.randn(2, 8, 3)
    assert head(x).shape == (2, 4)
    same_mean = x.mean(1, keepdim=True).expand_as(x)
    assert (head(x) - head(same_mean)).abs().max() > 1e-3
    torch.testing.assert_close(head(x), head(x[..., None, None].expand(-1, -1, -1, 2, 2)))


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: eq.EquivariantLinear(eq.Rotations(C4), eq.Regular(C4)),
            TypeError,
            r"needs permutation representations, got Rotations; .*on_pixels",
        ),
        (
            lambda: eq.EquivariantLinear(eq.Regular(C4), eq.Regular(C3)),
            ValueError,
            "input action is of C4 .* but the output action of C3",
        ),
        (
            lambda: eq.EquivariantLinear(eq.Regular(C3), eq.Regular(C3), 2)(torch.ones(4, 3)),
            ValueError,
            r"floats of shape \(\.\.\., 2, 3\).*got \(4, 3\)",
        ),
        (
            lambda: eq.EquivariantLinear(eq.Regular(C3), eq.Regular(C3))(torch.ones(3)),
            ValueError,
            r"got \(3,\)",
        ),
        (
            lambda: eq.InvariantHead(eq.Rotations(C4), 3, 5, 4)(torch.ones(2, 3, 5, 6)),
            ValueError,
            r"takes feature maps \(B, 3, 5, 5\), got \(2, 3, 5, 6\)",
        ),
        (
            lambda: eq.RegularHead(C4, 3, 5)(torch.ones(2, 3, 4)),
            ValueError,
            r"takes regular features \(B, 4, 3, \.\.\.\).*got \(2, 3, 4\)",
        ),
        (lambda: eq.RegularHead(C4, 3, 5)(torch.ones(4, 3)), ValueError, r"got \(4, 3\)"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
