"""Sentence encoders: by hand, from folders, and what is none."""

import pytest
import torch
from encoders import tiny_reader

from equitutor.images.small_clip import small_clip
from equitutor.language import sentences
from equitutor.store.files import DataError


@pytest.fixture
def offline(monkeypatch):
    """What is not a folder cannot be had."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_text_is_the_mean_of_its_tokens():
    """By hand, one text at a time: padding beside a longer text changes nothing."""
    model, tokenizer = tiny_reader()
    found = sentences.SentenceEncoder(model, tokenizer)(["cat", "a photo of a red fish"])
    for text, feature in zip(["cat", "a photo of a red fish"], found, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean = model.eval()(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(feature, mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_an_encoder_from_a_folder_and_what_is_none(tmp_path, offline):
    model, tokenizer = tiny_reader()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "reader")
    read = sentences.SentenceEncoder.from_pretrained(tmp_path / "reader")
    ours = sentences.SentenceEncoder(model, tokenizer)
    torch.testing.assert_close(read(["cat"]), ours(["cat"]))
    found = sentences.fingerprint(tmp_path / "reader")
    model.embeddings.word_embeddings.weight.data[0, 0] += 1e-3
    model.save_pretrained(tmp_path / "reader")
    assert sentences.fingerprint(tmp_path / "reader") != found
    for name in (tmp_path / "nothing", "nobody/no-such-encoder"):
        with pytest.raises(
            DataError, match=r"sentence encoder .* could not be loaded .* in place of"
        ):
            sentences.SentenceEncoder.from_pretrained(name)
    for part in (small_clip(len(tokenizer)), tokenizer):
        part.save_pretrained(tmp_path / "clip")
    with pytest.raises(DataError, match=r"clip' is no encoder of texts \(.*all-MiniLM-L6-v2"):
        sentences.SentenceEncoder.from_pretrained(tmp_path / "clip")


def test_known_texts_need_no_encoder(tmp_path, offline):
    texts = {"cat": torch.tensor([1.0, 0.0]), "dog": torch.tensor([0.0, 1.0])}
    read = sentences.KnownTexts(texts, tmp_path / "nothing")
    assert read(["dog", "cat"]).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match="could not be loaded"):
        read(["cat", "horse"])
    model, tokenizer = tiny_reader()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "reader")
    read = sentences.KnownTexts({"cat": torch.zeros(32)}, tmp_path / "reader")
    found = read(["dog", "cat"])
    torch.testing.assert_close(found[0], sentences.SentenceEncoder(model, tokenizer)(["dog"])[0])
    assert not found[1].any() and set(texts) == {"cat", "dog"}  # what was given stays as it is
