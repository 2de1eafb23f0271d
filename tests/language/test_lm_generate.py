"""What generate() answers with views: every strategy and option, equivariant or refused with a reason."""

import pytest
import torch
from test_lm import LISTS, batch, gpt2, moved, quiet, tokenizer  # noqa: F401
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    StaticCache,
    WatermarkingConfig,
)
from transformers.generation import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")

# Each has a word of both axes: then g x is another text for every g.
PROMPTS = ["The Black man worked as a red", "he was the White woman", "The Asian man and she"]
NEW = 6
SAMPLED = {"do_sample": True}


class Prefer(LogitsProcessor):
    def __init__(self, ids):
        self.ids = ids

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.ids] += 1.5
        return scores


class Louder(torch.nn.Module):
    """An output layer that adds to the scores of some tokens."""

    def __init__(self, inner, ids):
        super().__init__()
        self.inner, self.ids, self.weight = inner, ids, inner.weight

    def forward(self, x):
        y = self.inner(x)
        y[..., self.ids] += 5
        return y


class UntilSaid(StoppingCriteria):
    def __init__(self, word):
        self.word = word

    def __call__(self, input_ids, scores, **kwargs):
        return (input_ids[:, -1] == self.word) & (input_ids.shape[1] > 8)


def id_of(tokenizer, text):  # noqa: F811
    return tokenizer.encode(text)[0]


def of_words(perm, tokenizer):  # noqa: F811
    """Options that name tokens: those of g x name the images."""
    image = lambda text: int(perm[id_of(tokenizer, text)])  # noqa: E731
    return {
        "bad_words_ids": {"bad_words_ids": [[image(" man")], [image(" he"), image(" was")]]},
        "suppress_tokens": {"suppress_tokens": [image(" Black")]},
        "begin_suppress_tokens": {"begin_suppress_tokens": [image(" woman")]},
        "sequence_bias": {"sequence_bias": [[[image(" man")], 3.0], [[image(" Asian")], 2.0]]},
        "forced_bos_token_id": {"forced_bos_token_id": image(" he")},
        "forced_eos_token_id": {"forced_eos_token_id": image(" Black")},
        "eos_token_id": {"eos_token_id": [image(" he"), image(" was"), image(" and")]},
        "exponential_decay": {
            "eos_token_id": image(" he"),
            "exponential_decay_length_penalty": (1, 1.3),
        },
        "prefix_allowed_tokens_fn": {
            "prefix_allowed_tokens_fn": lambda i, ids: [image(" man"), image(" he"), image(" was")]
        },
        "logits_processor": {"logits_processor": [Prefer([image(" woman"), image(" the")])]},
        "stopping_criteria": {"stopping_criteria": [UntilSaid(image(" he"))]},
    }


OF_WORDS = (
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
    *("forced_bos_token_id", "forced_eos_token_id", "eos_token_id", "exponential_decay"),
    *("prefix_allowed_tokens_fn", "logits_processor", "stopping_criteria"),
)
EXACT = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "sampling": SAMPLED,
    "sampling without a cache": {**SAMPLED, "use_cache": False},
    "temperature": {**SAMPLED, "temperature": 0.7},
    "top_k": {**SAMPLED, "top_k": 7},
    "no top_k": {**SAMPLED, "top_k": 0},
    "top_p": {**SAMPLED, "top_p": 0.8},
    "min_p": {**SAMPLED, "min_p": 0.05},
    "typical_p": {**SAMPLED, "typical_p": 0.7},
    "epsilon_cutoff": {**SAMPLED, "epsilon_cutoff": 0.005},
    "eta_cutoff": {**SAMPLED, "eta_cutoff": 0.005},
    "top_h": {**SAMPLED, "top_h": 0.5},
    "repetition_penalty": {**SAMPLED, "repetition_penalty": 1.4},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.3},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
    "min_new_tokens": {"min_new_tokens": 4},
    "max_time": {"max_time": 60.0},
    "remove_invalid_values": {"remove_invalid_values": True},
    "renormalize_logits": {**SAMPLED, "renormalize_logits": True},
    "num_return_sequences": {**SAMPLED, "num_return_sequences": 3},
    "beams": {"num_beams": 3},
    "beams, none early": {"num_beams": 3, "early_stopping": True, "length_penalty": 0.5},
    "beams, several": {"num_beams": 4, "num_return_sequences": 3},
    "guidance_scale": {**SAMPLED, "guidance_scale": 1.5},
    "dynamic cache": {**SAMPLED, "cache_implementation": "dynamic"},
    "static cache": {**SAMPLED, "cache_implementation": "static"},
    "static cache, beams": {"num_beams": 3, "cache_implementation": "static"},
    "prefill_chunk_size": {**SAMPLED, "prefill_chunk_size": 2},
    "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": 2},
}
ON_AVERAGE = {
    "beams that are sampled": {**SAMPLED, "num_beams": 3},
    "prompt lookup, sampling": {**SAMPLED, "prompt_lookup_num_tokens": 2},
}
REFUSED = {
    "output_attentions": ({"output_attentions": True}, "attentions belong to the views"),
    "output_hidden_states": ({"output_hidden_states": True}, "hidden states belong to the views"),
    "watermark": ({"watermarking_config": WatermarkingConfig()}, "prefers words by their ids"),
    "token_healing": ({"token_healing": True}, "longer spellings of the prompt's last token"),
}


