"""The views of an image computed once: the same answers as the network gives on images."""

import pytest
import torch
from torch import nn

import equitutor as eq
from equitutor.images import imagenet, views
from equitutor.images.backbones import Backbone, Metadata, labels
from equitutor.images.data import CIFAR10_CLASSES, ImageSet
from equitutor.images.training import to_input
from equitutor.images.views import ViewsAction, on_views, view_set
from equitutor.rotations import Flip
from equitutor.store import checkpoints


class Tiny(nn.Module):
    """A network with a feature map, as torchvision's are made."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(6, 7)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


METADATA = Metadata("tiny", "torchvision", "tiny", 32, 32, (0.5,) * 3, (0.25,) * 3)
ACTIONS = {
    "c4": eq.Rotations(eq.cyclic(4)),
    "d4": eq.Rotations(eq.dihedral(4)),
    "flip": Flip("vertical"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Backbone(Tiny(), METADATA).eval()


def images(count=5, name="noise"):
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 3
    return ImageSet(pixels.to(torch.uint8), labels, ("a", "b", "c"), name)


@pytest.mark.parametrize("kind", ACTIONS)
def test_moving_the_image_permutes_its_views(net, kind):
    action = ACTIONS[kind]
    seen, moves = view_set(net, images(), action, 32), ViewsAction(action.group)
    moves.check(seen.images)
    for g in range(len(action.group)):
        moved = ImageSet(action.act(g, images().images), images().labels, ("a", "b", "c"), "moved")
        again = view_set(net, moved, action, 32).images
        assert torch.allclose(moves.act(g, seen.images), again, atol=1e-5), action.group[g]
    assert len(action.group) == 2 or not torch.allclose(moves.act(1, seen.images), seen.images)


@pytest.mark.parametrize("kind", ACTIONS)
def test_averages_over_views_are_averages_over_images(net, kind):
    action = ACTIONS[kind]
    seen, x = view_set(net, images(), action, 32), to_input(images().images, 32, "cpu")
    own = on_views(seen, nn.Identity(), action.group, own=True)
    moves = ViewsAction(action.group)
    with torch.no_grad():
        for make in (eq.equitune, lambda *a: eq.equizero(*a, loss=eq.entropy)):
            expected = make(net, action)(x)
            assert torch.allclose(make(own, moves)(seen.images), expected, atol=1e-5)
        head = nn.Linear(6, 3)
        pooled = nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        of_maps = on_views(seen, head, action.group)
        expected = eq.equitune(pooled, action)(x)
        assert torch.allclose(eq.equitune(of_maps, moves)(seen.images), expected, atol=1e-5)
        # the average of the maps, moved back, and then the mean over their pixels: the same
        maps = eq.equitune(net.features, action, action)(x).mean((2, 3))
        mean = seen.images[..., : seen.channels].mean(1)
        assert torch.allclose(maps, mean, atol=1e-5)


def test_lambda_sees_the_features(net):
    action = ACTIONS["d4"]
    seen = view_set(net, images(), action, 32)
    model = on_views(seen, nn.Identity(), action.group, own=True)
    wrapper = eq.lambda_equitune(
        model, ViewsAction(action.group), weight_net=eq.LambdaNet(6), features="features"
    )
    assert wrapper.eval().weights(seen.images).shape == (8, 5)
    eq.assert_equivariant(wrapper, seen.images)


def test_views_are_computed_once_and_go_on_where_they_stopped(net, cache, monkeypatch):
    monkeypatch.setattr(views, "BLOCK", 2)
    some = images(5)
    first = view_set(net, some, ACTIONS["c4"], 32)
    assert len(list((cache / "checkpoints").iterdir())) == 3
    made = []
    kept = checkpoints.kept

    def counted(name, recipe, make, note):
        return kept(name, recipe, lambda: made.append(name) or make(), note)

    monkeypatch.setattr(checkpoints, "kept", counted)
    sorted((cache / "checkpoints").iterdir())[0].unlink()  # as if it had been killed
    second = view_set(net, some, ACTIONS["c4"], 32)
    assert len(made) == 1 and torch.equal(first.images, second.images)
    # other weights, another size, another action, other pictures: made anew
    view_set(net, some, ACTIONS["c4"], 64)
    view_set(net, some, ACTIONS["d4"], 32)
    with torch.no_grad():
        net.net.classifier.bias += 1
    changed = view_set(net, some, ACTIONS["c4"], 32)
    assert len(made) == 1 + 9
    assert torch.allclose(changed.images[..., 6:], first.images[..., 6:] + 1, atol=1e-5)


def test_views_are_no_weights_of_a_record(net):
    with checkpoints.noted() as note:
        view_set(net, images(), ACTIONS["c4"], 32)
    assert note == {}


def test_a_subset_keeps_what_belongs_together(net):
    seen = view_set(net, images(), ACTIONS["c4"], 32)
    some = seen.subset([4, 1])
    assert len(some) == 2 and some.labels.tolist() == [1, 1] and some.channels == 6
    assert torch.equal(some.images, seen.images[[4, 1]])


# -- ImageNet's own classes -------------------------------------------------------------------------


def test_groups_of_imagenets_classes_are_what_they_say():
    names = labels()
    insects = imagenet.GROUPS["hymenoptera"]
    assert {k: [names[i] for i in v] for k, v in insects.items()} == {
        "ants": ["ant"],
        "bees": ["bee"],
    }
    cifar = imagenet.GROUPS["cifar10"]
    assert tuple(cifar) == CIFAR10_CLASSES
    every = [i for group in cifar.values() for i in group]
    assert len(every) == len(set(every))  # no class counts twice
    said = {name: {names[i] for i in group} for name, group in cifar.items()}
    assert said["airplane"] == {"airliner", "warplane"}
    assert said["deer"] == {"hartebeest", "impala", "gazelle"}
    assert said["frog"] == {"bullfrog", "tree frog", "tailed frog"}
    assert {"tabby", "Egyptian cat"} <= said["cat"] and "lynx" not in said["cat"]
    assert {"Chihuahua", "Mexican hairless"} <= said["dog"] and "timber wolf" not in said["dog"]
    assert {"cock", "black swan", "albatross"} <= said["bird"] and "tusker" not in said["bird"]
    assert "moving van" in said["truck"] and "minivan" in said["automobile"]


def test_a_groups_probability_is_the_sum_of_its_classes():
    scores = torch.randn(4, 6, dtype=torch.float64)
    groups = imagenet.OwnClasses([(0, 2), (1, 3, 4)])
    p = scores.softmax(1)
    sums = torch.stack([p[:, [0, 2]].sum(1), p[:, [1, 3, 4]].sum(1)], 1)
    expected = sums / sums.sum(1, keepdim=True)
    assert torch.allclose(groups(scores).softmax(1), expected)
