"""Deep Q-learning under a symmetry of states and moves (NeurIPS paper).

An agent is pretrained plainly, on starts of one side; then its Q-network is put under each weighting of
its views, tried at once on turned starts, and trained on. One cell is one world x method x seed.
"""

from __future__ import annotations

import copy
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from ..options import Choice, Count, Natural, Range, Rate, Seeds, Share
from ..store import checkpoints
from ..testing import equivariance_error
from ..weights import max_value
from ..worlds import WORLDS, make_world
from .choices import weighted
from .config import BaseConfig, Cell, product
from .runner import run

__all__ = [
    "METHODS",
    "Config",
    "learn",
    "play_games",
    "prepare",
    "pretrain",
    "q_network",
    "run",
    "run_cell",
    "wrapped",
]

METHODS = ("none", "equitune", "equizero", "lambda")


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a Q-learning experiment runs. The first three fields span the table.

    Attributes
    ----------
    worlds : of :data:`equitutor.worlds.WORLDS`
    methods, seeds : of METHODS, and the repetitions, each with an agent of its own
    copies : games that are played at once
    hidden : width of the Q-network
    pretrain_steps, tune_steps, lambda_steps : updates, one for each move of all copies; of lambda
        alone the network is frozen. Of the pretraining the best of 20 measurements is kept
    lr, batch_size, memory : of the updates (Adam), and the moves that are remembered
    discount : of the next move's value
    target_every : updates between copies of the network into the target
    explore : share of random moves, at first and in the end (half-way)
    games : games of a measurement
    checks : measurements while training on
    """

    spans = ("worlds", "methods", "seeds")

    worlds: Annotated[tuple[str, ...], Choice(WORLDS)] = ("grid", "CartPole-v1", "Acrobot-v1")
    methods: Annotated[tuple[str, ...], Choice(METHODS)] = METHODS
    seeds: Seeds = (0, 1, 2, 3, 4)
    copies: Count = 16
    hidden: Count = 64
    pretrain_steps: Natural = 4000
    tune_steps: Natural = 600
    lambda_steps: Natural = 300
    lr: Rate = 1e-3
    batch_size: Count = 64
    memory: Count = 20_000
    discount: Share = 0.95
    target_every: Count = 100
    explore: Annotated[tuple[float, float], Range(0, 1)] = (1.0, 0.05)
    games: Count = 50
    checks: Count = 6

    @classmethod
    def quick(cls) -> Config:
        """The gridworld, one seed, trained live: under a minute on a laptop's CPU."""
        return cls(worlds=("grid",), seeds=(0,), pretrain_steps=2500, tune_steps=300, checks=3)

    @classmethod
    def paper(cls) -> Config:
        """All worlds, five seeds: half an hour on a CPU. (Ten of the gridworld: --worlds grid --seeds ...)"""
        return cls()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < self.copies:
            raise ValueError(
                f"memory must hold a move of each of the {self.copies} copies, got {self.memory}"
            )

    def cells(self) -> list[Cell]:
        """The key of every cell of the table."""
        return product(world=self.worlds, method=self.methods, seed=self.seeds)

    def unused(self, cell: Mapping[str, Any]) -> Iterable[str]:
        return () if cell["method"] == "lambda" else ("lambda_steps",)


# -- networks -------------------------------------------------------------------------------------


def q_network(world: str, hidden: int) -> nn.Sequential:
    """From observations to the value of each move, (B, ...) -> (B, moves).

    Its last hidden layer is the submodule "features".
    """
    single = make_world(world, 1)
    observation = single.observe()
    front = [nn.Flatten(), nn.Linear(observation[0].numel(), 2 * hidden), nn.ReLU()]
    if observation.ndim == 4:  # an image
        d = observation.shape[-1]
        front = [
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.ReLU(),
        ]
        front += [nn.Flatten(), nn.Linear(8 * d * d, 2 * hidden), nn.ReLU()]
    features = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU())
    head = nn.Linear(hidden, single.values)
    return nn.Sequential(OrderedDict(front=nn.Sequential(*front), features=features, head=head))


def wrapped(method: str, net: nn.Sequential, world: str) -> nn.Module:
    """A Q-network under the weighting of this method: Q(g s) = g Q(s)."""
    if method == "none":
        return net
    observed, valued = WORLDS[world]()
    width = net.head.in_features
    return weighted(method, net, observed, valued, loss=max_value, width=width, features="features")


# -- learning -------------------------------------------------------------------------------------


class Memory:
    """The last ``size`` moves, as tensors; the oldest are overwritten."""

    def __init__(self, size: int):
        self.size, self.count = size, 0
        self.parts: list[Tensor] = []

    def add(self, *parts: Tensor) -> None:
        if not self.parts:
            self.parts = [torch.zeros(self.size, *p.shape[1:], dtype=p.dtype) for p in parts]
        rows = torch.arange(self.count, self.count + len(parts[0])) % self.size
        for kept, new in zip(self.parts, parts, strict=True):
            kept[rows] = new
        self.count += len(parts[0])

    def sample(self, count: int, draw: torch.Generator) -> list[Tensor]:
        rows = torch.randint(min(self.count, self.size), (count,), generator=draw)
        return [kept[rows] for kept in self.parts]