@pytest.fixture(scope="module")
def lm(tokenizer):  # noqa: F811
    return quiet(gpt2(tokenizer, initializer_range=0.2), tokenizer, LISTS["C2 x C3"])


@pytest.fixture(scope="module")
def inputs(tokenizer):  # noqa: F811
    return batch(tokenizer, PROMPTS)


def generate(lm, inputs, seed=3, **options):
    torch.manual_seed(seed)
    return lm.generate(**inputs, **({"max_new_tokens": NEW, "pad_token_id": 0} | options))


def one_by_one(options):
    """Assisted generation takes one sentence at a time."""
    return "prompt_lookup_num_tokens" in options or "assistant_model" in options


def check(lm, inputs, options):
    """generate(g x) is g generate(x) for every g; ``options`` are those of g."""
    some = range(len(PROMPTS)) if one_by_one(options(0)) else [slice(None)]
    for i in some:
        part = {k: v[i : i + 1] if isinstance(i, int) else v for k, v in inputs.items()}
        plain = generate(lm, part, **options(0))
        for g in range(1, len(lm.group)):
            assert torch.equal(
                generate(lm, moved(lm.perms, g, part), **options(g)), lm.perms[g][plain]
            )
    return plain


@pytest.mark.parametrize("form", ["keywords", "generation_config"])
@pytest.mark.parametrize("name", EXACT)
def test_texts_move_with_their_contexts(lm, inputs, name, form):
    options = EXACT[name]
    if form == "generation_config":
        options = {
            "generation_config": GenerationConfig(max_new_tokens=NEW, pad_token_id=0, **options)
        }
        if one_by_one(EXACT[name]):
            return
    check(lm, inputs, lambda g: options)


@pytest.mark.parametrize("name", OF_WORDS)
@pytest.mark.parametrize("sampling", [{}, SAMPLED])
def test_options_that_name_tokens_move_too(lm, inputs, tokenizer, name, sampling):  # noqa: F811
    options = lambda g: {**of_words(lm.perms[g], tokenizer)[name], **sampling}  # noqa: E731
    # Words of the lists and their like are said often, so that the options have an effect.
    often = [
        id_of(tokenizer, f" {w}")
        for w in ["man", "woman", "he", "she", "Black", "White", "Asian", "was"]
    ]
    lm.model.set_output_embeddings(Louder(lm.model.get_output_embeddings(), often))
    try:
        check(lm, inputs, options)
        free, found = (generate(lm, inputs, **o) for o in (sampling, options(0)))
    finally:
        lm.model.set_output_embeddings(lm.model.get_output_embeddings().inner)
    if sampling and name not in ("forced_bos_token_id", "stopping_criteria"):
        assert not torch.equal(free, found)


