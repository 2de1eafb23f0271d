"""The comparison of judges, on the planted corpus and on files like those of Sheng et al."""

from dataclasses import replace

import pytest
import torch
from encoders import tiny_reader

from equitutor.__main__ import main
from equitutor.experiments import regard
from equitutor.experiments.regard import Config, run_cell
from equitutor.language.regard import LABELS
from equitutor.language.sentences import SentenceEncoder
from equitutor.store.files import DataError
from equitutor.store.results import Store

SENTENCES = {"-1": "cat", "0": "red fish", "1": "dog", "2": "a photo of a"}


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    regard.judge.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Labelled sentences that a linear classifier can tell apart, and a sentence encoder."""
    for part, count in (("train", 20), ("dev", 3), ("test", 2)):
        lines = [f"{code}\t{text}" for _ in range(count) for code, text in SENTENCES.items()]
        path = tmp_path / "labelled" / f"{part}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines), encoding="utf-8")
    for each in tiny_reader():
        each.save_pretrained(tmp_path / "reader")
    return tmp_path


def people(folder, **changes):
    own = {"data": str(folder / "labelled"), "reader": str(folder / "reader")}
    return replace(Config.people(), **{**own, "judges": ("sentences",), **changes})


def test_the_planted_labels_are_those_of_the_words():
    cell = {"data": "planted", "judge": "valence", "part": "test"}
    found = run_cell(Config.quick(), cell)
    assert (
        found["accuracy"] == 100 and 200 < found["sentences"] < 300
    )  # the others say nothing of anybody
    assert sum(found[f"{a} as {a}"] for a in LABELS[:3]) == found["sentences"]


def test_the_regression_is_made_from_the_training_part(folder):
    config = people(folder)
    dev, test = (run_cell(config, cell) for cell in config.cells())
    assert (dev["sentences"], test["sentences"]) == (9, 6)  # those of label 2 are left out
    assert dev["accuracy"] == test["accuracy"] == 100
    (file,) = (folder / "cache" / "checkpoints").glob("regard-*.safetensors")
    path = folder / "labelled" / "train.tsv"
    swapped = path.read_text().replace("-1\t", "x\t").replace("1\t", "-1\t").replace("x\t", "1\t")
    path.write_text(swapped)
    regard.judge.cache_clear()
    assert run_cell(config, config.cells()[0])["accuracy"] == pytest.approx(100 / 3)
    assert len(list(file.parent.iterdir())) == 2  # other sentences, another file


def test_the_regression_is_sklearns(folder):
    from sklearn.linear_model import LogisticRegression

    judge = regard.judge("sentences", "cpu", str(folder / "reader"), str(folder / "labelled"))
    texts = [t for _ in range(20) for t in list(SENTENCES.values())[:3]]
    read = SentenceEncoder.from_pretrained(folder / "reader")
    fit = LogisticRegression(C=10.0, max_iter=10_000).fit(
        read(texts).double().numpy(), [0, 1, 2] * 20
    )
    torch.testing.assert_close(judge.weight, torch.tensor(fit.coef_).float(), atol=1e-3, rtol=1e-3)


def test_the_books_regression_needs_its_sentences_no_more(folder, tmp_path):
    """It comes with the package, for the book's encoder, and fits no other."""
    state = regard._regression(None, regard._BOOKS, "")
    assert state["weight"].shape == (3, 384) and state["bias"].shape == (3,)
    with pytest.raises(DataError, match=r"the book's regression is for .*MiniLM"):
        regard.judge("sentences", "cpu", str(folder / "reader"))


def test_from_the_command_line(folder, capsys):
    words = ["run", "regard", "--preset", "people", "--data", str(folder / "labelled")]
    words += ["--reader", str(folder / "reader"), "--judges", "sentences,valence"]
    words += ["--results", str(folder)]
    assert main(words) == 0
    assert "labelled: how well judges agree with the labels" in capsys.readouterr().out
    records = Store(folder / "regard.json").records()
    assert {(r.cell["judge"], r.cell["part"]) for r in records} == {
        (judge, part) for judge in ("sentences", "valence") for part in ("dev", "test")
    }
    for record in records:
        assert str(folder) not in str((record.cell, record.config))
        data = {"sentences"} | (
            {"reader", "train"} if record.cell["judge"] == "sentences" else set()
        )
        assert set(record.provenance["data"]) == data
    (folder / "labelled" / "dev.tsv").write_text("1\tcat")
    assert main(words) == 1 and "fingerprint of sentences" in capsys.readouterr().err


def test_the_planted_corpus_has_one_part(capsys):
    assert main(["run", "regard", "--parts", "test,dev"]) == 1
    assert "has the part test alone, got parts=('test', 'dev')" in capsys.readouterr().err


def test_files_that_are_missing(tmp_path):
    config = people(tmp_path)
    with pytest.raises(DataError, match=r"there is no file .*dev\.tsv.*nlg-bias"):
        config.sources(config.cells()[0])["sentences"][0](config.data, "dev")


def test_files_that_changed_are_read_anew(folder):
    """In one process: a run makes its judge from the sentences of now."""
    config = people(folder, parts=("test",))
    assert regard.run(config, Store(folder / "regard.json"))[0].metrics["accuracy"] == 100
    path = folder / "labelled" / "train.tsv"
    path.write_text(
        path.read_text().replace("-1\t", "x\t").replace("1\t", "-1\t").replace("x\t", "1\t")
    )
    (record,) = regard.run(config, Store(folder / "regard.json", replace=True))
    assert record.metrics["accuracy"] == pytest.approx(100 / 3)
