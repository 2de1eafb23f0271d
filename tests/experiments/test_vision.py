from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model

import equitutor as eq
from equitutor.__main__ import main
from equitutor.book import reports
from equitutor.experiments import vision
from equitutor.images import backbones, data
from equitutor.images import training as image_fit
from equitutor.store import checkpoints
from equitutor.store.results import Record, Store


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


def lively(module):
    """Random batch-norm statistics: those of a fresh network hide a wrong order of the layers."""
    torch.manual_seed(1)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return module.eval()


def whole_features(name, net, x):
    """The last feature map as torchvision's own forward passes compute it."""
    if name == "resnet18":
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))
    return net.features(x).relu() if name == "densenet121" else net.features(x)


@pytest.mark.parametrize("name", vision.BACKBONES)
def test_imagenet_weights_reach_the_backbone(name, monkeypatch):
    torch.manual_seed(0)
    whole = lively(get_model(name, weights=None))
    monkeypatch.setattr(backbones, "pretrained_state", lambda arch: whole.state_dict())
    net = vision.backbone(name, "random").features
    net.load_state_dict(vision.pretrain(vision.Config.paper(), name))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole_features(name, whole, x)
        assert torch.equal(net.eval()(x), expected)


def test_weights_that_cannot_be_had_are_named(monkeypatch):
    def offline(arch):
        raise data.DataError("put resnet18-f37072fd.pth into weights")

    monkeypatch.setattr(backbones, "pretrained_state", offline)
    with pytest.raises(data.DataError, match="resnet18-f37072fd"):
        vision.pretrain(vision.Config.paper(), "resnet18")


@pytest.mark.parametrize(
    ("name", "group"), [*((name, "d4") for name in vision.BACKBONES), ("resnet18", "c4")]
)
def test_the_models_of_the_table_are_invariant(name, group):
    torch.manual_seed(0)
    net = lively(vision.backbone(name, "random").features)
    model = vision.classifier(net, vision.GROUPS[group], 64, 5).eval()
    nn.init.normal_(model[1].pool.weight)
    x = torch.randn(1, 3, 64, 64)
    rot = eq.Rotations(vision.GROUPS[group])
    eq.assert_equivariant(model, x, rot)
    plain = vision.classifier(net, vision.GROUPS["none"], 64, 5).eval()
    assert eq.equivariance_error(plain, x, rot) > 1e-3  # the check can fail


def test_group_none_is_ordinary_fine_tuning():
    net = lively(vision.backbone("resnet18", "random").features)
    model = vision.classifier(net, vision.GROUPS["none"], 64, 5).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = model[1].classify(net(x).mean((2, 3)))  # the head starts as average pooling
        assert torch.allclose(model(x), plain, atol=1e-5)


def toy_set(count=12, size=8, classes=2):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return data.ImageSet(images, torch.arange(count) % classes, tuple("ab"[:classes]), "toy")


