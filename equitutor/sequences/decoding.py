"""Training and greedy decoding of the models of seq2seq.py, batched.

Where a published loop takes one sentence at a time, these take a batch of like length: sentences
that have ended are masked out of the loss, and leave the batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from ..modes import evaluating
from ..symmetrize import group_average
from ..weights import LeastLoss
from .seq2seq import EquiSeq2Seq
from .vocabulary import EOS, SOS, lengths

__all__ = ["attention", "decode", "decode_apart", "loss", "same", "surprise", "unroll"]

#: Sentences leave a batch when it shrinks to less than this: copying the rest pays only then.
SHRUNK = 0.75


def unroll(
    model: nn.Module, source: Tensor, target: Tensor, forced: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores at each step of the target, and the words that led there.

    Parameters
    ----------
    source, target : (B, T) and (B, S) ids, ended and padded by EOS
    forced : (B,) bool, optional
        Sentences that are fed the target (teacher forcing); the others are fed what the model
        emits. Default: all.

    Returns
    -------
    scores : (B, S, words)
    fed : (B, S) ids, the word before each step; SOS first

    Sentences whose target has ended leave the batch when enough of them have: from there on their
    scores are 0 and they are fed EOS.
    """
    forced = None if forced is None or bool(forced.all()) else forced
    sizes = lengths(target)
    run, words = model.begin(source), target.new_full((len(target),), SOS)
    rows = torch.arange(len(target), device=target.device)  # the sentences still in the batch
    scores, fed = [], torch.full_like(target, EOS)
    for start, stop in pairwise(_cuts(sizes, target.shape[1])):
        if start:
            going = (sizes[rows] > start).nonzero()[:, 0]
            run = run.keep(model.rows(going, len(rows)))
            rows, words = rows[going], words[going]
        free = None if forced is None else ~forced[rows]
        spoken, hidden = [], []
        for following in target[rows, start:stop].unbind(1):
            spoken.append(words)
            hidden.append(model.step(run, words))
            words = following
            if free is not None:
                with torch.no_grad():  # which word was emitted has no gradient
                    emitted = model.scores(run, hidden[-1]).argmax(-1)
                words = torch.where(free, emitted, following)
        # The scores of all these steps at once: the loop holds nothing that could be outside of it.
        part = model.scores(run, torch.stack(hidden, 1))
        if start:
            part = part.new_zeros(len(target), *part.shape[1:]).index_copy(0, rows, part)
        scores.append(part)
        fed[rows, start:stop] = torch.stack(spoken, 1)
    return torch.cat(scores, 1), fed


def _cuts(sizes: Tensor, steps: int) -> list[int]:
    """The steps before which sentences leave the batch, from 0 to all of them."""
    left = (sizes[:, None] > torch.arange(steps, device=sizes.device)).sum(0).tolist()
    cuts, there = [0], len(sizes)
    for step, count in enumerate(left):
        if 0 < count < SHRUNK * there:
            cuts.append(step)
            there = count
    return [*cuts, steps]


def loss(model: nn.Module, source: Tensor, target: Tensor, forced: Tensor | None = None) -> Tensor:
    """The mean cross-entropy of a word, up to EOS in the target and in what the model emitted.

    A sentence that the model has ended too early is judged no further, as in the published loop.
    """
    scores, fed = unroll(model, source, target, forced)
    steps = torch.arange(target.shape[1], device=target.device)
    counts = (steps < lengths(target)[:, None]) & ((fed == EOS).cumsum(1) == 0)
    each = cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
    return (each * counts.flatten()).sum() / counts.sum()


@torch.no_grad()
def decode(model: nn.Module, source: Tensor, steps: int = 50, batch_size: int = 1024) -> Tensor:
    """What the model says to (N, T) ids, greedily: (N, at most ``steps``) ids, padded by EOS.

    Decoding stops when all sentences have ended; those that ended leave the batch before.

    Notes
    -----
    The output of an equivariant model moves exactly as its input does, token for token, unless the
    two best scores are equal: then no rule that picks one of them can be equivariant. Equal scores
    arise where the input does not move at all (x = g x, so the scores of a word and its image are
    the same); a trained model does not put such words first. Rounding differs between x and g x
    (sums in another order, other rows of a matrix product), by about 1e-6 in float32, and so matters
    only to scores as close as that.
    """
    order = lengths(source).argsort()  # sentences of like length together
    with evaluating(model):
        said = [_decode(model, source[rows], steps) for rows in order.split(batch_size)]
    return torch.cat(_widened(said))[order.argsort()]


