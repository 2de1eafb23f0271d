"""Deep Q-learning under a symmetry of states and moves (NeurIPS paper), with stable-baselines3's DQN.

An agent learns plainly, on starts of one side; then its Q-network is put under each weighting of its views,
tried at once on turned starts, and trained on. Beside these stand two ways to learn a symmetry from data:
the remembered moves are mirrored, or games start on all sides. One cell is one world x method x seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from ..options import Choice, Count, Natural, Range, Rate, Seeds, Share
from ..store import checkpoints
from ..testing import equivariance_error
from ..worlds import WORLDS, best_return
from .agents import FROM_DATA, copies, learn, make_agent, mirror, play, train_weights, wrap
from .config import BaseConfig, Cell, product
from .runner import run

__all__ = ["METHODS", "Config", "prepare", "pretrain", "revive", "run", "run_cell"]

#: What is done with the pretrained agent: left plain; wrapped; left plain with mirrored memories or with
#: games that start on all sides.
METHODS = ("none", "equitune", "equizero", "lambda", "mirrored", "all sides")
CHECKS = 20  # measurements while learning plainly: the best network is kept beside the last


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a Q-learning experiment runs. The first three fields span the table.

    Moves are counted over all copies of a world.

    Attributes
    ----------
    worlds : of :data:`equitutor.worlds.WORLDS`
    methods, seeds : of METHODS, and the repetitions, each with an agent of its own
    moves : of the plain learning
    copies : games that are played at once
    hidden : widths of the Q-network's hidden layers
    lr, batch_size, memory, discount : of the updates (Adam), and the moves that are remembered
    learning_starts : random moves before the first update
    train_every, updates : rounds of moves, and the updates that follow; -1: one for each round
    target_every : moves between copies of the network into the target
    explore : the part of the learning in which the share of random moves falls from 1, and that share then
    lambda_moves : with lambda alone trained
    tune_moves, tune_lr : of training on; networks that learn the symmetry from data go on with ``lr``, and for
        ``|G|`` times the moves, after which they have made as many passes as the wrapped ones
    games : games of a measurement
    checks : measurements while training on
    """

    spans = ("worlds", "methods", "seeds")

    worlds: Annotated[tuple[str, ...], Choice(WORLDS)] = ("grid", "grid d4")
    methods: Annotated[tuple[str, ...], Choice(METHODS)] = METHODS
    seeds: Seeds = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    moves: Natural = 12_000
    copies: Count = 8
    hidden: Annotated[tuple[int, ...], Range(1)] = (128, 128)
    lr: Rate = 2e-3
    batch_size: Count = 64
    memory: Count = 50_000
    discount: Share = 0.95
    learning_starts: Natural = 500
    train_every: Count = 1
    updates: Annotated[int, Range(-1)] = 4
    target_every: Count = 200
    explore: Annotated[tuple[float, float], Range(0, 1)] = (0.5, 0.05)
    lambda_moves: Natural = 2000
    tune_moves: Natural = 2000
    tune_lr: Rate = 2e-4
    games: Count = 50
    checks: Count = 5

    @classmethod
    def quick(cls) -> Config:
        """The gridworld, one seed, trained live: under a minute on a laptop's CPU."""
        return cls(worlds=("grid",), seeds=(0,), lambda_moves=1000, tune_moves=1000)

    @classmethod
    def paper(cls) -> Config:
        """The gridworld under its turns, and under mirror images too, ten seeds: half an hour on a CPU."""
        return cls()

    @classmethod
    def cartpole(cls) -> Config:
        """CartPole with the settings of RL Baselines3 Zoo, ten seeds: half an hour on a CPU."""
        return cls(
            worlds=("CartPole-v1",),
            moves=50_000,
            copies=1,
            hidden=(256, 256),
            lr=2.3e-3,
            memory=100_000,
            discount=0.99,
            learning_starts=1000,
            train_every=256,
            updates=128,
            target_every=10,
            explore=(0.16, 0.04),
            lambda_moves=5000,
            tune_moves=5000,
            tune_lr=2.3e-4,
            games=20,
        )

    @classmethod
    def acrobot(cls) -> Config:
        """Acrobot with the settings of RL Baselines3 Zoo, ten seeds: two hours on a CPU."""
        return cls(
            worlds=("Acrobot-v1",),
            moves=100_000,
            copies=1,
            hidden=(256, 256),
            lr=6.3e-4,
            batch_size=128,
            discount=0.99,
            learning_starts=0,
            train_every=4,
            updates=-1,
            target_every=250,
            explore=(0.12, 0.1),
            lambda_moves=5000,
            tune_moves=5000,
            tune_lr=6.3e-5,
            games=20,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < self.copies:
            raise ValueError(
                f"memory must hold a move of each of the {self.copies} copies, got {self.memory}"
            )
        if self.updates == 0:
            raise ValueError("updates must be -1 or at least 1, got 0")

    def cells(self) -> list[Cell]:
        """The key of every cell of the table."""
        return product(world=self.worlds, method=self.methods, seed=self.seeds)

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        return () if cell["method"] == "lambda" else ("lambda_moves",)


_MEMORY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def pretrain(config: Config, world: str, seed: int) -> dict[str, Tensor]:
    """What plain learning leaves behind, kept in the cache folder.

    The Q-network's state_dict at the end ("last.") and where it did best on its side ("best."), and the
    remembered moves ("memory."). Worlds that differ in their symmetry alone share it.
    """
    left_out = {"worlds", "methods", "seeds", "lambda_moves", "tune_moves", "tune_lr", "checks"}
    recipe = {k: v for k, v in vars(config).items() if k not in left_out}
    env = str(WORLDS[world].env)
    recipe |= {"env": env, "seed": seed, "best_of": CHECKS}

    def make() -> dict[str, Tensor]:
        agent = make_agent(config, WORLDS[world], seed)
        best, score = agent.q_net.state_dict(), -math.inf

        def watch(_: int) -> None:
            nonlocal best, score  # learning fluctuates: keep the network that did best on its side
            found = play(agent, WORLDS[world], config.games, "learned", 2000 + seed).mean()
            if found >= score:
                score = found
                best = {name: value.clone() for name, value in agent.q_net.state_dict().items()}

        learn(agent, config.moves, CHECKS, watch)
        buffer = agent.replay_buffer
        last = agent.q_net.state_dict()
        state = {f"last.{k}": v for k, v in last.items()} | {
            f"best.{k}": v for k, v in best.items()
        }
        rows = buffer.size()
        return state | {f"memory.{k}": torch.tensor(getattr(buffer, k)[:rows]) for k in _MEMORY}

    name = f"dqn-{env.rpartition('/')[2]}-{seed}"
    return checkpoints.kept(name, recipe, make)


def revive(
    config: Config, cell: Mapping[str, Any], checkpoint: str = "best", **changes: Any
) -> Any:
    """The pretrained agent of a cell, its "best" or "last", with its memory and under the cell's method."""
    world, method, seed = WORLDS[cell["world"]], cell["method"], cell["seed"]
    state = pretrain(config, cell["world"], seed)
    starts = "all" if method == "all sides" else "learned"
    quiet = {"exploration_initial_eps": config.explore[1], "learning_starts": 0}
    agent = make_agent(config, world, seed, starts, **(quiet | changes))
    part = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{checkpoint}.")}
    for net in (agent.q_net, agent.q_net_target):
        net.load_state_dict(part)
    buffer = agent.replay_buffer
    rows = len(state["memory.rewards"])
    for name in _MEMORY:
        getattr(buffer, name)[:rows] = state[f"memory.{name}"].numpy()
    buffer.pos, buffer.full = rows % buffer.buffer_size, rows == buffer.buffer_size
    wrap(agent, method, world)
    if method == "mirrored":
        mirror(agent, world)
    return agent


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The pretraining of each agent that some cell needs, to be done once."""
    once = {(WORLDS[cell["world"]].env, cell["seed"]): cell for cell in reversed(cells)}
    return [(pretrain, config, c["world"], c["seed"]) for c in reversed(once.values())]


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Wrap, play, learn on, play. The networks are small: everything runs on the CPU.

    Returns
    -------
    dict
        Mean returns. At once, on turned starts and on starts of the side that was learned: ``last`` and
        ``last_side`` of the network at the end of the plain learning, ``at_once`` and ``at_once_side`` of the
        best (of lambda: with lambda alone trained). The best learns on: ``return_at_N`` on turned starts after
        N moves, ``after`` and ``after_side`` in the end; of what learns the symmetry from data, ``passes`` and
        ``passes_side`` after as many passes of the network as the wrapped agents have made by then.
        ``possible``: of the best player, where it is known. ``error``: the relative error of Q(g s) = g Q(s) in the end.
    """
    world, method, seed = WORLDS[cell["world"]], cell["method"], cell["seed"]
    metrics: dict[str, float] = {}
    drawn = 10_000 + 1000 * seed  # the same games for all methods

    def turned() -> float:
        return float(play(agent, world, config.games, "turned", drawn).mean())

    def measure(name: str) -> None:
        metrics[name] = turned()
        metrics[f"{name}_side"] = float(play(agent, world, config.games, "learned", drawn).mean())

    def watch(move: int) -> None:
        metrics[f"return_at_{move}"] = turned()

    for checkpoint, name in (("last", "last"), ("best", "at_once")):
        agent = revive(config, cell, checkpoint)
        if method == "lambda":
            train_weights(agent, config.lambda_moves)
        measure(name)
    seconds = time.perf_counter()
    metrics["return_at_0"] = metrics["at_once"]
    rate = config.lr if method in FROM_DATA else config.tune_lr
    learn(agent, config.tune_moves, config.checks, watch, rate)
    measure("after")
    metrics["train_seconds"] = time.perf_counter() - seconds
    if method in FROM_DATA:
        learn(agent, (len(world.observed.group) - 1) * config.tune_moves)
        measure("passes")
    states = copies(world, "turned", config.games, drawn).reset()
    if cell["world"].startswith("grid"):
        metrics["possible"] = float(np.mean([best_return(state) for state in states]))
    inputs = torch.from_numpy(states)
    metrics["error"] = equivariance_error(agent.q_net, inputs, world.observed, world.valued)
    return metrics
