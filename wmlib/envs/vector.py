"""A vector of environments that step together, so that V and M run once for all of them.

Letters: B environments, A action.
"""

from collections.abc import Callable, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space


class VectorEnv(gym.vector.VectorEnv):
    """B copies of an environment in lock-step, in this process.

    Autoreset is DISABLED: a finished copy ignores its action, repeats its observation, pays 0 until it is reset through
    `options["reset_mask"]`. It is truncated at `max_steps`, or after `patience` steps without a positive reward.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(
        self,
        make: Callable[[], gym.Env],
        num_envs: int,
        max_steps: int,
        patience: int | None = None,
    ):
        self.envs = [make() for _ in range(num_envs)]
        self.num_envs, self.max_steps = num_envs, max_steps
        self.patience = np.inf if patience is None else patience
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.obs = np.zeros_like(self.observation_space.sample())
        self.steps = np.zeros(num_envs, int)
        self.idle = np.zeros(num_envs, int)  # steps since the last positive reward
        self.terminated = np.zeros(num_envs, bool)
        self.truncated = np.ones(num_envs, bool)  # nothing runs before the first reset
        self.stalled = np.zeros(num_envs, bool)  # cut by patience

    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict | None = None):
        """Begin new episodes, everywhere or where `options["reset_mask"]` (B,) is True: obs (B, ...), info.

        seed: one for each copy, or one number from which copy i takes seed + i.
        """
        mask, seeds = reset_places(self.num_envs, seed, options)
        for i in np.flatnonzero(mask):
            self.obs[i], _ = self.envs[i].reset(seed=seeds[i])
        self.steps[mask] = self.idle[mask] = 0
        self.terminated[mask] = self.truncated[mask] = self.stalled[mask] = False
        return self.obs.copy(), {}

    def step(self, actions: np.ndarray):
        """One step everywhere: obs (B, ...), reward (B,), terminated (B,), truncated (B,), info.

        Raises ValueError before anything moves if actions are not finite numbers of shape (B, A).
        """
        actions = checked_actions(actions, self.action_space.shape)
        reward = np.zeros(self.num_envs)
        for i in np.flatnonzero(~(self.terminated | self.truncated)):
            self.obs[i], reward[i], self.terminated[i], self.truncated[i], _ = self.envs[i].step(
                actions[i]
            )
            self.steps[i] += 1
            self.idle[i] = 0 if reward[i] > 0 else self.idle[i] + 1
            self.truncated[i] |= not self.terminated[i] and self.steps[i] >= self.max_steps
            self.stalled[i] = self.idle[i] >= self.patience and not (
                self.terminated[i] or self.truncated[i]
            )
            self.truncated[i] |= self.stalled[i]
        return self.obs.copy(), reward, self.terminated.copy(), self.truncated.copy(), {}

    def view(self) -> dict[str, np.ndarray]:
        """What there is to see now: obs (B, ...) and, where copies have them, pictures and telemetry.

        Telemetry is what no frame shows; its names get "telemetry." before them.
        """
        seen: dict[str, np.ndarray] = {"obs": self.obs.copy()}
        if self.envs[0].render_mode == "rgb_array":
            seen["pictures"] = np.stack([np.asarray(env.render()) for env in self.envs])
        if self.envs[0].has_wrapper_attr("telemetry"):
            rows = [env.get_wrapper_attr("telemetry")() for env in self.envs]
            seen |= {f"telemetry.{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
        return seen

    def close_extras(self, **kwargs):
        """Close every copy."""
        for env in self.envs:
            env.close()


def checked_actions(actions: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """The actions as an array; ValueError unless they are finite numbers of that shape (B, A)."""
    actions = np.asarray(actions)
    if actions.shape != shape or not np.isfinite(actions).all():
        raise ValueError(
            f"actions must be finite numbers of shape {shape}, got shape {actions.shape}: {actions}"
        )
    return actions


def reset_places(
    B: int, seed: int | Sequence[int] | None, options: dict | None
) -> tuple[np.ndarray, list[int | None]]:
    """Which of B environments to reset, bool (B,), and the seed of each; ValueError for a wrong number of either."""
    mask = np.asarray((options or {}).get("reset_mask", np.ones(B)), bool)
    if seed is None or isinstance(seed, (int, np.integer)):
        seeds = [None if seed is None else int(seed) + i for i in range(B)]
    else:
        seeds = [None if each is None else int(each) for each in seed]
    if len(seeds) != B or mask.shape != (B,):
        found = f"{len(seeds)} seeds and a reset mask of {mask.size}"
        raise ValueError(f"{B} environments got {found}; expected {B} of each")
    return mask, seeds
