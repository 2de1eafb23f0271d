"""The error measure by hand, and hints that name the mistake that was made and no other."""

import pytest
import torch
from torch import nn
from zoo import C2, C3, C4, D3, D4, Net

import equitutor as eq
from equitutor.testing import relative_error

ROT, TURN = eq.Rotations(C4), eq.Permutation(C3)
HINTS = {
    "random": "two runs on the same input differ: is dropout on",
    "batchnorm": "BatchNorm is in train mode",
    "inverse": "moves by g\\^-1 where it should move by g: the wrong inverse",
    "invariant": "the output does not move at all: it is invariant",
    "shape": "the action changes the shape of the input: is it square",
    "nan": "the output holds NaN or infinite values",
    "unknown": "the averaging: are all",
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def hints_of(model, x, *actions) -> set[str]:
    with pytest.raises(AssertionError) as caught:
        eq.assert_equivariant(model, x, *actions)
    text = str(caught.value).replace("^", "\\^")
    return {name for name, hint in HINTS.items() if hint in text}


# -- the measure ------------------------------------------------------------------------------


def test_the_identity_is_equivariant():
    for action in (ROT, eq.Rotations(D4)):
        assert eq.equivariance_error(nn.Identity(), torch.randn(2, 4, 4), action, action) == 0


def test_an_error_by_hand():
    """f(x) = (x0, 0) under the swap of two numbers, at x = (1, 4).

    f(g x) = f(4, 1) = (4, 0); g f(x) = g (1, 0) = (0, 1); the largest difference 4, of size 1.
    """
    swap = eq.Permutation(C2)

    def first(x):
        return x * torch.tensor([1.0, 0.0])

    x = torch.tensor([[1.0, 4.0]])
    assert eq.equivariance_errors(first, x, swap, swap) == {"e": 0.0, "r": 4.0}
    assert eq.equivariance_error(first, x, swap, swap) == 4.0
    # as an invariant map: (4, 0) against (1, 0), 3 of size 1
    assert eq.equivariance_error(first, x, swap) == 3.0


def test_the_error_has_no_scale():
    net, x = Net((3,), (3,)).double(), torch.randn(2, 3, dtype=torch.float64)
    error = eq.equivariance_error(net, x, TURN, TURN)
    for factor in (1e-200, 1e-6, 1e6, 1e200):
        scaled = eq.equivariance_error(lambda y, c=factor: c * net(y), x, TURN, TURN)
        assert scaled == pytest.approx(error)


def test_relative_errors():
    one = torch.ones(2)
    assert relative_error(one, one) == 0
    assert relative_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0])) == 0.5
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.zeros(0), torch.zeros(0)) == 0
    assert relative_error(one, torch.ones(3)) == float("inf")
    for bad in (torch.nan, torch.inf, -torch.inf):
        for a, b in [(bad * one, one), (one, bad * one), (bad * one, torch.nan * one)]:
            assert relative_error(a, b) == float("inf")
    assert relative_error(torch.inf * one, -torch.inf * one) == float("inf")
    assert relative_error(torch.inf * one, torch.inf * one) == 0  # equal infinities are equal
    assert relative_error(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.25
    assert relative_error(torch.tensor([True]), torch.tensor([True])) == 0
    assert relative_error(torch.tensor([1j]), torch.tensor([2j])) == 0.5


def test_the_worst_of_several_outputs_counts():
    good, bad = nn.Identity(), Net((3,), (3,))

    def several(x):
        return {"good": good(x), "bad": (bad(x), None)}

    x = torch.randn(2, 3)
    alone = eq.equivariance_error(bad, x, TURN, TURN)
    assert eq.equivariance_error(several, x, TURN, TURN) == alone
    assert eq.equivariance_error(several, x, TURN, {"good": TURN}) != alone


def test_integer_outputs():
    def classes(x):
        return x.argmax(-1)

    x = torch.randn(4, 3)
    assert eq.equivariance_error(classes, x, TURN) == 1.0  # the largest always moves
    assert eq.equivariance_error(classes, x, TURN, eq.TokenPermutation(C3)) == 0.0
    eq.assert_equivariant(classes, x, TURN, eq.TokenPermutation(C3))


def test_actions_come_from_the_model_unless_given():
    net, x = Net((2, 4, 4), (3, 2, 2)), torch.randn(2, 2, 4, 4)
    model = eq.equitune(net, ROT, ROT)
    assert eq.equivariance_error(model, x) < 1e-5
    assert eq.equivariance_error(model, x, ROT, ROT) < 1e-5
    assert eq.equivariance_error(model, x, ROT) > 1e-2  # given in_action alone: invariant?
    assert eq.equivariance_error(model, x, out_action=eq.Trivial(C4)) > 1e-2
    d4 = eq.Rotations(D4)
    assert eq.equivariance_error(model, x, d4, d4) > 1e-2  # another group than the model's own


def test_inputs_in_every_form():
    model = eq.equitune(Net((3,), (3,)), TURN, TURN)
    x = torch.randn(2, 3)
    expected = eq.equivariance_error(model, x)
    assert eq.equivariance_error(model, (x,)) == expected
    assert eq.equivariance_error(model, {"x": x}) == expected


def test_nothing_of_the_model_is_changed():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    eq.equivariance_error(net, x, ROT, ROT)
    with pytest.raises(AssertionError):
        eq.assert_equivariant(net, x, ROT, ROT)
    assert net.training and net[1].num_batches_tracked == 0
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert x.grad is None and all(p.grad is None for p in net.parameters())


# -- the assertion ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.float16, 1e-2),
        (torch.bfloat16, 5e-2),
        (torch.complex64, 1e-5),
    ],
)
def test_the_tolerance_depends_on_the_dtype(dtype, allowed):
    swap = eq.Permutation(C2)

    def off(by):
        return lambda x: (
            torch.ones_like(x) * torch.tensor([1.0, 1.0 + by], dtype=torch.float64)
        ).to(dtype)

    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    x = x + 0j if dtype.is_complex else x
    eq.assert_equivariant(off(0.3 * allowed), x, swap, swap)
    with pytest.raises(AssertionError, match=f"allowed {allowed:.1e}"):
        eq.assert_equivariant(off(3 * allowed), x, swap, swap)
    eq.assert_equivariant(off(3 * allowed), x, swap, swap, tol=9 * allowed)
    with pytest.raises(AssertionError):
        eq.assert_equivariant(off(0.3 * allowed), x, swap, swap, tol=0)


