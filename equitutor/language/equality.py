"""Lists of words that are to be treated alike, as a group that acts on a vocabulary.

A list such as man, woman, or Black, White, Asian, is a cycle of d words: its generator puts each word
in place of the one before, and the last in place of the first. Lists of one axis are moved together
(man to woman, and at once he to she); several axes are moved independently of each other, by a
product group (AAAI paper, Sec. 5.3; several axes at once are beyond it).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..actions import Permutation, TokenPermutation, cycle_group
from ..groups import FiniteGroup

__all__ = ["Axes", "Equality", "equality", "one_token_spellings"]

#: What a user writes: the lists of one axis, or those of several, by name.
Axes = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]]


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
        Spellings that are not moved since not all words of their list have them as one token: the
        spelling of a list's first word, and the words that do not. Also the spellings of general words
        that are not one token, which keep no scores.
    general : tensor of ids, long
        The general words of R-EquiLM, which keep the pretrained scores. Empty for EquiLM.
    """

    group: FiniteGroup
    perms: Tensor
    cycles: list[tuple[str, ...]]
    left_out: dict[str, list[str]]
    general: Tensor

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
    """The group of some word lists, acting on a tokenizer's ids.

    Parameters
    ----------
    tokenizer : a tokenizer of transformers
    axes : lists of words, or a dict {name of an axis: lists of words}
        The lists of an axis are all of one length d >= 2. Words are expanded to their spellings as
        one token (with a blank before, capitalised), paired like with like.
    general : words, optional
        The set G of R-EquiLM: words that keep the pretrained model's scores.
    size : int, optional
        The number of the model's scores; default that of the tokenizer's tokens. A model may have
        more, for padding: those stay where they are.

    Raises
    ------
    TypeError
        If words stand where lists of words should.
    ValueError
        If a list is empty, lists of an axis differ in length, a word is in two lists, in a list and
        in ``general``, or has no spelling as one token that its whole list shares, or if the
        tokenizer has more tokens than the model has scores.

    Warns
    -----
    UserWarning
        If a spelling is one token for some words of a list and not for others: it is not moved.
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
    _once([word for lists in axes.values() for words in lists for word in words], general or ())
    found: list[tuple[tuple[str, ...], list[int]]] = []  # spellings and their ids
    cycles: list[list[list[int]]] = []  # of each axis
    left_out: dict[str, list[str]] = {}
    for name, lists in axes.items():
        spelled = [s for words in lists for s in _spellings(tokenizer, name, words, left_out)]
        found += spelled
        cycles.append([ids for _, ids in spelled])
    moved = _moved(found)
    group, perms = cycle_group(cycles, size)
    kept = _general(tokenizer, general, moved, left_out)
    return Equality(group, perms, [spelled for spelled, _ in found], left_out, kept)


def one_token_spellings(tokenizer: Any, word: str) -> dict[str, int]:
    """The spellings of a word that are one token, with their ids.

    Tried are the word after a blank and without one, as it is and capitalised. A tokenizer for which
    some of these are the same token has it once.
    """
    found: dict[str, int] = {}
    for form in _FORMS:
        number = _single(tokenizer, form(word))
        if number is not None and number not in found.values():
            found[form(word)] = number
    return found


_FORMS = (
    lambda w: f" {w}",
    lambda w: w,
    lambda w: f" {w[0].upper()}{w[1:]}",
    lambda w: f"{w[0].upper()}{w[1:]}",
)


def _single(tokenizer: Any, text: str) -> int | None:
    """The id of a text that is one known token."""
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


def _once(words: list[str], general: Iterable[str]) -> None:
    if isinstance(general, str):
        raise TypeError(f"general must be a list of words, got {general!r}")
    seen: set[str] = set()
    for word in words:
        if word.strip() in seen:
            raise ValueError(
                f"the word {word!r} is in two places of the lists; each word moves to one other, so "
                "leave it in one of them (as the one word 'her' cannot be both 'his' and 'him')"
            )
        seen.add(word.strip())
    for word in general:
        if word.strip() in seen:
            raise ValueError(
                f"the word {word!r} is both in a list of equals and among the general words: it can "
                "be moved or keep its scores, not both"
            )


def _spellings(
    tokenizer: Any, axis: str, words: Sequence[str], left_out: dict[str, list[str]]
) -> list[tuple[tuple[str, ...], list[int]]]:
    """For one list, each spelling that is one token for all its words, with the ids."""
    words = [word.strip() for word in words]
    found: list[tuple[tuple[str, ...], list[int]]] = []
    half = []
    for form in _FORMS:
        spelled = tuple(form(word) for word in words)
        each = [_single(tokenizer, text) for text in spelled]
        ids = [number for number in each if number is not None]
        if len(ids) == len(words):
            if ids not in [other for _, other in found]:
                found.append((spelled, ids))
            continue
        missing = [text for text, number in zip(spelled, each, strict=True) if number is None]
        left_out.setdefault(spelled[0], missing)
        if len(missing) < len(words):
            half.append((spelled, missing))
    if not found:
        pieces = {w: tokenizer.tokenize(f" {w}") for w in words}
        worst = [w for w in words if not one_token_spellings(tokenizer, w)] or words
        raise ValueError(
            f"the words {', '.join(map(repr, worst))} have no spelling as one token of this tokenizer "
            f"that the whole list {words} shares; they are {[pieces[w] for w in worst]}. Use other "
            "words, or add these to the tokenizer and train their embeddings."
        )
    for spelled, missing in half:
        warnings.warn(
            f"{', '.join(map(repr, missing))} is more than one token, so the spellings "
            f"{', '.join(map(repr, spelled))} are not moved; see .words.left_out",
            stacklevel=4,
        )
    return found


def _moved(cycles: list[tuple[tuple[str, ...], list[int]]]) -> dict[int, str]:
    """{id: its spelling} of all that is moved; no id may be in two places."""
    seen: dict[int, str] = {}
    for spelled, numbers in cycles:
        for text, number in zip(spelled, numbers, strict=True):
            if number in seen:
                raise ValueError(
                    f"{text!r} and {seen[number]!r} are the same token, which would have to move to "
                    "two places: leave one of the words out of the lists"
                )
            seen[number] = text
    return seen


def _general(
    tokenizer: Any,
    general: Iterable[str] | None,
    moved: Mapping[int, str],
    left_out: dict[str, list[str]],
) -> Tensor:
    kept: list[int] = []
    for word in general or ():
        found = one_token_spellings(tokenizer, word.strip())
        if not found:
            raise ValueError(
                f"the general word {word!r} has no spelling as one token of this tokenizer, it is "
                f"{tokenizer.tokenize(' ' + word.strip())}: use another word"
            )
        spelled = [form(word.strip()) for form in _FORMS]
        left_out |= {text: [text] for text in spelled if _single(tokenizer, text) is None}
        for text, number in found.items():
            if number in moved:
                raise ValueError(
                    f"the general word {text!r} is the same token as {moved[number]!r}, which is "
                    "moved: it can be moved or keep its scores, not both"
                )
            kept.append(number)
    return torch.tensor(sorted(set(kept)), dtype=torch.long, device="cpu")
