"""What EquiLM and EquizeroLM share: a checked causal language model and a group on its vocabulary."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import CONFIG_NAME, cached_file

from ..modes import evaluating
from .coverage import Coverage, coverage
from .equality import Axes, Equality, equality
from .inputs import device_of
from .views import ViewsCache

__all__ = ["CACHE", "WordGroup", "check_causal", "core_of", "is_ours", "load", "load_tokenizer"]

#: What transformers calls the cache: since 5.24 "cache", before "past_key_values".
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

#: Where version 0.1.0 kept the word lists, beside a model saved as its own class saves it.
_OLD_LISTS = "equitutor_lm.json"

# Options of from_pretrained that say where the files are and what may be done with them.
_LOCATION = (
    *("revision", "cache_dir", "token", "local_files_only", "force_download", "proxies"),
    *("subfolder", "gguf_file", "trust_remote_code"),
)


class WordGroup:
    """A module with a pretrained causal language model, its tokenizer, and the group of word lists.

    Attributes
    ----------
    model, tokenizer : as given
    words : Equality
    group : FiniteGroup
    perms, moves, table : buffers
        Where each element sends each id, ``(|G|, V)``; whether some element moves an id, ``(V,)``; the
        group's multiplication table.
    device : where the inputs go
    """

    model: Any
    tokenizer: Any
    words: Equality
    perms: Tensor
    moves: Tensor
    table: Tensor

    def _hold(self, model: Any, tokenizer: Any, words: Equality) -> None:
        self.model, self.tokenizer, self.words = model, tokenizer, words
        self.group = words.group
        self._constants()

    def _constants(self) -> None:
        """What follows from the words, on the model's device: buffers that are not saved."""
        self._keep(perms=self.words.perms, moves=self.words.moved, table=self.group.table)

    def _keep(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            tensor = tensor.to(self.device)
            self.register_buffer(name, tensor, persistent=False)  # type: ignore[attr-defined]

    @property
    def device(self) -> torch.device:
        return device_of(self.model)

    def coverage(self, texts: Iterable[str]) -> Coverage:
        """How far the lists reach in your own texts: see :func:`equitutor.language.coverage.coverage`."""
        return coverage(self.words, self.tokenizer, texts)


def find_words(
    model: Any, tokenizer: Any, lists: Axes | None, general: Iterable[str] | None = None
) -> Equality:
    """The group of word lists on the scores of a causal language model.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_causal` and :func:`equitutor.language.equality.equality`.
    """
    if lists is None:
        raise TypeError('there are no lists of words: give for example equality=[["man", "woman"]]')
    return equality(tokenizer, lists, general, size=check_causal(model))


def core_of(model: Any) -> Any:
    """The transformers model itself: what is inside of a PeftModel, else the model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def check_causal(model: Any) -> int:
    """The number of scores of a language model whose scores depend on the preceding tokens alone.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    core = core_of(model)
    if not isinstance(core, PreTrainedModel):
        raise TypeError(
            f"the model must be a causal language model of transformers, got {type(model).__name__}; "
            "load one with AutoModelForCausalLM.from_pretrained"
        )
    if core.config.is_encoder_decoder or core.get_output_embeddings() is None:
        raise ValueError(
            f"{type(core).__name__} is not a causal language model: it must score the next token at "
            "each position; load one with AutoModelForCausalLM.from_pretrained"
        )
    if any(each.is_prompt_learning for each in getattr(model, "peft_config", {}).values()):
        raise ValueError(
            f"{type(model).__name__} puts virtual tokens before whatever it reads, so that a text cannot be "
            "read in parts: use an adapter that changes the layers instead, as LoRA or IA3"
        )
    with evaluating(model), torch.no_grad():
        # Padding has no position of its own to some models, and so none in a second part.
        padding = getattr(core.config.get_text_config(), "pad_token_id", None)
        probe = torch.tensor([i for i in range(7) if i != padding][:6], device=device_of(model))
        probe = torch.stack([probe, torch.cat([probe[:-1], probe[:1]])])
        scores = model(input_ids=probe).logits
    if bool(scores.isnan().any()):
        raise ValueError(
            f"{type(core).__name__} gives NaN for its scores: its weights are damaged, or it overflows in "
            f"{scores.dtype} and needs another dtype"
        )
    # Does a later token change the scores of an earlier position?
    tolerance = max(1e-5, 4 * torch.finfo(scores.dtype).eps)
    if not _alike(scores[0, 0], scores[1, 0], tolerance):
        raise ValueError(
            f"{type(core).__name__} is not causal: its scores at a position change with later tokens "
            "(for a model of the BERT family, set is_decoder=True in its config)"
        )
    if not _takes_views(model, core, probe, scores):
        raise ValueError(
            f"{type(core).__name__} keeps a state of its own instead of keys and values, or in a way of "
            "its own, which views cannot share: use another transformer"
        )
    # Embeddings may be padded: a model scores more ids than its tokenizer has.
    return scores.shape[-1]


def _takes_views(model: Any, core: Any, ids: Tensor, scores: Tensor) -> bool:
    """Whether a model reads a text in two parts, with a cache of views, as it reads the whole."""
    if core._is_stateful or CACHE not in inspect.signature(core.forward).parameters:
        return False
    try:
        with evaluating(model), torch.no_grad():
            cache = ViewsCache(config=core.config)
            pieces = ids.split(4, 1)
            parts = [
                model(input_ids=piece, use_cache=True, **{CACHE: cache}).logits for piece in pieces
            ]
    except (RuntimeError, TypeError, ValueError):
        return False
    if any(part.shape[:2] != piece.shape for part, piece in zip(parts, pieces, strict=True)):
        return False
    # Half of the largest: a model of 8 bits rounds a part unlike the whole by an eighth of it.
    return _alike(torch.cat(parts, 1), scores, 0.5)


def _alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether scores differ by no more than a part of the largest; some models have -inf among them."""
    return not bool((one - other).abs().max() > tolerance * other.abs().max())


# -- loading --------------------------------------------------------------------------------------


def load(name: str | Path, options: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """A pretrained model, its tokenizer, and the lists that version 0.1.0 saved beside it, if any.

    Every option of ``from_pretrained`` goes to the model; those that say where the files are, and what
    may be done with them, to the others too.
    """
    # Here: when the Auto classes are loaded, EquiLM is registered, which needs this module.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, **_location(options))
    lists = _old_lists(name, options)
    model = AutoModelForCausalLM.from_pretrained(name, **options)
    if options.get("gguf_file") is not None:
        # Its weights are plain numbers now, but marked as quantised, which could not be saved.
        model.hf_quantizer, model.is_quantized = None, False
        model.config.__dict__.pop("quantization_config", None)
        model.__dict__.pop("quantization_method", None)
    return model, tokenizer, lists


def load_tokenizer(name: str | Path, options: Mapping[str, Any]) -> Any:
    """The tokenizer beside an EquiLM; None, with a warning, if there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **_location(options))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"the tokenizer could not be loaded from {name} ({reason}): set .tokenizer yourself",
            stacklevel=3,
        )
        return None


def is_ours(name: str | Path, options: Mapping[str, Any]) -> bool:
    """Whether a folder, or a model on the hub, has the config of an EquiLM."""
    if options.get("gguf_file") is not None or _file(name, CONFIG_NAME, options) is None:
        return False  # a folder of adapters alone has no config
    return (
        PreTrainedConfig.get_config_dict(name, **_location(options))[0].get("model_type")
        == "equilm"
    )


def _old_lists(name: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    path = _file(name, _OLD_LISTS, options)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _file(name: str | Path, file: str, options: Mapping[str, Any]) -> str | None:
    """Where a file of a folder, or of a model on the hub, is; None if there is none."""
    where = _location(options)
    for other in ("trust_remote_code", "gguf_file"):
        where.pop(other, None)
    return cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
        **where,
    )


def _location(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in _LOCATION if key in options}