@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64")])
def test_of_several_outputs_the_coarsest_dtype_sets_the_tolerance(dtypes):
    swap = eq.Permutation(C2)

    def model(x):
        y = torch.ones_like(x) * torch.tensor([1.0, 1.0 + off], dtype=torch.float64)
        return tuple(y.to(getattr(torch, name)) for name in dtypes)

    x, off = torch.tensor([[1.0, 2.0]], dtype=torch.float64), 3e-6
    eq.assert_equivariant(model, x, swap, swap)
    off = 3e-5
    with pytest.raises(AssertionError, match=r"allowed 1\.0e-05"):
        eq.assert_equivariant(model, x, swap, swap)


def test_the_worst_element_is_named():
    class Broken(nn.Module):
        """Invariant but for a look at the top left pixel, much the brightest after r3."""

        def forward(self, x):
            return x.sum((1, 2)) + x[:, 0, 0]

    x = torch.zeros(1, 4, 4)
    x[0, 0, 3], x[0, 3, 0] = 1.0, 9.0  # r brings the top right to the top left, r3 the bottom left
    errors = eq.equivariance_errors(Broken(), x, ROT)
    assert list(errors) == ["e", "r", "r2", "r3"] and max(errors, key=errors.get) == "r3"
    with pytest.raises(AssertionError, match=r"relative error 9.00e-01 at g = r3, allowed 1.0e-05"):
        eq.assert_equivariant(Broken(), x, ROT)


# -- the hints --------------------------------------------------------------------------------


def wrong_inverse(x):
    """C3 turns three numbers, and the average moves them on where it should move them back."""
    return sum(TURN(g, (TURN(g, x) * torch.tensor([1.0, 2.0, 4.0])).tanh()) for g in C3) / 3


def test_hint_wrong_inverse():
    assert hints_of(wrong_inverse, torch.randn(2, 3), TURN, TURN) == {"inverse"}
    there, back = eq.MatrixAction(C3, eq.rotation_matrices(C3)), eq.rotation_matrices(C3)
    other_way = eq.MatrixAction(C3, back[C3.inverses])
    assert hints_of(nn.Identity(), torch.randn(2, 2), there, other_way) == {"inverse"}


