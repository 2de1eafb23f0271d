"""Assignment 5: a language model that is fair to lists of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..actions import TokenPermutation
from ..groups import cyclic, dihedral, symmetric
from ..methods import equitune
from .settings import acting, random
from .verdict import verdict

__all__ = [
    "check_fair_scores",
    "check_fairness_gap",
    "check_generate_fair",
    "check_relaxed_scores",
    "check_word_rows",
]


class _Reader(nn.Module):
    """A language model without any symmetry: ids (B, T) to scores of the next word (B, V)."""

    def __init__(self, words: int):
        super().__init__()
        self.embed, self.out = 2 * random(words, 8, seed=1), 2 * random(8, words, seed=2)

    def forward(self, ids: Tensor) -> Tensor:
        fading = 0.6 ** torch.arange(ids.shape[1]).flip(0).double()
        return (self.embed[ids] * fading[:, None]).sum(1).tanh() @ self.out


def _settings() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """Model, ids and rows: the group permutes the first words, three more stay."""
    settings = {}
    for what, group in {
        "two words swapped (C2)": cyclic(2),
        "three words in a circle (C3)": cyclic(3),
        "three words at will (S3)": symmetric(3),
        "four words (D4)": dihedral(4),
    }.items():
        d = group.permutations.shape[1]
        rows = torch.cat([group.permutations, torch.arange(d, d + 3).repeat(len(group), 1)], 1)
        ids = torch.tensor([[0, d, 1, 0], [1, d + 1, d + 2, 1], [d, 0, d, 1]])
        settings[what] = (_Reader(d + 3), ids, rows)
    settings["four words (D4), other texts"] = settings[what][0], ids.flip(1).roll(1, 0), rows
    settings["four words (D4), a single text"] = settings[what][0], ids[1:2], rows
    return settings


# Scores of the next word, all called with (model, ids, perms).


def _own(model: Callable, ids: Tensor, perms: Tensor) -> Tensor:
    return model(ids)


def _fair(model: nn.Module, ids: Tensor, perms: Tensor) -> Tensor:
    return equitune(model, acting(perms, TokenPermutation), acting(perms))(ids)


def _mean(term: Callable[[Callable, Tensor, Tensor], Tensor]) -> Callable:
    """The mean of a term over the rows."""
    return lambda model, ids, perms: sum(term(model, ids, p) for p in perms) / len(perms)


def _some(rows: slice) -> Callable:
    """The sum over some of the rows, divided by |G|."""
    return lambda model, ids, perms: sum(model(p[ids])[:, p] for p in perms[rows]) / len(perms)


_PARTIAL = {
    "you kept the first term alone, divided by |G|: does the `return` or a `break` stand inside the "
    "loop?": _some(slice(1)),
    "you kept the last term alone, divided by |G|: each overwrites the one before. Add them up.": (
        _some(slice(-1, None))
    ),
    "you left out the first row of perms.": _some(slice(1, None)),
    "you left out the last row of perms.": _some(slice(-1)),
}
_FORWARD = _mean(lambda m, ids, p: m(p[ids])[:, p.argsort()])
_STILL = _mean(lambda m, ids, p: m(p[ids]))


def check_word_rows(student: Callable[[Tensor, Sequence, Sequence], Tensor]) -> bool:
    """``student(perms, lists, vocabulary)``: where each element sends each word, ``(|G|, V)``.

    Permutations ``(|G|, d)`` of the places in a list; each list has d words.
    """

    def by(places: Callable[[Tensor], Tensor], rest: Callable = torch.arange) -> Callable:
        """Row g sends the word in place i of a list to the one in place places(perms)[g, i]."""

        def rows(perms: Tensor, lists: Sequence, vocabulary: Sequence) -> Tensor:
            made = rest(len(vocabulary)).repeat(len(perms), 1)
            for words in lists:
                ids = torch.tensor([vocabulary.index(word) for word in words])
                made[:, ids] = ids[places(perms)]
            return made

        return rows

    right = by(lambda p: p)
    words = ["doctor", "man", "she", "he", "a", "woman"]
    colours = ["blue", "the", "red", "is", "green", "rot", "blau", "grün"]
    pairs = [["man", "woman"], ["he", "she"]]
    three = [["red", "green", "blue"], ["rot", "grün", "blau"]]
    cases = {
        "a swap in two lists (C2)": (cyclic(2).permutations, pairs, words),
        "three words in a circle (C3)": (cyclic(3).permutations, three, colours),
        "three words at will (S3)": (symmetric(3).permutations, three, colours),
        "the same with other words": (symmetric(3).permutations, three, colours[::-1]),
    }
    mistakes = {
        "you sent word g i to word i: that is g^-1; a swap does not show it.": by(
            lambda p: p.argsort(1)
        ),
        "you moved the first list alone.": lambda p, lists, v: right(p, lists[:1], v),
        "you moved the last list alone: does each list start from a fresh row?": (
            lambda p, lists, v: right(p, lists[-1:], v)
        ),
        "words that are in no list went to word 0; they should stay where they are.": by(
            lambda p: p, lambda size: torch.zeros(size, dtype=torch.long)
        ),
        "words that are in no list have -1; they should stay where they are, at their own "
        "number.": by(lambda p: p, lambda size: torch.full((size,), -1)),
        "you moved each word to the next of its list, whatever g is.": by(
            lambda p: torch.arange(p.shape[1]).roll(-1).expand_as(p)
        ),
        "you moved nothing.": by(lambda p: torch.arange(p.shape[1]).expand_as(p)),
    }
    return verdict(student, right, cases, mistakes)


def check_fair_scores(student: Callable[[Callable, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, ids, perms)``: EquiLM's scores of the next word, ``(B, V)``.

    ``model(ids)`` gives ``(B, V)`` scores for ids ``(B, T)``; ``perms (|G|, V)`` moves words.
    """
    mistakes = {
        "you moved the scores by g instead of g^-1; for a swap the two are the same.": _FORWARD,
        "you did not move the scores back.": _STILL,
        "you gave the model ids where it should read the renamed perms[g][ids].": _mean(
            lambda m, ids, p: m(ids)[:, p]
        ),
        "you did not divide by |G|.": lambda m, ids, perms: len(perms) * _fair(m, ids, perms),
        "you divided by the number of words, not by |G|.": (
            lambda m, ids, perms: len(perms) / perms.shape[1] * _fair(m, ids, perms)
        ),
        "you averaged probabilities; the average is of the scores, before any softmax.": _mean(
            lambda m, ids, p: m(p[ids]).softmax(-1)[:, p]
        ),
        "you took a softmax of the average; return the averaged scores themselves.": (
            lambda *args: _fair(*args).softmax(-1)
        ),
        "you averaged nothing: these are the model's own scores.": _own,
        "you divided |G| by the sum.": lambda *args: 1 / _fair(*args),
        **_PARTIAL,
    }
    return verdict(student, _fair, _settings(), mistakes)


