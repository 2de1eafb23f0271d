"""A small GPT-2 with a tokenizer of whole words, trained on a corpus of known bias."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..environment import generator
from ..store import checkpoints
from .corpus import Bias, make_corpus, vocabulary
from .tokenizer import word_tokenizer

__all__ = ["biased_lm", "small_gpt2", "train_lm"]


def small_gpt2(
    vocab_size: int,
    layers: int = 1,
    width: int = 64,
    heads: int = 2,
    context: int = 32,
    seed: int = 0,
) -> Any:
    """A GPT2LMHeadModel without dropout, randomly initialised by the seed.

    The end of a sentence has the same id as in `word_tokenizer`.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocab_size,
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        n_positions=context,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=width**-0.5 / 2,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def train_lm(
    model: Any,
    tokenizer: Any,
    sentences: Sequence[str],
    steps: int = 2000,
    lr: float = 1e-2,
    batch_size: int = 64,
    seed: int = 0,
) -> list[float]:
    """Train a causal language model on sentences, in place (AdamW, one-cycle schedule).

    Each sentence is a text of its own, from the model's first position to the tokenizer's end of
    sentence; padding after it is ignored. The model thus learns single sentences: take its perplexity
    on those, not on a text of many.

    Returns
    -------
    list of float
        The mean loss of each step, in nats per token.
    """
    if min(steps, batch_size) < 1 or lr <= 0:
        raise ValueError(
            f"steps, batch_size and lr must be positive; got {steps}, {batch_size}, {lr}"
        )
    rows = _rows(tokenizer, sentences, model.config.max_position_embeddings).to(model.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=max(2, steps))
    draw = generator(seed)  # on the CPU: the same rows on every device
    losses = []
    model.train()
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (batch_size,), generator=draw).to(rows.device)]
        real = batch >= 0
        # Ids on padding do not matter: no token before them sees them.
        logits = model(input_ids=batch.clamp(min=0), attention_mask=real.long()).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    model.eval()
    return torch.stack(losses).tolist()


def _rows(tokenizer: Any, sentences: Sequence[str], context: int) -> Tensor:
    """Sentences, each with its end token, as ``(N, T)`` ids; -1 on padding."""
    if isinstance(sentences, str) or not sentences:
        raise ValueError("train_lm needs a list of at least one sentence")
    rows = tokenizer(list(sentences), add_special_tokens=False)["input_ids"]
    width = max(map(len, rows)) + 1
    for sentence, row in zip(sentences, rows, strict=True):
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in row:
            raise ValueError(f"{sentence!r} has a word that the tokenizer does not know")
        if len(row) >= context:
            raise ValueError(
                f"{sentence!r} has {len(row)} tokens; with its end it does not fit into the model's "
                f"context of {context}"
            )
    ends = ([*row, tokenizer.eos_token_id] for row in rows)
    return torch.tensor([row + [-1] * (width - len(row)) for row in ends])


def biased_lm(
    bias: Bias | None = None,
    sentences: int = 100_000,
    steps: int = 8000,
    lr: float = 5e-3,
    batch_size: int = 64,
    seed: int = 0,
    **sizes: int,
) -> tuple[Any, Any]:
    """A small GPT-2 trained on the corpus of a bias, and its tokenizer: trained once, then cached.

    The default model comes with the package; training it takes a minute or two on a CPU.

    Parameters
    ----------
    bias : Bias, optional
        Default: ``Bias()``.
    sentences, steps, lr, batch_size, seed
        As for `make_corpus` and `train_lm`.
    sizes
        As for `small_gpt2`.

    Returns
    -------
    GPT2LMHeadModel on the CPU, PreTrainedTokenizerFast
    """
    bias = Bias() if bias is None else bias
    tokenizer = word_tokenizer(vocabulary())
    model = small_gpt2(len(tokenizer), seed=seed, **sizes)

    def make() -> dict[str, Tensor]:
        train_lm(model, tokenizer, make_corpus(sentences, bias, seed), steps, lr, batch_size, seed)
        return model.transformer.state_dict()  # the output layer is tied to the embedding

    recipe = {"words": vocabulary(), "bias": dataclasses.asdict(bias), "sentences": sentences}
    texts = "\n".join(make_corpus(min(sentences, 1000), bias, seed))  # how all the others are made
    recipe |= {"texts": hashlib.sha256(texts.encode()).hexdigest()[:16]}
    recipe |= {"steps": steps, "lr": lr, "batch_size": batch_size, "seed": seed, "sizes": sizes}
    model.transformer.load_state_dict(checkpoints.kept("biased-lm", recipe, make))
    return model, tokenizer