def test_no_hint_of_the_inverse_where_nothing_is_right():
    """In a non-abelian group g in place of g^-1 gives no equivariant map of any kind."""
    corners, net = eq.Permutation(D3), Net((3,), (3,))

    def wrong(x):
        return sum(corners(g, net(corners(g, x))) for g in D3) / 6

    assert hints_of(wrong, torch.randn(2, 3), corners, corners) == {"unknown"}


def test_hint_dropout():
    net = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
    x = torch.randn(8, 4, 4)
    assert hints_of(net.train(), x, ROT, ROT) == {"random"}
    eq.assert_equivariant(net.eval(), x, ROT, ROT)


def test_dropout_that_does_nothing_is_not_accused():
    net = nn.Sequential(Net((2, 4, 4), (5,)), nn.Dropout(0.0)).train()
    assert hints_of(net, torch.randn(2, 2, 4, 4), ROT) == {"unknown"}


def test_hint_batchnorm():
    net = nn.Sequential(Net((2, 4, 4), (5,)), nn.BatchNorm1d(5))
    x = torch.randn(4, 2, 4, 4)
    assert hints_of(net.train(), x, ROT) == {"batchnorm", "unknown"}
    assert hints_of(net.eval(), x, ROT) == {"unknown"}


def test_hint_invariant_output():
    def mean(x):
        return x.mean((1, 2), keepdim=True) * torch.arange(16.0).reshape(4, 4)

    assert hints_of(mean, torch.randn(2, 4, 4), ROT, ROT) == {"invariant"}


def test_hint_not_finite():
    assert hints_of(lambda x: x.sqrt(), -torch.rand(2, 4, 4), ROT, ROT) == {"nan"}
    assert hints_of(lambda x: x / 0, torch.randn(2, 4, 4), ROT) == {"nan"}
    x = torch.ones(1, 4, 4)
    x[0, 0, 3] = 0
    assert hints_of(lambda x: 1 / x[:, 0, 0], x, ROT) == {"nan"}  # only after a turn
    assert eq.equivariance_error(lambda x: x * torch.nan, x, ROT) == float("inf")


def test_hint_not_square():
    turns = eq.FunctionAction(C4, lambda g, x: x.rot90(g.index, (-2, -1)), torch.randn(1, 3, 3))
    assert hints_of(lambda x: x.sum(-1), torch.randn(1, 3, 4), turns) == {"shape"}
    # a tensor need not be an image
    sequence = eq.Permutation(C3, dim=1)
    assert hints_of(Net((3, 5), (2,)), torch.randn(2, 3, 5), sequence) == {"unknown"}
    # Rotations itself says so at once
    with pytest.raises(ValueError, match="square images"):
        eq.assert_equivariant(nn.Identity(), torch.randn(1, 3, 4), ROT, ROT)


def test_hint_unknown_lists_what_to_check():
    with pytest.raises(AssertionError) as caught:
        eq.assert_equivariant(Net((3,), (3,)), torch.randn(2, 3), TURN, TURN)
    text = str(caught.value)
    assert all(f"- the {word}: " in text for word in ("inverse", "actions", "averaging"))


# -- bad input --------------------------------------------------------------------------------

X = torch.randn(2, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: eq.equivariance_error(nn.Identity(), X),
            ValueError,
            "in_action is missing.*fairness_gap",
        ),
        (
            lambda: eq.equivariance_error(nn.Identity(), X, ROT, TURN),
            ValueError,
            r"input action is of C4 .* but the output action of C3",
        ),
        (lambda: eq.equivariance_error(nn.Identity(), [X], ROT), TypeError, "x must be.*got list"),
        (
            lambda: eq.equivariance_error(lambda x: [None], X, ROT),
            ValueError,
            "must return a tensor.*a list",
        ),
        (
            lambda: eq.equivariance_error(lambda x: x[:, 0], X, ROT, eq.Permutation(C4, dim=2)),
            ValueError,
            "permutes 4 entries along dimension 2",
        ),
        (
            lambda: eq.equivariance_error(lambda x: {"a": x}, X, ROT, {"b": ROT}),
            ValueError,
            "the output action names 'b'",
        ),
        (
            lambda: eq.equivariance_error(lambda image: image, {"image": X}, {"x": ROT}),
            ValueError,
            "the input action names argument 'x'",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
