"""What EquiLM and EquizeroLM share: a checked causal language model and a group on its vocabulary."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import cached_file

from ..modes import evaluating
from .equality import Axes, equality

__all__ = ["CACHE", "WORD_LISTS", "WordGroupLM", "check_causal", "load", "saved_lists"]

#: What transformers calls the cache: since 5.24 "cache", before "past_key_values".
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

#: The file that keeps the word lists beside a saved model.
WORD_LISTS = "equitutor_lm.json"

# Options of from_pretrained that say where the files are: of the model, the tokenizer and the lists.
_LOCATION = ("revision", "cache_dir", "token", "local_files_only")


class WordGroupLM(nn.Module):
    """A pretrained causal language model, its tokenizer, and the group of word lists.

    See :class:`equitutor.language.lm.EquiLM` for the parameters.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        lists: Axes,
        general: Iterable[str] | None = None,
    ):
        super().__init__()
        check_causal(model)
        # A model with padded embeddings scores more ids than its tokenizer has.
        size = model.get_output_embeddings().weight.shape[0]
        self.words = equality(tokenizer, lists, general, size)
        self.group = self.words.group
        self.model, self.tokenizer = model, tokenizer
        self._constants(perms=self.words.perms, moves=self.words.moved, table=self.group.table)

    def _constants(self, **tensors: torch.Tensor) -> None:
        """Register tensors that move with the model and are not saved."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.to(self.model.device), persistent=False)

    @property
    def config(self) -> Any:
        """The pretrained model's."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device


def check_causal(model: Any) -> None:
    """Raise unless this is a language model whose scores depend on the preceding tokens alone."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"the model must be a causal language model of transformers, got {type(model).__name__}; "
            "load one with AutoModelForCausalLM.from_pretrained"
        )
    if model.config.is_encoder_decoder or model.get_output_embeddings() is None:
        raise ValueError(
            f"{type(model).__name__} is not a causal language model: it must score the next token at "
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
    if model._is_stateful or CACHE not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"{type(model).__name__} keeps a state of its own instead of keys and values, which views "
            "cannot share: use a transformer"
        )


def load(name: str | Path, options: Mapping[str, Any]) -> tuple[PreTrainedModel, Any]:
    """A pretrained model and its tokenizer, by name on the hub or from a folder."""
    model = AutoModelForCausalLM.from_pretrained(name, **options)
    return model, AutoTokenizer.from_pretrained(name, **_location(options))


def saved_lists(name: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The word lists that were saved with a model; empty if there are none."""
    path = cached_file(
        name,
        WORD_LISTS,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
        **_location(options),
    )
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _location(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in _LOCATION if key in options}