def test_turn_turns_each_image_by_its_own_number():
    x = torch.randn(4, 3, 5, 5)
    turned = image_fit.turn(x, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(turned[0], x[0])
    assert torch.equal(turned[1], x[1].mT.flip(-2))  # counter-clockwise: transposed, upside down
    assert torch.equal(turned[2], x[2].flip(-1, -2))
    assert torch.equal(turned[3], x[3].mT.flip(-1))


def test_input_is_normalised_and_resized():
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    x = image_fit.to_input(white, 6, "cpu")
    expected = (1 - torch.tensor(image_fit.MEAN)) / torch.tensor(image_fit.STD)
    assert x.shape == (1, 3, 6, 6)
    assert torch.allclose(x[0, :, 2, 3], expected)


def test_batches_hold_every_image_once_and_no_single_one():
    some = toy_set(9)
    labels = [y for _, y in image_fit.batches(some, 8, 4, torch.Generator().manual_seed(0), "cpu")]
    assert [len(y) for y in labels] == [4, 4]  # a ninth image alone has no batch statistics


def test_limit_draws_by_the_seed():
    some = toy_set(12)
    assert len(vision.limit(some, 5, 0)) == 5
    assert len(vision.limit(some, 0, 0)) == len(vision.limit(some, 99, 0)) == 12
    a, b, c = (vision.limit(some, 5, seed).images for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


class Corner(nn.Module):
    """Class 1 where the top left corner is bright: right upright, and known in each rotation."""

    def forward(self, x):
        bright = (x[:, 0, 0, 0] > 0).float()
        return torch.stack([1 - bright, bright], 1)


def test_evaluate_by_hand():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[0, :, 0, 0] = 255  # bright in one corner: class 1 in one rotation of four
    labels = torch.tensor([1, 0])
    found = vision.evaluate(Corner(), data.ImageSet(images, labels, ("dark", "lit"), "toy"), 4)
    assert found["upright"] == 100
    assert found["accuracy"] == pytest.approx(100 * (1 + 4) / 8)
    assert found["consistent"] == 50


def small_config(**changes):
    return replace(
        vision.Config.quick(), train_limit=24, test_limit=16, epochs=1, pretrain_epochs=1, **changes
    )


def test_augmentation_by_the_group_itself_changes_nothing():
    # Turning a training image only reorders its views: the same loss, the same gradients.
    config = small_config()
    sets = vision.load("digits")
    some = vision.limit(sets["train"], 16, 0)
    logits = []
    for augmentation in ("none", "c4"):
        torch.manual_seed(0)
        net = vision.backbone("resnet18", "random").features
        model = vision.classifier(net, vision.GROUPS["c4"], 32, 10)
        vision.tune(model, some, config, 32, 0, "cpu", turned=augmentation == "c4").eval()
        with torch.no_grad():
            logits.append(model(image_fit.to_input(some.images[:4], 32, "cpu")))
    assert torch.allclose(*logits, atol=1e-3)


def test_upright_pretraining_is_kept_and_read_again(monkeypatch):
    config = small_config()
    some = {k: vision.limit(v, 130, 0) for k, v in vision.load("digits").items()}
    monkeypatch.setattr(vision, "load", lambda *_: some)
    first = vision.pretrain(config, "resnet18")
    monkeypatch.setattr(vision, "train_upright", lambda *_: pytest.fail("trained again"))
    second = vision.pretrain(config, "resnet18")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_damaged_checkpoint_is_made_anew(tmp_path):
    def make():
        return {"w": torch.arange(3.0)}

    checkpoints.kept("net", {"epochs": 1}, make)
    (path,) = (tmp_path / "cache" / "checkpoints").glob("net-*.safetensors")
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.warns(UserWarning, match="made anew"):
        state = checkpoints.kept("net", {"epochs": 1}, make)
    assert torch.equal(state["w"], torch.arange(3.0))
    assert path.read_bytes() == good


def test_another_recipe_is_another_checkpoint():
    checkpoints.kept("net", {"epochs": 1}, lambda: {"w": torch.zeros(1)})
    other = checkpoints.kept("net", {"epochs": 2}, lambda: {"w": torch.ones(1)})
    assert other["w"].item() == 1


def test_a_cache_that_cannot_be_written_is_no_loss(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        state = checkpoints.kept("net", {}, lambda: {"w": torch.ones(1)})
    assert state["w"].item() == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("backbones", ("vgg",), "did you mean vgg"),
        ("groups", ("c3",), "groups must be some of none, c4, d4"),
        ("augmentations", (), "augmentations must be some of"),
        ("weights", "random", "weights must be"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(vision.Config.quick(), **{field: value})


def test_a_missing_cell_is_run_with_the_settings_of_its_backbone():
    def record(backbone, **changes):
        config = replace(vision.Config.upright(), **changes)
        cell = {**config.cells()[0], "backbone": backbone}
        return Record("vision", cell, {"accuracy": 50.0}, config.settings())

    records = [record("alexnet", lr=1e-3, epochs=20), record("resnet18", train_limit=99)]
    table = reports.table("vision", records, complete=True)
    start = "python -m equitutor run vision --preset upright --dataset digits --backbones "
    assert start + "alexnet --epochs 20 --lr 0.001" in table.missing
    assert start + "resnet18 --train-limit 99" in table.missing
    assert len(table.missing) == len(vision.BACKBONES)
    assert not reports.table("vision", records).missing


def test_settings_publish_no_path():
    config = vision.Config(dataset="/home/me/ants", folder="/home/me/x", pretrain_on="/home/me/y")
    assert "/" not in str(config.settings()) + str(config.cells())


def test_another_folder_of_the_same_name_is_pretrained_anew(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(vision, "train_upright", lambda *_: made.append(1))
    for parent, tone in (("a", 10), ("b", 90), ("a", 10)):
        for name in ("one", "two"):
            where = tmp_path / parent / "mine" / name
            where.mkdir(parents=True, exist_ok=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (tone, i, 0)).save(where / f"{i}.png")
        vision.pretrain(small_config(dataset=str(tmp_path / parent / "mine")), "resnet18")
    assert len(made) == 2


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    for name, tone in (("dark", 40), ("light", 200)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(5):
            pixels = torch.randint(0, 55, (40, 40, 3), dtype=torch.uint8) + tone
            Image.fromarray(pixels.numpy()).save(tmp_path / "mine" / name / f"{i}.png")
    return tmp_path / "mine"


def test_your_own_folder_from_the_command_line(folder, tmp_path, capsys):
    words = ["run", "vision", "--dataset", str(folder), "--results", str(tmp_path)]
    words += ["--groups", "none,c4", "--augmentations", "none", "--epochs", "1"]
    words += ["--pretrain-epochs", "1", "--train-limit", "8", "--test-limit", "0"]
    assert main(words) == 0
    assert "2 cells" in capsys.readouterr().out
    records = Store(tmp_path / "vision.json").records()
    assert {r.cell["group"]: r.metrics["consistent"] for r in records}["c4"] == 100
    before = (tmp_path / "vision.json").read_bytes()
    assert main(words) == 0  # nothing is run again
    assert (tmp_path / "vision.json").read_bytes() == before
    assert main(["results", "--results", str(tmp_path)]) == 0
    assert "mine, upright weights" in capsys.readouterr().out


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    words = ["run", "vision", "--dataset", str(tmp_path / "nowhere"), "--results", str(tmp_path)]
    assert main(words) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["run", "vision", "--epochs", "many"]) == 1
    assert "epochs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "chess"])


def test_info_runs(capsys):
    assert main(["info"]) == 0
    assert "cache folder" in capsys.readouterr().out
