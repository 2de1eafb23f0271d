"""Whatever takes a whole number takes numpy's and torch's, and nothing that is not whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zoo import C2, C3, C4

import equitutor as eq

REGULAR, TURNS = eq.Regular(C4), eq.Rotations(C4)


def swapped(i):
    return [[i(0), i(1)], [i(1), i(0)]]


#: What is made with the number of a function, given the int that is right there.
PLACES = {
    "cyclic": lambda i: eq.cyclic(i(4)),
    "dihedral": lambda i: eq.dihedral(i(3)),
    "symmetric": lambda i: eq.symmetric(i(3)),
    "table": lambda i: eq.FiniteGroup(swapped(i)),
    "permutations": lambda i: eq.FiniteGroup([[0, 1], [1, 0]], permutations=swapped(i)),
    "points": lambda i: eq.permutation_group([[i(1), 0]]),
    "max_order": lambda i: eq.permutation_group([[1, 2, 0]], max_order=i(3)),
    "element": lambda i: C4[i(1)],
    "exponent": lambda i: C4["r"] ** i(2),
    "factor": lambda i: eq.direct_product(C2, C3).components(i(1)),
    "acting": lambda i: REGULAR(i(1), torch.arange(4)),
    "rows": lambda i: eq.Permutation(C2, swapped(i)),
    "named rows": lambda i: eq.TokenPermutation(C2, {"r": [i(1), 0]}),
    "dim": lambda i: eq.Permutation(C4, dim=i(1)),
    "dim of Regular": lambda i: eq.Regular(C4, i(1)),
    "dim of MatrixAction": lambda i: eq.MatrixAction(C3, eq.rotation_matrices(C3), i(1)),
    "signs": lambda i: eq.Sign(C2, [1, i(-1)]),
    "named signs": lambda i: eq.Sign(C2, {"r": i(-1)}),
    "ids": lambda i: eq.cycle_group([[[i(1), 2]]], 4),
    "size": lambda i: eq.cycle_group([[[1, 2]]], i(4)),
    "height": lambda i: TURNS.on_pixels(i(3)),
    "width": lambda i: eq.Flip().on_pixels(2, i(3)),
    "argument": lambda i: eq.equitune(nn.Identity(), {i(0): REGULAR}),
    "output": lambda i: eq.equitune(nn.Identity(), REGULAR, {i(0): REGULAR}),
    "in_channels": lambda i: eq.EquivariantLinear(REGULAR, REGULAR, i(2)),
    "out_channels": lambda i: eq.EquivariantLinear(REGULAR, REGULAR, 2, i(3)),
    "channels": lambda i: eq.InvariantHead(TURNS, i(2), 3, 4),
    "size of a map": lambda i: eq.InvariantHead(TURNS, 2, i(3), 4),
    "classes": lambda i: eq.InvariantHead(TURNS, 2, 3, i(4)),
    "regular channels": lambda i: eq.RegularHead(C4, i(2), 3),
    "regular classes": lambda i: eq.RegularHead(C4, 2, i(3)),
    "hidden of RegularHead": lambda i: eq.RegularHead(C4, 2, 3, i(5)),
    "in_features": lambda i: eq.LambdaNet(i(4)),
    "hidden": lambda i: eq.LambdaNet(4, i(5)),
    "features of a view": lambda i: eq.AttentionWeights(i(4)),
    "key_dim": lambda i: eq.equiattention(nn.Identity(), REGULAR, dim=4, key_dim=i(8)),
}
MATRICES = {"table", "permutations", "rows"}
KEYS = {"argument", "output"}
NAMED = {"element", "acting", *KEYS}  # "2" is a name there
NOT_WHOLE = [
    1.5,
    1.0,
    True,
    "2",
    None,
    np.float64(1),
    np.True_,
    torch.tensor(1.0),
    torch.tensor(True),
]
KINDS = {
    "int64": np.int64,
    "int8": np.int8,
    "array": np.array,
    "tensor": torch.tensor,
    "tensor of one": lambda i: torch.tensor([i]),
}


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_whole_number_is_refused(place, value):
    """Naming what was given, unless it is among others."""
    if value is None and place in KEYS | {"width"}:
        pytest.skip("None says something there")
    if value == "2" and place in NAMED:
        with pytest.raises((KeyError, ValueError)):
            PLACES[place](lambda _: value)(torch.ones(1, 4))
        return
    with pytest.raises((TypeError, ValueError)) as error:
        PLACES[place](lambda _: value)
    said = str(error.value)
    assert "whole number" in said or "integers" in said
    if place not in MATRICES:
        plain = value.item() if hasattr(value, "item") else value
        assert f"got {value!r}" in said or f"got {plain!r}" in said


def buffers(made):
    """All that was made, as lists and numbers, drawn from the same seed."""
    if isinstance(made, nn.Module):
        return [b.tolist() for b in (*made.buffers(), *made.parameters())], repr(made)
    if isinstance(made, tuple):
        return [buffers(m) for m in made]
    return made.tolist() if isinstance(made, torch.Tensor) else made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_integers_of_numpy_and_torch_are_integers(place, kind):
    if kind in {"array", "tensor of one"} and place in MATRICES:
        pytest.skip("an array of arrays is another thing")
    if kind == "array" and place in KEYS:
        pytest.skip("arrays are no keys")
    found = []
    for make in (KINDS[kind], int):
        torch.manual_seed(0)
        found.append(buffers(PLACES[place](make)))
    assert found[0] == found[1]


@pytest.mark.parametrize("i", [np.int64, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (lambda i: eq.lambda_equitune(nn.Linear(4, 4), REGULAR, weight_net=eq.LambdaNet(i(4), i(5))), (2, 4)),
        (lambda i: eq.equiattention(nn.Linear(4, 4), REGULAR, dim=i(4), key_dim=i(3)), (2, 4)),
        (lambda i: eq.equitune(nn.Linear(4, 4), eq.Permutation(C4, dim=i(1)), eq.Regular(C4, i(-1))), (2, 4)),
        (lambda i: eq.EquivariantLinear(REGULAR, REGULAR, i(2), i(3)), (2, 2, 4)),
        (lambda i: eq.InvariantHead(TURNS, i(2), i(3), i(4)), (2, 2, 3, 3)),
        (lambda i: eq.RegularHead(C4, i(2), i(3), i(5)), (2, 4, 2)),
    ],
    ids=["lambda", "attention", "permutation", "linear", "invariant head", "regular head"],
)  # fmt: skip
def test_what_is_made_with_them_compiles_in_one_graph(module, shape, i):
    made, x = module(i).eval(), torch.rand(shape)
    torch._dynamo.reset()
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), made(x))


def test_tables_in_arrays_are_checked_by_their_dtype():
    swap = np.array([[0, 1], [1, 0]])
    for given in (swap, torch.tensor(swap), swap.astype(np.uint8), swap.tolist()):
        assert eq.FiniteGroup(given) == C2 == eq.permutation_group(given)
        assert eq.Permutation(C2, {"r": given[1]}).perms.tolist() == swap.tolist()
    for given in (
        swap.astype(float),
        swap.astype(bool),
        torch.tensor(swap) / 1,
        [[False, 1], [1, 0]],
    ):
        with pytest.raises(ValueError, match="integers"):
            eq.FiniteGroup(given)
        with pytest.raises(
            ValueError, match="each of a permutation's points must be a whole number"
        ):
            eq.permutation_group(given)
        with pytest.raises(TypeError, match="each of the row of r must be a whole number"):
            eq.Permutation(C2, {"r": given[0]})
