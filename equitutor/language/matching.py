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
    """The tokens of words, and which of them can be moved.

    Attributes
    ----------
    left_out : see Equality
    partial : list of str
        The spellings left out that other words of the list have.
    """

    def __init__(self, tokenizer: Any, words: Sequence[str]):
        self.tokenizer, self.vocabulary = tokenizer, Vocabulary(tokenizer)
        self.found = self.vocabulary.spellings(words)
        self.left_out: dict[str, list[str]] = {}
        self.partial: list[str] = []
        self.used: dict[int, str] = {}  # the spelling of each id that is moved or kept

    def match(self, lists: list[WordList]) -> None:
        """Fill in the cycles of the lists.

        A word as it is written goes before another's capitals: with the lists us, them and US, UK the
        token US is the country.
        """
        keyed: dict[int, list[tuple[Key, Cycle]]] = {i: [] for i in range(len(lists))}
        for case in range(len(CASES)):
            for i, (words, _) in enumerate(lists):
                keys = {*BASIC, *(key for word in words for key in self.found[word])}
                for key in sorted(keys, key=lambda key: key.order):
                    if key.case == case and (cycle := self._cycle(key, words)):
                        keyed[i].append((key, cycle))
        for i, (words, cycles) in enumerate(lists):
            if not keyed[i]:
                self._refuse(words)
            cycles += [cycle for _, cycle in sorted(keyed[i], key=lambda each: each[0].order)]

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
        taken = [text for token, text in texts.items() if token in self.used]
        if len(texts) < len(words):
            self._same_token(spelled, tokens)
        if all(self.used.get(token) == text for token, text in texts.items()):
            return None  # the same spelling: a word that has a capital already
        if taken and key.case == 0:
            self._same_token(spelled, tokens)
        if taken:
            self._leave_out(spelled, taken, True)
            return None
        self.used |= texts
        return Cycle(spelled, tuple(tokens))

    def _leave_out(self, spelled: tuple[str, ...], lacking: list[str], partial: bool) -> None:
        if lacking:
            self.left_out.setdefault(spelled[0], lacking)
        if partial:
            self.partial += [text for text in lacking if text not in self.partial]

    def _same_token(self, spelled: tuple[str, ...], tokens: list[int]) -> None:
        known: dict[int, str] = {}
        for text, token in zip(spelled, tokens, strict=True):
            if token in known or token in self.used:
                other = known.get(token, self.used.get(token))
                raise ValueError(
                    f"{text!r} and {other!r} are the same token, which would have to move to two "
                    "places: leave one of the words out of the lists"
                )
            known[token] = text

    def _refuse(self, words: tuple[str, ...]) -> None:
        worst = [word for word in words if not self.found[word]] or words
        pieces = [self.tokenizer.tokenize(f" {word}") for word in worst]
        raise ValueError(
            f"the words {', '.join(map(repr, worst))} have no spelling as one token of this tokenizer "
            f"that the whole list {list(words)} shares; they are {pieces}. Use other words, or add "
            "these to the tokenizer and train their embeddings."
        )

    def keep(self, general: list[str]) -> dict[str, dict[str, int]]:
        """The spellings and ids of the general words; their other spellings are left out."""
        kept: dict[str, dict[str, int]] = {}
        for word in general:
            kept[word] = {}
            if not self.found[word]:
                raise ValueError(
                    f"the general word {word!r} has no spelling as one token of this tokenizer, it is "
                    f"{self.tokenizer.tokenize(' ' + word)}: use another word"
                )
            for key, token in self.found[word].items():
                text = key.of(word)
                if token not in self.used:
                    kept[word][text] = token
                elif not key.case:
                    raise ValueError(
                        f"the general word {text!r} is the same token as {self.used[token]!r}, which "
                        "is moved: it can be moved or keep its scores, not both"
                    )
                elif token not in kept[word].values():
                    self.left_out[text] = [text]
            absent = [key.of(word) for key in BASIC if key not in self.found[word]]
            self.left_out |= {t: [t] for t in absent if self.vocabulary.token(t) is None}
        self.used |= {i: text for spelled in kept.values() for text, i in spelled.items()}
        return kept

    def check_ids(self, size: int) -> None:
        """Raise if the model has no score for a token that is moved or kept."""
        for token, text in self.used.items():
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
