"""EquiLM's forward takes what its pretrained model takes."""

import pytest
import torch
from test_lm import GENDER, LISTS, PROMPTS, RACE, batch, gpt2, moved, quiet, tokenizer  # noqa: F401
from test_lm_transformers import llama
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPTJConfig, GPTJForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")


def gemma(tokenizer):  # noqa: F811
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    sizes |= {"vocab_size": len(tokenizer), "sliding_window": 4, "initializer_range": 0.3}
    layers = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(layer_types=layers, **sizes)).eval()


def gptj(tokenizer):  # noqa: F811
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "rotary_dim": 8, "n_positions": 64}
    return GPTJForCausalLM(GPTJConfig(vocab_size=len(tokenizer), **sizes)).eval()


@pytest.fixture(scope="module")
def lm(tokenizer):  # noqa: F811
    return quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"])


@torch.no_grad()
def by_hand(lm, inputs, **options):
    """The mean over the views, one by one."""
    views = [lm.model(**moved(lm.perms, g, inputs), **options).logits for g in range(len(lm.group))]
    return sum(v[..., p] for v, p in zip(views, lm.perms, strict=True)) / len(lm.group)


def four_dimensional(mask, kind):
    """A causal mask of (B, 1, T, T) that leaves out padding."""
    length = mask.shape[1]
    allowed = torch.ones(length, length).tril().bool() & mask[:, None, None].bool()
    allowed = allowed | torch.eye(length).bool()  # padding sees itself
    return allowed if kind is bool else torch.zeros(allowed.shape).masked_fill(~allowed, -1e9)


