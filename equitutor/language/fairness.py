"""What a language model predicts: perplexity, probabilities and the fairness gap (AAAI paper, Sec. 6.3).

The scorers of :mod:`equitutor.language.regard`, which judge how texts speak of people, are here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..modes import evaluating
from ..options import Count, checked
from .equality import Equality
from .inputs import (
    as_list,
    as_words,
    check_range,
    check_vocabulary,
    context_length,
    ids_of,
    leading_tokens,
    longest_input,
    next_token_scores,
    tokenizer_of,
)
from .regard import LABELS, Regard, Scorer, Valence, regard_shares

__all__ = [
    "LABELS",
    "Regard",
    "Scorer",
    "Valence",
    "fairness_gap",
    "next_word_distance",
    "perplexity",
    "phrase_probabilities",
    "regard_shares",
    "text_perplexity",
]


def perplexity(
    lm: Any,
    text: str | Sequence[int] | Tensor,
    tokenizer: Any = None,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 4,
) -> float:
    """exp of the mean negative log-likelihood of a text's tokens, by a sliding window.

    The text is read as its tokenizer encodes it, with the special tokens that the model knows from its
    training, such as <bos>. Every token but the first is predicted once, from at least
    ``window - stride + 1`` tokens before it, or from all of them if there are fewer. Special tokens in
    front of the text stand in front of each window, and count as its first tokens.

    Parameters
    ----------
    lm : causal language model
        Called as ``lm(input_ids=..., attention_mask=...).logits``, ``(B, T, V)``.
    text : str, or ``(N,)`` ids
        Ids may begin with the tokenizer's special tokens, as the ids of a string do.
    tokenizer : optional
        Default: ``lm.tokenizer``. Ids do without one.
    window : int, optional
        Tokens that the model reads at a time. Default: the context length that its config states. It
        may be longer if the model computes its positions, as with rotary ones.
    stride : int, optional
        How many tokens the window moves at a time. Default: half of the window.
    batch_size : int
        Windows per forward pass; it does not change the result.

    Raises
    ------
    ValueError
        The text has fewer than two tokens, the window is longer than the model can read, or the
        stride is longer than the window without the special tokens in front.
    TypeError, ValueError
        The model does not score the next token.
    """
    ids, front = _text_ids(lm, text, tokenizer)
    window, stride = _window(lm, window, stride, front)
    batch_size = checked("batch_size", Count, batch_size)
    predicted = len(ids) - 1
    window = min(window, predicted)
    # The last window is moved back to end with the text; `first` is its first token not yet counted.
    last = predicted - window
    begins = [min(begin, last) for begin in range(0, max(1, last + stride), stride)]
    done, total = 0, torch.zeros((), dtype=torch.float64)
    with evaluating(lm), torch.no_grad():
        for i in range(0, len(begins), batch_size):
            part = begins[i : i + batch_size]
            rows = [torch.cat([ids[:front], ids[b + front : b + window]])[:window] for b in part]
            logits = next_token_scores(lm, torch.stack(rows))  # (B, window, V)
            for begin, scores in zip(part, logits, strict=True):
                first = done - begin
                target = ids[begin + first + 1 : begin + window + 1].to(scores.device)
                scores = scores[first:]  # (tokens not yet counted, V)
                # Half precision is too coarse for the log of a softmax over a vocabulary.
                scores = scores if scores.dtype == torch.float64 else scores.float()
                losses = cross_entropy(scores, target, reduction="none")
                total += losses.double().sum().cpu()
                done = begin + window
    return math.exp(total / predicted)


def phrase_probabilities(
    lm: Any, context: str, phrases: Sequence[str], tokenizer: Any = None
) -> dict[str, float]:
    """P(phrase | context) of each phrase, exactly: from the model's scores, without sampling.

    A phrase's probability is the product over its tokens, in float64. A blank separates phrase and
    context. Before the context stand the tokenizer's special tokens, such as <bos>.

    Raises
    ------
    TypeError, ValueError
        The context or a phrase is no text or empty, both are longer than the model can read, or the model does
        not score the next token.
    """
    tokenizer = tokenizer_of(lm, tokenizer)
    phrases = as_list(phrases)
    own = ids_of(tokenizer, context)
    after = _continuation_ids(tokenizer, phrases, "phrases")
    if not own or not phrases or not all(after):
        raise ValueError("the context and every phrase need at least one token")
    before = leading_tokens(tokenizer) + own
    width = max(map(len, after))
    rows = torch.tensor(
        [before + row + [before[0]] * (width - len(row)) for row in after]
    )  # (N, T)
    real = torch.arange(rows.shape[1]) < torch.tensor([[len(before) + len(row)] for row in after])
    with evaluating(lm), torch.no_grad():
        scores = next_token_scores(lm, rows, real.long())[:, len(before) - 1 : -1]
    scores = scores.cpu().double().log_softmax(-1)
    each = scores.gather(-1, rows[:, len(before) :, None])[..., 0]  # (N, width)
    total = (each * real[:, len(before) :]).sum(-1).exp()
    return dict(zip(phrases, total.tolist(), strict=True))


def text_perplexity(
    lm: Any,
    contexts: Sequence[str],
    texts: Sequence[str],
    tokenizer: Any = None,
    batch_size: int = 16,
) -> float:
    """exp of the mean negative log-likelihood of the tokens with which texts go on after their contexts.

    How fluent texts are that another model has written, as this one sees it.

    Parameters
    ----------
    lm : causal language model
    contexts, texts : N strings each
        Each text begins with its context. Texts that end with it say nothing, and are left out.
    tokenizer : optional
        Default: ``lm.tokenizer``. Before each text stand its special tokens, such as <bos>.
    batch_size : int
        Texts read at a time.

    Raises
    ------
    ValueError
        A text does not begin with its context, none goes on after it, there are not as many texts as contexts,
        or a text is longer than the model can read.
    """
    tokenizer = tokenizer_of(lm, tokenizer)
    batch_size = checked("batch_size", Count, batch_size)
    contexts, texts = as_list(contexts), as_list(texts)
    if len(contexts) != len(texts):
        raise ValueError(
            f"there are {len(contexts)} contexts but {len(texts)} texts: give each its own"
        )
    front = leading_tokens(tokenizer)
    rows: list[tuple[list[int], int]] = []  # ids, and the place of the first one that counts
    for context, text in zip(contexts, texts, strict=True):
        if not text.startswith(context):
            raise ValueError(f"the text {text!r} does not begin with its context {context!r}")
        own = tokenizer.encode(context, add_special_tokens=False)
        whole = tokenizer.encode(text, add_special_tokens=False)
        same = next(
            (i for i, (a, b) in enumerate(zip(own, whole, strict=False)) if a != b), len(own)
        )
        if len(whole) > same and len(front) + same > 0:
            rows.append((front + whole, len(front) + same))
    if not rows:
        raise ValueError("no text goes on after its context")
    rows.sort(key=lambda row: len(row[0]))
    total, count = 0.0, 0
    with evaluating(lm), torch.no_grad():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            width = max(len(ids) for ids, _ in part)
            ids = torch.tensor([row + [row[0]] * (width - len(row)) for row, _ in part])  # (B, T)
            place, ends = torch.arange(width), torch.tensor([[len(row)] for row, _ in part])
            firsts = torch.tensor([[first] for _, first in part])
            scores = next_token_scores(lm, ids, (place < ends).long())[:, :-1].cpu().float()
            losses = cross_entropy(
                scores.transpose(1, 2), ids[:, 1:], reduction="none"
            )  # (B, T - 1)
            counted = ((place >= firsts) & (place < ends))[:, 1:]
            total += float(losses.double()[counted].sum())
            count += int(counted.sum())
    return math.exp(total / count)


def next_word_distance(lm: Any, one: str, other: str, tokenizer: Any = None) -> float:
    """The total variation distance between what a model says next after two texts, from 0 to 1.

    It is the largest difference in the probability of any set of next tokens. No word is moved: for texts of
    which one is the image of the other see :func:`fairness_gap`.

    Raises
    ------
    TypeError, ValueError
        A text is none, has no tokens or is longer than the model can read.
    """
    tokenizer = tokenizer_of(lm, tokenizer)
    front, said = leading_tokens(tokenizer), []
    with evaluating(lm), torch.no_grad():
        for text in (one, other):
            ids = torch.tensor([front + ids_of(tokenizer, text)], dtype=torch.long)
            said.append(next_token_scores(lm, ids)[0, -1].double().softmax(-1).cpu())
    return float((said[0] - said[1]).abs().sum() / 2)


def fairness_gap(
    lm: Any,
    prompts: Sequence[str],
    continuations: Sequence[str] | None = None,
    words: Equality | None = None,
    tokenizer: Any = None,
) -> float:
    """The largest ``|P(g x2 | g x1) - P(x2 | x1)|``: how far the model is from eq. 4 of the AAAI paper.

    Parameters
    ----------
    lm : causal language model or EquiLM
    prompts : list of str
        The texts x1, before which stand the tokenizer's special tokens, such as <bos>.
    continuations : list of str, optional
        The texts x2, each after a blank. Default: every single token.
    words : Equality, optional
        The group. Default: ``lm.words``. For a pretrained model give that of its EquiLM.

    Returns
    -------
    float
        Between 0 and 1, over all prompts, continuations and g.

    Raises
    ------
    TypeError, ValueError
        There are no words, or those of another vocabulary; a text is none, empty or longer than the model can
        read.
    """
    words = getattr(lm, "words", None) if words is None else words
    if words is None:
        raise ValueError("the model has no word lists of its own: give words=equilm.words")
    if not isinstance(getattr(words, "perms", None), Tensor):
        raise TypeError(f"words must be an Equality, as lm.words of an EquiLM; got {words!r}")
    tokenizer = tokenizer_of(lm, tokenizer)
    every_token = continuations is None
    after = (
        [[]]
        if continuations is None
        else _continuation_ids(tokenizer, continuations, "continuations")
    )
    before = [ids_of(tokenizer, prompt) for prompt in as_list(prompts)]
    if not before or not all(before) or not after or not (every_token or all(after)):
        raise ValueError("give one or more prompts and continuations, each of at least one token")
    front, perms, gap = leading_tokens(tokenizer), words.perms.cpu(), 0.0
    with evaluating(lm), torch.no_grad():
        for start, rest in product(before, after):
            ids = front + start + rest
            check_range(ids, perms.shape[1])
            images = torch.cat([torch.tensor([ids]), perms[:, ids]])  # (1 + |G|, T)
            here, *there = _following(lm, images, len(front + start), perms.shape[1])
            if every_token:
                there = [p[perm] for p, perm in zip(there, perms, strict=True)]
            gap = max([gap, *(float((p - here).abs().max()) for p in there)])
    return gap


def _following(lm: Any, ids: Tensor, start: int, size: int) -> Tensor:
    """P of each row's tokens from ``start`` on given those before, or of every next token: (R, V)."""
    rows, which = ids.unique(dim=0, return_inverse=True)
    scores = next_token_scores(lm, rows).cpu()
    if scores.shape[-1] != size:
        raise ValueError(
            f"the words are of a vocabulary of {size} tokens, but the model scores {scores.shape[-1]}: give "
            "the words of an EquiLM of this model"
        )
    if ids.shape[1] == start:
        return scores[which, -1].double().softmax(-1)
    each = scores[:, start - 1 : -1].double().log_softmax(-1).gather(-1, rows[:, start:, None])
    return each.sum((1, 2)).exp()[which]


