"""The groups, actions and random nets that the tests of the core run over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import equitutor as eq

C2, C3, C4 = eq.cyclic(2), eq.cyclic(3), eq.cyclic(4)
D3, D4, D5 = eq.dihedral(3), eq.dihedral(4), eq.dihedral(5)
S3, S4 = eq.symmetric(3), eq.symmetric(4)
A4 = eq.permutation_group([[1, 2, 0, 3], [0, 2, 3, 1]], "A4")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


class Net(nn.Module):
    """A random net with no symmetry: (ids ->) flatten -> hidden -> tanh -> the output's shape."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], vocabulary: int = 0):
        super().__init__()
        self.out_shape = out_shape
        self.embed = nn.Embedding(vocabulary, 4) if vocabulary else nn.Identity()
        self.inner = nn.Linear(math.prod(in_shape) * (4 if vocabulary else 1), 24)
        self.hidden = nn.Tanh()
        self.outer = nn.Linear(24, math.prod(out_shape))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(self.inner(self.embed(x).flatten(1)))
        return self.outer(hidden).unflatten(1, self.out_shape)


@dataclass(frozen=True)
class Case:
    """A pair of actions, and the shapes (without the batch) that they act on."""

    name: str
    ins: eq.Action
    outs: eq.Action | None
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    vocabulary: int = 0

    def x(self, dtype: torch.dtype = torch.float32, batch: int = 3) -> Tensor:
        if self.vocabulary:
            return torch.randint(self.vocabulary, (batch, *self.in_shape))
        return torch.randn(batch, *self.in_shape, dtype=dtype)

    def net(self, dtype: torch.dtype = torch.float32) -> Net:
        return Net(self.in_shape, self.out_shape, self.vocabulary).to(dtype).eval()


def _vocabulary(group: eq.FiniteGroup, words: int) -> Tensor:
    """The group's own permutation of the first words; the other words stay where they are."""
    degree = group.permutations.shape[1]
    rest = torch.arange(degree, words).expand(len(group), -1)
    return torch.cat([group.permutations, rest], 1)


SIDES = {"r": 1, "s": -1}  # mirror images change sides, turns do not


def _cases() -> list[Case]:
    rot4, rot8, half = eq.Rotations(C4), eq.Rotations(D4), eq.Rotations(C2)
    image = (2, 4, 4)
    colours = eq.direct_product(C4, S3)
    turn_and_colour = eq.ProductAction(
        colours, [rot4, eq.Permutation(S3, dim=-3)], torch.randn(1, 3, 4, 4)
    )
    cube = eq.direct_product(C2, C3, C4)
    along = eq.ProductAction(
        cube,
        [eq.Regular(g, dim) for g, dim in zip((C2, C3, C4), (-3, -2, -1), strict=True)],
        torch.randn(1, 2, 3, 4),
    )
    roll = eq.FunctionAction(C4, lambda g, x: x.roll(2 * g.index, -1), torch.randn(1, 8))
    words = _vocabulary(S3, 7)
    plane = eq.MatrixAction(D5, eq.rotation_matrices(D5))
    seventh = eq.MatrixAction(eq.cyclic(7), eq.rotation_matrices(eq.cyclic(7)))
    return [
        Case("c4 invariant", rot4, None, image, (5,)),
        Case("c4 maps", rot4, rot4, image, (3, 2, 2)),
        Case("d4 invariant", rot8, None, image, (5,)),
        Case("d4 maps", rot8, rot8, image, (3, 2, 2)),
        Case("d4 image to corners", rot8, eq.Permutation(D4), image, (4,)),
        Case("half turn", half, half, (2, 3, 5), (2, 4, 3)),
        Case("left-right", eq.Flip(), eq.Flip(), (2, 3, 5), (1, 2, 4)),
        Case("up-down", eq.Flip("vertical"), eq.Flip("vertical"), (2, 3, 5), (1, 4, 2)),
        Case("no group", eq.Rotations(eq.cyclic(1)), None, image, (5,)),
        Case("S4 points", eq.Permutation(S4), eq.Permutation(S4), (4,), (4,)),
        Case("A4 points", eq.Permutation(A4, dim=1), eq.Permutation(A4), (4, 2), (3, 4)),
        Case("S4 regular", eq.Regular(S4), eq.Regular(S4), (24,), (24,)),
        Case("S3 words", eq.TokenPermutation(S3, words), eq.Permutation(S3, words), (5,), (7,), 7),
        Case("D5 plane", plane, plane, (2,), (3, 2)),
        Case("C7 plane", seventh, None, (2,), (5,)),
        Case("C4 x S3 turns and colours", turn_and_colour, turn_and_colour, (3, 4, 4), (3, 4, 4)),
        Case("C2 x C3 x C4", along, along, (2, 3, 4), (2, 3, 4)),
        Case("sign", eq.Permutation(S3), eq.Sign(S3), (3,), (5,)),
        Case("signs", eq.Sign(D4, SIDES), eq.Sign(D4, SIDES), (3,), (2,)),
        Case("own function", roll, roll, (8,), (8,)),
        Case("trivial output", eq.Permutation(D3), eq.Trivial(D3), (3,), (5,)),
    ]


