import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import equitutor as eq
from equitutor.__main__ import main
from equitutor.arguments import parser
from equitutor.commands import _config
from equitutor.experiments import EXPERIMENTS, clip, methods, towers
from equitutor.experiments.clip import caption_tokenizer
from equitutor.images import data, lit
from equitutor.images import training as image_fit
from equitutor.images.small_clip import CAPTIONS, STATISTICS, small_clip
from equitutor.images.zeroshot import (
    CLIP,
    MapAverage,
    ZeroShotClassifier,
    check_classes,
    prompt_features,
)
from equitutor.language.sentences import SentenceEncoder
from equitutor.store.results import Store

CLASSES = ("cat", "dog", "red fish")
TINY = clip.Config(
    groups=("c4",),
    seeds=(0,),
    train_limit=64,
    tune_limit=40,
    test_limit=16,
    width=32,
    layers=2,
    pretrain_steps=3,
    lambda_epochs=1,
    epochs=1,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


def small(seed=0, size=32, classes=CLASSES):
    torch.manual_seed(seed)
    tokenizer = caption_tokenizer(classes)
    model = small_clip(len(tokenizer), size, 8, 32, 3).eval()
    for p in model.parameters():  # fresh weights are so small that all images look alike
        p.data.mul_(3)
    return model, tokenizer


def classifier(seed=0):
    model, tokenizer = small(seed)
    return ZeroShotClassifier(model, tokenizer, CLASSES, CAPTIONS, STATISTICS).eval()


def images(count=24):
    return image_fit.limit(image_fit.load("digits")["test"], count, 0)


# -- the classifier ---------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [STATISTICS, CLIP])
def test_scores_are_those_of_transformers(statistics):
    """One template: CLIPModel's own logits_per_image, with its own normalisation."""
    model, tokenizer = small()
    ours = ZeroShotClassifier(model, tokenizer, CLASSES, ["a photo of a {}"], statistics).eval()
    pixels = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(s)[:, None, None] for s in statistics)
    prompts = tokenizer([f"a photo of a {c}" for c in CLASSES], padding=True, return_tensors="pt")
    inputs = {k: prompts[k] for k in ("input_ids", "attention_mask")}
    x = (pixels - torch.tensor(image_fit.MEAN)[:, None, None]) / torch.tensor(image_fit.STD)[
        :, None, None
    ]
    with torch.no_grad():
        theirs = model(pixel_values=(pixels - mean) / std, **inputs).logits_per_image
        torch.testing.assert_close(ours(x), theirs, rtol=1e-4, atol=1e-4)


def test_prompts_by_hand():
    """The mean of normalised prompts, normalised; a class of two words and padding count."""
    model, tokenizer = small()
    found = prompt_features(model, tokenizer, CLASSES, CAPTIONS)
    for i, name in enumerate(CLASSES):
        each = []
        for caption in CAPTIONS:
            ids = tokenizer(caption.format(name), return_tensors="pt")["input_ids"]
            with torch.no_grad():
                y = model.get_text_features(ids).pooler_output[0]
            each.append(y / y.norm())
        mean = sum(each) / 3
        torch.testing.assert_close(found[i], mean / mean.norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "templates", "error", "message"),
    [
        (CLASSES, ["a photo"], ValueError, "the template 'a photo' has no single place"),
        (CLASSES, ["{} and {}"], ValueError, "no single place"),
        ([], CAPTIONS, ValueError, "classes must be one or more"),
        (["cat", " "], CAPTIONS, ValueError, "none empty"),
        (["cat", "cat"], CAPTIONS, ValueError, "'cat' is there twice"),
        ("cat", CAPTIONS, TypeError, r"write \['cat'\]"),
        (CLASSES, "a {}", TypeError, "templates must be a list"),
        (CLASSES, [], ValueError, "templates must be one or more"),
    ],
)
def test_prompts_that_do_not_fit(classes, templates, error, message):
    with pytest.raises(error, match=message):
        ZeroShotClassifier(*small(), classes, templates)