def _window(lm: Any, window: int | None, stride: int | None, front: int) -> tuple[int, int]:
    """Checked, or their defaults. Each window begins with ``front`` special tokens."""
    window = context_length(lm) if window is None else window
    if window is None:
        raise ValueError("the model's config does not say how long its context is: give a window")
    limit = longest_input(lm)
    if window <= front or (limit is not None and window > limit):
        most = "" if limit is None else f" and at most the model's context length, {limit}"
        raise ValueError(f"window must be at least {front + 1}{most}; got {window}")
    stride = max(1, (window - front) // 2) if stride is None else stride
    if not 1 <= stride <= window - front:
        but = f" less the {front} special tokens in front" if front else ""
        raise ValueError(
            f"stride must be between 1 and the window, {window}{but}, or tokens would be left out; "
            f"got {stride}"
        )
    return window, stride


def _continuation_ids(tokenizer: Any, texts: Sequence[str], name: str) -> list[list[int]]:
    """The ids of texts that follow another text after a blank; ValueError for an empty one.

    A tokenizer may put a blank of its own before whatever it encodes, so another text stands there.
    """
    probe, found = ids_of(tokenizer, "0"), []
    for text in as_words(name, texts):
        whole = ids_of(tokenizer, f"0 {text}")
        follows = whole[: len(probe)] == probe
        found.append(whole[len(probe) :] if follows else ids_of(tokenizer, f" {text}"))
    return found


def _text_ids(lm: Any, text: str | Sequence[int] | Tensor, tokenizer: Any) -> tuple[Tensor, int]:
    """Text or ids -> ``(N,)`` long tensor on the CPU, and how many special tokens it begins with."""
    if isinstance(text, str):
        tokenizer = tokenizer_of(lm, tokenizer)
        text = tokenizer(text, verbose=False)["input_ids"]
    ids = torch.as_tensor(text, device="cpu")
    if ids.numel() and (ids.dim() != 1 or ids.is_floating_point()):
        raise ValueError(
            f"ids must be one-dimensional integers; got {ids.dtype} of shape {tuple(ids.shape)}"
        )
    if len(ids) < 2:
        raise ValueError(
            f"the text has {len(ids)} tokens; at least two are needed, one to predict from and one "
            "to predict"
        )
    check_vocabulary(lm, ids)
    tokenizer = getattr(lm, "tokenizer", None) if tokenizer is None else tokenizer
    front = [] if tokenizer is None else leading_tokens(tokenizer)
    return ids.long(), len(front) if ids[: len(front)].tolist() == front else 0
