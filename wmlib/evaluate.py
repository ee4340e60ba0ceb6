"""Stage 5: the score that counts, on gymnasium's own environment and pixels, on tracks that nothing has seen."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmlib.agent import Agent
from wmlib.collect import UniformPolicy
from wmlib.config import EVALUATE_SEEDS
from wmlib.envs.task import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.parallel import run
from wmlib.rollout import returns

TRACKS_PER_JOB = 5


def evaluate(folder: Path, episodes: int, first_seed: int = EVALUATE_SEEDS.start) -> Iterator[tuple[int, list[float]]]:
    """Score the agent in `folder` on the official tracks first_seed, first_seed + 1, ..., on all cores.

    Yields the number of episodes done and all returns so far, in the order of the seeds.
    Raises ValueError unless the seeds are among those that no stage trains or selects on.
    """
    Agent.load(folder)  # what is missing or damaged is reported before the work begins
    yield from _scored(score_agent, folder, episodes, first_seed)


def evaluate_random(episodes: int, first_seed: int = EVALUATE_SEEDS.start) -> Iterator[tuple[int, list[float]]]:
    """The same for actions drawn evenly from the action space.

    It never looks, so the fast environment, equal but for its pixels, gives the official returns.
    """
    yield from _scored(score_random, None, episodes, first_seed)


def _scored(score, folder: Path | None, episodes: int, first_seed: int) -> Iterator[tuple[int, list[float]]]:
    if episodes < 1 or first_seed not in EVALUATE_SEEDS or first_seed + episodes - 1 not in EVALUATE_SEEDS:
        raise ValueError(f"evaluation takes at least 1 episode and track seeds from {EVALUATE_SEEDS.start:,} to {EVALUATE_SEEDS.stop - 1:,}")
    seeds = list(range(first_seed, first_seed + episodes))
    found: list[float] = []
    for scores in run(score, [(folder, seeds[i : i + TRACKS_PER_JOB]) for i in range(0, episodes, TRACKS_PER_JOB)]):
        found += scores
        yield len(found), found


def score_agent(folder: Path, seeds: list[int]) -> list[float]:
    """The agent's return on each official track."""
    env = VectorEnv(CAR_RACING.make_official, len(seeds), CAR_RACING.max_steps)
    return returns(env, Agent.load(folder), seeds, seeds[0])[0].tolist()


def score_random(_, seeds: list[int]) -> list[float]:
    """White noise's return on each track."""
    env = VectorEnv(CAR_RACING.make, len(seeds), CAR_RACING.max_steps)
    return returns(env, UniformPolicy(), seeds, seeds[0])[0].tolist()


def summarise(scores: list[float]) -> dict:
    """Mean, standard deviation over episodes and a 95 % bootstrap interval of the mean."""
    scores = np.asarray(scores)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(scores.tobytes()).digest()[:8], "little"))
    means = rng.choice(scores, (10_000, len(scores))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"episodes": len(scores), "mean": scores.mean(), "std": scores.std(), "interval": [low, high], "returns": scores.tolist()}
