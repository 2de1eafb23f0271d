"""EquizeroLM: the choice beside brute force, and that texts move with their contexts."""

import pytest
import torch
from test_lm import GENDER, LISTS, PROMPTS, RACE, batch, gpt2, moved, tokenizer  # noqa: F401
from transformers import BertConfig, BertForMaskedLM, GenerationConfig

import equitutor as eq
from equitutor.language.fairness import phrase_probabilities
from equitutor.language.lm_zero import EquizeroLM

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")


def letters(texts):
    """Texts with many an e are good: no two of them are likely to score the same."""
    return [text.count("e") + len(text) / 1000 for text in texts]


def say(lm, inputs, seed=None, **options):
    options = {"max_new_tokens": 6, "pad_token_id": 0, "do_sample": seed is not None} | options
    if seed is not None:
        torch.manual_seed(seed)
    return lm.generate(**inputs, **options)


@pytest.mark.parametrize("lists", list(LISTS))
def test_it_is_the_best_of_all_views(tokenizer, lists):  # noqa: F811
    """Greedily, each view by itself, scored, and moved back."""
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, LISTS[lists], letters)
    for prompt in PROMPTS:
        inputs = batch(tokenizer, [prompt])
        views = [say(lm.model, moved(lm.perms, g, inputs)) for g in range(len(lm.group))]
        scores = letters([tokenizer.decode(v[0], skip_special_tokens=True) for v in views])
        g = max(range(len(views)), key=lambda i: scores[i])
        back = int(lm.group.inverses[g])
        assert torch.equal(say(lm, inputs), lm.perms[back][views[g]])


def test_the_best_is_not_always_the_first(tokenizer):  # noqa: F811
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, LISTS["C3"], letters)
    inputs = batch(tokenizer)
    plain = say(lm.model, inputs)
    changed = ~(say(lm, inputs) == plain).all(1)
    assert changed.any()
    assert torch.equal(say(lm, inputs)[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])


@pytest.mark.parametrize("lists", ["C2", "C3", "C2 x C3"])
@pytest.mark.parametrize("scorer", [letters, lambda texts: ["neutral"] * len(texts)])
def test_one_seed_gives_images_of_one_text(tokenizer, lists, scorer):  # noqa: F811
    """Also where all texts score the same and the choice is drawn."""
    lm = EquizeroLM(gpt2(tokenizer, initializer_range=0.15), tokenizer, LISTS[lists], scorer)
    inputs = batch(
        tokenizer, [f"The Black man {end}" for end in ["was", "is", "the", "red", ",", "."]]
    )
    for seed in range(10):
        g = 1 + seed % (len(lm.perms) - 1)
        here = say(lm, inputs, seed, num_return_sequences=2)
        there = say(lm, moved(lm.perms, g, inputs), seed, num_return_sequences=2)
        assert len(here) == 2 * len(inputs["input_ids"])
        assert torch.equal(there, lm.perms[g][here])


def test_g_in_place_of_its_inverse_would_not(tokenizer):  # noqa: F811
    """Of the three images of a context one needs no moving back, and two show the mistake."""
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, LISTS["C3"], letters)
    images = [moved(lm.perms, g, batch(tokenizer, PROMPTS[:1])) for g in range(3)]
    lm.group.inverses = torch.arange(3)
    start = images[0]["input_ids"].shape[1]
    kept = [torch.equal(say(lm, image)[:, :start], image["input_ids"]) for image in images]
    assert sorted(kept) == [False, False, True]


def test_texts_of_equal_score_are_all_drawn(tokenizer):  # noqa: F811
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, LISTS["C3"], lambda texts: [0] * len(texts))
    inputs = batch(tokenizer, PROMPTS[:1] * 60)
    greedy = say(lm.model, moved(lm.perms, 0, batch(tokenizer, PROMPTS[:1])))
    assert len(say(lm, inputs).unique(dim=0)) == 1  # greedily: the first of the orbit
    drawn = say(lm, inputs, seed=0, top_k=1).unique(dim=0)  # each view's own text is sure
    assert len(drawn) == 3 and (drawn == greedy).all(1).any()


