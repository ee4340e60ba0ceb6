"""Stage 1: real episodes, driven by a random policy (paper, 3.1, step 1) and by an agent (section 5)."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from wmlib import parallel
from wmlib.agent import Agent
from wmlib.config import AGENT_BLOCK, COLLECT_SEEDS, track_seeds
from wmlib.envs.task import get_task
from wmlib.envs.vector import VectorEnv
from wmlib.policies import random_policy
from wmlib.rollout import episodes
from wmlib.run import Run
from wmlib.world import Policy

kept_vector = cache(VectorEnv)  # a worker's environments, which take long to make


def collect(run: Run) -> Iterator[tuple[int, dict]]:
    """Collect the episodes of a run that are still missing, on all cores.

    First those of the random policy, then those of the base's agent. Yields the number of episodes
    there are and the last one's metrics: its index, steps and return.
    """
    first = run.first_episode
    settings = run.config.collect
    total = first + settings.total
    random = first + settings.episodes
    seeds = track_seeds(COLLECT_SEEDS, (run.config.seed,), total)
    blocks = [range(index, index + 1) for index in range(first, random)]
    for index in range(random, total, AGENT_BLOCK):
        blocks.append(range(index, min(index + AGENT_BLOCK, total)))
    there = {path.name for path in run.episodes.find()}
    missing = [
        block for block in blocks if any(run.episodes.path(i).name not in there for i in block)
    ]
    done = settings.total - sum(map(len, missing))
    jobs = [(run, block, seeds[block.start : block.stop]) for block in missing]
    for block, metrics in zip(missing, parallel.run(collect_block, jobs)):
        done += len(block)
        yield done, metrics


def collect_block(run: Run, block: range, seeds: list[int]) -> dict:
    """Drive and store a few episodes together; noise belongs to (the run's seed, the first index)."""
    config = run.config
    noise = int(np.random.SeedSequence([config.seed, block.start]).generate_state(1)[0])
    random = block.start < run.first_episode + config.collect.episodes
    policy: Policy = random_policy(config, noise) if random else base_agent(run)
    env = kept_vector(get_task(config.task).make, len(block), config.collect.max_steps)
    for index, episode in zip(block, episodes(env, policy, seeds, noise)):
        run.episodes.save(index, episode)
    return {"episode": index, "steps": len(episode), "return": float(episode.reward.sum())}


def base_agent(run: Run) -> Agent:
    """The agent of the run that this one goes on from; ValueError without one."""
    base = run.base
    if base is None:
        raise ValueError(f"{run.folder} goes on from no run, so there is no agent to drive")
    return Agent.load(base.folder)
