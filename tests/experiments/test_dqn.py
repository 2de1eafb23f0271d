from dataclasses import replace

import pytest
import torch

from equitutor.__main__ import main
from equitutor.experiments import dqn
from equitutor.store.results import Store
from equitutor.testing import equivariance_error
from equitutor.worlds import MOVES, WORLDS, Gridworld, make_world

TINY = replace(
    dqn.Config.quick(),
    hidden=16,
    pretrain_steps=60,
    tune_steps=40,
    lambda_steps=20,
    games=10,
    checks=2,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


def true_values(size, discount):
    """Q* of the gridworld without pits, by value iteration: {(agent, goal): (4,)}."""
    cells = [(r, c) for r in range(size) for c in range(size)]
    best = {(a, g): 0.0 for a in cells for g in cells}
    q = {}
    for _ in range(60):
        for a in cells:
            for g in cells:
                if a == g:
                    continue
                values = []
                for dr, dc in MOVES.tolist():
                    to = (min(max(a[0] + dr, 0), size - 1), min(max(a[1] + dc, 0), size - 1))
                    values.append(1.0 if to == g else -0.1 + discount * best[to, g])
                q[a, g] = values
        best = {**best, **{key: max(values) for key, values in q.items()}}
    return q


def test_learning_finds_the_true_values(monkeypatch):
    """On a 3 x 3 grid, against value iteration, in the states that it plays."""

    def small(name, copies, side=True, seed=0):
        return Gridworld(copies, False, seed, size=3, pits=0)

    monkeypatch.setattr(dqn, "make_world", small)
    torch.manual_seed(0)
    net = dqn.q_network("grid", 32)
    config = replace(TINY, discount=0.9, target_every=50)
    before = error(net, config)
    dqn.learn(net, "grid", config, 1500, 0)
    assert error(net, config) < 0.08 < before
    returns = dqn.play_games(net, "grid", 50)
    assert (returns > 0.5).all()  # four steps at most


def error(net, config):
    q = true_values(3, config.discount)
    states = dqn.make_world("grid", 200).observe()
    truth = []
    for x in states:
        agent, goal = (tuple(x[i].nonzero()[0].tolist()) for i in (0, 1))
        truth.append(q[agent, goal])
    with torch.no_grad():
        return (net.eval()(states) - torch.tensor(truth)).abs().mean().item()


@pytest.mark.parametrize("world", list(WORLDS))
@pytest.mark.parametrize("method", dqn.METHODS[1:])
def test_values_move_with_states_after_learning(world, method):
    torch.manual_seed(0)
    net = dqn.wrapped(method, dqn.q_network(world, 16), world)
    dqn.learn(net, world, TINY, 30, 0)
    states = make_world(world, 12, side=False).observe()
    assert equivariance_error(net, states, *WORLDS[world]()) < 1e-5
    bare = net.model
    assert equivariance_error(bare, states, *WORLDS[world]()) > 1e-3


def test_lambda_alone_leaves_the_network():
    torch.manual_seed(0)
    net = dqn.wrapped("lambda", dqn.q_network("grid", 16), "grid")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    dqn.learn(net, "grid", TINY, 40, 0, free=list(net.weighting.parameters()))
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith("weighting.") for k in changed)


def test_the_memory_keeps_the_last():
    memory = dqn.Memory(5)
    for i in range(4):
        memory.add(torch.full((2, 3), float(i)), torch.tensor([i, i]))
    assert memory.count == 8 and memory.parts[0].shape == (5, 3)
    assert set(memory.parts[1].tolist()) == {1, 2, 3}  # the oldest are gone
    draw = torch.Generator().manual_seed(0)
    states, numbers = memory.sample(50, draw)
    assert torch.equal(states[:, 0].long(), numbers)


def test_games_are_scored_once():
    """Ended games count no more: the returns are those of single games."""

    class Up(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 0, 0, 0]).expand(len(x), 4)

    returns = dqn.play_games(Up(), "grid", 40, side=True)
    # Never a goal to the right: a pit above, after n steps, or 20 steps against the border.
    assert returns.min() >= -2.9 and ((returns + 2).abs() < 1e-4).any()
    pit = returns[(returns + 2).abs() > 1e-4]
    assert all(any(abs(float(r) + 1 + 0.1 * n) < 1e-4 for n in range(7)) for r in pit)


def test_the_pretrained_agent_is_the_best_on_its_side(monkeypatch):
    """Of three measurements the second is best: the network as it was then."""
    scores, seen = iter([1.0, 3.0, 2.0]), []

    def learn(net, world, config, steps, seed, *, watch):
        for k in range(3):
            net.head.bias.data.fill_(float(k))
            watch(k)

    def play(net, world, games, side, seed):
        seen.append(side)
        return torch.tensor([next(scores)])

    monkeypatch.setattr(dqn, "learn", learn)
    monkeypatch.setattr(dqn, "play_games", play)
    state = dqn.pretrain(TINY, "CartPole-v1", 0)
    assert state["head.bias"].tolist() == [1.0, 1.0]
    assert seen == [True] * 3  # never on turned starts


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "dqn", "--preset", "quick", "--results", str(tmp_path), "--worlds"]
    words += ["grid,CartPole-v1"]
    for name in ("hidden", "pretrain_steps", "tune_steps", "lambda_steps", "games", "checks"):
        words += [f"--{name.replace('_', '-')}", str(getattr(TINY, name))]
    assert main(words) == 0
    assert "Mean return" in capsys.readouterr().out
    records = Store(tmp_path / "dqn.json").records()
    assert len(records) == 8
    for record in records:
        found = record.metrics
        assert found["return_at_0"] == found["at_once"] and "return_at_40" in found
        assert (found["error"] < 1e-5) == (record.cell["method"] != "none")
        assert ("lambda_steps" in record.config) == (record.cell["method"] == "lambda")
    monkeypatch.setattr(dqn, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("worlds", ("chess",), "worlds must be some of grid, grid d4"),
        ("methods", (), "methods must be some of none, equitune"),
        ("memory", 15, "memory must hold a move of each of the 16 copies, got 15"),
        ("explore", (1.0,), "explore must have 2 values, got 1"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})