def test_labels_are_counted(tokenizer):  # noqa: F811
    def regard(texts):
        return ["positive" if "woman" in text else "negative" for text in texts]

    lm = EquizeroLM(gpt2(tokenizer), tokenizer, GENDER, regard)
    inputs = batch(tokenizer, ["The man was"])
    other = say(lm.model, moved(lm.perms, 1, inputs))
    assert torch.equal(say(lm, inputs), lm.perms[1][other])


def test_equal_views_are_continued_once(tokenizer):  # noqa: F811
    seen = []
    lm = EquizeroLM(
        gpt2(tokenizer), tokenizer, LISTS["C2 x C3"], lambda t: seen.extend(t) or [0] * len(t)
    )
    prompts = ["The car was", "The man was", "The Asian man was"]
    say(lm, batch(tokenizer, prompts))
    assert len(seen) == 1 + 2 + 6


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda texts: [1.0], "1 scores for 2 texts"),
        (lambda texts: [float("nan")] * len(texts), "gave nan for the text 'The"),
        (lambda texts: ["nice"] * len(texts), "gave 'nice' for the text 'The .* a label out of"),
        (lambda texts: [None] * len(texts), "gave None for the text 'The"),
        (lambda texts: None, "must give a list, .* it gave None"),
        (lambda texts: 0.5, "must give a list, .* it gave 0.5"),
    ],
)
def test_a_scorer_that_does_not_fit(tokenizer, scorer, message):  # noqa: F811
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, GENDER, scorer)
    with pytest.raises((TypeError, ValueError), match=message):
        say(lm, batch(tokenizer, ["The man was"]))


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_large_scores_are_told_apart(tokenizer, kind):  # noqa: F811
    """1000000 and 1000001 are equal to float32's rounding, not to Python's."""
    told = {}

    def scorer(texts):
        scores = [1_000_000.0 + place for place in range(len(texts))]
        told.update(zip(texts, scores, strict=True))
        return kind(scores)

    lm, inputs = (
        EquizeroLM(gpt2(tokenizer), tokenizer, RACE, scorer),
        batch(tokenizer, PROMPTS[2:3]),
    )
    chosen = say(lm, inputs)
    views = tokenizer.batch_decode([perm[chosen[0]] for perm in lm.perms], skip_special_tokens=True)
    assert max(told, key=told.get) in views and len(told) == 3


def test_ids_that_are_none(tokenizer):  # noqa: F811
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, GENDER, letters)
    inputs = batch(tokenizer, ["The man was"])
    ids = inputs.pop("input_ids")
    assert torch.equal(say(lm, {"inputs": ids} | inputs), say(lm, {"input_ids": ids} | inputs))
    for wrong, message in (
        ("The man", "no input_ids, but a str"),
        (ids.tolist(), "no input_ids, but a list"),
        (tokenizer("The man", return_tensors="pt"), "but a BatchEncoding"),
        (None, "but none"),
        (ids[0], r"whole numbers \(B, T\), got torch.int64 of shape \(3,\)"),
        (ids - 1000, "token id -.*, which is none"),
        (ids + 1000, "do not belong together"),
    ):
        with pytest.raises(ValueError, match=message):
            say(lm, {"input_ids": wrong})