def _decode(model: nn.Module, source: Tensor, steps: int) -> Tensor:
    run = model.begin(source)
    said = source.new_full((len(source), steps), EOS)
    there = torch.arange(len(source), device=source.device)  # the sentences still in the batch
    ended = torch.zeros_like(there, dtype=torch.bool)
    words = source.new_full((len(source),), SOS)
    for step in range(steps):
        words = model.scores(run, model.step(run, words)).argmax(-1).masked_fill_(ended, EOS)
        said[there, step] = words
        ended = words == EOS
        going = (~ended).nonzero()[:, 0]
        if len(going) == 0:
            return said[:, : step + 1]
        if len(going) < SHRUNK * len(there):
            run = run.keep(model.rows(going, len(there)))
            there, words, ended = there[going], words[going], ended[going]
    return said


@torch.no_grad()
def attention(model: nn.Module, source: Tensor, steps: int = 50) -> tuple[Tensor, Tensor]:
    """Where the decoder looks: for (B, T) ids what it says, (B, S), and the attention of each step.

    The attention is (views, B, S, T), with one view for a plain model, else the ``|G|`` views of the
    group's elements in order; its rows add up to 1.
    """
    with evaluating(model):
        run = model.begin(source)
        words = source.new_full((len(source),), SOS)
        said: list[Tensor] = []
        looks, ended = [], torch.zeros_like(words, dtype=torch.bool)
        while len(said) < steps and not bool(ended.all()):
            words = model.scores(run, model.step(run, words)).argmax(-1).masked_fill_(ended, EOS)
            said.append(words)
            looks.append(run.attention)
            ended = words == EOS
    return torch.stack(said, 1), torch.cat(looks, 1).unflatten(0, (-1, len(source)))


@torch.no_grad()
def decode_apart(
    model: EquiSeq2Seq,
    source: Tensor,
    steps: int = 50,
    choose: bool = False,
    batch_size: int = 1024,
) -> Tensor:
    """For comparison: the average of whole sequences that each view decoded for itself.

    The views lose each other as soon as one emits another word, for from there on they score
    continuations of different sentences. A view that has ended repeats its last scores.

    Parameters
    ----------
    choose : bool
        Take the one sequence of the greatest probability, p(words | g x), instead of the mean:
        equizero by sequence.
    """
    with evaluating(model):
        said = [_decode_apart(model, part, steps, choose) for part in source.split(batch_size)]
    return torch.cat(_widened(said))


def _decode_apart(model: EquiSeq2Seq, source: Tensor, steps: int, choose: bool) -> Tensor:
    run = model.model.begin(model.read.views(source))
    views = len(run.mask)
    words = source.new_full((views,), SOS)
    ended = torch.zeros_like(words, dtype=torch.bool)
    scores: list[Tensor] = []
    for _ in range(steps):
        new = model.model.scores(run, model.model.step(run, words))
        scores.append(torch.where(ended[:, None], scores[-1], new) if scores else new)
        words = scores[-1].argmax(-1)
        ended = ended | (words == EOS)
        if bool(ended.all()):
            break
    whole = torch.stack(scores, 1)
    n = len(model.score.group)
    weights = LeastLoss(surprise)(whole, ((), {}), n, len(source)) if choose else None
    said = group_average(whole, model.score, weights).argmax(-1)
    return said.masked_fill(_after_end(said), EOS)


def surprise(scores: Tensor) -> Tensor:
    """-log p of the greedy words up to EOS, (N, S, words) scores -> (N,)."""
    best, words = scores.log_softmax(-1).max(-1)
    return -best.masked_fill(_after_end(words), 0).sum(1)


def same(said: Tensor, target: Tensor) -> Tensor:
    """Whether two batches of sentences agree, each as a whole: (N, S), (N, S') -> (N,) bool."""
    a, b = _widened([said, target])
    return ((a == b) | _after_end(a) & _after_end(b)).all(1)


def _after_end(words: Tensor) -> Tensor:
    """The places after the first EOS."""
    end = words == EOS
    return end.cumsum(1) > end.long()


def _widened(parts: list[Tensor]) -> list[Tensor]:
    """All of the same width, padded by EOS."""
    width = max(part.shape[1] for part in parts)
    return [pad(part, (0, width - part.shape[1]), value=EOS) for part in parts]
