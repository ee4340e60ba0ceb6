"""Stage 5: the score that counts, on the official game and its pixels, on tracks nothing has seen."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmlib import parallel
from wmlib.agent import Agent
from wmlib.config import EVALUATE_BLOCK, EVALUATE_SEEDS
from wmlib.envs.task import get_task
from wmlib.envs.vector import VectorEnv
from wmlib.policies import UniformPolicy
from wmlib.rollout import returns
from wmlib.world import Policy

Scores = Iterator[tuple[int, list[float]]]


def evaluate(folder: Path, episodes: int, first_seed: int = EVALUATE_SEEDS.start) -> Scores:
    """Score the agent in `folder` on the official tracks first_seed, first_seed + 1, ...

    On all cores. Yields the number of episodes done and all returns so far, in the order of the
    seeds. Raises ValueError unless the seeds are among those that no stage trains or selects on.
    """
    agent = Agent.load(folder)  # what is missing or damaged is reported before the work begins
    yield from _scored(folder, agent.task.name, episodes, first_seed)


def evaluate_random(task: str, episodes: int, first_seed: int = EVALUATE_SEEDS.start) -> Scores:
    """The same for actions drawn evenly from a task's action space.

    It never looks, so the fast environment, equal but for its pixels, gives the official returns.
    """
    yield from _scored(None, task, episodes, first_seed)


def _scored(folder: Path | None, task: str, episodes: int, first_seed: int) -> Scores:
    last = first_seed + episodes - 1
    if episodes < 1 or first_seed not in EVALUATE_SEEDS or last not in EVALUATE_SEEDS:
        allowed = f"track seeds from {EVALUATE_SEEDS.start:,} to {EVALUATE_SEEDS.stop - 1:,}"
        raise ValueError(f"evaluation takes at least 1 episode and {allowed}")
    seeds = list(range(first_seed, first_seed + episodes))
    found: list[float] = []
    blocks = [seeds[i : i + EVALUATE_BLOCK] for i in range(0, episodes, EVALUATE_BLOCK)]
    for scores in parallel.run(score, [(folder, task, block) for block in blocks]):
        found += scores
        yield len(found), found


def score(folder: Path | None, name: str, seeds: list[int]) -> list[float]:
    """The return on each track: of the agent in a folder on the official ones, or of white noise."""
    task = get_task(name)
    policy: Policy = Agent.load(folder) if folder else UniformPolicy(task)
    make = task.make_official if folder else task.make
    env = VectorEnv(make, len(seeds), task.max_steps)
    return returns(env, policy, seeds, seeds[0])[0].tolist()


def summarise(scores: list[float]) -> dict:
    """Mean, standard deviation over episodes and a 95 % bootstrap interval of the mean."""
    found = np.asarray(scores)
    rng = np.random.default_rng(
        int.from_bytes(hashlib.sha256(found.tobytes()).digest()[:8], "little")
    )
    means = rng.choice(found, (10_000, len(found))).mean(axis=1)
    spread = {
        "mean": found.mean(),
        "std": found.std(),
        "interval": np.percentile(means, [2.5, 97.5]).tolist(),
    }
    return {"episodes": len(found), **spread, "returns": found.tolist()}