def test_what_it_cannot_do(tokenizer):  # noqa: F811
    with pytest.raises(TypeError, match="scorer must be a function"):
        EquizeroLM(gpt2(tokenizer), tokenizer, GENDER, "positive")
    bert = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2)
    with pytest.raises(ValueError, match="not causal"):
        EquizeroLM(BertForMaskedLM(bert), tokenizer, GENDER, letters)
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, GENDER, letters)
    for asked, message in (
        ({"streamer": object()}, "streamer is not supported"),
        ({"generation_config": GenerationConfig(output_attentions=True)}, "have no average"),
    ):
        with pytest.raises(ValueError, match=message):
            lm.generate(**batch(tokenizer), **asked)
    for ask in (
        lambda: phrase_probabilities(lm, "The man was", ["a doctor"], tokenizer),
        lambda: lm(**batch(tokenizer)),
    ):
        with pytest.raises(TypeError, match="chooses among whole texts"):
            ask()


def test_it_loads_and_samples(tokenizer, tmp_path):  # noqa: F811
    from equitutor.language.nlg import sample_texts

    gpt2(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lm = eq.EquizeroLM.from_pretrained(tmp_path, GENDER, letters)
    he, she = (
        sample_texts(lm, [f"The {who} was"], samples=5, new_tokens=4, top_k=5)[0]
        for who in ("man", "woman")
    )
    swap = {"man": "woman", "woman": "man", "he": "she", "she": "he"}
    assert she == [" ".join(swap.get(w, w) for w in text.split(" ")) for text in he]


OPTIONS = {
    "greedy": {},
    "several": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3},
    "several beams": {"num_beams": 4, "num_return_sequences": 3},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["keywords", "config", "the model's own"])
def test_options_in_every_form_and_dicts_as_results(tokenizer, options, way):  # noqa: F811
    asked = {"max_new_tokens": 4, "pad_token_id": 0, **OPTIONS[options]}
    model = gpt2(tokenizer)
    lm = EquizeroLM(model, tokenizer, LISTS["C3"], letters)
    inputs = batch(tokenizer, PROMPTS[:3])
    if way == "the model's own":
        model.generation_config = GenerationConfig(**asked)

    def generate(inputs, **more):
        torch.manual_seed(0)
        if way == "config":
            return lm.generate(**inputs, generation_config=GenerationConfig(**asked, **more))
        return lm.generate(**inputs, **more, **(asked if way == "keywords" else {}))

    texts = generate(inputs)
    n = asked.get("num_return_sequences", 1)
    assert texts.shape == (3 * n, inputs["input_ids"].shape[1] + 4)
    assert texts[:, :-4].tolist() == inputs["input_ids"].repeat_interleave(n, 0).tolist()
    for g in range(1, 3):
        assert torch.equal(generate(moved(lm.perms, g, inputs)), lm.perms[g][texts])
    if n == 3:
        assert len(texts[:3].unique(dim=0)) > 1
    if "num_beams" in asked:
        return
    out = generate(inputs, return_dict_in_generate=True, output_scores=True, output_logits=True)
    assert torch.equal(out.sequences, texts) and len(out.scores) == len(out.logits) == 4
    if options == "greedy":
        for step, scores in enumerate(out.logits):  # moved back with the text
            assert torch.equal(scores.argmax(-1), texts[:, step - 4])


def test_each_text_is_the_best_of_the_views(tokenizer):  # noqa: F811
    """Beam by beam, by hand."""
    lm = EquizeroLM(gpt2(tokenizer), tokenizer, LISTS["C3"], letters)
    inputs = batch(tokenizer)
    how = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 4, "pad_token_id": 0}
    found = lm.generate(**inputs, **how).unflatten(0, (-1, 2))
    views = [lm.model.generate(**moved(lm.perms, g, inputs), **how) for g in range(3)]
    for rank in range(2):
        rows = [v.unflatten(0, (-1, 2))[:, rank] for v in views]
        scores = [letters(tokenizer.batch_decode(r, skip_special_tokens=True)) for r in rows]
        for i, text in enumerate(found[:, rank]):
            score = letters([tokenizer.decode(text, skip_special_tokens=True)])
            best = max(s[i] for s in scores)
            assert any(
                scores[g][i] == best and torch.equal(lm.perms[g][text], rows[g][i])
                for g in range(3)
            ), score
