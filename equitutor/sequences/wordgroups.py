"""Groups that rename words: in the sentences that go in and, at the same time, in those that come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..actions import Permutation, TokenPermutation, cycle_group
from ..groups import FiniteGroup
from .vocabulary import Vocabulary

__all__ = ["WordSymmetry", "word_symmetry"]


@dataclass(frozen=True)
class WordSymmetry:
    """One group acting on the words of two vocabularies.

    Attributes
    ----------
    group : FiniteGroup
    source, target : ``(|G|, words)`` long tensors
        Where each element sends each word that goes in, and that comes out.
    """

    group: FiniteGroup
    source: Tensor
    target: Tensor

    @property
    def read(self) -> TokenPermutation:
        """The action on sentences that go in."""
        return TokenPermutation(self.group, self.source)

    @property
    def write(self) -> TokenPermutation:
        """The action on sentences that come out."""
        return TokenPermutation(self.group, self.target)

    @property
    def score(self) -> Permutation:
        """The action on scores of the words that come out, in the last dimension."""
        return Permutation(self.group, self.target)


def word_symmetry(
    source: Vocabulary, target: Vocabulary, *cycles: tuple[Sequence[str], Sequence[str]]
) -> WordSymmetry:
    """The group that permutes some words cyclically, and their counterparts with them.

    Parameters
    ----------
    source, target : Vocabulary
    cycles : pairs of word lists, of n words each
        ``(("jump", "run"), ("JUMP", "RUN"))`` swaps two words on either side: the group C2. With n
        words the generator sends each to the next: C_n. Several cycles give the direct product.

    Raises
    ------
    ValueError
        If a word is not in its vocabulary, the lists of a cycle are not of equal length, or a word
        is in two places.

    Examples
    --------
    >>> verb = word_symmetry(COMMANDS, ACTIONS, (("jump", "run"), ("JUMP", "RUN")))
    """
    if not cycles:
        raise ValueError(
            'give at least one pair of word lists, e.g. (("jump", "run"), ("JUMP", "RUN"))'
        )
    for pair in cycles:
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(words, list | tuple) for words in pair)
        ):
            raise ValueError(
                f"a swap is two lists of words, those that go in and those that come out; got {pair!r}"
            )
        if len(pair[0]) != len(pair[1]) or len(pair[0]) < 2:
            raise ValueError(
                f"the words of a swap must be paired, each that goes in with one that comes out, and "
                f"be two or more; got {tuple(pair[0])} and {tuple(pair[1])}"
            )
    sides = []
    for side, vocabulary in enumerate((source, target)):
        _distinct([word for pair in cycles for word in pair[side]])
        axes = [[[vocabulary.index(word) for word in pair[side]]] for pair in cycles]
        group, perms = cycle_group(axes, len(vocabulary))
        sides.append(perms)
    return WordSymmetry(group, *sides)


def _distinct(words: list[str]) -> None:
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise ValueError(
            f"the word {twice!r} is in two places of the swaps: each word moves to one other"
        )
