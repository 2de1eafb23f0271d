from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

import equitutor as eq
from equitutor import worlds
from equitutor.worlds import WORLDS, Gridworld, NotSymmetric, World, check_symmetry, moves

UP, LEFT, DOWN, RIGHT = range(4)


def grid(agent, goal, pits=(), size=5):
    x = np.zeros((3, size, size), np.uint8)
    x[(0, *agent)] = x[(1, *goal)] = 1
    for pit in pits:
        x[(2, *pit)] = 1
    return x


def stepped(state, move):
    env = Gridworld(size=state.shape[-1], pits=())
    env.reset(seed=0)
    env.place(state)
    return env.step(move)


@pytest.mark.parametrize("name", WORLDS)
def test_each_world_has_its_symmetry(name):
    check_symmetry(WORLDS[name], states=24, seed=5)


@pytest.mark.parametrize("name", WORLDS)
def test_moves_that_stay_are_none(name):
    group, valued = WORLDS[name].observed.group, WORLDS[name].valued
    still = eq.Permutation(group, [list(range(valued.degree))] * len(group))
    with pytest.raises(NotSymmetric, match="not a symmetry of this world"):
        check_symmetry(replace(WORLDS[name], valued=still))


def test_the_inverse_on_the_moves_is_none():
    """Quarter turns: with C2 this mistake cannot be seen."""
    valued = WORLDS["grid"].valued
    wrong = eq.Permutation(valued.group, valued.perms[valued.group.inverses])
    with pytest.raises(NotSymmetric) as caught:
        check_symmetry(replace(WORLDS["grid"], valued=wrong))
    error = caught.value  # the state and the move show it
    g = valued.group.names.index(error.element)
    here = stepped(error.state, error.move)[0]
    there = stepped(WORLDS["grid"].moved(g, error.state), int(wrong.perms[g][error.move]))[0]
    assert not np.array_equal(there, WORLDS["grid"].moved(g, here))
    assert f"the move {error.move} from s" in str(error) and str(error.state.tolist()) in str(error)


class Taxed(Gridworld):
    def step(self, action):
        after, reward, *rest = super().step(action)
        return after, reward - 0.01 * (action == UP), *rest


class Endless(Gridworld):
    def step(self, action):
        after, reward, ended, *rest = super().step(action)
        return after, reward, ended and action != UP, *rest


@pytest.mark.parametrize(
    ("env", "says"), [(Taxed, r"the reward \(-?[\d.]+ and"), (Endless, "whether the game ends")]
)
def test_a_reward_or_an_end_that_does_not_follow_is_noticed(env, says):
    with pytest.raises(NotSymmetric, match=says):
        check_symmetry(replace(WORLDS["grid"], env=env), states=100)


def test_as_many_moves_as_values():
    swap = eq.Permutation(eq.cyclic(2), [[0, 1, 2], [2, 1, 0]])
    with pytest.raises(ValueError, match="the world has 2 moves, but the action permutes 3 values"):
        check_symmetry(replace(WORLDS["CartPole-v1"], valued=swap))
    with pytest.raises(ValueError, match=r"numbered from 0, as Discrete\(4\); got Box"):
        check_symmetry(replace(WORLDS["CartPole-v1"], env="Pendulum-v1"))


class Walk(gymnasium.Env):
    """A user's own: a walk on a line to +-1, whose noise is part of the symmetry or not."""

    observation_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, wind=0.0):
        self.wind, self.x = wind, np.zeros(1, np.float32)

    def place(self, observation):
        self.x = observation.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.5, 0.5, 1).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action):
        self.x = self.x + np.float32((0.1, -0.1)[action] + self.wind * self.np_random.random())
        return self.x.copy(), -1.0, bool(abs(self.x[0]) > 1), False, {}


def test_a_world_of_ones_own():
    pair = eq.Sign(eq.cyclic(2), [1, -1]), eq.Permutation(eq.cyclic(2), {"r": [1, 0]})
    check_symmetry(World(Walk, *pair))
    with pytest.raises(NotSymmetric, match="the state that follows"):
        check_symmetry(World(lambda: Walk(0.01), *pair))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {"observed": eq.Rotations(eq.dihedral(4))},
            ValueError,
            "must be actions of the same group",
        ),
        ({"observed": eq.Rotations(eq.cyclic(2))}, ValueError, "must be actions of the same group"),
        ({"observed": {"maze": eq.Flip()}}, TypeError, "observed must be an Action .*; got dict"),
        ({"observed": moves}, TypeError, "observed must be an Action .*; got function"),
        (
            {"valued": eq.Trivial(eq.cyclic(4))},
            TypeError,
            "valued must be a Permutation .*; got Tri",
        ),
        (
            {"env": Gridworld()},
            TypeError,
            "env must be .* what makes an environment: .*; got Gri",
        ),
    ],
)
def test_what_is_no_world(changes, error, says):
    with pytest.raises(error, match=says):
        replace(WORLDS["grid"], **changes)


