"""Worlds to act in, each with a symmetry of its states and its moves at once.

A world is a batch of independent copies that restart by themselves. Its symmetry is a pair of actions of
one group, g s on the observations and g a on the values of the moves, under which the world behaves
the same: from g s the move g a leads to g s', with the same reward (see :func:`check_symmetry`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from .actions import Action, MatrixAction, Permutation, Rotations
from .groups import FiniteGroup, cyclic, dihedral

__all__ = ["WORLDS", "Control", "Gridworld", "Step", "check_symmetry", "make_world", "moves"]

#: The moves of the gridworld, in the order of the quarter turns: up, left, down, right.
MOVES = torch.tensor([(-1, 0), (0, -1), (1, 0), (0, 1)])


@dataclass
class Step:
    """What a move led to.

    Attributes
    ----------
    after : (B, ...) observations, before any restart
    reward : (B,)
    ended : (B,) bool, whether the goal was reached or the game lost: no value beyond
    cut : (B,) bool, whether only the time was up
    """

    after: Tensor
    reward: Tensor
    ended: Tensor
    cut: Tensor


def moves(action: Rotations) -> Permutation:
    """How the elements that turn or mirror a grid permute its four moves."""
    grids = torch.zeros(4, 1, 3, 3)
    for i, (row, column) in enumerate(MOVES.tolist()):
        grids[i, 0, 1 + row, 1 + column] = 1
    n = len(action.group)
    perms = [
        [int((grids == action.act(g, x)).all((1, 2, 3)).nonzero()) for x in grids] for g in range(n)
    ]
    return Permutation(action.group, perms)


class Gridworld:
    """A square of cells with pits: reach the goal by steps up, left, down and right.

    Observations are (B, 3, d, d) pictures of the agent, the goal and the pits. A step costs 0.1, the
    goal brings 1, a pit costs 1; both end the game. A step against the border leads nowhere.

    Parameters
    ----------
    copies : int
        How many are played at once.
    side : bool
        Where games start: True, the goal is to the right of the agent, half the grid away or more, as
        while learning; False, the same start turned by one of the four quarter turns.
    seed, size, pits, limit : int
        ``limit`` moves, then the time is up.
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
        self.draw = torch.Generator().manual_seed(seed)
        self.values, self.copies = 4, copies
        self.grid = self._starts(copies)
        self.clock = torch.zeros(copies, dtype=torch.long)

    def _starts(self, count: int) -> Tensor:
        d = self.size
        half = d // 2
        rows = torch.randint(d, (2, count), generator=self.draw)
        left = torch.randint(half, (count,), generator=self.draw)
        right = (
            left + half + torch.randint(d - half, (count,), generator=self.draw) % (d - half - left)
        )
        taken = torch.rand(count, d * d, generator=self.draw)
        agent, goal = rows[0] * d + left, rows[1] * d + right
        every = torch.arange(count)
        taken[every, agent] = taken[every, goal] = -1
        flat = torch.zeros(count, 3, d * d)
        flat[every, 0, agent] = flat[every, 1, goal] = 1
        if self.pits:
            flat[:, 2].scatter_(1, taken.topk(self.pits).indices, 1.0)
        grid = flat.unflatten(2, (d, d))
        if self.side:
            return grid
        turns = torch.randint(4, (count,), generator=self.draw).tolist()
        return torch.stack([x.rot90(k, (-2, -1)) for x, k in zip(grid, turns, strict=True)])

    def observe(self) -> Tensor:
        return self.grid.clone()

    def place(self, observations: Tensor) -> None:
        """Put every copy into a state, given by its observation."""
        self.grid = observations.clone()
        self.clock = torch.zeros(len(observations), dtype=torch.long)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the copies only: ``rows``, (copies,) bool."""
        self.grid, self.clock = self.grid[rows], self.clock[rows]
        self.copies = len(self.grid)

    def step(self, chosen: Tensor) -> Step:
        every, last = torch.arange(self.copies), self.size - 1
        cell = self.grid[:, 0].flatten(1).argmax(1)
        to = torch.stack([cell // self.size, cell % self.size], 1) + MOVES[chosen]
        row, column = to.clamp(0, last).unbind(1)
        after = self.grid.clone()
        after[:, 0] = 0
        after[every, 0, row, column] = 1
        goal, pit = (after[every, i, row, column] > 0 for i in (1, 2))
        reward = -0.1 + 1.1 * goal - 0.9 * pit
        self.clock += 1
        ended = goal | pit
        cut = ~ended & (self.clock >= self.limit)
        self.grid = after.clone()
        again = ended | cut
        if bool(again.any()):
            self.grid[again] = self._starts(int(again.sum()))
            self.clock[again] = 0
        return Step(after, reward, ended, cut)


class Control:
    """CartPole or Acrobot of gymnasium.

    Parameters
    ----------
    name : "CartPole-v1" or "Acrobot-v1"
    side : bool
        Where games start: True, pushed to one side, as while learning; False, to either side.
    """

    def __init__(self, name: str, copies: int, side: bool = True, seed: int = 0):
        self.envs = [gymnasium.make(name).unwrapped for _ in range(copies)]
        self.limit = gymnasium.spec(name).max_episode_steps
        self.values, self.copies, self.side = int(self.envs[0].action_space.n), copies, side
        self.name, self.draw = name, np.random.default_rng(seed)
        for env in self.envs:
            env.reset(seed=seed)
            self._start(env)
        self.clock = torch.zeros(copies, dtype=torch.long)

    def _start(self, env: Any) -> None:
        """Pushed: the pole leans and falls, or the lower arm swings, to one side."""
        env.reset()
        low, high = {"CartPole-v1": (0.0, 0.12), "Acrobot-v1": (0.0, 0.5)}[self.name]
        state = np.abs(self.draw.uniform(low, high, 4))
        env.state = state if self.side or self.draw.random() < 0.5 else -state

    def _seen(self, env: Any) -> np.ndarray:
        if self.name == "CartPole-v1":
            return np.asarray(env.state, dtype=np.float32)
        return np.asarray(env._get_ob(), dtype=np.float32)

    def observe(self) -> Tensor:
        return torch.from_numpy(np.stack([self._seen(env) for env in self.envs]))

    def place(self, observations: Tensor) -> None:
        """Put every copy into a state, given by its observation."""
        for env, x in zip(self.envs, observations.double().numpy(), strict=True):
            env.reset()
            if self.name == "CartPole-v1":
                env.state = x.copy()
            else:  # cos, sin, cos, sin, and two velocities
                env.state = np.array([np.arctan2(x[1], x[0]), np.arctan2(x[3], x[2]), x[4], x[5]])
        self.clock = torch.zeros(self.copies, dtype=torch.long)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the copies only: ``rows``, (copies,) bool."""
        self.envs = [env for env, stays in zip(self.envs, rows.tolist(), strict=True) if stays]
        self.clock, self.copies = self.clock[rows], len(self.envs)

    def step(self, chosen: Tensor) -> Step:
        after, reward, ended = [], [], []
        self.clock += 1
        for i, (env, a) in enumerate(zip(self.envs, chosen.tolist(), strict=True)):
            _, r, done, *_ = env.step(a)
            after.append(self._seen(env))
            reward.append(float(r))
            ended.append(done)
            if done or self.clock[i] >= self.limit:
                self._start(env)
        over = torch.tensor(ended)
        cut = ~over & (self.clock >= self.limit)
        self.clock[over | cut] = 0
        return Step(torch.from_numpy(np.stack(after)), torch.tensor(reward), over, cut)


