"""How far lists of words reach in texts of one's own: what is moved, what is left, and what more moves.

A list moves tokens, and a text is more than its tokens: HE may be two of them and stay, and the token of
man may be a piece of snowman and move. Counting shows how much of either there is.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .equality import Equality
from .inputs import as_list
from .spellings import CASES, any_of, is_letter

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True)
class Coverage:
    """How often the words of the lists are moved in some texts, and how often not.

    Its text, ``print(found)``, is a table.

    Attributes
    ----------
    moved : dict {str: int}
        For each word of the lists, how many of its occurrences are moved.
    left : dict {str: dict {str: int}}
        For each word with occurrences that are not moved: how many, by reason.
    pieces : dict {str: int}
        Other words that lose a piece: how many tokens are moved in snowman, that is, in all snowmen
        together.
    """

    moved: dict[str, int]
    left: dict[str, dict[str, int]]
    pieces: dict[str, int]

    @property
    def share(self) -> float:
        """The moved part of all occurrences of the lists' words; nan if there are none."""
        moved = sum(self.moved.values())
        every = moved + sum(sum(reasons.values()) for reasons in self.left.values())
        return moved / every if every else math.nan

    def __str__(self) -> str:
        moved, width = sum(self.moved.values()), max(map(len, self.moved), default=0)
        left = {word: sum(self.left.get(word, {}).values()) for word in self.moved}
        every = moved + sum(left.values())
        lines = [
            f"{moved} of {every} occurrences are moved" + (f" ({self.share:.1%})" if every else "")
        ]
        for word, count in self.moved.items():
            lines.append(f"  {word:<{width}} {count} of {count + left[word]}")
            reasons = Counter(self.left.get(word, {})).most_common()
            lines += [f"  {'':<{width}} left {n}: {reason}" for reason, n in reasons[:5]]
            if rest := sum(n for _, n in reasons[5:]):
                lines.append(f"  {'':<{width}} left {rest}: other reasons, see .left")
        if self.pieces:
            most = Counter(self.pieces).most_common(10)
            shown = ", ".join(f"{word!r} {n}" for word, n in most)
            more = f" and {len(self.pieces) - 10} more words" if len(self.pieces) > 10 else ""
            lines.append(
                f"{sum(self.pieces.values())} moved tokens are pieces of other words: {shown}{more}"
            )
        return "\n".join(lines)


def coverage(words: Equality, tokenizer: Any, texts: Iterable[str]) -> Coverage:
    """Count how far lists of words reach in texts.

    An occurrence is a listed word with no letter or digit beside it, in small or capital letters.

    Parameters
    ----------
    words : Equality
        What :func:`equitutor.language.equality.equality` gave, or a model's ``lm.words``.
    tokenizer : fast tokenizer of transformers
        The one that the lists were looked up in.
    texts : list of str

    Raises
    ------
    TypeError
        If ``texts`` is no list of strings, or ``words`` no Equality.
    ValueError
        If the tokenizer does not tell where its tokens stand, or ``words`` has no lists.
    """
    texts = as_list(texts)
    if not isinstance(words, Equality):
        raise TypeError(f"words must be an Equality, as lm.words of an EquiLM; got {words!r}")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} does not tell which letters a token stands for: counting "
            "needs a fast tokenizer, as AutoTokenizer.from_pretrained(...) gives where there is one"
        )
    count = _Count(words, tokenizer)
    for text in texts:
        count.add(text)
    left = {word: dict(reasons) for word, reasons in count.left.items() if reasons}
    return Coverage(dict(count.moved), left, dict(count.pieces))


class _Count:
    """The counts so far, see Coverage."""

    def __init__(self, words: Equality, tokenizer: Any):
        lists = [each for axis in words.lists.values() for each in axis]
        if not lists:
            raise ValueError("this Equality knows no lists of words: make it by equality(...)")
        listed = [word for each in lists for word in each.words]
        self.tokenizer = tokenizer
        self.unknown = getattr(tokenizer, "unk_token_id", None)
        self.word_of = {
            token: each.words[place]
            for each in lists
            for cycle in each.cycles
            for place, token in enumerate(cycle.ids)
        }
        self.cased: dict[str, str] = {}  # the word of each way to write its letters
        for change in (*CASES, str.casefold):
            for word in listed:
                self.cased.setdefault(change(word), word)
        self.usual = {change(word) for change in CASES for word in listed}
        self.pattern = re.compile(any_of(self.cased), re.IGNORECASE)
        self.moved = Counter(dict.fromkeys(listed, 0))
        self.left: dict[str, Counter[str]] = {word: Counter() for word in listed}
        self.pieces: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count one text."""
        read = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids, spans = read["input_ids"], read["offset_mapping"]
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        whole = set()  # places of tokens that are a listed word as it stands
        for match in self.pattern.finditer(text):
            start, end = match.span()
            if _beside(text, start - 1) or _beside(text, end):
                continue
            places = range(bisect_right(ends, start), bisect_left(starts, end))
            around = (i for i in places if starts[i] <= start and end <= ends[i])
            place = next((i for i in around if ids[i] in self.word_of), None)
            if place is not None:
                self.moved[self.word_of[ids[place]]] += 1
                whole.add(place)
            elif (word := self._word(match[0])) is not None:
                tokens = [text[slice(*spans[i])] for i in places]
                known = all(ids[i] != self.unknown for i in places)
                self.left[word][self._reason(match[0], tokens, known)] += 1
        for place, token in enumerate(ids):
            if token in self.word_of and place not in whole:
                self.pieces[_around(text, *spans[place])] += 1

    def _word(self, letters: str) -> str | None:
        return self.cased.get(letters) or self.cased.get(letters.casefold())

    def _reason(self, letters: str, tokens: list[str], known: bool) -> str:
        """Why an occurrence is not moved."""
        if letters not in self.usual:
            return "other capital letters"
        if not known:
            return f"{letters!r} is unknown to the tokenizer"
        if len(tokens) != 1:
            return f"{len(tokens)} tokens: {', '.join(map(repr, tokens))}"
        if any(map(is_letter, tokens[0].replace(letters, "", 1))):
            return f"part of the token {tokens[0]!r}"
        return f"the token {tokens[0]!r} has no partner"


def _beside(text: str, place: int) -> bool:
    """Whether there is a letter at this place."""
    return 0 <= place < len(text) and is_letter(text[place])


def _around(text: str, start: int, end: int) -> str:
    """The word that a token's letters are part of."""
    while start < end and not is_letter(text[start]):
        start += 1
    while start < end and not is_letter(text[end - 1]):
        end -= 1
    while _beside(text, start - 1):
        start -= 1
    while _beside(text, end):
        end += 1
    return text[start:end]
