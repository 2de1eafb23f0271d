"""Training and measuring the models of the SCAN experiment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..environment import generator
from ..text import printable
from . import scan_data
from .decoding import decode, decode_apart, loss, same
from .seq2seq import EquiSeq2Seq
from .vocabulary import lengths
from .wordgroups import WordSymmetry

__all__ = ["Pairs", "Recipe", "accuracy", "buckets", "fingerprint", "fit", "load", "moves_exactly"]

Pairs = tuple[Tensor, Tensor]


def load(
    task: str, seed: int, validation: float = 0.2, train_limit: int = 0, test_limit: int = 0
) -> dict[str, Pairs]:
    """{"train", "valid", "test"}, each as (N, T) and (N, S) ids.

    The seed shuffles the training set; the first ``validation``, a share of it, becomes the validation
    set. A limit of 0 is none.
    """
    train, test = _encoded(task)
    rows = _shuffled(len(train[0]), seed)[: train_limit or None]
    held_out = round(validation * len(rows))
    chosen = _shuffled(len(test[0]), 0)[:test_limit] if test_limit else slice(None)
    return {
        "train": (train[0][rows[held_out:]], train[1][rows[held_out:]]),
        "valid": (train[0][rows[:held_out]], train[1][rows[:held_out]]),
        "test": (test[0][chosen], test[1][chosen]),
    }


@lru_cache
def _encoded(task: str) -> tuple[Pairs, Pairs]:
    split = scan_data.load(task)
    return split["train"].encode(), split["test"].encode()


def fingerprint(task: str) -> str:
    """What identifies the sentences of a task by their content: 16 digits of a SHA-256."""
    digest = hashlib.sha256()
    for pair in _encoded(task):
        for ids in pair:
            digest.update(repr(ids.shape).encode() + ids.numpy().tobytes())
    return digest.hexdigest()[:16]


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=generator(seed))


def buckets(sizes: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The rows of each batch of one epoch: similar lengths together, otherwise in random order."""
    order = torch.randperm(len(sizes), generator=generator)
    batches = order[sizes[order].argsort(stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def accuracy(
    model: nn.Module, pairs: Pairs, device: torch.device | str = "cpu", apart: str = ""
) -> float:
    """Percent of the sentences that are answered correctly as a whole.

    Parameters
    ----------
    apart : "", "mean" or "best"
        Decode step by step, or decode each view's whole sequence separately and take their mean or the
        most probable one: see :func:`equitutor.sequences.decoding.decode_apart`.
    """
    source, target = pairs[0].to(device), pairs[1].to(device)
    output = decode_apart(model, source, choose=apart == "best") if apart else decode(model, source)
    return 100 * same(output, target).double().mean().item()


def moves_exactly(
    model: nn.Module, symmetry: WordSymmetry, source: Tensor, device: torch.device | str = "cpu"
) -> Tensor:
    """Whether, for each sentence x, the output of g x is g times that of x, token for token, for all g."""
    source = source.to(device)
    output = decode(model, source)
    exact = torch.ones(len(source), dtype=torch.bool, device=device)
    for g in range(len(symmetry.group)):
        moved = symmetry.read.act(g, source)
        exact &= same(decode(model, moved), symmetry.write.act(g, output))
    return exact.cpu()


@dataclass(frozen=True)
class Recipe:
    """How to train: Adam with a one-cycle schedule.

    Attributes
    ----------
    steps, batch_size : int
    lr : float
        The highest learning rate of the cycle.
    weight_decay : float
    forcing : float
        Share of the sentences that are fed the target, drawn for each sentence, as in the published
        loop over single sentences: one draw per batch would give gradients of the same mean but more
        noise, and save next to nothing here.
    clip : float
        Norm of the gradient, for encoder and decoder separately.
    checks : int
        How many times the validation set is evaluated.
    """

    steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    forcing: float = 0.5
    clip: float = 5.0
    checks: int = 10


def fit(
    model: nn.Module,
    data: dict[str, Pairs],
    recipe: Recipe,
    seed: int,
    *,
    watch: Callable[[int], None] | None = None,
    device: torch.device | str = "cpu",
    title: str = "",
) -> float:
    """Train; leave the model with its best weights on the validation set, return their accuracy in %.

    Parameters with ``requires_grad=False`` stay as they are. ``watch`` is called at each check with
    the number of steps done.
    """
    source, target = data["train"]
    ins, outs = lengths(source), lengths(target)
    draw = generator(seed)
    parts = _encoder_and_rest(model)
    free = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(free, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps)
    checks = {round(recipe.steps * (i + 1) / recipe.checks) for i in range(recipe.checks)}
    best, kept, step = -1.0, {}, 0
    with tqdm(total=recipe.steps, desc=printable(title), unit="step", delay=2, leave=False) as bar:
        while step < recipe.steps:
            for rows in buckets(outs, recipe.batch_size, draw)[: recipe.steps - step]:
                x = source[rows, : int(ins[rows].max())].to(device)
                y = target[rows, : int(outs[rows].max())].to(device)
                forced = torch.rand(len(rows), generator=draw) < recipe.forcing
                model.train()
                optimizer.zero_grad()
                loss(model, x, y, forced.to(device)).backward()
                for part in parts:
                    nn.utils.clip_grad_norm_(part, recipe.clip)
                optimizer.step()
                schedule.step()
                step += 1
                bar.update()
                if step in checks:
                    valid = accuracy(model, data["valid"], device)
                    bar.set_postfix(validation=f"{valid:.1f}", refresh=False)
                    if valid >= best:  # of equals the later one: its learning rate is lower
                        best = valid
                        kept = {k: v.clone() for k, v in model.state_dict().items()}
                    if watch:
                        watch(step)
    model.load_state_dict(kept)
    return best


def _encoder_and_rest(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of the encoder, and all others."""
    net = model.model if isinstance(model, EquiSeq2Seq) else model
    layers = (net.read, net.forward_in, net.forward_on, net.backward_in, net.backward_on)
    encoder = [p for layer in layers for p in layer.parameters()]
    ids = {id(p) for p in encoder}
    return [encoder, [p for p in model.parameters() if id(p) not in ids]]
