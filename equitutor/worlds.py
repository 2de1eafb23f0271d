"""Worlds to act in: environments of gymnasium, each with a joint symmetry of its states and its moves.

The symmetry is a pair of actions of one group, g s on the observations and g a on the moves, under which
the environment behaves the same: if the move a leads from s to s', then g a leads from g s to g s', with
the same reward (see :func:`check_symmetry`). Importing this module registers ``equitutor/Gridworld-v0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from .actionmap import check_same_group
from .actions import Action, Permutation
from .groups import FiniteGroup, cyclic, dihedral
from .options import Count, Seed, checked
from .representations import MatrixAction
from .rotations import Rotations

__all__ = [
    "STARTS",
    "WORLDS",
    "Gridworld",
    "NotSymmetric",
    "World",
    "best_return",
    "check_symmetry",
    "moves",
]

#: The moves of the gridworld, in the order of the quarter turns: up, left, down, right.
MOVES = ((-1, 0), (0, -1), (1, 0), (0, 1))

#: Where games start: on the side that is learned; on that side, moved by any element of the group but the
#: identity; or moved by any element.
STARTS = ("learned", "turned", "all")


def moves(action: Rotations) -> Permutation:
    """How the elements that turn or mirror a grid permute its four moves."""
    cells = torch.tensor(
        [(1 + row) * 3 + 1 + column for row, column in MOVES]
    )  # where each leads from the centre of 3 x 3 cells
    grids = torch.nn.functional.one_hot(cells, 9).reshape(4, 1, 3, 3)
    images = action.views(grids).flatten(1).argmax(1).unflatten(0, (-1, 4))  # (|G|, 4) cells
    return Permutation(action.group, (images[..., None] == cells).int().argmax(-1))


#: The pits of the maze, (row, column): no turn or mirror image of it is the maze itself.
PITS = ((0, 2), (1, 4), (2, 1), (3, 3), (4, 0))


class Gridworld(gymnasium.Env):
    """A maze of cells and pits: reach the goal by steps up, left, down and right.

    Observations are (3, d, d) pictures of the agent, the goal and the pits, 0 or 1. A step costs 0.1; the
    step to the goal earns 1, one into a pit costs 1, and either ends the game. A step against the border
    leaves the agent where it is. Games start anywhere, and the goal is anywhere, but not in a pit.

    Parameters
    ----------
    size : int
        The number d of cells on a side.
    pits : sequence of (row, column)
    """

    def __init__(self, size: int = 5, pits: Sequence[tuple[int, int]] = PITS):
        self.size = checked("size", Count, size)
        self.action_space = gymnasium.spaces.Discrete(4)
        self.observation_space = gymnasium.spaces.Box(0, 1, (3, size, size), np.uint8)
        self.maze = np.zeros((size, size), np.uint8)
        for pit in pits:
            if not all(0 <= x < size for x in pit):
                raise ValueError(f"the pit {pit} is outside of {size} x {size} cells")
            self.maze[pit] = 1
        if self.maze.sum() > size**2 - 2:
            raise ValueError("agent and goal need two cells without a pit")
        self.grid = np.stack([0 * self.maze, 0 * self.maze, self.maze])

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start a game: the first observation, and {}."""
        super().reset(seed=seed)
        free = np.flatnonzero(self.maze == 0)
        self.grid = np.stack([0 * self.maze, 0 * self.maze, self.maze])
        cells = self.np_random.choice(free, 2, replace=False)
        self.grid[:2].reshape(2, -1)[(0, 1), cells] = 1
        return self.grid.copy(), {}

    def place(self, observation: np.ndarray) -> None:
        """Go on from the state with the given observation."""
        self.grid = np.array(observation, np.uint8)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        """Make a move: the observation, the reward, whether the game is over, False, and {}."""
        d, (down, right) = self.size, MOVES[action]
        row, column = divmod(int(self.grid[0].argmax()), d)
        row, column = min(max(row + down, 0), d - 1), min(max(column + right, 0), d - 1)
        self.grid[0] = 0
        self.grid[0, row, column] = 1
        goal, pit = self.grid[1:, row, column].tolist()
        reward = 1.0 if goal else -1.0 if pit else -0.1
        return self.grid.copy(), reward, bool(goal or pit), False, {}


gymnasium.register("equitutor/Gridworld-v0", Gridworld, max_episode_steps=20)


def _by_method(env: Any, observation: np.ndarray) -> None:
    if not hasattr(env, "place"):
        raise ValueError(
            f"{type(env).__name__} has no method place(observation): give World a function "
            "place(env, observation) that puts it into the state with this observation"
        )
    env.place(observation)