CASES = _cases()


def flat_entropy(y: Tensor) -> Tensor:
    return eq.entropy(y.flatten(1))


def flat_top(y: Tensor) -> Tensor:
    return eq.top_probability(y.flatten(1))


def flat_max(y: Tensor) -> Tensor:
    return eq.max_value(y.flatten(1))


def _lambda_on_output(net, ins, outs):
    lam = eq.LambdaNet(math.prod(net.out_shape), hidden=8).to(net.outer.weight.dtype)
    return eq.lambda_equitune(net, ins, outs, weight_net=lam)


def _lambda_on_hidden(net, ins, outs):
    lam = eq.LambdaNet(24, hidden=8).to(net.outer.weight.dtype)
    return eq.lambda_equitune(net, ins, outs, weight_net=lam, features="hidden")


def _attention(net, ins, outs):
    wrapped = eq.equiattention(net, ins, outs, dim=24, key_dim=6, features="hidden")
    return wrapped.to(net.outer.weight.dtype)


class Scorer(nn.Module):
    """One number for each input of a :class:`Net` like another."""

    def __init__(self, like: Net):
        super().__init__()
        embed = like.embed
        ids = getattr(embed, "num_embeddings", 0)
        width = like.inner.in_features // (embed.embedding_dim if ids else 1)
        self.net = Net((width,), (1,), ids).to(like.outer.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _canonical(net, ins, outs):
    return eq.canonicalize(net, ins, outs, chooser=Scorer(net))


def _canonical_by_equivariant(net, ins, outs):
    chooser = eq.RegularFeatures(Scorer(net), ins)  # (B, |G|, 1)
    chooser = nn.Sequential(chooser, nn.Flatten())
    chooser.equivariant = True
    return eq.canonicalize(net, ins, outs, chooser=chooser)


class AboveMean(nn.Module):
    """A frame: the orientations that score as the mean of all or more."""

    def __init__(self, scores: nn.Module):
        super().__init__()
        self.scores = scores

    def forward(self, *args: Tensor) -> Tensor:
        value = self.scores(*args)[..., 0]
        return value >= value.mean(1, keepdim=True) - 1e-4


def _framed(net, ins, outs):
    return eq.frame_average(net, ins, outs, frame=AboveMean(eq.RegularFeatures(Scorer(net), ins)))


def _stochastic(net, ins, outs):
    return eq.stochastic_average(net, ins, outs, chooser=Scorer(net), samples=len(ins.group))


#: Every way of making a net equivariant: name -> (net, in_action, out_action) -> wrapper.
METHODS = {
    "equitune": eq.equitune,
    "equizero entropy": lambda m, i, o: eq.equizero(m, i, o, loss=flat_entropy),
    "equizero top": lambda m, i, o: eq.equizero(m, i, o, loss=flat_top),
    "equizero max": lambda m, i, o: eq.equizero(m, i, o, loss=flat_max),
    "lambda on output": _lambda_on_output,
    "lambda on hidden": _lambda_on_hidden,
    "equiattention": _attention,
    "canonicalize": _canonical,
    "canonicalize, equivariant chooser": _canonical_by_equivariant,
    "frame average": _framed,
    "stochastic average of all": _stochastic,
    "regular features": eq.RegularFeatures,
}


@st.composite
def permutation_groups(draw, max_degree: int = 5):
    """Random permutation groups: one or two random generators on a few points."""
    degree = draw(st.integers(2, max_degree))
    generators = draw(st.lists(st.permutations(range(degree)), min_size=1, max_size=2))
    return eq.permutation_group(generators)
