"""Records and checkpoints know what they were made from by its content, not by its name."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_experiment as toy
from PIL import Image

from equitutor.__main__ import main
from equitutor.experiments import EXPERIMENTS, clip, fairness, methods, run, scan, vision
from equitutor.experiments.verify import verify
from equitutor.images import data
from equitutor.language.tokenizer import word_tokenizer
from equitutor.sequences import training
from equitutor.store import hub
from equitutor.store.provenance import provenance
from equitutor.store.results import Record, ResultsError, Store


def pictures(root, parts=("",), classes=("a", "b"), count=4, seed=0):
    """A folder of small random pictures."""
    random = np.random.default_rng(seed)
    for part in parts:
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.bmp")
    return root


def flip_one_pixel(root):
    path = sorted(root.rglob("*.bmp"))[0]
    times = path.stat()
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)  # of the same size, and as it seems of the same time
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchange_labels(root):
    """One picture of each class changes places with the other's."""
    one, other = next(root.rglob("a/0.bmp")), next(root.rglob("b/0.bmp"))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def rename(root):  # the order, and with it the draw of the test set
    path = next(root.rglob("a/0.bmp"))
    path.rename(path.with_name("z.bmp"))


def remove(root):
    next(root.rglob("a/0.bmp")).unlink()


CHANGES = [flip_one_pixel, exchange_labels, rename, remove]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("parts", [("",), ("train", "val")])
def test_a_folder_is_known_by_its_content(tmp_path, change, parts):
    one = pictures(tmp_path / "here" / "pets", parts)
    other = tmp_path / "there" / "cats"
    shutil.copytree(one, other, copy_function=shutil.copyfile)
    before = data.fingerprint(str(one))
    assert data.fingerprint(str(other)) == before
    change(other)
    assert data.fingerprint(str(other)) != before == data.fingerprint(str(one))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["cifar10", "hymenoptera"])
def test_a_named_set_is_known_by_its_content(tmp_path, monkeypatch, name, change):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "CIFAR10_CLASSES", ("a", "b"))
    folder = pictures(tmp_path / "set", ("train", "test"))
    before = data.fingerprint(name, folder)
    assert data.fingerprint(name, folder) == before
    change(folder)
    assert data.fingerprint(name, folder) != before


def test_built_in_sets_and_tasks_are_told_apart():
    assert len({data.fingerprint("digits"), *map(training.fingerprint, scan.TASKS)}) == 3
    assert data.fingerprint("digits") == data.fingerprint("digits", "ignored")


def test_a_pretrained_model_is_known_by_weights_words_and_labels():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=4))
    words = word_tokenizer(["x", "y"])
    found = [hub.fingerprint(model, words)]
    assert hub.fingerprint(model, words) == found[0]
    found.append(hub.fingerprint(model, word_tokenizer(["y", "x"])))
    model.config.id2label = {0: "good", 1: "bad"}
    found.append(hub.fingerprint(model, words))
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1e-3
    found.append(hub.fingerprint(model, words))
    assert len(set(found)) == 4


# -- records --------------------------------------------------------------------------------------

FAST = {"run_cell": lambda config, cell, device: {"accuracy": 1.0}, "prepare": lambda *args: []}


@pytest.fixture
def fast(monkeypatch):
    """Experiments whose cells cost nothing."""
    for module in (methods, vision, clip, fairness):
        for name, function in FAST.items():
            monkeypatch.setattr(module, name, function)
    monkeypatch.setattr("equitutor.commands.report", lambda name, records: "")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["methods", "vision", "clip"])
def test_other_pictures_under_the_same_name_are_refused(tmp_path, fast, capsys, name, change):
    one = pictures(tmp_path / "A" / "pets")
    other = tmp_path / "B" / "pets"
    shutil.copytree(one, other)
    change(other)
    store = tmp_path / "results" / f"{name}.json"
    words = ["run", name, "--preset", "quick", "--results", str(store.parent), "--dataset"]
    assert main([*words, str(one)]) == main([*words, str(one)]) == 0
    before = store.read_bytes()
    assert main([*words, str(other)]) == 1
    told = capsys.readouterr().err
    prints = [data.fingerprint(str(folder)) for folder in (one, other)]
    assert f"fingerprint of images: '{prints[0]}' -> '{prints[1]}'" in told
    assert store.read_bytes() == before
    change(one)  # in place
    assert main([*words, str(one)]) == 1 and store.read_bytes() == before
    with pytest.warns(UserWarning, match="fingerprint of images"):
        assert main([*words, str(other), "--replace"]) == 0
    records = Store(store).records()
    assert {r.provenance["data"]["images"] for r in records} == {prints[1]}


