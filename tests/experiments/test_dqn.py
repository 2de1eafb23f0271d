import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

import equitutor as eq
from equitutor.__main__ import main
from equitutor.experiments import agents, dqn
from equitutor.store.results import Store
from equitutor.testing import equivariance_error
from equitutor.worlds import WORLDS, Gridworld, World, best_return

stable_baselines3 = pytest.importorskip("stable_baselines3")

TINY = replace(
    dqn.Config.quick(),
    hidden=(16, 16),
    moves=200,
    learning_starts=50,
    batch_size=16,
    memory=2000,
    tune_moves=80,
    lambda_moves=40,
    games=6,
    checks=2,
)
WRAPPED = ("equitune", "equizero", "lambda")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


def agent_of(world, method="none", **changes):
    torch.manual_seed(0)
    agent = agents.make_agent(replace(TINY, **changes), WORLDS[world], 0)
    agents.wrap(agent, method, WORLDS[world])
    return agent


def first_states(world, starts="turned", count=12):
    env = WORLDS[world].make(starts)
    return torch.from_numpy(np.stack([env.reset(seed=i)[0] for i in range(count)]))


def test_an_agent_learns_to_play_as_well_as_can_be():
    """On 3 x 3 cells without pits, against the shortest paths."""

    def make():
        return gymnasium.wrappers.TimeLimit(Gridworld(3, ()), 20)

    small = replace(WORLDS["grid"], env=make)
    agent = agents.make_agent(replace(TINY, hidden=(64, 64), lr=2e-3), small, 0)
    best = np.mean([best_return(x) for x in agents.copies(small, "learned", 40, 1000).reset()])
    assert agents.play(agent, small, 40, "learned").mean() < best - 0.3
    agents.learn(agent, 2500)
    assert agents.play(agent, small, 40, "learned").mean() == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", WRAPPED)
def test_values_move_with_states_after_learning(world, method):
    agent = agent_of(world, method)
    bare = [net.q_net.model for net in (agent.q_net, agent.q_net_target)]
    before = [p.clone() for p in bare[0].parameters()]
    agents.learn(agent, 120)
    assert not any(map(torch.equal, before, bare[0].parameters()))  # the optimizer has them
    pair = WORLDS[world].observed, WORLDS[world].valued
    for net in (agent.q_net.eval(), agent.q_net_target):  # no dropout in what is learned from
        assert equivariance_error(net, first_states(world), *pair) < 1e-5
    for net in bare:
        assert equivariance_error(net, first_states(world).float(), *pair) > 1e-3


@pytest.mark.parametrize("world", ["grid d4", "CartPole-v1"])
def test_a_wrapped_agent_plays_turned_games_as_it_plays_the_others(world):
    for method in WRAPPED:
        agent = agent_of(world, method)
        sides = [
            agents.play(agent, WORLDS[world], 20, starts, 3) for starts in ("learned", "turned")
        ]
        assert np.array_equal(*map(np.sort, sides))


@pytest.mark.parametrize("method", WRAPPED)
def test_a_state_that_is_its_own_image(method):
    """An upright pole in the middle; in the maze without pits, the goal above the agent."""
    agent = agent_of("CartPole-v1", method)
    with torch.no_grad():
        left, right = agent.q_net(torch.zeros(1, 4))[0].tolist()
        assert left == pytest.approx(right, abs=1e-6)
        own = torch.zeros(1, 3, 5, 5)
        own[0, 0, 2, 2] = own[0, 1, 0, 2] = 1
        values = agent_of("grid d4", method).q_net(own)[0]
    assert values[1] == pytest.approx(values[3].item(), abs=1e-6)
    assert values[0] != pytest.approx(values[2].item(), abs=1e-6)


def test_lambda_alone_leaves_the_network():
    agent = agent_of("grid", "lambda")
    before = {k: v.clone() for k, v in agent.q_net.state_dict().items()}
    agents.train_weights(agent, 120)
    changed = {k for k, v in agent.q_net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith("q_net.weighting.") for k in changed)
    agents.learn(agent, 120)  # nothing stays frozen
    after = agent.q_net.state_dict()
    assert all(not torch.equal(after[k], before[k]) for k in before if ".model." in k)


def test_the_targets_weights_begin_as_the_agents_own():
    agent = agent_of("grid", "lambda")
    state = agent.q_net_target.state_dict()
    assert all(torch.equal(state[k], v) for k, v in agent.q_net.state_dict().items())


