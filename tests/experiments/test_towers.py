"""The book's two towers: as they come with the package."""

import pytest
import torch

import equitutor as eq
from equitutor.experiments import frozen, towers
from equitutor.images import lit
from equitutor.images.training import to_input
from equitutor.store.checkpoints import checksum
from equitutor.store.files import DataError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, an empty cache folder, and nothing is trained."""
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(lit, "train_projection", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(frozen, "load", lambda *_: pytest.fail("looked for pictures"))


def test_the_projection_is_that_of_the_recorded_runs():
    joined = towers.two_towers(["cat", "dog"]).top.projection
    records = [r for r in eq.results.recorded("clip") if r.cell["checkpoint"] == "lit"]
    known = {r.provenance["weights"]["lit-cifar10-0"] for r in records if r.cell["seed"] == 0}
    assert known == {checksum(joined.state_dict())[:16]}
    assert len(records) == 90


def test_a_cat_is_a_cat_by_any_name_and_from_all_sides():
    cat = eq.data.photographs(size=160)
    cat = to_input(cat.images[[cat.classes.index("cat")]], 160, "cpu")
    rot = eq.Rotations(eq.cyclic(4))
    for names in (["dog", "cat", "truck"], ["puppy", "kitten", "lorry"]):
        model = towers.two_towers(names)
        with torch.no_grad():
            assert model(rot.views(cat)).argmax(1).tolist() == [1] * 4
        assert eq.equivariance_error(model, cat, rot) > 1e-3
        assert eq.equivariance_error(eq.equitune(model, rot), cat, rot) < 1e-5


def test_its_words_need_no_encoder_and_others_do(tmp_path):
    model = towers.two_towers(towers.WORDS, ["a drawing of a {}.", "{}"])
    assert model.top.text.shape == (len(towers.WORDS), 384)
    alike = model.top.text @ model.top.text.T
    pairs = [("cat", "kitten"), ("dog", "puppy"), ("automobile", "car"), ("truck", "lorry")]
    for name, other in pairs:
        row = alike[towers.WORDS.index(other), :10]  # beside the ten classes
        assert row.argmax() == towers.WORDS.index(name)
    with pytest.raises(DataError, match="Connect to the network once"):
        towers.two_towers(["cat", "zebra"], reader=tmp_path / "nothing")
    with pytest.raises(ValueError, match="'cat' is there twice"):
        towers.two_towers(["cat", "cat"])
