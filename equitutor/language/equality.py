"""Which tokens a list of words stands for, and the group that swaps them in a vocabulary.

A word is moved in each spelling that is one token for all words of its list: after a blank, a newline
or a bracket, as it is, capitalised, in capitals (see :mod:`equitutor.language.spellings`). A list such
as man, woman, or Black, White, Asian, is a cycle of d words: its generator puts each word in place of
the one before, and the first in place of the last. Lists of one axis are moved together (man to woman
and, at the same time, he to she); several axes are moved independently, by a product group (AAAI paper,
Sec. 5.3, which has one axis at a time).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..actions import Permutation, TokenPermutation, cycle_group
from ..groups import FiniteGroup
from . import word_record
from .inputs import as_words
from .matching import Search, WordList, few
from .spellings import one_token_spellings

__all__ = ["Axes", "Equality", "equality", "one_token_spellings"]

#: What a user writes: the lists of one axis, or those of several, by name.
Axes = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True, repr=False)
class Equality:
    """A group of word swaps acting on the ids of a tokenizer.

    Its text, ``print(words)``, is a table of the tokens that move.

    Attributes
    ----------
    group : FiniteGroup
        C_d for one axis of lists of d words, a direct product for several.
    perms : ``(|G|, V)`` long tensor
        Where each element sends each id. Ids that are in no list stay where they are.
    cycles : list of tuples of str
        The spellings that are moved, each to the next of its tuple.
    left_out : dict {str: list of str}
        Spellings that are not moved because not every word of their list has a token for them: the
        spelling of the list's first word, and the words' spellings that have none (or one that is moved
        in another spelling). Also the spellings of general words that are not one token, and so keep no
        scores.
    general : tensor of ids, long
        The general words of R-EquiLM, which keep the pretrained scores. Empty for EquiLM.
    lists : dict {axis name: list of (words, cycles)}
        Each list as it was given, with the (spelled, ids) of its words that move.
    kept : dict {str: dict {str: int}}
        The general words, with the spellings that keep their scores and their ids.
    """

    group: FiniteGroup
    perms: Tensor
    cycles: list[tuple[str, ...]]
    left_out: dict[str, list[str]]
    general: Tensor
    lists: dict[str, list[WordList]] = field(default_factory=dict)
    kept: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def moved(self) -> Tensor:
        """Whether some element moves each id, (V,) bool."""
        return (self.perms != self.perms[self.group.identity.index]).any(0)

    @property
    def read(self) -> TokenPermutation:
        """The action on token ids."""
        return TokenPermutation(self.group, self.perms)

    @property
    def score(self) -> Permutation:
        """The action on scores of the next token, in the last dimension."""
        return Permutation(self.group, self.perms)

    def record(self) -> dict[str, Any]:
        """All of it in plain lists, for a JSON file; :meth:`from_record` makes it again."""
        if not self.lists:
            raise ValueError("this Equality knows no lists of words: make it by equality(...)")
        return word_record.write(self.group.name, self.lists, self.kept, self.left_out)

    @classmethod
    def from_record(cls, record: Any, size: int) -> Equality:
        """What :meth:`record` gave, for a model of ``size`` scores. No tokenizer is needed.

        Raises
        ------
        ValueError
            If the record is not whole, or an id does not fit the model: saying which.
        """
        words = _assemble(*word_record.read(record, size), size)
        if words.group.name != record["group"]:
            raise ValueError(
                f"the saved words are said to be of the group {record['group']!r}, but their lists "
                f"are moved by {words.group.name}: give the lists anew, "
                "from_pretrained(..., equality=[[...]])"
            )
        return words

    def __repr__(self) -> str:
        moved = int(self.moved.sum())
        lines = [f"{self.group!r} on {self.perms.shape[1]} tokens, of which {moved} move"]
        for axis, lists in self.lists.items():
            lines += [f"{axis}:"] if axis else []
            for words, cycles in lists:
                lines.append(" -> ".join(words))
                lines += [
                    "    " + " -> ".join(f"{t!r} {i}" for t, i in zip(*cycle, strict=True))
                    for cycle in cycles
                ]
        for word, spelled in self.kept.items():
            shown = ", ".join(f"{text!r} {token}" for text, token in spelled.items())
            lines.append(f"{word} keeps its scores: {shown}")
        if self.left_out:
            texts = (text for missing in self.left_out.values() for text in missing)
            lines.append(f"not one token, or no partner: {few(texts, 20)}")
        return "\n".join(lines)


def _assemble(
    lists: dict[str, list[WordList]],
    kept: dict[str, dict[str, int]],
    left_out: dict[str, list[str]],
    size: int,
) -> Equality:
    """The group of these lists' cycles, on ``size`` ids."""
    cycles = [[cycle for each in axis for cycle in each.cycles] for axis in lists.values()]
    group, perms = cycle_group([[cycle.ids for cycle in axis] for axis in cycles], size)
    general = sorted({token for spelled in kept.values() for token in spelled.values()})
    return Equality(
        group,
        perms,
        [cycle.spelled for axis in cycles for cycle in axis],
        left_out,
        torch.tensor(general, dtype=torch.long, device="cpu"),
        lists,
        kept,
    )


