"""EquiLM and R-EquiLM: group-theoretic fairness for causal language models (AAAI paper, Sec. 5.3).

A group acts on the vocabulary by swapping words that are to be treated alike. Equi-tuning a language
model with it gives P(g x2 | g x1) = P(x2 | x1), eq. 4 of the paper, for every context x1, continuation
x2 and g: the model says of the one what it says of the other.

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
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import cached_file

from ..actions import Permutation, Trivial
from ..modes import evaluating
from ..symmetrize import uniform_average
from .equality import Axes, equality
from .sampling import EquivariantDraw
from .views import Rows, ViewsCache, split

__all__ = ["EquiLM"]

#: What is averaged over the views, and how the average becomes scores again.
AVERAGES = ("logits", "log_probs", "probs")

_FILE = "equitutor_lm.json"

#: What transformers takes to find the files of a model, its tokenizer's and ours.
WHERE = ("revision", "cache_dir", "token", "local_files_only")

#: What transformers calls the cache: since 5.24 "cache", before "past_key_values".
_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


class EquiLM(nn.Module, GenerationMixin):
    r"""A causal language model made fair to some lists of words: the group average of its scores.

    .. math::  \phi_G(x) = \frac{1}{|G|} \sum_g g^{-1} \phi(g x)

    It is used as the model it wraps: ``forward`` with labels gives the loss, ``generate`` does greedy
    search, sampling and beams with the key/value cache. Only views that differ are computed, and what
    they have in common at the start is computed once.

    Parameters
    ----------
    model : a causal language model of transformers
        It stays as it is, a registered submodule ``self.model``.
    tokenizer : its tokenizer
    equality : lists of words, or a dict {name of an axis: lists of words}
        See :func:`equitutor.language.equality.equality`. The paper's set E.
    general : words, optional
        The paper's set G, which makes this R-EquiLM: these words keep the pretrained model's scores,
        all others have the averaged ones.
    average : "logits" (as published), "log_probs" or "probs"
        What is averaged. Of the first two the softmax is the same, the geometric mean of the views'
        probabilities, normalised; of the third it is their arithmetic mean. The logits that this
        model returns are the mean logits, or the log of these means; beside general words its
        softmax is still to be taken, as the scores are then of two kinds.

    Raises
    ------
    TypeError, ValueError
        If the model is no causal language model, or the words do not fit: see
        :func:`equitutor.language.equality.equality`.

    Notes
    -----
    With ``do_sample=True`` and one seed, the text from g x is g times the text from x, token for token,
    as long as x holds a word of every axis that g moves: the noise is tied to words and not to their
    numbers in the vocabulary. Where x holds none, g x is x and so is its text; the law holds on average
    then. Beams that sample (``num_beams`` > 1) are drawn by transformers and keep the law on average
    alone. The token that is drawn is the only one left in ``output_scores``; see ``output_logits`` for
    the rest.
    """

    _is_stateful = False
    accepts_loss_kwargs = (
        False  # the loss is a mean of the batch: a Trainer divides it by its steps
    )
    main_input_name = "input_ids"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        equality: Axes,
        general: Iterable[str] | None = None,
        average: str = "logits",
    ):
        super().__init__()
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}; got {average!r}")
        check_causal(model)
        # A lone string is refused by `equality`, not taken apart into letters here.
        words = general if general is None or isinstance(general, str) else list(general)
        self.words = _equality(tokenizer, equality, words, vocabulary_size(model))
        self.lists = {"equality": equality, "general": words, "average": average}
        self.group = self.words.group
        self.average = average
        self.model, self.tokenizer = model, tokenizer
        self.generation_config = model.generation_config
        perms = self.words.perms
        moved = (perms != torch.arange(perms.shape[1], device=perms.device)).any(0)
        support = moved.nonzero()[:, 0]
        place = torch.zeros(len(moved), dtype=torch.long)
        place[support] = torch.arange(len(support), device=perms.device)
        self.moved_scores = Permutation(self.group, place[perms[:, support]])
        self.all_scores = Trivial(self.group)
        self.moved_scores.to(model.device)
        for name, value in {
            "perms": perms,
            "moves": moved,
            "support": support,
            "table": self.group.table,
            "general": self.words.general,
        }.items():
            self.register_buffer(name, value.to(model.device), persistent=False)
        self._accepts = set(inspect.signature(model.forward).parameters)

    # -- what generate() asks a model --------------------------------------------------------

    @property
    def config(self) -> Any:
        """The pretrained model's."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

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
        if type(model_kwargs.get(_CACHE)) is DynamicCache:
            model_kwargs[_CACHE] = ViewsCache(config=self.config)

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
        attention_mask : (B, T) or, with a cache, (B, all T so far); 0 on padding
        labels : (B, T), optional
            The tokens to predict, as a rule ``input_ids``; they are shifted here. -100 is left out.
        logits_to_keep : int
            Scores of so many last positions only; 0: of all.

        Returns
        -------
        CausalLMOutputWithPast : ``logits`` (B, T, V), ``loss`` where labels are given, and the cache

        Raises
        ------
        ValueError
            If the text is longer than the model's context, or the cache is not of this class.
        """
        given = kwargs.pop("cache", None) if past_key_values is None else past_key_values
        cache, length = self._cache(given, use_cache), input_ids.shape[1]
        self._check_length(length, cache)
        if kwargs.pop("output_attentions", None) or kwargs.pop("output_hidden_states", None):
            raise ValueError(
                "attentions and hidden states are those of the views, which have no average: call "
                ".model for the pretrained model's"
            )
        kwargs.pop("return_dict", None)
        kwargs.pop("cache_position", None)  # of all of input_ids: the model counts from its cache
        parts = []
        for start, end in self._stretches(input_ids, cache):
            keep = max(0, logits_to_keep - (length - end)) if logits_to_keep else 0
            logits = self._stretch(
                input_ids[:, start:end],
                _until(attention_mask, end - length),
                None if position_ids is None else position_ids[:, start:end],
                cache,
                # a part of which nothing is asked still gives the scores of one position
                keep if keep or not logits_to_keep else 1,
                kwargs,
            )
            if keep or not logits_to_keep:
                parts.append(logits)
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        loss = None
        if labels is not None:
            loss = cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten().to(logits.device)
            )
        kept = cache if use_cache or (use_cache is None and cache is not None) else None
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{_CACHE: kept})

    def _cache(self, given: Any, use_cache: bool | None) -> ViewsCache | None:
        if given is not None and not isinstance(given, ViewsCache):
            raise ValueError(
                f"past_key_values is a {type(given).__name__}; views need a ViewsCache, as this model "
                "returns it (with cache_implementation left at its default)"
            )
        if given is None and use_cache is not False and not self.training:
            return ViewsCache(config=self.config)
        return given

    def _stretches(self, ids: Tensor, cache: ViewsCache | None) -> list[tuple[int, int]]:
        """What all views have in common at the start, and the rest."""
        length = ids.shape[1]
        apart = cache is not None and cache.rows is not None and not cache.rows.one_each
        if cache is None or length == 1 or apart:
            return [(0, length)]
        columns = self.moves[ids].any(0).nonzero()[:, 0].tolist()
        common = columns[0] if columns else 0
        return [(0, common), (common, length)] if common else [(0, length)]

    def _stretch(
        self,
        ids: Tensor,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: ViewsCache | None,
        keep: int,
        kwargs: dict,
    ) -> Tensor:
        before = None if cache is None else cache.rows
        rows, tokens, parents = split(ids, before, self.perms, self.moves, self.table)
        if cache is not None:
            if parents is not None:
                cache.take(parents)
            cache.rows = rows
            kwargs = {**kwargs, _CACHE: cache}
        if positions is not None and "position_ids" in self._accepts:
            positions = positions.expand(len(ids), -1)[rows.sample]
            kwargs = {**kwargs, "position_ids": positions}
        if keep and "logits_to_keep" in self._accepts:
            kwargs = {**kwargs, "logits_to_keep": keep}
        mask = None if mask is None else mask[rows.sample]
        out = self.model(
            input_ids=tokens, attention_mask=mask, use_cache=cache is not None, **kwargs
        )
        return self._merge(out.logits[:, -keep:] if keep else out.logits, rows)

    def _merge(self, views: Tensor, rows: Rows) -> Tensor:
        """The group average of the rows' scores, (R, T, V) -> (B, T, V)."""
        dtype = views.dtype
        views = views.float() if dtype in (torch.float16, torch.bfloat16) else views
        scores = {
            "logits": lambda: views,
            "log_probs": lambda: views.log_softmax(-1),
            "probs": lambda: views.softmax(-1),
        }[self.average]()
        mean = scores if rows.one_each else uniform_average(rows.views(scores), self.all_scores)
        # Only few scores are moved: those of the words in the lists.
        moved = uniform_average(rows.views(scores[..., self.support]), self.moved_scores)
        # Views stand in the order of the frame f: this is the average at f x, so move it back by f.
        back = self.moved_scores.perms[rows.frame][:, None].expand_as(moved)
        put = mean.index_copy if rows.one_each else mean.index_copy_  # a sum of our own
        mean = put(-1, self.support, moved.gather(-1, back))
        if self.average != "logits":
            mean = (mean.log() if self.average == "probs" else mean).log_softmax(-1)
        if len(self.general):
            own = views if self.average == "logits" else views.log_softmax(-1)
            own = own[rows.row_of(self.group.identity.index)][..., self.general]
            mean = mean.index_copy(-1, self.general, own)
        return mean.to(dtype)

    def _check_length(self, length: int, cache: ViewsCache | None) -> None:
        most = getattr(self.config, "max_position_embeddings", None)
        seen = 0 if cache is None or cache.rows is None else cache.rows.ids.shape[1]
        if most and length + seen > most:
            raise ValueError(
                f"the text has {length + seen} tokens, the model's context {most}: shorten it, or "
                "for the perplexity of a long text use equitutor.language.fairness.perplexity"
            )

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
            As above. Where ``name`` was made by :meth:`save_pretrained` they are on record there.
        kwargs
            For ``AutoModelForCausalLM.from_pretrained``, such as ``dtype`` or ``device_map``. What
            says where the files are, such as ``revision`` or ``token``, goes for the tokenizer too.
        """
        where = {key: kwargs[key] for key in WHERE if key in kwargs}
        lists = _recorded(name, where)
        given = {"equality": equality, "general": general, "average": average}
        lists |= {key: value for key, value in given.items() if value is not None}
        if lists.get("equality") is None:
            raise ValueError(
                f"{name} has no lists of words on record: give them, for example "
                'equality=[["man", "woman"], ["he", "she"]]'
            )
        model = AutoModelForCausalLM.from_pretrained(name, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
        return cls(model, tokenizer, **lists)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save model, tokenizer and word lists to a folder, for :meth:`from_pretrained`.

        The pretrained model's own class can load it too, without the lists.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        Path(folder, _FILE).write_text(json.dumps(self.lists, indent=1), encoding="utf-8")

    def extra_repr(self) -> str:
        return f"{self.group!r}, {len(self.support)} tokens moved, average={self.average!r}"


_equality = equality  # the argument of that name hides it


def _until(mask: Tensor | None, end: int) -> Tensor | None:
    """A mask without the columns that come later."""
    return mask if mask is None or end == 0 else mask[:, :end]


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many tokens a model scores: with padded embeddings more than its tokenizer has."""
    return model.get_output_embeddings().weight.shape[0]


