"""A live explorer of word lists: edit them, and watch the next word's probabilities change.

It needs a running notebook; a static page shows its last state.
"""

from __future__ import annotations

import base64
import html
import warnings
from collections.abc import Iterable
from typing import Any

import ipywidgets
import torch

from ..language.inputs import leading_tokens, next_token_scores
from ..language.lm import EquiLM
from . import plotting
from .widgets import png_bytes

__all__ = ["next_words", "word_list_explorer"]


@torch.no_grad()
def next_words(
    lm: Any, tokenizer: Any, prompts: list[str], count: int = 8
) -> dict[str, dict[str, float]]:
    """{prompt: {word: probability}} of the ``count`` words that any prompt makes most probable.

    The model reads each prompt after the tokenizer's special tokens, such as <bos>.
    """
    if not prompts:
        raise ValueError("there are no prompts: write one or more, each on its line")
    probabilities = {}
    for prompt in prompts:
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        if not ids:
            raise ValueError(f"the prompt {prompt!r} has no words: write some, or remove its line")
        scores = next_token_scores(lm, torch.tensor([leading_tokens(tokenizer) + ids]))[0, -1]
        probabilities[prompt] = scores.double().softmax(-1).cpu()  # (V,)
    most = torch.stack(list(probabilities.values())).amax(0)  # (V,)
    top = most.topk(min(count, len(most))).indices.tolist()
    words = [tokenizer.decode([i]).strip() for i in top]
    tokens = tokenizer.convert_ids_to_tokens(top)  # for words that differ only in their blank
    names = {
        i: word if word and words.count(word) == 1 else token
        for i, word, token in zip(top, words, tokens, strict=True)
    }
    return {prompt: {names[i]: float(p[i]) for i in top} for prompt, p in probabilities.items()}


def read_lists(text: str) -> list[list[str]]:
    """Read one list per line, its words separated by commas; empty lines are skipped."""
    return [[w.strip() for w in line.split(",")] for line in text.splitlines() if line.strip()]


class Explorer(ipywidgets.VBox):
    """Text boxes above their result; without a kernel, the texts and the last result as HTML.

    ipywidgets before 8, as in Colab, does not ask for HTML and shows the boxes alone.
    """

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        boxes, result = self.children
        texts = "".join(
            f"<dt>{box.description}</dt><dd>{html.escape('; '.join(box.value.splitlines()))}</dd>"
            for box in boxes.children
        )
        page = f'<div class="equitutor-explorer"><dl>{texts}</dl>{result.value}</div>'
        return {**super()._repr_mimebundle_(**kwargs), "text/html": page}


def word_list_explorer(
    model: Any, tokenizer: Any, lists: list[list[str]], prompts: list[str], count: int = 8
) -> Explorer:
    """Text boxes for word lists and prompts above a chart of the next word's probabilities.

    Lists that do not fit are reported below the boxes.

    Parameters
    ----------
    model, tokenizer : a causal language model of transformers, and its tokenizer
    lists : list of lists of str
        Initial text of the first box, one list per line, as for :class:`equitutor.EquiLM`.
    prompts : list of str
        Initial text of the second box, one prompt per line.
    count : int
        How many words are shown.
    """
    layout = ipywidgets.Layout(width="28em", height="5em")

    def box(lines: Iterable[str], description: str) -> ipywidgets.Textarea:
        return ipywidgets.Textarea("\n".join(lines), description=description, layout=layout)

    lists_box, prompts_box = box(map(", ".join, lists), "lists"), box(prompts, "prompts")
    result = ipywidgets.HTML()

    def draw(*_: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                rows = read_lists(lists_box.value)
                lm = EquiLM(model, tokenizer, rows).eval() if rows else model
            table = next_words(lm, tokenizer, prompts_box.value.splitlines() or prompts, count)
            figure = plotting.bars(table, ylabel="probability of the next word")
            data = base64.b64encode(png_bytes(figure, 100)).decode()
            alt = "Bars: the probabilities of the next word after each prompt."
            result.value = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            result.value = f"<p>{type(error).__name__}: {html.escape(str(error))}</p>"

    for text in (lists_box, prompts_box):
        text.observe(draw, names="value")
    draw()
    return Explorer([ipywidgets.HBox([lists_box, prompts_box]), result])
