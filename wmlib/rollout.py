"""The one loop in which a policy meets a world, real or dreamt.

A policy has `initial_state(B, seed)` and `act(obs, state, active) -> action (B, A), state`, as
`Agent` has. Letters: B environments, T time.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from wmlib.data import Episode
from wmlib.world import Policy, World


class Tick(NamedTuple):
    """One step of B environments: action leads from obs to next_obs; where `active` is False nothing happened."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    active: np.ndarray
    state: object  # the policy's, after it acted


def rollout(
    env: World,
    policy: Policy,
    seeds: Sequence[int],
    policy_seed: int = 0,
    views: list[dict] | None = None,
) -> Iterator[Tick]:
    """Drive one episode in each environment: a Tick per step until the last of them ends.

    views: a list that gets what is to be seen of the world, after the reset and after every step.
    """
    obs, _ = env.reset(seed=list(seeds))
    state = policy.initial_state(env.num_envs, policy_seed)
    active = np.ones(env.num_envs, bool)
    if views is not None:
        views.append(env.view())
    while active.any():
        action, state = policy.act(obs, state, active)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        if views is not None:
            views.append(env.view())
        yield Tick(obs, action, reward, next_obs, terminated, active, state)
        obs, active = next_obs, active & ~(terminated | truncated)


def returns(
    env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The summed reward and the number of steps of one episode in each environment, each (B,)."""
    total = np.zeros(env.num_envs)
    steps = np.zeros(env.num_envs, int)
    for tick in rollout(env, policy, seeds, policy_seed):
        total += tick.reward
        steps += tick.active
    return total, steps


def episodes(
    env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0
) -> list[Episode]:
    """One whole episode from each environment, with what a file keeps of it."""
    ticks = list(rollout(env, policy, seeds, policy_seed))
    driver = getattr(policy, "driver", "")
    return [_episode(ticks, i, seed, driver) for i, seed in enumerate(seeds)]


def record(env: World, policy: Policy, seed: int, policy_seed: int = 0) -> Episode:
    """One whole episode in a vector of one environment, with all that pictures need of it."""
    return record_all(env, policy, [seed], policy_seed)[0]


def record_all(
    env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0
) -> list[Episode]:
    """One whole episode from each environment, with all that pictures need of it."""
    views: list[dict[str, np.ndarray]] = []
    ticks = list(rollout(env, policy, seeds, policy_seed, views))
    driver = getattr(policy, "driver", "")
    found = []
    for i, seed in enumerate(seeds):
        T = sum(tick.active[i] for tick in ticks)
        seen = _codes([tick.state for tick in ticks[:T]], i) | _seen(views[: T + 1], i)
        found.append(_episode(ticks, i, seed, driver, **seen))
    return found


def _episode(ticks: list[Tick], i: int, seed: int, driver: str, **seen: Any) -> Episode:
    own = [tick for tick in ticks if tick.active[i]]
    if "obs" not in seen:
        seen["obs"] = np.stack([own[0].obs[i], *(tick.next_obs[i] for tick in own)])
    return Episode(
        action=np.stack([tick.action[i] for tick in own]).astype(np.float32),
        reward=np.array([tick.reward[i] for tick in own], np.float32),
        terminated=bool(own[-1].terminated[i]),
        seed=seed,
        driver=driver,
        **seen,
    )


def _seen(views: list[dict], i: int) -> dict[str, Any]:
    """What there was to see of one environment, at each of the T+1 moments; of z the first T."""
    seen: dict[str, Any] = {"telemetry": {}}
    for name in views[0]:
        values = np.stack([view[name][i] for view in views])
        if name.startswith("telemetry."):
            seen["telemetry"][name.removeprefix("telemetry.")] = values
        else:
            seen[name] = values[:-1] if name == "z" else values
    return seen


def _codes(states: list, i: int) -> dict[str, np.ndarray]:
    """mu, logvar, z (T, Z), h and c (T+1, H) of one environment, where the state is an agent's."""
    if not hasattr(states[0], "mu"):
        return {}
    names = ("mu", "logvar", "z", "h", "c")
    codes = {name: np.stack([getattr(state, name)[i] for state in states]) for name in names}
    for name in ("h", "c"):  # an episode begins with an empty memory
        codes[name] = np.pad(codes[name], ((1, 0), (0, 0)))
    return codes
