"""How a wrapper may be called, what it leaves behind, and what it says to a call that it cannot answer."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from zoo import C4, D4, METHODS, Net

import equitutor as eq

ROT = eq.Rotations(C4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(batch=3):
    return torch.randn(batch, 2, 4, 4)


class Conditional(nn.Module):
    """Scores of an image, given a class and a time."""

    def __init__(self):
        super().__init__()
        self.net, self.embed = Net((2, 4, 4), (5,)), nn.Embedding(10, 5)

    def forward(self, image, label=None, *, time=None):
        y = self.net(image)
        y = y if label is None else y + self.embed(label)
        return y if time is None else y * time[:, None]


def tiny_vit(**config) -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            **config,
        )
    ).eval()


# -- names and positions ----------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, 0, np.int64(0), "image"])
def test_by_position_or_by_name(key):
    model = eq.equitune(Conditional(), ROT if key is None else {key: ROT})
    x, label, time = images(), torch.tensor([1, 2, 3]), torch.rand(3)
    expected = model(x, label, time=time)
    for args, kwargs in [
        ((x,), {"label": label, "time": time}),
        ((), {"image": x, "label": label, "time": time}),
        ((), {"time": time, "label": label, "image": x}),
    ]:
        assert torch.equal(model(*args, **kwargs), expected)
        if not args:
            assert eq.equivariance_error(model, kwargs) < 1e-5
    assert eq.equivariance_error(model, (x, label)) < 1e-5
    assert torch.equal(model.weights(image=x), model.weights(x))


def test_hugging_face_models_by_position_or_name():
    vit, rot, x = tiny_vit(), eq.Rotations(D4), torch.randn(2, 3, 8, 8)
    for actions in (rot, {"pixel_values": rot}, {0: rot}):
        model = eq.equitune(vit, actions)
        assert torch.equal(model(x).logits, model(pixel_values=x).logits)
        assert eq.equivariance_error(model, x) < 1e-5
        assert eq.equivariance_error(model, {"pixel_values": x}) < 1e-5
        assert eq.equivariance_error(vit, {"pixel_values": x}, actions) > 1e-3


def test_a_model_that_takes_anything():
    class Anything(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net((2, 4, 4), (5,))

        def forward(self, *args, **kwargs):
            return self.net(args[0] if args else kwargs["image"]) + kwargs.get("shift", 0)

    x, shift = images(), torch.randn(3, 5)
    model = eq.equitune(Anything(), ROT)
    torch.testing.assert_close(model(x, shift=shift), model(x) + shift)
    assert torch.equal(model(image=x), model(x))
    with pytest.raises(ValueError, match=r"which of the arguments \['image', 'shift'\]"):
        model(image=x, shift=shift)
    named = eq.equitune(model.model, {"image": ROT})
    torch.testing.assert_close(named(shift=shift, image=x), model(x) + shift)


def test_a_wrapper_in_a_wrapper_is_called_by_the_same_names():
    inner = eq.equitune(Conditional(), {"image": ROT})
    outer = eq.equitune(inner, {"image": eq.Rotations(D4)})
    x, label = images(), torch.tensor([1, 2, 3])
    torch.testing.assert_close(outer(x, label), outer(label=label, image=x))
    assert eq.equivariance_error(outer, (x, label)) < 1e-5


# -- rows of one, arrays, containers ------------------------------------------------------------


def test_rows_of_one_are_shared_as_in_the_plain_model():
    plain = Conditional()
    model = eq.equitune(plain, ROT)
    x, seven = images(), torch.tensor([7])
    every = torch.tensor([7, 7, 7])
    torch.testing.assert_close(plain(x, seven), plain(x, every))
    torch.testing.assert_close(model(x, seven), model(x, every))
    time = torch.tensor([0.5])
    torch.testing.assert_close(model(x, time=time), model(x, time=time.expand(3)))
    labels = torch.tensor([1, 2, 3])  # one image under three labels
    torch.testing.assert_close(model(x[:1], labels), model(x[:1].expand(3, -1, -1, -1), labels))
    assert model(x[:1], seven).shape == (1, 5)
    with pytest.raises(ValueError, match="argument 'label' has 2 rows but the input 3"):
        model(x, labels[:2])


def test_arrays_dicts_and_dataclasses_are_reached():
    class OfDict(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net((2, 4, 4), (5,))

        def forward(self, batch):
            return {"scores": self.net(torch.as_tensor(batch["image"]))}

    x, inner = images(), OfDict()
    expected = eq.equitune(inner.net, ROT)(x)
    model = eq.equitune(inner, ROT)
    torch.testing.assert_close(model({"image": x})["scores"], expected)
    torch.testing.assert_close(model({"image": x.numpy()})["scores"], expected)
    assert eq.equivariance_error(model, ({"image": x},)) < 1e-5

    class Arrays(nn.Module):
        def forward(self, x):
            return inner.net(torch.as_tensor(x)).detach().numpy()

    y = eq.equitune(Arrays(), ROT)(x.numpy())
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5)


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.net(x).mean((2, 3))


SAID = {
    "an image without a batch dimension": (
        lambda: eq.equitune(Conv(), ROT)(images()[0]),
        r"\(2, 4, 4\), whose first dimension is taken as the batch.*Then give x\[None\]",
    ),
    "a vector without one": (
        lambda: eq.equitune(nn.Linear(4, 2), eq.Regular(C4))(torch.randn(4)),
        r"moves dimension -1, and the batch comes before.*x\[None\]",
    ),
    "a list of images": (
        lambda: eq.equitune(Conv(), ROT)(list(images())),
        r"is a list of 3: make it one tensor.*torch\.stack\(images\)",
    ),
    "a sparse tensor": (
        lambda: eq.equitune(Conv(), ROT)(images().to_sparse()),
        r"dense tensors, not torch\.sparse_coo: call x\.to_dense\(\)",
    ),
    "a sparse other argument": (
        lambda: eq.equitune(Conditional(), ROT)(images(), torch.ones(3, dtype=int).to_sparse()),
        "dense tensors",
    ),
    "a sparse tensor and an action": (lambda: ROT("r", images().to_sparse()), "to_dense"),
    "a number": (lambda: eq.equitune(Conv(), ROT)(1.0), "no tensor with a batch dimension"),
    "a name": (lambda: eq.equitune(Conv(), ROT)("cat.png"), "no tensor with a batch dimension"),
    "a missing argument": (
        lambda: eq.equitune(Conditional(), {"label": eq.TokenPermutation(C4)})(images()),
        "names argument 'label', but the call has",
    ),
    "a name among pictures": (
        lambda: eq.equitune(Conditional(), {0: ROT, 1: ROT})(images(), "cat"),
        "no tensor with a batch dimension to act on: .* 'label'",
    ),
    "None in its place": (
        lambda: eq.equitune(Conditional(), {"label": eq.TokenPermutation(C4)})(images(), None),
        "no tensor with a batch dimension to act on",
    ),
}


@pytest.mark.parametrize("what", SAID)
def test_what_to_do_is_said(what):
    call, message = SAID[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_error_of_the_model_itself_stays_as_it_is():
    class Own(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of coffee")

    with pytest.raises(RuntimeError, match=r"^out of coffee"):
        eq.equitune(Own(), ROT)(images())


# -- nothing stays behind -----------------------------------------------------------------------


def size(model) -> int:
    return len(pickle.dumps(model))


def hooks(model) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


@pytest.mark.parametrize("method", METHODS)
def test_nothing_stays_on_the_model(method):
    """Five wrappers, as when a cell of a notebook is run five times."""
    net, x = Net((2, 4, 4), (5,)), images()
    before, keys = size(net), list(net.state_dict())
    attributes = {id(m): set(vars(m)) for m in net.modules()}
    alive = []
    for _ in range(5):
        wrapped = METHODS[method](net, ROT, None)
        wrapped(x)
        alive.append(weakref.ref(wrapped.weighting))
        assert hooks(net) == 0 and size(net) == before  # while it lives, too
    del wrapped
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    assert list(net.state_dict()) == keys
    assert {id(m): set(vars(m)) for m in net.modules()} == attributes
    net(x)
    assert size(net) == before


@pytest.mark.parametrize("method", METHODS)
def test_nor_after_it_was_compiled(method):
    """Compiled code looks for the hook it was made with, so that it stays as long as the wrapper lives."""
    net, x = Net((2, 4, 4), (5,)), images()
    torch.compiler.reset()
    wrapped = METHODS[method](net, ROT, None).eval()
    compiled = torch.compile(wrapped, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), wrapped(x))
    torch.testing.assert_close(copy.deepcopy(wrapped)(x), wrapped(x))
    torch.compiler.reset()
    del wrapped, compiled
    gc.collect()
    assert hooks(net) == 0


class Fails(Net):
    angry = False

    def forward(self, x):
        y = super().forward(x)
        if self.angry:
            raise KeyError("in the middle")
        return y


@torch.no_grad()  # else the graph of what is expected keeps the features
@pytest.mark.parametrize("method", METHODS)
def test_an_exception_in_forward_leaves_no_trace(method):
    net, x = Fails((2, 4, 4), (5,)), images()
    net.angry = False
    wrapped = METHODS[method](net, ROT, None).eval()
    expected, before = wrapped(x), size(wrapped)
    net.angry = True
    try:
        wrapped(x)
    except KeyError:
        net.angry = False
    assert not net.angry
    assert hooks(net) == 0 and size(wrapped) == before and not wrapped.training
    assert torch.equal(wrapped(x), expected)
    held = [t for t in gc.get_objects() if isinstance(t, torch.Tensor) and t.shape == (12, 24)]
    assert not held  # the features of the failed run


def test_a_hook_that_stays_would_be_noticed():
    net = Net((2, 4, 4), (5,))
    before = size(net)
    net.hidden.register_forward_hook(print)
    assert hooks(net) == 1 and size(net) > before
