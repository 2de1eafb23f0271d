"""Words and their ids: sentences as padded rows of integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EOS", "SOS", "Vocabulary", "lengths"]

SOS, EOS = 0, 1  # start and end of a sentence, the first two words of every vocabulary


@dataclass(frozen=True)
class Vocabulary:
    """The words of one side. Their ids are their positions; SOS and EOS come first.

    Encoded sentences end with EOS and are padded with more of it, so that they determine their own
    lengths: see :func:`lengths`.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:2] != ("SOS", "EOS") or len(set(self.words)) != len(self.words):
            raise ValueError(f"a vocabulary is SOS, EOS and distinct words; got {self.words}")

    def __len__(self) -> int:
        return len(self.words)

    def index(self, word: str) -> int:
        """The id of a word. SOS and EOS do not count as words."""
        try:
            return self.words.index(word, 2)
        except ValueError:
            raise self._unknown(f"the word {word!r}") from None

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Sentences, with blanks between words -> (N, T) ids, each with EOS at its end.

        Raises
        ------
        TypeError
            If the sentences are not a list or tuple of str.
        ValueError
            If a word is not in the vocabulary, a sentence has no words, or there is no sentence.
        """
        if not isinstance(sentences, list | tuple):
            example = [sentences] if isinstance(sentences, str) else ["jump"]
            raise TypeError(f"encode takes a list of sentences: write {example}, not {sentences!r}")
        ids = {word: i for i, word in enumerate(self.words[2:], 2)}
        rows = []
        for number, sentence in enumerate(sentences):
            if not isinstance(sentence, str):
                raise TypeError(f"sentence {number} must be text, got {sentence!r}")
            words = sentence.split()
            if not words:
                raise ValueError(f"sentence {number} is empty: it needs at least one word")
            try:
                rows.append([ids[word] for word in words])
            except KeyError as error:
                raise self._unknown(f"the word {error.args[0]!r} of {sentence!r}") from None
        if not rows:
            raise ValueError("there is no sentence to encode")
        width = max(map(len, rows)) + 1
        return torch.tensor([row + [EOS] * (width - len(row)) for row in rows])

    def decode(self, ids: Tensor) -> list[str]:
        """(N, T) ids -> sentences, each up to its first EOS."""
        rows = ids.tolist()
        ends = (row.index(EOS) if EOS in row else len(row) for row in rows)
        return [
            " ".join(self.words[i] for i in row[:end]) for row, end in zip(rows, ends, strict=True)
        ]

    def _unknown(self, what: str) -> ValueError:
        return ValueError(f"{what} is not in the vocabulary; it has {', '.join(self.words[2:])}")


def lengths(ids: Tensor) -> Tensor:
    """The length of each encoded sentence including its first EOS, (N, T) -> (N,)."""
    return ((ids == EOS).cumsum(1) == 0).sum(1).add(1).clamp(max=ids.shape[1])