def learn(
    net: nn.Module,
    world: str,
    config: Config,
    steps: int,
    seed: int,
    *,
    explore: tuple[float, float] | None = None,
    free: list[nn.Parameter] | None = None,
    watch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Deep Q-learning with a memory and a target network (Mnih et al., 2015), on starts of one side.

    ``free`` are the parameters to learn, default all; ``watch`` is called ``config.checks`` times.
    """
    play = make_world(world, config.copies, True, seed)
    draw = torch.Generator().manual_seed(seed)
    free = list(net.parameters()) if free is None else free
    optimizer = torch.optim.Adam(free, config.lr)
    target, memory = copy.deepcopy(net).eval(), Memory(config.memory)
    first, last = config.explore if explore is None else explore
    state = play.observe()
    net.train()
    for step in range(1, steps + 1):
        chance = first + (last - first) * min(1.0, 2 * step / steps)
        with torch.no_grad():
            chosen = net(state).argmax(1)
        random = torch.randint(play.values, chosen.shape, generator=draw)
        explored = torch.rand(len(chosen), generator=draw) < chance
        chosen = torch.where(explored, random, chosen)
        done = play.step(chosen)
        memory.add(state, chosen, done.reward, done.after, done.ended)
        state = play.observe()
        if memory.count < config.batch_size * 4:
            continue
        before, move, reward, after, ended = memory.sample(config.batch_size, draw)
        with torch.no_grad():  # nothing follows an end; where time was up, the value goes on
            best = target(after).amax(1)
        wanted = reward + config.discount * best * ~ended
        values = net(before).gather(1, move[:, None])[:, 0]
        loss = smooth_l1_loss(values, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(free, 10.0)
        optimizer.step()
        if step % config.target_every == 0:
            target.load_state_dict(net.state_dict())
        if watch and step % max(1, steps // config.checks) == 0:
            net.eval()
            watch(step)
            net.train()
    return net.eval()


@torch.no_grad()
def play_games(
    net: nn.Module, world: str, games: int, side: bool = False, seed: int = 1000
) -> Tensor:
    """The return (sum of rewards) of each game, played greedily: (games,)."""
    net.eval()
    play = make_world(world, games, side, seed)
    total, going = torch.zeros(games), torch.arange(games)
    while len(going):
        done = play.step(net(play.observe()).argmax(1))
        total[going] += done.reward
        on = ~(done.ended | done.cut)
        play.keep(on)
        going = going[on]
    return total


def pretrain(config: Config, world: str, seed: int) -> dict[str, Tensor]:
    """The Q-network's state_dict after plain learning; kept in the cache folder."""
    left_out = {"worlds", "methods", "seeds", "tune_steps", "lambda_steps", "games", "checks"}
    recipe = {k: v for k, v in vars(config).items() if k not in left_out}
    recipe |= {"world": world, "seed": seed, "best_of": 20}

    def make() -> dict[
        str, Tensor
    ]:  # learning fluctuates: keep the agent that did best on its side
        torch.manual_seed(seed)
        net = q_network(world, config.hidden)
        best, kept = -math.inf, net.state_dict()

        def watch(step: int) -> None:
            nonlocal best, kept
            found = play_games(net, world, 20, True, 2000 + seed).mean().item()
            if found >= best:
                best, kept = found, copy.deepcopy(net.state_dict())

        often = replace(config, checks=recipe["best_of"])
        learn(net, world, often, config.pretrain_steps, seed, watch=watch)
        return kept

    return checkpoints.kept(f"dqn-{world.replace(' ', '-')}-{seed}", recipe, make)


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """The pretraining of each agent that some cell needs, to be done once."""
    once = dict.fromkeys((cell["world"], cell["seed"]) for cell in cells)
    return [(pretrain, config, *which) for which in once]


def run_cell(config: Config, cell: dict, device: torch.device | str = "cpu") -> dict[str, float]:
    """Wrap, play, learn on, play. The networks are small: everything runs on the CPU.

    Returns
    -------
    dict
        Mean returns: ``at_once`` on turned starts and ``at_once_side`` on starts of the side that was
        learned, before any training on (of lambda: with lambda alone trained); ``after`` and
        ``after_side``; ``return_at_N`` on turned starts after N updates. ``error``: the relative
        error of Q(g s) = g Q(s) in the end.
    """
    world, seed = cell["world"], cell["seed"]
    base = q_network(world, config.hidden)
    base.load_state_dict(pretrain(config, world, seed))
    torch.manual_seed(seed)
    net = wrapped(cell["method"], base, world).eval()
    seconds = time.perf_counter()
    explore = (config.explore[1], config.explore[1])
    if cell["method"] == "lambda":
        own = list(net.weighting.parameters())
        learn(net, world, config, config.lambda_steps, seed + 100, explore=explore, free=own)
    metrics: dict[str, float] = {}

    def measure(name: str) -> None:
        for where, side in (("", False), ("_side", True)):
            returns = play_games(net, world, config.games, side, 1000 + seed)
            metrics[f"{name}{where}"] = returns.mean().item()

    measure("at_once")
    metrics["return_at_0"] = metrics["at_once"]

    def watch(step: int) -> None:
        found = play_games(net, world, config.games, False, 1000 + seed).mean().item()
        metrics[f"return_at_{step}"] = found

    learn(net, world, config, config.tune_steps, seed + 200, explore=explore, watch=watch)
    measure("after")
    metrics["train_seconds"] = time.perf_counter() - seconds
    observed, valued = WORLDS[world]()
    metrics["error"] = equivariance_error(net, make_world(world, 16).observe(), observed, valued)
    return metrics
