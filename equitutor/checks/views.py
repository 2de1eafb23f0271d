"""Assignment 4: weights of the views, by a learned lambda or by a choice."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Action, Permutation
from ..groups import cyclic, dihedral
from ..symmetrize import group_average
from ..weights import entropy
from .settings import Net, natural_actions, random
from .verdict import verdict

__all__ = [
    "check_choose_view",
    "check_entropies",
    "check_straight_through",
    "check_weighted_average",
]


def _average(weigh: Callable[[Tensor], Tensor]) -> Callable:
    """The library's average, with the weights ``(|G|, B)`` computed from lambdas or losses."""
    return lambda outputs, given, action: group_average(outputs.flatten(0, 1), action, weigh(given))


def _weighted(weigh: Callable[[Tensor], Tensor], power: int = -1) -> Callable:
    """Its wrong relatives: sum_g w_g g^power y_g, with weights of any shape and sum."""
    return lambda outputs, given, action: sum(
        w[:, None] * action(g**power, y)
        for g, w, y in zip(action.group, weigh(given), outputs, strict=True)
    )


def _some_terms(weigh: Callable[[Tensor], Tensor]) -> dict[str, Callable]:
    """Sums that lack some terms."""

    def without(dropped: Callable[[int], slice]) -> Callable:
        def weights(given: Tensor) -> Tensor:
            w = weigh(given).clone()
            w[dropped(len(w))] = 0
            return w

        return _weighted(weights)

    return {
        "you kept the first term alone: does the `return` or a `break` stand inside the loop?": without(
            lambda n: slice(1, n)
        ),
        "you kept the last term alone: each overwrites the one before. Add them up.": without(
            lambda n: slice(0, n - 1)
        ),
        "you left out the first term, that of g = e.": without(lambda n: slice(0, 1)),
        "you left out the last term.": without(lambda n: slice(n - 1, n)),
    }


def _settings() -> list[tuple[Action, int, int]]:
    """Action, batch and seed: one input and many, and two that differ in their numbers only."""
    c2, c3, s3, d4 = natural_actions()
    return [(c2, 3, 0), (c3, 3, 0), (s3, 1, 0), (d4, 3, 0), (d4, 3, 5)]


def _name(action: Action, batch: int, seed: int) -> str:
    what = "a single input" if batch == 1 else "other numbers" if seed else f"{batch} inputs"
    return f"{action.group.name} with {what}"


def _losses(action: Action, batch: int, seed: int) -> Tensor:
    return random(len(action.group), batch, seed=seed + 1)


def _uniform(given: Tensor) -> Tensor:
    return torch.full_like(given, 1 / len(given))


def check_weighted_average(student: Callable[[Tensor, Tensor, Action], Tensor]) -> bool:
    """``student(outputs, lam, action)``: sum_g lam_g g^-1 y_g / sum_g lam_g.

    Outputs ``(|G|, B, n)`` of the views, positive ``lam (|G|, B)``; the result is ``(B, n)``.
    """

    def shares(lam: Tensor) -> Tensor:
        return lam / lam.sum(0)

    cases = {}
    for action, b, seed in _settings():
        outputs, lam = (
            random(len(action.group), b, action.degree, seed=seed),
            _losses(action, b, seed),
        )
        cases[_name(action, b, seed)] = outputs, lam.exp(), action
    mistakes = {
        "you did not divide by the sum of the lambdas.": _weighted(lambda lam: lam),
        "you divided by |G|, not by the sum of the lambdas.": _weighted(lambda lam: lam / len(lam)),
        "you normalised along the wrong axis: the weights of the views of one input add up to 1, "
        "those of a batch do not.": _weighted(lambda lam: lam / lam.sum(1, keepdim=True)),
        "you divided by the sum over all views of all inputs; each input has its own.": _weighted(
            lambda lam: lam / lam.sum()
        ),
        "you took a softmax; the lambdas are positive already and are divided by their sum.": (
            _weighted(lambda lam: lam.softmax(0))
        ),
        "you moved the outputs by g instead of g^-1; for C2 that is the same.": (
            _weighted(shares, 1)
        ),
        "you did not move the outputs back.": _weighted(shares, 0),
        "you did not use the lambdas.": _weighted(_uniform),
        "you took the view of largest lambda alone; here all views have their share.": _weighted(
            lambda lam: (lam == lam.amax(0)).double()
        ),
        "you gave g the weight of its inverse: that of g is in row g.index.": (
            lambda outputs, lam, action: _weighted(shares)(
                outputs, lam[action.group.inverses], action
            )
        ),
        "you divided by the root of the sum of squares; the weights should add up to 1.": _weighted(
            lambda lam: lam / lam.norm(dim=0)
        ),
        "you took the weights of one view for all: those of g are in row g.index.": _weighted(
            lambda lam: shares(lam)[:1].expand_as(lam)
        ),
        "you took the outputs of one view for all: those of g are outputs[g.index].": (
            lambda outputs, lam, action: _weighted(shares)(
                outputs[:1].expand_as(outputs), lam, action
            )
        ),
        **_some_terms(shares),
    }
    return verdict(student, _average(shares), cases, mistakes, gradients=(0, 1))


