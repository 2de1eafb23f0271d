"""A live explorer of word lists: edit them, and watch the next word's probabilities move.

It needs a running notebook; on a static page its last state is shown.
"""

from __future__ import annotations

import base64
import html
import warnings
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import torch

from ..language.lm import EquiLM
from . import plotting
from .widgets import png_bytes

__all__ = ["next_words", "word_list_explorer"]


@torch.no_grad()
def next_words(
    lm: Any, tokenizer: Any, prompts: list[str], count: int = 8
) -> dict[str, dict[str, float]]:
    """{prompt: {word: probability}} of the words that some prompt finds likeliest."""
    found = {}
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(lm.device)
        inputs = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        found[prompt] = lm(**inputs).logits[0, -1].double().softmax(-1).cpu()
    likely = torch.stack(list(found.values())).amax(0).topk(count).indices.tolist()
    bare = [tokenizer.decode([i]).strip() for i in likely]
    tokens = tokenizer.convert_ids_to_tokens(likely)  # for words that differ in their blank alone
    unique = [w if w and bare.count(w) == 1 else t for w, t in zip(bare, tokens, strict=True)]
    names = dict(zip(likely, unique, strict=True))
    return {prompt: {names[i]: float(p[i]) for i in likely} for prompt, p in found.items()}


def read_lists(text: str) -> list[list[str]]:
    """One list a line, its words apart by commas; empty lines are skipped."""
    return [[w.strip() for w in line.split(",")] for line in text.splitlines() if line.strip()]


class Explorer(ipywidgets.VBox):
    """Boxes to write into and what they lead to; without a kernel, the last of it as a picture.

    ipywidgets before 8, as in Colab, asks for no such page: it shows the boxes alone.
    """

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        boxes, shown = self.children
        said = "".join(
            f"<dt>{box.description}</dt><dd>{html.escape('; '.join(box.value.splitlines()))}</dd>"
            for box in boxes.children
        )
        page = f'<div class="equitutor-explorer"><dl>{said}</dl>{shown.value}</div>'
        return {**super()._repr_mimebundle_(**kwargs), "text/html": page}


def word_list_explorer(
    model: Any, tokenizer: Any, lists: list[list[str]], prompts: list[str], count: int = 8
) -> Explorer:
    """Boxes for word lists and prompts above a picture of the next word's probabilities.

    Parameters
    ----------
    model, tokenizer : a causal language model of transformers, and its tokenizer
    lists : what the first box starts with, as of :class:`equitutor.EquiLM`; one list a line
    prompts : what the second box starts with, one a line
    count : int
        How many words are shown.

    Lists that do not fit are answered in words, below the boxes. On a page without a kernel stands what
    the boxes hold, and the picture.
    """
    width = ipywidgets.Layout(width="28em", height="5em")
    words = ipywidgets.Textarea(
        "\n".join(", ".join(row) for row in lists), description="lists", layout=width
    )
    asked = ipywidgets.Textarea("\n".join(prompts), description="prompts", layout=width)
    shown = ipywidgets.HTML()

    def draw(*_: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                rows = read_lists(words.value)
                lm = EquiLM(model, tokenizer, rows).eval() if rows else model
            table = next_words(lm, tokenizer, asked.value.splitlines() or prompts, count)
            figure = plotting.bars(table, ylabel="probability of the next word")
            data = base64.b64encode(png_bytes(figure, 100)).decode()
            plt.close(figure)
            alt = "Bars: the probabilities of the next word after each prompt."
            shown.value = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
        except (TypeError, ValueError) as error:
            shown.value = f"<p>{type(error).__name__}: {html.escape(str(error))}</p>"

    for box in (words, asked):
        box.observe(draw, names="value")
    draw()
    return Explorer([ipywidgets.HBox([words, asked]), shown])
