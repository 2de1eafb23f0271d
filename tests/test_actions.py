"""Actions: homomorphisms all, and each moves what its formula says."""

import copy

import pytest
import torch
from hypothesis import given, settings
from zoo import C2, C3, C4, CASES, D3, D4, D5, S3, S4, permutation_groups

import equitutor as eq
from equitutor.sequences.scan_data import ACTIONS, COMMANDS
from equitutor.sequences.wordgroups import word_symmetry

DTYPES = [torch.float32, torch.float64, torch.int64, torch.uint8]
PERM_C4 = [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random small integers, exact in every dtype."""
    return torch.randint(0, 100, shape).to(dtype)


def turn(image: list[list[float]]) -> list[list[float]]:
    """A quarter turn counter-clockwise, written out: the right column becomes the top row."""
    n = len(image)
    return [[image[j][n - 1 - i] for j in range(n)] for i in range(n)]


def mirror(image: list[list[float]]) -> list[list[float]]:
    """Left and right change places."""
    return [[row[len(row) - 1 - j] for j in range(len(row))] for row in image]


# -- the laws ---------------------------------------------------------------------------------


def output(case) -> torch.Tensor:
    return torch.randn(3, *case.out_shape, dtype=torch.float64)


INPUTS = [(f"{case.name}: input", case.ins, case.x(torch.float64)) for case in CASES]
OUTPUTS = [(f"{case.name}: output", case.outs, output(case)) for case in CASES if case.outs]
SIDES = [pytest.param(action, x, id=name) for name, action, x in INPUTS + OUTPUTS]
FLOATS = [side for side in SIDES if side.values[1].is_floating_point()]


@pytest.mark.parametrize(("action", "x"), SIDES)
def test_every_action_is_a_homomorphism(action, x):
    group = action.group
    before = x.clone()
    torch.testing.assert_close(action(group.identity, x), x, rtol=0, atol=0)
    some = {*group.generators, *list(group)[-4:]}
    for g in some:
        for h in group:
            torch.testing.assert_close(action(g @ h, x), action(g, action(h, x)))
        for name in (g, str(g), g.index):
            torch.testing.assert_close(action.undo(name, action(g, x)), x)
    assert torch.equal(x, before)  # nothing happens in place
    action.check(x)
    views = action.views(x)
    assert views.dtype == x.dtype
    for g, view in zip(group, views.split(len(x)), strict=True):  # g slowest
        assert torch.equal(view, action(g, x))


@settings(deadline=None, max_examples=25)
@given(permutation_groups(4))
def test_random_permutation_groups_act(group):
    x = torch.randn(2, group.permutations.shape[1], 3)
    for action in (eq.Permutation(group, dim=1), eq.TokenPermutation(group), eq.Regular(group, 1)):
        y = torch.arange(action.degree)[None] if isinstance(action, eq.TokenPermutation) else x
        if isinstance(action, eq.Regular):
            y = torch.randn(2, len(group), 3)
        for g in group:
            for h in group:
                assert torch.equal(action(g @ h, y), action(g, action(h, y)))


@pytest.mark.parametrize(("action", "x"), FLOATS)
def test_gradients_move_back(action, x):
    """The transpose of an orthogonal action is that of the inverse."""
    group = action.group
    g, cotangent = list(group)[-1], torch.randn_like(x)
    x = x.clone().requires_grad_()
    (action(g, x) * cotangent).sum().backward()
    torch.testing.assert_close(x.grad, action(~g, cotangent))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_actions_leave_no_trace_in_a_state_dict(case):
    assert not case.ins.state_dict() and not list(case.ins.parameters())
    x = case.x()
    g = list(case.ins.group)[-1]
    half = copy.deepcopy(case.ins).half()  # integers stay integers, matrices keep their precision
    assert torch.equal(half(g, x), case.ins(g, x))


def test_permutations_follow_the_device():
    action = eq.Permutation(C4).to("meta")
    assert action.perms.device.type == "meta" and action.perms.dtype == torch.long
    assert eq.Permutation(C4)("r", torch.ones(2, 4, device="meta")).shape == (2, 4)


# -- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_turns_and_mirrors_are_the_index_formulas(n, dtype):
    """r^k s: first mirrored, then k quarter turns; every image and channel by itself."""
    x = numbers(2, 3, n, n, dtype=dtype)
    action = eq.Rotations(D4)
    for mirrored in (False, True):
        for k in range(4):
            got = action(4 * mirrored + k, x)
            assert got.dtype == dtype
            for b in range(2):
                for c in range(3):
                    image = x[b, c].tolist()
                    image = mirror(image) if mirrored else image
                    for _ in range(k):
                        image = turn(image)
                    assert got[b, c].tolist() == image


def test_a_quarter_turn_by_hand():
    image = torch.tensor([[1, 2], [3, 4]])
    assert eq.Rotations(C4)("r", image).tolist() == [[2, 4], [1, 3]]  # counter-clockwise
    assert eq.Rotations(C4)("r3", image).tolist() == [[3, 1], [4, 2]]
    assert eq.Rotations(D4)("s", image).tolist() == [[2, 1], [4, 3]]
    assert eq.Rotations(D4)("rs", image).tolist() == [[1, 3], [2, 4]]  # the transpose


def test_c4_is_the_rotations_of_d4():
    x = torch.randn(2, 5, 5)
    for k in range(4):
        assert torch.equal(eq.Rotations(C4)(k, x), eq.Rotations(D4)(k, x))


def test_the_half_turn_keeps_rectangles():
    x = numbers(2, 3, 5)
    y = eq.Rotations(C2)("r", x)
    assert all(
        y[b, i, j] == x[b, 2 - i, 4 - j] for b in range(2) for i in range(3) for j in range(5)
    )
    assert torch.equal(eq.Rotations(eq.cyclic(1))("e", x), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flip_flips_one_axis_only(dtype):
    x = numbers(2, 3, 4, 5, dtype=dtype)
    sideways, upside = eq.Flip("horizontal")("r", x), eq.Flip("vertical")("r", x)
    for i in range(4):
        for j in range(5):
            assert torch.equal(sideways[..., i, j], x[..., i, 4 - j])
            assert torch.equal(upside[..., i, j], x[..., 3 - i, j])
    assert sideways.dtype == upside.dtype == dtype
    assert torch.equal(eq.Flip()("r", x), sideways)
    assert torch.equal(eq.Rotations(C2)("r", x), eq.Flip("vertical")("r", sideways))


@pytest.mark.parametrize(
    ("action", "height", "width"),
    [
        (eq.Rotations(C4), 3, None),
        (eq.Rotations(D4), 4, None),
        (eq.Rotations(C2), 2, 5),
        (eq.Flip(), 3, 4),
        (eq.Flip("vertical"), 3, 4),
    ],
)
def test_on_pixels_is_the_same_action_on_flat_images(action, height, width):
    pixels = action.on_pixels(height, width)
    x = torch.randn(2, 3, height, width or height)
    assert pixels.degree == x[0, 0].numel()
    for g in action.group:
        assert torch.equal(pixels(g, x.flatten(2)), action(g, x).flatten(2))


# -- permutations -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool])
@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_an_entry_moves_to_where_g_sends_its_index(dim, dtype):
    """(g x)[g i] = x[i]."""
    x = numbers(4, 4, dtype=dtype)
    action = eq.Permutation(S4, dim=dim)
    for g in S4:
        y = action(g, x)
        assert y.dtype == dtype
        for i, gi in enumerate(S4.permutations[g.index].tolist()):
            assert torch.equal(y.select(dim, gi), x.select(dim, i))


def test_the_regular_representation():
    x = torch.randn(3, 6)
    for g in D3:
        y = eq.Regular(D3)(g, x)
        for h in D3:
            assert torch.equal(y[:, (g @ h).index], x[:, h.index])
    assert torch.equal(eq.Regular(C3).perms, eq.Permutation(C3).perms)  # C3's natural one is it


def test_tokens_are_the_input_side_of_a_permutation_of_scores():
    """one_hot(g ids) = g one_hot(ids)."""
    ids = torch.randint(0, 4, (3, 5))
    for g in S4:
        moved = eq.TokenPermutation(S4)(g, ids)
        assert torch.equal(moved, S4.permutations[g.index][ids])
        one_hot = torch.nn.functional.one_hot(ids, 4)
        assert torch.equal(torch.nn.functional.one_hot(moved, 4), eq.Permutation(S4)(g, one_hot))
    assert eq.TokenPermutation(S4)("(0 1)", ids.to(torch.int32)).dtype == torch.int32


def test_rows_for_generators_are_enough():
    assert eq.Permutation(C4, {"r": [1, 2, 3, 0]}).perms.tolist() == PERM_C4
    corners = {g: D4.permutations[D4.index(g)].tolist() for g in ("s", "r")}
    assert torch.equal(eq.Permutation(D4, corners).perms, D4.permutations)
    assert torch.equal(eq.TokenPermutation(D4, corners).perms, D4.permutations)
    tensors = {g: torch.tensor(row) for g, row in corners.items()}
    assert torch.equal(eq.Permutation(D4, tensors).perms, D4.permutations)


def test_rows_are_copied():
    rows = torch.tensor(PERM_C4)
    action = eq.Permutation(C4, rows)
    rows[1] = 0
    assert action.perms.tolist() == PERM_C4


@pytest.mark.parametrize("make", [eq.Permutation, eq.TokenPermutation])
@pytest.mark.parametrize(
    ("group", "perms", "message"),
    [
        (C4, [[0, 1], [1, 0]], r"each of the 4 elements needs one row .* got shape \(2, 2\)"),
        (C4, [0, 1, 2, 3], r"got shape \(4,\)"),
        (C4, [[0.0, 1.0]] * 4, "dtype torch.float32"),
        (C4, [[0, 1], [1, 0], [0, 1], [1]], "all of the same length"),
        (C4, [[0, 1], [1, 1], [0, 1], [1, 0]], "the row of element r is not a permutation of 0..1"),
        (C4, [[0, 1], [1, 2], [0, 1], [2, 1]], "the row of element r is not a permutation of 0..1"),
        (C4, [PERM_C4[1]] * 4, "the identity must move nothing"),
        # r and r3 exchanged is an action of the abelian C4; r and r2 exchanged is none
        (C4, [PERM_C4[i] for i in (0, 2, 1, 3)], r"the permutation of r r = r2 differs"),
        (C3, {"r": [1, 0]}, "not an action of C3"),  # of order two
        (C4, {"r2": [1, 0, 3, 2]}, "r2 do not generate C4 .* r is not a product of them.*e.g. r"),
        (C4, {"r": [1, 2, 3, 9]}, "the row of element r is not a permutation of 0..3"),
        (D4, {"s": [0, 3, 2, 1], "r": [1, 2, 3, 9]}, "the row of element r is not a permutation"),
        (D4, {"s": [0, 3, 2, 1], "r": [1, 2, 0]}, "all of the same length"),
        (
            C4,
            {"r": [1, 2, 3, 0], "r2": [0, 1, 2, 3]},
            "not an action of C4",
        ),  # given twice, at odds
        (C4, {}, "needs one row"),
        (S3, torch.zeros(6, 3, 3).long(), r"got shape \(6, 3, 3\)"),
    ],
)
def test_rows_that_are_no_action_are_refused(make, group, perms, message):
    with pytest.raises(ValueError, match=message):
        make(group, perms)


def test_an_inverse_in_place_of_g_is_refused_where_it_matters():
    """Rows of g^-1 for g reverse the order: no action of D4, but one of the abelian C4."""
    with pytest.raises(ValueError, match="not an action of D4"):
        eq.Permutation(D4, D4.permutations[D4.inverses])
    eq.Permutation(C4, torch.tensor(PERM_C4)[C4.inverses])


def test_a_table_read_the_wrong_way_is_refused():
    """h -> h g, the transposed table, is no left action of a non-abelian group."""
    with pytest.raises(ValueError, match="not an action of D3"):
        eq.Permutation(D3, D3.table.T)


# -- matrices, functions, products ------------------------------------------------------------


@pytest.mark.parametrize("group", [C3, C4, eq.cyclic(5), D3, D4, D5], ids=repr)
def test_rotation_matrices(group):
    rho = eq.rotation_matrices(group)
    assert rho.shape == (len(group), 2, 2) and rho.dtype == torch.float64
    n = next(g for g in group if g.name == "r").order
    angle = torch.tensor(2 * torch.pi / n, dtype=torch.float64)
    r = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    s = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    for k in range(len(group)):  # e, r, r2, ..., s, rs, r2s, ...
        expected = torch.linalg.matrix_power(r, k % n) @ (s if k >= n else s @ s)
        torch.testing.assert_close(rho[k], expected)


def test_a_matrix_acts_along_its_dimension():
    rho = eq.rotation_matrices(D3)
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    for g in D3:
        expected = torch.einsum("ij,bjc->bic", rho[g.index], x)
        torch.testing.assert_close(eq.MatrixAction(D3, rho, dim=1)(g, x), expected)
        torch.testing.assert_close(eq.MatrixAction(D3, rho, dim=-2)(g, x), expected)
    single = eq.MatrixAction(D3, rho)("r", x[..., :2].float())
    assert single.dtype == torch.float32


def test_permutation_matrices_act_as_the_permutation():
    matrices = torch.zeros(len(S4), 4, 4, dtype=torch.long)
    for g, row in enumerate(S4.permutations.tolist()):
        for i, gi in enumerate(row):
            matrices[g, gi, i] = 1
    x = torch.randn(2, 4)
    for g in S4:
        assert torch.equal(eq.MatrixAction(S4, matrices)(g, x), eq.Permutation(S4)(g, x))


def test_a_users_function():
    action = eq.FunctionAction(C4, lambda g, x: x.roll(g.index, -1), torch.randn(2, 4))
    x = torch.randn(3, 8)  # of order 8 along this dimension, but the sample was of order 4
    assert torch.equal(action("r", x), x.roll(1, -1))


def test_the_reverse_order_is_refused_for_d4_and_fine_for_abelian_c4():
    """x -> g^-1 x turns every product around."""
    sample = torch.randn(1, 4, 4)
    d4, c4 = eq.Rotations(D4), eq.Rotations(C4)
    with pytest.raises(
        ValueError, match=r"\((\w+) (\w+)\) x differs from \1 \(\2 x\).*reverse order"
    ):
        eq.FunctionAction(D4, lambda g, x: d4(~g, x), sample)
    eq.FunctionAction(C4, lambda g, x: c4(~g, x), sample)


def test_turns_that_ignore_the_table_are_refused():
    """Quarter turns by the element's number know nothing of the mirror images."""
    with pytest.raises(ValueError, match="must be a homomorphism"):
        eq.FunctionAction(D4, lambda g, x: x.rot90(g.index, (-2, -1)), torch.randn(1, 4, 4))


def test_the_order_of_mirror_and_turn_matters():
    def turned_then_mirrored(g, x):
        x = x.rot90(g.index % 4, (-2, -1))
        return x.flip(-1) if g.index >= 4 else x

    with pytest.raises(ValueError, match="not an action of D4"):
        eq.FunctionAction(D4, turned_then_mirrored, torch.randn(1, 4, 4))


def test_a_product_acts_with_both_factors():
    group = eq.direct_product(C4, S3)
    action = eq.ProductAction(
        group, [eq.Rotations(C4), eq.Permutation(S3, dim=1)], torch.randn(1, 3, 4, 4)
    )
    x = torch.randn(2, 3, 4, 4)
    for g in group:
        turns, colour = (int(group.components(i)[g.index]) for i in (0, 1))
        expected = eq.Permutation(S3, dim=1)(colour, x).rot90(turns, (-2, -1))
        assert torch.equal(action(g, x), expected)
    both = eq.ProductAction(
        eq.direct_product(C2, C2), [eq.Flip(), eq.Flip("vertical")], torch.randn(1, 2, 3)
    )
    assert torch.equal(both("(r, r)", x), eq.Rotations(C2)("r", x))


# -- bad input --------------------------------------------------------------------------------

ROT = eq.Rotations(C4)


class Shifted(eq.Action):
    """No action: the identity moves everything."""

    def act(self, g, x):
        return x + 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: eq.Trivial(4), TypeError, r"an action needs a FiniteGroup first.* got int"),
        (lambda: eq.Rotations(C3), ValueError, "needs cyclic.4. or dihedral.4.*got C3"),
        (lambda: eq.Rotations(D3), ValueError, "got D3"),
        (lambda: eq.Rotations(eq.direct_product(C2, C2)), ValueError, "got C2 x C2"),
        (lambda: eq.Flip("both"), ValueError, '"horizontal".*"vertical".*got \'both\''),
        (
            lambda: ROT("r", torch.ones(2, 3, 4)),
            ValueError,
            r"square images.*got shape \(2, 3, 4\)",
        ),
        (lambda: ROT.views(torch.ones(2, 3, 4)), ValueError, "Crop or pad to a square first"),
        (lambda: ROT("r", torch.ones(4)), ValueError, r"got shape \(4,\)"),
        (lambda: ROT.on_pixels(3, 4), ValueError, "square"),
        (lambda: eq.Flip()("r", torch.ones(4)), ValueError, "acts on the last two dimensions"),
        (lambda: ROT("s", torch.ones(2, 2)), KeyError, "no element 's'"),
        (lambda: ROT(C3["r"], torch.ones(2, 2)), ValueError, "an element of C3"),
        (
            lambda: eq.Permutation(S4)(0, torch.ones(2, 5)),
            ValueError,
            r"permutes 4 entries along dimension -1, but the tensor has shape \(2, 5\)",
        ),
        (lambda: eq.Permutation(S4, dim=2)(0, torch.ones(2, 4)), ValueError, "along dimension 2"),
        (lambda: eq.Permutation(S4, dim=-3)(0, torch.ones(2, 4)), ValueError, "dimension -3"),
        (
            lambda: eq.TokenPermutation(S4)(0, torch.tensor([[0, 4]])),
            ValueError,
            "token id 4 is outside the vocabulary of 4 tokens",
        ),
        (lambda: eq.TokenPermutation(S4)(0, torch.tensor([-1])), ValueError, "token id -1"),
        (lambda: eq.TokenPermutation(S4)(0, torch.ones(3)), ValueError, "integer ids, got dtype"),
        (lambda: eq.TokenPermutation(S4)(0, torch.ones(3) > 0), ValueError, "dtype torch.bool"),
        (
            lambda: eq.MatrixAction(C3, torch.eye(2)),
            ValueError,
            r"one square matrix per element, shape \(3, n, n\), got \(2, 2\)",
        ),
        (lambda: eq.MatrixAction(C3, torch.ones(3, 2, 3)), ValueError, r"got \(3, 2, 3\)"),
        (lambda: eq.MatrixAction(C3, 1.0), ValueError, r"got \(\)"),
        (lambda: eq.MatrixAction(C3, torch.zeros(3, 2, 2)), ValueError, "the identity e moves"),
        (
            lambda: eq.MatrixAction(C3, eq.rotation_matrices(C4)[:3]),
            ValueError,
            "not an action of C3",
        ),
        (
            lambda: eq.MatrixAction(D3, eq.rotation_matrices(D3).transpose(1, 2)),
            ValueError,
            "not an action of D3",
        ),
        (lambda: eq.MatrixAction(C3, torch.ones(3, 1, 1) * 1j), ValueError, "must be real"),
        (
            lambda: eq.MatrixAction(C3, eq.rotation_matrices(C3))(0, torch.ones(2, 3)),
            ValueError,
            r"acts on 2 real numbers along dimension -1, but the tensor has shape \(2, 3\)",
        ),
        (
            lambda: eq.MatrixAction(C3, eq.rotation_matrices(C3))(0, torch.ones(2, 2).long()),
            ValueError,
            "dtype torch.int64",
        ),
        (lambda: eq.rotation_matrices(C2), ValueError, "n >= 3; got C2"),
        (lambda: eq.rotation_matrices(S3), ValueError, "got S3"),
        (lambda: eq.FunctionAction(C4, lambda g, x: x, None), ValueError, "needs a sample tensor"),
        (lambda: eq.FunctionAction(C4, lambda g, x: x, torch.ones(0)), ValueError, "sample tensor"),
        (
            lambda: eq.FunctionAction(C4, lambda g, x: x[:, : 4 - g.index], torch.ones(1, 4)),
            ValueError,
            r"of the shape of its input \(1, 4\); for r it returned \(1, 3\)",
        ),
        (lambda: eq.FunctionAction(C4, lambda g, x: None, torch.ones(1)), ValueError, "NoneType"),
        (
            lambda: eq.FunctionAction(C4, lambda g, x: x + 1, torch.rand(1, 4)),
            ValueError,
            "the identity e moves the sample",
        ),
        (lambda: Shifted(C4).check(torch.ones(2)), ValueError, "the identity e moves the sample"),
        (
            lambda: eq.ProductAction(
                eq.direct_product(C4, C2), [eq.Flip(), ROT], torch.ones(1, 4, 4)
            ),
            ValueError,
            "one action for each factor, in the same order",
        ),
        (lambda: eq.ProductAction(C4, [ROT], torch.ones(1, 4, 4)), ValueError, "has the factors"),
        (
            lambda: eq.ProductAction(
                eq.direct_product(C4, C2), [ROT, eq.Flip()], torch.randn(1, 4, 4)
            ),
            ValueError,
            "the actions of the factors do not commute on the sample",
        ),
        (
            lambda: eq.ProductAction(
                eq.direct_product(C4, C2), [ROT, eq.Trivial(C2)], torch.randn(1, 4, 5)
            ),
            ValueError,
            "^a turn by 90 degrees needs square images",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_action_is_of_a_group_and_moves_tensors():
    with pytest.raises(TypeError, match=r"needs a FiniteGroup first.*got int"):
        eq.Trivial(3)
    with pytest.raises(TypeError, match="an action moves tensors, got list"):
        eq.Trivial(eq.cyclic(3))("r", [1.0])
    with pytest.raises(NotImplementedError):
        eq.Action(eq.cyclic(3))("r", torch.ones(1))
    with pytest.raises(ValueError, match="the identity e moves the sample"):  # it adds a row
        Longer(eq.cyclic(3)).check(torch.ones(1))


class Longer(eq.Action):
    def act(self, g, x):
        return torch.cat([x, x])


def test_an_action_says_what_it_acts_on():
    assert "C4 (order 4)" in repr(ROT)
    assert "degree=4, dim=1" in repr(eq.Permutation(S4, dim=1))
    assert "degree=4" in repr(eq.TokenPermutation(S4))


def test_a_function_that_works_in_place_is_refused():
    """All its views would be one tensor, and every law would seem to hold."""

    def mirror(g, x):
        if g.index:
            x[..., 0] *= -1
        return x

    sample = torch.randn(2, 4)
    before = sample.clone()
    with pytest.raises(ValueError, match="must not change its input"):
        eq.FunctionAction(eq.cyclic(2), mirror, sample)
    assert torch.equal(sample, before)


def test_a_representation_keeps_its_precision_under_autocast():
    plane = eq.MatrixAction(D5, eq.rotation_matrices(D5))
    x = torch.randn(4, 2)
    expected = plane.views(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = plane.views(x)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_tables_do_not_follow_the_default_device():
    """They are indices for the CPU; whoever builds models on a GPU, or on none, meets the same."""
    lists = (("look", "run"), ("LOOK", "RUN")), (("left", "right"), ("TURN_LEFT", "TURN_RIGHT"))

    def made():
        groups = eq.cyclic(4), eq.dihedral(3), eq.symmetric(3), eq.direct_product(C2, C3)
        groups += (eq.permutation_group([(1, 2, 0)]),)
        for group in groups:
            yield from (group.table, group.permutations, group.inverses)
            yield from (eq.Regular(group).perms, eq.TokenPermutation(group).perms)
        yield groups[3].components(1)
        yield torch.tensor([g.index for g in groups[1].generators], device="cpu")
        yield eq.Permutation(C4, {"r": [1, 2, 3, 0]}).perms
        yield eq.Rotations(C4).on_pixels(3).perms
        yield eq.rotation_matrices(D5)
        yield eq.Regular(S3).perms
        words = word_symmetry(COMMANDS, ACTIONS, *lists)
        yield from (words.source, words.target)

    with torch.device("meta"):
        found = list(made())
    for ours, usual in zip(found, made(), strict=True):
        assert ours.device.type == "cpu" and torch.equal(ours, usual)


# -- signs --------------------------------------------------------------------------------------


SIGNS = [
    eq.Sign(C2),
    eq.Sign(C3),
    eq.Sign(S3),
    eq.Sign(S4),
    eq.Sign(D4, {"r": 1, "s": -1}),
    eq.Sign(D4, {"r": -1, "s": 1}),
    eq.Sign(D5, {"r": 1, "s": -1}),
    eq.Sign(eq.direct_product(C2, C2), [1, -1, -1, 1]),
    eq.Sign(eq.cyclic(1)),
]


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.complex64])
def test_signs_obey_the_laws(sign, dtype):
    x = (10 * torch.randn(3, 2)).to(dtype)
    sign.check(x)
    assert sign("e" if "e" in sign.group.names else 0, x).equal(x)
    for g in sign.group:
        assert sign(g, x).equal(x) or sign(g, x).equal(-x)
        assert sign(g, sign(~g, x)).equal(x)
    assert not list(sign.parameters()) and not sign.state_dict()


