import ipywidgets
import pytest
import torch
from test_lm import GENDER, gpt2, tokenizer  # noqa: F401

from equitutor.book import explore
from equitutor.language.lm import EquiLM
from equitutor.language.tokenizer import word_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")
PROMPTS = ["The man was", "The woman was"]


def test_next_words_by_hand(tokenizer):  # noqa: F811
    model = gpt2(tokenizer)
    found = explore.next_words(model, tokenizer, PROMPTS, count=3)
    with torch.no_grad():
        for prompt, row in found.items():
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            p = model(ids).logits[0, -1].softmax(-1)
            assert len(row) == 3 and list(row) == list(found[PROMPTS[0]])
            for word, value in row.items():
                tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
                at = [i for i, t in enumerate(tokens) if word in (t, tokenizer.decode([i]).strip())]
                assert any(abs(float(p[i]) - value) < 1e-6 for i in at)
    fair = explore.next_words(EquiLM(model, tokenizer, GENDER), tokenizer, PROMPTS)
    a, b = fair.values()
    assert len(a) == 8
    still = [w for w in a if w not in ("man", "woman", "he", "she")]
    assert all(abs(a[w] - b[w]) < 1e-6 for w in still)


def test_a_vocabulary_may_be_small():
    words = word_tokenizer(["man", "woman"])
    (found,) = explore.next_words(gpt2(words), words, ["man"], count=99).values()
    assert {"man", "woman"} <= found.keys() and len(found) == len(words)


def test_no_prompts_is_a_message():
    with pytest.raises(ValueError, match="no prompts: write one or more"):
        explore.next_words(None, None, [])


def test_lists_are_lines():
    assert explore.read_lists("man, woman\n\n he,she ") == [["man", "woman"], ["he", "she"]]


def test_the_explorer_answers(tokenizer):  # noqa: F811
    box = explore.word_list_explorer(gpt2(tokenizer), tokenizer, GENDER, PROMPTS)
    (words, _), shown = box.children[0].children, box.children[1]
    assert isinstance(words, ipywidgets.Textarea) and words.value == "man, woman\nhe, she"
    first = shown.value
    assert first.startswith('<img alt="Bars')
    words.value = ""  # the pretrained model
    assert shown.value.startswith("<img") and shown.value != first
    words.value = "man, woman\nman, person"
    assert "ValueError" in shown.value and "&#x27;man&#x27; is in two places" in shown.value
    words.value = "man, woman\nhe, she"
    assert shown.value == first


def test_a_prompt_without_words_is_a_message():
    words = word_tokenizer(["The", "man", "woman", "he", "she", "was", "$x^$", "a$b"])
    box = explore.word_list_explorer(gpt2(words), words, GENDER, PROMPTS)
    (_, prompts), shown = box.children[0].children, box.children[1]
    prompts.value = "The man was\n  "
    assert "ValueError: the prompt &#x27;  &#x27; has no words" in shown.value
    box.children[0].children[0].value = ""  # the pretrained model
    prompts.value = "The man was " * 500  # more than it takes
    assert shown.value.startswith("<p>ValueError: the text has 1500 tokens, ")
    prompts.value = ""  # the first ones again
    assert shown.value.startswith("<img")


@pytest.mark.skipif(
    not hasattr(ipywidgets.Widget, "_repr_mimebundle_"),
    reason="before 8, ipywidgets asks for no page",
)
def test_a_page_without_a_kernel_shows_the_picture(tokenizer):  # noqa: F811
    lists = [["man", "woman"], ["<he>", "she"]]
    box = explore.word_list_explorer(gpt2(tokenizer), tokenizer, GENDER, PROMPTS)
    data = box._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    page = data["text/html"]
    assert "<dt>lists</dt><dd>man, woman; he, she</dd>" in page and "The woman was" in page
    assert box.children[1].value in page
    box.children[0].children[0].value = "\n".join(map(",".join, lists))  # does not fit
    page = box._repr_mimebundle_()["text/html"]
    assert "&lt;he&gt;,she" in page and "<img" not in page
