"""The law, saving and loading for each causal architecture of transformers that a small config makes."""

import inspect
import logging
import warnings

import pytest
import torch
from test_lm import RACE, batch, moved, tokenizer  # noqa: F401
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from equitutor.language.lm import EquiLM

#: Sizes by the names that configs give them.
SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "n_inner", "dim_ff", "dff"), 64),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "moe_intermediate_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_head_kv"), 2),
    **dict.fromkeys(("head_dim", "attention_head_size", "word_embed_proj_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "top_k"), 2),
    "word_embed_proj_dim": 32,
    "rotary_dim": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}
LARGEST = 20_000_000  # weights: what becomes no smaller is left out


def small(name, size):
    """A small random model of an architecture, loud enough that scores differ; None if there is none."""
    kind = CONFIG_MAPPING[name]
    known = set(inspect.signature(kind.__init__).parameters) | set(dir(kind))
    known |= set(getattr(kind, "__dataclass_fields__", ()))
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    options = {k: v for k, v in SMALL.items() if k in known or k in kind.attribute_map}
    options |= {"vocab_size": size, "is_decoder": True, "initializer_range": 0.2} | ids
    torch.manual_seed(0)
    try:
        config = kind(**options)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        if sum(p.numel() for p in model.parameters()) > LARGEST:
            return None
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            scores = model(input_ids=torch.arange(12).view(2, 6)).logits
        return model if scores.shape == (2, 6, size) and bool(scores.isfinite().all()) else None
    except Exception:
        return None


NAMES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - {"equilm"})


@pytest.mark.parametrize("part", range(8))
@torch.no_grad()
def test_the_law_of_every_architecture(tokenizer, tmp_path, part):  # noqa: F811
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    inputs = batch(tokenizer, ["The Black man was the White", "An Asian person and the"])
    tested, refused = [], {}
    for name in NAMES[part::8]:
        model = small(name, len(tokenizer))
        if model is None:
            continue
        try:
            lm = EquiLM(model, tokenizer, RACE).eval()
        except ValueError as error:
            refused[name] = str(error)
            continue
        here = lm(**inputs).logits
        scale = here.abs().max()
        for g, p in enumerate(lm.perms):
            there = lm(**moved(lm.perms, g, inputs)).logits[..., p]
            assert (there - here).abs().max() <= 3e-6 * scale, name
        how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        said = lm.generate(**inputs, **how)
        assert torch.equal(lm.generate(**moved(lm.perms, 1, inputs), **how), lm.perms[1][said]), (
            name
        )
        lm.save_pretrained(tmp_path / name)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
        assert torch.allclose(again(**inputs).logits, here, atol=1e-5 * float(scale)), name
        tested.append(name)
    print(f"{len(tested)} kept the law: {', '.join(tested)}; refused: {refused}")
    assert len(tested) >= 5
    reasons = ("not causal", "keeps a state of its own", "not a causal language model")
    assert all(any(r in reason for r in reasons) for reason in refused.values()), refused