@pytest.mark.parametrize("method", WRAPPED)
def test_a_wrapped_agent_is_saved_and_loaded(method, tmp_path):
    agent, states = agent_of("grid d4", method), first_states("grid d4")
    agents.learn(agent, 100)
    agent.save(tmp_path / "agent")
    other = agent_of("grid d4", method, lr=0.5)
    agents.learn(other, 60)
    agent.q_net.eval(), other.q_net.eval()  # λ has dropout
    assert not torch.equal(other.q_net(states), agent.q_net(states))
    other.set_parameters(tmp_path / "agent")
    for part in ("q_net", "q_net_target"):
        assert torch.equal(getattr(other, part)(states), getattr(agent, part)(states))


class Large(gymnasium.ObservationWrapper):
    """The maze as pictures of 40 x 40 pixels, 0 to 255, which NatureCNN takes."""

    observation_space = gymnasium.spaces.Box(0, 255, (3, 40, 40), np.uint8)

    def __init__(self):
        super().__init__(gymnasium.make("equitutor/Gridworld-v0"))

    def observation(self, x):
        return np.kron(x, np.full((1, 8, 8), 255, np.uint8))


def place_large(env, x):
    env.place(x[:, ::8, ::8] // 255)


@pytest.mark.parametrize("method", (*WRAPPED, "attention"))
@pytest.mark.parametrize("policy", ["CnnPolicy", "MlpPolicy"])
def test_networks_without_hidden_layers_are_wrapped(policy, method):
    maze = WORLDS["grid d4"]
    world = replace(maze, env=Large, place=place_large) if policy == "CnnPolicy" else maze
    options = {"learning_starts": 8, "batch_size": 4, "buffer_size": 50, "device": "cpu"}
    agent = stable_baselines3.DQN(
        policy, world.make(), policy_kwargs={"net_arch": []}, seed=0, **options
    )
    agents.wrap(agent, method, world)
    agents.learn(agent, 16)
    states = np.stack([world.make("turned").reset(seed=i)[0] for i in range(2)])
    pair = world.observed, world.valued
    assert equivariance_error(agent.q_net.eval(), torch.from_numpy(states), *pair) < 1e-5


def test_an_agent_of_another_kind():
    other = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    world = WORLDS["CartPole-v1"]
    for use in (
        lambda: agents.wrap(other, "lambda", world),
        lambda: agents.mirror(other, world),
        lambda: agents.train_weights(other, 10),
    ):
        with pytest.raises(TypeError, match=r"must be a DQN of stable-baselines3.*; got PPO"):
            use()


def test_an_agent_is_wrapped_once():
    for method in WRAPPED:
        with pytest.raises(ValueError, match="wrapped already"):
            agents.wrap(agent_of("grid", "equizero"), method, WORLDS["grid"])


@pytest.mark.parametrize("world", ["grid", "grid d4"])
def test_mirrored_memories_are_true(world):
    """The world itself leads from each to what it says; and all elements occur."""
    agent = agent_of(world, learning_starts=400)
    agents.learn(agent, 200)
    agents.mirror(agent, WORLDS[world])
    found = agent.replay_buffer.sample(200)
    env = Gridworld()
    env.reset(seed=0)
    for s, a, after, reward in zip(
        found.observations, found.actions, found.next_observations, found.rewards, strict=True
    ):
        env.place(s.numpy())
        wanted, r, *_ = env.step(int(a))
        assert np.array_equal(wanted, after.numpy()) and r == pytest.approx(reward.item())
    mazes = {s[2].numpy().tobytes() for s in found.observations}
    assert len(mazes) == len(WORLDS[world].observed.group)


def test_mirrored_memories_are_saved_with_the_agent(tmp_path):
    agent, other = agent_of("grid d4"), agent_of("grid d4")
    agents.learn(agent, 80)
    agents.mirror(agent, WORLDS["grid d4"])
    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "memory")
    other.load_replay_buffer(tmp_path / "memory")
    assert other.replay_buffer is not agent.replay_buffer
    found = []
    for each in (agent, other):
        np.random.seed(0), torch.manual_seed(0)
        found.append(each.replay_buffer.sample(40))
    assert all(map(torch.equal, found[0][:5], found[1][:5]))
    assert len({s[2].numpy().tobytes() for s in found[1].observations}) == 8  # mirrored still


def test_the_best_on_its_side_and_the_last_are_kept(monkeypatch):
    """Of twenty measurements the second is best: the network as it was then."""
    scores, seen = iter([1.0, 3.0, *[2.0] * 18]), []

    def learn(agent, moves, checks, watch):
        for k in range(checks):
            agent.q_net.q_net[-1].bias.data.fill_(float(k))
            watch(k)

    def play(agent, world, games, starts, seed):
        seen.append(starts)
        return np.array([next(scores)])

    monkeypatch.setattr(dqn, "learn", learn)
    monkeypatch.setattr(dqn, "play", play)
    state = dqn.pretrain(TINY, "CartPole-v1", 0)
    assert state["best.q_net.4.bias"].tolist() == [1.0, 1.0]
    assert state["last.q_net.4.bias"].tolist() == [19.0, 19.0]
    assert seen == ["learned"] * 20  # never on turned starts


