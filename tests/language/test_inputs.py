"""What reaches a language model: the tokenizer's special tokens, as much text as fits, on its device."""

import copy
import math
import os
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import torch
import transformers
from tokenizers import processors
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from equitutor.book.explore import next_words
from equitutor.experiments.fairness import mean_perplexity
from equitutor.language.corpus_lm import small_gpt2
from equitutor.language.equality import equality
from equitutor.language.fairness import fairness_gap, perplexity, phrase_probabilities
from equitutor.language.inputs import (
    context_length,
    device_of,
    leading_tokens,
    longest_input,
    position_limit,
)
from equitutor.language.lm_zero import EquizeroLM
from equitutor.language.nlg import sample_texts
from equitutor.language.tokenizer import word_tokenizer

MODELS = Path(os.environ.get("EQUITUTOR_TEST_MODELS", "/missing"))
WORDS = ["man", "woman", "he", "she", "was", "worked", "as", "a", "doctor", "<bos>"]
BOS = 2 + len(WORDS)
TEXT = "he was a doctor as she was a man as he worked"
TEMPLATES = {"bare": "$A", "bos": "<bos> $A", "bos and eos": "<bos> $A <eos>"}


def speller(template):
    """Words, and the special tokens of a template around each text."""
    made = word_tokenizer(WORDS)
    made.add_special_tokens({"bos_token": "<bos>"})
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=TEMPLATES[template], special_tokens=[("<bos>", BOS), ("<eos>", 0)]
    )
    return made


@pytest.fixture(params=TEMPLATES)
def template(request):
    return request.param


@pytest.fixture
def tokenizer(template):
    return speller(template)


@pytest.fixture
def front(template):
    """The ids that are to stand in front of every text."""
    return [BOS] if "bos" in template else []


