"""The one loop in which a policy meets environments, real or dreamt.

A policy has `initial_state(B, seed)` and `act(obs, state, active) -> action (B, A), state`, as `Agent` has.
Letters: B environments, T time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from wmlib.data import Episode


class Policy(Protocol):
    """Anything that drives."""

    def initial_state(self, B: int, seed: int | None = None): ...

    def act(self, obs: np.ndarray, state, active: np.ndarray) -> tuple[np.ndarray, object]: ...


class Tick(NamedTuple):
    """One step of B environments: action leads from obs to next_obs; where `active` is False nothing happened."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    active: np.ndarray
    state: object  # the policy's, after it acted


def rollout(env: VectorEnv, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> Iterator[Tick]:
    """Drive one episode in each environment: a Tick per step until the last of them ends."""
    obs, _ = env.reset(seed=list(seeds))
    state = policy.initial_state(env.num_envs, policy_seed)
    active = np.ones(env.num_envs, bool)
    while active.any():
        action, state = policy.act(obs, state, active)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        yield Tick(obs, action, reward, next_obs, terminated, active, state)
        obs, active = next_obs, active & ~(terminated | truncated)


def returns(env: VectorEnv, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The summed reward and the number of steps of one episode in each environment, each (B,)."""
    total, steps = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
    for tick in rollout(env, policy, seeds, policy_seed):
        total += tick.reward
        steps += tick.active
    return total, steps


def episodes(env: VectorEnv, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> list[Episode]:
    """One whole episode from each environment."""
    ticks = list(rollout(env, policy, seeds, policy_seed))
    return [_episode(ticks, i, seed) for i, seed in enumerate(seeds)]


def _episode(ticks: list[Tick], i: int, seed: int) -> Episode:
    own = [tick for tick in ticks if tick.active[i]]
    return Episode(
        obs=np.stack([own[0].obs[i], *(tick.next_obs[i] for tick in own)]),
        action=np.stack([tick.action[i] for tick in own]).astype(np.float32),
        reward=np.array([tick.reward[i] for tick in own], np.float32),
        terminated=bool(own[-1].terminated[i]),
        seed=seed,
    )