@torch.no_grad()
@pytest.mark.parametrize("kind", [bool, float])
@pytest.mark.parametrize("use_cache", [True, False])
def test_masks_of_four_dimensions(lm, tokenizer, kind, use_cache):  # noqa: F811
    inputs = batch(tokenizer)
    usual = lm(**inputs, use_cache=False).logits
    inputs["attention_mask"] = four_dimensional(inputs["attention_mask"], kind)
    found = lm(**inputs, use_cache=use_cache).logits
    expected = by_hand(lm, inputs)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, -1], usual[:, -1], atol=1e-4, rtol=1e-4)
    one = {"input_ids": inputs["input_ids"][:1], "attention_mask": inputs["attention_mask"][:1]}
    torch.testing.assert_close(lm(**one).logits, expected[:1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_mask_of_four_dimensions_goes_on_from_a_cache(lm, tokenizer):  # noqa: F811
    ids = batch(tokenizer, PROMPTS[:1])["input_ids"]
    mask = four_dimensional(torch.ones_like(ids), bool)
    n = ids.shape[1] - 2
    cache = lm(ids[:, :n], attention_mask=mask[:, :, :n, :n], use_cache=True).past_key_values
    found = lm(ids[:, n:], attention_mask=mask[:, :, n:], past_key_values=cache).logits
    torch.testing.assert_close(found, lm(ids).logits[:, n:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_tensors_of_the_batch_are_repeated_for_the_views(lm, tokenizer, use_cache):  # noqa: F811
    """GPT-2 embeds token types as if they were words: they have an effect."""
    inputs = batch(tokenizer)
    types = torch.arange(inputs["input_ids"].numel()).view_as(inputs["input_ids"]) % 7
    found = lm(**inputs, token_type_ids=types, use_cache=use_cache).logits
    expected = by_hand(lm, inputs, token_type_ids=types)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, lm(**inputs).logits, atol=0.1)
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    found = lm(**inputs, position_ids=positions, use_cache=use_cache).logits
    expected = by_hand(lm, inputs, position_ids=positions)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    plain = lm.model.generate(**inputs, token_type_ids=types, max_new_tokens=2, pad_token_id=0)
    said = lm.generate(**inputs, token_type_ids=types, max_new_tokens=2, pad_token_id=0)
    assert said.shape == plain.shape


@torch.no_grad()
@pytest.mark.parametrize(
    "keep", [0, 1, 3, 100, [0], [-1], [2, 5], [5, 0, -1], list(range(6)), [1, 1]]
)
@pytest.mark.parametrize("use_cache", [True, False])
def test_positions_to_score(lm, tokenizer, keep, use_cache):  # noqa: F811
    inputs = batch(tokenizer, ["The person was known for the Black man", PROMPTS[0]])
    keep = torch.tensor(keep) if isinstance(keep, list) else keep
    found = lm(**inputs, logits_to_keep=keep, use_cache=use_cache).logits
    whole = lm(**inputs, use_cache=False).logits
    expected = whole[:, keep] if isinstance(keep, torch.Tensor) else whole[:, -keep:]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("make", [gpt2, llama, gptj])
@pytest.mark.parametrize("use_cache", [True, False])
def test_empty_batches_as_the_pretrained_model(tokenizer, make, use_cache):  # noqa: F811
    lm, ids = quiet(make(tokenizer), tokenizer, RACE), torch.zeros(0, 5, dtype=torch.long)

    def shape(model):
        try:
            return model(ids, attention_mask=torch.ones_like(ids), use_cache=use_cache).logits.shape
        except RuntimeError as error:
            return type(error)

    assert shape(lm) == shape(lm.model)
    if make is gptj:  # most models of transformers fail; this one answers
        assert shape(lm) == (0, 5, len(tokenizer))


@torch.no_grad()
def test_tuples(lm, tokenizer):  # noqa: F811
    inputs = batch(tokenizer)
    out = lm(**inputs, return_dict=False)
    assert isinstance(out, tuple) and torch.equal(out[0], lm(**inputs).logits)
    off = {"output_attentions": False, "output_hidden_states": False, "inputs_embeds": None}
    assert torch.equal(lm(**inputs, **off).logits, out[0])
    loss, logits = lm(**inputs, labels=inputs["input_ids"], return_dict=False, use_cache=False)
    assert loss.dim() == 0 and logits.dim() == 3


@torch.no_grad()
@pytest.mark.parametrize("rope", ["default", "dynamic", "linear"])
def test_texts_beyond_the_stated_context_where_positions_are_computed(tokenizer, rope):  # noqa: F811
    scaled = {"rope_type": rope, "rope_theta": 10000.0} | (
        {"factor": 4.0} if rope != "default" else {}
    )
    model = llama(tokenizer, max_position_embeddings=16, rope_parameters=scaled)
    lm = quiet(model, tokenizer, GENDER)
    ids = batch(tokenizer, [" ".join(PROMPTS)])["input_ids"]
    assert ids.shape[1] > 16
    found = lm(ids, use_cache=False).logits
    torch.testing.assert_close(found, by_hand(lm, {"input_ids": ids}), atol=1e-4, rtol=1e-4)
    said = lm.generate(input_ids=ids, max_new_tokens=3, pad_token_id=0, do_sample=False)
    other = lm.generate(
        input_ids=lm.perms[1][ids], max_new_tokens=3, pad_token_id=0, do_sample=False
    )
    assert torch.equal(other, lm.perms[1][said])


@torch.no_grad()
def test_a_sliding_window(tokenizer):  # noqa: F811
    """Gemma's kind, past its window: the masks of its layers differ."""
    lm = quiet(gemma(tokenizer), tokenizer, RACE)
    inputs = batch(tokenizer)
    found = lm(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], by_hand(lm, inputs)[real], atol=1e-3, rtol=1e-3)
    how = {"max_new_tokens": 8, "pad_token_id": 0, "do_sample": False}
    said = lm.generate(**inputs, **how)
    assert torch.equal(said, lm.generate(**inputs, **how, use_cache=False))
    for g in range(3):
        assert torch.equal(lm.generate(**moved(lm.perms, g, inputs), **how), lm.perms[g][said])
