"""The one loop in which a policy meets environments, real or dreamt.

A policy has `initial_state(B, seed)` and `act(obs, state, active) -> action (B, A), state`, as `Agent` has.
Letters: B environments, T time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from wmlib.data import Episode


class World(Protocol):
    """A lock-step vector of environments, real (envs.vector) or dreamt (dream)."""

    num_envs: int

    def reset(self, *, seed: list[int]) -> tuple[np.ndarray, dict]: ...
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]: ...
    def view(self) -> dict[str, np.ndarray]: ...


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


def rollout(
    env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0, views: list[dict] | None = None
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


def returns(env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The summed reward and the number of steps of one episode in each environment, each (B,)."""
    total, steps = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
    for tick in rollout(env, policy, seeds, policy_seed):
        total += tick.reward
        steps += tick.active
    return total, steps


def episodes(env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> list[Episode]:
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


@dataclass
class Drive:
    """One drive with all that pictures need of it; index t belongs to frames[t].

    frames uint8 (T+1, 64, 64, 3); action (T, A) and reward (T,), which lead from t to t+1; terminated; seed.
    mu, logvar and z (T, Z): the code of each frame, as far as the policy has one; h and c (T+1, H): M's memory before
    frame t, as C read it. telemetry: what no frame shows of a real world, by name, each (T+1, ...). pictures: the
    renderer's, where the environment has one; 0.7 MB a step in CarRacing.
    """

    frames: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    seed: int
    mu: np.ndarray | None = None
    logvar: np.ndarray | None = None
    z: np.ndarray | None = None
    h: np.ndarray | None = None
    c: np.ndarray | None = None
    telemetry: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.action)

    @property
    def place(self) -> np.ndarray:
        """Where the car was, (T+1, 2), in world units."""
        return self.telemetry["place"]

    @property
    def speed(self) -> np.ndarray:
        """How fast it was, (T+1,), in world units a second."""
        return self.telemetry["speed"]

    @property
    def turning(self) -> np.ndarray:
        """How fast it turned, (T+1,), in radians a second."""
        return self.telemetry["turning"]


def record(env: World, policy: Policy, seed: int, policy_seed: int = 0) -> Drive:
    """One whole drive in a vector of one environment, real or dreamt."""
    return drives(env, policy, [seed], policy_seed)[0]


def drives(env: World, policy: Policy, seeds: Sequence[int], policy_seed: int = 0) -> list[Drive]:
    """One whole drive in each environment, real or dreamt."""
    views: list[dict[str, np.ndarray]] = []
    ticks = list(rollout(env, policy, seeds, policy_seed, views))
    return [_drive(ticks, views, i, seed) for i, seed in enumerate(seeds)]


def _drive(ticks: list[Tick], views: list[dict], i: int, seed: int) -> Drive:
    episode = _episode(ticks, i, seed)
    T = len(episode)
    seen: dict[str, Any] = {"telemetry": {}} | _codes([tick.state for tick in ticks[:T]], i)
    for name in views[0]:
        values = np.stack([view[name][i] for view in views[: T + 1]])
        if name.startswith("telemetry."):
            seen["telemetry"][name.removeprefix("telemetry.")] = values
        else:
            seen[name] = values[:T] if name == "z" else values
    return Drive(action=episode.action, reward=episode.reward, terminated=episode.terminated, seed=seed, **seen)


def _codes(states: list, i: int) -> dict[str, np.ndarray]:
    """mu, logvar and z (T, Z), h and c (T+1, H) of one environment, where the policy's state is an agent's."""
    if not hasattr(states[0], "mu"):
        return {}
    codes = {name: np.stack([getattr(state, name)[i] for state in states]) for name in ("mu", "logvar", "z", "h", "c")}
    for name in ("h", "c"):  # an episode begins with an empty memory
        codes[name] = np.pad(codes[name], ((1, 0), (0, 0)))
    return codes