@dataclass(frozen=True)
class World:
    """An environment of gymnasium and its symmetry.

    Attributes
    ----------
    env : str or callable
        The name under which it is registered, or what makes one: a class, say. Its observations are
        numpy arrays, and its moves are numbered from 0.
    observed : Action
        The action on observations, (B, ...), of the same group as
    valued : Permutation
        The action on the values of the moves, (B, moves): ``valued.perms[g][a]`` is the move g a.
    place : callable, optional
        ``place(env, observation)`` puts the environment, without its wrappers, into the state with this
        observation. Default: its own method ``place(observation)``.
    start : callable, optional
        From a numpy Generator to the first observation of a game of the side that is learned. Default:
        games start as in the environment itself.

    Raises
    ------
    TypeError
        If one of these is of another kind.
    ValueError
        If the actions are of different groups.
    """

    env: str | Callable[[], gymnasium.Env]
    observed: Action
    valued: Permutation
    # A lambda, as the API page would show the address of a function with a name.
    place: Callable[[Any, np.ndarray], None] = lambda env, observation: _by_method(env, observation)
    start: Callable[[np.random.Generator], np.ndarray] | None = None

    def __post_init__(self) -> None:
        wanted = {
            "observed": (Action, "an Action on observations, such as Rotations(cyclic(4))"),
            "valued": (Permutation, "a Permutation of the values of the moves"),
            "env": (
                str | Callable,
                "a registered name, or what makes an environment: a class, say",
            ),
        }
        for name, (kind, words) in wanted.items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} must be {words}; got {type(value).__name__}")
        check_same_group(self.observed, self.valued)

    def make(self, starts: str = "learned") -> gymnasium.Env:
        """The environment, with games that start as one of :data:`STARTS` says."""
        if starts not in STARTS:
            raise ValueError(f"starts must be one of {', '.join(STARTS)}; got {starts!r}")
        env = gymnasium.make(self.env) if isinstance(self.env, str) else self.env()
        return _Starts(env, self, starts)

    def moved(self, g: int, observation: np.ndarray) -> np.ndarray:
        """g s for one observation s."""
        if not isinstance(observation, np.ndarray):
            raise TypeError(
                f"observations must be numpy arrays, got {type(observation).__name__}: let a wrapper make "
                "them so, such as gymnasium.wrappers.FlattenObservation, and env make the wrapped one"
            )
        return self.observed(g, torch.from_numpy(observation)[None])[0].numpy()


class _Starts(gymnasium.Wrapper):
    """Games start on the side that is learned, moved by an element that is drawn."""

    def __init__(self, env: gymnasium.Env, world: World, starts: str):
        super().__init__(env)
        every = list(range(len(world.observed.group)))
        own = [world.observed.group.identity.index]
        others = [g for g in every if g not in own]
        self.world = world
        self.elements = {"learned": own, "turned": others, "all": every}[starts]
        if not self.elements:
            raise ValueError("starts cannot be turned by a group that has the identity alone")

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        first, info = self.env.reset(seed=seed, options=options)
        draw = self.unwrapped.np_random
        if self.world.start is not None:
            first = self.world.start(draw)
        first = self.world.moved(int(draw.choice(self.elements)), first)
        self.world.place(self.unwrapped, first)
        return first, info


class NotSymmetric(ValueError):
    """An environment that does not have the symmetry it is said to have.

    Attributes
    ----------
    state : the observation s from which it shows
    move : the number of the move a
    element : the name of g
    """

    def __init__(
        self,
        state: np.ndarray,
        move: int,
        element: str,
        image: int,
        what: str,
        chance: bool = False,
    ):
        reason = "the actions on states and moves are not a symmetry of this world"
        if chance:
            reason += (
                ", or what is random in it does not move with g. Both sides have the same random numbers: "
                "draw noise so that g moves it too, for example relative to the move"
            )
        super().__init__(
            f"the move {move} from s and its image, the move {image} from {element} s, differ in {what}: "
            f"{reason}. s is {state.tolist()}"
        )
        self.state, self.move, self.element = state, move, element


