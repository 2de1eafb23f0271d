"""Wrapped models of transformers: labels in, a loss out, and Trainer trains, evaluates, saves and loads them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)
from zoo import D4, S3

import equitutor as eq

ROT = eq.Rotations(D4)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
WORDS = {"(1 2)": [0, 2, 1, *range(3, 11)], "(0 1)": [1, 0, 2, *range(3, 11)]}


def vit(**config):
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(image_size=8, patch_size=4, num_labels=3, **SIZES, **config)
    ).eval()


def pictures(count=24):
    torch.manual_seed(1)
    x, labels = torch.randn(count, 3, 8, 8), torch.arange(count) % 3
    x[torch.arange(count), labels] += 2
    return [{"pixel_values": p, "labels": k, "name": "x"} for p, k in zip(x, labels, strict=True)]


def trainer(model, folder, **settings):
    arguments = TrainingArguments(
        str(folder), report_to=[], disable_tqdm=True, dataloader_pin_memory=False, seed=0,
        learning_rate=5e-3, per_device_train_batch_size=8, **settings,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=pictures(), eval_dataset=pictures(12))


WRAPPED = {
    "equitune": lambda m: eq.equitune(m, ROT),
    "by name": lambda m: eq.equitune(m, {"pixel_values": ROT}),
    "equizero": lambda m: eq.equizero(m, ROT, loss=lambda out: eq.entropy(out.logits)),
    "lambda": lambda m: eq.lambda_equitune(
        m, ROT, weight_net=eq.LambdaNet(3, 8), features="classifier"
    ),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_trainer_by_its_defaults(how, tmp_path):
    """Labels are found, unused columns removed, the loss falls, checkpoints are taken up again."""
    model = WRAPPED[how](vit())
    run = trainer(model, tmp_path, num_train_epochs=4, save_strategy="epoch")
    assert run.label_names == ["labels"]
    before = run.evaluate()["eval_loss"]
    run.train()
    after = run.evaluate()["eval_loss"]
    assert after < 0.9 * before
    predicted = run.predict(pictures(12))
    assert predicted.predictions.shape == (12, 3) and predicted.label_ids.tolist() == [0, 1, 2] * 4
    assert eq.equivariance_error(model.eval(), torch.randn(2, 3, 8, 8)) < 1e-5

    fresh = WRAPPED[how](vit())
    again = trainer(fresh, tmp_path, num_train_epochs=5)
    assert again.train(resume_from_checkpoint=True).global_step == 15
    run.save_model(str(tmp_path / "last"))
    other = WRAPPED[how](vit())
    other.load_state_dict(load_file(tmp_path / "last" / "model.safetensors"))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(other.eval()(x).logits, model(x).logits)


def test_the_best_checkpoint_and_label_smoothing(tmp_path):
    run = trainer(
        eq.equitune(vit(), ROT),
        tmp_path,
        num_train_epochs=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        label_smoothing_factor=0.1,
        gradient_checkpointing=True,
    )
    run.train()
    assert run.evaluate()["eval_loss"] < 1.2


def test_saved_as_transformers_save_it(tmp_path):
    model = WRAPPED["lambda"](vit()).eval()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").is_file()
    other = WRAPPED["lambda"](ViTForImageClassification.from_pretrained(tmp_path)).eval()
    other.weighting.load_state_dict(torch.load(tmp_path / "weighting.pt", weights_only=True))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(other(x).logits, model(x).logits)


# -- the loss ---------------------------------------------------------------------------------


def bert(cls, **config):
    torch.manual_seed(0)
    return cls(BertConfig(vocab_size=11, max_position_embeddings=8, **SIZES, **config)).eval()


def test_the_loss_is_that_of_the_averaged_scores():
    x, labels = torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    model = eq.equitune(vit(), ROT)
    plain = model(x)
    for out in (model(x, labels=labels), model(pixel_values=x, labels=labels)):
        assert list(out) == ["loss", "logits"] and torch.equal(out.logits, plain.logits)
        torch.testing.assert_close(out.loss, nn.functional.cross_entropy(plain.logits, labels))
    loss, logits = model(x, labels=labels, return_dict=False)
    assert torch.equal(logits, plain.logits) and torch.equal(loss, out.loss)
    summed = model(x, labels=labels, num_items_in_batch=10).loss
    torch.testing.assert_close(summed, out.loss * 5 / 10)
    numbers = eq.equitune(vit(problem_type="regression"), ROT)
    wanted = torch.randn(5, 3)
    loss = numbers(x, labels=wanted).loss
    torch.testing.assert_close(loss, nn.functional.mse_loss(numbers(x).logits, wanted))


def test_the_loss_of_other_heads():
    words, scores = eq.TokenPermutation(S3, WORDS), eq.Permutation(S3, WORDS)
    ids = torch.randint(0, 11, (2, 5))
    masked = eq.equitune(bert(BertForMaskedLM), {"input_ids": words}, {"logits": scores})
    labels = torch.tensor([[1, -100, 3, -100, 5], [-100, 2, -100, 9, 0]])
    expected = nn.functional.cross_entropy(masked(ids).logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(masked(ids, labels=labels).loss, expected)

    tagger = eq.equitune(bert(BertForTokenClassification, num_labels=4), words)
    tags = torch.randint(0, 4, (2, 5))
    expected = nn.functional.cross_entropy(tagger(ids).logits.flatten(0, 1), tags.flatten())
    torch.testing.assert_close(tagger(ids, labels=tags).loss, expected)

    reader = eq.equitune(bert(BertForQuestionAnswering), words)
    start, end = torch.tensor([0, 3]), torch.tensor([2, 4])
    out = reader(ids, start_positions=start, end_positions=end)
    entropy = nn.functional.cross_entropy
    expected = (entropy(out.start_logits, start) + entropy(out.end_logits, end)) / 2
    torch.testing.assert_close(out.loss, expected)


def test_a_model_whose_loss_is_not_known_says_so():
    model = vit()
    model.loss_type = None
    with pytest.raises(ValueError, match="leave out the labels and take your own"):
        eq.equitune(model, ROT)(torch.randn(2, 3, 8, 8), labels=torch.tensor([0, 1]))


# -- it is a module like any other --------------------------------------------------------------


def test_what_is_passed_on():
    model = eq.equitune(vit(), ROT)
    assert model.config is model.model.config and model.device == torch.device("cpu")
    assert model.config.num_labels == model.num_labels == 3 and model.dtype == torch.float32
    assert isinstance(model, eq.GroupAverage) and "GroupAverage" in repr(model)
    with pytest.raises(AttributeError):
        model.generate  # noqa: B018 - the model's own would leave the average out


def test_copies_and_pickles():
    model, x = eq.equitune(vit(), ROT), torch.randn(2, 3, 8, 8)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is type(model) and torch.equal(twin(x).logits, model(x).logits)
        with torch.no_grad():
            twin.model.classifier.bias += 1
        assert not torch.equal(twin(x).logits, model(x).logits)


def test_plain_modules_are_wrapped_plainly():
    assert type(eq.equitune(nn.Flatten(), ROT)) is eq.GroupAverage
