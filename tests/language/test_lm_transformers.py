"""EquiLM is a transformers model: what surrounds transformers takes it like any other."""

import copy
import json
import logging
import subprocess
import sys
import warnings

import pytest
import torch
from test_lm import GENDER, LISTS, PROMPTS, RACE, batch, gpt2, moved, quiet, tokenizer  # noqa: F401
from tokenizers import normalizers
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Trainer,
    TrainingArguments,
    pipeline,
)

from equitutor.language.config import EquiLMConfig
from equitutor.language.fairness import fairness_gap, perplexity
from equitutor.language.lm import EquiLM
from equitutor.language.tokenizer import word_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")

TEXTS = [
    "The man worked as a doctor .",
    "The woman was known for it .",
    "he and she were red .",
] * 4


def llama(tokenizer, **changes):  # noqa: F811
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "initializer_range": 0.3, "vocab_size": len(tokenizer)}
    return LlamaForCausalLM(LlamaConfig(**sizes | changes)).eval()


def mixtral(tokenizer):  # noqa: F811
    """Its weights have other names and shapes in a file than in the model."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    config = MixtralConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)
    return MixtralForCausalLM(config).eval()


MODELS = {
    "tied": gpt2,
    "untied": lambda tokenizer: gpt2(tokenizer, tie_word_embeddings=False),  # noqa: F811
    "llama": llama,
    "mixtral": mixtral,
}


@torch.no_grad()
def scores(lm, inputs):
    return lm.eval()(**inputs).logits


def breaks(lm, inputs):
    """How far the scores are from moving with the context, over all g."""
    here = scores(lm, inputs)
    return max(
        float((scores(lm, moved(lm.perms, g, inputs))[..., p] - here).abs().max())
        for g, p in enumerate(lm.perms)
    )


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("load", [EquiLM.from_pretrained, AutoModelForCausalLM.from_pretrained])
def test_saved_and_loaded_by_any_class(tokenizer, tmp_path, model, load):  # noqa: F811
    lists = {"gender": GENDER, "race": RACE}
    lm = quiet(MODELS[model](tokenizer), tokenizer, lists, general=["red"], average="log_probs")
    lm.save_pretrained(tmp_path)
    again, inputs = load(tmp_path), batch(tokenizer)
    assert type(again) is EquiLM and type(again.model) is type(lm.model)
    assert torch.equal(scores(again, inputs), scores(lm, inputs))
    assert torch.equal(again.perms, lm.perms) and again.words.cycles == lm.words.cycles
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert again.config.equality == lists and again.average == "log_probs"
    assert [p.data_ptr() for p in lm.parameters()] == [p.data_ptr() for p in lm.model.parameters()]
    tied = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert tied == (model == "tied")
    state = {f"model.{key}" for key in lm.model.state_dict()}
    assert set(lm.state_dict()) == set(again.state_dict()) == state
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is EquiLMConfig and config.model_type == "equilm"
    assert config.max_position_embeddings == lm.model.config.max_position_embeddings


def test_what_is_given_goes_before_what_was_saved(tokenizer, tmp_path):  # noqa: F811
    quiet(gpt2(tokenizer), tokenizer, GENDER).save_pretrained(tmp_path)
    lm = EquiLM.from_pretrained(tmp_path, RACE, average="probs")
    assert len(lm.group) == 3 and lm.average == lm.config.average == "probs"
    lm.save_pretrained(tmp_path / "more")
    assert EquiLM.from_pretrained(tmp_path / "more").config.equality == RACE


@pytest.mark.parametrize(
    "options",
    [
        {"is_main_process": True, "save_function": torch.save},
        {"safe_serialization": True},
        {"max_shard_size": "20KB"},
        {"push_to_hub": False},
        {"variant": "half"},
        {"state_dict": "its own"},
    ],
)
def test_every_option_of_saving(tokenizer, tmp_path, options):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, RACE)
    if "state_dict" in options:
        options = {"state_dict": lm.state_dict()}
    lm.save_pretrained(tmp_path, **options)
    files = {path.name for path in tmp_path.iterdir()}
    assert ("model.safetensors.index.json" in files) == ("max_shard_size" in options)
    where = {"variant": "half"} if "variant" in options else {}
    again = EquiLM.from_pretrained(tmp_path, **where)
    assert torch.equal(scores(again, batch(tokenizer)), scores(lm, batch(tokenizer)))


def test_another_process_than_the_main_one_writes_no_files(tokenizer, tmp_path):  # noqa: F811
    quiet(gpt2(tokenizer), tokenizer, RACE).save_pretrained(tmp_path, is_main_process=False)
    assert not list(tmp_path.iterdir())


def test_all_that_is_needed_goes_to_the_hub(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    """The half of it that is ours: the hub's own is a stand-in."""
    from transformers.utils import hub

    sent = []

    def upload(self, working_dir, repo_id, *args, **kwargs):
        import os

        sent.append((repo_id, set(os.listdir(working_dir))))

    class Hub:
        def create_repo(self, repo_id, **kwargs):
            from types import SimpleNamespace

            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    monkeypatch.setattr(hub.PushToHubMixin, "_upload_modified_files", upload)
    for module in ("modeling_utils", "configuration_utils", "tokenization_utils_base", "utils.hub"):
        target = f"transformers.{module}.hf_api"
        monkeypatch.setattr(target, Hub, raising=False)
        monkeypatch.setattr(f"transformers.{module}.create_repo", Hub().create_repo, raising=False)
    lm = quiet(gpt2(tokenizer), tokenizer, RACE)
    lm.save_pretrained(tmp_path / "fair", push_to_hub=True, repo_id="fair")
    assert {repo for repo, _ in sent} == {"me/fair"} and len(sent) == 2  # the model, the tokenizer
    assert {"config.json", "model.safetensors"} <= sent[0][1]
    assert "tokenizer.json" in sent[1][1]