def check_symmetry(world: World, states: int = 32, seed: int = 0, tolerance: float = 1e-5) -> None:
    """Raise :class:`NotSymmetric` unless the world behaves the same when states and moves are moved.

    If the move a leads from a state s to s', then g a must lead from g s to g s', with the same reward and
    the same end. It is tried for all g and a in states that random games pass through. In a world with
    chance both sides have the same random numbers, others for each state and move, and these must lead to
    s' and g s': that the two are equally likely is not enough, as it cannot be seen from single steps.

    Parameters
    ----------
    world : World
    states : int
        How many states are tried.
    seed : int
        Of the random games.
    tolerance : float
        Of observations and rewards, absolute.

    Raises
    ------
    ValueError
        If the moves are not numbered from 0, or not as many as the values that are permuted.
    """
    states, seed = checked("states", Count, states), checked("seed", Seed, seed)
    env, perms = world.make(), world.valued.perms
    if not isinstance(env.action_space, gymnasium.spaces.Discrete) or env.action_space.start:
        raise ValueError(
            f"the moves must be numbered from 0, as Discrete(4); got {env.action_space}"
        )
    count = int(env.action_space.n)
    if world.valued.degree != count:
        raise ValueError(
            f"the world has {count} moves, but the action permutes {world.valued.degree} values: give each "
            "row of perms one entry per move"
        )

    def outcome(state: np.ndarray, move: int, chance: int) -> tuple:
        env.reset(seed=chance)
        world.place(env.unwrapped, state)
        after, reward, ended, *_ = env.step(move)
        return after, float(reward), ended

    draw = np.random.default_rng(seed)
    state, ended = env.reset(seed=seed)[0], False
    for _ in range(states):
        if ended:
            state = env.reset(seed=int(draw.integers(2**31)))[0]
        followed = int(draw.integers(count))
        for a in range(count):
            chance = int(draw.integers(2**31))
            after, reward, over = outcome(state, a, chance)
            for g, element in enumerate(world.observed.group):
                image = int(perms[g][a])
                found = outcome(world.moved(g, state), image, chance)
                wanted = world.moved(g, after), reward, over
                if what := _difference(found, wanted, tolerance):
                    others = [outcome(state, a, chance + i) for i in range(1, 9)]
                    by_chance = any(_difference(o, (after, reward, over), 0) for o in others)
                    raise NotSymmetric(state, a, element.name, image, what, by_chance)
            if a == followed:
                following, ended = after, over
        state = following


def _difference(found: tuple, wanted: tuple, tolerance: float) -> str:
    """In what two outcomes of a step, (observation, reward, ended), differ; "" where they agree."""
    (a, reward, over), (b, right, end) = found, wanted
    if not np.allclose(a.astype(float), b.astype(float), rtol=tolerance, atol=tolerance):
        return "the state that follows"
    if not abs(reward - right) <= tolerance:
        return f"the reward ({right:g} and {reward:g})"
    return "" if over == end else "whether the game ends"


# -- the worlds of the book -----------------------------------------------------------------------


def _cart_pole(env: Any, observation: np.ndarray) -> None:
    env.state = observation.astype(float)


def _acrobot(env: Any, x: np.ndarray) -> None:
    """Its observation is the cosine and sine of two angles, and two velocities."""
    env.state = np.array([np.arctan2(x[1], x[0]), np.arctan2(x[3], x[2]), x[4], x[5]], float)


def _leaning(draw: np.random.Generator) -> np.ndarray:
    """Cart and pole are off to the right, and move to the right."""
    return draw.uniform(0, 0.12, 4).astype(np.float32)


def _swinging(draw: np.random.Generator) -> np.ndarray:
    """Both arms hang to one side and swing to it."""
    first, second, *speeds = draw.uniform(0, 0.5, 4)
    angles = [np.cos(first), np.sin(first), np.cos(second), np.sin(second)]
    return np.array([*angles, *speeds], np.float32)


def _grid(group: FiniteGroup) -> World:
    turns = Rotations(group)
    return World("equitutor/Gridworld-v0", turns, moves(turns))


def _mirror(signs: list[int], swap: list[int]) -> tuple[Action, Permutation]:
    """C2 multiplies the state by signs and permutes the moves."""
    matrices = torch.stack([torch.eye(len(signs)), torch.diag(torch.tensor(signs).float())])
    return MatrixAction(cyclic(2), matrices), Permutation(cyclic(2), {"r": swap})


_CART_POLE = _mirror([-1, -1, -1, -1], [1, 0])
_ACROBOT = _mirror([1, -1, 1, -1, -1, -1], [2, 1, 0])
#: The worlds of the book by name: the gridworld under quarter turns, and under mirror images too; CartPole
#: and Acrobot, each with its mirror image.
#:
#: :meta hide-value:
WORLDS = {
    "grid": _grid(cyclic(4)),
    "grid d4": _grid(dihedral(4)),
    "CartPole-v1": World("CartPole-v1", *_CART_POLE, place=_cart_pole, start=_leaning),
    "Acrobot-v1": World("Acrobot-v1", *_ACROBOT, place=_acrobot, start=_swinging),
}


def best_return(observation: np.ndarray) -> float:
    """What the best player of a gridworld earns from a state, (3, d, d): by a shortest path past the pits.

    Where no path leads to the goal, it is what the nearest pit costs.
    """
    goal, pits = observation[1:].astype(bool)
    seen, edge, nearest = set(), [tuple(np.argwhere(observation[0])[0])], None
    for steps in range(-1, goal.size):  # those before the last one
        for cell in edge:
            if goal[cell]:
                return 1.0 - 0.1 * steps
        if nearest is None and any(pits[cell] for cell in edge):
            nearest = steps
        seen |= {*edge}
        around = {
            (row + down, column + right)
            for row, column in edge
            if not pits[row, column]
            for down, right in MOVES
        }
        edge = [c for c in around - seen if min(c) >= 0 and max(c) < len(goal)]
    return -1.0 - 0.1 * (nearest or 0)
