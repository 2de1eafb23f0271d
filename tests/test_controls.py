"""The check cannot be blind: models that break the law, over all kinds of inputs and outputs, never pass.

And their averages, which keep it, do: else a check that fails everything would look good here.
"""

from __future__ import annotations

import dataclasses
import socket
from collections import OrderedDict, UserDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import BatchFeature
from transformers.modeling_outputs import ImageClassifierOutput
from zoo import C4, D4, S3

import equitutor as eq

ROT = eq.Rotations(C4)
CELLS = eq.Rotations(D4).on_pixels(3)
SIDE, CLASSES = 4, 5


@dataclasses.dataclass
class Batch:
    image: torch.Tensor
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Result:
    scores: object
    note: str = "fine"


Pair = namedtuple("Pair", ["image", "scores"])


def picture(batch=6):
    return torch.randn(batch, 2, SIDE, SIDE)


class Broken(nn.Module):
    """A net without symmetry between a function that unpacks the input and one that packs the output."""

    def __init__(self, unpack=lambda x: x, pack=lambda y: y):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE**2, CLASSES))
        self.unpack, self.pack = unpack, pack

    def forward(self, x):
        return self.pack(self.net(self.unpack(x)))


INPUTS = {  # how a batch of pictures is given -> (packing it, unpacking it in the model)
    "tensor": (lambda x: x, lambda x: x),
    "list of pictures": (lambda x: list(x), torch.stack),
    "tuple of pictures": (lambda x: tuple(x), torch.stack),
    "list of one tensor": (lambda x: [x], lambda b: b[0]),
    "dict": (lambda x: {"image": x}, lambda b: b["image"]),
    "ordered dict": (lambda x: OrderedDict(image=x), lambda b: b["image"]),
    "defaultdict": (lambda x: defaultdict(list, image=x), lambda b: b["image"]),
    "UserDict": (lambda x: UserDict(image=x), lambda b: b["image"]),
    "BatchFeature": (lambda x: BatchFeature({"image": x}), lambda b: b["image"]),
    "dict in a list": (lambda x: [{"image": x}], lambda b: b[0]["image"]),
    "dataclass": (lambda x: Batch(x), lambda b: b.image),
    "namedtuple": (lambda x: Pair(x, None), lambda b: b.image),
    "numpy array": (lambda x: x.numpy(), torch.as_tensor),
    "list of arrays": (lambda x: [p.numpy() for p in x], lambda b: torch.as_tensor(np.stack(b))),
    "dict of an array": (lambda x: {"image": x.numpy()}, lambda b: torch.as_tensor(b["image"])),
    "float64": (lambda x: x.double(), lambda x: x.float()),
    "integers": (lambda x: (10 * x).long(), lambda x: x.float()),
    "booleans": (lambda x: x > 0, lambda x: x.float()),
}
FEW = torch.tensor([1.0, 0, 0, 0, 0])  # only the first score
OUTPUTS = {
    "tensor": lambda y: y,
    "number": lambda y: float(y.sum()),
    "list of numbers": lambda y: y[0].tolist(),
    "array": lambda y: y.detach().numpy(),
    "classes": lambda y: y.argmax(-1),
    "bool": lambda y: y > 0,
    "string": lambda y: "".join("ab"[int(v > 0)] for v in y.flatten()),
    "tuple, good and bad": lambda y: (torch.ones(len(y)), y),
    "list with None": lambda y: [None, y],
    "dict": lambda y: {"constant": torch.ones(len(y)), "scores": y},
    "dict in a dict": lambda y: {"a": {"b": [y]}},
    "UserDict": lambda y: UserDict(scores=y),
    "dataclass": lambda y: Result(y),
    "frozen dataclass with an array": lambda y: Result(y.detach().numpy()),
    "namedtuple": lambda y: Pair(torch.ones(len(y)), y),
    "ModelOutput": lambda y: ImageClassifierOutput(logits=y),
    "sparse": lambda y: y.relu().to_sparse(),
    "one huge constant": lambda y: torch.cat([y, torch.full_like(y[:, :1], -1e9)], 1),
    "one huge number": lambda y: torch.cat([y, 1e12 * torch.ones(len(y), 1)], 1),
    "mostly masks": lambda y: torch.cat([y, torch.full((len(y), 400), -1e9)], 1),
    "masks by addition": lambda y: torch.cat([y, y - 1e9], 1),
    "masks of -inf": lambda y: torch.cat([y, torch.full_like(y, -torch.inf)], 1),
    "masks of the least number": lambda y: torch.cat([y, torch.full_like(y, -3.4e38)], 1),
    "half precision with masks": lambda y: torch.cat([y, torch.full_like(y, -65504)], 1).half(),
    "a large column": lambda y: torch.cat([y, 1e7 * (y.sum(1, keepdim=True) * 0 + 1.5)], 1),
    "a huge row": lambda y: torch.cat([1e8 * torch.ones(1, CLASSES), y]),
    "tiny": lambda y: 1e-12 * y,
    "huge": lambda y: 1e12 * y,
    "complex": lambda y: torch.complex(y, y),
    "nearly constant": lambda y: 100 + y,
    "sometimes infinite": lambda y: torch.where(y > 0, torch.inf, 0.0),
    "sometimes NaN": lambda y: torch.where(y > 0, torch.nan, 0.0),
    "one entry": lambda y: y * FEW,
    "another shape": lambda y: y[: 1 + int(y[0, 0] > 0.1)],
}


