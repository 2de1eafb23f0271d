"""Drawing the next token equivariantly: one seed, and the text moves with its context."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .views import frame_of

__all__ = ["EquivariantDraw"]


class EquivariantDraw(LogitsProcessor):
    """Draws the next token so that one seed gives images of one text to images of one context.

    A plain draw ties its random numbers to the ids of the vocabulary, and so a swap of two words
    changes it. Here each *word of the orbit's least context* has its noise: with exponential noise e the
    token of the greatest p / e is distributed as p, and the noise is moved with the context.

    What is drawn is left as the only token of finite score.
    """

    def __init__(self, lm: Any, top_k: int | None = None):
        self.lm, self.top_k = lm, top_k

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        lm = self.lm
        frame = frame_of(input_ids.to(lm.perms.device), lm.perms, lm.moves).to(scores.device)
        # Words of equal score may share the last places of the top k: room for all of them.
        count = (self.top_k or scores.shape[1]) + len(lm.support)
        if count < scores.shape[1]:
            best, words = scores.topk(count)
        else:
            best, words = scores, torch.arange(scores.shape[1]).expand_as(scores).to(scores.device)
        # v of x is f v of f x, the least of the orbit. In the order of those names every image of x
        # has the same words, and so the same noise.
        names = lm.perms[frame].to(scores.device).gather(1, words)
        noise = torch.empty_like(best).exponential_()
        if count < scores.shape[1]:  # words that are filtered out come last
            names = names.masked_fill(best == -torch.inf, scores.shape[1])
            names = names.argsort(1).argsort(1)
        noise = noise.gather(1, names)
        place = (best - noise.log()).argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, words.gather(1, place), 0.0)
