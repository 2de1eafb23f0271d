"""Which spellings of a list's words are moved: those that each of its words has a token for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .spellings import BASIC, CASES, Key, Vocabulary

__all__ = ["Cycle", "Search", "WordList", "few"]


class Cycle(NamedTuple):
    """One spelling of all words of a list, and its tokens: each moves to the next."""

    spelled: tuple[str, ...]
    ids: tuple[int, ...]


class WordList(NamedTuple):
    """A list of words and the spellings that are moved."""

    words: tuple[str, ...]
    cycles: list[Cycle]


class Search:
    """The tokens of words, and which of them are moved or keep their scores.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    lists : list of WordList
        Their cycles are filled in.
    general : list of str
        The words that keep their scores.

    Attributes
    ----------
    kept, left_out : see Equality
    partial : list of str
        The spellings left out that other words of the list have.

    Notes
    -----
    A word as it is written goes before another's capitals: with the lists us, them and US, UK the token
    US is the country.
    """

    def __init__(self, tokenizer: Any, lists: Sequence[WordList], general: Sequence[str]):
        listed = [word for each in lists for word in each.words]
        self.tokenizer, self.vocabulary = tokenizer, Vocabulary(tokenizer)
        self.found = self.vocabulary.spellings([*listed, *general])
        self.left_out: dict[str, list[str]] = {}
        self.partial: list[str] = []
        self.moved: dict[int, str] = {}  # ids, and how they are spelled
        self.unmoved: dict[int, str] = {}  # those of general words
        self.kept: dict[str, dict[str, int]] = {word: {} for word in general}
        for word in general:
            self._check_general(word)
        keyed: list[list[tuple[Key, Cycle]]] = [[] for _ in lists]
        for case in range(len(CASES)):
            for (words, _), cycles in zip(lists, keyed, strict=True):
                keys = {*BASIC, *(key for word in words for key in self.found[word])}
                for key in sorted(keys, key=lambda key: key.order):
                    if key.case == case and (cycle := self._cycle(key, words)):
                        cycles.append((key, cycle))
            for word in general:
                self._keep(word, case)
        for (words, filled), cycles in zip(lists, keyed, strict=True):
            if not cycles:
                self._refuse(words)
            filled += [cycle for _, cycle in sorted(cycles, key=lambda each: each[0].order)]

    def _cycle(self, key: Key, words: tuple[str, ...]) -> Cycle | None:
        """The words in this spelling if it can be moved; else it is left out."""
        spelled = tuple(map(key.of, words))
        ids = [self.found[word].get(key) for word in words]
        tokens = [token for token in ids if token is not None]
        if len(tokens) < len(words):
            lacking = [text for text, token in zip(spelled, ids, strict=True) if token is None]
            if not tokens:
                lacking = [text for text in lacking if self.vocabulary.token(text) is None]
            self._leave_out(spelled, lacking, bool(tokens))
            return None
        texts = dict(zip(tokens, spelled, strict=True))
        if len(texts) == len(words) and texts.items() <= self.moved.items():
            return None  # this spelling is moved already: a word that begins with a capital
        taken = [text for i, text in texts.items() if i in self.moved or i in self.unmoved]
        if len(texts) < len(words) or (taken and key.case == 0):
            self._same_token(spelled, tokens)
        if taken:
            self._leave_out(spelled, taken, True)
            return None
        self.moved |= texts
        return Cycle(spelled, tuple(tokens))

    def _leave_out(self, spelled: tuple[str, ...], lacking: list[str], partial: bool) -> None:
        if lacking:
            self.left_out.setdefault(spelled[0], lacking)
        if partial:
            self.partial += [text for text in lacking if text not in self.partial]

    def _same_token(self, spelled: tuple[str, ...], tokens: list[int]) -> None:
        known: dict[int, str] = {}
        for text, token in zip(spelled, tokens, strict=True):
            if token in known or token in self.moved:
                other = known.get(token, self.moved.get(token))
                raise ValueError(
                    f"{text!r} and {other!r} are the same token, which would have to move to two "
                    "places: leave one of the words out of the lists"
                )
            known[token] = text

    def _refuse(self, words: tuple[str, ...]) -> None:
        worst = [word for word in words if not self.found[word]] or words
        pieces = [self.tokenizer.tokenize(f" {word}") for word in worst]
        raise ValueError(
            f"{', '.join(map(repr, worst))}: no spelling as one token of this tokenizer is shared by the "
            f"whole list {list(words)}; the tokens are {pieces}. Use words that are single tokens, or add "
            "these to the tokenizer and train their embeddings."
        )

    def _check_general(self, word: str) -> None:
        """Raise if a general word has no token; its basic spellings that have none are left out."""
        if not self.found[word]:
            raise ValueError(
                f"the general word {word!r} has no spelling as one token of this tokenizer, it is "
                f"{self.tokenizer.tokenize(' ' + word)}: use another word"
            )
        absent = [key.of(word) for key in BASIC if key not in self.found[word]]
        self.left_out |= {t: [t] for t in absent if self.vocabulary.token(t) is None}

    def _keep(self, word: str, case: int) -> None:
        """Keep the scores of a general word's tokens in one case, unless they are moved."""
        for key, token in self.found[word].items():
            text = key.of(word)
            if key.case != case:
                continue
            if token not in self.moved:
                self.kept[word].setdefault(text, token)
                self.unmoved[token] = text
            elif case:
                self.left_out[text] = [text]
            else:
                raise ValueError(
                    f"the general word {text!r} is the same token as {self.moved[token]!r}, which is "
                    "moved: it can be moved or keep its scores, not both"
                )

    def check_ids(self, size: int) -> None:
        """Raise if the model has no score for a token that is moved or kept."""
        for token, text in (self.moved | self.unmoved).items():
            if token >= size:
                raise ValueError(
                    f"{text!r} is token {token}: the tokenizer has {len(self.tokenizer)} tokens but "
                    f"the model scores only {size}. They do not belong together, or the model's "
                    "embeddings were not resized: model.resize_token_embeddings(len(tokenizer))"
                )


def few(texts: Iterable[str], most: int) -> str:
    """The first texts, quoted, and how many more there are."""
    texts = list(dict.fromkeys(texts))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(map(repr, texts[:most])) + more
