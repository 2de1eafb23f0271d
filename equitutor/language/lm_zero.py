"""EquizeroLM: of the texts that a language model writes for all views, the one that scores best.

Where EquiLM averages the views' scores at each token, this is equizero for whole texts (Basu et al.,
NeurIPS 2023): the pretrained model continues every view g x of the context, a scorer judges the
texts, and the best one is moved back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..modes import rounding
from ..weights import least
from .causal import WordGroupLM, load
from .equality import Axes
from .views import split

__all__ = ["VALUES", "EquizeroLM"]

#: What the labels of a regard scorer count.
VALUES = {"negative": -1.0, "neutral": 0.0, "other": 0.0, "positive": 1.0}


class EquizeroLM(WordGroupLM):
    r"""A causal language model that continues all views of a context and keeps the best text.

    .. math::  g_*^{-1}\, \phi(g_* x), \qquad g_* = \arg\max_g\, \mathrm{score}(\phi(g x))

    The scorer sees each view's text as the model wrote it, so all images of x lead to the same texts,
    the same scores and the same choice. Views that are equal are continued once.

    Parameters
    ----------
    model, tokenizer, equality
        As for :class:`equitutor.language.lm.EquiLM`.
    scorer : callable
        From N texts to N numbers, where more is better; or to N labels of
        :data:`equitutor.language.regard.LABELS`, such as :class:`equitutor.language.regard.Regard`:
        positive counts 1, negative -1 and the others 0.

    Raises
    ------
    TypeError, ValueError
        As for EquiLM; when generating, if the scorer does not give each text a number or a label.

    Notes
    -----
    Among texts of equal score one is drawn if the texts are (``do_sample``), else the first in the
    order of the orbit is taken. With one seed, the text from g x is g times the text from x, token for
    token, provided that x has a word of every axis that g moves.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        equality: Axes,
        scorer: Callable[[list[str]], Sequence[float] | Sequence[str]],
    ):
        if not callable(scorer):
            raise TypeError(
                f"scorer must be a function from texts to numbers or regard labels, got {scorer!r}"
            )
        super().__init__(model, tokenizer, equality)
        self.scorer = scorer

    @classmethod
    def from_pretrained(
        cls, name: str | Path, equality: Axes, scorer: Callable[[list[str]], Any], **kwargs: Any
    ) -> EquizeroLM:
        """A pretrained model and its tokenizer, by name on the hub or from a folder."""
        return cls(*load(name, kwargs), equality, scorer)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        num_return_sequences: int = 1,
        **kwargs: Any,
    ) -> Tensor:
        """Continue each context.

        Parameters
        ----------
        input_ids, attention_mask : (B, T)
        num_return_sequences : int
            Texts for each context, each the best of one text per view.
        kwargs
            For the pretrained model's ``generate``: any of its search and sampling options.

        Returns
        -------
        (B num_return_sequences, T + new) ids, padded on the right

        Raises
        ------
        ValueError
            If ``return_dict_in_generate`` or ``streamer`` is given.
        """
        if kwargs.get("return_dict_in_generate") or kwargs.get("streamer"):
            raise ValueError(
                "the text is chosen when all views have ended, so return_dict_in_generate and "
                "streamer are not supported: leave them out"
            )
        ids = input_ids.repeat_interleave(num_return_sequences, 0)  # (B', T), B' = B times that
        rows, views, _ = split(ids, None, self.perms, self.moves, self.table)  # views: (R, T)
        if attention_mask is not None:
            mask = attention_mask.repeat_interleave(num_return_sequences, 0)[rows.sample]
            kwargs["attention_mask"] = mask
        texts = self.model.generate(
            input_ids=views, num_return_sequences=1, **kwargs
        )  # (R, T + new)
        score = self._scores(texts)[rows.row]  # (B', |G|), in the order of the orbit
        wins = least(-score.T, rounding(score.dtype)).T
        config = kwargs.get("generation_config") or self.model.generation_config
        sampling = kwargs.get("do_sample", config.do_sample)
        noise = torch.rand(wins.shape, device=ids.device) if sampling else torch.ones_like(score)
        row = rows.row.gather(1, noise.masked_fill(~wins, -1).argmax(1, keepdim=True))  # (B', 1)
        place = (rows.row == row).int().argmax(1, keepdim=True)  # of equal views the first
        element = rows.order.gather(1, place)
        back = self.perms[self.group.inverses.to(ids.device)[element]]  # (B', 1, V)
        return back[:, 0].gather(1, texts[row[:, 0]])

    def _scores(self, ids: Tensor) -> Tensor:
        """The scorer's numbers for (R, T + new) ids: (R,)."""
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        scores: list[Any] = list(self.scorer(texts))
        if len(scores) != len(texts):
            raise ValueError(f"the scorer gave {len(scores)} scores for {len(texts)} texts")
        unknown = [s for s in scores if isinstance(s, str) and s not in VALUES]
        if unknown:
            raise ValueError(
                f"the scorer gave the label {unknown[0]!r}; give numbers, or labels out of "
                f"{', '.join(VALUES)}"
            )
        values = torch.tensor([VALUES[s] if isinstance(s, str) else float(s) for s in scores])
        if bool(values.isnan().any()):
            text = texts[int(values.isnan().nonzero()[0])]
            raise ValueError(f"the scorer gave NaN for the text {text!r}; give every text a number")
        return values.to(ids.device)
