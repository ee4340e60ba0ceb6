"""What M's h knows that the frame doesn't: linear probes for speed, turning and the last action, from z, h and both.

Drives of the shipped agent and of the random policy, on tracks that no stage drives on, split by episode. Controls: an
untrained M's h, and the last action alone. A probe is a ridge regression, fitted on five sixths of the drives and
scored on the rest, six times; its score is the share of the variance that it explains.
"""

import numpy as np
import torch

from bench.common import FOLDER, LIMIT, SKIP, TRACKS, encoded, likelihood, memories, probe
from wmlib.agent import Agent, new_models
from wmlib.checkpoint import file_hash
from wmlib.config import resolve
from wmlib.data import Episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import MDNRNN
from wmlib.policies import BrownianPolicy
from wmlib.presets import LAPTOP
from wmlib.rollout import record_all
from wmlib.world import Policy


def knowledge(
    trained: MDNRNN, untrained: MDNRNN, found: list[Episode], codes: list[np.ndarray]
) -> tuple[dict, dict]:
    """Every probe's score by what is asked and what it reads; how much what is asked spreads on the same drives."""
    asked = {
        "speed": [drive.speed[SKIP:-1] for drive in found],
        "turning": [drive.turning[SKIP:-1] for drive in found],
        "last steering": [drive.action[SKIP - 1 : -1, 0] for drive in found],
        "last gas": [drive.action[SKIP - 1 : -1, 1] for drive in found],
    }
    h = [memories(trained, code, drive.action)[SKIP:] for code, drive in zip(codes, found)]
    blank = [memories(untrained, code, drive.action)[SKIP:] for code, drive in zip(codes, found)]
    z = [code[SKIP:] for code in codes]
    read = {
        "z": z,
        "h": h,
        "z and h": [np.concatenate(pair, axis=1) for pair in zip(z, h)],
        "untrained h": blank,
        "last action": [drive.action[SKIP - 1 : -1] for drive in found],
    }
    scores = {
        name: {what: probe(inputs, truth) for what, inputs in read.items()}
        for name, truth in asked.items()
    }
    return scores, {name: float(np.concatenate(truth).std()) for name, truth in asked.items()}


def main() -> dict:
    """Print a table for each kind of drives."""
    agent = Agent.load(FOLDER)
    torch.manual_seed(0)
    untrained = new_models(LAPTOP)[1]
    results: dict = {
        "mdnrnn_sha256": file_hash(resolve(FOLDER) / "mdnrnn" / "weights.safetensors"),
        "drives": {},
    }
    policies: dict[str, Policy] = {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}
    for name, policy in policies.items():
        found = record_all(VectorEnv(CAR_RACING.make, len(TRACKS), LIMIT), policy, TRACKS, 0)
        found = [drive for drive in found if len(drive) > 4 * SKIP]
        codes = [encoded(agent, drive) for drive in found]
        scores, spread = knowledge(agent.mdnrnn, untrained, found, codes)
        nll = float(
            np.mean([likelihood(agent.mdnrnn, drive, code) for drive, code in zip(found, codes)])
        )
        print(
            f"{name} drives ({len(found)}): {nll:.3f} nats for each latent and step; shares explained:"
        )
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