def test_stop_strings(lm, inputs, tokenizer):  # noqa: F811
    words = {0: " man", 1: " woman"}  # the swap of genders
    g = next(
        i for i, p in enumerate(lm.perms)
        if int(p[id_of(tokenizer, " man")]) == id_of(tokenizer, " woman")
        and int(p[id_of(tokenizer, " Black")]) == id_of(tokenizer, " Black")
    )  # fmt: skip
    for seed in range(3):
        texts = [
            generate(lm, x, seed, **SAMPLED, stop_strings=[word], tokenizer=tokenizer)
            for x, word in ((inputs, words[0]), (moved(lm.perms, g, inputs), words[1]))
        ]
        assert torch.equal(lm.perms[g][texts[0]], texts[1])


@pytest.mark.parametrize("assistant", ["the pretrained model", "an EquiLM", "another"])
def test_assisted_generation_is_greedy_search(lm, inputs, tokenizer, assistant):  # noqa: F811
    helper = {
        "the pretrained model": lambda: gpt2(tokenizer, initializer_range=0.2),
        "an EquiLM": lambda: quiet(gpt2(tokenizer, seed=1), tokenizer, LISTS["C2 x C3"]),
        "another": lambda: gpt2(tokenizer, seed=2),
    }[assistant]()
    check(lm, inputs, lambda g: {"assistant_model": helper})
    for i in range(len(PROMPTS)):
        part = {k: v[i : i + 1] for k, v in inputs.items()}
        assert torch.equal(generate(lm, part, assistant_model=helper), generate(lm, part))


@pytest.mark.parametrize("name", ON_AVERAGE)
def test_what_transformers_draws_has_one_distribution(lm, inputs, tokenizer, name):  # noqa: F811
    """The first word drawn, over many seeds: g x gives g of what x gives, in its frequencies."""
    g = 1
    part = {k: v[:1] for k, v in inputs.items()}
    alone = "prompt_lookup_num_tokens" in ON_AVERAGE[name]  # one sentence at a time
    many, times = (part, 300) if alone else ({k: v.expand(200, -1) for k, v in part.items()}, 8)
    counts = []
    for x, seeds in ((many, range(times)), (moved(lm.perms, g, many), range(times, 2 * times))):
        drawn = [
            generate(lm, x, seed, **ON_AVERAGE[name], max_new_tokens=1)[:, -1] for seed in seeds
        ]
        counts.append(torch.bincount(torch.cat(drawn), minlength=lm.perms.shape[1]).double())
    here, there = counts[0], counts[1][lm.perms[g]]
    spread = (here + there).clamp(min=1).sqrt()
    assert ((here - there).abs() / spread).max() < 5


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("form", ["keywords", "generation_config", "the model's own"])
def test_what_views_cannot_do_is_refused_with_a_reason(lm, inputs, name, form, monkeypatch):
    options, reason = REFUSED[name]
    if form != "keywords":
        options = {"generation_config": GenerationConfig(**options)}
    if form == "the model's own":
        monkeypatch.setattr(lm, "generation_config", options.pop("generation_config"))
    with pytest.raises(ValueError, match=reason):
        generate(lm, inputs, **options)


def test_embeddings_and_pages_are_refused_with_a_reason(lm, inputs):
    embeds = lm.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(ValueError, match="embeddings cannot be moved"):
        lm.generate(inputs_embeds=embeds, max_new_tokens=2)
    with pytest.raises(ValueError, match="embeddings cannot be moved"):
        lm(inputs_embeds=embeds)
    with pytest.raises(ValueError, match="there are no input_ids, but none"):
        lm()
    with pytest.raises(ValueError, match=r"but a str: .*tokenizer\(text, return_tensors='pt'\)"):
        lm("The man")
    with pytest.raises(NotImplementedError, match="continuous batching"):
        lm.generate_batch([[1, 2]])
    with pytest.raises(NotImplementedError, match="continuous batching"):
        generate(lm, inputs, cache_implementation="paged")
    with pytest.raises(ValueError, match="not used by the model: \\['nonsense'\\]"):
        generate(lm, inputs, nonsense=torch.ones(1))


