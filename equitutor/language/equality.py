"""Which tokens a list of words stands for, and the group that swaps them in a vocabulary.

Each word of a list is looked up in four spellings; those that are one token for all words of the list
are moved. A list such as man, woman, or Black, White, Asian, is a cycle of d words: its generator puts
each word in place of the one before, and the first in place of the last. Lists of one axis are moved
together (man to woman and, at the same time, he to she); several axes are moved independently, by a
product group (AAAI paper, Sec. 5.3, which has one axis at a time).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ..actions import Permutation, TokenPermutation, cycle_group
from ..groups import FiniteGroup

__all__ = ["Axes", "Equality", "equality", "one_token_spellings"]

#: What a user writes: the lists of one axis, or those of several, by name.
Axes = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]]

# The spellings of a word: after a blank and without one, as it is and capitalised.
_FORMS = (
    lambda w: f" {w}",
    lambda w: w,
    lambda w: f" {w[0].upper()}{w[1:]}",
    lambda w: f"{w[0].upper()}{w[1:]}",
)


@dataclass(frozen=True)
class Equality:
    """A group of word swaps acting on the ids of a tokenizer.

    Attributes
    ----------
    group : FiniteGroup
        C_d for one axis of lists of d words, a direct product for several.
    perms : ``(|G|, V)`` long tensor
        Where each element sends each id. Ids that are in no list stay where they are.
    cycles : list of tuples of str
        The spellings that are moved, each to the next of its tuple.
    left_out : dict {str: list of str}
        Spellings that are not moved because they are not one token for every word of their list: the
        spelling of the list's first word, and the words' spellings that are not one token. Also the
        spellings of general words that are not one token, and so keep no scores.
    general : tensor of ids, long
        The general words of R-EquiLM, which keep the pretrained scores. Empty for EquiLM.
    """

    group: FiniteGroup
    perms: Tensor
    cycles: list[tuple[str, ...]]
    left_out: dict[str, list[str]]
    general: Tensor

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


def equality(
    tokenizer: Any, axes: Axes, general: Iterable[str] | None = None, size: int | None = None
) -> Equality:
    """The group of word lists, acting on a tokenizer's ids.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    axes : lists of words, or dict {axis name: lists of words}
        All lists of an axis have the same length d >= 2. Words are expanded to their spellings as
        one token (after a blank, capitalised), paired like with like.
    general : words, optional
        The set G of R-EquiLM: words that keep the pretrained model's scores.
    size : int, optional
        The number of the model's scores. Default: the number of the tokenizer's tokens. A model may
        have more, as padding; these stay where they are.

    Raises
    ------
    TypeError
        If words are given in place of lists of words, or one string as ``general``.
    ValueError
        If a list is empty, lists of an axis differ in length, a word is in two lists, in a list and
        in ``general``, or has no spelling as one token that its whole list shares, or if the
        tokenizer has more tokens than the model has scores.

    Warns
    -----
    UserWarning
        If a spelling is one token for some words of a list but not for others: it is not moved.
    """
    axes = axes if isinstance(axes, Mapping) else {"": axes}
    size = len(tokenizer) if size is None else size
    if len(tokenizer) > size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens but the model scores only {size}: they do not "
            "belong together, or the model's embeddings were not resized"
        )
    if not axes:
        raise ValueError('there is no list of words; give for example [["man", "woman"]]')
    for name, lists in axes.items():
        _check_lists(name, lists)
    if isinstance(general, str):
        raise TypeError(f"general must be a list of words, got {general!r}")
    general = [word.strip() for word in general or ()]
    every = [word.strip() for lists in axes.values() for words in lists for word in words]
    _check_distinct(every, general)
    left_out: dict[str, list[str]] = {}
    cycles: list[list[tuple[tuple[str, ...], list[int]]]] = []  # of each axis: spellings, their ids
    for lists in axes.values():
        cycles.append([])
        for words in lists:
            cycles[-1] += _spellings(tokenizer, words, left_out)
    moved = list(chain(*cycles))
    kept = _general(tokenizer, general, _by_id(moved), left_out)
    group, perms = cycle_group([[ids for _, ids in axis] for axis in cycles], size)
    return Equality(group, perms, [spelled for spelled, _ in moved], left_out, kept)


def one_token_spellings(tokenizer: Any, word: str) -> dict[str, int]:
    """The spellings of a word that are one token, with their ids.

    The word is tried after a blank and without one, as it is and capitalised. Spellings that are the
    same token to the tokenizer are listed once.
    """
    found: dict[str, int] = {}
    for form in _FORMS:
        token = _token(tokenizer, form(word))
        if token is not None and token not in found.values():
            found[form(word)] = token
    return found


def _token(tokenizer: Any, text: str) -> int | None:
    """The id of a text that is one known token, else None."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    known = len(ids) == 1 and ids[0] != tokenizer.unk_token_id
    # GPT-2's unknown token is its end-of-text: nothing is ever unknown there.
    return ids[0] if known else None


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