def test_classes_that_do_not_match_the_data():
    with pytest.raises(ValueError, match=r"the data has 10 classes \(0, 1, .*the prompts name 3"):
        check_classes(CLASSES, images())
    config = replace(TINY, classes=CLASSES)
    with pytest.raises(ValueError, match="give one name for each class"):
        clip.classifier(config, clip.SMALL, images(), 0)


def test_no_clip_model():
    with pytest.raises(TypeError, match="must be a CLIPModel"):
        ZeroShotClassifier(nn.Linear(2, 2), None, CLASSES)


def test_a_checkpoint_that_cannot_be_had(tmp_path):
    with pytest.raises(data.DataError, match="copy its files into a folder"):
        ZeroShotClassifier.from_pretrained(tmp_path / "nothing", CLASSES)


# -- the symmetry -----------------------------------------------------------------------------


@pytest.mark.parametrize("action", [*list(clip.ACTIONS.values())[1:], eq.Rotations(eq.dihedral(4))])
@pytest.mark.parametrize("place", clip.PLACES)
@pytest.mark.parametrize("method", clip.METHODS[1:])
def test_scores_are_invariant(method, place, action, monkeypatch):
    monkeypatch.setitem(clip.ACTIONS, "here", action)
    base = classifier()
    x = torch.randn(3, 3, 32, 32)
    assert eq.equivariance_error(base, x, action) > 1e-2
    model = clip.wrapped(method, base, "here", place).eval()
    assert eq.equivariance_error(model, x, action) < 1e-5


def test_the_map_is_moved_back():
    """Averaged on the map by hand: turn, read, turn the map back, average, then the last layer."""
    base = classifier()
    rot = eq.Rotations(eq.cyclic(4))
    x = torch.randn(2, 3, 32, 32)
    tokens, maps = zip(*(base.body(x.rot90(k, (-2, -1))) for k in range(4)), strict=True)
    back = [m.rot90(-k, (-2, -1)) for k, m in enumerate(maps)]
    expected = base.top((sum(tokens) / 4, sum(back) / 4))
    torch.testing.assert_close(MapAverage(base, rot)(x), expected)
    wrong = base.top((sum(tokens) / 4, sum(maps) / 4))
    assert (wrong - expected).abs().max() > 1e-3
    body = eq.equitune(base.body, rot, {0: eq.Trivial(rot.group), 1: rot})
    errors = eq.equivariance_errors(body, x)
    assert max(errors.values()) < 1e-5


def test_both_places_train():
    for place in clip.PLACES:
        torch.manual_seed(0)
        model = clip.wrapped("lambda", classifier(), "c4", place)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        loss = nn.functional.cross_entropy(
            model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])
        )
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
        after = model.state_dict()
        moved = {k.split(".")[0] for k in after if not torch.equal(before[k], after[k])}
        assert {"average", "top"} <= moved or {"model", "weighting"} <= moved


@pytest.mark.parametrize("place", clip.PLACES)
@pytest.mark.parametrize("method", clip.METHODS[1:])
def test_tuned_scores_are_invariant_under_a_group_that_does_not_commute(method, place, monkeypatch):
    monkeypatch.setitem(clip.ACTIONS, "d4", eq.Rotations(eq.dihedral(4)))
    torch.manual_seed(0)
    some = image_fit.limit(images(), 6, 0)
    some = data.ImageSet(some.images, some.labels % 3, CLASSES, "toy")
    model = clip.wrapped(method, classifier(), "d4", place)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    if method in ("lambda", "attention"):
        methods.train_lambda(model, some, TINY, 32, 0, "cpu")
    image_fit.tune(model, some, TINY, 32, 0, "cpu")
    after = model.state_dict()
    changed = [k for k in after if not torch.equal(after[k], before[k])]
    assert any("vision" in k for k in changed)
    assert any("weighting" in k for k in changed) == (method in ("lambda", "attention"))
    x = image_fit.to_input(some.images, 32, "cpu")
    assert eq.equivariance_error(model.eval(), x, clip.ACTIONS["d4"]) < 1e-5


