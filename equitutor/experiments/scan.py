"""Compositional generalisation on SCAN (AAAI paper, Sec. 6.2, Tables 2, 7 and 8).

A plain network is pretrained on commands that leave something out, then equi-tuned; its G- relative
has the symmetry built in and is trained from nothing. One cell of the tables is one task x model x
group x seed.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from ..options import Choice, Count, Natural, Range, Rate, Seeds, Share
from ..sequences.scan_models import GROUPS, MODELS, OWN, plain, shared, tuned
from ..sequences.seq2seq import EquiSeq2Seq, restore
from ..sequences.training import Pairs, Recipe, accuracy, fingerprint, fit, load, moves_exactly
from ..store import checkpoints
from .config import BaseConfig, Cell, Source, distinct, product
from .runner import run

__all__ = ["SPLITS", "TASKS", "Config", "data", "prepare", "pretrain", "recipe", "run", "run_cell"]

#: The tasks of the paper, and SCAN's other splits.
TASKS = ("add_jump", "around_right")
SPLITS = ("turn_left", "jump_around_right", "length")

_GROUPS = sorted({"own", *GROUPS})  # "own": the one that the task asks for


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a SCAN experiment runs. The first four fields span the tables; the rest is common.

    Attributes
    ----------
    tasks : "add_jump", "around_right"; "turn_left", "jump_around_right", "length"; or "mixed_verbs",
        made of around_right's training set, on which the settings of the tuning were chosen
    models : RNN, GRU or LSTM, bare or after G-, Equi (equi-tuned), Zero (equizero), Lambda
    groups : "own" (the one the task asks for), "verb", "dir", "verbs", "verb x dir"
    seeds : the repetitions
    hidden : channels of the encoder, of words and of each direction; the decoder has twice as many
    dropout : of the plain network; the G- networks have none
    validation : share of the training set that is held out
    train_limit, test_limit : number of pairs to use; 0: all. Those of the training set are drawn by
        the seed, those of the test set are the same for all seeds
    pretrain_epochs, pretrain_lr, pretrain_batch : of the plain network (Adam, one-cycle)
    g_epochs, g_lr, g_batch : of the G- networks
    rnn_times : how many times as many epochs, of both, an RNN takes
    tune_steps, tune_lr, tune_batch, weight_decay : of the tuning
    lambda_steps : steps of lambda alone before that, the network frozen
    forcing : share of the sentences that are fed the target (teacher forcing)
    clip : norm of the gradient, of encoder and decoder each
    checks : how often the validation set is looked at while training
    """

    spans = ("tasks", "models", "groups", "seeds")

    tasks: Annotated[tuple[str, ...], Choice(OWN)] = TASKS
    models: Annotated[tuple[str, ...], Choice(MODELS)] = tuple(MODELS)
    groups: Annotated[tuple[str, ...], Choice(_GROUPS)] = ("own", "verb x dir")
    seeds: Seeds = (0, 1, 2)
    hidden: Count = 64
    dropout: Annotated[float, Range(0, 1, "[)")] = 0.1
    validation: Annotated[float, Range(0, 1, "()")] = 0.2
    train_limit: Natural = 0
    test_limit: Natural = 0
    pretrain_epochs: Count = 30
    pretrain_lr: Rate = 2e-3
    pretrain_batch: Count = 128
    g_epochs: Count = 30
    g_lr: Rate = 2e-3
    g_batch: Count = 128
    rnn_times: Count = 2
    tune_steps: Count = 16000
    tune_lr: Rate = 2e-3
    tune_batch: Count = 16
    weight_decay: Annotated[float, Range(0, 10)] = 3e-4
    lambda_steps: Count = 200
    forcing: Share = 0.5
    clip: Annotated[float, Range(0, ends="()")] = 5.0
    checks: Count = 10

    @classmethod
    def quick(cls) -> Config:
        """The plain LSTM, as in ``paper``, and a short tuning on one task, one seed: minutes on a CPU."""
        return cls(
            tasks=("add_jump",),
            models=("LSTM", "EquiLSTM"),
            groups=("own",),
            seeds=(0,),
            test_limit=1000,
            tune_steps=400,
            tune_batch=64,
        )

    @classmethod
    def paper(cls) -> Config:
        """All of Tables 2, 7 and 8, equizero, lambda and the product group: hours on a CPU."""
        return cls()

    def __post_init__(self) -> None:
        super().__post_init__()
        held_out = round(self.validation * self.train_limit)
        if self.train_limit and not 0 < held_out < self.train_limit:
            raise ValueError(
                f"train_limit must leave pairs to train on and to validate with, {self.validation} of "
                f"them; got {self.train_limit}"
            )

    def cells(self) -> list[Cell]:
        """The key of every cell of the tables; a plain network has no group."""
        cells: list[Cell] = []
        for task, model in itertools.product(self.tasks, self.models):
            groups = [OWN[task] if group == "own" else group for group in self.groups]
            groups = ["none"] if MODELS[model][0] == "" else groups
            cells += product(task=[task], group=groups, model=[model], seed=self.seeds)
        return distinct(cells)

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        return {"sentences": (fingerprint, cell["task"])}

    def unused(self, cell: Mapping[str, Any]) -> set[str]:
        kind, net = MODELS[cell["model"]]
        others = tuple(
            {stage for stages in _STAGES.values() for stage in stages} - {*_STAGES[kind]}
        )
        unused = {name for name in vars(self) if name.startswith(others)}
        unused |= set() if net == "RNN" else {"rnn_times"}
        unused |= {"dropout"} if kind == "G-" else set()
        return unused | (set() if "tune" in _STAGES[kind] else {"weight_decay"})