def _spellings(
    tokenizer: Any, words: Sequence[str], left_out: dict[str, list[str]]
) -> list[tuple[tuple[str, ...], list[int]]]:
    """Each spelling of a list that is one token for all its words, with the ids.

    The others are added to ``left_out``.
    """
    words = [word.strip() for word in words]
    whole: list[tuple[tuple[str, ...], list[int]]] = []
    partial = []
    for form in _FORMS:
        spelled = tuple(form(word) for word in words)
        tokens = [_token(tokenizer, text) for text in spelled]
        ids = [token for token in tokens if token is not None]
        if len(ids) == len(words):
            if ids not in [other for _, other in whole]:
                whole.append((spelled, ids))
            continue
        missing = [text for text, token in zip(spelled, tokens, strict=True) if token is None]
        left_out.setdefault(spelled[0], missing)
        if ids:
            partial.append((spelled, missing))
    if not whole:
        worst = [w for w in words if not one_token_spellings(tokenizer, w)] or words
        pieces = [tokenizer.tokenize(f" {w}") for w in worst]
        raise ValueError(
            f"the words {', '.join(map(repr, worst))} have no spelling as one token of this tokenizer "
            f"that the whole list {words} shares; they are {pieces}. Use other words, or add these to "
            "the tokenizer and train their embeddings."
        )
    for spelled, missing in partial:
        warnings.warn(
            f"{', '.join(map(repr, missing))} is more than one token, so the spellings "
            f"{', '.join(map(repr, spelled))} are not moved; see .words.left_out",
            stacklevel=3,
        )
    return whole


def _by_id(cycles: list[tuple[tuple[str, ...], list[int]]]) -> dict[int, str]:
    """{id: its spelling} of all that is moved; no id may be in two places."""
    seen: dict[int, str] = {}
    for spelled, ids in cycles:
        for text, token in zip(spelled, ids, strict=True):
            if token in seen:
                raise ValueError(
                    f"{text!r} and {seen[token]!r} are the same token, which would have to move to "
                    "two places: leave one of the words out of the lists"
                )
            seen[token] = text
    return seen


def _general(
    tokenizer: Any,
    general: Iterable[str],
    moved: Mapping[int, str],
    left_out: dict[str, list[str]],
) -> Tensor:
    """The ids of the general words, sorted; their other spellings are added to ``left_out``."""
    kept: set[int] = set()
    for word in general:
        found = one_token_spellings(tokenizer, word)
        if not found:
            raise ValueError(
                f"the general word {word!r} has no spelling as one token of this tokenizer, it is "
                f"{tokenizer.tokenize(' ' + word)}: use another word"
            )
        spelled = [form(word) for form in _FORMS]
        left_out |= {text: [text] for text in spelled if _token(tokenizer, text) is None}
        for text, token in found.items():
            if token in moved:
                raise ValueError(
                    f"the general word {text!r} is the same token as {moved[token]!r}, which is "
                    "moved: it can be moved or keep its scores, not both"
                )
            kept.add(token)
    return torch.tensor(sorted(kept), dtype=torch.long, device="cpu")