# -- the symmetries -------------------------------------------------------------------------------


def _reflection(signs: list[int], swap: list[int]) -> tuple[Action, Permutation]:
    """C2: some entries of the state change their sign, some moves change places."""
    c2 = cyclic(2)
    eye = torch.eye(len(signs))
    matrices = torch.stack([eye, torch.diag(torch.tensor(signs, dtype=eye.dtype))])
    return MatrixAction(c2, matrices), Permutation(c2, [list(range(len(swap))), swap])


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
    """A world by its name.

    Raises
    ------
    ValueError
        If it is none of :data:`WORLDS`.
    """
    if name not in WORLDS:
        raise ValueError(f"the world must be one of {', '.join(WORLDS)}; got {name!r}")
    if name.startswith("grid"):
        return Gridworld(copies, side, seed)
    return Control(name, copies, side, seed)


def check_symmetry(
    world: Gridworld | Control, observed: Action, valued: Permutation, tolerance: float = 1e-5
) -> None:
    """Raise ValueError unless the world behaves the same when states and moves are moved.

    It is stepped from the states that it is in, s, by all moves a, and from g s by g a: what follows
    must be g s', with the same reward and the same end.
    """
    if valued.degree != world.values:
        raise ValueError(
            f"the world has {world.values} moves, but the action permutes {valued.degree} values: give "
            "perms of as many numbers as there are moves"
        )
    start = world.observe()
    for a in range(world.values):
        chosen = torch.full((world.copies,), a)
        world.place(start)
        here = world.step(chosen)
        for g, element in enumerate(observed.group):
            world.place(observed.act(g, start))
            there = world.step(valued.perms[g][chosen])
            same = torch.allclose(there.after, observed.act(g, here.after), atol=tolerance)
            if not (same and torch.allclose(there.reward, here.reward)) or not torch.equal(
                there.ended, here.ended
            ):
                raise ValueError(
                    f"the move {a} from s and its image from {element} s lead to different things: "
                    "the actions on states and on moves are no symmetry of this world"
                )
    world.place(start)