#: The stages of each kind of model; their settings' names begin so.
_STAGES = {
    "": ("pretrain",),
    "G-": ("g_",),
    "Equi": ("pretrain", "tune"),
    "Zero": ("pretrain", "tune"),
    "Lambda": ("pretrain", "tune", "lambda"),
}


# -- data and training ----------------------------------------------------------------------------


def data(config: Config, task: str, seed: int) -> dict[str, Pairs]:
    """{"train", "valid", "test"} of a task."""
    return load(task, seed, config.validation, config.train_limit, config.test_limit)


def recipe(config: Config, stage: str, train: Pairs, cell: str = "LSTM") -> Recipe:
    """How a stage is trained: "pretrain" or "g" of a kind of cell, "lambda" or "tune"."""
    common: dict[str, Any] = {k: getattr(config, k) for k in ("forcing", "clip", "checks")}
    if stage in ("tune", "lambda"):
        steps = config.tune_steps if stage == "tune" else config.lambda_steps
        return Recipe(steps, config.tune_batch, config.tune_lr, config.weight_decay, **common)
    epochs, lr, batch = (getattr(config, f"{stage}_{name}") for name in ("epochs", "lr", "batch"))
    epochs *= config.rnn_times if cell == "RNN" else 1
    return Recipe(epochs * math.ceil(len(train[0]) / batch), batch, lr, **common)