def equality(
    tokenizer: Any, axes: Axes, general: Iterable[str] | None = None, size: int | None = None
) -> Equality:
    """The group of word lists, acting on a tokenizer's ids.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    axes : lists of words, or dict {axis name: lists of words}
        All lists of an axis have the same length d >= 2. A word is moved in all its spellings that are
        one token, paired like with like: after a blank, a newline or a bracket, capitalised, in
        capitals.
    general : words, optional
        The set G of R-EquiLM: words that keep the pretrained model's scores.
    size : int, optional
        The number of the model's scores. Default: the number of the tokenizer's tokens. A model may
        have more, as padding, which stay where they are, or fewer, if it has those of all words.

    Raises
    ------
    TypeError
        If words are given in place of lists of words, a set or a generator in place of a list, one string
        as ``general``, or no tokenizer of transformers.
    ValueError
        If a list is empty, lists of an axis differ in length, a word is in two lists, in a list and
        in ``general``, or has no spelling as one token that its whole list shares, or if the model has
        no score for a word's token.

    Warns
    -----
    UserWarning
        If a spelling is one token for some words of a list but not for others: it is not moved.
    """
    axes = axes if isinstance(axes, Mapping) else {"": axes}
    if not axes:
        raise ValueError('there is no list of words; give for example [["man", "woman"]]')
    for name, lists in axes.items():
        _check_lists(name, lists)
    general = as_words("general", () if general is None else general)
    # Plain strings: a list's words may be NumPy's, which repr() shows as such.
    given = {
        str(name): [WordList(tuple(str(w).strip() for w in words), []) for words in lists]
        for name, lists in axes.items()
    }
    every = [word for lists in given.values() for each in lists for word in each.words]
    _check_distinct(every, general)
    search = Search(tokenizer, [each for lists in given.values() for each in lists], general)
    size = len(tokenizer) if size is None else size
    search.check_ids(size)
    if search.partial:
        warnings.warn(
            f"{few(search.partial, 6)} are not moved, as they are more than one token (or their token "
            "is moved in another spelling); see .words.left_out",
            stacklevel=_users_line(),
        )
    return _assemble(given, search.kept, search.left_out, size)


def _users_line() -> int:
    """How many calls up, for a warning, the first line lies that no library here wrote."""
    frame, level = sys._getframe(1), 1
    libraries = (__name__.split(".")[0], "torch", "transformers")
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in libraries:
        frame, level = frame.f_back, level + 1
    return level


def _check_lists(name: str, lists: Any) -> None:
    """Raise unless an axis has lists of words, all of one length."""
    where = f" of the axis {name!r}" if name else ""
    if isinstance(lists, str) or not isinstance(lists, Sequence):
        raise TypeError(f"the lists{where} must be a list of lists of words, got {lists!r}")
    if not lists:
        raise ValueError(f"there is no list of words{where}; give for example [['man', 'woman']]")
    for words in lists:
        if isinstance(words, str):
            raise TypeError(
                f"{words!r} stands where a list of words should: write [[...]], a list for each set "
                "of words that are to be treated alike"
            )
        if isinstance(words, Set | Mapping) or not isinstance(words, Collection):
            raise TypeError(
                f"a list{where} must be a list of words, whose order says what moves where; got {words!r}"
            )
        if len(words) < 2 or not all(isinstance(w, str) and w.strip() for w in words):
            raise ValueError(
                f"a list{where} needs two or more words, none of them empty; got {list(words)}"
            )
        if len(words) != len(lists[0]):
            raise ValueError(
                f"the lists{where} are moved together, so they must be of equal length; got "
                f"{list(lists[0])} and {list(words)}. Give lists of another length an axis of their "
                "own: {'name': [[...]], 'other': [[...]]}"
            )


def _check_distinct(words: list[str], general: list[str]) -> None:
    """Raise if a word of the lists is in two places, or is a general word too."""
    if twice := [word for word in words if words.count(word) > 1]:
        raise ValueError(
            f"the word {twice[0]!r} is in two places of the lists; each word moves to one other, so "
            "keep it in only one of them (the one word 'her' cannot be both 'his' and 'him')"
        )
    if both := [word for word in general if word in words]:
        raise ValueError(
            f"the word {both[0]!r} is both in a list of equals and among the general words: it can "
            "be moved or keep its scores, not both"
        )
