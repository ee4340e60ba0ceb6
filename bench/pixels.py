"""What the fast pixels cost: the shipped agent on the same tracks in the official environment and in ours, paired."""

import numpy as np

from bench.common import FOLDER, weights_hashes
from wmlib import parallel
from wmlib.agent import Agent
from wmlib.checkpoint import read_json
from wmlib.config import EVALUATE_BLOCK, resolve
from wmlib.envs.vector import VectorEnv
from wmlib.evaluate import summarise
from wmlib.rollout import returns

RESULTS = "data/results/car_racing.json"
TRACKS = 100
LIMIT = 1_000  # steps


def score(seeds: list[int]) -> list[float]:
    """The agent's return on each track, on our pixels; the noise is the evaluation's."""
    agent = Agent.load(FOLDER)
    env = VectorEnv(agent.task.make, len(seeds), LIMIT)
    return returns(env, agent, seeds, seeds[0])[0].tolist()


def main() -> dict:
    """Print both means and the mean difference with its interval."""
    results = read_json(resolve(RESULTS))
    if not weights_hashes("vae", "mdnrnn").items() <= results["weights_sha256"].items():
        raise ValueError(
            f"{RESULTS} is about other weights than {FOLDER} holds; run python -m wmlib evaluate first"
        )
    official = np.array(results["agent"]["returns"][:TRACKS])
    seeds = [results["first_seed"] + i for i in range(len(official))]
    jobs = [(seeds[i : i + EVALUATE_BLOCK],) for i in range(0, len(seeds), EVALUATE_BLOCK)]
    fast = np.array([value for values in parallel.run(score, jobs) for value in values])
    parallel.stop()
    difference = summarise((fast - official).tolist())
    low, high = difference["interval"]
    print(
        f"official {official.mean():.1f} ± {official.std():.1f}, fast {fast.mean():.1f} ± {fast.std():.1f}"
    )
    print(
        f"fast minus official: {difference['mean']:.1f}, mean within {low:.1f} to {high:.1f} over {len(fast)} tracks"
    )
    return {
        "official": results["agent"],
        "fast": summarise(fast.tolist()),
        "difference": difference,
    }