def check_relaxed_scores(student: Callable[[Callable, Tensor, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, ids, perms, general)``: R-EquiLM's scores, ``(B, V)``.

    The general words, given by their ids, keep the pretrained scores; all others are averaged.
    """

    def mixed(kept: Callable, others: Callable = _fair) -> Callable:
        """kept at the general words, others elsewhere."""

        def scores(m: Callable, ids: Tensor, perms: Tensor, general: Tensor) -> Tensor:
            y = others(m, ids, perms).clone()
            y[:, general] = kept(m, ids, perms)[:, general]
            return y

        return scores

    def constant(value: float) -> Callable:
        return lambda m, ids, perms: torch.full_like(m(ids), value)

    cases = {}
    for what, (model, ids, rows) in _settings().items():
        last = rows.shape[1] - 1
        cases[what] = (model, ids, rows, torch.tensor([last - 2, last]))
    mistakes = {
        "you have it the wrong way round: the general words keep the model's own scores, the "
        "others get the average.": mixed(_fair, _own),
        "you averaged the general words, too.": mixed(_fair),
        "you gave the general words the score 0; they keep the model's own.": mixed(constant(0)),
        "you excluded the general words; they keep the model's own scores.": mixed(
            constant(-torch.inf)
        ),
        "you gave the general words their score in the last view, not in the text itself.": mixed(
            lambda m, ids, perms: m(perms[-1][ids])
        ),
        "you moved the averaged scores by g instead of g^-1.": mixed(_own, _FORWARD),
        "you did not average at all.": mixed(_own, _own),
    }
    return verdict(student, mixed(_own), cases, mistakes, helpers={"fair_scores": _fair})


def check_fairness_gap(student: Callable[[Callable, Tensor, Tensor], float]) -> bool:
    """``student(model, ids, perms)``: the largest |P(g v | g x) - P(v | x)|, over g, x and v."""

    def gap(
        moved: Callable[[Tensor, Tensor], Tensor] = lambda y, p: y[:, p],
        scale: Callable[[Tensor], Tensor] = lambda y: y.softmax(-1),
        over: Callable[[Tensor], Tensor] = lambda d: d.abs().max(),
        elements: slice = slice(None),
    ) -> Callable:
        def largest(m: Callable, ids: Tensor, perms: Tensor) -> float:
            here = scale(m(ids))
            gaps = [moved(scale(m(p[ids])), p) - here for p in perms[elements]]
            return float(over(torch.stack(gaps)))

        return largest

    cases = _settings()
    model, ids, perms = cases["three words at will (S3)"]
    cases["a model that is fair to S3"] = (lambda x: _fair(model, x, perms), ids, perms)
    # The element of the largest violation in the middle: first, second and last are the lazy ones.
    *order, worst = sorted(range(len(perms)), key=lambda k: gap()(model, ids, perms[k : k + 1]))
    order.insert(3, worst)
    cases["S3, its rows in another order"] = (model, ids, perms[order])
    cases["S3, the worst row first"] = (model, ids, perms[order[3:] + order[:3]])
    mistakes = {
        "you compared P(v | g x) with P(v | x); the word moves, too: P(g v | g x).": gap(
            moved=lambda y, p: y
        ),
        "you moved the word by g^-1; what belongs to g x is g v.": gap(
            moved=lambda y, p: y[:, p.argsort()]
        ),
        "you compared scores; the law is about probabilities.": gap(scale=lambda y: y),
        "you compared log-probabilities; the law is about probabilities.": gap(
            scale=lambda y: y.log_softmax(-1)
        ),
        "you took the mean instead of the largest violation.": gap(over=lambda d: d.abs().mean()),
        "you left out the absolute value.": gap(over=torch.max),
        "you tried one element of the group; the law is for all.": gap(elements=slice(1, 2)),
        "you kept the last element's gap; the law is for all: keep the largest.": gap(
            elements=slice(-1, None)
        ),
        "you took the probabilities over the batch (or the wrong axis): softmax(-1), over words.": (
            gap(scale=lambda y: y.softmax(0))
        ),
    }
    return verdict(student, gap(), cases, mistakes)


def check_generate_fair(student: Callable[[Callable, Tensor, Tensor, int], Tensor]) -> bool:
    """``student(model, ids, perms, steps)``: greedy texts of the fair model, ``(B, T + steps)``."""

    def greedy(
        scores: Callable, read: Callable = lambda ids: ids, pick: Callable = torch.argmax
    ) -> Callable:
        """Append the best word by the scores of what is read, step by step."""

        def text(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
            for _ in range(steps):
                ids = torch.cat([ids, pick(scores(m, read(ids), perms), -1, keepdim=True)], 1)
            return ids

        return text

    def unmoved(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
        """Each view is continued with the word as it was drawn."""
        drawn = ids[:, :0]
        for _ in range(steps):
            y = sum(m(torch.cat([p[ids], drawn], 1))[:, p] for p in perms) / len(perms)
            drawn = torch.cat([drawn, y.argmax(-1, keepdim=True)], 1)
        return torch.cat([ids, drawn], 1)

    def repeated(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
        best = _fair(m, ids, perms).argmax(-1)[:, None]
        return torch.cat([ids, best.expand(-1, steps)], 1)

    right = greedy(_fair)
    cases = {what: (*setting, 6) for what, setting in _settings().items()}
    cases["no step at all"] = (*_settings()["three words at will (S3)"], 0)
    mistakes = {
        "you continued every view with the same word; the view g x continues with g times the "
        "word.": unmoved,
        "you decoded the pretrained model, without the average.": greedy(_own),
        "you moved the scores by g instead of g^-1.": greedy(_FORWARD),
        "you did not move the scores back.": greedy(_STILL),
        "you took the next word from the first context every time; the text grows.": repeated,
        "you read the last word alone; the whole text is the context.": greedy(
            _fair, lambda ids: ids[:, -1:]
        ),
        "you took the word of least score.": greedy(_fair, pick=torch.argmin),
        "you returned the new words alone; the text starts with the ids it was given.": (
            lambda m, ids, perms, steps: right(m, ids, perms, steps)[:, ids.shape[1] :]
        ),
        "you wrote one word too few.": lambda m, ids, perms, steps: right(m, ids, perms, steps - 1),
        "you wrote one word, whatever the number of steps: is the `return` inside the loop?": (
            lambda m, ids, perms, steps: right(m, ids, perms, min(steps, 1))
        ),
    }
    return verdict(student, right, cases, mistakes, helpers={"fair_scores": _fair})