# -- the experiment ---------------------------------------------------------------------------


def test_prompts_and_classes_from_the_command_line():
    words = ["run", "clip", "--classes", "ant,bee", "--templates", "a {},one {}"]
    config = _config(parser(EXPERIMENTS).parse_args(words))
    assert config.classes == ("ant", "bee") and config.templates == ("a {}", "one {}")


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "clip", "--preset", "quick", "--results", str(tmp_path)]
    words += ["--places", "scores,map", "--groups", "c4,flip"]
    for name in ("train_limit", "tune_limit", "test_limit", "width", "layers", "pretrain_steps"):
        words += [f"--{name.replace('_', '-')}", str(getattr(TINY, name))]
    assert main(words) == 0
    assert "λ-equitune" in capsys.readouterr().out
    records = Store(tmp_path / "clip.json").records()
    assert len(records) == 2 * (1 + 2 * 3)
    for record in records:
        found = record.metrics
        assert found["accuracy_at_2"] == found["accuracy"]
        if record.cell["method"] != "none":
            assert found["accuracy"] == found["upright"] and found["error"] < 1e-5
    monkeypatch.setattr(clip, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


def test_the_paper_preset_from_files(tmp_path, monkeypatch):
    """A model in the hub's layout, with CLIP's own kind of tokenizer and ViT-B/32's shapes, in small."""
    model, tokenizer = small(size=48, classes=[f"c{i}" for i in range(10)])
    model.save_pretrained(tmp_path / "clip-vit-tiny")
    tokenizer.save_pretrained(tmp_path / "clip-vit-tiny")
    config = replace(
        clip.Config.paper(),
        dataset="digits",
        classes=tuple(f"c{i}" for i in range(10)),
        templates=("a photo of a {}",),
        checkpoints=(str(tmp_path / "clip-vit-tiny"),),
        methods=("none", "lambda"),
        groups=("c4",),
        seeds=(0,),
        tune_limit=16,
        test_limit=8,
        lambda_epochs=1,
    )
    for cell in config.cells():
        assert cell["checkpoint"] == "clip-vit-tiny"
        found = clip.run_cell(config, cell)
        assert found["error"] < 1e-5 or cell["method"] == "none"
    assert str(tmp_path) not in str(config.settings(config.cells()[0]))


def clip_of_the_paper(folder, patch):
    """A ViT-B CLIP of random weights, saved as the hub has it; its tokenizer knows letters only."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    config = CLIPConfig(vision_config={"patch_size": patch})  # the rest is ViT-B by default
    with torch.device("meta"):
        model = CLIPModel(config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-0.03, 0.03)
        for tower in (model.vision_model.embeddings, model.text_model.embeddings):
            tower.position_ids.copy_(torch.arange(tower.position_ids.shape[1]))
    model.save_pretrained(folder)
    letters = list(map(chr, range(33, 127)))
    words = [*letters, *(c + "</w>" for c in letters)]
    size = config.text_config.vocab_size
    words += [f"<unused{i}>" for i in range(size - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


@pytest.mark.parametrize(("patch", "side"), [(32, 7), (16, 14)])
def test_the_sizes_of_the_paper_load(tmp_path, patch, side):
    """ViT-B/32 and ViT-B/16 through from_pretrained, in the hub's layout, then averaged on the map."""
    clip_of_the_paper(tmp_path, patch)
    model = ZeroShotClassifier.from_pretrained(tmp_path, CLASSES).eval()
    assert model.size == 224 and model.top.text.shape == (3, 512)
    assert len({tuple(t.tolist()) for t in model.top.text}) == 3  # the prompts were told apart
    action = clip.ACTIONS["flip"]
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        token, patches = model.body(x)
    assert token.shape == (1, 768) and patches.shape == (1, 768, side, side)
    mean = MapAverage(model, action)
    with torch.no_grad():
        one, two = mean(x), mean(action.act(1, x))
    assert (one - two).abs().max() < 1e-5 * one.abs().max()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("methods", ("mean",), "methods must be some of none, equitune"),
        ("places", (), "places must be some of scores, map"),
        ("groups", ("c3",), "groups must be some of none, c4, flip"),
        ("checkpoints", (), "checkpoints must have at least one value"),
        ("width", 50, "width must be a multiple of its 3 heads"),
        ("checkpoints", ("/a/mine", r"C:\b\mine"), "differ in the last part .* got mine, mine"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})


