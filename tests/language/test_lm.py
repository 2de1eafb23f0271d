"""EquiLM: its law, and that generate() keeps it, beside brute force over the group."""

import inspect
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

import equitutor.language.lm as lm_module
from equitutor.book.cost import peak_bytes
from equitutor.language import sampling
from equitutor.language.equality import equality, one_token_spellings
from equitutor.language.fairness import fairness_gap
from equitutor.language.lm import EquiLM
from equitutor.language.views import ViewsCache, frame_of

# A list whose capital is two tokens warns; the test of that warning asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")

TEXT = (
    "The man and the woman worked as a doctor . He and she were known for it , his and her . "
    "Man Woman man woman The Black person , the White person and the Asian person . Black White "
    "Asian A gay person and a straight person . The car was red and blue and green ."
)
GENDER = [["man", "woman"], ["he", "she"]]
RACE = [["Black", "White", "Asian"]]
COLOURS = [["red", "blue", "green", "car"]]
LISTS = {
    "C2": GENDER,
    "C3": RACE,
    "C4": COLOURS,
    "C2 x C3": {"gender": GENDER, "race": RACE},
}
PROMPTS = [
    "The Black man worked as a red",
    "he was the White",
    "The woman and the red Asian car was known",
    "A person worked as",
]


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT] * 5, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<end>", padding_side="left"
    )


def gpt2(tokenizer, seed=0, **changes):
    """Small and loud: scores that differ clearly between words."""
    torch.manual_seed(seed)
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    sizes |= {"vocab_size": len(tokenizer), "eos_token_id": None, "bos_token_id": None, **changes}
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval()


