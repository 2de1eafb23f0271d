"""EquiLM and R-EquiLM: group-theoretic fairness for causal language models (AAAI paper, Sec. 5.3).

A group acts on the vocabulary by swapping words that are to be treated alike. Equi-tuning a language
model with it gives P(g x2 | g x1) = P(x2 | x1), eq. 4 of the paper, for every context x1, continuation
x2 and g: whatever the model says of one word, it says of the other.

>>> lm = EquiLM.from_pretrained("gpt2", equality=[["man", "woman"], ["he", "she"]])
>>> lm.generate(**lm.tokenizer("The man worked as", return_tensors="pt"), do_sample=True)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ..actions import Permutation, Trivial
from ..pages import Module
from ..symmetrize import uniform_average
from .causal import CACHE, WordGroup, core_of, find_words, is_ours, load, load_tokenizer
from .config import EquiLMConfig
from .equality import Axes, Equality
from .inputs import as_words, check_length, checked_ids, longest_input
from .parts import check_tokenizer, config_of, mirror, pretrained_of, words_of
from .sampling import REFUSED, EquivariantGenerationMixin, unanswered
from .views import Rows, Views, ViewsCache, keep_views, kept, rows_of, split

__all__ = ["AVERAGES", "EquiLM"]

#: What is averaged over the views: a function of their logits.
AVERAGES = {
    "logits": lambda logits: logits,
    "log_probs": lambda logits: logits.log_softmax(-1),
    "probs": lambda logits: logits.softmax(-1),
}


class EquiLM(WordGroup, EquivariantGenerationMixin, PreTrainedModel, Module):
    r"""A causal language model made fair to lists of words: the group average of its scores.

    .. math::  \phi_G(x) = \frac{1}{|G|} \sum_g g^{-1} \phi(g x)

    It is used like the model it wraps: ``forward`` with labels gives the loss; ``generate`` does greedy
    search, sampling and beam search with the key/value cache. Only views that differ are computed, and
    the part they share at the start is computed once.

    Parameters
    ----------
    model, tokenizer : causal language model of transformers, and its tokenizer
        Left as it is, and registered as the submodule ``self.model``.
    equality : lists of words, or dict {axis name: lists of words}
        The paper's set E, see :func:`equitutor.language.equality.equality`.
    general : words, optional
        The paper's set G, which makes this R-EquiLM: these words keep the pretrained model's scores.
    average : "logits" (as published), "log_probs" or "probs"
        What is averaged. The logits are the mean logits, or the log of the geometric or arithmetic mean
        of the views' probabilities (the first two have one softmax). With general words they come from
        two sources and are not normalised: apply a softmax.

    Raises
    ------
    TypeError, ValueError
        If the model is not a causal language model, or the words do not fit: see the same function.

    Notes
    -----
    It is a ``PreTrainedModel`` of model type "equilm", known to ``AutoModelForCausalLM`` and AutoConfig
    once equitutor is imported: Trainer, PEFT, pipelines and evaluation harnesses take it. What
    ``save_pretrained`` writes holds the pretrained model, the tokens that move, and the tokenizer.
    ``print(lm.words)`` shows the tokens that move, ``lm.coverage(texts)`` how often your texts use them.

    With ``do_sample=True`` and one seed, the text from g x is g times the text from x, token for token,
    provided that x has a word of every axis that g moves: the noise is tied to words, not to their ids
    in the vocabulary. If x has none, g x is x and so is its text; the law then holds on average, as it
    does where transformers draws: in beam search with sampling, and where an assistant proposes.
    In ``output_scores`` the drawn token is the only one left; see ``output_logits`` for the rest.
    """

    config_class = EquiLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Which kinds of attention there are is for the pretrained model to say.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(
        self,
        model: PreTrainedModel | EquiLMConfig,
        tokenizer: Any = None,
        equality: Axes | None = None,
        general: Iterable[str] | None = None,
        average: str = "logits",
    ):
        if isinstance(model, EquiLMConfig):  # as from_pretrained does: weights come later
            config, model = model, pretrained_of(model)
            with torch.device("cpu"):
                words = words_of(config, model)
        else:
            general = None if general is None else as_words("general", general)
            if isinstance(core_of(model), EquiLM):
                raise ValueError(
                    "the model is an EquiLM already: wrap its .model, with all lists at once, those that "
                    'move independently as axes: {"one": [[...]], "other": [[...]]}'
                )
            words = find_words(model, tokenizer, equality, general)
            config = config_of(model, equality, general, average, words)
        if config.average not in AVERAGES:
            raise ValueError(
                f"average must be one of {', '.join(AVERAGES)}; got {config.average!r}"
            )
        super().__init__(config)
        self.average, self.loss_type = config.average, "ForCausalLM"
        self._hold(model, tokenizer, words)
        core = core_of(model)
        self.generation_config = core.generation_config
        self._limit = longest_input(core)
        self._accepts = set(inspect.signature(core.forward).parameters)
        mirror(core, self)
        self.post_init()
        # Of a model inside of a PeftModel too, which knows its names without the PeftModel's.
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    def _constants(self) -> None:
        super()._constants()
        support = self.words.moved.nonzero()[:, 0]  # the ids that move, in increasing order
        images = self.words.perms.index_select(1, support)  # (|G|, moved ids), again moved ids
        self.moved_scores = Permutation(self.group, torch.searchsorted(support, images))
        self.all_scores = Trivial(self.group)
        self.moved_scores.to(self.device)
        self._keep(support=support, general=self.words.general)

    def init_weights(self) -> None:
        pass  # they are the pretrained model's

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.model.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        **kwargs: Any,
    ) -> Any:
        # As the pretrained model's; new tokens stay where they are, and no token that moves is taken away.
        if new_num_tokens is not None:
            multiple = pad_to_multiple_of or 1
            size = -(-new_num_tokens // multiple) * multiple
            if size <= (last := int(torch.cat([self.support, self.general]).max())):
                raise ValueError(
                    f"the words of the lists need the tokens up to {last}, so at least {last + 1} of them must "
                    f"be left; got {size}"
                )
        embeddings = self.model.resize_token_embeddings(
            new_num_tokens, pad_to_multiple_of, **kwargs
        )
        words = Equality.from_record(self.config.words, embeddings.weight.shape[0])
        self._hold(self.model, self.tokenizer, words)
        return embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The averaged scores of the next token at each position.

        Parameters
        ----------
        input_ids, position_ids : (B, T)
        attention_mask : (B, T) or, with a cache, (B, tokens so far), 0 on padding; or in whatever form
            the pretrained model takes it, as (B, heads or 1, T, tokens so far)
        past_key_values : a cache that this model returned, or an empty one
        labels : (B, T), optional
            The tokens to predict, usually ``input_ids``; they are shifted here. -100 is ignored.
        logits_to_keep : int or (N,) tensor
            Return the scores of this number of last positions only, or of these positions; 0: of all.
        kwargs
            What else the pretrained model takes. Tensors of B rows are repeated for the views.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits`` (B, T, V), ``loss`` if labels are given, and the cache.

        Raises
        ------
        ValueError
            There are no ids, or such as the vocabulary has not, the text is longer than the model can read, the cache is one that the
            pretrained model filled, or attentions or hidden states are asked for.
        """
        unanswered(None, kwargs)
        kwargs = {k: v for k, v in kwargs.items() if k not in REFUSED}
        input_ids = checked_ids(input_ids, self.perms.shape[1])
        past = kwargs.pop("cache", None) if past_key_values is None else past_key_values
        cache, length = self._cache(past, use_cache), input_ids.shape[1]
        before = 0 if cache is None or cache.rows is None else cache.rows.ids.shape[1]
        check_length(before + length, self._limit)
        kwargs.pop("cache_position", None)  # of all of input_ids: the model counts from its cache
        about_loss = {
            k: kwargs.pop(k) for k in ("num_items_in_batch", "shift_labels") if k in kwargs
        }
        kwargs |= {"attention_mask": attention_mask, "position_ids": position_ids}
        parts, places = [], []
        for start, end in self._spans(input_ids, cache):
            keep, place = kept(logits_to_keep, start, end, length)
            part = self._scores(input_ids, start, end, cache, keep, kwargs)
            if len(place):
                parts.append(part)
                places.append(place)
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, 1)  # (B, T, V)
        if len(parts) > 1 and not isinstance(logits_to_keep, int):
            logits = logits[:, torch.cat(places).argsort()]
        loss = None
        if labels is not None or about_loss.get("shift_labels") is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1], **about_loss
            )
        returned = cache if use_cache or (use_cache is None and cache is not None) else None
        out = CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: returned})
        return out.to_tuple() if return_dict is False else out

    def _cache(self, past: Any, use_cache: bool | None) -> Views | None:
        if past is not None:
            return keep_views(past)
        return (
            ViewsCache(config=self.config) if use_cache is not False and not self.training else None
        )

    def _spans(self, ids: Tensor, cache: Views | None) -> list[tuple[int, int]]:
        """The part that all views share at the start, if any, and the rest: (start, end) of each."""
        length = ids.shape[1]
        if cache is None or cache.fixed or length == 1:
            return [(0, length)]
        if cache.rows is not None and not cache.rows.one_each:
            return [(0, length)]
        columns = self.moves[ids].any(0).nonzero()[:, 0].tolist()
        common = columns[0] if columns else 0
        return [(0, common), (common, length)] if common else [(0, length)]

    def _scores(
        self,
        ids: Tensor,
        start: int,
        end: int,
        cache: Views | None,
        keep: int | Tensor,
        others: dict[str, Any],
    ) -> Tensor:
        """The averaged scores (B, kept, V) of the span from start to end."""
        before = None if cache is None else cache.rows
        fixed = cache is not None and cache.fixed
        span = ids[:, start:end]
        rows, tokens, parents = split(span, before, self.perms, self.moves, self.table, fixed)
        inputs = {k: rows_of(k, v, rows.sample, ids, start, end) for k, v in others.items()}
        if cache is not None:
            if parents is not None:
                cache.take(parents)
            cache.rows = rows
            inputs[CACHE] = cache
        if "position_ids" not in self._accepts:
            inputs.pop("position_ids")
        whole = isinstance(keep, int) and not keep
        if not whole and "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = keep
        out = self.model(input_ids=tokens, use_cache=cache is not None, return_dict=True, **inputs)
        logits = out.logits
        if isinstance(keep, int):
            logits = logits[:, -keep:]
        elif "logits_to_keep" not in self._accepts:
            logits = logits[:, keep]
        return self._average(logits, rows)

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

    # -- saving and loading ------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        equality: Axes | None = None,
        general: Iterable[str] | None = None,
        average: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """A pretrained model and its tokenizer, by name on the hub or from a folder.

        Parameters
        ----------
        equality, general, average
            As for the class. If ``name`` was made by :meth:`save_pretrained`, their defaults are what
            was saved there.
        kwargs
            For ``AutoModelForCausalLM.from_pretrained``; ``revision``, ``trust_remote_code`` and others
            that say where the files are and what may be done with them go to the tokenizer, too.

        Raises
        ------
        ValueError
            No word lists are given or saved, or the saved ones do not fit together any more.
        """
        given = {"equality": equality, "general": general, "average": average}
        given = {key: value for key, value in given.items() if value is not None}
        if is_ours(name, kwargs):
            loaded = super().from_pretrained(name, **kwargs)
            lm, *info = loaded if isinstance(loaded, tuple) else (loaded,)
            lm._finish_loading(load_tokenizer(name, kwargs))
            if given:
                saved = {key: getattr(lm.config, key) for key in ("equality", "general", "average")}
                lm = cls(lm.model, lm.tokenizer, **saved | given)
        else:
            model, tokenizer, saved = load(name, kwargs)
            model, *info = model if isinstance(model, tuple) else (model,)
            if "equality" not in saved | given:
                raise ValueError(
                    f"{name} has no lists of words on record: give them, for example "
                    'equality=[["man", "woman"], ["he", "she"]]'
                )
            lm = cls(model, tokenizer, **saved | given)
        return (lm, *info) if info else lm

    def _finish_loading(self, tokenizer: Any) -> None:
        """What weights alone do not bring."""
        self._constants()  # from_pretrained made them anew, empty
        if tokenizer is not None:
            check_tokenizer(self.words, tokenizer)
        self.tokenizer = tokenizer
        core_of(self.model).generation_config = self.generation_config

    def save_pretrained(
        self, save_directory: str | Path, is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """Save model, tokenizer and word lists to a folder, as transformers does and with its options.

        :meth:`from_pretrained` and ``AutoModelForCausalLM.from_pretrained`` load it. For the pretrained
        model alone, save ``self.model``.
        """
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process and self.tokenizer is not None:
            hub = ("push_to_hub", "repo_id", "token", "commit_message", "create_pr", "private")
            self.tokenizer.save_pretrained(
                save_directory, **{key: kwargs[key] for key in hub if key in kwargs}
            )

    def extra_repr(self) -> str:
        return f"{self.group!r}, {len(self.support)} tokens moved, average={self.average!r}"


MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[EquiLMConfig.model_type] = EquiLM.__name__
AutoModelForCausalLM.register(EquiLMConfig, EquiLM, exist_ok=True)