def test_a_folder_is_known_by_its_images(tmp_path, monkeypatch):
    """Two folders may have one name, and a folder may change."""
    made = []
    monkeypatch.setattr(clip, "train_clip", lambda *_, **__: made.append(1))
    for parent, tone in (("a", 10), ("b", 90), ("a", 10)):
        for name in ("one", "two"):
            where = tmp_path / parent / "mine" / name
            where.mkdir(parents=True, exist_ok=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (tone, i, 0)).save(where / f"{i}.png")
        clip.pretrain(replace(TINY, dataset=str(tmp_path / parent / "mine")), 0)
    assert len(made) == 2


# -- two towers -------------------------------------------------------------------------------


@pytest.fixture
def two_towers(tmp_path):
    """A folder of pictures of two classes, and a tiny sentence encoder beside it."""
    from transformers import BertConfig, BertModel

    for part, count in (("train", 12), ("test", 6)):
        for tone, name in enumerate(("ant", "bee")):
            (tmp_path / "insects" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(0, 128, (40, 40, 3), dtype=torch.uint8)
                pixels[:20] += 100 * tone  # an upright bee is bright above
                picture = Image.fromarray(pixels.numpy())
                picture.save(tmp_path / "insects" / part / name / f"{i}.png")
    tokenizer = caption_tokenizer(("ant.", "bee."))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return replace(
        clip.Config.lit(),
        dataset=str(tmp_path / "insects"),
        reader=str(tmp_path / "tiny"),
        seeds=(0, 1),
        size=64,
        pool_limit=20,
        train_limit=16,
        tune_limit=8,
        projection_epochs=2,
        lambda_epochs=1,
        epochs=1,
    )


def test_two_towers_from_a_folder(tmp_path, two_towers, monkeypatch):
    store = Store(tmp_path / "results" / "clip.json", replace=False)
    records = clip.run(two_towers, store, device="cpu")
    assert len(records) == 2 * 2 * (1 + 2 * 4)
    for record in records:
        cell, found = record.cell, record.metrics
        assert cell["checkpoint"] == "lit" and cell["dataset"] == "insects"
        assert set(record.provenance["data"]) == {"images", "weights", "text"}
        assert set(record.provenance["weights"]) == {f"lit-insects-{cell['seed']}"}
        assert str(tmp_path) not in json.dumps([record.config, record.provenance])
        assert record.config["backbone"] == "efficientnet_lite0"
        assert not {"width", "pretrain_steps"} & set(record.config)
        assert ("lambda_lr" in record.config) == (cell["method"] in ("lambda", "attention"))
        if cell["method"] != "none":
            assert found["accuracy"] == found["upright"] and found["error"] < 1e-5
            assert found["consistent"] == 100
    monkeypatch.setattr(clip, "run_cell", lambda *_: pytest.fail("run again"))
    assert len(clip.run(two_towers, store, device="cpu")) == len(records)
    other = replace(two_towers, projection_lr=1e-2)
    with pytest.raises(ValueError, match="projection_lr"):
        clip.run(other, store, device="cpu")


def test_a_cell_is_what_the_pictures_give(two_towers):
    """Computed from the pictures, with no views kept: the accuracies of a cell before the tuning."""
    config = replace(two_towers, seeds=(1,), epochs=0)
    sets = image_fit.load(config.dataset, "", config.size)
    views = clip.views(config, "c4")
    names, group = ("ant", "bee"), clip.ACTIONS["c4"].group
    read = SentenceEncoder.from_pretrained(config.reader)
    joined = towers.projection(config, views["train"], names, group, 1)
    tower = lit.LockedTower(eq.images.backbone("efficientnet_lite0"))
    base = lit.TwoTowers(tower, joined, read, names)
    for method, place in (("none", "scores"), ("equitune", "map"), ("equizero", "scores")):
        cell = {"dataset": "insects", "checkpoint": "lit", "group": "c4", "method": method}
        found = clip.run_cell(config, cell | {"place": place, "seed": 1})
        model = clip.wrapped(method, base, "c4", place)
        expected = image_fit.evaluate(model, sets["test"], 64, "cpu")
        assert {k: found[k] for k in expected} == expected


def test_the_projection_is_trained_on_upright_pictures_of_its_own_draw(two_towers, monkeypatch):
    """And once, for all groups; of other words, pictures or numbers anew."""
    asked = []

    def train(features, labels, *rest):
        asked.append((features, labels))
        return nn.Linear(features.shape[1], 32)

    monkeypatch.setattr(lit, "train_projection", train)
    for group in ("flip", "c4", "flip"):
        views = clip.views(two_towers, group)
        towers.projection(two_towers, views["train"], ("ant", "bee"), clip.ACTIONS[group].group, 1)
    drawn = image_fit.limit(views["train"], 16, 1)
    assert len(asked) == 1
    assert torch.equal(asked[0][0], drawn.images[:, 0, :1280])
    assert torch.equal(asked[0][1], drawn.labels)
    for change in ({"projection_lr": 0.5}, {"train_limit": 8}, {"templates": ("{}",)}):
        config, known = replace(two_towers, **change), len(asked)
        towers.projection(config, views["train"], ("ant", "bee"), clip.ACTIONS["flip"].group, 1)
        assert len(asked) == known + 1


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("reader", "nothing", "the sentence encoder .* could not be loaded"),
        ("weights", "none.safetensors", "there is no file .* with weights of efficientnet_lite0"),
        ("weights", "other.safetensors", "does not hold the weights of efficientnet_lite0"),
    ],
)
def test_towers_that_cannot_be_had(tmp_path, two_towers, field, value, says):
    """They are missed before any work, and nothing is written."""
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    config = replace(two_towers, **{field: str(tmp_path / value)})
    store = Store(tmp_path / "results" / "clip.json", replace=False)
    with pytest.raises(data.DataError, match=says):
        clip.run(config, store, device="cpu")
    assert not store.path.exists()