@pytest.fixture(scope="module")
def model():
    """Small and loud, so that what stands in front makes a difference."""
    made = small_gpt2(3 + len(WORDS), layers=1, width=16, heads=2, seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        made.transformer.wpe.weight.normal_()
        made.transformer.wte.weight.normal_()
    return made.double().eval()


@torch.no_grad()
def log_probs(model, ids):
    return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def own(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


# -- special tokens -------------------------------------------------------------------------------


def test_what_stands_in_front(tokenizer, front):
    assert leading_tokens(tokenizer) == front


def test_a_tokenizer_that_changes_the_text_is_refused():
    odd = SimpleNamespace(
        encode=lambda text, add_special_tokens: [7, 8] if add_special_tokens else [5]
    )
    with pytest.raises(ValueError, match=r"makes \[5\] of '0', but \[7, 8\]"):
        leading_tokens(odd)


def test_perplexity_is_the_exponential_of_the_models_loss(model, tokenizer):
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = math.exp(model(ids, labels=ids).loss)
    assert perplexity(model, TEXT, tokenizer) == pytest.approx(expected, rel=1e-6)
    assert perplexity(model, ids[0], tokenizer) == pytest.approx(expected, rel=1e-6)
    model.tokenizer = tokenizer
    assert mean_perplexity(model, [TEXT, TEXT]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(6, 3), (6, 5), (4, 1), (3, 2)])
def test_each_window_begins_with_the_special_tokens(model, tokenizer, front, window, stride):
    ids, losses, done = tokenizer.encode(TEXT), [], 0
    while done < len(ids) - 1:
        end = min(len(ids) - 1, window if done == 0 else done + stride)
        begin = max(0, end - window)
        row = ids[:window] if begin == 0 else front + ids[begin + len(front) : end]
        assert len(row) == window
        scores = log_probs(model, row)
        losses += [-float(scores[t - begin, ids[t + 1]]) for t in range(done, end)]
        done = end
    expected = math.exp(sum(losses) / len(losses))
    assert len(losses) == len(ids) - 1
    for text in (TEXT, ids):
        found = perplexity(model, text, tokenizer, window, stride, batch_size=2)
        assert found == pytest.approx(expected, rel=1e-9)


def test_ids_without_the_special_tokens_are_read_as_they_are(model):
    ids = own(speller("bos"), TEXT)
    assert perplexity(model, ids, speller("bos"), 4) == perplexity(model, ids, speller("bare"), 4)


def test_a_window_has_room_for_more_than_the_special_tokens(model):
    with pytest.raises(ValueError, match=r"window must be at least 2 .* got 1"):
        perplexity(model, TEXT, speller("bos"), window=1)
    with pytest.raises(ValueError, match="the window, 4 less the 1 special tokens in front"):
        perplexity(model, TEXT, speller("bos"), window=4, stride=4)


def test_phrases_come_after_the_special_tokens(model, tokenizer, front):
    before = front + own(tokenizer, "he was")
    found = phrase_probabilities(model, "he was", ["a", "a doctor"], tokenizer)
    for phrase, p in found.items():
        ids = before + own(tokenizer, phrase)
        scores = log_probs(model, ids)
        expected = sum(scores[t, ids[t + 1]] for t in range(len(before) - 1, len(ids) - 1)).exp()
        assert p == pytest.approx(float(expected), rel=1e-9)


def test_the_next_words_come_after_the_special_tokens(model, tokenizer, front):
    (found,) = next_words(model, tokenizer, ["he was"], count=4).values()
    p = log_probs(model, front + own(tokenizer, "he was"))[-1].exp()
    assert sorted(found.values()) == pytest.approx(sorted(p.topk(4).values.tolist()))
    with pytest.raises(ValueError, match="has no words"):
        next_words(model, tokenizer, [" "])


@pytest.mark.parametrize("rest", [None, ["was a man", "worked"]])
def test_the_gap_is_that_after_the_special_tokens(model, tokenizer, front, rest):
    words = equality(tokenizer, [["man", "woman"], ["he", "she"]], size=len(tokenizer))
    prompts, gap = ["he was", "a man"], 0.0
    for prompt in prompts:
        start = front + own(tokenizer, prompt)
        for more in [[]] if rest is None else [own(tokenizer, text) for text in rest]:
            sides = []
            for perm in words.perms[:2]:
                ids = perm[start + more].tolist()
                scores, end = log_probs(model, ids), len(start)
                steps = range(end - 1, len(ids) - 1)
                p = scores[-1, perm] if rest is None else sum(scores[t, ids[t + 1]] for t in steps)
                sides.append(p.exp())
            gap = max(gap, float((sides[0] - sides[1]).abs().max()))
    assert gap > 1e-4
    assert fairness_gap(model, prompts, rest, words, tokenizer) == pytest.approx(gap, rel=1e-9)


def test_samples_continue_the_special_tokens_and_do_not_show_them(model, tokenizer, front):
    prompts = ["he was", "she was a doctor as"]
    found = sample_texts(model, prompts, 1, new_tokens=4, top_k=1, tokenizer=tokenizer)
    for prompt, (text,) in zip(prompts, found, strict=True):
        ids = front + own(tokenizer, prompt)
        for _ in range(4):
            ids.append(int(log_probs(model, ids)[-1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert text == tokenizer.decode(ids, skip_special_tokens=True)
        assert "<bos>" not in text


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs $EQUITUTOR_TEST_MODELS")
def test_the_perplexity_of_gemma():
    file = {"gguf_file": "gemma-3-270m-q4_k_m.gguf"}
    tokenizer = AutoTokenizer.from_pretrained(MODELS, **file)
    gemma = AutoModelForCausalLM.from_pretrained(MODELS, **file).eval()
    text = (
        "The capital of France is Paris, and the capital of Germany is Berlin. Paris lies on the "
        "river Seine, and Berlin lies on the river Spree. Both cities are visited by millions of "
        "people every year."
    )
    assert perplexity(gemma, text, tokenizer) == pytest.approx(6.2, abs=0.1)
    assert perplexity(gemma, text, tokenizer, window=128) == pytest.approx(6.2, abs=0.1)


# -- lengths --------------------------------------------------------------------------------------

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 16,
    "rotary_dim": 4,
    "word_embed_proj_dim": 32,
    "ffn_dim": 32,
    "head_dim": 8,
    "pad_token_id": 1,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
#: kind, what its config says besides, and how many tokens it can read (None: no end).
LENGTHS = [
    ("GPT2", {}, 16),
    ("GPTBigCode", {}, 16),
    ("OPT", {}, 16),
    ("GPTJ", {}, 16),
    ("CodeGen", {}, 16),
    ("GPTNeo", {"attention_types": [[["global"], 1]], "num_layers": 1, "num_heads": 4}, 16),
    ("BioGpt", {}, 16),
    ("Roberta", {"is_decoder": True}, 14),
    ("Mpt", {"d_model": 32, "n_layers": 1, "n_heads": 4, "max_seq_len": 16}, 16),
    ("Llama", {}, None),
    ("Llama", {"rope_parameters": DYNAMIC}, None),
    ("Llama", {"rope_parameters": LINEAR}, None),
    ("GPTNeoX", {}, None),
    ("Falcon", {}, None),
    ("Falcon", {"alibi": True}, None),
    ("Bloom", {}, None),
    ("Phi", {}, None),
    ("Gemma2", {}, None),
    ("Mistral", {"sliding_window": 8}, None),
    ("Qwen2", {}, None),
    ("XGLM", {"d_model": 32, "num_layers": 1, "attention_heads": 4}, None),
    ("Rwkv", {"context_length": 16, "attention_hidden_size": 32, "num_hidden_layers": 2}, None),
]


def small(kind, more):
    config_class = getattr(transformers, f"{kind}Config")
    known = {*config_class().to_dict(), *config_class.attribute_map}
    config = config_class(**{k: v for k, v in (SIZES | more).items() if k in known})
    torch.manual_seed(0)
    make = getattr(transformers, f"{kind}LMHeadModel", None)
    return (make or getattr(transformers, f"{kind}ForCausalLM"))(config).eval()


@pytest.mark.parametrize(("kind", "more", "most"), LENGTHS)
def test_as_much_as_the_model_can_read(kind, more, most):
    model = small(kind, more)
    assert longest_input(model) == most
    assert (position_limit(model.config) is None) == (most is None)
    ids = torch.randint(3, 64, (49,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if most is None:
            expected = math.exp(model(ids[None], labels=ids[None]).loss)
            assert perplexity(model, ids, window=48) == pytest.approx(expected, rel=1e-4)
            return
        with pytest.raises((IndexError, RuntimeError)):
            model(ids[None, : most + 1])
    assert perplexity(model, ids) == perplexity(model, ids, window=most) > 1
    with pytest.raises(ValueError, match=f"context length, {most}; got {most + 1}"):
        perplexity(model, ids, window=most + 1)


def test_the_text_part_of_a_config_counts():
    config = transformers.Gemma3Config(text_config={"max_position_embeddings": 16})
    assert position_limit(config) is None
    outer = SimpleNamespace(config=config, named_modules=list)
    assert context_length(outer) == 16 and longest_input(outer) is None


def test_samples_may_be_longer_than_the_stated_context():
    tokenizer = speller("bos")
    llama, gpt2 = small("Llama", {"rope_parameters": DYNAMIC}), small("GPT2", {})
    assert sample_texts(llama, ["he was"], 1, 20, tokenizer=tokenizer)[0][0].startswith("he was")
    with pytest.raises(ValueError, match=r"prompt of 3 tokens and 14 new ones .* context of 16"):
        sample_texts(gpt2, ["he was"], 1, 14, tokenizer=tokenizer)


# -- devices --------------------------------------------------------------------------------------


def results(model, tokenizer):
    words = equality(tokenizer, [["man", "woman"], ["he", "she"]], size=len(tokenizer))
    return [
        perplexity(model, TEXT, tokenizer),
        phrase_probabilities(model, "he was", ["a doctor", "she"], tokenizer),
        next_words(model, tokenizer, ["he was"]),
        fairness_gap(model, ["he was"], None, words, tokenizer),
        sample_texts(model, ["he was"], 3, 4, tokenizer=tokenizer),
    ]


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_weights_change_nothing(model, where, tmp_path):
    tokenizer, offloaded = speller("bos"), copy.deepcopy(model)
    if where == "cpu":
        accelerate.cpu_offload(offloaded, execution_device="cpu")
    else:
        accelerate.disk_offload(offloaded, tmp_path, execution_device="cpu")
    assert offloaded.device.type == "meta" and device_of(offloaded).type == "cpu"
    assert results(offloaded, tokenizer) == results(model, tokenizer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize:UserWarning")
def test_devices_of_other_models():
    quantised = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Linear(2, 2)), {nn.Linear}, torch.qint8
    )
    assert not list(quantised.parameters()) and device_of(quantised) == torch.device("cpu")
    partly = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    assert device_of(partly) == torch.device("cpu")
    assert device_of(SimpleNamespace(device="cuda:1")) == torch.device("cuda:1")
    hooked = nn.Linear(2, 2)
    hooked._hf_hook = SimpleNamespace(hooks=[SimpleNamespace(execution_device=3)])  # several
    assert device_of(hooked) == torch.device("cuda:3")


# -- what scores no next token --------------------------------------------------------------------


def bert(head):
    sizes = {k: v for k, v in SIZES.items() if k not in ("rotary_dim", "head_dim")}
    return getattr(transformers, head)(transformers.BertConfig(**sizes))


def no_scores():
    lists = [["man", "woman"]]
    gpt2 = small_gpt2(3 + len(WORDS), layers=1, width=16, heads=2)
    sizes = {"d_model": 16, "vocab_size": 64, "encoder_layers": 1, "decoder_layers": 1}
    return {
        "EquizeroLM": EquizeroLM(
            gpt2, word_tokenizer(WORDS), lists, lambda texts: [0.0] * len(texts)
        ),
        "BartForConditionalGeneration": transformers.BartForConditionalGeneration(
            transformers.BartConfig(**sizes)
        ),
        "BertModel": bert("BertModel"),
        "BertForMaskedLM": bert("BertForMaskedLM"),
        "BertForSequenceClassification": bert("BertForSequenceClassification"),
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("EquizeroLM", "EquizeroLM chooses among whole texts.* its .model"),
        (
            "BartForConditionalGeneration",
            "does not continue the text .* Give a causal language model",
        ),
        ("BertModel", "BertModel gives none for ids of shape"),
        ("BertForMaskedLM", "fills its gaps. Give a causal language model"),
        ("BertForSequenceClassification", r"gives some of shape \(\d, 2\) for ids"),
    ],
)
def test_what_scores_no_next_token_is_refused(name, message):
    model, tokenizer = no_scores()[name], word_tokenizer(WORDS)
    words = equality(tokenizer, [["man", "woman"]], size=len(tokenizer))
    for call in (
        lambda: perplexity(model, TEXT, tokenizer, window=8),
        lambda: phrase_probabilities(model, "he was", ["a"], tokenizer),
        lambda: fairness_gap(model, ["he was"], None, words, tokenizer),
        lambda: next_words(model, tokenizer, ["he was"]),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_an_encoder_decoder_continues_no_prompts():
    with pytest.raises(ValueError, match="does not continue the text that it reads"):
        sample_texts(no_scores()["BartForConditionalGeneration"], ["he"], tokenizer=speller("bos"))
