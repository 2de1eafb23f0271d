"""Drawing the next token equivariantly: with one seed, the text moves with its context."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .views import frame_of

__all__ = ["EquivariantDraw"]


class EquivariantDraw(LogitsProcessor):
    """Draws the next token so that, with one seed, images of a context get images of one text.

    A plain draw ties its random numbers to the ids of the vocabulary, so swapping two words changes
    it. Here the noise belongs to the *words of the least context of the orbit*, and moves with the
    context. With exponential noise e, the token with the greatest p / e is distributed as p.

    The drawn token is the only one left with a finite score.

    Parameters
    ----------
    lm : EquiLM
    top_k : int, optional
        The sampler's own filter, which came first; None or 0: none.
    """

    def __init__(self, lm: Any, top_k: int | None = None):
        self.lm, self.top_k = lm, top_k

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        lm = self.lm
        frame = frame_of(input_ids.to(lm.perms.device), lm.perms, lm.moves).to(scores.device)
        # Words of equal score may tie for the last places of the top k: make room for all of them.
        count = (self.top_k or scores.shape[1]) + len(lm.support)
        if count < scores.shape[1]:
            best, words = scores.topk(count)  # (B, count)
        else:
            best, words = scores, torch.arange(scores.shape[1]).expand_as(scores).to(scores.device)
        # The word v of x is f v in f x, the least of the orbit. By these names all images of x have
        # the same words, and so the same noise.
        names = lm.perms[frame].to(scores.device).gather(1, words)
        noise = torch.empty_like(best).exponential_()
        if count < scores.shape[1]:  # filtered words come last
            names = names.masked_fill(best == -torch.inf, scores.shape[1])
            names = names.argsort(1).argsort(1)
        noise = noise.gather(1, names)
        place = (best - noise.log()).argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, words.gather(1, place), 0.0)
