"""What the functions of this package share: texts as a model reads them, how many, and where they go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..modes import readable

__all__ = [
    "as_list",
    "as_words",
    "check_decoder",
    "check_encodes",
    "check_length",
    "check_range",
    "check_vocabulary",
    "checked_ids",
    "context_length",
    "device_of",
    "ids_of",
    "leading_tokens",
    "longest_input",
    "next_token_scores",
    "position_limit",
    "tokenizer_of",
]

# Models that say max_position_embeddings but have no table that ends there: their positions are
# relative, in a state, or computed when they are needed.
_ENDLESS = frozenset(
    ["inkling2_text", "inkling_text", "jamba", "kimi_linear", "nemotron_h", "rwkv", "xglm", "zamba"]
)


# -- texts ----------------------------------------------------------------------------------------


def as_list(texts: Iterable[str]) -> list[str]:
    """Strings as a list; TypeError for a single one, which would be taken for a list of letters."""
    if isinstance(texts, str):
        raise TypeError(f"expected a list of strings, got one string: write [{texts!r}]")
    texts = list(texts)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"expected a list of strings, got {wrong[0]!r} in it")
    return texts


def as_words(name: str, words: Iterable[str]) -> list[str]:
    """Words as a list, without the blanks around them; TypeError, ValueError if one is none."""
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise TypeError(f"{name} must be a list of words, got {words!r}")
    words = list(words)
    if wrong := [word for word in words if not (isinstance(word, str) and word.strip())]:
        raise ValueError(f"{name}: expected words, none of them empty; got {wrong[0]!r}")
    return [str(word.strip()) for word in words]  # NumPy's strings are shown as such


def tokenizer_of(lm: Any, tokenizer: Any) -> Any:
    """The given tokenizer, else the model's own."""
    tokenizer = getattr(lm, "tokenizer", None) if tokenizer is None else tokenizer
    if tokenizer is None:
        raise ValueError("the model has no tokenizer of its own: give one, tokenizer=...")
    check_encodes(tokenizer)
    return tokenizer


def check_encodes(tokenizer: Any) -> None:
    """Raise TypeError unless it encodes a text as a tokenizer of transformers does."""
    try:
        list(tokenizer.encode("0", add_special_tokens=False))
    except (AttributeError, TypeError) as error:
        kind = f"{type(tokenizer).__module__}.{type(tokenizer).__name__}"
        got = repr(tokenizer) if tokenizer is None or isinstance(tokenizer, str) else kind
        raise TypeError(
            f"the tokenizer must be one of transformers, got {got}: load it with AutoTokenizer."
            "from_pretrained(name), or make PreTrainedTokenizerFast(tokenizer_object=...) of one of the "
            "package tokenizers"
        ) from error


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text, without special tokens; TypeError for a list, whose items would count as tokens."""
    if not isinstance(text, str):
        raise TypeError(f"expected a text, got {text!r}")
    return tokenizer.encode(text, add_special_tokens=False)


def leading_tokens(tokenizer: Any) -> list[int]:
    """The ids that a tokenizer puts before every text, such as that of <bos>; [] if there are none.

    A text that is to be continued goes to the model after these, and without those that a tokenizer
    puts behind a text.
    """
    probe = "0"
    own = tokenizer.encode(probe, add_special_tokens=False)
    whole = tokenizer.encode(probe, add_special_tokens=True)
    for start in range(len(whole) if own else 0):
        if whole[start : start + len(own)] == own:
            return whole[:start]
    if whole == own:
        return []
    raise ValueError(
        f"the tokenizer makes {own} of {probe!r}, but {whole} with its special tokens: which of them "
        "stand before a text cannot be told. Give a tokenizer that adds its special tokens around a "
        "text and leaves the rest as it is"
    )


def check_range(ids: Tensor | Sequence[int], size: int) -> None:
    """Raise ValueError for ids that a vocabulary of this size does not have."""
    if not len(ids):
        return
    least, greatest = torch.stack(torch.as_tensor(ids).aminmax()).tolist()
    if least < 0:
        raise ValueError(
            f"the text has the token id {least}, which is none: they begin at 0. (-100 is for labels that do "
            "not count; to pad input_ids, take tokenizer.pad_token_id)"
        )
    if greatest >= size:
        raise ValueError(
            f"the text has the token id {greatest} but the model's vocabulary has {size}: the "
            "tokenizer and the model do not belong together"
        )


def check_vocabulary(lm: Any, ids: Tensor | Sequence[int]) -> None:
    """Raise ValueError for ids that the model has no embedding for, as far as its config says."""
    size = getattr(_text_config(lm.config), "vocab_size", None)
    if size is not None:
        check_range(ids, size)


def checked_ids(ids: Any, size: int) -> Tensor:
    """Ids for a model; ValueError unless they are (B, T), of a vocabulary of this size."""
    if not isinstance(ids, Tensor):
        got = "none" if ids is None else f"a {type(ids).__name__}"
        raise ValueError(
            f"there are no input_ids, but {got}: give the ids of the tokens, a tensor (B, T), as from "
            "tokenizer(text, return_tensors='pt')"
        )
    if ids.dim() != 2 or ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"input_ids must be whole numbers (B, T), got {ids.dtype} of shape {tuple(ids.shape)}; one text "
            "is ids[None]"
        )
    if ids.numel() and readable(ids):
        check_range(ids, size)
    return ids


# -- lengths --------------------------------------------------------------------------------------


def position_limit(config: Any) -> int | None:
    """The end of a model's table of positions, in tokens; None if it has no such table.

    Rotary positions and ALiBi are computed for texts of any length, also beyond
    ``max_position_embeddings``, which is then no more than the length that the model was made for.
    """
    config = _text_config(config)
    names = ("rope_parameters", "rope_scaling", "rope_theta", "alibi")
    computed = any(getattr(config, name, None) for name in names)
    if getattr(config, "position_embedding_type", None) == "absolute":
        computed = False
    endless = computed or getattr(config, "model_type", None) in _ENDLESS
    return None if endless else _stated_length(config)


def context_length(model: Any) -> int | None:
    """How many tokens a model was made to read; None if its config does not say.

    RoBERTa and its kin lose the first positions of their table: they count from ``padding_idx + 1``.
    """
    stated = _stated_length(_text_config(model.config))
    tables = (m for name, m in model.named_modules() if name.endswith("position_embeddings"))
    padding = [index for m in tables if (index := getattr(m, "padding_idx", None)) is not None]
    return stated and stated - max(padding, default=-1) - 1


def longest_input(model: Any) -> int | None:
    """The most tokens that a model can read at all; None if there is no limit."""
    return None if position_limit(model.config) is None else context_length(model)


def check_length(length: int, limit: int | None) -> None:
    """Raise ValueError for more tokens than a model can read."""
    if limit and length > limit:
        raise ValueError(
            f"the text has {length} tokens, the model's context {limit}: shorten it, or for the "
            "perplexity of a long text use equitutor.language.fairness.perplexity"
        )


def _stated_length(config: Any) -> int | None:
    for name in ("max_position_embeddings", "max_seq_len"):  # the latter is MPT's
        length = getattr(config, name, None)
        if length is not None:
            return length if length > 0 else None  # XLNet says -1
    return None


def _text_config(config: Any) -> Any:
    """The part of a config that is about text, if the model reads pictures or sounds too."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


