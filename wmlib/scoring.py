"""What candidates, and the distribution's mean, are worth: their returns in a world.

Letters: P candidates, N parameters.
"""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from wmlib import parallel
from wmlib.agent import Agent, load_memory, load_world_model
from wmlib.config import CANDIDATE_BLOCK, SELECT_BLOCK, EvolveConfig
from wmlib.envs.task import get_task
from wmlib.fast import has_bf16
from wmlib.mdnrnn import MDNRNN
from wmlib.rollout import returns
from wmlib.run import Run
from wmlib.world import open_world, run_starts


def score_candidates(
    run: Run,
    settings: EvolveConfig,
    candidates: np.ndarray,
    seeds: list[int],
    generation: int,
    rung: int = 0,
) -> np.ndarray:
    """The return of each candidate (P, N) on each track, or dream, of `seeds`: (P, tracks).

    Every generation, and every rung of halving in it, has noise of its own.
    """
    total = len(candidates) * len(seeds)
    pairs = math.ceil(total / CANDIDATE_BLOCK / 2)  # an even number of jobs, for two cores
    blocks = np.array_split(candidates.astype(np.float32), min(2 * pairs, len(candidates)))
    later = [rung] if rung else []
    jobs = []
    for index, block in enumerate(blocks):
        jobs.append((run, settings, block, seeds, (run.config.seed, generation, index, *later)))
    return np.concatenate(list(parallel.run(score_block, jobs)))


def score_mean(run: Run, mean: np.ndarray, seeds: list[int]) -> list[float]:
    """The return of one policy on each real track of `seeds`, driven to its end."""
    settings = run.config.evolve
    if settings.world == "dream":  # its limit is the dream's
        limit = get_task(run.config.task).max_steps
        settings = replace(settings, world="real", max_steps=limit)
    settings = replace(settings, patience=None)
    params = mean[None].astype(np.float32)
    jobs = []
    for first in range(0, len(seeds), SELECT_BLOCK):
        block = seeds[first : first + SELECT_BLOCK]
        jobs.append((run, settings, params, block, (run.config.seed, first)))
    return np.concatenate([scores[0] for scores in parallel.run(score_block, jobs)]).tolist()


def score_block(
    run: Run,
    settings: EvolveConfig,
    params: np.ndarray,
    seeds: list[int],
    noise: tuple[int, ...],
) -> np.ndarray:
    """The return of each policy of params (P, N) on each track, or dream, of `seeds`: (P, tracks).

    An episode that patience cut short is charged for the steps that were left, as if the agent had
    gone on without success.
    """
    agent, dreamers = _loaded(run, *run.input_hashes().values())
    agent.params = torch.from_numpy(params)
    # One world serves every limit, which may grow.
    alike = replace(settings, max_steps=1, first_steps=None, growth=None)
    world, policy = _opened(agent, dreamers, alike, len(params) * len(seeds), run)
    world.max_steps = settings.max_steps
    policy_seed = int(np.random.SeedSequence(noise).generate_state(1)[0])
    total, steps = returns(world, policy, seeds * len(params), policy_seed)
    left = np.where(world.stalled, settings.max_steps - steps, 0)
    return (total - agent.task.step_cost * left).reshape(len(params), len(seeds))


@lru_cache(maxsize=1)
def _loaded(run: Run, *hashes: str) -> tuple[Agent, tuple[MDNRNN, ...]]:
    """One agent a worker, and the Ms that dream; loaded again only when weights change."""
    agent = load_world_model(run)
    if has_bf16(torch.device("cpu")):
        agent.vae.bfloat16()
    return agent, tuple(load_memory(run, part) for part in run.memories[1:])


@lru_cache(maxsize=2)
def _opened(
    agent: Agent, dreamers: tuple[MDNRNN, ...], settings: EvolveConfig, num_envs: int, run: Run
):
    """A worker's last worlds, kept: a real one takes long to make."""
    starts = run_starts(run) if settings.world == "dream" else None
    return open_world(agent, settings, num_envs, starts, dreamers)
