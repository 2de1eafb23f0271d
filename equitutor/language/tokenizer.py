"""A tokenizer of whole words, for the small models that the library trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["EOS", "PAD", "UNKNOWN", "word_tokenizer"]

EOS, PAD, UNKNOWN = "<eos>", "<pad>", "<unk>"  # ids 0, 1, 2 of every `word_tokenizer`


def word_tokenizer(words: Sequence[str]) -> Any:
    """A tokenizer (PreTrainedTokenizerFast) whose tokens are whole words, separated by blanks.

    Ids 0, 1 and 2 are the end of a sentence, padding, and any word that is not in `words`.

    Raises
    ------
    ValueError
        If there are no words, or they are not distinct, contain blanks, or are special tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = (EOS, PAD, UNKNOWN)
    wrong = [w for w in words if len(w.split()) != 1 or w != w.strip() or w in special]
    if wrong or not words or len(set(words)) != len(words):
        raise ValueError(
            "words must be distinct, without blanks, and none of "
            f"{', '.join(special)}; got {wrong[:5] or 'a list that is empty or repeats a word'}"
        )
    ids = {word: i for i, word in enumerate((*special, *words))}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN
    )
