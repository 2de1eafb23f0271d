"""EquizeroLM: of the texts that a language model writes for all views, the one that scores best.

Where EquiLM averages the views' scores at each token, this is equizero for whole texts (Basu et al.,
NeurIPS 2023): the pretrained model continues every view g x of the context, a scorer judges the
texts, and the best one is moved back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation import GenerateDecoderOnlyOutput

from ..modes import rounding
from ..pages import Module
from ..weights import least
from .causal import WordGroup, core_of, find_words, load
from .equality import Axes
from .inputs import checked_ids
from .regard import judged
from .sampling import unanswered
from .views import Rows, rows_of, split

__all__ = ["VALUES", "EquizeroLM"]

#: What the labels of a regard scorer count.
VALUES = {"negative": -1.0, "neutral": 0.0, "other": 0.0, "positive": 1.0}


class EquizeroLM(WordGroup, Module):
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
        super().__init__()
        self._hold(model, tokenizer, find_words(model, tokenizer, equality))
        self.scorer = scorer

    @property
    def config(self) -> Any:
        """The pretrained model's."""
        return self.model.config

    @property
    def generation_config(self) -> Any:
        """The pretrained model's."""
        return self.model.generation_config

    @classmethod
    def from_pretrained(
        cls, name: str | Path, equality: Axes, scorer: Callable[[list[str]], Any], **kwargs: Any
    ) -> EquizeroLM:
        """A pretrained model and its tokenizer, by name on the hub or from a folder.

        Options are those of :meth:`equitutor.language.lm.EquiLM.from_pretrained`.
        """
        model, tokenizer, _ = load(name, kwargs)
        return cls(model, tokenizer, equality, scorer)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        generation_config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Continue each context.

        Parameters
        ----------
        input_ids, attention_mask : (B, T)
            The ids may be called ``inputs``, too, as transformers does.
        generation_config, kwargs
            For the pretrained model's ``generate``: any of its search and sampling options. Of
            ``num_return_sequences``, each text is the best of one text per view; from beam search, the
            first is the best of the views' first beams, and so on.

        Returns
        -------
        (B num_return_sequences, T + new) ids, padded on the right; with ``return_dict_in_generate`` an
        output with these as ``sequences`` and, where asked for, each step's ``scores`` and ``logits``
        (B num_return_sequences, V), moved back like the text.

        Raises
        ------
        TypeError, ValueError
            If there are no ids, or such as the vocabulary has not, if a ``streamer``, attentions or hidden
            states are asked for, or if the scorer does not give each text a number or a label.
        """
        input_ids = kwargs.pop("inputs", None) if input_ids is None else input_ids
        asked = {"generation_config": generation_config} if generation_config is not None else {}
        config, inputs = core_of(self.model)._prepare_generation_config(generation_config, **kwargs)
        unanswered(config, inputs)
        if kwargs.get("streamer"):
            raise ValueError(
                "the text is chosen when all views have ended, so streamer is not supported: leave it "
                "out"
            )
        input_ids = checked_ids(input_ids, self.perms.shape[1])
        rows, views, _ = split(input_ids, None, self.perms, self.moves, self.table)  # (R, T)
        length = input_ids.shape[1]
        kwargs = {
            k: rows_of(k, v, rows.sample, input_ids, 0, length)
            if k in inputs or k == "attention_mask"
            else v
            for k, v in {**kwargs, "attention_mask": attention_mask}.items()
            if v is not None
        }
        found = self.model.generate(input_ids=views, **asked, **kwargs)
        texts = found if isinstance(found, Tensor) else found.sequences  # (R n, T + new)
        n = config.num_return_sequences or 1
        row, back = self._choice(texts, rows, n, bool(config.do_sample))
        chosen = back.gather(1, texts[row])
        if isinstance(found, Tensor):
            return chosen
        moved = {
            name: tuple(step[row].gather(1, back.argsort(1)) for step in getattr(found, name))
            for name in ("scores", "logits")
            if getattr(found, name, None) is not None and len(getattr(found, name)[0]) == len(texts)
        }
        return GenerateDecoderOnlyOutput(sequences=chosen, **moved)

    def _choice(self, texts: Tensor, rows: Rows, n: int, sampling: bool) -> tuple[Tensor, Tensor]:
        """Of each sentence's texts the chosen one's row, (B n,), and how ids move back, (B n, V)."""
        of_view = (
            rows.row[:, None] * n + torch.arange(n, device=texts.device)[:, None]
        )  # (B, n, |G|)
        of_view = of_view.flatten(0, 1)  # (B n, |G|), the row of each view's text
        score = self._scores(texts)[of_view.cpu()]  # in the order of the orbit
        wins = least(-score.T, rounding(score.dtype)).T.to(texts.device)
        noise = torch.rand(wins.shape, device=texts.device) if sampling else wins.float()
        row = of_view.gather(1, noise.masked_fill(~wins, -1).argmax(1, keepdim=True))  # (B n, 1)
        place = (of_view == row).int().argmax(1, keepdim=True)  # of equal views the first
        element = rows.order.repeat_interleave(n, 0).gather(1, place)
        back = self.perms[self.group.inverses.to(texts.device)[element[:, 0]]]
        return row[:, 0], back

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refused with a TypeError: whole texts are chosen, see ``generate``."""
        raise TypeError(
            "EquizeroLM chooses among whole texts and has no scores of the next token: call generate, "
            "its .model for the pretrained model's scores, or an EquiLM for averaged ones"
        )

    def _scores(self, ids: Tensor) -> Tensor:
        """The scorer's numbers for (R, T + new) ids: (R,) in float64, on the CPU."""
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        values = []
        for text, score in zip(texts, judged(self.scorer, texts), strict=True):
            try:
                values.append(VALUES[score] if isinstance(score, str) else float(score))
            except (KeyError, TypeError, ValueError):
                values.append(math.nan)
            if math.isnan(values[-1]):
                raise ValueError(
                    f"the scorer gave {score!r} for the text {text!r}; give every text a number, or a label "
                    f"out of {', '.join(VALUES)}"
                )
        return torch.tensor(values, dtype=torch.float64)
