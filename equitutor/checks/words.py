"""Assignment 5: a language model that is fair to lists of words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..actions import Permutation, TokenPermutation
from ..groups import FiniteGroup, cyclic, dihedral, symmetric
from ..symmetrize import equitune
from .verdict import random, solved, verdict

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
    made = {}
    for group, what in [
        (cyclic(2), "two words swapped (C2)"),
        (cyclic(3), "three words in a circle (C3)"),
        (symmetric(3), "three words at will (S3)"),
        (dihedral(4), "four words (D4)"),
    ]:
        d = group.permutations.shape[1]
        rows = torch.cat([group.permutations, torch.arange(d, d + 3).repeat(len(group), 1)], 1)
        ids = torch.tensor([[0, d, 1, 0], [1, d + 1, d + 2, 1], [d, 0, d, 1]])
        made[what] = (_Reader(d + 3), ids, rows)
    return made


@functools.cache
def _actions(rows: tuple[tuple[int, ...], ...]) -> tuple[TokenPermutation, Permutation]:
    """How the group of these rows acts on ids and on scores."""
    group = FiniteGroup([[rows.index(tuple(g[i] for i in h)) for h in rows] for g in rows])
    return TokenPermutation(group, rows), Permutation(group, rows)


def _fair(model: nn.Module, ids: Tensor, perms: Tensor) -> Tensor:
    return equitune(model, *_actions(tuple(map(tuple, perms.tolist()))))(ids)


def _mean(term: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable:
    """The mean of a term over the rows."""
    return lambda model, ids, perms: sum(term(model, ids, p) for p in perms) / len(perms)


_FORWARD = _mean(lambda m, ids, p: m(p[ids])[:, p.argsort()])
_STILL = _mean(lambda m, ids, p: m(p[ids]))


def check_word_rows(student: Callable[[Tensor, Sequence, Sequence], Tensor]) -> bool:
    """``student(perms, lists, vocabulary)``: where each element sends each word, ``(|G|, V)``.

    Permutations ``(|G|, d)`` of the places in a list; each list has d words.
    """

    def by(
        move: Callable[[list[int], list[int], Tensor], None],
        rest: Callable[[int], Tensor] = torch.arange,
    ) -> Callable:
        """A row for each element, into which move writes each list's ids."""

        def rows(perms: Tensor, lists: Sequence, vocabulary: Sequence) -> Tensor:
            made = []
            for p in perms:
                row = rest(len(vocabulary))
                for words in lists:
                    move([vocabulary.index(w) for w in words], p.tolist(), row)
                made.append(row)
            return torch.stack(made)

        return rows

    def forth(ids: list[int], p: list[int], row: Tensor) -> None:
        row[ids] = torch.tensor([ids[i] for i in p])

    def back(ids: list[int], p: list[int], row: Tensor) -> None:
        row[[ids[i] for i in p]] = torch.tensor(ids)

    def one_on(ids: list[int], p: list[int], row: Tensor) -> None:
        row[ids] = torch.tensor(ids).roll(-1)

    right = by(forth)
    words = ["doctor", "man", "she", "he", "a", "woman"]
    colours = ["blue", "the", "red", "is", "green", "rot", "blau", "grün"]
    three = [["red", "green", "blue"], ["rot", "grün", "blau"]]
    cases = {
        "a swap in two lists (C2)": (
            cyclic(2).permutations,
            [["man", "woman"], ["he", "she"]],
            words,
        ),
        "three words in a circle (C3)": (cyclic(3).permutations, three, colours),
        "three words at will (S3)": (symmetric(3).permutations, three, colours),
    }
    return verdict(
        student,
        solved(right, cases),
        {
            "you sent word g i to word i: that is g^-1; a swap does not show it.": by(back),
            "you moved the first list alone.": lambda p, lists, v: right(p, lists[:1], v),
            "you moved the last list alone: does each list start from a fresh row?": (
                lambda p, lists, v: right(p, lists[-1:], v)
            ),
            "words that are in no list went to word 0; they should stay where they are.": by(
                forth, lambda size: torch.zeros(size, dtype=torch.long)
            ),
            "words that are in no list have -1; they should stay where they are, at their own number.": (
                by(forth, lambda size: torch.full((size,), -1))
            ),
            "you moved each word to the next of its list, whatever g is.": by(one_on),
            "you moved nothing.": by(lambda ids, p, row: None),
        },
    )


