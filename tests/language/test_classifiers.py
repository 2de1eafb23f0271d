"""Regard with every kind of classifier that transformers has."""

import contextlib
import copy

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSES,
)

from equitutor.language import regard
from equitutor.language.regard import LABELS, Regard

CONTEXT = 24
SMALL = {
    64: ["vocab_size"],
    32: [
        *("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "embedding_size"),
        *("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "d_inner"),
        *("hidden_dim", "moe_intermediate_size", "shared_expert_intermediate_size", "dff"),
        *("word_embed_proj_dim", "d_latents", "entity_vocab_size", "entity_emb_size"),
    ],
    16: ["head_dim", "d_head", "d_kv", "v_head_dim", "kv_lora_rank", "q_lora_rank", "num_latents"],
    8: ["rotary_dim", "qk_rope_head_dim", "qk_nope_head_dim", "sliding_window"],
    4: [
        *("num_experts", "num_local_experts", "n_routed_experts", "attention_window", "block_size"),
    ],
    2: [
        *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"),
        *("encoder_layers", "decoder_layers", "num_attention_heads", "n_head", "n_heads"),
        *("num_heads", "encoder_attention_heads", "decoder_attention_heads", "eos_token_id"),
        *("num_key_value_heads", "num_experts_per_tok"),
    ],
    1: ["pad_token_id", "n_group", "topk_group", "first_k_dense_replace"],
    0: ["bos_token_id", "decoder_start_token_id"],
    0.5: ["initializer_range", "init_std"],
    CONTEXT: ["max_position_embeddings", "n_positions", "max_seq_len"],
}
#: What some architectures ask for besides.
MORE = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "layoutlmv3": {"hidden_size": 48, "coordinate_size": 8, "shape_size": 8},
    "lilt": {"hidden_size": 48},
    "reformer": {"axial_pos_shape": [4, 6], "axial_pos_embds_dim": [16, 16]},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}
#: Of the decoders that share one head and rotary positions, a few.
KINDS = [
    "albert",
    "bart",
    "bert",
    "big_bird",
    "bigbird_pegasus",
    "biogpt",
    "bloom",
    "camembert",
    "canine",
    "convbert",
    "ctrl",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "esm",
    "esmc",
    "eurobert",
    "falcon",
    "flaubert",
    "fnet",
    "funnel",
    "gemma2",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "ibert",
    "layoutlm",
    "layoutlmv3",
    "lilt",
    "llama",
    "longformer",
    "luke",
    "markuplm",
    "mbart",
    "megatron-bert",
    "mobilebert",
    "modernbert",
    "mpnet",
    "mpt",
    "mra",
    "mt5",
    "mvp",
    "nystromformer",
    "openai-gpt",
    "opt",
    "plbart",
    "qwen2",
    "reformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "squeezebert",
    "t5",
    "tapas",
    "umt5",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xlnet",
    "xmod",
    "yoso",
]


@pytest.fixture(scope="module")
def tokenizer():
    """Words w3 to w63, between <s> and </s>."""
    ids = {"<s>": 0, "<pad>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, 64)}
    made = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def small(kind):
    """A random classifier of two layers that reads CONTEXT tokens, if its positions end at all."""
    config_class = CONFIG_MAPPING[kind]
    known, alias = config_class().to_dict(), config_class.attribute_map
    sizes = {
        alias.get(name, name): size
        for size, all_names in SMALL.items()
        for name in all_names
        if (name in known or name in alias) and not isinstance(known.get(name), (list, dict))
    }
    sizes |= {name: None for name in ("layer_types", "mlp_layer_types") if name in known}
    sizes["id2label"] = dict(enumerate(LABELS))
    torch.manual_seed(0)
    model = getattr(transformers, CLASSES[kind])(config_class(**(sizes | MORE.get(kind, {}))))
    return model.eval()


def words(count):
    return " ".join(f"w{3 + (7 * i + count) % 60}" for i in range(count))


@torch.no_grad()
def answer(model, tokenizer, text):
    """The plain model's own label."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    return LABELS[model(input_ids=ids).logits.argmax()]


def readable(model, tokenizer):
    """The most tokens that the plain model reads, of as many as its config states."""
    config = model.config.get_text_config()
    if max(getattr(config, name, None) or 0 for name in SMALL[CONTEXT]) <= 0:
        return 3 * CONTEXT + 2
    for count in range(CONTEXT, 2, -1):
        with contextlib.suppress(IndexError, RuntimeError):
            answer(model, tokenizer, words(count - 2))
            return count
    raise AssertionError("it reads no text at all")


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_can_be_read_of_a_text_is_judged_and_alone_as_in_a_batch(
    kind, tokenizer, monkeypatch
):
    model = small(kind)
    most = readable(model, tokenizer)
    monkeypatch.setattr(regard, "from_hub", lambda *_: (tokenizer, model))
    scorer, seen = Regard(device="cpu"), []
    model.register_forward_pre_hook(
        lambda *given: seen.append(given[-1]["input_ids"].shape[1]), with_kwargs=True
    )
    texts = [words(n) for n in (3, most - 2, 3 * CONTEXT, 5, 3)]
    labels = scorer(texts)
    assert max(seen) == most
    assert labels == [scorer([text])[0] for text in texts]
    fit = [i for i, text in enumerate(texts) if len(text.split()) <= most - 2]
    assert [labels[i] for i in fit] == [answer(model, tokenizer, texts[i]) for i in fit]


@pytest.fixture
def plain(monkeypatch, tokenizer):
    """Regard with a classifier of a kind, changed before it is loaded."""

    def made(kind, change=lambda model, tokenizer: None):
        model, own = small(kind), copy.deepcopy(tokenizer)
        change(model, own)
        monkeypatch.setattr(regard, "from_hub", lambda *_: (own, model))
        return Regard(device="cpu"), model, own

    return made


def test_a_classifier_without_a_padding_token(plain):
    """Texts of one length would be a batch; the plain model takes no batch without such a token."""

    def change(model, tokenizer):
        model.config.pad_token_id = tokenizer.pad_token = None

    scorer, model, tokenizer = plain("gpt2", change)
    texts = [words(n) for n in (4, 9, 4)] + ["w9 w8 w7 w6 </s>"]
    assert scorer(texts) == [answer(model, tokenizer, text) for text in texts]


def test_the_tokenizers_own_limit_counts(plain):
    def change(model, tokenizer):
        tokenizer.model_max_length = 10

    for kind in ("t5", "bert", "llama"):
        scorer, model, tokenizer = plain(kind, change)
        assert scorer([words(40)]) == [answer(model, tokenizer, " ".join(words(40).split()[:8]))]


def test_ends_of_texts_within_a_text(plain):
    """BART judges by the last end, and wants as many in each text of a batch."""
    scorer, model, tokenizer = plain("bart")
    texts = ["w9 w8 w7", "w9 </s> w7", "w3 w4 w5"]
    assert scorer(texts) == [answer(model, tokenizer, text) for text in texts]


def test_a_text_without_tokens_is_refused(plain):
    def change(model, tokenizer):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")

    scorer, *_ = plain("gpt2", change)
    with pytest.raises(ValueError, match="the text ' ' has no tokens for the classifier"):
        scorer(["w9", " "])