def test_a_folder_of_version_0_1_0(tokenizer, tmp_path):  # noqa: F811
    """A model as its own class saves it, and the lists beside it."""
    model = gpt2(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lists = {"equality": {"race": RACE}, "general": ["red"], "average": "probs"}
    (tmp_path / "equitutor_lm.json").write_text(json.dumps(lists), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lm = EquiLM.from_pretrained(tmp_path)
    expected = quiet(model, tokenizer, {"race": RACE}, general=["red"], average="probs")
    assert torch.equal(scores(lm, batch(tokenizer)), scores(expected, batch(tokenizer)))
    assert lm.average == "probs" and type(AutoModelForCausalLM.from_pretrained(tmp_path)) is type(
        model
    )


def test_options_reach_model_tokenizer_and_lists(tokenizer, tmp_path):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, RACE)
    lm.save_pretrained(tmp_path / "new")
    lm.model.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    lists = {"equality": RACE, "general": None, "average": "logits"}
    for name in ("new", "bare"):
        inner = EquiLM.from_pretrained(
            tmp_path, RACE if name == "bare" else None, subfolder=name, dtype=torch.bfloat16
        )
        assert inner.dtype == torch.bfloat16 and len(inner.group) == 3
        assert inner.tokenizer.get_vocab() == tokenizer.get_vocab()
    (tmp_path / "bare" / "equitutor_lm.json").write_text(json.dumps(lists), encoding="utf-8")
    assert len(EquiLM.from_pretrained(tmp_path, subfolder="bare").group) == 3
    lm, info = EquiLM.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert type(lm) is EquiLM and not info["missing_keys"]
    lm, info = EquiLM.from_pretrained(tmp_path / "bare", RACE, output_loading_info=True)
    assert type(lm) is EquiLM and not info["missing_keys"]
    lm = EquiLM.from_pretrained(tmp_path / "new", attn_implementation="eager")
    assert lm.model.config._attn_implementation == "eager"


def test_transformers_knows_it_once_equitutor_is_imported(tokenizer, tmp_path):  # noqa: F811
    """Whichever is imported first; and equitutor alone loads neither torch nor transformers."""
    quiet(gpt2(tokenizer), tokenizer, RACE).save_pretrained(tmp_path)
    for code in (
        "import equitutor, sys; assert not {'torch', 'transformers'} & set(sys.modules);"
        "from transformers import AutoConfig, AutoModelForCausalLM as A;"
        "assert AutoConfig.from_pretrained(F).model_type == 'equilm'",
        "from transformers import AutoModelForCausalLM as A; A.from_config; import equitutor",
        "import transformers, equitutor; A = transformers.AutoModelForCausalLM",
    ):
        code = f"F = {str(tmp_path)!r}; {code}; print(type(A.from_pretrained(F)).__name__)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.stdout == "EquiLM\n", run.stderr


@pytest.mark.parametrize("module", ["causal", "lm", "lm_zero", "parts", "sampling", "views"])
def test_any_module_can_be_imported_first(module):
    """Though importing the Auto classes imports EquiLM."""
    code = f"import equitutor.language.{module}, transformers as t; t.AutoModelForCausalLM"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# -- files that do not fit ----------------------------------------------------------------------------


def edited(tmp_path, change):
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["equality"][0].__setitem__(0, "red"), "'red'"),
        (lambda c: c.update(equality=[["red", "blue", "green"]]), "'red'"),
        (lambda c: c.update(general=["blue"]), "'blue'"),
        (lambda c: c.update(equality=None), "no lists of words on record"),
        (lambda c: c.update(words=None), "no lists of words on record"),
        (lambda c: c["words"].pop("axes"), "axes"),
        (lambda c: c.update(base=None), "config.json damaged"),
        (lambda c: c["base"].pop("model_type"), "config.json damaged"),
        (lambda c: c.update(base_class="NoSuchModel"), "'NoSuchModel' is no model"),
        (lambda c: c.update(base_class="AutoConfig"), "'AutoConfig' is no model"),
        (lambda c: c.update(average="median"), "average must be one of"),
    ],
)
def test_a_config_that_was_changed(tokenizer, tmp_path, change, message):  # noqa: F811
    quiet(gpt2(tokenizer), tokenizer, RACE).save_pretrained(tmp_path)
    edited(tmp_path, change)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        EquiLM.from_pretrained(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_that_do_not_fit(tokenizer, tmp_path):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, RACE)
    lm.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(OSError, match=r"config.json' is not a valid JSON"):
        EquiLM.from_pretrained(tmp_path / "a")
    gpt2(tokenizer).save_pretrained(tmp_path / "b")
    tokenizer.save_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match="b has no lists of words on record"):
        EquiLM.from_pretrained(tmp_path / "b")
    with pytest.raises(OSError, match="nowhere"):
        EquiLM.from_pretrained(tmp_path / "nowhere", RACE)
    # A tokenizer of another model: the ids are other words.
    lm.save_pretrained(tmp_path / "c")
    other = json.loads((tmp_path / "c" / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = other["model"]["vocab"]
    a, b = "ĠBlack", "Ġdoctor"
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    (tmp_path / "c" / "tokenizer.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ValueError, match="' Black' in the lists on record, but ' doctor'"):
        EquiLM.from_pretrained(tmp_path / "c")
    lm.save_pretrained(tmp_path / "d")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "d" / name).unlink()
    with pytest.warns(UserWarning, match="tokenizer could not be loaded"):
        bare = EquiLM.from_pretrained(tmp_path / "d")
    assert bare.tokenizer is None and torch.equal(bare.perms, lm.perms)


def test_a_tokenizer_that_writes_small_letters(tmp_path):
    """To it Black is black, which is no reason to take it for another model's."""
    words = [*["black", "white", "asian", "the", "person", "was", "a", "doctor"]]
    small = word_tokenizer(words)
    small.backend_tokenizer.normalizer = normalizers.Lowercase()
    lm = quiet(gpt2(small), small, RACE)
    lm.save_pretrained(tmp_path)
    again = EquiLM.from_pretrained(tmp_path)
    assert torch.equal(again.perms, lm.perms) and len(lm.support) == 3
    assert again.tokenizer.encode("Black") == small.encode("Black")


# -- training -----------------------------------------------------------------------------------------


def data(tokenizer):  # noqa: F811
    return [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS]


def trainer(model, tokenizer, folder, **options):  # noqa: F811
    usual = {"num_train_epochs": 1, "use_cpu": True, "report_to": [], "disable_tqdm": True}
    return Trainer(
        model,
        TrainingArguments(str(folder), **usual | options),
        train_dataset=data(tokenizer),
        eval_dataset=data(tokenizer)[:3],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )


@pytest.mark.parametrize("model", MODELS)
def test_trainer_with_its_own_checkpoints(tokenizer, tmp_path, model):  # noqa: F811
    lm = quiet(MODELS[model](tokenizer), tokenizer, GENDER)
    before = copy.deepcopy(lm.state_dict())
    trainer(lm, tokenizer, tmp_path).train()
    assert any(not torch.equal(value, before[key]) for key, value in lm.state_dict().items())
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    again, inputs = AutoModelForCausalLM.from_pretrained(checkpoint), batch(tokenizer)
    torch.testing.assert_close(scores(again, inputs), scores(lm, inputs))
    assert breaks(again, inputs) < 3e-5
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_trainer_resumes_and_brings_back_the_best(tokenizer, tmp_path):  # noqa: F811
    steps = {"per_device_train_batch_size": 4, "save_steps": 1, "num_train_epochs": 2}
    whole = quiet(gpt2(tokenizer), tokenizer, GENDER)
    trainer(whole, tokenizer, tmp_path / "a", **steps).train()
    half = quiet(gpt2(tokenizer), tokenizer, GENDER)
    trainer(half, tokenizer, tmp_path / "a", **steps).train(
        resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3")
    )
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(half.state_dict()[key], value, atol=1e-5, rtol=1e-4)
    best = quiet(gpt2(tokenizer), tokenizer, GENDER)
    run = trainer(
        best,
        tokenizer,
        tmp_path / "b",
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=3e-2,  # too large: the best is not the last
        **steps,
    )
    run.train()
    kept = AutoModelForCausalLM.from_pretrained(run.state.best_model_checkpoint)
    assert torch.equal(scores(kept, batch(tokenizer)), scores(best, batch(tokenizer)))
    out = run.predict(data(tokenizer)[:3])
    assert out.predictions.shape[-1] == len(tokenizer)


def test_label_smoothing_shifts_the_labels(tokenizer, tmp_path):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER)
    inputs = dict(tokenizer(["The man was red", "He was the man"], return_tensors="pt"))
    inputs["labels"] = inputs["input_ids"].clone()
    by_hand = cross_entropy(
        scores(lm, {"input_ids": inputs["input_ids"]})[:, :-1].flatten(0, 1),
        inputs["labels"][:, 1:].flatten(),
    )
    for smoothing in (0.0, 1e-7):
        run = trainer(lm, tokenizer, tmp_path, label_smoothing_factor=smoothing)
        loss = run.compute_loss(lm, dict(inputs))
        torch.testing.assert_close(loss, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {"neftune_noise_alpha": 5.0},
        {"bf16": True},
        {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2},
        {"label_smoothing_factor": 0.1},
    ],
)
def test_options_of_the_trainer(tokenizer, tmp_path, options):  # noqa: F811
    lm = quiet(gpt2(tokenizer, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokenizer, GENDER)
    run = trainer(lm, tokenizer, tmp_path, save_strategy="no", **options)
    assert run.train().global_step > 0
    assert breaks(lm, batch(tokenizer)) < 3e-5


def test_gradients_do_not_depend_on_checkpointing(tokenizer):  # noqa: F811
    lm = quiet(gpt2(tokenizer, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), tokenizer, RACE).train()
    inputs = batch(tokenizer)
    grads = []
    for enable in (False, True):
        if enable:
            lm.gradient_checkpointing_enable()
            assert lm.is_gradient_checkpointing
        lm.zero_grad()
        lm(**inputs, labels=inputs["input_ids"]).loss.backward()
        grads.append([p.grad.clone() for p in lm.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_loss_counts_tokens_over_accumulated_batches(tokenizer):  # noqa: F811
    """As transformers' own models: the sum over the batch, divided by the number that is given."""
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER)
    ids = batch(tokenizer)["input_ids"]
    mean = lm(input_ids=ids, labels=ids).loss
    given = lm(input_ids=ids, labels=ids, num_items_in_batch=torch.tensor(1000)).loss
    torch.testing.assert_close(given, mean * ids[:, 1:].numel() / 1000)


# -- adapters -----------------------------------------------------------------------------------------


def lora(**options):
    peft = pytest.importorskip("peft")
    usual = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["c_attn", "c_proj"]}
    return peft, peft.LoraConfig(**usual | options)


def shaken(model):
    """Adapters begin as the identity: make them something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    return model


def test_adapters_inside(tokenizer, tmp_path):  # noqa: F811
    peft, config = lora()
    inner = shaken(peft.get_peft_model(gpt2(tokenizer), config)).eval()
    lm, inputs = quiet(inner, tokenizer, RACE), batch(tokenizer)
    assert lm.model is inner and breaks(lm, inputs) < 3e-5
    bare = quiet(gpt2(tokenizer), tokenizer, RACE)
    assert not torch.allclose(scores(lm, inputs), scores(bare, inputs), atol=1e-2)
    assert {n for n, p in lm.named_parameters() if p.requires_grad} == {
        n for n, _ in lm.named_parameters() if "lora_" in n
    }
    trainer(lm, tokenizer, tmp_path).train()
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    lm.save_pretrained(tmp_path / "saved")
    for folder in (checkpoint, tmp_path / "saved"):
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert type(again.model) is type(inner)
        torch.testing.assert_close(scores(again, inputs), scores(lm, inputs))


def test_adapters_around(tokenizer, tmp_path):  # noqa: F811
    peft, config = lora()
    lm, inputs = quiet(gpt2(tokenizer), tokenizer, RACE), batch(tokenizer)
    lm.save_pretrained(tmp_path / "base")
    lm = EquiLM.from_pretrained(tmp_path / "base")
    around = shaken(peft.get_peft_model(lm, config))
    trainer(around, tokenizer, tmp_path / "run", label_smoothing_factor=0.1).train()
    here = scores(around, inputs)
    for g, p in enumerate(lm.perms):
        there = scores(around, moved(lm.perms, g, inputs))[..., p]
        torch.testing.assert_close(there, here, atol=3e-5, rtol=1e-4)
    around.save_pretrained(tmp_path / "adapter")
    loaded = [
        peft.PeftModel.from_pretrained(
            EquiLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
        ),
        peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "adapter"),
    ]
    for each in loaded:
        torch.testing.assert_close(scores(each, inputs), here)
    said = [
        each.generate(**inputs, max_new_tokens=4, pad_token_id=0, do_sample=False)
        for each in loaded
    ]
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    # Adapters of the pretrained model alone, in a folder without a config.
    plain = shaken(peft.get_peft_model(gpt2(tokenizer), config))
    gpt2(tokenizer).save_pretrained(tmp_path / "plain")
    plain.base_model.model.config._name_or_path = str(tmp_path / "plain")
    plain.peft_config["default"].base_model_name_or_path = str(tmp_path / "plain")
    plain.save_pretrained(tmp_path / "plain adapter")
    tokenizer.save_pretrained(tmp_path / "plain adapter")
    tuned = EquiLM.from_pretrained(tmp_path / "plain adapter", RACE)
    expected = quiet(plain, tokenizer, RACE)
    torch.testing.assert_close(scores(tuned, inputs), scores(expected, inputs))
    merged = loaded[0].merge_and_unload()
    assert type(merged) is EquiLM
    torch.testing.assert_close(scores(merged, inputs), here, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["PromptTuning", "PrefixTuning", "PromptEncoder", "Lora", "IA3"])
def test_adapters_that_put_tokens_before_each_part_of_a_text(tokenizer, kind):  # noqa: F811
    """Prompts that are learnt were added at every step; what changes the layers is read in parts as a whole."""
    peft = pytest.importorskip("peft")
    changes = {"PromptEncoder": {"encoder_hidden_size": 8}}.get(kind, {})
    changes |= {} if kind in ("Lora", "IA3") else {"num_virtual_tokens": 3}
    model = peft.get_peft_model(
        llama(tokenizer), getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", **changes)
    )
    if kind not in ("Lora", "IA3"):
        with pytest.raises(ValueError, match=r"puts virtual tokens before .* as LoRA or IA3"):
            EquiLM(model, tokenizer, RACE)
        return
    lm, inputs = quiet(shaken(model), tokenizer, RACE), batch(tokenizer)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(
        lm.generate(**inputs, **options), lm.generate(**inputs, **options, use_cache=False)
    )


# -- placing, quantising, compiling -------------------------------------------------------------------


@pytest.mark.parametrize("far", ["disk", "cpu"])
def test_offloaded_weights(tokenizer, tmp_path, far):  # noqa: F811
    model = llama(tokenizer)
    expected, inputs = quiet(model, tokenizer, RACE), batch(tokenizer)
    model.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    expected.save_pretrained(tmp_path / "ours")
    near = ("model.norm", "model.rotary_emb", "lm_head", "model.layers.1")
    places = dict.fromkeys(near, "cpu")
    places |= dict.fromkeys(("model.embed_tokens", "model.layers.0"), far)
    for name in ("bare", "ours"):
        prefix = "model." if name == "ours" else ""
        where = {f"{prefix}{key}": place for key, place in places.items()}
        lm = EquiLM.from_pretrained(
            tmp_path / name,
            RACE if name == "bare" else None,
            device_map=where,
            offload_folder=str(tmp_path / "weights"),
        ).eval()
        assert lm.device == torch.device("cpu")
        torch.testing.assert_close(scores(lm, inputs), scores(expected, inputs))
        how = {"max_new_tokens": 3, "pad_token_id": 0, "do_sample": False}
        assert torch.equal(lm.generate(**inputs, **how), expected.generate(**inputs, **how))
        assert perplexity(lm, "The man was red and she was", window=4) == pytest.approx(
            perplexity(expected, "The man was red and she was", window=4)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            lm.save_pretrained(tmp_path / f"{name} again")
        again = EquiLM.from_pretrained(tmp_path / f"{name} again")
        torch.testing.assert_close(scores(again, inputs), scores(expected, inputs))


def test_accelerate_offloads_it(tokenizer):  # noqa: F811
    import accelerate

    lm, inputs = quiet(gpt2(tokenizer), tokenizer, RACE), batch(tokenizer)
    expected = scores(lm, inputs)
    accelerate.cpu_offload(lm.model, execution_device="cpu")
    assert next(lm.parameters()).is_meta and lm.device == torch.device("cpu")
    torch.testing.assert_close(scores(lm, inputs), expected)
    again = quiet(lm.model, tokenizer, RACE)  # of a model that is offloaded already
    torch.testing.assert_close(scores(again, inputs), expected)


def test_a_dynamically_quantised_model(tokenizer):  # noqa: F811
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    model = torch.ao.quantization.quantize_dynamic(
        llama(tokenizer), {torch.nn.Linear}, dtype=torch.qint8
    )
    lm, inputs = quiet(model, tokenizer, RACE), batch(tokenizer)
    # A batch is quantised by its largest entry, the same for all images of it.
    assert breaks(lm, inputs) < 1e-5
    assert lm.generate(**inputs, max_new_tokens=2, pad_token_id=0).shape[0] == len(PROMPTS)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_model_of_few_bits(tokenizer, tmp_path, bits):  # noqa: F811
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    few = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)
    llama(tokenizer, hidden_size=64).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    lm = EquiLM.from_pretrained(tmp_path / "bare", RACE, quantization_config=few).eval()
    inputs = batch(tokenizer)
    assert breaks(lm, inputs) < 0.05
    lm.save_pretrained(tmp_path / "ours")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(scores(again, inputs), scores(lm, inputs), atol=1e-2, rtol=1e-2)


def test_compiled(tokenizer):  # noqa: F811
    lm, inputs = quiet(llama(tokenizer), tokenizer, RACE), batch(tokenizer)
    torch.compiler.reset()
    compiled = torch.compile(lm, fullgraph=True, backend="eager")
    with torch.no_grad():
        found = compiled(**inputs, use_cache=False).logits
    torch.testing.assert_close(found, scores(lm, inputs), atol=1e-5, rtol=1e-5)


# -- others who use it ----------------------------------------------------------------------------------


def test_a_pipeline_without_a_complaint(tokenizer, caplog):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER)
    logger = logging.getLogger("transformers")
    logger.propagate = True
    try:
        say = pipeline("text-generation", model=lm, tokenizer=tokenizer)
        out = say("The man was", max_new_tokens=3, do_sample=False)
    finally:
        logger.propagate = False
    assert out[0]["generated_text"].startswith("The man was")
    assert not [r.message for r in caplog.records if "not supported" in r.message]


def test_an_evaluation_harness(tokenizer):  # noqa: F811
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = quiet(gpt2(tokenizer), tokenizer, RACE)
    harness = HFLM(pretrained=lm, tokenizer=tokenizer, device="cpu")
    people = RACE[0]
    asked = [(f"The {who} person was", " known as the red car") for who in people]
    asks = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(asked)]
    found = [value for value, _ in harness.loglikelihood(asks, disable_tqdm=True)]
    assert max(found) - min(found) < 1e-4
    ids = [tokenizer(a + b, return_tensors="pt")["input_ids"] for a, b in asked]
    after = len(tokenizer(asked[0][1])["input_ids"])
    log_p = scores(lm, {"input_ids": ids[0]})[0, -after - 1 : -1].log_softmax(-1)
    by_hand = log_p.gather(1, ids[0][0, -after:, None]).sum()
    assert found[0] == pytest.approx(float(by_hand), abs=1e-4)


def test_it_keeps_to_its_words_when_embeddings_are_added(tokenizer):  # noqa: F811
    lm, inputs = quiet(gpt2(tokenizer), tokenizer, RACE), batch(tokenizer)
    before = scores(lm, inputs)
    lm.resize_token_embeddings(len(tokenizer) + 5)
    after = scores(lm, inputs)
    assert after.shape[-1] == len(tokenizer) + 5 == lm.perms.shape[1]
    torch.testing.assert_close(after[..., : len(tokenizer)], before)
    assert breaks(lm, inputs) < 1e-5 and fairness_gap(lm, ["The Black person was"]) < 1e-6


def test_words_that_move_are_not_taken_away(tokenizer):  # noqa: F811
    lm, inputs = quiet(gpt2(tokenizer), tokenizer, RACE), batch(tokenizer)
    before, last = scores(lm, inputs), int(lm.support.max())
    for few in ({"new_num_tokens": last}, {"new_num_tokens": last - 7, "pad_to_multiple_of": 2}):
        with pytest.raises(ValueError, match=f"at least {last + 1} of them"):
            lm.resize_token_embeddings(**few)
    assert torch.equal(scores(lm, inputs), before)
    lm.resize_token_embeddings(last - 1, pad_to_multiple_of=last + 1)
    assert lm.perms.shape[1] == last + 1 == lm.model.config.vocab_size


def test_other_models_are_as_they_were(tokenizer, tmp_path):  # noqa: F811
    """Making an EquiLM, training or saving it leaves the pretrained model one of its own kind."""
    model = gpt2(tokenizer)
    weights = copy.deepcopy(model.state_dict())
    quiet(model, tokenizer, RACE).save_pretrained(tmp_path / "ours")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    model.save_pretrained(tmp_path / "bare")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "bare")
    assert type(again.config) is type(model.config) and again.config.model_type == "gpt2"
    assert AutoTokenizer.from_pretrained(tmp_path / "ours").get_vocab() == tokenizer.get_vocab()