def test_an_agent_goes_on_where_it_was(monkeypatch):
    config = replace(TINY, moves=300, memory=160)  # the memory is full and wraps
    cell = {"world": "grid", "method": "mirrored", "seed": 0}
    state = dqn.pretrain(config, "grid", 0)
    monkeypatch.setattr(dqn, "learn", lambda *_: pytest.fail("learned again"))
    again = dqn.pretrain(config, "grid d4", 0)  # the same world under another group
    assert all(torch.equal(again[k], v) for k, v in state.items())
    for checkpoint in ("best", "last"):
        agent = dqn.revive(config, cell, checkpoint)
        for net in (agent.q_net, agent.q_net_target):
            for k, v in net.state_dict().items():
                assert torch.equal(v, state[f"{checkpoint}.{k}"])
        buffer = agent.replay_buffer
        assert buffer.full and buffer.size() == 20  # times eight copies
        assert np.array_equal(buffer.rewards, state["memory.rewards"].numpy())
        assert np.array_equal(buffer.next_observations, state["memory.next_observations"].numpy())


def test_measurements_while_learning():
    agent, seen = agent_of("grid"), []
    agents.learn(agent, 100, 3, seen.append, lr=0.125)
    assert seen == [33, 66, 100] and agent.num_timesteps == 104  # eight copies
    assert [group["lr"] for group in agent.policy.optimizer.param_groups] == [0.125]


@pytest.mark.parametrize(
    ("moves", "checks", "marks"),
    [
        (3, 10, [3]),  # eight copies make eight moves at once
        (40, 20, [8, 16, 24, 32, 40]),
        (40, 5, [8, 16, 24, 32, 40]),
        (48, 2, [24, 48]),
        (0, 3, [0]),
    ],
)
def test_each_measurement_is_where_it_says(moves, checks, marks):
    agent, seen = agent_of("grid"), []
    agents.learn(agent, moves, checks, lambda mark: seen.append((mark, agent.num_timesteps)))
    assert [mark for mark, _ in seen] == marks
    assert all(mark <= made < mark + 8 for mark, made in seen)