# -- models ---------------------------------------------------------------------------------------


def device_of(model: Any) -> torch.device:
    """Where a model's inputs are to go, also if its weights are offloaded to the CPU or the disk."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    for module in modules:
        hook = getattr(module, "_hf_hook", None)  # accelerate's
        for each in getattr(hook, "hooks", [hook]):
            if (device := getattr(each, "execution_device", None)) is not None:
                return torch.device(device)
    tensors = chain.from_iterable((*m.parameters(False), *m.buffers(False)) for m in modules)
    found = next((tensor.device for tensor in tensors if not tensor.is_meta), None)
    return found or torch.device(getattr(model, "device", "cpu"))


def check_decoder(lm: Any) -> None:
    """Raise for what continues no text: an encoder-decoder, a masked language model, another module."""
    name = type(lm).__name__
    if not hasattr(lm, "config"):
        raise TypeError(f"expected a causal language model with a config, got {name}")
    if getattr(lm.config, "is_encoder_decoder", False) or name.endswith("ForMaskedLM"):
        raise ValueError(
            f"{name} does not continue the text that it reads, but writes another one or fills its "
            "gaps. Give a causal language model, as AutoModelForCausalLM.from_pretrained loads it"
        )


def next_token_scores(lm: Any, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """The scores of the token after each position: (B, T) ids and mask -> (B, T, V).

    Raises
    ------
    TypeError, ValueError
        The model does not score next tokens, has no such ids or cannot read as many.
    """
    check_decoder(lm)
    if not ids.numel():
        raise ValueError("the text has no tokens, from which the next one could be told")
    check_vocabulary(lm, ids)
    check_length(ids.shape[1], longest_input(lm))
    given = f"expected a causal language model, which scores the next token; {type(lm).__name__}"
    instead = "Give one as AutoModelForCausalLM.from_pretrained loads it, or an EquiLM"
    device = device_of(lm)
    mask = torch.ones_like(ids) if mask is None else mask
    out = lm(input_ids=ids.to(device), attention_mask=mask.to(device))
    logits = getattr(out, "logits", None)
    if logits is None or logits.shape[:-1] != ids.shape:
        shape = "none" if logits is None else f"some of shape {tuple(logits.shape)}"
        raise TypeError(f"{given} gives {shape} for ids of shape {tuple(ids.shape)}. {instead}")
    return logits
