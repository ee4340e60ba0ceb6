"""What M's h knows that the frame doesn't: linear probes for speed, turning and the last action, from z, h and both.

Of episodes of the shipped agent and of the random policy, on tracks that no stage drives on. Controls:
an untrained M's h, and the last action alone. A probe is a ridge regression, fitted on five sixths of
the episodes and scored on the rest, six times; its score is the share of the variance that it explains.
"""

import numpy as np
import torch

from bench.common import (
    FOLDER,
    SKIP,
    driven,
    drivers,
    encoded,
    likelihood,
    memories,
    probe,
    weights_hashes,
)
from wmlib.agent import Agent, new_models
from wmlib.data import Episode
from wmlib.mdnrnn import MDNRNN
from wmlib.presets import LAPTOP


def knowledge(
    trained: MDNRNN, untrained: MDNRNN, found: list[Episode], codes: list[np.ndarray]
) -> tuple[dict, dict]:
    """Every probe's score by what is asked and what it reads; how much what is asked spreads on the same episodes."""
    asked = {
        "speed": [episode.speed[SKIP:-1] for episode in found],
        "turning": [episode.turning[SKIP:-1] for episode in found],
        "last steering": [episode.action[SKIP - 1 : -1, 0] for episode in found],
        "last gas": [episode.action[SKIP - 1 : -1, 1] for episode in found],
    }
    h = [memories(trained, code, episode.action)[SKIP:] for code, episode in zip(codes, found)]
    blank = [
        memories(untrained, code, episode.action)[SKIP:] for code, episode in zip(codes, found)
    ]
    z = [code[SKIP:] for code in codes]
    read = {
        "z": z,
        "h": h,
        "z and h": [np.concatenate(pair, axis=1) for pair in zip(z, h)],
        "untrained h": blank,
        "last action": [episode.action[SKIP - 1 : -1] for episode in found],
    }
    scores = {
        name: {what: probe(inputs, truth) for what, inputs in read.items()}
        for name, truth in asked.items()
    }
    return scores, {name: float(np.concatenate(truth).std()) for name, truth in asked.items()}


def main() -> dict:
    """Print a table for each driver."""
    agent = Agent.load(FOLDER)
    torch.manual_seed(0)
    untrained = new_models(LAPTOP)[1]
    results: dict = {"mdnrnn_sha256": weights_hashes("mdnrnn")["mdnrnn"], "drives": {}}
    for name, policy in drivers(agent).items():
        found = [episode for episode in driven(policy) if len(episode) > 4 * SKIP]
        codes = [encoded(agent, episode) for episode in found]
        scores, spread = knowledge(agent.mdnrnn, untrained, found, codes)
        each = [likelihood(agent.mdnrnn, *pair) for pair in zip(found, codes)]
        nll = float(np.mean(each))
        cost = f"{nll:.3f} nats for each latent and step; shares explained:"
        print(f"{name} episodes ({len(found)}): {cost}")
        for asked, row in scores.items():
            shares = "".join(f"{what:>15} {share:5.2f}" for what, share in row.items())
            print(f"  {asked:14} spread {spread[asked]:6.2f}{shares}")
        results["drives"][name] = {
            "number": len(found),
            "nll": nll,
            "spread": spread,
            "share_explained": scores,
        }
    return results
