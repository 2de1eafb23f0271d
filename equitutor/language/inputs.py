"""The arguments that the functions of this package share: texts, ids and tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["as_list", "check_ids", "tokenizer_of"]


def tokenizer_of(lm: Any, tokenizer: Any) -> Any:
    """The given tokenizer, else the model's own."""
    tokenizer = getattr(lm, "tokenizer", None) if tokenizer is None else tokenizer
    if tokenizer is None:
        raise ValueError("the model has no tokenizer of its own: give one, tokenizer=...")
    return tokenizer


def check_ids(lm: Any, ids: Sequence[int]) -> None:
    """Raise ValueError for ids that the model has no embedding for."""
    size = getattr(lm.config, "vocab_size", None)
    if size is not None and len(ids) and not 0 <= min(ids) <= max(ids) < size:
        raise ValueError(
            f"the text has the token id {max(ids)} but the model's vocabulary has {size}: the "
            "tokenizer and the model do not belong together"
        )


def as_list(texts: Iterable[str]) -> list[str]:
    """Strings as a list; TypeError for a single one, which would be taken for a list of letters."""
    if isinstance(texts, str):
        raise TypeError(f"expected a list of strings, got one string: write [{texts!r}]")
    return list(texts)
