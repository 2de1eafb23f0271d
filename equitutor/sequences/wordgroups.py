"""Groups that rename words: in the input sentences and, at the same time, in the output sentences."""

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
        Where each element sends each input word, and each output word.
    """

    group: FiniteGroup
    source: Tensor
    target: Tensor

    @property
    def read(self) -> TokenPermutation:
        """The action on input sentences."""
        return TokenPermutation(self.group, self.source)

    @property
    def write(self) -> TokenPermutation:
        """The action on output sentences."""
        return TokenPermutation(self.group, self.target)

    @property
    def score(self) -> Permutation:
        """The action on scores of the output words, in the last dimension."""
        return Permutation(self.group, self.target)


def word_symmetry(
    source: Vocabulary, target: Vocabulary, *cycles: tuple[Sequence[str], Sequence[str]]
) -> WordSymmetry:
    """The group that permutes input words cyclically, and their output counterparts with them.

    Parameters
    ----------
    source, target : Vocabulary
    cycles : pairs of word lists, of n words each
        ``(("jump", "run"), ("JUMP", "RUN"))`` swaps two words on each side: the group C2. With n
        words the generator sends each to the next: C_n. Several cycles give the direct product.

    Raises
    ------
    ValueError
        If a word is not in its vocabulary, the lists of a cycle are not of equal length, or a word
        appears twice.

    Examples
    --------
    >>> verb = word_symmetry(COMMANDS, ACTIONS, (("jump", "run"), ("JUMP", "RUN")))
    """
    if not cycles:
        raise ValueError(
            'give at least one pair of word lists, e.g. (("jump", "run"), ("JUMP", "RUN"))'
        )
    for pair in cycles:
        lists = pair if isinstance(pair, list | tuple) else ()
        if len(lists) != 2 or not all(isinstance(words, list | tuple) for words in lists):
            raise ValueError(
                f"a swap is two lists of words, of the input and the output; got {pair!r}"
            )
        if len(pair[0]) != len(pair[1]) or len(pair[0]) < 2:
            raise ValueError(
                "a swap needs two or more input words, each paired with one output word; got "
                f"{tuple(pair[0])} and {tuple(pair[1])}"
            )
    sides = []
    for side, vocabulary in enumerate((source, target)):
        words = [word for pair in cycles for word in pair[side]]
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(
                f"the word {twice[0]!r} appears twice in the swaps: each word moves to one other"
            )
        axes = [[[vocabulary.index(word) for word in pair[side]]] for pair in cycles]
        group, perms = cycle_group(axes, len(vocabulary))
        sides.append(perms)
    return WordSymmetry(group, *sides)
