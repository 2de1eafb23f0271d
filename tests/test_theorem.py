"""Equi-tuning is the closest equivariant map: eq. 1 solved by brute force on small finite domains.

minimise sum_x sum_g |M(g x) - f(g x)|^2 over all f with f(g x) = g f(x), for all x and g.

On a finite G-set X, f is a table of |X| m numbers and the constraints are linear, so the problem is
a least squares problem in the null space of a matrix. No group average is used in solving it.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import C3, C4, D3, D4, S3, permutation_groups

import equitutor as eq


class Table(nn.Module):
    """The model M on a finite domain: any numbers at all."""

    def __init__(self, values: Tensor):
        super().__init__()
        self.values = values

    def forward(self, ids: Tensor) -> Tensor:
        return self.values[ids]


def domain(group: eq.FiniteGroup, *parts: Tensor) -> eq.TokenPermutation:
    """A finite G-set: the disjoint union of the given ones, (|G|, n) rows each."""
    rows, shift = [], 0
    for part in parts:
        rows.append(part + shift)
        shift += part.shape[1]
    return eq.TokenPermutation(group, torch.cat(rows, 1))


def solve(values: Tensor, points: eq.TokenPermutation, outs: eq.Action) -> Tensor:
    """The minimiser of eq. 1, (|X|, m), from its constraints alone."""
    size, m = values.shape
    group = points.group
    rho = torch.stack([outs(g, torch.eye(m, dtype=values.dtype)).T for g in group])
    rows, objective = [], torch.zeros(size, dtype=values.dtype)
    for g in range(len(group)):
        for x in range(size):
            gx = int(points.perms[g, x])
            objective[gx] += 1  # how often |M(y) - f(y)|^2 occurs in the double sum
            row = torch.zeros(m, size, m, dtype=values.dtype)  # f(g x) - rho(g) f(x) = 0
            row[:, gx] += torch.eye(m, dtype=values.dtype)
            row[:, x] -= rho[g]
            rows.append(row.reshape(m, -1))
    _, s, vh = torch.linalg.svd(torch.cat(rows))
    free = vh[int((s > 1e-9).sum()) :].T  # the columns span all equivariant f
    scale = objective.sqrt().repeat_interleave(m)[:, None]
    z = torch.linalg.lstsq(scale * free, scale * values.reshape(-1, 1)).solution
    return (free @ z).reshape(size, m)


def closest(values: Tensor, points: eq.TokenPermutation, outs: eq.Action) -> tuple[Tensor, Tensor]:
    """The brute-force minimiser and equitune, on the whole domain."""
    found = eq.equitune(Table(values), points, outs)(torch.arange(len(values)))
    return solve(values, points, outs), found


def fixed(group: eq.FiniteGroup, n: int = 2) -> Tensor:
    """n points that nothing moves."""
    return torch.arange(n).expand(len(group), n)


CASES = {
    "C3 on numbers, turning the plane": (
        domain(C3, C3.table, fixed(C3)),
        eq.MatrixAction(C3, eq.rotation_matrices(C3)),
    ),
    "C4 on two orbits, permuting scores": (
        domain(C4, C4.table, eq.Rotations(C4).on_pixels(3).perms),
        eq.Permutation(C4),
    ),
    "C4 on pixels, turning the plane": (
        domain(C4, eq.Rotations(C4).on_pixels(2).perms, fixed(C4)),
        eq.MatrixAction(C4, eq.rotation_matrices(C4)),
    ),
    "D3 on corners, turning the plane": (
        domain(D3, D3.permutations, fixed(D3)),
        eq.MatrixAction(D3, eq.rotation_matrices(D3)),
    ),
    "D4 on pixels, permuting corners": (
        domain(D4, eq.Rotations(D4).on_pixels(3).perms),
        eq.Permutation(D4),
    ),
    "D4 on itself, turning the plane": (
        domain(D4, D4.table, D4.permutations),
        eq.MatrixAction(D4, eq.rotation_matrices(D4)),
    ),
    "S3 on itself, permuting scores": (domain(S3, S3.table, S3.permutations), eq.Permutation(S3)),
    "S3 on points, invariant": (domain(S3, S3.permutations, fixed(S3)), None),
}


@pytest.mark.parametrize("name", CASES)
def test_equitune_is_the_minimiser(name):
    torch.manual_seed(0)
    points, outs = CASES[name]
    outs = eq.Trivial(points.group) if outs is None else outs
    m = 2 if isinstance(outs, eq.MatrixAction) else getattr(outs, "degree", 3)
    values = torch.randn(points.degree, m, dtype=torch.float64)
    brute, found = closest(values, points, outs)
    assert (brute - found).abs().max() <= 1e-10
    assert (values - found).abs().max() > 0.1  # M itself was not equivariant
    # any other equivariant map is farther away
    other = eq.equitune(Table(torch.randn_like(values)), points, outs)(torch.arange(len(values)))
    for step in (1e-3, 1e-2, 1.0):
        nearby = found + step * other
        assert ((values - nearby) ** 2).sum() > ((values - found) ** 2).sum()


@settings(deadline=None, max_examples=15)
@given(permutation_groups(4), st.integers(0, 2**16))
def test_on_random_domains(group, seed):
    torch.manual_seed(seed)
    points = domain(group, group.permutations, fixed(group, 1))
    values = torch.randn(points.degree, group.permutations.shape[1], dtype=torch.float64)
    brute, found = closest(values, points, eq.Permutation(group))
    assert (brute - found).abs().max() <= 1e-10


def test_it_needs_an_orthogonal_representation():
    """Negative control: in a skewed basis the average is equivariant, but not the closest map."""
    torch.manual_seed(0)
    skew = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    rho = skew @ eq.rotation_matrices(D3) @ skew.inverse()
    assert (rho @ rho.transpose(1, 2) - torch.eye(2)).abs().max() > 1
    points, outs = domain(D3, D3.table, D3.permutations), eq.MatrixAction(D3, rho)
    values = torch.randn(points.degree, 2, dtype=torch.float64)
    model = eq.equitune(Table(values), points, outs)
    ids = torch.arange(points.degree)
    brute, found = closest(values, points, outs)
    assert eq.equivariance_error(model, ids) < 1e-12
    assert eq.equivariance_error(Table(brute), ids, points, outs) < 1e-9
    assert (brute - found).abs().max() > 0.1
    assert ((values - brute) ** 2).sum() < ((values - found) ** 2).sum() - 0.1