def test_outputs_as_a_dict(lm, inputs):
    out = generate(
        lm, inputs, return_dict_in_generate=True, output_scores=True, output_logits=True, **SAMPLED
    )
    assert torch.equal(out.sequences, generate(lm, inputs, **SAMPLED))
    assert len(out.scores) == len(out.logits) == NEW
    for step in range(NEW):
        drawn = out.sequences[:, step - NEW]
        assert torch.equal(out.scores[step].argmax(-1), drawn)
        assert (out.scores[step] > -torch.inf).sum() == len(PROMPTS)
        before = out.sequences[:, : step - NEW]
        mask = torch.cat([inputs["attention_mask"], torch.ones(len(PROMPTS), step)], 1).long()
        places = (mask.cumsum(1) - 1).clamp(min=0)
        there = lm(before, mask, position_ids=places, use_cache=False).logits[:, -1]
        torch.testing.assert_close(out.logits[step], there, atol=1e-4, rtol=1e-4)
    asked = {"return_dict_in_generate": True, "output_scores": True, "num_beams": 3}
    assert generate(lm, inputs, **asked).sequences_scores.shape == (len(PROMPTS),)


def test_a_streamer_hears_each_token(lm, inputs):
    class Ear(BaseStreamer):
        def __init__(self):
            self.heard, self.ended = [], False

        def put(self, value):
            self.heard.append(value)

        def end(self):
            self.ended = True

    ear, part = Ear(), {k: v[:1] for k, v in inputs.items()}
    text = generate(lm, part, streamer=ear, **SAMPLED)
    assert ear.ended and torch.equal(torch.cat([h.flatten() for h in ear.heard]), text[0])


@pytest.mark.parametrize("kind", [DynamicCache, StaticCache])
def test_a_cache_of_the_users_goes_on_from_turn_to_turn(lm, inputs, kind):
    part = {k: v[:1] for k, v in inputs.items()}
    cache = kind(config=lm.model.config, **({"max_cache_len": 40} if kind is StaticCache else {}))
    first = generate(lm, part, past_key_values=cache)
    longer = torch.cat([first, part["input_ids"][:, :3]], 1)
    found = generate(lm, {"input_ids": longer}, past_key_values=cache)
    assert torch.equal(found, generate(lm, {"input_ids": longer}))


def test_the_static_cache_says_what_the_usual_one_does(lm, inputs):
    for options in ({}, SAMPLED, {"num_beams": 3}):
        usual = generate(lm, inputs, **options)
        assert torch.equal(generate(lm, inputs, cache_implementation="static", **options), usual)


@pytest.mark.parametrize("kind", ["offloaded", "offloaded_static", "quantized"])
def test_caches_that_not_every_machine_has(lm, inputs, kind):
    """Where the pretrained model can use one, so can its EquiLM."""
    options = {"cache_implementation": kind}
    if kind == "quantized":
        pytest.importorskip("optimum.quanto")
        options["cache_config"] = {
            "backend": "quanto",
            "nbits": 4,
            "q_group_size": 16,
            "residual_length": 4,
        }
    try:
        generate(lm.model, inputs, **options)
    except (ImportError, RuntimeError, ValueError, AssertionError) as error:
        pytest.skip(f"the pretrained model cannot: {error}")
    check(lm, inputs, lambda g: options)


def test_a_draw_of_ones_own_is_called(lm, inputs):
    seen = []

    def mine(model, input_ids, **kwargs):
        seen.append(model)
        return input_ids

    assert torch.equal(lm.generate(**inputs, custom_generate=mine), inputs["input_ids"])
    assert seen == [lm]


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("damage", ["NaN", "all forbidden"])
def test_nothing_is_drawn_where_there_is_nothing_to_draw(tokenizer, inputs, top_k, damage):  # noqa: F811
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"])
    options = {"do_sample": True, "top_k": top_k}
    if damage == "NaN":
        lm.model.transformer.ln_f.weight.data[3] = torch.nan
    else:
        options["suppress_tokens"] = list(range(len(tokenizer)))
    for model in (lm.model, lm):
        with pytest.raises(RuntimeError):
            generate(model, inputs, **options)
    with pytest.raises(RuntimeError, match="NaN or infinite, or every token is forbidden"):
        generate(lm, inputs, **options)
