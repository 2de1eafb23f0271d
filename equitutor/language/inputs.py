"""What the functions of this wing take: lists of texts, ids, and the tokenizer they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["as_list", "check_ids", "tokenizer_of"]


def tokenizer_of(lm: Any, tokenizer: Any) -> Any:
    """The tokenizer that was given, or else the model's own."""
    found = getattr(lm, "tokenizer", None) if tokenizer is None else tokenizer
    if found is None:
        raise ValueError("the model has no tokenizer of its own: give one, tokenizer=...")
    return found


def check_ids(lm: Any, ids: Sequence[int]) -> None:
    """Refuse ids that the model has no embedding for."""
    size = getattr(lm.config, "vocab_size", None)
    if size is not None and len(ids) and not 0 <= min(ids) <= max(ids) < size:
        raise ValueError(
            f"the text has the token id {max(ids)} but the model's vocabulary has {size}: the "
            "tokenizer and the model do not belong together"
        )


def as_list(texts: Sequence[str]) -> list[str]:
    """Several texts; TypeError for one, which would be taken for a list of letters."""
    if isinstance(texts, str):
        raise TypeError(f"a list of texts is needed: write [{texts!r}]")
    return list(texts)