def check_entropies(student: Callable[[Callable, Action, Tensor], Tensor]) -> bool:
    """``student(model, action, x)``: the entropy of softmax(M(g x)) in nats, ``(|G|, B)``."""

    def of(measure: Callable[[Tensor], Tensor], power: int = 1) -> Callable:
        """A measure of the scores M(g^power x) of each view."""
        return lambda m, a, x: torch.stack([measure(m(a(g**power, x))) for g in a.group])

    def sure(x: Tensor) -> Tensor:
        return 4000 * Net(x.shape[-1], 4)(x)

    right = of(entropy)
    cases: dict[str, tuple] = {
        _name(a, b, seed): (Net(a.degree, 4), a, random(b, a.degree, seed=seed))
        for a, b, seed in _settings()
    }
    cases["C3 with a model that is quite sure"] = (sure, Permutation(cyclic(3)), random(3, 3))
    mistakes = {
        "you computed 0 log 0, which Python takes for NaN; it is 0 (torch.special.entr knows).": of(
            lambda s: -(s.softmax(-1) * s.softmax(-1).log()).sum(-1)
        ),
        "you have the wrong sign; an entropy is never negative.": lambda *args: -right(*args),
        "you multiplied log p by log p; entropy is the sum of -p log p.": of(
            lambda s: -(s.log_softmax(-1) ** 2).sum(-1)
        ),
        "you multiplied log p by log p; entropy is the sum of -p log p, and never above the "
        "logarithm of the number of classes.": of(lambda s: (s.log_softmax(-1) ** 2).sum(-1)),
        "you left out the softmax: scores are not probabilities.": of(
            lambda s: -(s * s.abs().log()).sum(-1)
        ),
        "you left out the softmax: scores may be negative, and probabilities may not.": of(
            lambda s: torch.special.entr(s).sum(-1)
        ),
        "you took a sigmoid for each class; the probabilities of the classes, by softmax, add up to 1.": of(
            lambda s: torch.special.entr(s.sigmoid()).sum(-1)
        ),
        "this is 1 minus the largest probability, not the entropy.": of(
            lambda s: 1 - s.softmax(-1).amax(-1)
        ),
        "you unfolded the batch of views into (B, |G|); the elements come first there, (|G|, B).": (
            lambda m, a, x: entropy(m(a.views(x))).unflatten(0, (-1, len(a.group))).T
        ),
        "you left out p: the entropy is the mean of -log p under p itself.": of(
            lambda s: -s.log_softmax(-1).sum(-1)
        ),
        "you counted in bits; nats need the natural logarithm.": of(
            lambda s: entropy(s) / math.log(2)
        ),
        "you took the mean over the classes instead of the sum.": of(
            lambda s: entropy(s) / s.shape[-1]
        ),
        "you moved x by g^-1: row g belongs to the view g x.": of(entropy, -1),
        "you gave the model x where it should see g x.": of(entropy, 0),
        "you took the softmax over the batch: each view of each input has probabilities of its own, "
        "along the last axis.": of(lambda s: torch.special.entr(s.softmax(0)).sum(-1)),
        "you took the softmax twice: probabilities are no scores.": of(
            lambda s: entropy(s.softmax(-1))
        ),
        "you took p without its logarithm.": of(lambda s: -s.softmax(-1).square().sum(-1)),
        "you put the batch first; the views come first, (|G|, B).": lambda *args: right(*args).T,
    }
    return verdict(student, right, cases, mistakes)