class Elsewhere(gymnasium.Wrapper):
    """A walk whose observations are of another type."""

    def __init__(self, kind):
        super().__init__(Walk())
        self.kind = kind

    def reset(self, **options):
        return self.kind(self.env.reset(**options)[0]), {}


def other_moves():
    walk = Walk()
    walk.action_space = gymnasium.spaces.Discrete(2, start=1)
    return walk


@pytest.mark.parametrize(
    ("env", "error", "says"),
    [
        (lambda: Elsewhere(list), TypeError, "must be numpy arrays, got list: let a wrapper make"),
        (lambda: Elsewhere(lambda x: {"x": x}), TypeError, "must be numpy arrays, got dict"),
        (lambda: Elsewhere(lambda x: 3), TypeError, "must be numpy arrays, got int"),
        ("CartPole-v1", ValueError, r"CartPoleEnv has no method place\(observation\): give"),
        (other_moves, ValueError, r"numbered from 0, as Discrete\(4\); got Discrete\(2, start=1\)"),
    ],
)
def test_what_an_environment_must_have(env, error, says):
    pair = eq.Sign(eq.cyclic(2), [1, -1]), eq.Permutation(eq.cyclic(2), {"r": [1, 0]})
    with pytest.raises(error, match=says):
        check_symmetry(World(env, *pair))


class Gusty(Walk):
    """It blows in a tenth of the steps: to one side, to either, or where the move goes."""

    def __init__(self, gust):
        super().__init__()
        self.gust = gust

    def step(self, action):
        rare, size = self.np_random.random() < 0.1, self.np_random.normal()
        side = {"right": 0.3, "either": 0.3 * size, "along": 0.3 - 0.6 * action}[self.gust]
        self.x = self.x + np.float32(rare * side)
        return super().step(action)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gust", ["right", "either", "along"])
def test_rare_chance_is_seen_whatever_the_seed(gust, seed):
    """And where chance is at work, the refusal says what is asked of it."""
    pair = eq.Sign(eq.cyclic(2), [1, -1]), eq.Permutation(eq.cyclic(2), {"r": [1, 0]})
    world = World(lambda: Gusty(gust), *pair)
    if gust == "along":
        return check_symmetry(world, states=100, seed=seed)
    with pytest.raises(NotSymmetric, match="what is random in it does not move with g"):
        check_symmetry(world, states=100, seed=seed)


def test_turns_of_the_moves_by_hand():
    c4 = moves(eq.Rotations(eq.cyclic(4)))
    assert c4.perms[1].tolist() == [LEFT, DOWN, RIGHT, UP]  # counter-clockwise
    d4 = eq.Rotations(eq.dihedral(4))
    x = torch.arange(9).unflatten(0, (3, 3))
    mirror = next(g for g in range(8) if torch.equal(d4.act(g, x), x.flip(-1)))
    assert moves(d4).perms[mirror].tolist() == [UP, RIGHT, DOWN, LEFT]


@pytest.mark.parametrize(
    ("move", "to"), [(UP, (1, 2)), (LEFT, (2, 1)), (DOWN, (3, 2)), (RIGHT, (2, 3))]
)
def test_a_step(move, to):
    after, reward, ended, *_ = stepped(grid((2, 2), (4, 4)), move)
    assert np.argwhere(after[0]).tolist() == [list(to)]
    assert reward == pytest.approx(-0.1) and not ended


def test_a_border_a_goal_and_a_pit():
    after, _, ended, *_ = stepped(grid((0, 2), (4, 4)), UP)
    assert after[0, 0, 2] == 1 and not ended
    _, reward, ended, *_ = stepped(grid((3, 4), (4, 4)), DOWN)
    assert ended and reward == pytest.approx(1.0)
    _, reward, ended, *_ = stepped(grid((3, 4), (0, 0), [(4, 4)]), DOWN)
    assert ended and reward == pytest.approx(-1.0)


def test_time_is_up():
    env = WORLDS["grid"].make()
    env.reset(seed=0)
    env.unwrapped.place(grid((0, 0), (4, 4)))
    cuts = [env.step(UP)[3] for _ in range(20)]
    assert cuts == [False] * 19 + [True]


