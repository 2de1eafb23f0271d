"""Which tokens of a tokenizer are a word: with a blank or a bracket before it, capitalised, in capitals.

A tokenizer has several tokens for one word, and which of them a text gets depends on what stands
around the word. Encoding the word alone does not show them all: a SentencePiece tokenizer puts a blank
before every text, so the token of a word after a newline is seen in its vocabulary only. The vocabulary
is therefore read, in the tokenizer's own way of writing it, and what encoding finds is added.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from .inputs import as_words, check_encodes

__all__ = [
    "BASIC",
    "CASES",
    "Key",
    "Vocabulary",
    "any_of",
    "is_letter",
    "keys_of",
    "marks",
    "one_token_spellings",
]

#: How the letters of a word may be written: as they are, Capitalised, in CAPITALS.
CASES: tuple[Callable[[str], str], ...] = (
    lambda word: word,
    lambda word: word[:1].upper() + word[1:],
    lambda word: word.upper(),
)

_JOINERS = "\u200c\u200d"  # they join letters to one word


class Key(NamedTuple):
    """How a token spells a word: what stands before it, which of the CASES, and what stands after."""

    before: str
    case: int
    after: str

    def of(self, word: str) -> str:
        """A word in this spelling."""
        return self.before + CASES[self.case](word) + self.after

    @property
    def order(self) -> tuple:
        """The basic spellings come first."""
        return (BASIC.index(self) if self in BASIC else len(BASIC), self.case, self[0], self[2])


#: The six spellings that a text of words and blanks needs.
BASIC = [Key(before, case, "") for case in range(len(CASES)) for before in (" ", "")]


def is_letter(character: str) -> bool:
    """Whether a character belongs to a word: letters and digits, and the marks on them."""
    return (
        character.isalnum()
        or character in _JOINERS
        or unicodedata.category(character).startswith("M")
    )


@cache
def marks() -> str:
    """The characters of :func:`is_letter` that are no letters or digits, for the class of a pattern."""
    places = (*range(0x20000), *range(0xE0000, 0xE0200))  # beyond lie ideographs alone
    return "".join(c for c in map(chr, places) if is_letter(c) and not c.isalnum())


def keys_of(text: str, word: str) -> set[Key]:
    """How a text spells a word: empty if it does not, several if cases of the word look alike."""
    found = set()
    for case, change in enumerate(CASES):
        before, core, after = text.partition(change(word))
        if core and not any(map(is_letter, before + after)):
            found.add(Key(before, case, after))
    return found


class Vocabulary:
    """A tokenizer's tokens, as they look in a text.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
        One that has no ``get_vocab`` is known by encoding alone.
    """

    def __init__(self, tokenizer: Any):
        check_encodes(tokenizer)
        self.tokenizer = tokenizer
        added = dict(getattr(tokenizer, "added_tokens_decoder", {}))
        self.unmoved = set(getattr(tokenizer, "all_special_ids", ()))
        self.unmoved |= {i for i, token in added.items() if token.special} | _unknown(tokenizer)
        every = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
        self.ids: Mapping[Any, int] = every
        self.written = _Writing.of(tokenizer, every)
        self.added = {str(token): i for i, token in added.items()}  # written as they are

    def token(self, text: str) -> int | None:
        """The id of a text that is encoded as one token, and not a special one; else None."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return ids[0] if len(ids) == 1 and ids[0] not in self.unmoved else None

    def spellings(self, words: Iterable[str]) -> dict[str, dict[Key, int]]:
        """The tokens that are one of the words: for each word the ids, by spelling, in order."""
        words = list(words)
        found: dict[str, dict[Key, int]] = {word: {} for word in words}
        cores: dict[str, list[tuple[str, int]]] = {}
        for word in words:
            for case, change in enumerate(CASES):
                cores.setdefault(change(word), []).append((word, case))
        parts = re.compile(rf"([\W_]*?)({any_of(cores)})([\W_]*)")
        for text, token in self._candidates(cores):
            match = parts.fullmatch(text)
            if match is None or token in self.unmoved:
                continue
            before, core, after = match.groups()
            if not any(map(is_letter, before + after)):
                for word, case in cores[core]:
                    found[word].setdefault(Key(before, case, after), token)
        for word in words:
            self._encoded(word, found[word])
        return {
            w: dict(sorted(keys.items(), key=lambda k: k[0].order)) for w, keys in found.items()
        }

    def _candidates(self, cores: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Texts and ids of tokens, among them all that are one of the cores and no letters else."""
        yield from self.added.items()
        write, end = self.written, re.escape(self.written.end)
        ids = self.ids
        if bytes in set(map(type, ids)):
            ids = {text: i for token, i in ids.items() if (text := _decoded(token)) is not None}
        # One search through all tokens in a row: a tenth of the time that a loop takes.
        some = (
            rf"\0([^0-9A-Za-z\0]*?{any_of(map(write.raw, cores))}[^0-9A-Za-z\0]*?(?:{end})?)(?=\0)"
        )
        for raw in re.findall(some, "\0" + "\0".join(ids) + "\0"):
            text = write.text(raw)
            if text is not None and raw in ids and raw not in self.added:
                yield text, ids[raw]

    def _encoded(self, word: str, found: dict[Key, int]) -> None:
        """Add what encoding finds and the vocabulary does not show, as with letters made small."""
        for key in BASIC:
            token = self.token(key.of(word))
            if token is None or key in found:
                continue
            if token not in found.values():
                found[key] = token
            elif found.get(key._replace(before="")) == token:  # one token with a blank and without
                del found[key._replace(before="")]
                found[key] = token


def one_token_spellings(tokenizer: Any, word: str) -> dict[str, int]:
    """The spellings of a word that are one token, with their ids.

    After a blank and without one, as it is, capitalised and in capitals, and with other characters
    around it if the tokenizer has such tokens: "(he". Spellings that are the same token to the
    tokenizer are listed once.

    Raises
    ------
    TypeError, ValueError
        If the tokenizer is none of transformers, or the word is empty.
    """
    (word,) = as_words("word", [word])
    found: dict[str, int] = {}
    for key, token in Vocabulary(tokenizer).spellings([word])[word].items():
        if token not in found.values():
            found[key.of(word)] = token
    return found


class _Writing(NamedTuple):
    """How a vocabulary writes its tokens: bytes as letters, blanks, pieces and the ends of words."""

    bytewise: bool = False
    blank: str = " "
    piece: str = ""
    end: str = ""

    @classmethod
    def of(cls, tokenizer: Any, tokens: Mapping[Any, int]) -> _Writing:
        """What the tokenizer's parts say; of one that has no such parts, what its tokens look like."""
        core = getattr(tokenizer, "backend_tokenizer", None)
        if core is None:
            ends = sum(str(token).endswith("</w>") for token in tokens)
            end = "</w>" if 10 * ends > len(tokens) else ""
            return cls(hasattr(tokenizer, "byte_decoder"), "▁", "##", end)
        parts = " ".join(str(part) for part in (core.decoder, core.pre_tokenizer, core.normalizer))
        blank = re.search(
            r'Metaspace\(replacement="([^"]+)"|Replace\(pattern=String\("([^"]+)"\), content=" "\)'
            r'|Replace\(pattern=String\(" "\), content="([^"]+)"\)',
            parts,
        )
        return cls(
            "ByteLevel(" in parts,
            next(filter(None, blank.groups())) if blank else " ",
            getattr(core.model, "continuing_subword_prefix", None) or "",
            getattr(core.model, "end_of_word_suffix", None) or "",
        )

    def raw(self, text: str) -> str:
        """A text as the vocabulary writes it."""
        if self.bytewise:
            return "".join(_letters_of_bytes()[byte] for byte in text.encode())
        return text.replace(" ", self.blank)

    def text(self, raw: str) -> str | None:
        """A token as it looks in a text; None if it is a piece of a word, or of a character."""
        if (self.piece and raw.startswith(self.piece)) or raw.endswith("@@"):
            return None
        if self.end:
            if not raw.endswith(self.end):
                return None
            raw = raw.removesuffix(self.end)
        if not self.bytewise:
            return raw.replace(self.blank, " ")
        byte_of = {letter: byte for byte, letter in enumerate(_letters_of_bytes())}
        known = all(letter in byte_of for letter in raw)
        return _decoded(bytes(byte_of[letter] for letter in raw)) if known else None


@cache
def _letters_of_bytes() -> list[str]:
    """The letter that stands for each byte: itself where it can be seen, else one from 256 on."""
    seen = [chr(byte).isprintable() and byte not in (32, 160, 173) for byte in range(256)]
    hidden = (chr(256 + i) for i in range(256))
    return [chr(byte) if shown else next(hidden) for byte, shown in enumerate(seen)]


def _decoded(token: str | bytes) -> str | None:
    """The text of a token; None for bytes that are no text."""
    try:
        return token.decode() if isinstance(token, bytes) else token
    except UnicodeDecodeError:
        return None


def any_of(texts: Iterable[str]) -> str:
    """A pattern for any of the texts, the longer ones first: C++ before C.

    Looking ahead for a first letter, then for what follows it: ten times as fast as trying each text.
    """
    rest: dict[str, list[str]] = {}
    for text in sorted(texts, key=len, reverse=True):
        rest.setdefault(re.escape(text[0]), []).append(re.escape(text[1:]))
    each = "|".join(f"{first}(?:{'|'.join(others)})" for first, others in rest.items())
    return f"(?=[{''.join(rest)}])(?:{each})"


def _unknown(tokenizer: Any) -> set[int]:
    """The id of what the tokenizer does not know, if it has one."""
    ids = {getattr(tokenizer, "unk_token_id", None)}
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None and (name := getattr(core.model, "unk_token", None)):
        ids.add(core.token_to_id(name))
    return {i for i in ids if i is not None}