def quiet(model, tokenizer, lists, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return EquiLM(model, tokenizer, lists, **options).eval()


def batch(tokenizer, prompts=PROMPTS):
    return dict(tokenizer(prompts, return_tensors="pt", padding=True))


def moved(perms, g, inputs):
    return {**inputs, "input_ids": perms[g][inputs["input_ids"]]}


def by_hand(lm, inputs, average="logits"):
    """(1/|G|) sum_g g^-1 phi(g x), one view at a time."""
    f = {
        "logits": lambda y: y,
        "log_probs": lambda y: y.log_softmax(-1),
        "probs": lambda y: y.softmax(-1),
    }[average]
    found = [
        f(lm.model(**moved(lm.perms, g, inputs)).logits)[..., p] for g, p in enumerate(lm.perms)
    ]
    mean = sum(found) / len(found)
    if average == "logits":
        return mean
    return (mean.log() if average == "probs" else mean).log_softmax(-1)


def real(inputs):
    return inputs["attention_mask"].bool()


# -- the words ------------------------------------------------------------------------------------


def test_words_become_their_spellings_paired_like_with_like(tokenizer):
    assert set(one_token_spellings(tokenizer, "man")) >= {" man", "man"} - {"man"}
    words = equality(tokenizer, [["man", "woman"]])
    assert (" man", " woman") in words.cycles
    a, b = (tokenizer.encode(w)[0] for w in (" man", " woman"))
    assert words.perms[1][a] == b and words.perms[1][b] == a
    still = torch.ones(len(tokenizer), dtype=torch.bool)
    still[[tokenizer.encode(text)[0] for cycle in words.cycles for text in cycle]] = False
    assert torch.equal(words.perms[1][still], torch.arange(len(tokenizer))[still])


def test_a_list_of_three_is_a_cycle_and_axes_are_independent(tokenizer):
    words = equality(tokenizer, {"race": RACE, "gender": GENDER})
    assert len(words.group) == 6
    ids = {w: tokenizer.encode(f" {w}")[0] for w in ("Black", "White", "Asian", "man", "woman")}
    orbit = {int(row[ids["Black"]]) for row in words.perms}
    assert orbit == {ids["Black"], ids["White"], ids["Asian"]}
    pairs = {(int(r[ids["Black"]]), int(r[ids["man"]])) for r in words.perms}
    assert len(pairs) == 6  # every word of the one with every word of the other


def test_what_is_left_out_is_reported(tokenizer):
    with pytest.warns(UserWarning, match="'Woman'|' Woman'|'woman'|'He'|'She'|' Man'|'she'"):
        words = equality(tokenizer, [["man", "woman"], ["he", "she"]])
    said = {text for missing in words.left_out.values() for text in missing}
    assert said and all(len(tokenizer.encode(text)) > 1 for text in said)
    kept = equality(tokenizer, RACE, ["doctor"])
    assert " doctor" not in kept.left_out and kept.left_out[" Doctor"] == [" Doctor"]


@pytest.mark.parametrize(
    ("lists", "general", "error", "message"),
    [
        ([["man", "woman"], ["Black", "White", "Asian"]], None, ValueError, "of equal length"),
        ([["man", "woman"], ["man", "person"]], None, ValueError, "'man' is in two places"),
        ([["man", "man"]], None, ValueError, "'man' is in two places"),
        ([["man", "Man"]], None, ValueError, "' Man' and ' Man' are the same token"),
        ([["man", "Hottentottenpotentate"]], None, ValueError, "'Hotten.*no spelling as one token"),
        ([["man", "woman"]], ["man"], ValueError, "'man' is both in a list"),
        ([["man", "woman"]], ["Xylophonist"], ValueError, "'Xylophonist' has no spelling"),
        ([[]], None, ValueError, "two or more words"),
        ([["man", ""]], None, ValueError, "none of them empty"),
        ([], None, ValueError, "no list of words"),
        ({}, None, ValueError, "no list of words"),
        (["man", "woman"], None, TypeError, r"'man' stands where a list"),
        ({"gender": "man"}, None, TypeError, "must be a list of lists"),
        ([["man", "woman"]], "he", TypeError, "general must be a list"),
    ],
)
def test_lists_that_do_not_fit(tokenizer, lists, general, error, message):
    with pytest.raises(error, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        equality(tokenizer, lists, general)


def test_a_vocabulary_of_another_size(tokenizer):
    with pytest.raises(ValueError, match=r"tokenizer has \d+ tokens but the model scores only 50"):
        quiet(gpt2(tokenizer, vocab_size=50), tokenizer, GENDER)
    lm = quiet(gpt2(tokenizer, vocab_size=len(tokenizer) + 7), tokenizer, GENDER)
    inputs = batch(tokenizer)
    with torch.no_grad():
        assert torch.allclose(
            lm(**inputs).logits[real(inputs)], by_hand(lm, inputs)[real(inputs)], atol=1e-5
        )
    assert torch.equal(lm.perms[1][-7:], torch.arange(lm.perms.shape[1])[-7:])


# -- the law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", lm_module.AVERAGES)
@pytest.mark.parametrize("lists", LISTS)
@torch.no_grad()
def test_scores_are_the_group_average_and_move_with_the_context(tokenizer, lists, average):
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS[lists], average=average)
    inputs = batch(tokenizer)
    found = lm(**inputs).logits
    expected = by_hand(lm, inputs, average)
    assert torch.allclose(found[real(inputs)], expected[real(inputs)], atol=2e-5)
    own = lm.model(**inputs).logits
    unfair = 0.0
    for g, perm in enumerate(lm.perms):
        there = moved(lm.perms, g, inputs)
        gap = (lm(**there).logits.softmax(-1)[..., perm] - found.softmax(-1)).abs().max()
        assert gap <= 1e-5
        other = lm.model(**there).logits.softmax(-1)[..., perm] - own.softmax(-1)
        unfair = max(unfair, float(other.abs().max()))
    assert unfair > 1e-2  # the pretrained model does not keep the law


@torch.no_grad()
def test_in_float64_to_ten_digits(tokenizer):
    for lists in LISTS.values():
        lm = quiet(gpt2(tokenizer).double(), tokenizer, lists)
        inputs = batch(tokenizer)
        found = lm(**inputs).logits
        assert (found - by_hand(lm, inputs))[real(inputs)].abs().max() < 1e-12
        for g, perm in enumerate(lm.perms):
            there = lm(**moved(lm.perms, g, inputs)).logits[..., perm]
            assert (there.softmax(-1) - found.softmax(-1)).abs().max() <= 1e-10


@torch.no_grad()
def test_a_context_that_moves_gives_the_same_to_the_last_bit(tokenizer):
    for lists in LISTS.values():
        lm = quiet(gpt2(tokenizer), tokenizer, lists)
        inputs = batch(
            tokenizer, ["The Black man had a red car and he", "A White woman , blue she"]
        )
        found = lm(**inputs).logits[:, -1]
        for g, perm in enumerate(lm.perms):
            assert torch.equal(lm(**moved(lm.perms, g, inputs)).logits[:, -1][:, perm], found)


@torch.no_grad()
def test_the_law_for_whole_continuations(tokenizer):
    """Eq. 4, P(g x2 | g x1) = P(x2 | x1), for continuations of several words."""
    lm = quiet(gpt2(tokenizer).double(), tokenizer, LISTS["C2 x C3"])

    def probability(ids, start):
        steps = lm(input_ids=ids).logits.log_softmax(-1)[:, start - 1 : -1]
        return steps.gather(2, ids[:, start:, None]).sum((1, 2)).exp()

    for text in ("The man was a doctor , he and she", "The Asian person worked , Black and red"):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        here = probability(ids, 2)
        for perm in lm.perms:
            assert torch.allclose(probability(perm[ids], 2), here, rtol=1e-10)


def test_the_fairness_gap_is_what_the_law_misses(tokenizer):
    for lists in LISTS.values():
        for model, bound in ((gpt2(tokenizer), 1e-5), (gpt2(tokenizer).double(), 1e-10)):
            lm = quiet(model, tokenizer, lists)
            prompts, rest = PROMPTS, ["was a woman", "Black and red"]
            assert fairness_gap(lm, prompts) <= bound
            assert fairness_gap(lm, prompts, rest) <= bound
            assert fairness_gap(model, prompts, words=lm.words, tokenizer=tokenizer) > 1e-2
    with pytest.raises(ValueError, match="no word lists of its own"):
        fairness_gap(model, prompts, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="one or more prompts"):
        fairness_gap(lm, [])


def test_the_fairness_gap_of_a_model_by_hand():
    """Scores 0, log 2, log 5 whatever was read: a swap of the last two moves 2/8 to 5/8."""
    model = torch.nn.Module()
    model.device, model.config = torch.device("cpu"), SimpleNamespace(vocab_size=3)
    scores = torch.tensor([1.0, 2.0, 5.0]).log()
    model.forward = lambda input_ids, attention_mask: SimpleNamespace(
        logits=scores.expand(*input_ids.shape, 3)
    )
    words = SimpleNamespace(perms=torch.tensor([[0, 1, 2], [0, 2, 1]]))
    speller = SimpleNamespace(
        encode=lambda text, add_special_tokens: [int(c) for c in text.split()]
    )
    given = {"words": words, "tokenizer": speller}
    assert fairness_gap(model, ["0 1"], **given) == pytest.approx(3 / 8)
    assert fairness_gap(model, ["0"], ["1 1"], **given) == pytest.approx(25 / 64 - 4 / 64)
    assert fairness_gap(model, ["0"], ["0", "1 2"], **given) == pytest.approx(0)


@pytest.mark.parametrize("average", lm_module.AVERAGES)
@torch.no_grad()
def test_general_words_keep_the_pretrained_scores(tokenizer, average):
    lists = {"race": RACE, "colour": [["red", "blue"]]}
    lm = quiet(gpt2(tokenizer), tokenizer, lists, general=["he", "she"], average=average)
    strict = quiet(gpt2(tokenizer), tokenizer, lists, average=average)
    inputs = batch(tokenizer)
    own, found = lm.model(**inputs).logits, lm(**inputs).logits
    own = own if average == "logits" else own.log_softmax(-1)
    assert len(lm.general) >= 2
    where = real(inputs)
    assert torch.allclose(found[where][:, lm.general], own[where][:, lm.general], atol=1e-5)
    rest = torch.ones(found.shape[-1], dtype=torch.bool)
    rest[lm.general] = False
    assert torch.allclose(found[where][:, rest], strict(**inputs).logits[where][:, rest], atol=1e-5)
    for g, perm in enumerate(lm.perms):  # the relaxed law, on E and N
        there = lm(**moved(lm.perms, g, inputs)).logits[..., perm]
        assert torch.allclose(there[where][:, rest], found[where][:, rest], atol=1e-5)
    there = lm(**moved(lm.perms, 1, inputs)).logits
    assert not torch.allclose(there[where][:, lm.general], found[where][:, lm.general], atol=1e-2)


@torch.no_grad()
def test_another_architecture(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    lm = quiet(LlamaForCausalLM(config).eval(), tokenizer, LISTS["C2 x C3"])
    inputs = batch(tokenizer)
    found = lm(**inputs).logits
    assert torch.allclose(found[real(inputs)], by_hand(lm, inputs)[real(inputs)], atol=1e-4)
    said = lm.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0)
    apart = lm.generate(
        **inputs, max_new_tokens=6, do_sample=False, pad_token_id=0, use_cache=False
    )
    assert torch.equal(said, apart)


@torch.no_grad()
def test_in_bfloat16(tokenizer):
    lm = quiet(gpt2(tokenizer).bfloat16(), tokenizer, LISTS["C3"])
    inputs = batch(tokenizer, ["The Black man had a", "White and he was"])
    found = lm(**inputs).logits
    assert found.dtype == torch.bfloat16
    for g, perm in enumerate(lm.perms):
        there = lm(**moved(lm.perms, g, inputs)).logits[:, -1]
        assert torch.equal(there[:, perm], found[:, -1])


def test_buffers_are_where_the_model_is(tokenizer, monkeypatch):
    """On whatever device: here the one that needs no hardware."""
    monkeypatch.setattr("equitutor.language.causal.check_causal", lambda model: None)
    lm = quiet(gpt2(tokenizer).to("meta"), tokenizer, LISTS["C2 x C3"], general=["red"])
    assert {t.device.type for t in (*lm.buffers(), *lm.parameters())} == {"meta"}
    assert len(list(lm.buffers())) >= 6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@torch.no_grad()
def test_the_law_at_the_size_of_gpt2(tokenizer, dtype, bound):
    """12 layers of 768, random weights."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer))).eval().to(dtype)
    assert model.num_parameters() > 85e6
    for lists in LISTS.values():
        lm = quiet(model, tokenizer, lists)
        prompts = ["The Black man had a red"]
        assert fairness_gap(lm, prompts) <= bound
        assert fairness_gap(model, prompts, words=lm.words, tokenizer=tokenizer) > 10 * bound


# -- loss and gradients ------------------------------------------------------------------------------


def test_labels_give_the_loss_and_gradients_flow(tokenizer):
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER).train()
    for module in lm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids = tokenizer(["The man was a doctor and he was"], return_tensors="pt")["input_ids"]
    labels = ids.clone()
    labels[:, :2] = -100
    out = lm(input_ids=ids, labels=labels)
    mean = by_hand(lm, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    expected = cross_entropy(mean[0, 1:-1], ids[0, 2:])
    assert torch.allclose(out.loss, expected, atol=1e-6)
    out.loss.backward()
    mine = {n: p.grad.clone() for n, p in lm.named_parameters()}
    lm.zero_grad()
    expected.backward()
    for name, p in lm.named_parameters():
        assert torch.allclose(mine[name], p.grad, atol=1e-5), name
    assert set(lm.state_dict()) == {f"model.{k}" for k in lm.model.state_dict()}


# -- generate() -------------------------------------------------------------------------------------


def say(lm, inputs, tokens=8, seed=None, **options):
    if seed is not None:
        torch.manual_seed(seed)
    options = {"do_sample": seed is not None, "pad_token_id": 0, **options}
    return lm.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, **options)


@pytest.mark.parametrize("lists", LISTS)
def test_greedy_is_the_greedy_of_the_average(tokenizer, lists):
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS[lists])
    inputs = batch(tokenizer)
    said = say(lm, inputs)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for _ in range(8):
        position = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            scores = by_hand(
                lm, {"input_ids": ids, "attention_mask": mask, "position_ids": position}
            )
        ids = torch.cat([ids, scores[:, -1].argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    assert torch.equal(said, ids)


@pytest.mark.parametrize("lists", LISTS)
def test_the_same_tokens_with_and_without_cache_padded_and_alone(tokenizer, lists):
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS[lists])
    inputs = batch(tokenizer)
    for options in ({}, {"num_beams": 3}):
        said = say(lm, inputs, **options)
        assert torch.equal(said, say(lm, inputs, use_cache=False, **options))
        for i, prompt in enumerate(PROMPTS):
            alone = say(lm, batch(tokenizer, [prompt]), **options)
            assert torch.equal(alone[0, -8:], said[i, -8:])


def test_beams_are_equivariant(tokenizer):
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"])
    inputs = batch(tokenizer, ["The Black man had a", "White and she was"])
    said = say(lm, inputs, num_beams=4)
    for g, perm in enumerate(lm.perms):
        assert torch.equal(say(lm, moved(lm.perms, g, inputs), num_beams=4), perm[said])


@pytest.mark.parametrize(
    ("lists", "filters"),
    [
        ("C2", {"top_k": 40}),
        ("C3", {"top_k": 40}),
        ("C2 x C3", {"top_k": 40}),
        ("C2 x C3", {"top_k": 0}),
        ("C2 x C3", {"top_k": 0, "top_p": 0.9}),
    ],
)
def test_one_seed_gives_images_of_one_text(tokenizer, lists, filters):
    """Of 20 seeds x 50 contexts, all."""
    lm = quiet(gpt2(tokenizer, initializer_range=0.15), tokenizer, LISTS[lists])
    starts = [
        "The Black man",
        "A White woman",
        "For he saw the Asian",
        "As she is Black",
        "The woman is Asian",
    ]
    prompts = [f"{start} {end}" for start in starts for end in TEXT.split()[:10]]
    inputs, same = batch(tokenizer, prompts), 0
    for seed in range(20):
        g = 1 + seed % (len(lm.perms) - 1)
        there = say(lm, moved(lm.perms, g, inputs), 6, seed, **filters)
        same += int((there == lm.perms[g][say(lm, inputs, 6, seed, **filters)]).all(1).sum())
    assert same == 1000


def test_a_draw_in_the_order_of_the_vocabulary_would_not(tokenizer, monkeypatch):
    lm = quiet(gpt2(tokenizer, initializer_range=0.15), tokenizer, LISTS["C2"])

    def plain(self, ids, scores):
        drawn = torch.multinomial(scores.softmax(-1), 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    monkeypatch.setattr(sampling.EquivariantDraw, "__call__", plain)
    inputs = batch(tokenizer, ["The man and the", "he worked as"] * 25)
    different = sum(
        not torch.equal(
            say(lm, moved(lm.perms, 1, inputs), 6, seed), lm.perms[1][say(lm, inputs, 6, seed)]
        )
        for seed in range(5)
    )
    assert different >= 3


@pytest.mark.parametrize("top_k", [0, 10])
def test_what_is_drawn_has_the_right_distribution(tokenizer, top_k):
    lm = quiet(gpt2(tokenizer, initializer_range=0.1), tokenizer, LISTS["C3"])
    inputs, count = batch(tokenizer, ["The Black person was"]), 20000
    many = {k: v.expand(count, -1) for k, v in inputs.items()}
    drawn = say(lm, many, 1, seed=0, top_k=top_k)[:, -1].bincount(minlength=len(tokenizer))
    with torch.no_grad():
        scores = lm(**inputs).logits[0, -1]
    if top_k:
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    p = scores.softmax(-1)
    deviation = (drawn - count * p)[p > 0] / (count * p * (1 - p))[p > 0].clamp(min=1e-9).sqrt()
    seen = deviation[(count * p)[p > 0] > 20]
    assert len(seen) >= 10 and seen.abs().max() < 5 and 0.5 < seen.square().mean() < 2
    assert drawn[p == 0].sum() == 0


def test_stop_strings_and_several_returned(tokenizer):
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER)
    inputs = batch(tokenizer, PROMPTS[:1])
    free = say(lm, inputs, 8)
    word = tokenizer.decode(free[0, -5])
    stopped = lm.generate(
        **inputs,
        max_new_tokens=8,
        do_sample=False,
        stop_strings=[word],
        tokenizer=tokenizer,
        pad_token_id=0,
    )
    assert stopped.shape[1] < free.shape[1] and word in tokenizer.decode(stopped[0])
    several = say(lm, inputs, 5, seed=1, num_return_sequences=4)
    assert several.shape[0] == 4 and len(several.unique(dim=0)) > 1


# -- what is computed ---------------------------------------------------------------------------------


@pytest.fixture
def watched(tokenizer):
    """An EquiLM and the (rows, tokens) of each call of its model."""
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"])
    calls = []
    forward = lm.model.forward
    lm.model.forward = lambda **kw: calls.append(tuple(kw["input_ids"].shape)) or forward(**kw)
    return lm, calls


@torch.no_grad()
def test_equal_views_are_computed_once(watched, tokenizer):
    lm, calls = watched
    lm(**batch(tokenizer, ["The person was known for"] * 3))
    assert [rows for rows, _ in calls] == [3]
    calls.clear()
    inputs = batch(tokenizer, ["The person was a man"])
    lm(**inputs)  # the gender parts it, the race does not; what is before is read once
    length = inputs["input_ids"].shape[1]
    assert calls == [(1, length - 1), (2, 1)]
    calls.clear()
    lm(**batch(tokenizer, ["The Black man"]))
    assert calls[-1][0] == 6 and calls[0][0] == 1


def test_a_sentence_parts_when_a_word_that_moves_is_said(watched, tokenizer):
    lm, calls = watched
    he = tokenizer.encode(" he")[0]
    said = lm.generate(
        **batch(tokenizer, ["The person"] * 2),
        max_new_tokens=3,
        min_new_tokens=3,
        do_sample=False,
        pad_token_id=0,
        prefix_allowed_tokens_fn=lambda i, ids: [he] if i == 0 else [tokenizer.encode(" was")[0]],
    )
    assert said[0, -3] == he and [rows for rows, _ in calls] == [2, 3, 3]


def test_a_model_keeps_its_mode(tokenizer):
    model = gpt2(tokenizer).train()
    model.transformer.h[0].eval()
    quiet_lm = EquiLM(model, tokenizer, LISTS["C3"])
    assert model.training and model.transformer.h[1].training
    assert not model.transformer.h[0].training and quiet_lm.model is model


def test_frames(tokenizer):
    words = equality(tokenizer, {"colour": COLOURS})
    moves = (words.perms != torch.arange(words.perms.shape[1])).any(0)
    ids = batch(tokenizer)["input_ids"]
    frame = frame_of(ids, words.perms, moves)
    for i, row in enumerate(ids):
        images = [p[row].tolist() for p in words.perms]
        assert images[frame[i]] == min(images) and frame[i] == images.index(min(images))


# -- files and errors -----------------------------------------------------------------------------------


def test_saved_and_loaded(tokenizer, tmp_path):
    lists = {"gender": GENDER, "race": RACE}
    lm = quiet(gpt2(tokenizer), tokenizer, lists, general=["red"], average="probs")
    lm.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = EquiLM.from_pretrained(tmp_path).eval()
    inputs = batch(tokenizer)
    with torch.no_grad():
        assert torch.equal(lm(**inputs).logits, again(**inputs).logits)
    assert again.average == "probs" and torch.equal(again.general, lm.general)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        other = EquiLM.from_pretrained(tmp_path, average="logits", general=["blue"])
    assert other.average == "logits" and other.config.general == ["blue"]
    assert other.config.equality == lists  # what is given goes before what is on record
    gpt2(tokenizer).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="no lists of words on record"):
        EquiLM.from_pretrained(tmp_path / "bare")


def test_what_says_where_the_files_are_goes_for_the_tokenizer_too(tokenizer, tmp_path, monkeypatch):
    quiet(gpt2(tokenizer), tokenizer, RACE).save_pretrained(tmp_path)
    asked = {}
    load = lambda name, **where: asked.update(where) or tokenizer  # noqa: E731
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", load)
    where = {"revision": "v1", "cache_dir": str(tmp_path / "hub"), "local_files_only": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        EquiLM.from_pretrained(tmp_path, dtype=torch.float32, **where)
    assert asked == where


def test_models_that_are_no_causal_language_models(tokenizer):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, **sizes)
    config.initializer_range = 0.5
    with pytest.raises(ValueError, match="BertForMaskedLM is not causal"):
        EquiLM(BertForMaskedLM(config), tokenizer, RACE)
    causal = BertConfig(**{**config.to_dict(), "is_decoder": True})
    assert quiet(BertLMHeadModel(causal), tokenizer, RACE)
    mamba = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1)
    with pytest.raises(ValueError, match="MambaForCausalLM keeps a state of its own"):
        EquiLM(MambaForCausalLM(mamba), tokenizer, RACE)
    with pytest.raises(TypeError, match="general must be a list of words, got 'he'"):
        EquiLM(gpt2(tokenizer), tokenizer, RACE, general="he")
    with pytest.raises(TypeError, match="causal language model of transformers, got Linear"):
        EquiLM(torch.nn.Linear(2, 2), tokenizer, RACE)
    with pytest.raises(ValueError, match="average must be one of logits, log_probs, probs"):
        EquiLM(gpt2(tokenizer), tokenizer, RACE, average="mean")


class Forgetful(GPT2LMHeadModel):
    """Reads each part of a text as if nothing had been before it."""

    def forward(self, past_key_values=None, **inputs):
        out = super().forward(**inputs)
        out.past_key_values = past_key_values
        return out


class Longer(GPT2LMHeadModel):
    """Gives scores of a token of its own, too."""

    def forward(self, input_ids, past_key_values=None, **inputs):
        ids = torch.nn.functional.pad(input_ids, (1, 0))
        return super().forward(ids, past_key_values=past_key_values, **inputs)


@pytest.mark.parametrize("kind", [Forgetful, Longer])
def test_a_model_that_reads_parts_unlike_the_whole_is_refused(tokenizer, kind):
    model = gpt2(tokenizer)
    model.__class__ = kind
    with pytest.raises(ValueError, match="in a way of its own, which views cannot share"):
        EquiLM(model, tokenizer, RACE)


def test_a_model_that_gives_nan_is_refused(tokenizer):
    model = gpt2(tokenizer)
    model.transformer.ln_f.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match=r"NaN for its scores: .* damaged, or it overflows"):
        EquiLM(model, tokenizer, RACE)


def test_an_equilm_is_not_wrapped_again(tokenizer):
    """One would give its views to the other, and both write into one cache."""
    inner = quiet(gpt2(tokenizer), tokenizer, GENDER)
    with pytest.raises(ValueError, match=r"an EquiLM already: wrap its \.model, .* as axes"):
        EquiLM(inner, tokenizer, RACE)
    assert quiet(inner.model, tokenizer, {"one": GENDER, "other": RACE}).group.order == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ids: ids.masked_fill(ids == ids[0, 0], -100),
            "token id -100, which is none: .* labels",
        ),
        (lambda ids: ids + 9000, "token id 9.* the model's vocabulary has"),
        (
            lambda ids: ids[0],
            r"\(B, T\), got torch.int64 of shape \(\d+,\); one text is ids\[None\]",
        ),
        (lambda ids: ids.double(), "whole numbers .* got torch.float64"),
    ],
)
def test_ids_that_are_none(tokenizer, change, message):
    """-100 was read as the hundredth token from the end."""
    lm, ids = quiet(gpt2(tokenizer), tokenizer, GENDER), batch(tokenizer)["input_ids"]
    with pytest.raises(ValueError, match=message):
        lm(change(ids))
    if change(ids).dim() == 2 and not change(ids).is_floating_point():
        with pytest.raises(ValueError, match=message):
            lm.generate(change(ids), max_new_tokens=2, pad_token_id=0)
    assert torch.equal(lm(ids.int()).logits, lm(ids).logits)


def test_a_text_over_the_context_and_a_foreign_cache(tokenizer):
    lm = quiet(gpt2(tokenizer), tokenizer, GENDER)
    ids = torch.zeros(1, 65, dtype=torch.long)
    with pytest.raises(ValueError, match="65 tokens, the model's context 64"):
        lm(input_ids=ids)
    with pytest.raises(ValueError, match=r"6\d tokens, the model's context 64"), torch.no_grad():
        lm.generate(input_ids=ids[:, :60], max_new_tokens=10, do_sample=False, pad_token_id=0)
    filled = lm.model(input_ids=ids[:, :4]).past_key_values
    with pytest.raises(ValueError, match="DynamicCache that the pretrained model has filled"):
        lm(input_ids=ids[:, :4], past_key_values=filled)
    with pytest.raises(ValueError, match="have no average"):
        lm(input_ids=ids[:, :4], output_hidden_states=True)


def test_a_model_that_knows_no_longest_text(tokenizer):
    """Without max_position_embeddings nothing is refused; the law stands as ever."""
    sizes = {"hidden_size": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), **sizes)).eval()
    assert not hasattr(model.config, "max_position_embeddings")
    lm, ids = quiet(model, tokenizer, RACE), batch(tokenizer, [TEXT])["input_ids"]
    with torch.no_grad():
        found, there = lm(input_ids=ids).logits, lm(input_ids=lm.perms[1][ids]).logits
    assert torch.allclose(there[..., lm.perms[1]], found, atol=1e-4)


def test_a_cache_is_given_back_where_it_is_asked_for(tokenizer):
    lm, ids = quiet(gpt2(tokenizer), tokenizer, GENDER), batch(tokenizer)["input_ids"]
    key = lm_module.CACHE
    with torch.no_grad():
        cache = lm(ids, use_cache=True)[key]
        assert isinstance(cache, ViewsCache) and cache.rows is not None
        assert lm(ids[:, -1:], past_key_values=cache)[key] is cache
        assert lm(ids[:, -1:], past_key_values=cache, use_cache=False).get(key) is None
        assert lm(ids)[key] is not None and lm(ids, use_cache=False).get(key) is None
    assert lm.train()(ids).get(key) is None  # as transformers: none while training


def test_a_cache_keeps_the_sentences_it_is_told_to(tokenizer):
    """Chosen, and each several times over: the next scores are those of the whole text."""
    lm, inputs = quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"]), batch(tokenizer)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for change, kept in (
        (lambda c: c.batch_select_indices(torch.tensor([3, 0])), [3, 0]),
        (lambda c: c.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2, 3, 3]),
    ):
        with torch.no_grad():
            cache = lm(ids[:, :-1], mask[:, :-1], use_cache=True).past_key_values
            change(cache)
            assert len(cache.rows.ids) == len(kept)
            found = lm(ids[kept, -1:], mask[kept], past_key_values=cache).logits[:, -1]
            whole = lm(ids[kept], mask[kept]).logits[:, -1]
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)
    cache.reset()
    assert cache.rows is None


def test_an_empty_cache():
    cache = ViewsCache()
    cache.reorder_cache(torch.tensor([0]))
    cache.batch_repeat_interleave(2)
    cache.crop(0)
    assert cache.rows is None


@torch.no_grad()
def test_a_cache_that_is_cropped_goes_on_as_if_the_tokens_had_not_been(tokenizer):
    """Words that move are among those forgotten, and others come in their place."""
    lm = quiet(gpt2(tokenizer), tokenizer, LISTS["C2 x C3"])
    inputs = batch(tokenizer, ["The person was the Black man", "The man was known for the car"])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    cache = lm(ids, mask, use_cache=True).past_key_values
    keep = ids.shape[1] - 3
    cache.crop(cache_crop(cache, 3))
    other = torch.cat([ids[:, :keep], ids[:, :2], ids[[1, 0], -1:]], 1)
    found = lm(other[:, keep:], mask, past_key_values=cache).logits
    torch.testing.assert_close(found, lm(other, mask).logits[:, keep:], atol=1e-4, rtol=1e-4)


def cache_crop(cache, tokens):
    """Transformers 5.20 changed what `crop` takes: the tokens to forget, before those to keep."""
    forgets = "tokens_to_remove" in inspect.signature(DynamicCache.crop).parameters
    return -tokens if forgets else cache.get_seq_length() - tokens


def test_it_has_the_type_of_its_model_and_says_what_it_is(tokenizer):
    lm = quiet(gpt2(tokenizer).to(torch.bfloat16), tokenizer, RACE, average="probs")
    assert lm.dtype == torch.bfloat16 and lm.can_generate()
    words = len(lm.support)
    assert lm.extra_repr() == f"C3 (order 3), {words} tokens moved, average='probs'"


# -- GPT-2's own tokens -----------------------------------------------------------------------------------


@pytest.mark.skipif("EQUITUTOR_TEST_DATA" not in os.environ, reason="real data not set")
def test_the_paper_lists_on_gpt2_tokens():
    tokenizer = GPT2TokenizerFast.from_pretrained(
        Path(os.environ["EQUITUTOR_TEST_DATA"], "gpt2-tokenizer")
    )
    for pair in (["man", "woman"], ["Black", "White"], ["gay", "straight"]):
        words = equality(tokenizer, [pair])
        assert tuple(f" {w}" for w in pair) in words.cycles
        assert words.perms.shape == (2, 50257)
    general = ["he", "she", "his", "her", "him"]
    words = equality(tokenizer, [["man", "woman"]], general)
    assert {tokenizer.decode([i]).strip().lower() for i in words.general.tolist()} == set(general)


def test_it_is_found_where_a_reader_looks():
    import equitutor as eq

    assert eq.EquiLM is EquiLM
    with pytest.raises(AttributeError, match="no attribute 'EquiML'"):
        eq.EquiML  # noqa: B018


# -- what it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize("lists", LISTS)
def test_the_average_takes_the_memory_of_the_average_alone(tokenizer, lists):
    """Beside the scores of the views there is their mean, and no copy of either."""
    lm = quiet(gpt2(tokenizer, vocab_size=20000, n_embd=8), tokenizer, LISTS[lists])
    ids, n = batch(tokenizer)["input_ids"][:1], len(lm.group)
    views = lm.perms[:, ids[0]]

    def run(model, ids):
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).logits

    assert len(views.unique(dim=0)) == n  # no two are equal
    scores = views.numel() * 20000 * 4
    most = peak_bytes(lambda: run(lm.model, views))
    assert most >= scores
    assert peak_bytes(lambda: run(lm, ids)) <= most + 1.05 * scores / n


@pytest.mark.parametrize("average", lm_module.AVERAGES)
@pytest.mark.parametrize("general", [None, ["doctor"]])
def test_compile_without_a_graph_break(tokenizer, average, general):
    lists = LISTS["C2 x C3"]
    lm = quiet(gpt2(tokenizer), tokenizer, lists, general=general, average=average)
    inputs = batch(tokenizer)
    torch.compiler.reset()
    compiled = torch.compile(lm, fullgraph=True, backend="eager")
    with torch.no_grad():
        found, eager = (f(**inputs, use_cache=False).logits for f in (compiled, lm))
    torch.testing.assert_close(found, eager, atol=1e-5, rtol=1e-5)
