"""Stage 1: real episodes, driven by a random policy (paper, section 3.1, step 1) and by an agent (section 5)."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from wmlib.agent import Agent, new_models
from wmlib.config import COLLECT_SEEDS, PAPER, Config, track_seeds
from wmlib.data import EpisodeStore
from wmlib.envs.task import Task, get_task
from wmlib.envs.vector import VectorEnv
from wmlib.fast import lay_out
from wmlib.parallel import run
from wmlib.rollout import Policy, episodes

TOGETHER = 8  # drives of an agent in one job, so that V sees a batch
kept_vector = cache(VectorEnv)  # a worker's environments, which take long to make


class UniformPolicy:
    """White noise: every action is drawn evenly from the action space; a brake that is half on holds a car."""

    def __init__(self, task: Task = get_task(Config.task)):
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
    """Slow noise: raw actions wander as an Ornstein-Uhlenbeck process, so a car turns.

    MEMORY is the part of a raw action that the next step keeps; the process's centre and spread are the task's.
    """

    MEMORY = 0.95

    def __init__(self, task: Task = get_task(Config.task)):
        self.task = task
        self.mean, self.spread = np.array(task.noise_mean), np.array(task.noise_spread)

    def initial_state(self, B: int, seed: int | None = None) -> tuple[np.random.Generator, np.ndarray]:
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
    """The paper's random policy: V, M and C with Cauchy weights of one random small scale (released code, extract.py).

    Their sizes are config's. That code sets V's and M's weights by a function that divides by 10,000, C's as they are.
    """
    vae, mdnrnn, controller = new_models(config)
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0, 0.01)
    with torch.no_grad():
        for part in (vae, mdnrnn) if mdnrnn else (vae,):
            for weights in part.parameters():
                if weights.requires_grad:
                    weights.copy_(torch.from_numpy(rng.standard_cauchy(weights.shape) * scale / 10_000))
    lay_out(vae.encoder)
    params = torch.from_numpy(rng.standard_cauchy(controller.num_params) * scale).float()
    return Agent(vae, mdnrnn, controller, params, get_task(config.task), config.controller.reads)


def random_policy(config: Config, seed: int) -> Policy:
    """The policy that `config.collect` names, for its task; only a network is another one for each seed."""
    if config.collect.policy == "random_network":
        return random_network(seed, config)
    task = get_task(config.task)
    return UniformPolicy(task) if config.collect.policy == "uniform" else BrownianPolicy(task)


def collect(config: Config, folder: Path) -> Iterator[tuple[int, dict]]:
    """Collect the episodes of a run that are still missing in `folder`, RUN/episodes, on all cores.

    First those of the random policy, then those of the first round's agent, which is in RUN/first. Yields the number of
    episodes there are and the last one's metrics: its index, steps and return.
    """
    store, random = EpisodeStore(folder), config.collect.episodes
    total = random + config.collect.agent_episodes
    seeds = track_seeds(COLLECT_SEEDS, (config.seed,), total)
    blocks = [range(index, index + 1) for index in range(random)]
    blocks += [range(index, min(index + TOGETHER, total)) for index in range(random, total, TOGETHER)]
    missing = [block for block in blocks if not all(store.path(index).exists() for index in block)]
    done = total - sum(len(block) for block in missing)
    jobs = [(config, folder, block, seeds[block.start : block.stop]) for block in missing]
    for block, metrics in zip(missing, run(collect_block, jobs)):
        done += len(block)
        yield done, metrics


def collect_block(config: Config, folder: Path, block: range, seeds: list[int]) -> dict:
    """Drive and store a few episodes together; the noise belongs to (config's seed, the first one's index)."""
    noise = int(np.random.SeedSequence([config.seed, block.start]).generate_state(1)[0])
    random = block.start < config.collect.episodes
    policy = random_policy(config, noise) if random else Agent.load(folder.parent / "first")
    env = kept_vector(get_task(config.task).make, len(block), config.collect.max_steps)
    for index, episode in zip(block, episodes(env, policy, seeds, noise)):
        EpisodeStore(folder).save(index, episode)
    return {"episode": index, "steps": len(episode), "return": float(episode.reward.sum())}
