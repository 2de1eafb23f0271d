"""Agents of stable-baselines3: made, wrapped, taught and played.

Every function takes any :class:`equitutor.worlds.World`, one of your own too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..actions import Action, Permutation
from ..options import Count, Natural, checked
from ..symmetrize import GroupAverage
from ..weights import max_value
from ..worlds import World
from .choices import weighted

__all__ = ["FROM_DATA", "copies", "learn", "make_agent", "mirror", "play", "train_weights", "wrap"]

#: Methods that leave the network plain, and learn the symmetry from mirrored memories or games on all sides.
FROM_DATA = ("mirrored", "all sides")


def _library() -> Any:
    """stable-baselines3, which is imported where it is used."""
    try:
        import stable_baselines3
    except ImportError as error:
        raise RuntimeError(
            'agents need stable-baselines3, which is not installed: pip install "equitutor[agents]"'
        ) from error
    return stable_baselines3


def copies(world: World, starts: str, count: int, seed: int) -> Any:
    """Copies of a world, played at once."""
    _library()
    from stable_baselines3.common.env_util import make_vec_env

    return make_vec_env(lambda: world.make(starts), count, seed=seed)


def make_agent(
    config: Any, world: World, seed: int, starts: str = "learned", **changes: Any
) -> Any:
    """A new agent of stable-baselines3 with the settings of a :class:`equitutor.experiments.dqn.Config`.

    ``changes`` are options of stable-baselines3's DQN.
    """
    options = {
        "learning_rate": config.lr,
        "batch_size": config.batch_size,
        "buffer_size": config.memory,
        "gamma": config.discount,
        "learning_starts": config.learning_starts,
        "train_freq": config.train_every,
        "gradient_steps": config.updates,
        "target_update_interval": config.target_every,
        "exploration_fraction": config.explore[0],
        "exploration_final_eps": config.explore[1],
        "policy_kwargs": {"net_arch": list(config.hidden)},
    }
    env = copies(world, starts, config.copies, seed)
    return _library().DQN("MlpPolicy", env, seed=seed, device="cpu", **(options | changes))


def _check_dqn(agent: Any) -> None:
    if not isinstance(agent, _library().DQN):
        raise TypeError(
            f"the agent must be a DQN of stable-baselines3, which has one value for each move; got "
            f"{type(agent).__name__}"
        )


def wrap(agent: Any, method: str, world: World) -> None:
    """Put an agent's Q-network, and the target it learns from, under a weighting of the views.

    The agent plays, learns on and is saved as before, and Q(g s) = g Q(s). Methods that leave the network
    plain change nothing. To load what was saved, wrap an agent alike and call its ``set_parameters(file)``.

    Raises
    ------
    TypeError
        If the agent is no DQN.
    ValueError
        If the agent is wrapped already.
    """
    if method in ("none", *FROM_DATA):
        return
    _check_dqn(agent)
    if isinstance(agent.q_net.q_net, GroupAverage):
        raise ValueError("this agent is wrapped already: make or load it anew to wrap it otherwise")
    for net in (agent.q_net, agent.q_net_target):
        whole = nn.Sequential(net.features_extractor, net.q_net)
        hidden = {"width": net.features_dim, "features": "0"}  # no hidden layers, as of a CnnPolicy
        if net.net_arch:
            hidden = {"width": net.net_arch[-1], "features": f"1.{len(net.q_net) - 2}"}
        net.q_net = weighted(method, whole, world.observed, world.valued, loss=max_value, **hidden)
        net.features_extractor = nn.Identity()
        net.eval()  # until the agent learns; the target always
    own = list(agent.q_net.q_net.weighting.parameters())
    if own:
        agent.q_net_target.load_state_dict(agent.q_net.state_dict())
        agent.policy.optimizer.add_param_group({"params": own})


def mirror(agent: Any, world: World) -> None:
    """From now on each remembered move that an agent learns from is moved by an element drawn for it."""
    _check_dqn(agent)
    buffer = agent.replay_buffer
    buffer.sample = partial(_mirrored, buffer.sample, world.observed, world.valued)  # can be saved


def _mirrored(
    sample: Callable, observed: Action, valued: Permutation, *args: Any, **kwargs: Any
) -> Any:
    found, perms = sample(*args, **kwargs), valued.perms
    drawn = torch.randint(len(perms), (len(found.actions),))

    def moved(states: Tensor) -> Tensor:
        views = observed.views(states).unflatten(0, (len(perms), -1))
        return views[drawn, torch.arange(len(drawn))]

    return found._replace(
        observations=moved(found.observations),
        next_observations=moved(found.next_observations),
        actions=perms[drawn[:, None], found.actions],
    )


def play(agent: Any, world: World, games: int, starts: str, seed: int = 1000) -> np.ndarray:
    """The return (sum of rewards) of each game, played greedily to its end: (games,).

    Where a game may go on for ever, the world needs a time limit: ``gymnasium.wrappers.TimeLimit``.
    """
    games = checked("games", Count, games)
    _library()
    from stable_baselines3.common.evaluation import evaluate_policy

    played = copies(world, starts, games, seed)
    returns, _ = evaluate_policy(agent, played, games, return_episode_rewards=True)
    return np.array(returns)


def learn(
    agent: Any,
    moves: int,
    checks: int = 1,
    watch: Callable[[int], None] = lambda move: None,
    lr: float | None = None,
) -> None:
    """Let an agent learn; ``watch`` is called ``checks`` times, with the moves made so far.

    Less often where there are fewer moves, or rounds of moves. ``lr`` is the learning rate from now on; by
    default it stays.
    """
    moves, checks = checked("moves", Natural, moves), checked("checks", Count, checks)
    if lr is not None:
        agent.lr_schedule = lambda progress: lr
    marks = [moves * (i + 1) // checks for i in range(checks - 1)]
    seen = 0

    def each_move(*_: Any) -> bool:
        nonlocal seen
        past = [mark for mark in marks if seen < mark <= agent.num_timesteps]
        if past and agent.num_timesteps < moves:  # else it is the last one
            seen = past[-1]
            watch(seen)
        return True  # go on

    agent.learn(moves, callback=each_move)
    watch(moves)  # after the last update


def train_weights(agent: Any, moves: int) -> None:
    """Let a wrapped agent learn with its network frozen: of lambda, the weights of the views alone.

    Raises
    ------
    TypeError
        If the agent is no DQN.
    ValueError
        If it is not under a weighting that learns.
    """
    _check_dqn(agent)
    average = agent.q_net.q_net
    if not isinstance(average, GroupAverage) or not list(average.weighting.parameters()):
        raise ValueError(
            "this agent has no weights of the views to train: wrap it by lambda or attention first"
        )
    frozen = [p for p in average.model.parameters() if p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        learn(agent, moves)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