def test_the_sign_representation_is_the_determinant():
    for group in (C2, S3, S4):
        P = torch.eye(group.permutations.shape[1])[group.permutations]
        assert eq.Sign(group).signs == torch.linalg.det(P).round().int().tolist()
    assert eq.Sign(D4, {"r": 1, "s": -1}).signs == [1] * 4 + [-1] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eq.Sign(C3, {"r": -1}), r"sign\(g h\) = sign\(g\) sign\(h\).* r "),
        (lambda: eq.Sign(C4, [1, 1, -1, 1]), r"sign\(g h\) = sign\(g\) sign\(h\).*r"),
        (lambda: eq.Sign(C4, [1, -1]), "one for each element"),
        (lambda: eq.Sign(C4, {"r": 2}), r"each sign must be 1 or -1, got \[2\]"),
        (lambda: eq.Sign(D4, {"s": -1}), "s do not generate D4"),
        (lambda: eq.Sign(C2)("r", torch.ones(2, dtype=torch.uint8)), "signed numbers, got dtype"),
        (lambda: eq.Sign(C2)("r", torch.ones(2) > 0), "signed numbers, got dtype torch.bool"),
    ],
)
def test_what_is_no_sign(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_score_that_changes_sides():
    """Swapping the players turns the value around: one line in place of three objects."""
    swap, net = eq.Permutation(C2), torch.nn.Linear(2, 1)
    value = eq.equitune(net, swap, eq.Sign(C2))
    x = torch.randn(5, 2)
    torch.testing.assert_close(value(x.flip(-1)), -value(x))
    torch.testing.assert_close(value(x), (net(x) - net(x.flip(-1))) / 2)
