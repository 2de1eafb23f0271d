"""EquiLM and R-EquiLM: group-theoretic fairness for causal language models (AAAI paper, Sec. 5.3).

A group acts on the vocabulary by swapping words that are to be treated alike. Equi-tuning a language
model with it gives P(g x2 | g x1) = P(x2 | x1), eq. 4 of the paper, for every context x1, continuation
x2 and g: whatever the model says of one word, it says of the other.

>>> lm = EquiLM.from_pretrained("gpt2", equality=[["man", "woman"], ["he", "she"]])
>>> lm.generate(**lm.tokenizer("The man worked as", return_tensors="pt"), do_sample=True)
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..actions import Permutation, Trivial
from ..symmetrize import uniform_average
from .causal import CACHE, WORD_LISTS, WordGroupLM, load, saved_lists
from .equality import Axes
from .sampling import EquivariantDraw
from .views import Rows, ViewsCache, split

__all__ = ["AVERAGES", "EquiLM"]

#: What is averaged over the views: a function of their logits.
AVERAGES = {
    "logits": lambda logits: logits,
    "log_probs": lambda logits: logits.log_softmax(-1),
    "probs": lambda logits: logits.softmax(-1),
}


class EquiLM(WordGroupLM, GenerationMixin):
    r"""A causal language model made fair to lists of words: the group average of its scores.

    .. math::  \phi_G(x) = \frac{1}{|G|} \sum_g g^{-1} \phi(g x)

    It is used like the model it wraps: ``forward`` with labels gives the loss; ``generate`` does greedy
    search, sampling and beam search with the key/value cache. Only views that differ are computed, and
    the part they share at the start is computed once.

    Parameters
    ----------
    model : causal language model of transformers
        Left as it is, and registered as the submodule ``self.model``.
    tokenizer : its tokenizer
    equality : lists of words, or dict {axis name: lists of words}
        The paper's set E, see :func:`equitutor.language.equality.equality`.
    general : words, optional
        The paper's set G, which makes this R-EquiLM: these words keep the pretrained model's scores,
        all others get the averaged ones.
    average : "logits" (as published), "log_probs" or "probs"
        What is averaged. The first two have the same softmax: the geometric mean of the views'
        probabilities, normalised. The third gives their arithmetic mean. The logits that this model
        returns are the mean logits, or the log of these means. With general words they are not
        normalised even then, as they come from two sources: apply a softmax.

    Raises
    ------
    TypeError, ValueError
        If the model is not a causal language model, or the words do not fit: see
        :func:`equitutor.language.equality.equality`.

    Notes
    -----
    With ``do_sample=True`` and one seed, the text from g x is g times the text from x, token for token,
    provided that x has a word of every axis that g moves: the noise is tied to words, not to their ids
    in the vocabulary. If x has none, g x is x and so is its text; the law then holds on average.
    Beam search with sampling (``num_beams`` > 1) is drawn by transformers and keeps the law only on
    average. In ``output_scores`` the drawn token is the only one left; see ``output_logits`` for the
    rest.
    """

    _is_stateful = False
    accepts_loss_kwargs = False  # the loss is a batch mean: a Trainer divides it by its steps
    main_input_name = "input_ids"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        equality: Axes,
        general: Iterable[str] | None = None,
        average: str = "logits",
    ):
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}; got {average!r}")
        if general is not None and not isinstance(general, str):  # the base class refuses a string
            general = list(general)
        super().__init__(model, tokenizer, equality, general)
        self.lists = {"equality": equality, "general": general, "average": average}
        self.average = average
        self.generation_config = model.generation_config
        support = self.words.moved.nonzero()[:, 0]  # the ids that move, in increasing order
        images = self.words.perms.index_select(1, support)  # (|G|, moved ids), again moved ids
        self.moved_scores = Permutation(self.group, torch.searchsorted(support, images))
        self.all_scores = Trivial(self.group)
        self.moved_scores.to(model.device)
        self._constants(support=support, general=self.words.general)
        self._accepts = set(inspect.signature(model.forward).parameters)

    # -- what generate() asks of a model ------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def can_generate(self) -> bool:
        return True

    def is_remote_code(self) -> bool:
        return False

    def _optimize_model_for_decode(self) -> Any:
        return self.model._optimize_model_for_decode()

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> None:
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)
        if type(model_kwargs.get(CACHE)) is DynamicCache:
            model_kwargs[CACHE] = ViewsCache(config=self.config)

    def _get_logits_processor(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        processors = super()._get_logits_processor(generation_config, *args, **kwargs)
        if generation_config.do_sample and generation_config.num_beams in (None, 1):
            processors.append(EquivariantDraw(self, generation_config.top_k))
        return processors

    # -- the model ---------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: ViewsCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The averaged scores of the next token at each position.

        Parameters
        ----------
        input_ids : (B, T)
        attention_mask : (B, T) or, with a cache, (B, tokens so far); 0 on padding
        labels : (B, T), optional
            The tokens to predict, usually ``input_ids``; they are shifted here. -100 is ignored.
        logits_to_keep : int
            Return the scores of this number of last positions only; 0: of all.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits`` (B, T, V), ``loss`` if labels are given, and the cache.

        Raises
        ------
        ValueError
            The text is longer than the model's context, the cache is not a ViewsCache, or attentions
            or hidden states are asked for.
        """
        past = kwargs.pop("cache", None) if past_key_values is None else past_key_values
        cache, length = self._cache(past, use_cache), input_ids.shape[1]
        self._check_length(length, cache)
        if kwargs.pop("output_attentions", None) or kwargs.pop("output_hidden_states", None):
            raise ValueError(
                "attentions and hidden states belong to the views and have no average: call .model "
                "for the pretrained model's"
            )
        kwargs.pop("return_dict", None)
        kwargs.pop("cache_position", None)  # of all of input_ids: the model counts from its cache
        parts = []
        for start, end in self._spans(input_ids, cache):
            later = length - end
            mask = attention_mask
            if mask is not None:
                mask = mask[:, : mask.shape[1] - later]
            positions = None if position_ids is None else position_ids[:, start:end]
            keep = max(0, logits_to_keep - later) if logits_to_keep else 0
            needed = keep or not logits_to_keep
            # The model scores at least one position, even in a span whose scores are not needed.
            logits = self._scores(
                input_ids[:, start:end], mask, positions, cache, keep if needed else 1, kwargs
            )
            if needed:
                parts.append(logits)
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, 1)  # (B, T, V)
        loss = None
        if labels is not None:
            loss = cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten().to(logits.device)
            )
        returned = cache if use_cache or (use_cache is None and cache is not None) else None
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: returned})

    def _cache(self, past: Any, use_cache: bool | None) -> ViewsCache | None:
        if past is not None and not isinstance(past, ViewsCache):
            raise ValueError(
                f"past_key_values is a {type(past).__name__}; views need a ViewsCache, as this model "
                "returns it (leave cache_implementation at its default)"
            )
        if past is None and use_cache is not False and not self.training:
            return ViewsCache(config=self.config)
        return past

    def _check_length(self, length: int, cache: ViewsCache | None) -> None:
        limit = getattr(self.config, "max_position_embeddings", None)
        total = length if cache is None or cache.rows is None else length + cache.rows.ids.shape[1]
        if limit and total > limit:
            raise ValueError(
                f"the text has {total} tokens, the model's context {limit}: shorten it, or for the "
                "perplexity of a long text use equitutor.language.fairness.perplexity"
            )

    def _spans(self, ids: Tensor, cache: ViewsCache | None) -> list[tuple[int, int]]:
        """The part that all views share at the start, if any, and the rest: (start, end) of each."""
        length = ids.shape[1]
        differ = cache is not None and cache.rows is not None and not cache.rows.one_each
        if cache is None or length == 1 or differ:
            return [(0, length)]
        columns = self.moves[ids].any(0).nonzero()[:, 0].tolist()
        common = columns[0] if columns else 0
        return [(0, common), (common, length)] if common else [(0, length)]

    def _scores(
        self,
        ids: Tensor,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: ViewsCache | None,
        keep: int,
        kwargs: dict,
    ) -> Tensor:
        """The averaged scores (B, T, V) of one span, of its last ``keep`` positions unless that is 0."""
        before = None if cache is None else cache.rows
        rows, tokens, parents = split(ids, before, self.perms, self.moves, self.table)
        kwargs = dict(kwargs)
        if cache is not None:
            if parents is not None:
                cache.take(parents)
            cache.rows = rows
            kwargs[CACHE] = cache
        if positions is not None and "position_ids" in self._accepts:
            kwargs["position_ids"] = positions.expand(len(ids), -1)[rows.sample]  # (R, T)
        if keep and "logits_to_keep" in self._accepts:
            kwargs["logits_to_keep"] = keep
        mask = None if mask is None else mask[rows.sample]  # (R, tokens so far)
        out = self.model(
            input_ids=tokens, attention_mask=mask, use_cache=cache is not None, **kwargs
        )
        return self._average(out.logits[:, -keep:] if keep else out.logits, rows)

    def _average(self, logits: Tensor, rows: Rows) -> Tensor:
        """The group average of the rows' scores, (R, T, V) -> (B, T, V)."""
        dtype = logits.dtype
        logits = logits.float() if dtype in (torch.float16, torch.bfloat16) else logits
        scores = AVERAGES[self.average](logits)
        mean = scores if rows.one_each else uniform_average(rows.views(scores), self.all_scores)
        # Only a few scores are moved, those of the words in the lists: (B, T, moved ids).
        moved = uniform_average(rows.views(scores[..., self.support]), self.moved_scores)
        # Views are in the order of the frame f, so this is the average at f x: move it back by f.
        back = self.moved_scores.perms[rows.frame][:, None].expand_as(moved)
        put = mean.index_copy if rows.one_each else mean.index_copy_  # in place only on our own sum
        mean = put(-1, self.support, moved.gather(-1, back))
        if self.average != "logits":
            mean = (mean.log() if self.average == "probs" else mean).log_softmax(-1)
        if len(self.general):
            own = logits if self.average == "logits" else logits.log_softmax(-1)
            own = own[rows.row_of(self.group.identity.index)][..., self.general]
            mean = mean.index_copy(-1, self.general, own)
        return mean.to(dtype)

    # -- saving ------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        equality: Axes | None = None,
        general: Iterable[str] | None = None,
        average: str | None = None,
        **kwargs: Any,
    ) -> EquiLM:
        """A pretrained model and its tokenizer, by name on the hub or from a folder.

        Parameters
        ----------
        equality, general, average
            As for the class. If ``name`` was made by :meth:`save_pretrained`, their defaults are what
            was saved there.
        kwargs
            For ``AutoModelForCausalLM.from_pretrained``, such as ``dtype`` or ``device_map``. Options
            that say where the files are, such as ``revision`` or ``token``, also go to the tokenizer.

        Raises
        ------
        ValueError
            No word lists are given, and none were saved with the model.
        """
        given = {"equality": equality, "general": general, "average": average}
        lists = saved_lists(name, kwargs)
        lists |= {key: value for key, value in given.items() if value is not None}
        if lists.get("equality") is None:
            raise ValueError(
                f"{name} has no lists of words on record: give them, for example "
                'equality=[["man", "woman"], ["he", "she"]]'
            )
        return cls(*load(name, kwargs), **lists)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save model, tokenizer and word lists to a folder, for :meth:`from_pretrained`.

        The pretrained model's own class can load it too, without the lists.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        Path(folder, WORD_LISTS).write_text(json.dumps(self.lists, indent=1), encoding="utf-8")

    def extra_repr(self) -> str:
        return f"{self.group!r}, {len(self.support)} tokens moved, average={self.average!r}"
