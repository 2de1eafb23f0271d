"""Two locked towers joined by a projection, on the real Lite0 and a tiny sentence encoder."""

import math
from functools import cache

import pytest
import torch
from encoders import tiny_reader
from torch import nn

import equitutor as eq
from equitutor.experiments import clip
from equitutor.images import lit
from equitutor.images import training as image_fit
from equitutor.images.imageset import ImageSet
from equitutor.images.small_clip import contrastive_loss
from equitutor.images.views import ViewsAction, on_views, view_set
from equitutor.images.zeroshot import MapAverage
from equitutor.language.sentences import SentenceEncoder

CLASSES = ("cat", "dog", "red fish")
TEMPLATES = ("a photo of a {}", "an image of the {}")
ROT = eq.Rotations(eq.cyclic(4))
ACTIONS = [ROT, eq.Flip("vertical"), eq.Rotations(eq.dihedral(4))]


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


@cache
def tower():
    return lit.LockedTower(eq.images.backbone("efficientnet_lite0"))


def classifier(body=None, seed=0):
    torch.manual_seed(seed)
    read = SentenceEncoder(*tiny_reader())
    body = tower() if body is None else body
    return lit.TwoTowers(body, nn.Linear(1280, 32), read, CLASSES, TEMPLATES).eval()


def pictures(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


# -- the towers -----------------------------------------------------------------------------------


def test_the_picture_tower_is_lite0_and_locked():
    net = eq.images.backbone("efficientnet_lite0").eval()
    x = pictures()
    with torch.no_grad():
        torch.testing.assert_close(net.net.classifier(tower()(x)), net(x), rtol=1e-4, atol=1e-4)
    model = classifier()
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable == ["top.projection.weight", "top.projection.bias"]
    model.train()
    assert not any(m.training for m in model.body.modules()) and model.top.training


def test_a_tower_without_a_map_is_refused():
    with pytest.raises(ValueError, match="has no last feature map"):
        lit.LockedTower(eq.images.backbone("vit_b_16", "random"))


# -- the classifier -------------------------------------------------------------------------------


def test_scores_by_hand():
    model, x = classifier(), pictures()
    read = SentenceEncoder(*tiny_reader())
    with torch.no_grad():
        picture = model.top.projection(tower()(x))
        for i, name in enumerate(CLASSES):
            text = sum(read([t.format(name)])[0] for t in TEMPLATES)
            cosine = torch.cosine_similarity(picture, text[None])
            torch.testing.assert_close(model(x)[:, i], 20 * cosine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "templates", "dim", "error", "says"),
    [
        (("cat", "cat"), TEMPLATES, 32, ValueError, "'cat' is there twice"),
        (CLASSES, ("a photo",), 32, ValueError, "no single place"),
        ("cat", TEMPLATES, 32, TypeError, "must be a list"),
        (CLASSES, TEMPLATES, 48, ValueError, "ends in 48 features, the text tower in 32"),
    ],
)
def test_what_does_not_fit_is_refused(classes, templates, dim, error, says):
    read = SentenceEncoder(*tiny_reader())
    with pytest.raises(error, match=says):
        lit.TwoTowers(tower(), nn.Linear(1280, dim), read, classes, templates)


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
@pytest.mark.parametrize("place", clip.PLACES)
@pytest.mark.parametrize("method", clip.METHODS[1:])
def test_scores_are_invariant(method, place, action):
    base, x = classifier(), pictures()
    assert eq.equivariance_error(base, x, action) > 1e-2
    torch.manual_seed(1)
    model = clip.wrapped(method, base, action, place).eval()
    assert eq.equivariance_error(model, x, action) < 1e-5


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
def test_the_mean_of_the_maps_moved_back_is_the_mean_of_what_is_pooled(action):
    """On the real network: the maps are averaged as they are, by the formula, and then pooled."""
    base, x = classifier(), pictures()
    maps = eq.equitune(tower().features, action, action)
    assert max(eq.equivariance_errors(maps, x).values()) < 1e-5
    with torch.no_grad():
        expected = base.top(maps(x).mean((2, 3)))
        torch.testing.assert_close(MapAverage(base, action)(x), expected, rtol=1e-4, atol=1e-4)
        on_scores = eq.equitune(base, action)(x)
    assert (on_scores - expected).abs().max() > 1e-3  # another place, another model


@pytest.mark.parametrize("place", clip.PLACES)
@pytest.mark.parametrize("method", clip.METHODS[1:])
def test_on_views_it_is_what_it_is_on_pictures(method, place):
    images = image_fit.limit(image_fit.load("digits")["test"], 6, 0)
    net = eq.images.backbone("efficientnet_lite0")
    action = eq.Rotations(eq.dihedral(4))
    views = view_set(net, images, action, 64)
    group, models = action.group, []
    for body, moves in (
        (tower(), action),
        (on_views(views, nn.Identity(), group), ViewsAction(group)),
    ):
        base = classifier(body)
        torch.manual_seed(1)
        models.append(clip.wrapped(method, base, moves, place).eval())
    x = image_fit.to_input(images.images, 64, "cpu")
    with torch.no_grad():
        on_pictures, on_their_views = models[0](x), models[1](views.images)
    torch.testing.assert_close(on_pictures, on_their_views, rtol=1e-3, atol=1e-3)


# -- the training ---------------------------------------------------------------------------------


def test_the_loss_shares_the_target():
    """Equal scores: log B. Perfect ones: the two pictures of class 0 are not told apart, by either."""
    labels = torch.tensor([0, 1, 0, 2])
    assert contrastive_loss(torch.zeros(4, 4), labels).item() == pytest.approx(math.log(4))
    same = (labels[:, None] == labels).float()
    found = contrastive_loss(100 * same, labels).item()
    assert found == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_the_projection_is_learned_and_does_not_depend_on_other_randomness():
    torch.manual_seed(0)
    means = torch.randn(3, 1280)
    labels = torch.arange(3).repeat(64)
    features = means[labels] + 0.5 * torch.randn(len(labels), 1280)
    read = SentenceEncoder(*tiny_reader())
    how = {"epochs": 5, "lr": 1e-3, "seed": 1}
    made = lit.train_projection(features, labels, read, CLASSES, TEMPLATES, **how)
    torch.manual_seed(5)
    again = lit.train_projection(features, labels, read, CLASSES, TEMPLATES, **how)
    assert torch.equal(made.weight, again.weight)
    model = lit.TwoTowers(nn.Identity(), made, read, CLASSES, TEMPLATES)
    renamed = lit.TwoTowers(nn.Identity(), made, read, CLASSES[::-1], TEMPLATES)
    fresh = means[labels] + 0.5 * torch.randn(len(labels), 1280)
    with torch.no_grad():
        assert (model(fresh).argmax(1) == labels).float().mean() > 0.95
        assert (renamed(fresh).argmax(1) == 2 - labels).float().mean() > 0.95  # it reads the names


def test_tuning_leaves_the_towers_as_they_are():
    base = classifier()
    images = image_fit.limit(image_fit.load("digits")["train"], 6, 0)
    images = ImageSet(images.images, images.labels % 3, CLASSES, "toy")
    model = clip.wrapped("lambda", base, ROT)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = clip.Config(epochs=1, batch_size=3, lr=0.1)
    image_fit.tune(model, images, config, 64, 0, "cpu")
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    parts = {k.removeprefix("model.").split(".")[0] for k in changed}
    assert parts == {"top", "weighting"}
    assert {k for k in changed if ".top." in k} == {
        "model.top.projection.weight",
        "model.top.projection.bias",
    }