def _recorded(name: str | Path, where: dict) -> dict:
    """The word lists that were saved with a model."""
    path = cached_file(
        name,
        _FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
        **where,
    )
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def check_causal(model: Any) -> None:
    """Raise unless this is a language model whose scores depend on the tokens before alone."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"the model must be a causal language model of transformers, got {type(model).__name__}; "
            "load one with AutoModelForCausalLM.from_pretrained"
        )
    if model.config.is_encoder_decoder or model.get_output_embeddings() is None:
        raise ValueError(
            f"{type(model).__name__} is no causal language model: it must score the next token at "
            "each position; load one with AutoModelForCausalLM.from_pretrained"
        )
    # Does a later token change the scores of an earlier position?
    with evaluating(model), torch.no_grad():
        probe = torch.arange(6, device=model.device).repeat(2, 1)
        probe[1, -1] = 0
        first, second = model(input_ids=probe).logits[:, 0]
    tolerance = max(1e-5, 4 * torch.finfo(first.dtype).eps) * first.abs().max()
    if (first - second).abs().max() > tolerance:
        raise ValueError(
            f"{type(model).__name__} is not causal: its scores at a position change with later tokens "
            "(for a model of the BERT family, set is_decoder=True in its config)"
        )
    if model._is_stateful or _CACHE not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"{type(model).__name__} keeps a state of its own in place of keys and values, which views "
            "cannot share: use a model of the transformer kind"
        )
