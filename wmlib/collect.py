"""Stage 1: real episodes driven by a random policy (paper, section 3.1, step 1), or by an agent (section 5)."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from wmlib.agent import Agent, new_models
from wmlib.config import COLLECT_SEEDS, PAPER, Config, track_seeds
from wmlib.data import EpisodeStore
from wmlib.envs.task import CAR_RACING, Task
from wmlib.envs.vector import VectorEnv
from wmlib.parallel import run
from wmlib.rollout import Policy, episodes


class UniformPolicy:
    """White noise: every action is drawn evenly from the action space, so the car trembles on one spot."""

    def __init__(self, task: Task = CAR_RACING):
        self.task = task

    def initial_state(self, B: int, seed: int | None = None) -> np.random.Generator:
        """The source of the noise."""
        self.B = B
        return np.random.default_rng(seed)

    def act(self, obs, state: np.random.Generator, active=None) -> tuple[np.ndarray, np.random.Generator]:
        """Actions float32 (B, A)."""
        space = self.task.action_space
        return state.uniform(space.low, space.high, (self.B, self.task.action_size)).astype(np.float32), state


class BrownianPolicy:
    """Slow noise: raw actions wander as an Ornstein-Uhlenbeck process, so the car gets somewhere.

    MEMORY is the part of a raw action that the next step keeps, SPREAD the process's standard deviation, MEAN its centre.
    """

    MEMORY, SPREAD, MEAN = 0.95, (0.4, 0.6, 0.6), (0.0, -0.8, -1.0)

    def __init__(self, task: Task = CAR_RACING):
        self.task = task

    def initial_state(self, B: int, seed: int | None = None) -> tuple[np.random.Generator, np.ndarray]:
        """The source of the noise and the raw action (B, A)."""
        rng = np.random.default_rng(seed)
        return rng, rng.normal(self.MEAN, self.SPREAD, (B, self.task.action_size))

    def act(self, obs, state, active=None) -> tuple[np.ndarray, tuple]:
        """Actions float32 (B, A)."""
        rng, raw = state
        fresh = rng.normal(0, self.SPREAD, raw.shape) * np.sqrt(1 - self.MEMORY**2)
        following = self.MEAN + self.MEMORY * (raw - self.MEAN) + fresh
        return self.task.squash(torch.from_numpy(raw)).float().numpy(), (rng, following)


def random_network(seed: int) -> Agent:
    """The paper's random policy: V, M and C with Cauchy weights of one random small scale (released code, extract.py).

    That code sets the weights of V and M through a function that divides by 10,000; C's it sets as they are.
    """
    vae, mdnrnn, controller = new_models(PAPER)
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0, 0.01)
    with torch.no_grad():
        for weights in [*vae.parameters(), *(p for p in mdnrnn.parameters() if p.requires_grad)]:
            weights.copy_(torch.from_numpy(rng.standard_cauchy(weights.shape) * scale / 10_000))
    return Agent(vae, mdnrnn, controller, torch.from_numpy(rng.standard_cauchy(controller.num_params) * scale).float())


POLICIES = {
    "uniform": lambda seed: UniformPolicy(),
    "brownian": lambda seed: BrownianPolicy(),
    "random_network": random_network,
}


def collect(config: Config, folder: Path, agent: Path | None = None, drives: int = 0) -> Iterator[tuple[int, dict]]:
    """Collect the episodes that are still missing in `folder`, on all cores.

    With `agent`, that agent's folder, it drives `drives` episodes that stand behind those of the random policy: the
    second round of the paper's iterative training (section 5). Yields the number of episodes there are and the last
    one's metrics: its index, steps and return.
    """
    store, settings = EpisodeStore(folder), config.collect
    indices = range(settings.episodes, settings.episodes + drives) if agent else range(settings.episodes)
    seeds = track_seeds(COLLECT_SEEDS, (config.seed,), indices.stop)
    missing = [index for index in indices if not store.path(index).exists()]
    jobs = [(folder, agent or settings.policy, index, seeds[index], config.seed, settings.max_steps) for index in missing]
    for done, metrics in enumerate(run(collect_episode, jobs), len(indices) - len(missing) + 1):
        yield done, metrics


def collect_episode(folder: Path, driver: str | Path, index: int, track_seed: int, seed: int, max_steps: int) -> dict:
    """Drive and store one episode, by the random policy or the agent's folder that `driver` names; the noise belongs to (seed, index)."""
    noise = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    policy = Agent.load(driver) if isinstance(driver, Path) else POLICIES[driver](noise)
    (episode,) = episodes(_single_env(max_steps), policy, [track_seed], noise)
    EpisodeStore(folder).save(index, episode)
    return {"episode": index, "steps": len(episode), "return": float(episode.reward.sum())}


@cache
def _single_env(max_steps: int) -> VectorEnv:
    return VectorEnv(CAR_RACING.make, 1, max_steps)