def test_a_class_that_is_there_twice(two_towers):
    config = replace(two_towers, classes=("ant", "ant"))
    with pytest.raises(ValueError, match="'ant' is there twice"):
        clip.run_cell(config, config.cells()[0])


@pytest.mark.parametrize("preset", ["upright", "paper"])
def test_what_the_towers_need_is_no_setting_of_others(preset):
    config = clip.Config.preset(preset)
    alone = {"backbone", "size", "pool_limit", "projection_epochs", "projection_lr"}
    assert all(not alone & set(config.settings(cell)) for cell in config.cells())
    assert alone < set(clip.Config.lit().settings(clip.Config.lit().cells()[0]))


def test_pictures_that_changed_are_seen_anew(two_towers, tmp_path):
    """In one process: the views that cells share are those of the pictures of now."""
    config = replace(two_towers, seeds=(0,))
    cells = config.cells()[:1]

    def seen():
        clip.prepare(config, cells, "cpu")
        return clip.views(config, cells[0]["group"])["test"].images

    before = seen()
    for path in (tmp_path / "insects" / "test" / "ant").iterdir():
        Image.new("RGB", (40, 40), "red").save(path)
    after = seen()
    assert before.shape == after.shape and not torch.equal(before, after)
    assert torch.equal(after, seen())