def test_what_cannot_be_learned_or_played():
    agent, world = agent_of("grid"), WORLDS["grid"]
    for use, says in (
        (lambda: agents.learn(agent, -5), "moves must be at least 0, got -5"),
        (lambda: agents.learn(agent, 8, checks=0), "checks must be at least 1, got 0"),
        (lambda: agents.play(agent, world, 0, "turned"), "games must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=says):
            use()


@pytest.mark.parametrize("method", ["none", "equitune", "equizero"])
def test_weights_that_are_not_there_cannot_be_trained(method):
    agent = agent_of("grid", method)
    with pytest.raises(ValueError, match="no weights of the views to train: wrap it by lambda"):
        agents.train_weights(agent, 60)
    assert all(p.requires_grad for p in agent.q_net.parameters())


def test_nothing_stays_frozen_whatever_happens(monkeypatch):
    agent = agent_of("grid", "lambda")
    first, *rest = agent.q_net.q_net.model.parameters()
    first.requires_grad_(False)  # by its owner

    def fails(*_):
        assert not any(p.requires_grad for p in rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(agents, "learn", fails)
    with pytest.raises(KeyboardInterrupt):
        agents.train_weights(agent, 60)
    assert all(p.requires_grad for p in rest) and not first.requires_grad


def test_what_learns_from_data_makes_as_many_passes(monkeypatch):
    made, starts = [], []
    real, make = dqn.learn, dqn.make_agent

    def learn(agent, moves, *rest):
        made.append(moves)
        real(agent, moves, *rest)

    def spied(config, world, seed, side, **changes):
        starts.append(side)
        return make(config, world, seed, side, **changes)

    dqn.pretrain(TINY, "grid", 0)
    monkeypatch.setattr(dqn, "learn", learn)
    monkeypatch.setattr(agents, "learn", learn)  # of the weights alone
    monkeypatch.setattr(dqn, "make_agent", spied)
    wanted = {"none": [80], "all sides": [80, 240], "equitune": [80], "lambda": [40, 40, 80]}
    for method, moves in wanted.items():
        made.clear()
        starts.clear()
        found = dqn.run_cell(TINY, {"world": "grid", "method": method, "seed": 0})
        assert made == moves
        assert starts == ["all" if method == "all sides" else "learned"] * 2
        if method in WRAPPED:
            assert "passes" not in found and found["after"] == found["return_at_80"]
            assert found["after_side"] == pytest.approx(found["after"], abs=1e-5)
            assert found["last_side"] == pytest.approx(found["last"], abs=1e-5)


def test_from_the_command_line_and_again(tmp_path, capsys, monkeypatch):
    words = ["run", "dqn", "--preset", "quick", "--results", str(tmp_path), "--worlds"]
    words += ["grid,CartPole-v1", "--methods", "none,equizero,lambda"]
    for name, value in vars(TINY).items():
        if name not in TINY.spans:
            value = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", value]
    assert main(words) == 0
    assert "Mean return" in capsys.readouterr().out
    records = Store(tmp_path / "dqn.json").records()
    assert len(records) == 6
    for record in records:
        found = record.metrics
        assert found["return_at_0"] == found["at_once"] and found["return_at_80"] == found["after"]
        assert (found["error"] < 1e-5) == (record.cell["method"] != "none")
        assert ("lambda_moves" in record.config) == (record.cell["method"] == "lambda")
        assert ("possible" in found) == (record.cell["world"] == "grid")
    monkeypatch.setattr(dqn, "run_cell", lambda *_: pytest.fail("run again"))
    assert main(words) == 0


def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch):
    """What was learned and what was recorded before is not made again."""
    config, store = replace(TINY, methods=("none", "equizero")), Store(tmp_path / "dqn.json")
    real = dqn.run_cell

    def killed(config, cell, device):
        if cell["method"] == "equizero":
            raise KeyboardInterrupt
        return real(config, cell, device)

    monkeypatch.setattr(dqn, "run_cell", killed)
    with pytest.raises(KeyboardInterrupt):
        dqn.run(config, store)
    (kept,) = store.records()
    ran = []
    monkeypatch.setattr(dqn, "run_cell", lambda c, cell, d: ran.append(cell) or real(c, cell, d))
    first, second = dqn.run(config, store)
    assert [cell["method"] for cell in ran] == ["equizero"]
    assert kept in (first, second)
    assert first.provenance["weights"] == second.provenance["weights"]


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(RuntimeError, match=r'pip install "equitutor\[agents\]"'):
        agents.make_agent(TINY, WORLDS["grid"], 0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("worlds", ("chess",), "worlds must be some of grid, grid d4"),
        ("methods", (), "methods must be some of none, equitune"),
        ("memory", 7, "memory must hold a move of each of the 8 copies, got 7"),
        ("explore", (1.0,), "explore must have 2 values, got 1"),
        ("hidden", (), "hidden must have at least one value"),
        ("updates", 0, "updates must be -1 or at least 1, got 0"),
    ],
)
def test_a_config_says_what_it_takes(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})


def test_a_world_of_ones_own_learns_too():
    """Actions that do not fit its states are told by name."""
    pair = eq.Sign(eq.cyclic(2), [1, -1]), eq.Permutation(eq.cyclic(2), {"r": [1, 0]})
    own = World("CartPole-v1", *pair, place=WORLDS["CartPole-v1"].place)
    agent = agents.make_agent(replace(TINY, copies=1), own, 0)
    agents.wrap(agent, "equizero", own)
    agents.learn(agent, 60)
    assert len(agents.play(agent, own, 3, "turned")) == 3
    three = World("CartPole-v1", pair[0], eq.Permutation(eq.cyclic(2), {"r": [2, 1, 0]}))
    agent = agents.make_agent(replace(TINY, copies=1), own, 0)
    agents.wrap(agent, "equizero", three)
    with pytest.raises(ValueError, match="permutes 3 entries"):
        agents.learn(agent, 60)


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("cartpole", (2.3e-3, 64, 100_000, 1000, 0.99, 10, 256, 128, 0.16, 0.04, 5e4)),
        ("acrobot", (6.3e-4, 128, 50_000, 0, 0.99, 250, 4, -1, 0.12, 0.1, 1e5)),
    ],
)
def test_agents_have_the_settings_that_are_published(preset, settings):
    config = dqn.Config.preset(preset)
    agent = agents.make_agent(config, WORLDS[config.worlds[0]], 0)
    assert settings == (
        agent.lr_schedule(1),
        agent.batch_size,
        agent.buffer_size,
        agent.learning_starts,
        agent.gamma,
        agent.target_update_interval,
        agent.train_freq.frequency,
        agent.gradient_steps,
        agent.exploration_fraction,
        agent.exploration_final_eps,
        config.moves,
    )
    assert agent.q_net.net_arch == [256, 256] and agent.n_envs == 1
    assert agent.env.envs[0].spec.max_episode_steps == 500