def check_fair_scores(student: Callable[[Callable, Tensor, Tensor], Tensor]) -> bool:
    """``student(model, ids, perms)``: EquiLM's scores of the next word, ``(B, V)``.

    ``model(ids)`` gives ``(B, V)`` scores for ids ``(B, T)``; ``perms (|G|, V)`` moves words.
    """
    return verdict(
        student,
        solved(_fair, _settings()),
        {
            "you moved the scores by g instead of g^-1; for a swap the two are the same.": _FORWARD,
            "you did not move the scores back.": _STILL,
            "you gave the model ids where it should read the renamed perms[g][ids].": _mean(
                lambda m, ids, p: m(ids)[:, p]
            ),
            "you did not divide by |G|.": lambda m, ids, perms: len(perms) * _fair(m, ids, perms),
            "you divided by the number of words, not by |G|.": lambda m, ids, perms: (
                len(perms) / perms.shape[1] * _fair(m, ids, perms)
            ),
            "you averaged probabilities; the average is of the scores, before any softmax.": _mean(
                lambda m, ids, p: m(p[ids]).softmax(-1)[:, p]
            ),
            "you took a softmax of the average; wanted are the averaged scores themselves.": (
                lambda m, ids, perms: _fair(m, ids, perms).softmax(-1)
            ),
            "you averaged nothing: these are the model's own scores.": lambda m, ids, perms: m(ids),
        },
    )


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

    def own(m: Callable, ids: Tensor, perms: Tensor) -> Tensor:
        return m(ids)

    def constant(value: float) -> Callable:
        return lambda m, ids, perms: torch.full_like(m(ids), value)

    cases = {}
    for what, (model, ids, rows) in _settings().items():
        last = rows.shape[1] - 1
        cases[what] = (model, ids, rows, torch.tensor([last - 2, last]))
    return verdict(
        student,
        solved(mixed(own), cases),
        {
            "you have it the wrong way round: the general words keep the model's own scores, the "
            "others get the average.": mixed(_fair, own),
            "you averaged the general words, too.": mixed(_fair),
            "you gave the general words the score 0; they keep the model's own.": mixed(
                constant(0)
            ),
            "you excluded the general words; they keep the model's own scores.": mixed(
                constant(-torch.inf)
            ),
            "you gave the general words their score in the last view, not that of the text as it "
            "is.": mixed(lambda m, ids, perms: m(perms[-1][ids])),
            "you moved the averaged scores by g instead of g^-1.": mixed(own, _FORWARD),
            "you did not average at all.": mixed(own, own),
        },
    )


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
            apart = [moved(scale(m(p[ids])), p) - here for p in perms[elements]]
            return float(over(torch.stack(apart)))

        return largest

    cases = _settings()
    model, ids, perms = cases["three words at will (S3)"]
    cases["a model that is fair to S3"] = (lambda x: _fair(model, x, perms), ids, perms)
    # The element of the largest violation in the middle: first, second and last are the lazy ones.
    apart = [gap(elements=slice(k, k + 1))(model, ids, perms) for k in range(len(perms))]
    order = sorted(range(len(perms)), key=lambda k: apart[k])
    order = [*order[:3], order[-1], *order[3:-1]]
    cases["S3, its rows in another order"] = (model, ids, perms[order])
    return verdict(
        student,
        solved(gap(), cases),
        {
            "you compared P(v | g x) with P(v | x); the word moves, too: P(g v | g x).": gap(
                moved=lambda y, p: y
            ),
            "you moved the word by g^-1; what belongs to g x is g v.": gap(
                moved=lambda y, p: y[:, p.argsort()]
            ),
            "you compared scores; the law speaks of probabilities.": gap(scale=lambda y: y),
            "you compared log-probabilities; the law speaks of probabilities.": gap(
                scale=lambda y: y.log_softmax(-1)
            ),
            "you took the mean; asked for is the largest violation.": gap(
                over=lambda d: d.abs().mean()
            ),
            "you left out the absolute value.": gap(over=lambda d: d.max()),
            "you tried one element of the group; the law is for all.": gap(elements=slice(1, 2)),
            "you kept the last element's gap; the law is for all: keep the largest.": gap(
                elements=slice(-1, None)
            ),
            "you took the probabilities over the batch (or the wrong axis): softmax(-1), over words.": (
                gap(scale=lambda y: y.softmax(0))
            ),
        },
    )


def check_generate_fair(student: Callable[[Callable, Tensor, Tensor, int], Tensor]) -> bool:
    """``student(model, ids, perms, steps)``: greedy texts of the fair model, ``(B, T + steps)``."""

    def greedy(
        scores: Callable, views: Callable = lambda ids, perms: ids, pick: Callable = torch.argmax
    ) -> Callable:
        """Append the best word by scores(model, what is read, perms), step by step."""

        def text(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
            for _ in range(steps):
                best = pick(scores(m, views(ids, perms), perms), -1)
                ids = torch.cat([ids, best[:, None]], 1)
            return ids

        return text

    def unmoved(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
        """Each view goes on with the word as it was drawn."""
        contexts = [p[ids] for p in perms]
        for _ in range(steps):
            pairs = zip(contexts, perms, strict=True)
            best = (sum(m(c)[:, p] for c, p in pairs) / len(perms)).argmax(-1)[:, None]
            contexts = [torch.cat([c, best], 1) for c in contexts]
            ids = torch.cat([ids, best], 1)
        return ids

    def own(m: Callable, ids: Tensor, perms: Tensor) -> Tensor:
        return m(ids)

    def repeated(m: Callable, ids: Tensor, perms: Tensor, steps: int) -> Tensor:
        best = _fair(m, ids, perms).argmax(-1)[:, None]
        return torch.cat([ids, best.expand(-1, steps)], 1)

    right = greedy(_fair)
    cases = {what: (*setting, 6) for what, setting in _settings().items()}
    return verdict(
        student,
        solved(right, cases),
        {
            "you let every view go on with the same word; the view g x goes on with g times the "
            "word.": unmoved,
            "you decoded the pretrained model, without the average.": greedy(own),
            "you moved the scores by g instead of g^-1.": greedy(_FORWARD),
            "you did not move the scores back.": greedy(_STILL),
            "you took the next word from the first context every time; the text grows.": repeated,
            "you read the last word alone; the whole text is the context.": greedy(
                _fair, views=lambda ids, perms: ids[:, -1:]
            ),
            "you took the word of least score.": greedy(_fair, pick=torch.argmin),
            "you returned the new words alone; the text starts with the ids it was given.": (
                lambda m, ids, perms, steps: right(m, ids, perms, steps)[:, ids.shape[1] :]
            ),
        },
    )
