"""Training losses and greedy decoding of the models of seq2seq.py, batched.

Where a published loop takes one sentence at a time, these take a batch of similar lengths: sentences
that have ended are masked out of the loss, and leave the batch.

Shapes: B or N sentences, T source words, S steps.
"""

from __future__ import annotations

from collections.abc import Iterator
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

#: Ended sentences leave a batch once less than this share of it continues: copying pays only then.
COMPACT_BELOW = 0.75


def unroll(
    model: nn.Module, source: Tensor, target: Tensor, forced: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores at each step of the target, and the words that led to them.

    Sentences whose target has ended leave the batch once enough of them have: from there on their
    scores are 0 and they are fed EOS.

    Parameters
    ----------
    source, target : (B, T) and (B, S) ids
        Ended and padded by EOS.
    forced : (B,) bool, optional
        Sentences that are fed the target (teacher forcing); the others are fed what the model
        emits. Default: all.

    Returns
    -------
    scores : (B, S, words)
    fed : (B, S) ids
        The word before each step; SOS comes first.
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
        inputs, hidden = [], []
        for following in target[rows, start:stop].unbind(1):
            inputs.append(words)
            hidden.append(model.step(run, words))
            words = following
            if free is not None:
                with torch.no_grad():  # which word was emitted has no gradient
                    emitted = model.scores(run, hidden[-1]).argmax(-1)
                words = torch.where(free, emitted, following)
        # The scores of all these steps at once: faster than one by one within the loop.
        part = model.scores(run, torch.stack(hidden, 1))  # (rows, stop - start, words)
        if start:
            part = part.new_zeros(len(target), *part.shape[1:]).index_copy(0, rows, part)
        scores.append(part)
        fed[rows, start:stop] = torch.stack(inputs, 1)
    return torch.cat(scores, 1), fed


def _cuts(sizes: Tensor, steps: int) -> list[int]:
    """The steps before which sentences leave the batch, with 0 in front and ``steps`` at the end."""
    left = (sizes[:, None] > torch.arange(steps, device=sizes.device)).sum(0).tolist()
    cuts, size = [0], len(sizes)
    for step, count in enumerate(left):
        if 0 < count < COMPACT_BELOW * size:
            cuts.append(step)
            size = count
    return [*cuts, steps]


def loss(model: nn.Module, source: Tensor, target: Tensor, forced: Tensor | None = None) -> Tensor:
    """The mean cross-entropy per word, up to EOS in the target and in what the model emitted.

    Once a sentence is ended too early by the model it is judged no further, as in the published loop.
    """
    scores, fed = unroll(model, source, target, forced)
    steps = torch.arange(target.shape[1], device=target.device)
    counts = (steps < lengths(target)[:, None]) & ((fed == EOS).cumsum(1) == 0)  # (B, S)
    each = cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
    return (each * counts.flatten()).sum() / counts.sum()


@torch.no_grad()
def decode(model: nn.Module, source: Tensor, steps: int = 50, batch_size: int = 1024) -> Tensor:
    """The model's greedy output for (N, T) ids: (N, at most ``steps``) ids, padded by EOS.

    Decoding stops when all sentences have ended; those that end earlier leave the batch.

    Notes
    -----
    The output of an equivariant model moves exactly as its input does, token for token, unless the
    two best scores are equal: then no rule that picks one of them can be equivariant. Equal scores
    arise if the input does not move at all (x = g x, so the scores of a word and its image are
    the same); a trained model does not rank such words first. Rounding differs between x and g x
    (sums in another order, other rows of a matrix product), by about 1e-6 in float32, and thus only
    matters to scores as close as that.
    """
    order = lengths(source).argsort()  # sentences of similar length together
    with evaluating(model):
        outputs = [_decode(model, source[rows], steps) for rows in order.split(batch_size)]
    return torch.cat(_widened(outputs))[order.argsort()]


def _decode(model: nn.Module, source: Tensor, steps: int) -> Tensor:
    output, stop = source.new_full((len(source), steps), EOS), 0
    for stop, (rows, words, _, _) in enumerate(_greedy(model, source, steps), 1):
        output[rows, stop - 1] = words
    return output[:, :stop]


def _greedy(
    model: nn.Module, source: Tensor, steps: int, leave: bool = True
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Decode until all sentences have ended; those that have, emit EOS, and may leave the batch.

    Yields, at each step, the rows of the b sentences that are left (b,), the emitted words (b,), the
    scores (b, words) and the attention (views b, 1, T).
    """
    run = model.begin(source)
    words = source.new_full((len(source),), SOS)
    rows = torch.arange(len(words), device=source.device)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(steps):
        scores = model.scores(run, model.step(run, words))
        words = scores.argmax(-1).masked_fill_(ended, EOS)
        yield rows, words, scores, run.attention
        ended = words == EOS
        going = (~ended).nonzero()[:, 0]
        if len(going) == 0:
            return
        if leave and len(going) < COMPACT_BELOW * len(rows):
            run = run.keep(model.rows(going, len(rows)))
            rows, words, ended = rows[going], words[going], ended[going]


@torch.no_grad()
def attention(model: nn.Module, source: Tensor, steps: int = 50) -> tuple[Tensor, Tensor]:
    """The greedy output for (B, T) ids, (B, S) ids, and where the decoder looks at each step.

    The attention is (views, B, S, T), with one view for a plain model, else the ``|G|`` views of the
    group's elements in order; its rows sum to 1.
    """
    with evaluating(model):
        _, words, _, looks = zip(*_greedy(model, source, steps, leave=False), strict=True)
    return torch.stack(words, 1), torch.cat(looks, 1).unflatten(0, (-1, len(source)))


@torch.no_grad()
def decode_apart(
    model: EquiSeq2Seq,
    source: Tensor,
    steps: int = 50,
    choose: bool = False,
    batch_size: int = 1024,
) -> Tensor:
    """For comparison: the average of whole sequences, each decoded from its view alone.

    The views lose each other as soon as one emits another word, since from there on they score
    continuations of different sentences. A view that has ended repeats its last scores.

    Parameters
    ----------
    choose : bool
        Take the one sequence of the greatest probability, p(words | g x), instead of the mean:
        equizero by sequence.
    """
    with evaluating(model):
        outputs = [_decode_apart(model, part, steps, choose) for part in source.split(batch_size)]
    return torch.cat(_widened(outputs))


def _decode_apart(model: EquiSeq2Seq, source: Tensor, steps: int, choose: bool) -> Tensor:
    views = model.read.views(source)  # (|G| B, T)
    scores: list[Tensor] = []
    ended = torch.zeros(len(views), 1, dtype=torch.bool, device=source.device)
    for _, words, new, _ in _greedy(model.model, views, steps, leave=False):
        scores.append(torch.where(ended, scores[-1], new) if scores else new)
        ended = (words == EOS)[:, None]
    whole = torch.stack(scores, 1)  # (|G| B, S, words)
    n = len(model.score.group)
    weights = LeastLoss(surprise)(whole, ((views,), {}), n, len(source)) if choose else None
    output = group_average(whole, model.score, weights).argmax(-1)  # (B, S)
    return output.masked_fill(_after_end(output), EOS)


def surprise(scores: Tensor) -> Tensor:
    """-log p of the greedy words up to EOS, (N, S, words) scores -> (N,)."""
    best, words = scores.log_softmax(-1).max(-1)
    return -best.masked_fill(_after_end(words), 0).sum(1)


def same(output: Tensor, target: Tensor) -> Tensor:
    """Whether each sentence of two batches agrees as a whole: (N, S), (N, S') -> (N,) bool."""
    a, b = _widened([output, target])
    return ((a == b) | _after_end(a) & _after_end(b)).all(1)


def _after_end(words: Tensor) -> Tensor:
    """The places after the first EOS, as bool."""
    end = words == EOS
    return end.cumsum(1) > end.long()


def _widened(batches: list[Tensor]) -> list[Tensor]:
    """All (N, S) ids padded by EOS to the same S."""
    width = max(batch.shape[1] for batch in batches)
    return [pad(batch, (0, width - batch.shape[1]), value=EOS) for batch in batches]
