"""Worlds to act in, each with a joint symmetry of its states and its moves.

A world is a batch of independent copies that restart automatically. Its symmetry is a pair of actions
of one group, g s on the observations and g a on the values of the moves, under which the world behaves
the same: from g s the move g a leads to g s', with the same reward (see :func:`check_symmetry`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from .actions import Action, Permutation
from .environment import generator
from .groups import FiniteGroup, cyclic, dihedral
from .representations import MatrixAction
from .rotations import Rotations

__all__ = ["WORLDS", "Control", "Gridworld", "Step", "check_symmetry", "make_world", "moves"]

#: The moves of the gridworld, in the order of the quarter turns: up, left, down, right.
MOVES = torch.tensor([(-1, 0), (0, -1), (1, 0), (0, 1)])


@dataclass
class Step:
    """The outcome of a move.

    Attributes
    ----------
    after : (B, ...) observations, before any restart
    reward : (B,)
    ended : (B,) bool, whether the game was won or lost: nothing of value follows
    cut : (B,) bool, whether only the time ran out
    """

    after: Tensor
    reward: Tensor
    ended: Tensor
    cut: Tensor


def moves(action: Rotations) -> Permutation:
    """How the elements that turn or mirror a grid permute its four moves."""
    cells = (1 + MOVES) @ torch.tensor(
        [3, 1]
    )  # where each move leads from the centre of 3 x 3 cells
    grids = torch.nn.functional.one_hot(cells, 9).reshape(4, 1, 3, 3)
    images = action.views(grids).flatten(1).argmax(1).unflatten(0, (-1, 4))  # (|G|, 4) cells
    return Permutation(action.group, (images[..., None] == cells).int().argmax(-1))


class Gridworld:
    """A square of cells with pits: reach the goal by steps up, left, down and right.

    Observations are (B, 3, d, d) pictures of the agent, the goal and the pits. A step costs 0.1, the
    goal brings 1, a pit costs 1; both end the game. A step against the border leaves the agent where
    it is.

    Parameters
    ----------
    copies : int
        How many are played at once.
    side : bool
        Where games start. True, as while learning: the goal is to the right of the agent, at least
        half the grid away. False: the same start after one of the four quarter turns.
    seed, size, pits : int
    limit : int
        The number of moves after which the time is up.
    """

    def __init__(
        self,
        copies: int,
        side: bool = True,
        seed: int = 0,
        size: int = 7,
        pits: int = 4,
        limit: int = 20,
    ):
        if size < 3 or pits < 0 or pits > size:
            raise ValueError(f"size must be 3 or more and pits 0 to size; got {size}, {pits}")
        self.size, self.pits, self.limit, self.side = size, pits, limit, side
        self.draw = generator(seed)
        self.values, self.copies = 4, copies
        self.grid = self._starts(copies)
        self.clock = torch.zeros(copies, dtype=torch.long)

    def _starts(self, count: int) -> Tensor:
        """Observations of new games, (count, 3, d, d)."""
        d = self.size
        half = d // 2
        rows = torch.randint(d, (2, count), generator=self.draw)
        left = torch.randint(half, (count,), generator=self.draw)
        gap = torch.randint(d - half, (count,), generator=self.draw) % (d - half - left)
        agent, goal = rows[0] * d + left, rows[1] * d + left + half + gap
        every = torch.arange(count)
        flat = torch.zeros(count, 3, d * d)
        flat[every, 0, agent] = flat[every, 1, goal] = 1
        rank = torch.rand(
            count, d * d, generator=self.draw
        )  # pits are on the cells of highest rank
        rank[every, agent] = rank[every, goal] = -1
        flat[:, 2].scatter_(1, rank.topk(self.pits).indices, 1.0)
        grid = flat.unflatten(2, (d, d))
        if self.side:
            return grid
        turns = torch.randint(4, (count,), generator=self.draw).tolist()
        return torch.stack([x.rot90(k, (-2, -1)) for x, k in zip(grid, turns, strict=True)])

    def observe(self) -> Tensor:
        """The observations of all copies."""
        return self.grid.clone()

    def place(self, observations: Tensor) -> None:
        """Put every copy into the state with the given observation."""
        self.grid = observations.clone()
        self.clock = torch.zeros(len(observations), dtype=torch.long)

    def keep(self, rows: Tensor) -> None:
        """Continue only the copies where ``rows``, (copies,) bool, is True."""
        self.grid, self.clock = self.grid[rows], self.clock[rows]
        self.copies = len(self.grid)

    def step(self, chosen: Tensor) -> Step:
        """Make the chosen moves, (copies,), and restart the games that are over."""
        every = torch.arange(self.copies)
        cell = self.grid[:, 0].flatten(1).argmax(1)
        target = torch.stack([cell // self.size, cell % self.size], 1) + MOVES[chosen]
        row, column = target.clamp(0, self.size - 1).unbind(1)
        after = self.grid.clone()
        after[:, 0] = 0
        after[every, 0, row, column] = 1
        goal, pit = (after[every, channel, row, column] > 0 for channel in (1, 2))
        reward = -0.1 + 1.1 * goal - 0.9 * pit
        self.clock += 1
        ended = goal | pit
        cut = ~ended & (self.clock >= self.limit)
        self.grid = after.clone()
        over = ended | cut
        if bool(over.any()):
            self.grid[over] = self._starts(int(over.sum()))
            self.clock[over] = 0
        return Step(after, reward, ended, cut)


class Control:
    """Gymnasium's CartPole or Acrobot, with the methods of :class:`Gridworld`.

    Parameters
    ----------
    name : "CartPole-v1" or "Acrobot-v1"
    copies : int
        How many are played at once.
    side : bool
        Where games start. True, as while learning: pushed to one side. False: to either side.
    """

    def __init__(self, name: str, copies: int, side: bool = True, seed: int = 0):
        self.envs = [gymnasium.make(name).unwrapped for _ in range(copies)]
        self.limit = gymnasium.spec(name).max_episode_steps
        self.values, self.copies, self.side = int(self.envs[0].action_space.n), copies, side
        self.name, self.draw = name, np.random.default_rng(seed)
        for env in self.envs:
            env.reset(seed=operator.index(seed))
            self._start(env)
        self.clock = torch.zeros(copies, dtype=torch.long)

    def _start(self, env: Any) -> None:
        """A new game: the pole leans and falls, or the lower arm swings, to one side."""
        env.reset()
        state = self.draw.uniform(0.0, {"CartPole-v1": 0.12, "Acrobot-v1": 0.5}[self.name], 4)
        env.state = state if self.side or self.draw.random() < 0.5 else -state

    def _observation(self, env: Any) -> np.ndarray:
        state = env.state if self.name == "CartPole-v1" else env._get_ob()
        return np.asarray(state, dtype=np.float32)

    def observe(self) -> Tensor:
        return torch.from_numpy(np.stack([self._observation(env) for env in self.envs]))

    def place(self, observations: Tensor) -> None:
        for env, x in zip(self.envs, observations.double().numpy(), strict=True):
            env.reset()
            if self.name == "CartPole-v1":
                env.state = x.copy()
            else:  # cos, sin, cos, sin, and two velocities
                env.state = np.array([np.arctan2(x[1], x[0]), np.arctan2(x[3], x[2]), x[4], x[5]])
        self.clock = torch.zeros(self.copies, dtype=torch.long)

    def keep(self, rows: Tensor) -> None:
        self.envs = [env for env, stays in zip(self.envs, rows.tolist(), strict=True) if stays]
        self.clock, self.copies = self.clock[rows], len(self.envs)

    def step(self, chosen: Tensor) -> Step:
        after, reward, dones = [], [], []
        self.clock += 1
        for i, (env, a) in enumerate(zip(self.envs, chosen.tolist(), strict=True)):
            _, r, done, *_ = env.step(a)
            after.append(self._observation(env))
            reward.append(float(r))
            dones.append(done)
            if done or self.clock[i] >= self.limit:
                self._start(env)
        ended = torch.tensor(dones)
        cut = ~ended & (self.clock >= self.limit)
        self.clock[ended | cut] = 0
        return Step(torch.from_numpy(np.stack(after)), torch.tensor(reward), ended, cut)


# -- the symmetries -------------------------------------------------------------------------------


def _reflection(signs: list[int], swap: list[int]) -> tuple[Action, Permutation]:
    """C2 multiplies the state by signs and permutes the moves."""
    matrices = torch.stack([torch.eye(len(signs)), torch.diag(torch.tensor(signs).float())])
    return MatrixAction(cyclic(2), matrices), Permutation(cyclic(2), {"r": swap})


def _grid(group: FiniteGroup) -> tuple[Action, Permutation]:
    turns = Rotations(group)
    return turns, moves(turns)


#: Each world's name, and its symmetry: the actions on observations and on the moves' values.
WORLDS = {
    "grid": lambda: _grid(cyclic(4)),
    "grid d4": lambda: _grid(dihedral(4)),
    "CartPole-v1": lambda: _reflection([-1, -1, -1, -1], [1, 0]),
    "Acrobot-v1": lambda: _reflection([1, -1, 1, -1, -1, -1], [2, 1, 0]),
}


def make_world(name: str, copies: int, side: bool = True, seed: int = 0) -> Gridworld | Control:
    """The world with this name; ValueError if it is not in :data:`WORLDS`."""
    if name not in WORLDS:
        raise ValueError(f"the world must be one of {', '.join(WORLDS)}; got {name!r}")
    if name.startswith("grid"):
        return Gridworld(copies, side, seed)
    return Control(name, copies, side, seed)


def check_symmetry(
    world: Gridworld | Control, observed: Action, valued: Permutation, tolerance: float = 1e-5
) -> None:
    """Raise ValueError unless the world behaves the same when states and moves are moved.

    If the move a leads from the present state s to s', then g a must lead from g s to g s', with the
    same reward and the same end. The world is left as it was.
    """
    if valued.degree != world.values:
        raise ValueError(
            f"the world has {world.values} moves, but the action permutes {valued.degree} values: give "
            "each row of perms one entry per move"
        )
    start = world.observe()
    for a in range(world.values):
        chosen = torch.full((world.copies,), a)
        world.place(start)
        here = world.step(chosen)
        for g, element in enumerate(observed.group):
            world.place(observed.act(g, start))
            there = world.step(valued.perms[g][chosen])
            if not (
                torch.allclose(there.after, observed.act(g, here.after), atol=tolerance)
                and torch.allclose(there.reward, here.reward)
                and torch.equal(there.ended, here.ended)
            ):
                raise ValueError(
                    f"the move {a} from s and its image from {element} s have different outcomes: "
                    "the actions on states and on moves are not a symmetry of this world"
                )
    world.place(start)