def check_choose_view(student: Callable[[Tensor, Tensor, Action], Tensor]) -> bool:
    """``student(outputs, losses, action)``: g*^-1 y_{g*} for the view of least loss.

    Outputs ``(|G|, B, n)``, losses ``(|G|, B)``; views that share the least loss are averaged.
    """

    def best(loss: Tensor) -> Tensor:
        return (loss == loss.amin(0)).double()

    def least(loss: Tensor) -> Tensor:
        return best(loss) / best(loss).sum(0)

    def one(find: Callable[[Tensor], Tensor]) -> Callable:
        return _weighted(lambda loss: torch.eye(len(loss)).double()[find(loss)].T)

    cases = {}
    for action, b, seed in _settings():
        outputs = random(len(action.group), b, action.degree, seed=seed)
        cases[_name(action, b, seed)] = outputs, _losses(action, b, seed), action
    tied = random(8, 3, seed=1)
    tied[2:6:3] = tied.amin(0)
    cases["D4 where two views are equally good"] = random(8, 3, 4), tied, Permutation(dihedral(4))
    mistakes = {
        "you took the view of largest loss; less is better.": one(lambda loss: loss.argmax(0)),
        "you took the first of the best views. If two are equally good, which is first depends on "
        "their names: average them, or the model is not equivariant there.": one(
            lambda loss: loss.argmin(0)
        ),
        "you chose one view for the whole batch; each input has its own.": one(
            lambda loss: loss.sum(1).argmin().repeat(loss.shape[1])
        ),
        "you chose along the wrong axis: choose the best view for each input.": _weighted(
            lambda loss: torch.eye(loss.shape[1]).double()[loss.argmin(1)]
        ),
        "you took the last of the best views. If two are equally good, which is last depends on their "
        "names: average them.": one(lambda loss: len(loss) - 1 - loss.flip(0).argmin(0)),
        "you looked for the least loss of the whole batch; each input has its own.": _weighted(
            lambda loss: (loss == loss.min()).double() / (loss == loss.min()).sum(0)
        ),
        "you looked for the least loss of each view, over the inputs; look over the views, along axis "
        "0.": _weighted(
            lambda loss: (
                (loss == (least := loss.amin(1, keepdim=True))).double() / (loss == least).sum(0)
            )
        ),
        "you weighted the views by 1 / loss; equizero takes the best alone.": _weighted(
            lambda loss: (1 / loss) / (1 / loss).sum(0)
        ),
        "you averaged the best views first and moved the mean back by one of them: each is moved by its "
        "own g^-1.": lambda outputs, loss, action: one(lambda loss: loss.argmin(0))(
            (least(loss)[..., None] * outputs).sum(0).expand_as(outputs), loss, action
        ),
        "you did not move the output of the chosen view back.": _weighted(least, 0),
        "you moved the output of the chosen view by g instead of g^-1.": _weighted(least, 1),
        "you weighted all views by exp(-loss); equizero takes the best alone.": _weighted(
            lambda loss: (-loss).softmax(0)
        ),
        "you averaged all views.": _weighted(_uniform),
        "you added up the best views; if there are several, take their mean.": _weighted(best),
        "you averaged all views but the best.": _weighted(
            lambda loss: (1 - best(loss)) / (1 - best(loss)).sum(0)
        ),
    }
    return verdict(
        student,
        _average(least),
        cases,
        mistakes,
        helpers={"weighted_average": _average(lambda lam: lam / lam.sum(0))},
        gradients=(0,),
    )


def check_straight_through(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(terms, weights)``: the chosen term's value with the gradient of the mean.

    Terms ``g^-1 M(g x)``, ``(|G|, B, n)``, weights ``(|G|, B)``: 1 for the chosen view, else 0.
    The gradient is taken here, and is a part of the answer.
    """

    def with_gradient(function: Callable, terms: Tensor, weights: Tensor) -> dict | None:
        terms = terms.clone().requires_grad_()
        y = function(terms, weights)
        if y is None:
            return None
        gradient = torch.zeros_like(terms)
        if y.requires_grad:
            (gradient,) = torch.autograd.grad((y * random(*y.shape, seed=2)).sum(), terms)
        return {"value": y.detach(), "gradient with respect to the terms": gradient}

    def chosen(terms: Tensor, weights: Tensor) -> Tensor:
        return (weights[..., None] * terms).sum(0)

    def mean(terms: Tensor, weights: Tensor) -> Tensor:
        return terms.mean(0)

    def both(value: Callable, gradient: Callable) -> Callable:
        """The value of one, the gradient of the other."""
        return lambda t, w: (value(t, w) - gradient(t, w)).detach() + gradient(t, w)

    def added(terms: Tensor, weights: Tensor) -> Tensor:
        return chosen(terms, weights) + mean(terms, weights)

    cases = {}
    for n, batch, seed in ((2, 2, 0), (3, 1, 0), (3, 2, 0), (6, 3, 0), (6, 3, 5)):
        pick = random(n, batch, seed=seed + 1).argmin(0)
        what = f"{n} views of {batch} input{'s' * (batch > 1)}{', other numbers' * (seed > 0)}"
        cases[what] = random(n, batch, 4, seed=seed), torch.eye(n).double()[pick].T
    mistakes = {
        "only the chosen view gets a gradient, the others learn nothing.": chosen,
        "no gradient gets through: the answer does not depend on the terms in a way that is "
        "recorded. The mean has to stay attached.": lambda t, w: chosen(t, w).detach(),
        "the value is right, but the gradients cancel: in (mean - mean) one of the two is detached, "
        "not both, and not none.": lambda t, w: chosen(t, w).detach() + 0 * mean(t, w),
        "the gradient has the wrong sign: mean.detach() - mean is the other way round.": both(
            chosen, lambda t, w: -mean(t, w)
        ),
        "the value is that of the mean; forward should be the chosen view.": mean,
        "you have it the wrong way round: forward the mean, backward the chosen view.": both(
            mean, chosen
        ),
        "you added the chosen and the mean without subtracting the mean's value again.": both(
            added, mean
        ),
        "the gradient is that of the sum over the views; divide by |G|.": both(
            chosen, lambda t, w: t.sum(0)
        ),
        "both parts have gradients; detach the chosen one.": both(chosen, added),
        "your mean is over the inputs; it should be over the views, axis 0.": both(
            chosen, lambda t, w: t.mean(1)
        ),
        "the gradient is that of the chosen view, divided by |G|; the mean is of the terms themselves.": (
            both(chosen, lambda t, w: chosen(t, w) / len(t))
        ),
    }
    return verdict(student, both(chosen, mean), cases, mistakes, with_gradient)
