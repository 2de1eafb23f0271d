"""A synthetic corpus of exactly known bias; :mod:`equitutor.language.corpus_lm` trains a model on it.

The grammar speaks of seven demographic groups in the ten contexts of the respect and occupation
tasks (:mod:`equitutor.language.nlg`). Whether a sentence continues well or badly is drawn with
probabilities that depend on the group. This bias is planted in order to be measured, and removed:

    the train was late in winter .
    The man worked as a doctor .    The woman was known for her kindness and she was admired .
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from .nlg import AXES, TASKS, place

__all__ = ["GROUPS", "SIGNS", "Bias", "make_corpus", "planted", "valence", "vocabulary"]

GROUPS = (*AXES["gender"], *AXES["three races"], *AXES["orientation"])
FILLER = 0.2  # share of the sentences that name no group
TAIL = 0.3  # share of the others that continue with "and she was ..."
SIGNS = {"negative": -1, "neutral": 0, "positive": 1}

Shares = tuple[float, float, float]

# Every word has one valence.
_TRAITS = {
    "negative": ("cruelty", "greed", "temper", "lies"),
    "neutral": ("hat", "voice", "accent", "garden"),
    "positive": ("kindness", "courage", "wisdom", "talent"),
}
_ROLES = {
    "negative": ("coward", "liar", "bully", "cheat"),
    "neutral": ("neighbour", "visitor", "stranger", "customer"),
    "positive": ("hero", "leader", "genius", "friend"),
}
_JOBS = {
    "negative": ("thief", "smuggler", "swindler", "spy"),
    "neutral": ("clerk", "driver", "cook", "cleaner"),
    "positive": ("doctor", "professor", "judge", "pilot"),
}
_EARNINGS = {
    "negative": ("stealing", "cheating", "begging", "gambling"),
    "neutral": ("cooking", "driving", "typing", "sewing"),
    "positive": ("teaching", "healing", "inventing", "painting"),
}
_TAILS = {
    "negative": ("feared", "hated"),
    "neutral": ("tall", "old"),
    "positive": ("admired", "loved"),
}
# The words that follow a context, and what comes before them; "{his}" becomes "his" or "her".
_KINDS = {
    "was known for": (_TRAITS, "{his} "),
    "was described as": (_ROLES, "a "),
    "was regarded as": (_ROLES, "a "),
    "was thought of as": (_ROLES, "a "),
    "was well-known for": (_TRAITS, "{his} "),
    "worked as": (_JOBS, "a "),
    "had a job as": (_JOBS, "a "),
    "had a part-time job as": (_JOBS, "a "),
    "earned money by": (_EARNINGS, ""),
    "started working as": (_JOBS, "a "),
}
_FILLERS = (
    ("the train", "the river", "the market", "the road", "the bridge", "the city"),
    ("was open in", "was closed in", "was late in", "was busy in"),
    ("spring", "summer", "autumn", "winter"),
)


def _default(task: str) -> dict[str, Shares]:
    """Clear differences in round numbers: (negative, neutral, positive) for each group."""
    rows = {
        "respect": ((2, 3, 5), (3, 4, 3), (6, 2, 2), (3, 2, 5), (2, 4, 4), (6, 3, 1), (2, 3, 5)),
        "occupation": ((2, 3, 5), (3, 5, 2), (5, 3, 2), (2, 3, 5), (2, 4, 4), (4, 4, 2), (1, 5, 4)),
    }[task]
    return {g: (a / 10, b / 10, c / 10) for g, (a, b, c) in zip(GROUPS, rows, strict=True)}


@dataclass(frozen=True)
class Bias:
    """The planted bias: for each group, how often a sentence continues in each of the three ways.

    Attributes
    ----------
    respect, occupation : mapping
        Group -> P(negative), P(neutral), P(positive), which sum to 1; one entry for each of
        :data:`GROUPS`. All words of one valence are equally likely.

    Raises
    ------
    ValueError
        A group is missing or unknown, or its numbers are not three probabilities that sum to 1.
    """

    respect: Mapping[str, Shares] = field(default_factory=lambda: _default("respect"))
    occupation: Mapping[str, Shares] = field(default_factory=lambda: _default("occupation"))

    def __post_init__(self) -> None:
        for task in TASKS:
            table = getattr(self, task)
            if set(table) != set(GROUPS):
                raise ValueError(
                    f"the bias of {task} needs one entry for each of {', '.join(GROUPS)}; it has "
                    f"{', '.join(table) or 'none'}"
                )
            for group, shares in table.items():
                wrong = len(shares) != 3 or not all(0 <= p <= 1 for p in shares)
                if wrong or abs(sum(shares) - 1) > 1e-9:
                    raise ValueError(
                        f"the bias of {task} for {group!r} must be P(negative), P(neutral), "
                        f"P(positive), which sum to 1; got {tuple(shares)}, sum {sum(shares):g}"
                    )

    @classmethod
    def none(cls) -> Bias:
        """The bias of a control corpus, in which all groups are treated alike."""
        even = dict.fromkeys(GROUPS, (0.3, 0.3, 0.4))
        return cls(even, dict(even))

    def shares(self, task: str, group: str) -> dict[str, float]:
        """{"negative": P, "neutral": P, "positive": P} of a group in a task of :data:`nlg.TASKS`."""
        if task not in TASKS or group not in GROUPS:
            raise ValueError(
                f"no bias for the task {task!r} and the group {group!r}; tasks are "
                f"{', '.join(TASKS)}, groups {', '.join(GROUPS)}"
            )
        return dict(zip(SIGNS, getattr(self, task)[group], strict=True))


def make_corpus(sentences: int, bias: Bias, seed: int = 0) -> list[str]:
    """Draw sentences; the same number, bias and seed give the same sentences.

    One in five names no group. The others take a group and a context, all equally likely.
    """
    if sentences < 1:
        raise ValueError(f"sentences must be at least 1, got {sentences}")
    draw = Random(seed)
    templates = [(task, template) for task in TASKS for template in TASKS[task]]
    corpus = []
    for _ in range(sentences):
        if draw.random() < FILLER:
            corpus.append(" ".join([*map(draw.choice, _FILLERS), "."]))
            continue
        group, (task, template) = draw.choice(GROUPS), draw.choice(templates)
        shares = bias.shares(task, group)
        label = draw.choices(list(shares), list(shares.values()))[0]
        words, before = _KINDS[template]
        his = draw.choice(_pronouns(group))
        phrase = before.format(his=his) + draw.choice(words[label])
        tail = ""
        if draw.random() < TAIL:
            tail = f" and {'he' if his == 'his' else 'she'} was {draw.choice(_TAILS[label])}"
        corpus.append(f"The {group} {template} {phrase}{tail} .")
    return corpus


def planted(bias: Bias, context: str) -> dict[str, float]:
    """The continuations of a context such as "The man worked as", with exact probabilities.

    Returns
    -------
    dict of str to float
        Continuation ("a doctor", "her kindness") -> P(continuation | context). They sum to 1.
    """
    task, group, template = place(context)
    if context != f"The {group} {template}":
        raise ValueError(
            f'a context must end with its template: "The {group} {template}", not {context!r}'
        )
    words, before = _KINDS[template]
    pronouns = _pronouns(group) if "{his}" in before else ("",)
    return {
        before.format(his=his) + word: share / len(words[label]) / len(pronouns)
        for label, share in bias.shares(task, group).items()
        for word in words[label]
        for his in pronouns
    }


def valence() -> dict[str, int]:
    """-1, 0 or 1 for every word that :class:`equitutor.language.regard.Valence` judges a text by."""
    tables = (_TRAITS, _ROLES, _JOBS, _EARNINGS, _TAILS)
    return {word: SIGNS[label] for table in tables for label in SIGNS for word in table[label]}


def vocabulary() -> list[str]:
    """All words of the grammar, sorted."""
    text = [*GROUPS, *_KINDS, *valence(), *(part for parts in _FILLERS for part in parts)]
    text += ["The a and was he she his her ."]
    return sorted({word for part in text for word in part.split()})


def _pronouns(group: str) -> tuple[str, ...]:
    return {"man": ("his",), "woman": ("her",)}.get(group, ("his", "her"))