def pretrain(
    config: Config, task: str, cell: str, seed: int, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The plain network's state_dict, from the cache folder or made now, and what is known of it.

    That is the "seconds" it took, and its accuracy on the validation set, "valid", in percent.
    """
    made_by = config.settings({"model": cell}) | {"task": task, "cell": cell, "seed": seed}
    del made_by["test_limit"]
    made_by["sentences"] = fingerprint(task)

    def make() -> dict[str, Tensor]:
        sets = data(config, task, seed)
        torch.manual_seed(seed)
        net = plain(cell, config.hidden, config.dropout).to(device)
        start = time.perf_counter()
        title = f"pretrain {cell} on {task}, seed {seed}"
        how = recipe(config, "pretrain", sets["train"], cell)
        valid = fit(net, sets, how, seed, device=device, title=title)
        told = {"seconds": time.perf_counter() - start, "valid": valid}
        state = {key: value.cpu() for key, value in net.state_dict().items()}
        return {**state, **{key: torch.tensor(value) for key, value in told.items()}}

    state = dict(checkpoints.kept(f"scan-{task}-{cell}-{seed}", made_by, make))
    return state, {name: state.pop(name).item() for name in ("seconds", "valid")}


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The pretrainings that some cells need, each to be done once."""
    needed = [(c["task"], *MODELS[c["model"]], c["seed"]) for c in cells]
    once = dict.fromkeys((task, cell, seed) for task, kind, cell, seed in needed if kind != "G-")
    return [(pretrain, config, *which, device) for which in once]


# -- one cell -------------------------------------------------------------------------------------


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Train or tune one model and measure it.

    Returns
    -------
    dict
        ``val_accuracy`` and ``test_accuracy`` in percent of whole sentences; ``equivariant``, the
        number of the ``test_commands`` x for which the output of g x is g times that of x for all
        g of the cell's group (of the task's for a plain model); ``train_seconds``. For tuned models
        also ``pretrain_seconds``, ``zero_shot_val`` and ``zero_shot_test`` before tuning (of Lambda:
        with lambda alone trained) and ``test_at_N`` after N steps. Of whole sequences decoded separately,
        Equi has the accuracy of their mean, after tuning (``apart_val``, ``apart_test``), and Zero
        that of the most confident one, before tuning (``best_val``, ``best_test``).
    """
    task, seed = cell["task"], cell["seed"]
    kind, net = MODELS[cell["model"]]
    sets = data(config, task, seed)
    torch.manual_seed(seed)
    metrics: dict[str, float] = {}
    if kind == "":
        state, known = pretrain(config, task, net, seed, device)
        metrics |= {"train_seconds": known["seconds"], "val_accuracy": known["valid"]}
        model = plain(net, config.hidden, config.dropout).to(device)
        restore(model, state)
    elif kind == "G-":
        model = shared(net, cell["group"], config.hidden).to(device)
        start = time.perf_counter()
        how = recipe(config, "g", sets["train"], net)
        metrics["val_accuracy"] = fit(model, sets, how, seed, device=device, title=_title(cell))
        metrics["train_seconds"] = time.perf_counter() - start
    else:
        model, metrics = _tune(config, cell, sets, device)
    symmetry = GROUPS[OWN[task] if kind == "" else cell["group"]]
    exact = moves_exactly(model, symmetry, sets["test"][0], device)
    metrics["equivariant"], metrics["test_commands"] = int(exact.sum()), len(exact)
    return {**metrics, "test_accuracy": accuracy(model, sets["test"], device)}


def _tune(
    config: Config, cell: dict, sets: dict[str, Pairs], device: torch.device | str
) -> tuple[EquiSeq2Seq, dict[str, float]]:
    """A pretrained network made equivariant and tuned; what was measured on the way."""
    kind, net = MODELS[cell["model"]]
    state, known = pretrain(config, cell["task"], net, cell["seed"], device)
    metrics = {"pretrain_seconds": known["seconds"]}
    base = plain(net, config.hidden, config.dropout).to(device)
    restore(base, state)
    model = tuned(kind, base, cell["group"]).to(device)

    def measure(name: str, **how: str) -> None:
        metrics[f"{name}_val"] = accuracy(model, sets["valid"], device, **how)
        metrics[f"{name}_test"] = accuracy(model, sets["test"], device, **how)

    seconds = 0.0
    common: dict[str, Any] = {"device": device, "title": _title(cell)}
    if kind == "Lambda":
        start = time.perf_counter()
        base.requires_grad_(False)
        fit(model, sets, recipe(config, "lambda", sets["train"]), cell["seed"], **common)
        base.requires_grad_(True)
        seconds += time.perf_counter() - start
    measure("zero_shot")
    if kind == "Zero":
        measure("best", apart="best")
    metrics["test_at_0"] = metrics["zero_shot_test"]
    watching = 0.0

    def watch(step: int) -> None:
        nonlocal watching
        start = time.perf_counter()
        metrics[f"test_at_{step}"] = accuracy(model, sets["test"], device)
        watching += time.perf_counter() - start

    start = time.perf_counter()
    how = recipe(config, "tune", sets["train"])
    metrics["val_accuracy"] = fit(model, sets, how, cell["seed"], watch=watch, **common)
    # The curve on the test set is for the reader; no choice is made by it and no time counted.
    metrics["train_seconds"] = seconds + time.perf_counter() - start - watching
    if kind == "Equi":
        measure("apart", apart="mean")
    return model, metrics


def _title(cell: dict) -> str:
    return " ".join(str(value) for value in cell.values())
