"""Assignment 4: weights of the views, by a learned lambda or by a choice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import Action, Permutation
from ..groups import cyclic, dihedral, symmetric
from ..symmetrize import group_average
from ..weights import LeastLoss, entropy
from .verdict import Net, random, solved, verdict

__all__ = [
    "check_choose_view",
    "check_entropies",
    "check_straight_through",
    "check_weighted_average",
]


def _actions() -> dict[str, Permutation]:
    return {
        a.group.name: a for a in map(Permutation, (cyclic(2), cyclic(3), symmetric(3), dihedral(4)))
    }


def _back(action: Action, outputs: Tensor) -> Tensor:
    """All g^-1 y_g, of shape (|G|, B, n)."""
    return torch.stack([action.undo(g, y) for g, y in enumerate(outputs)])


def _forth(action: Action, outputs: Tensor) -> Tensor:
    """All g y_g: the wrong way."""
    return torch.stack([action.act(g, y) for g, y in enumerate(outputs)])


def _stay(action: Action, outputs: Tensor) -> Tensor:
    return outputs


def check_weighted_average(student: Callable[[Tensor, Tensor, Action], Tensor]) -> bool:
    """``student(outputs, lam, action)``: sum_g lam_g g^-1 y_g / sum_g lam_g.

    Outputs ``(|G|, B, n)`` of the views, positive ``lam (|G|, B)``; the result is ``(B, n)``.
    """

    def by(weights: Callable[[Tensor], Tensor], back: Callable = _back) -> Callable:
        return lambda y, lam, action: (weights(lam)[..., None] * back(action, y)).sum(0)

    def shares(lam: Tensor) -> Tensor:
        return lam / lam.sum(0)

    def right(y: Tensor, lam: Tensor, action: Action) -> Tensor:
        return group_average(y.flatten(0, 1), action, shares(lam))

    cases = {}
    for name, action in _actions().items():
        n, degree = len(action.group), action.degree
        cases[name] = (random(n, 3, degree), random(n, 3, seed=1).exp(), action)
    return verdict(
        student,
        solved(right, cases),
        {
            "you did not divide by the sum of the lambdas.": by(lambda lam: lam),
            "you divided by |G|, not by the sum of the lambdas.": by(lambda lam: lam / len(lam)),
            "you normalised along the wrong axis: the weights of the views of one input add up to 1, "
            "those of a batch do not.": by(lambda lam: lam / lam.sum(1, keepdim=True)),
            "you divided by the sum over all views of all inputs; each input has its own.": by(
                lambda lam: lam / lam.sum()
            ),
            "you took a softmax; the lambdas are positive already and are divided by their sum.": by(
                lambda lam: lam.softmax(0)
            ),
            "you moved the outputs by g instead of g^-1; for C2 that is the same.": by(
                shares, _forth
            ),
            "you did not move the outputs back.": by(shares, _stay),
            "you did not use the lambdas.": by(lambda lam: torch.full_like(lam, 1 / len(lam))),
        },
    )


def check_entropies(student: Callable[[Callable, Action, Tensor], Tensor]) -> bool:
    """``student(model, action, x)``: the entropy of softmax(M(g x)) in nats, ``(|G|, B)``."""

    def sure(x: Tensor) -> Tensor:
        return 4000 * Net(x.shape[-1], 4)(x)

    def of(
        measure: Callable[[Tensor], Tensor], move: Callable = lambda a, g, x: a.act(g, x)
    ) -> Callable:
        return lambda model, a, x: torch.stack(
            [measure(model(move(a, g, x))) for g in range(len(a.group))]
        )

    def products(scores: Tensor) -> Tensor:
        """-p log p, for each class."""
        p = scores.softmax(-1)
        return torch.special.entr(p)

    cases: dict[str, tuple] = {}
    for name, action in _actions().items():
        cases[name] = (Net(action.degree, 4), action, random(3, action.degree))
    cases["C3 with a model that is quite sure"] = (sure, Permutation(cyclic(3)), random(3, 3))
    return verdict(
        student,
        solved(of(entropy), cases),
        {
            "you have 0 log 0, which Python takes for NaN; it is 0 (torch.special.entr knows).": of(
                lambda s: -(s.softmax(-1) * s.softmax(-1).log()).sum(-1)
            ),
            "you have the wrong sign; an entropy is never negative.": of(lambda s: -entropy(s)),
            "you multiplied log p by log p; entropy is the sum of -p log p.": of(
                lambda s: -(s.log_softmax(-1) ** 2).sum(-1)
            ),
            "you multiplied log p by log p; entropy is the sum of -p log p, and never above the "
            "logarithm of the number of classes.": of(lambda s: (s.log_softmax(-1) ** 2).sum(-1)),
            "you left out the softmax: scores are no probabilities.": of(
                lambda s: -(s * s.abs().log()).sum(-1)
            ),
            "you left out p: the entropy is the mean of -log p under p itself.": of(
                lambda s: -s.log_softmax(-1).sum(-1)
            ),
            "you counted in bits; nats have the natural logarithm.": of(
                lambda s: entropy(s) / torch.tensor(2.0).log()
            ),
            "you took the mean over the classes in place of the sum.": of(
                lambda s: products(s).mean(-1)
            ),
            "you moved x by g^-1: row g belongs to the view g x.": of(
                entropy, move=lambda a, g, x: a.undo(g, x)
            ),
            "you gave the model x where it should see g x.": of(entropy, move=lambda a, g, x: x),
            "you put the batch first; the views come first, (|G|, B).": lambda *args: (
                of(entropy)(*args).T
            ),
        },
    )


def check_choose_view(student: Callable[[Tensor, Tensor, Action], Tensor]) -> bool:
    """``student(outputs, losses, action)``: g*^-1 y_{g*} for the view of least loss.

    Outputs ``(|G|, B, n)``, losses ``(|G|, B)``; views that share the least loss are averaged.
    """

    def by(weights: Callable[[Tensor], Tensor], back: Callable = _back) -> Callable:
        return lambda y, loss, action: (weights(loss)[..., None] * back(action, y)).sum(0)

    def least(loss: Tensor) -> Tensor:
        return LeastLoss(lambda outputs: loss.flatten())(None, (), *loss.shape).double()

    def one(find: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda loss: torch.eye(len(loss)).double()[find(loss)].T

    def right(y: Tensor, loss: Tensor, action: Action) -> Tensor:
        return group_average(y.flatten(0, 1), action, least(loss))

    cases = {}
    for name, action in _actions().items():
        n = len(action.group)
        cases[name] = (random(n, 3, action.degree), random(n, 3, seed=1), action)
    d4 = Permutation(dihedral(4))
    tied = random(8, 3, seed=1)
    tied[2:6:3] = tied.amin(0)
    cases["D4 where two views are equally good"] = (random(8, 3, 4), tied, d4)
    return verdict(
        student,
        solved(right, cases),
        {
            "you took the view of largest loss; less is better.": by(
                one(lambda loss: loss.argmax(0))
            ),
            "you took the first of the best views. If two are equally good, which is first depends on "
            "their names: average them, or the model is not equivariant there.": by(
                one(lambda loss: loss.argmin(0))
            ),
            "you chose one view for the whole batch; each input has its own.": by(
                one(lambda loss: loss.sum(1).argmin().repeat(loss.shape[1]))
            ),
            "you chose along the wrong axis: for each input, the best view.": by(
                lambda loss: torch.eye(loss.shape[1]).double()[loss.argmin(1)]
            ),
            "you did not move the output of the chosen view back.": by(least, _stay),
            "you moved the output of the chosen view by g instead of g^-1.": by(least, _forth),
            "you weighted all views by exp(-loss); equizero takes the best alone.": by(
                lambda loss: (-loss).softmax(0)
            ),
            "you averaged all views.": by(lambda loss: torch.full_like(loss, 1 / len(loss))),
            "you added the best views up; if there are several, take their mean.": by(
                lambda loss: (loss == loss.amin(0)).double()
            ),
        },
    )


def check_straight_through(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(terms, weights)``: the chosen term's value with the gradient of the mean.

    Terms ``g^-1 M(g x)``, ``(|G|, B, n)``, weights ``(|G|, B)``, a 1 for the chosen view and else 0.
    The gradient is taken here, and is a part of the answer.
    """

    def with_gradient(answer: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        def run(terms: Tensor, weights: Tensor) -> tuple[Tensor, Tensor] | None:
            terms = terms.clone().requires_grad_()
            y = answer(terms, weights)
            if y is None:
                return None
            gradient = torch.zeros_like(terms)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad((y * random(*y.shape, seed=2)).sum(), terms)
            return y.detach(), gradient

        return run

    def chosen(terms: Tensor, weights: Tensor) -> Tensor:
        return (weights[..., None] * terms).sum(0)

    def mean(terms: Tensor, weights: Tensor) -> Tensor:
        return terms.mean(0)

    def both(value: Callable, gradient: Callable) -> Callable:
        """The value of one, the gradient of the other."""
        return with_gradient(lambda t, w: (value(t, w) - gradient(t, w)).detach() + gradient(t, w))

    cases = {}
    for group in (cyclic(2), cyclic(3), symmetric(3)):
        n = len(group)
        pick = random(n, 2, seed=1).argmin(0)
        cases[f"{n} views ({group.name})"] = (random(n, 2, 3), torch.eye(n).double()[pick].T)
    return verdict(
        with_gradient(student),
        solved(both(chosen, mean), cases),
        {
            "only the chosen view gets a gradient, the others learn nothing.": both(chosen, chosen),
            "nothing gets a gradient: you detached everything.": both(
                lambda t, w: chosen(t, w), lambda t, w: 0 * t.detach().sum(0)
            ),
            "the value is that of the mean; forward should be the chosen view.": both(mean, mean),
            "you have it the wrong way round: forward the mean, backward the chosen view.": both(
                mean, chosen
            ),
            "you added the chosen and the mean without taking the mean's value off again.": both(
                lambda t, w: chosen(t, w) + mean(t, w), mean
            ),
            "the gradient is that of the sum over the views; divide by |G|.": both(
                chosen, lambda t, w: t.sum(0)
            ),
            "both parts have gradients; detach the chosen one.": both(
                chosen, lambda t, w: chosen(t, w) + mean(t, w)
            ),
        },
    )
