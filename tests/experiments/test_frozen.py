"""Frozen networks: the cells, the heads, and what the averages of their answers are."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

import equitutor as eq
from equitutor.experiments import frozen
from equitutor.images import training
from equitutor.images.views import ViewsAction, ViewSet
from equitutor.store.results import Store

CONFIG = frozen.Config(
    **{"seeds": (0, 1), "head_epochs": 30, "head_lr": 0.05, "epochs": 1, "lambda_epochs": 30},
    **{"tune_limit": 0, "lambda_lr": 1e-2},
)


def made_up(group="c4", count=90, seed=0, channels=8, own=10):
    """Views of which the upright one says the class, and a feature that it is upright; the others mislead."""
    n = len(frozen.GROUPS[group])
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=draw)
    x = torch.randn(count, n, channels + own, generator=draw) * 0.3
    x[..., 3] = -2.0
    x[:, 0, 3] = 2.0
    for view in range(n):
        x[range(count), view, (labels + (view > 0)) % 3] += 2.0
    return ViewSet(x, labels, ("a", "b", "c"), "made up", channels)


@pytest.fixture
def sets():
    return {"train": made_up(), "test": made_up(seed=1, count=40)}


def cell(method, head="trained", group="c4", seed=0):
    return {"head": head, "group": group, "method": method, "seed": seed}


def test_what_nothing_is_drawn_for_is_run_once():
    config = replace(CONFIG, heads=frozen.HEADS, groups=("c4", "d4"))
    cells = config.cells()
    assert len({tuple(c.items()) for c in cells}) == len(cells)
    own = [c for c in cells if c["head"] == "own"]
    assert {c["method"] for c in own} == set(frozen.METHODS) - {"augmented", "equi-tuned"}
    assert {c["seed"] for c in own if c["method"] == "equizero"} == {0}
    assert {c["seed"] for c in own if c["method"] == "lambda"} == {0, 1}
    trained = [c for c in cells if c["head"] == "trained"]
    assert {(c["group"], c["method"]) for c in trained if c["group"] == "none"} == {
        ("none", "none"),
        ("none", "augmented"),
    }
    assert len(trained) == 2 * (2 + 2 * 7)


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("method", frozen.METHODS)
def test_every_average_is_invariant_and_the_network_is_not(method, group):
    sets = {"train": made_up(group), "test": made_up(group, 40, 1)}
    alone = method in ("none", "augmented")
    model = frozen.model_of(CONFIG, cell(method, group="none" if alone else group), sets).eval()
    moves = ViewsAction(frozen.GROUPS["c4" if alone else group])
    x = (made_up() if alone else sets["test"]).images
    error = eq.equivariance_error(model, x, moves)
    assert error > 0.1 if alone else error < 1e-6


def test_lambda_and_attention_find_the_view_that_knows(sets):
    found = {}
    for method in ("none", "equitune", "lambda", "attention"):
        model = frozen.model_of(CONFIG, cell(method), sets)
        action = ViewsAction(frozen.GROUPS["c4"])
        config = replace(CONFIG, epochs=0)
        found[method] = frozen.measured(config, cell(method), model, sets, 64, "cpu", action)
    assert found["none"]["upright"] > 95 and found["none"]["accuracy"] < 40
    assert found["equitune"]["accuracy"] < 60  # three views outvote the one that knows
    for method in ("lambda", "attention"):
        assert found[method]["accuracy"] > 90
        assert found[method]["weight_upright_before"] > 0.6
        assert found[method]["consistent"] == 100


def test_an_equi_tuned_head_is_trained_on_the_mean_and_an_augmented_one_on_all(sets):
    def right(head, x):
        return (head(x).argmax(-1) == sets["train"].labels).float().mean().item()

    features = sets["train"].images[..., :8]
    heads = {m: frozen.train_head(CONFIG, sets["train"], m, 0) for m in frozen.METHODS[:3]}
    assert right(heads["none"], features[:, 0]) > 0.95
    assert right(heads["none"], features[:, 1]) < 0.2
    assert right(heads["equi-tuned"], features.mean(1)) > 0.95
    assert right(heads["none"], features.mean(1)) < right(heads["equi-tuned"], features.mean(1))
    assert right(heads["augmented"], features[:, 1]) > 0.5 > right(heads["none"], features[:, 1])


def test_the_heads_of_two_seeds_differ_and_of_one_do_not(sets):
    weight = [frozen.train_head(CONFIG, sets["train"], "none", seed).weight for seed in (0, 0, 1)]
    assert torch.equal(weight[0], weight[1]) and not torch.equal(weight[0], weight[2])


def test_own_answers_are_the_networks_scores():
    sets = {"test": made_up(own=1000), "train": made_up(own=1000)}
    config = replace(CONFIG, dataset="hymenoptera", heads=("own",))
    insects = {
        part: replace(v, classes=("ants", "bees"), labels=v.labels % 2) for part, v in sets.items()
    }
    model = frozen.model_of(config, cell("none", "own", "none"), insects).eval()
    scores = sets["test"].images[:, 0, 8:]
    assert torch.equal(model(sets["test"].images), scores[:, [310, 309]])
    every = frozen.answering(config, insects, "own 1000")
    assert len(every["test"].classes) == 1000
    assert set(every["test"].labels[insects["test"].labels == 1].tolist()) == {309}


def test_own_answers_need_known_classes(sets):
    with pytest.raises(ValueError, match=r"classes are 'a' of digits.*hymenoptera and cifar10"):
        frozen.model_of(CONFIG, cell("none", "own"), sets)


def test_own_answers_of_an_unknown_folder_are_refused_before_any_view_is_computed(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    config = replace(CONFIG, dataset=str(tmp_path), heads=frozen.HEADS)
    with pytest.raises(ValueError, match=r"classes are 'a'.*choose the head trained"):
        frozen.prepare(config, config.cells(), "cpu")
    only_trained = replace(config, heads=("trained",))
    assert frozen.prepare(only_trained, only_trained.cells(), "cpu")


@pytest.mark.parametrize("head", ["own", "own 1000"])
def test_own_answers_need_a_network_of_imagenets_classes(head):
    sets = {"test": made_up(own=21_843), "train": made_up(own=21_843)}
    assert frozen.answering(CONFIG, sets, "trained") is sets
    with pytest.raises(ValueError, match="1,000 classes, not of 21,843"):
        frozen.answering(CONFIG, sets, head)


def test_images_too_small_for_a_network_are_refused():
    with pytest.raises(ValueError, match="alexnet needs a size of at least 64 pixels, got 32"):
        frozen.views(replace(CONFIG, size=32), "alexnet", "c4")


def test_settings_leave_out_what_does_not_matter():
    config = replace(CONFIG, heads=frozen.HEADS)
    plain = config.settings({"head": "own", "method": "equizero"})
    assert plain == {"size": 64, "test_limit": 0}
    drawn = config.settings({"head": "own", "method": "lambda"})
    assert drawn.keys() == {*plain, "pool_limit", "tune_limit", "lambda_epochs", "lambda_lr"}
    trained = config.settings({"head": "trained", "method": "equizero"})
    assert "lambda_lr" not in trained and trained["head_lr"] == 0.05


def test_a_cell_from_pictures_to_numbers(monkeypatch, tmp_path):
    """The whole way, with a small network: and the same as the network averaged on pictures."""
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path))
    config = frozen.Config(
        backbones=("mnasnet0_5",), seeds=(0,), size=32, pool_limit=40, tune_limit=20, test_limit=12,
        methods=("none", "equitune", "lambda"), head_epochs=2, lambda_epochs=1, epochs=1,
    )  # fmt: skip
    torch.manual_seed(0)
    net = frozen.backbone("mnasnet0_5", "random").eval()
    monkeypatch.setattr(frozen, "backbone", lambda name, weights: net)
    monkeypatch.setattr(frozen.backbones, "fingerprint", lambda name, weights: "none")
    store = Store(tmp_path / "frozen.json")
    found = {r.cell["method"]: r for r in frozen.run(config, store)}
    assert set(found) == {"none", "equitune", "lambda"}
    assert all(r.metrics["images"] == 12 for r in found.values())
    assert found["equitune"].metrics["consistent"] == 100
    seen = frozen.views(config, "mnasnet0_5", "c4")
    head = frozen.train_head(config, seen["train"], "equitune", 0)
    pooled = nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    whole = eq.equitune(pooled, eq.Rotations(eq.cyclic(4)))
    test = training.limit(frozen.load("digits", "", 32)["test"], 12, 0)
    expected = training.evaluate(whole, test, 32)
    assert found["equitune"].metrics["zero_shot"] == pytest.approx(expected["accuracy"])


def test_another_run_sees_what_the_images_are_now(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(frozen, "load", lambda *a: calls.append(a) or training.load("digits"))
    monkeypatch.setattr(frozen, "view_set", lambda net, images, *a: images)
    config = replace(CONFIG, pool_limit=4, test_limit=4, backbones=("mnasnet0_5",))
    monkeypatch.setattr(frozen, "backbone", lambda *a: None)
    tasks = frozen.prepare(config, [cell("none") | {"backbone": "mnasnet0_5"}], "cpu")
    for _ in range(2):  # within a run they are read once
        for function, *arguments in tasks:
            function(*arguments)
    assert len(calls) == 1
    ((function, *arguments),) = frozen.prepare(
        config, [cell("none") | {"backbone": "mnasnet0_5"}], "cpu"
    )
    function(*arguments)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("heads", ("other",), "heads must be some of own"),
        ("methods", ("best",), "methods must be some of none"),
        ("backbones", ("efficientnet_lite",), "did you mean efficientnet_lite0"),
        ("weights", "random", "weights must be imagenet or a safetensors file"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{field: value})