def never_passes(model, x, *actions, **options) -> None:
    """It fails, or is refused with a reason."""
    with pytest.raises((AssertionError, ValueError)) as caught:
        eq.assert_equivariant(model, x, *actions, **options)
    assert "not equivariant" in str(caught.value) or isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input(kind):
    pack, unpack = INPUTS[kind]
    x = pack(picture())
    assert eq.equivariance_error(Broken(unpack), (x,), ROT) > 1e-2
    summed = Broken(
        lambda b: unpack(b).flatten(1).sum(1)[:, None, None, None] * torch.ones(2, 4, 4)
    )
    eq.assert_equivariant(summed, (x,), ROT, tol=1e-4)  # it depends on the sum of the pixels alone


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_kind_of_output(kind):
    x = picture()
    never_passes(Broken(pack=OUTPUTS[kind]), x, ROT)
    average = eq.equitune(Broken(), ROT)
    if kind != "sometimes NaN":  # which no model should give
        eq.assert_equivariant(lambda x: OUTPUTS[kind](average(x)), x, ROT)


class Policy(nn.Module):
    """Scores of the moves on a 3 x 3 board, the occupied fields masked."""

    def __init__(self, fill):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.fill = nn.Sequential(nn.Flatten(), nn.Linear(9, 9)), fill

    def forward(self, board):
        return self.net(board).masked_fill(board.flatten(1) != 0, self.fill)


@pytest.mark.parametrize("fill", [-1e9, -1e4, -torch.inf, torch.finfo(torch.float32).min])
def test_a_masked_policy(fill):
    """f(g x) and g f(x) have their masks in the same places, and differ in the scores beside them."""
    rot = eq.Rotations(D4)
    board = torch.randint(-1, 2, (16, 1, 3, 3)).float()
    plain, average = Policy(fill), eq.equitune(Policy(fill), rot, CELLS)
    assert eq.equivariance_error(plain, board, rot, CELLS) > 0.1
    assert eq.equivariance_error(average, board) < 1e-5
    assert eq.equivariance_error(plain, board, rot) > 0.1  # nor is it invariant


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.score = nn.Embedding(9, 4), nn.Linear(4, 9)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        x = x if attention_mask is None else x * attention_mask[..., None]
        return self.score(x.sum(1))


WORDS = eq.TokenPermutation(S3, {"(1 2)": [0, 2, 1, *range(3, 9)], "(0 1)": [1, 0, *range(2, 9)]})
SCORES = eq.Permutation(S3, WORDS.perms)
IDS = torch.tensor([[0, 5, 1], [2, 7, 8]])
MASK = torch.ones(2, 3, dtype=torch.long)


@pytest.mark.parametrize("out", [None, SCORES], ids=["invariant", "scores"])
def test_texts(out):
    for call in [
        IDS,
        (IDS, MASK),
        {"input_ids": IDS, "attention_mask": MASK},
        {"attention_mask": MASK, "input_ids": IDS},  # forward's order counts, not the call's
    ]:
        assert eq.equivariance_error(Text(), call, WORDS, out) > 1e-2
        wrapped = eq.equitune(Text(), WORDS, out)
        eq.assert_equivariant(wrapped, call)
    assert torch.equal(
        wrapped(input_ids=IDS, attention_mask=MASK), wrapped(attention_mask=MASK, input_ids=IDS)
    )