def test_another_text_of_the_same_name_is_refused(tmp_path, fast):
    config = fairness.Config.quick()
    for folder, text in (("a", "He is here."), ("b", "She is here.")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.txt").write_text(text)
    store = Store(tmp_path / "fairness.json", replace=False)
    run(replace(config, text=str(tmp_path / "a" / "t.txt")), store)
    with pytest.raises(ValueError, match=r"fingerprint of text: '.*' -> '.*'"):
        run(replace(config, text=str(tmp_path / "b" / "t.txt")), store)
    (tmp_path / "b" / "t.txt").write_text("He is here.")
    assert run(replace(config, text=str(tmp_path / "b" / "t.txt")), store)


@pytest.mark.parametrize(
    ("module", "config", "key"),
    [
        (methods, {"dataset": "/my/digits"}, {"dataset": "digits (folder)"}),
        (vision, {"dataset": "/my/digits/"}, {"dataset": "digits (folder)"}),
        (clip, {"dataset": "./cifar10"}, {"dataset": "cifar10 (folder)"}),
        (clip, {"checkpoints": ("/my/small",)}, {"checkpoint": "small (folder)"}),
        (fairness, {"pretrained": "/my/planted"}, {"pretrained": "planted (folder)"}),
        (methods, {"dataset": "/my/pets"}, {"dataset": "pets"}),
    ],
)
def test_a_path_that_ends_like_a_name_of_ours_has_another_key(module, config, key):
    made = replace(module.Config.quick(), **config)
    assert all(key.items() <= cell.items() for cell in made.cells())
    assert made.cells()[0] != module.Config.quick().cells()[0]


def test_records_of_before_stay_readable_and_are_marked(tmp_path, capsys, monkeypatch):
    store = Store(tmp_path / "toy_experiment.json", replace=False)
    (tmp_path / "data").write_text("1")
    config = toy.Config(data=str(tmp_path / "data"))
    old = Record(store.experiment, {"seed": 0}, {"value": 7.0}, config.settings(), {})
    store.add(old)
    with pytest.warns(UserWarning, match="1 of the cells are in .* without a fingerprint"):
        records = run(config, store)
    assert records[0] == old and len(records) == 4
    assert [r.provenance.get("data") for r in records][1:] == [
        {"file": toy.content(config.data)}
    ] * 3
    book = EXPERIMENTS["methods"].Config.quick()
    cell = book.cells()[0]
    found = Record("methods", cell, {"accuracy": 1.0}, book.settings(cell), provenance(1.0))
    Store(tmp_path / "methods.json").add(found)
    monkeypatch.setattr("equitutor.commands.report", lambda name, records: "")
    assert main(["verify", str(tmp_path)]) == main(["results", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "note: made before fingerprints were kept" in told
    assert "# methods: 1 cell, 1 without a fingerprint of their data" in told


def test_other_data_are_refused_inside_the_lock(tmp_path):
    """Two runs at once: neither had found the other's record when it began."""
    store = Store(tmp_path / "toy.json", replace=False)
    made = [
        Record("toy", {"seed": 0}, {"value": i}, {}, {"data": {"file": f"{i}"}}) for i in range(2)
    ]
    store.add(made[0])
    with pytest.raises(ResultsError, match="fingerprint of file: '0' -> '1'"):
        store.add(made[1])
    assert store.records() == [made[0]]


@pytest.mark.parametrize(("name", "kinds"), [("methods", {"images"}), ("scan", {"sentences"})])
def test_verify_compares_with_the_data_of_today(tmp_path, name, kinds):
    config = EXPERIMENTS[name].Config.quick()
    cell = config.cells()[0]
    known = {kind: source[0](*source[1:]) for kind, source in config.sources(cell).items()}
    assert known.keys() == kinds
    origin = provenance(1.0, command="by hand") | {"modified": False}

    def told(found):
        record = Record(
            name, cell, {"upright": 1.0}, config.settings(cell), origin | {"data": found}
        )
        Store(tmp_path / f"{name}.json").add(record)
        return verify(tmp_path)

    assert told(known) == (True, f"{name}.json: 1 cell, shown on no page")
    for kind in kinds:
        kept, text = told(known | {kind: "0123456789abcdef"})
        assert not kept and f"wrong: the fingerprint of its {kind} is 0123456789abcdef" in text
    for other in ({}, known | {"weights": "ab"}):
        kept, text = told(other)
        assert not kept and "one of fingerprint and experiment knows no" in text


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [flip_one_pixel, exchange_labels])
@pytest.mark.parametrize("module", [methods, vision, clip])
def test_changed_data_are_trained_on_anew(tmp_path, monkeypatch, module, change):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "CIFAR10_CLASSES", ("a", "b"))
    folder = pictures(tmp_path / "set", ("train", "test"), count=8)
    for name in ("train_upright", "train_clip"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda model, *args, **kwargs: trained.append(model))
    trained: list = []
    config = replace(module.Config.quick(), dataset="cifar10", folder=str(folder))
    which = {methods: ("resnet18", 0), vision: ("resnet18",), clip: (0,)}[module]
    for times in (1, 1):
        module.pretrain(config, *which)
        assert len(trained) == times
    change(folder)
    module.pretrain(config, *which)
    assert len(trained) == 2
    copy = shutil.copytree(folder, tmp_path / "copy")
    module.pretrain(replace(config, folder=str(copy)), *which)
    assert len(trained) == 2  # the same, wherever it lies


def test_a_record_tells_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    config = replace(
        EXPERIMENTS["dqn"].Config.quick(),
        moves=40,
        tune_moves=0,
        games=2,
        methods=("none",),
    )
    store = Store(tmp_path / "dqn.json")
    origins = [record.provenance for record in run(config, store)]
    names = {name for origin in origins for name in origin["weights"]}
    assert all(origin["data"] == {} for origin in origins) and names == {"dqn-Gridworld-v0-0"}
    (file,) = (tmp_path / "cache" / "checkpoints").glob("*.safetensors")
    header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
    assert (
        header["__metadata__"]["recipe"].rpartition(" ")[2][:16]
        == origins[0]["weights"]["dqn-Gridworld-v0-0"]
    )
