from dataclasses import replace

import pytest
import torch
from torch import nn

import equitutor as eq
from equitutor.__main__ import main
from equitutor.experiments import methods
from equitutor.images import training as image_fit
from equitutor.store.results import Store

TINY = methods.Config(
    backbones=("resnet18",),
    groups=("c4", "d4"),
    seeds=(0,),
    train_limit=64,
    tune_limit=40,
    test_limit=16,
    pretrain_epochs=2,
    lambda_epochs=1,
    epochs=1,
)


class Small(nn.Sequential):
    """A backbone with batch norm that is quick."""

    def __init__(self, name=None, weights=None):
        layers = [nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(8, 12, 3), nn.ReLU())

    @property
    def features(self):
        return self


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(methods, "backbone", Small)


def images(count=24):
    return image_fit.limit(image_fit.load("digits")["test"], count, 0)


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("method", methods.METHODS[1:])
def test_tuned_scores_are_invariant(method, group):
    torch.manual_seed(0)
    model = methods.wrapped(method, methods.classifier("resnet18", 10, 32), group)
    if method == "lambda":
        methods.train_lambda(model, images(), TINY, 32, 0, "cpu")
    image_fit.tune(model, images(), TINY, 32, 0, "cpu")
    x = image_fit.to_input(images(4).images, 32, "cpu")
    assert eq.equivariance_error(model.eval(), x) < 1e-5
    bare = model.model.eval()
    assert eq.equivariance_error(bare, x, model.in_action) > 1e-3


def test_lambda_alone_leaves_the_classifier_as_it_was():
    torch.manual_seed(0)
    model = methods.wrapped("lambda", methods.classifier("resnet18", 10, 32), "c4")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    methods.train_lambda(model, images(), TINY, 32, 0, "cpu")
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith("weighting.") for k in changed)
    assert all(p.requires_grad for p in model.parameters())
    image_fit.tune(model, images(), TINY, 32, 0, "cpu")
    after = model.state_dict()
    assert not torch.equal(
        after["weighting.net.net.0.weight"], before["weighting.net.net.0.weight"]
    )
    assert not torch.equal(after["model.head.weight"], before["model.head.weight"])


def test_the_mean_weights_by_hand():
    """A lambda that measures brightness at the top: weights are known."""

    class Top(nn.Module):
        def forward(self, x):  # (N, 3, d, d)
            return x[:, 0, 0, 0].clamp(min=0) + 1

    class Pass(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Identity()

        def forward(self, x):
            return self.look(x).mean((2, 3))

    pixels = torch.full((2, 3, 4, 4), 0, dtype=torch.uint8)
    pixels[0, :, 0, 0] = 255
    some = eq.data.ImageSet(pixels, torch.tensor([0, 1]), ("a", "b"), "toy")
    rot = eq.Rotations(eq.cyclic(4))
    model = eq.lambda_equitune(Pass(), rot, weight_net=Top(), features="look")
    bright = 1 + (1 - image_fit.MEAN[0]) / image_fit.STD[0]
    lit = bright / (bright + 3)
    expected = [(lit + 0.25) / 2, *[(1 / (bright + 3) + 0.25) / 2] * 3]
    torch.testing.assert_close(
        methods.mean_weights(model, some, 4), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )
    uniform = methods.mean_weights(eq.equitune(Pass(), rot), some, 4)
    torch.testing.assert_close(uniform, torch.full((4,), 0.25))


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "methods", "--preset", "quick", "--results", str(tmp_path)]
    for name in ("train_limit", "tune_limit", "test_limit", "pretrain_epochs", "epochs"):
        words += [f"--{name.replace('_', '-')}", str(getattr(TINY, name))]
    assert main(words) == 0
    assert "equizero, top probability" in capsys.readouterr().out
    records = Store(tmp_path / "methods.json").records()
    assert len(records) == len(methods.METHODS)
    for record in records:
        found = record.metrics
        assert found["accuracy_at_1"] == found["accuracy"]
        assert found["accuracy_at_0"] == found["zero_shot"]
        if record.cell["method"] == "none":
            assert found["weight_upright_after"] == 1
        else:  # invariant: upright or turned is one
            assert found["zero_shot"] == found["zero_shot_upright"]
            assert found["accuracy"] == found["upright"] and found["error"] < 1e-5
    start, after = (
        next(r.metrics for r in records if r.cell["method"] == "lambda")[f"weight_upright_{when}"]
        for when in ("start", "after")
    )
    assert 0 < start < 1 and start != after
    monkeypatch.setattr(methods, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


def test_the_cells_of_several_groups():
    cells = TINY.cells()
    assert len(cells) == 1 + 2 * 4  # "none" knows no group
    assert {c["group"] for c in cells if c["method"] == "none"} == {"none"}
    own = [TINY.settings(c) for c in cells]
    assert ["lambda_lr" in s for s in own] == [c["method"] == "lambda" for c in cells]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("methods", ("mean",), "methods must be some of none, equitune"),
        ("backbones", (), "backbones must have at least one"),
        ("groups", ("c3",), "groups must be some of none, c4"),
        ("weights", "openai", "weights must be random, imagenet or a safetensors file"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})
