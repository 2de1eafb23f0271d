"""Word lists and their tokens as plain lists, to be saved beside a model and read without a tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .matching import Cycle, WordList
from .spellings import keys_of

__all__ = ["check_record", "read", "write"]

Lists = dict[str, list[WordList]]
Kept = dict[str, dict[str, int]]
LeftOut = dict[str, list[str]]

_ANEW = "Give the lists anew: from_pretrained(..., equality=[[...]])"


def write(group: str, lists: Lists, kept: Kept, left_out: LeftOut) -> dict[str, Any]:
    """The record of an Equality, see :meth:`equitutor.language.equality.Equality.record`."""
    axes = [
        {
            "name": name,
            "lists": [
                {
                    "words": list(words),
                    "cycles": [{"spelled": list(c.spelled), "ids": list(c.ids)} for c in cycles],
                }
                for words, cycles in axis
            ],
        }
        for name, axis in lists.items()
    ]
    general = [
        {"word": word, "spelled": list(tokens), "ids": list(tokens.values())}
        for word, tokens in kept.items()
    ]
    out = {text: list(missing) for text, missing in left_out.items()}
    return {"group": group, "axes": axes, "general": general, "left_out": out}


def read(record: Any, size: float = math.inf) -> tuple[Lists, Kept, LeftOut]:
    """The parts of a record, checked, for a model of ``size`` scores.

    Raises
    ------
    ValueError
        If something is missing, of the wrong type, in two places or not below ``size``: naming it.
    """
    record = _parts(record, "the record", group=str, axes=list, general=list, left_out=dict)
    lists: Lists = {}
    seen: dict[int, str] = {}
    for axis in record["axes"]:
        axis = _parts(axis, "an axis", name=str, lists=list)
        name = axis["name"]
        _need(name not in lists, f"the axis {name!r} is there twice")
        lists[name] = [_word_list(each, seen, size) for each in axis["lists"]]
        lengths = sorted({len(each.words) for each in lists[name]})
        _need(
            len(lengths) == 1,
            f"the lists of the axis {name!r} have {lengths} words: expected one length",
        )
    _need(bool(lists), "there is no axis")
    kept: Kept = {}
    free = dict(seen)  # two general words may share a token, but none that is moved
    for each in record["general"]:
        each = _parts(each, "a general word", word=str, spelled=list, ids=list)
        word = each["word"]
        _tokens(each["spelled"], each["ids"], f"the general word {word!r}", dict(free), size)
        for text in each["spelled"]:
            _need(bool(keys_of(text, word)), f"{text!r} is no spelling of {word!r}")
        kept[word] = dict(zip(each["spelled"], each["ids"], strict=True))
    for text, missing in record["left_out"].items():
        _strings(missing, f"left_out[{text!r}]")
    return lists, kept, record["left_out"]


def check_record(
    record: Any,
    axes: Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]],
    general: Iterable[str] | None = None,
) -> None:
    """Raise ValueError unless a record is that of these lists, naming the first word that differs.

    Parameters
    ----------
    record : see :meth:`equitutor.language.equality.Equality.record`
    axes, general
        As for :func:`equitutor.language.equality.equality`.
    """
    lists, kept, _ = read(record)
    axes = axes if isinstance(axes, Mapping) else {"": axes}
    given = _places({str(name): rows for name, rows in axes.items()}, general or ())
    saved = _places({name: [each.words for each in rows] for name, rows in lists.items()}, kept)
    for here, there in zip([*given, None], [*saved, None], strict=False):
        if here != there:
            word, where = here or there or ("", "")
            raise ValueError(
                f"the lists were changed after saving: the word {word!r} of {where} is not in its place "
                f"in {'the saved tokens' if here else 'the lists given now'}. {_ANEW}"
            )


def _places(
    axes: Mapping[str, Sequence[Sequence[str]]], general: Iterable[str]
) -> list[tuple[str, str]]:
    """Each word, in order, and the list that it is in."""
    places = [
        (word.strip(), f"list {i} of the axis {name!r}" if name else f"list {i}")
        for name, rows in axes.items()
        for i, words in enumerate(rows, 1)
        for word in words
    ]
    return places + [(word, "the general words") for word in dict.fromkeys(map(str.strip, general))]


def _word_list(each: Any, seen: dict[int, str], size: float) -> WordList:
    """One list of words with its cycles, checked; its ids are added to those ``seen``."""
    each = _parts(each, "a list of words", words=list, cycles=list)
    words = tuple(_strings(each["words"], "a list of words"))
    where = f"the list {', '.join(words)}"
    _need(len(words) >= 2 and bool(each["cycles"]), f"{where} needs two words and one cycle")
    cycles = []
    for cycle in each["cycles"]:
        cycle = _parts(cycle, f"a cycle of {where}", spelled=list, ids=list)
        spelled, ids = cycle["spelled"], cycle["ids"]
        _need(len(spelled) == len(words), f"{where} has a cycle of {len(spelled)} spellings")
        _tokens(spelled, ids, where, seen, size)
        alike = set.intersection(*map(keys_of, spelled, words))
        _need(bool(alike), f"{spelled} are not the words of {where} in one spelling")
        cycles.append(Cycle(tuple(spelled), tuple(ids)))
    return WordList(words, cycles)


def _tokens(spelled: list, ids: list, where: str, seen: dict[int, str], size: float) -> None:
    """Check spellings and their ids, and add them to those ``seen``."""
    _strings(spelled, where)
    _need(len(spelled) == len(ids), f"{where} has {len(spelled)} spellings and {len(ids)} ids")
    for text, token in zip(spelled, ids, strict=True):
        whole = isinstance(token, int) and not isinstance(token, bool)
        _need(
            whole and 0 <= token < size,
            f"the id of {text!r} is {token!r}: expected a whole number from 0 to {size - 1}, the ids "
            "that the model scores",
        )
        _need(token not in seen, f"{text!r} and {seen.get(token)!r} have the same id, {token}")
        seen[token] = text


def _parts(value: Any, what: str, **types: type) -> dict[str, Any]:
    """Check that a value is a dict of these keys and types."""
    _need(isinstance(value, dict), f"{what} is {value!r}: expected a dict of {', '.join(types)}")
    for key, kind in types.items():
        _need(
            isinstance(value.get(key), kind),
            f"{key!r} of {what} is {value.get(key)!r}: expected a {kind.__name__}",
        )
    return value


def _strings(values: Any, what: str) -> list[str]:
    ok = isinstance(values, list) and all(isinstance(value, str) for value in values)
    _need(ok, f"{what} is {values!r}: expected a list of strings")
    return values


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"the saved tokens of the words cannot be used: {what}. {_ANEW}")