def test_starts_of_the_maze():
    maze = Gridworld().maze
    free = set()
    env = WORLDS["grid"].make()
    for i in range(300):
        x, _ = env.reset(seed=i)
        assert env.observation_space.contains(x) and (x[2] == maze).all()
        assert x[:2].sum((1, 2)).tolist() == [1, 1] and (x.sum(0) <= 1).all()
        free |= {int(x[0].argmax())}
    assert free == set(np.flatnonzero(maze.ravel() == 0))
    views = [np.rot90(m, k).tobytes() for m in (maze, maze[:, ::-1]) for k in range(4)]
    assert len(set(views)) == 8  # else some turn of it would not be new


@pytest.mark.parametrize("name", WORLDS)
def test_turned_starts_are_the_same_games_moved(name):
    """By all elements but the identity; "all" has the identity too."""
    world = WORLDS[name]
    order = len(world.observed.group)
    seen = {"learned": set(), "turned": set(), "all": set()}
    for i in range(80):
        x, _ = world.make().reset(seed=i)
        for starts, elements in seen.items():
            env = world.make(starts)
            y, _ = env.reset(seed=i)
            same = [g for g in range(order) if np.array_equal(world.moved(g, x), y)]
            assert len(same) == 1
            elements.add(same[0])
            after, *_ = env.step(0)  # the environment is where it says it is
            env.reset(seed=0)
            world.place(env.unwrapped, y)
            np.testing.assert_allclose(env.step(0)[0], after, atol=1e-5)
    assert seen["learned"] == {0}
    assert seen["turned"] == set(range(1, order)) and seen["all"] == set(range(order))


def test_the_learned_side_is_the_identitys_wherever_it_stands():
    """C4 in the order r, r2, r3, e."""
    table = [[(g + h + 1) % 4 for h in range(4)] for g in range(4)]
    group = eq.FiniteGroup(table, names=["r", "r2", "r3", "e"])
    turn = eq.FunctionAction(
        group, lambda g, x: x.rot90((g.index + 1) % 4, (-2, -1)), torch.rand(1, 3, 5, 5)
    )
    world = World(Gridworld, turn, moves(turn))
    check_symmetry(world)
    maze = Gridworld().maze
    for starts, some in {"learned": {True}, "turned": {False}, "all": {True, False}}.items():
        env = world.make(starts)
        assert {np.array_equal(env.reset(seed=i)[0][2], maze) for i in range(30)} == some


def test_nothing_is_turned_by_the_identity_alone():
    pair = eq.Rotations(eq.cyclic(1)), eq.Permutation(eq.cyclic(1), [[0, 1, 2, 3]])
    world = World(Gridworld, *pair)
    assert np.array_equal(world.make("all").reset(seed=0)[0][2], Gridworld().maze)
    with pytest.raises(ValueError, match="a group that has the identity alone"):
        world.make("turned")


def test_control_starts_on_one_side():
    for name, entry in (("CartPole-v1", 2), ("Acrobot-v1", 1)):  # the angle, or its sine
        for i in range(20):
            assert WORLDS[name].make("learned").reset(seed=i)[0][entry] > 0
            assert WORLDS[name].make("turned").reset(seed=i)[0][entry] < 0


def played(state):
    """The best return by value iteration, which shares nothing with a search for paths."""
    goal, pits, d = tuple(np.argwhere(state[1])[0]), state[2], len(state[0])
    value = np.full((d, d), -9.0)
    for _ in range(2 * d * d):
        new = value.copy()
        for cell in np.ndindex(d, d):
            found = []
            for row, column in worlds.MOVES:
                to = tuple(np.clip(np.add(cell, (row, column)), 0, d - 1))
                found.append(1.0 if to == goal else -1.0 if pits[to] else value[to] - 0.1)
            new[cell] = max(found)
        value = new
    return value[tuple(np.argwhere(state[0])[0])]


def test_the_best_return_against_value_iteration():
    env = WORLDS["grid"].make("turned")
    for i in range(12):
        state, _ = env.reset(seed=i)
        assert worlds.best_return(state) == pytest.approx(played(state))
    assert worlds.best_return(grid((0, 0), (1, 1))) == pytest.approx(0.9)  # no step is diagonal
    assert worlds.best_return(grid((0, 0), (0, 2), [(0, 1)])) == pytest.approx(0.7)
    walled = grid((0, 0), (4, 4), [(2, c) for c in range(5)])
    assert worlds.best_return(walled) == pytest.approx(-1.1) == played(walled)


def test_what_is_no_start_and_no_maze():
    with pytest.raises(ValueError, match="starts must be one of learned, turned, all; got 'left'"):
        WORLDS["grid"].make("left")
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        Gridworld(size=0)
    with pytest.raises(ValueError, match=r"the pit \(0, 5\) is outside of 5 x 5 cells"):
        Gridworld(pits=[(0, 5)])
    with pytest.raises(ValueError, match="two cells without a pit"):
        Gridworld(2, [(0, 0), (0, 1), (1, 0)])
