"""The random policies, which drive before there is an agent (paper, section 3.1, step 1).

Letters: B environments, A action.
"""

import numpy as np
import torch

from wmlib.agent import Agent, new_models
from wmlib.config import BROWNIAN_MEMORY, Config
from wmlib.envs.task import Task, get_task
from wmlib.fast import to_channels_last
from wmlib.presets import PAPER
from wmlib.world import Policy


class UniformPolicy:
    """White noise: every action is drawn evenly from the action space."""

    driver = "uniform"

    def __init__(self, task: Task):
        self.task = task

    def initial_state(self, B: int, seed: int | None = None) -> np.random.Generator:
        """The source of the noise."""
        self.B = B
        return np.random.default_rng(seed)

    def act(
        self, obs, state: np.random.Generator, active=None
    ) -> tuple[np.ndarray, np.random.Generator]:
        """Actions float32 (B, A)."""
        space = self.task.action_space
        drawn = state.uniform(space.low, space.high, (self.B, self.task.action_size))
        return drawn.astype(np.float32), state


class BrownianPolicy:
    """Slow noise: raw actions wander as an Ornstein-Uhlenbeck process, so a car turns.

    MEMORY is the part of a raw action that the next step keeps; the process's centre and spread are
    the task's.
    """

    MEMORY = BROWNIAN_MEMORY
    driver = "brownian"

    def __init__(self, task: Task):
        self.task = task
        self.mean = np.array(task.noise_mean)
        self.spread = np.array(task.noise_spread)

    def initial_state(
        self, B: int, seed: int | None = None
    ) -> tuple[np.random.Generator, np.ndarray]:
        """The source of the noise and the raw action (B, A)."""
        rng = np.random.default_rng(seed)
        return rng, rng.normal(self.mean, self.spread, (B, self.task.action_size))

    def act(self, obs, state, active=None) -> tuple[np.ndarray, tuple]:
        """Actions float32 (B, A)."""
        rng, raw = state
        fresh = rng.normal(0, self.spread, raw.shape) * np.sqrt(1 - self.MEMORY**2)
        following = self.mean + self.MEMORY * (raw - self.mean) + fresh
        return self.task.squash(torch.from_numpy(raw)).float().numpy(), (rng, following)


def random_network(seed: int, config: Config = PAPER) -> Agent:
    """The paper's random policy: V, M and C with Cauchy weights of one random small scale.

    Their sizes are config's. The released code (extract.py) sets V's and M's weights by a function
    that divides by 10,000, C's as they are.
    """
    vae, mdnrnn, controller = new_models(config)
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0, 0.01)
    with torch.no_grad():
        for part in (vae, mdnrnn) if mdnrnn else (vae,):
            for weights in part.parameters():
                if weights.requires_grad:
                    weights.copy_(
                        torch.from_numpy(rng.standard_cauchy(weights.shape) * scale / 10_000)
                    )
    to_channels_last(vae.encoder)
    params = torch.from_numpy(rng.standard_cauchy(controller.num_params) * scale).float()
    task, reads = get_task(config.task), config.controller.reads
    return Agent(vae, mdnrnn, controller, params, task, reads, driver="random_network")


def random_policy(config: Config, seed: int) -> Policy:
    """The policy that `config.collect` names; only a network is another one for each seed."""
    if config.collect.policy == "random_network":
        return random_network(seed, config)
    policies: dict[str, type] = {"uniform": UniformPolicy, "brownian": BrownianPolicy}
    return policies[config.collect.policy](get_task(config.task))