REFUSED = {
    "a text without listed words": (Text(), torch.tensor([[5, 7]]), WORDS, SCORES),
    "the wrong argument": (
        Text(),
        {"input_ids": IDS, "attention_mask": MASK * 5},
        {1: WORDS},
        None,
    ),
    "a constant picture": (Broken(), torch.ones(2, 2, 4, 4), ROT, None),
    "embeddings in place of ids": (
        Text(),
        {"inputs_embeds": torch.randn(2, 3, 4), "attention_mask": MASK},
        WORDS,
        None,
    ),
    "no tensor": (Broken(), ("picture.png",), ROT, None),
    "several tensors in a dict": (
        Broken(lambda b: b["image"]),
        ({"image": picture(), "mask": picture()},),
        ROT,
        None,
    ),
    "a cache": (Broken(pack=lambda y: (y, object())), picture(), ROT, None),
    "nothing": (Broken(pack=lambda y: None), picture(), ROT, None),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_judged_is_refused(kind):
    with pytest.raises(ValueError) as caught:
        eq.equivariance_error(*REFUSED[kind])
    assert len(str(caught.value)) > 40


def test_a_wrapper_does_not_count_as_equivariant_by_being_one():
    """A text without words would let any wrapper pass, right or wrong."""
    with pytest.raises(ValueError, match=r"no element of S3 .* moves this input"):
        eq.assert_equivariant(eq.equitune(Text(), WORDS, SCORES), torch.tensor([[5, 7]]))


def test_an_input_with_all_symmetries_shows_an_output_that_should_move():
    x = torch.ones(2, 2, 4, 4)
    regular = eq.Regular(C4)
    four = nn.Sequential(nn.Flatten(), nn.Linear(32, 4))
    assert eq.equivariance_error(four, x, ROT, regular) > 1e-2
    assert eq.equivariance_error(eq.equitune(four, ROT, regular), x) < 1e-6


def test_the_trivial_group_moves_nothing_and_is_kept_by_everything():
    assert eq.equivariance_error(Broken(), picture(), eq.Rotations(eq.cyclic(1))) == 0


# -- what an error is relative to -------------------------------------------------------------


def sign_into_plane():
    """The sign of S3 goes in and its plane comes out: the average is zero by symmetry."""
    basis = torch.tensor([[1.0, -1, 0], [1, 1, -2]])
    basis = basis / basis.norm(dim=1, keepdim=True)
    P = torch.eye(3)[torch.as_tensor(S3.permutations)].mT
    sign = torch.linalg.det(P)[:, None, None]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 2))
    return net, eq.MatrixAction(S3, sign), eq.MatrixAction(S3, basis @ P @ basis.mT)


def test_an_output_that_is_zero_by_symmetry_passes():
    model = eq.equitune(*sign_into_plane())
    x = torch.randn(4, 1)
    assert 0 < model(x).abs().max() < 1e-6  # nothing but rounding
    eq.assert_equivariant(model, x)
    # the same as a function: it does not know its views, so the user says how large they are
    with pytest.raises(AssertionError):
        eq.assert_equivariant(lambda x: model(x), x, model.in_action, model.out_action)
    eq.assert_equivariant(lambda x: model(x), x, model.in_action, model.out_action, scale=1.0)


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_a_wrong_output_of_any_size_fails(size):
    net, ins, outs = sign_into_plane()

    class Scaled(nn.Module):
        def forward(self, x):
            return size * net(x)

    x = torch.randn(4, 1)
    assert eq.equivariance_error(Scaled(), x, ins, outs) > 0.1
    eq.assert_equivariant(eq.equitune(Scaled(), ins, outs), x)

    class ByName(eq.Weighting):
        """Weights that depend on the number of g: a wrong average."""

        def forward(self, outputs, inputs, n, batch):
            return torch.arange(1.0, n + 1).softmax(0)[:, None].expand(n, batch)

    assert eq.equivariance_error(eq.GroupAverage(Scaled(), ins, outs, ByName()), x) > 0.1


def test_a_scale_by_hand():
    swap = eq.Permutation(eq.cyclic(2))
    x = torch.tensor([[1.0, 4.0]])

    def first(x):
        return x * torch.tensor([1.0, 0.0])

    assert eq.equivariance_error(first, x, swap, swap, scale=8.0) == 0.5
    assert eq.equivariance_errors(first, x, swap, swap, scale=2) == {"e": 0.0, "r": 2.0}
    for scale in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be a positive size"):
            eq.equivariance_error(first, x, swap, swap, scale=scale)


def test_the_worst_entry_is_named():
    def model(x):
        y = x.flatten(1)[:, :3].clone() * 0
        y[4, 1] = x[4, 0, 0, 0] * 7
        return {"good": torch.ones(6), "bad": [y]}

    x = picture()
    with pytest.raises(
        AssertionError, match=r"The worst is output\['bad'\]\[0\]\[4, 1\]: [-\d.]+ where"
    ):
        eq.assert_equivariant(model, x, ROT)


# -- seen through -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["compiled", "averaged", "parallel", "all"])
def test_wrappers_around_the_wrapper(how, tmp_path):
    torch.compiler.reset()
    right = eq.equitune(Broken(), ROT, None)
    around = {
        "compiled": lambda m: torch.compile(m, backend="eager"),
        "averaged": AveragedModel,
        "parallel": lambda m: nn.parallel.DistributedDataParallel(m),
        "all": lambda m: torch.compile(
            nn.parallel.DistributedDataParallel(AveragedModel(m)), backend="eager"
        ),
    }[how]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"tcp://localhost:{free.getsockname()[1]}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    try:
        eq.assert_equivariant(around(right), picture())
        wrong = eq.GroupAverage(Broken(), ROT)
        wrong.model, wrong.weighting = wrong.model, Wrong()
        never_passes(around(wrong), picture())
        never_passes(around(Broken()), picture(), ROT)
    finally:
        torch.distributed.destroy_process_group()


class Wrong(eq.Weighting):
    """All weight on the first element, whatever the views."""

    def forward(self, outputs, inputs, n, batch):
        return torch.eye(n)[:, :1].expand(n, batch)


def test_there_are_enough_of_them():
    assert len(INPUTS) + len(OUTPUTS) + len(REFUSED) >= 40
