import pytest
import torch

import equitutor as eq
from equitutor import worlds
from equitutor.worlds import Gridworld, check_symmetry, make_world, moves

UP, LEFT, DOWN, RIGHT = range(4)


def grid(agent, goal, pits=(), size=5):
    x = torch.zeros(1, 3, size, size)
    x[0, 0, *agent] = x[0, 1, *goal] = 1
    for pit in pits:
        x[0, 2, *pit] = 1
    return x


def stepped(state, move, **sizes):
    world = Gridworld(1, size=state.shape[-1], **sizes)
    world.place(state)
    return world, world.step(torch.tensor([move]))


@pytest.mark.parametrize("name", list(worlds.WORLDS))
def test_each_world_has_its_symmetry(name):
    for side in (True, False):
        check_symmetry(make_world(name, 24, side, seed=5), *worlds.WORLDS[name]())


@pytest.mark.parametrize("name", list(worlds.WORLDS))
def test_moves_that_stay_are_none(name):
    observed, valued = worlds.WORLDS[name]()
    still = eq.Permutation(valued.group, [list(range(valued.degree))] * len(valued.group))
    with pytest.raises(ValueError, match="not a symmetry of this world"):
        check_symmetry(make_world(name, 24), observed, still)


def test_the_inverse_on_the_moves_is_none():
    """Quarter turns: with C2 this mistake cannot be seen."""
    observed, valued = worlds.WORLDS["grid"]()
    wrong = eq.Permutation(valued.group, valued.perms[valued.group.inverses])
    with pytest.raises(ValueError, match="not a symmetry"):
        check_symmetry(make_world("grid", 24), observed, wrong)


def test_a_reward_that_does_not_follow_is_noticed():
    class Taxed(Gridworld):
        def step(self, chosen):
            done = super().step(chosen)
            done.reward = done.reward - 0.01 * (chosen == UP)
            return done

    with pytest.raises(ValueError, match="not a symmetry"):
        check_symmetry(Taxed(8), *worlds.WORLDS["grid"]())


def test_as_many_moves_as_values():
    observed, _ = worlds.WORLDS["CartPole-v1"]()
    swap = eq.Permutation(eq.cyclic(2), [[0, 1, 2], [2, 1, 0]])
    with pytest.raises(ValueError, match="the world has 2 moves, but the action permutes 3 values"):
        check_symmetry(make_world("CartPole-v1", 2), observed, swap)


def test_the_world_is_as_it_was_after_the_check():
    world = make_world("grid", 4)
    before = world.observe()
    check_symmetry(world, *worlds.WORLDS["grid"]())
    assert torch.equal(world.observe(), before)


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
    _, done = stepped(grid((2, 2), (4, 4)), move)
    assert done.after[0, 0].nonzero().tolist() == [list(to)]
    assert done.reward.item() == pytest.approx(-0.1) and not done.ended and not done.cut


def test_a_border_a_goal_and_a_pit():
    _, done = stepped(grid((0, 2), (4, 4)), UP)
    assert done.after[0, 0, 0, 2] == 1 and not done.ended
    world, done = stepped(grid((3, 4), (4, 4)), DOWN)
    assert done.ended and done.reward.item() == pytest.approx(1.0)
    assert not torch.equal(world.observe(), done.after)  # a new game
    _, done = stepped(grid((3, 4), (0, 0), [(4, 4)]), DOWN)
    assert done.ended and done.reward.item() == pytest.approx(-1.0)


def test_time_is_up():
    world, done = stepped(grid((0, 0), (4, 4)), UP, limit=3)
    assert not done.cut
    world.step(torch.tensor([UP]))
    done = world.step(torch.tensor([UP]))
    assert done.cut and not done.ended


def test_starts_of_one_side_and_turned():
    d, half = 7, 3
    side = Gridworld(200, side=True, seed=2).observe()
    agent, goal = (side[:, i].flatten(1).argmax(1) % d for i in (0, 1))
    assert (goal - agent >= half).all()
    assert (side.sum((2, 3)) == torch.tensor([1.0, 1.0, 4.0])).all()
    assert (side.sum(1) <= 1).all()  # nothing stands on anything
    turned = Gridworld(200, side=False, seed=2).observe()
    agent, goal = (turned[:, i].flatten(1).argmax(1) for i in (0, 1))
    below = goal // d - agent // d
    assert (below >= half).any() and (below <= -half).any()


def test_control_starts():
    for name in ("CartPole-v1", "Acrobot-v1"):
        side = make_world(name, 30, True).observe()
        both = make_world(name, 30, False).observe()
        entry = 2 if name == "CartPole-v1" else 1  # the angle, or its sine
        assert (side[:, entry] >= 0).all()
        assert (both[:, entry] > 0).any() and (both[:, entry] < 0).any()


def test_unknown_worlds():
    with pytest.raises(ValueError, match="the world must be one of grid, grid d4"):
        make_world("chess", 1)
    with pytest.raises(ValueError, match="size must be 3 or more"):
        Gridworld(1, size=2)


@pytest.mark.parametrize("name", list(worlds.WORLDS))
def test_the_kept_copies_go_on_as_they_were(name):
    whole, part = make_world(name, 6, seed=4), make_world(name, 6, seed=4)
    rows = torch.tensor([True, False, True, True, False, True])
    part.keep(rows)
    assert part.copies == 4
    move = torch.tensor([0, 1, 1, 0, 1, 0])
    done, kept = whole.step(move), part.step(move[rows])
    assert torch.equal(kept.after, done.after[rows])
    assert torch.equal(kept.reward, done.reward[rows])
    assert torch.equal(part.clock, whole.clock[rows])
