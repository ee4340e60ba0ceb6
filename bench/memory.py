"""What M's h knows that the frame doesn't: linear probes for speed, turning and the last action, from z, h and both.

Drives of the shipped agent and of the random policy, on tracks that no stage drives on, split by episode. Controls: an
untrained M's h, and the last action alone. A probe is a ridge regression, fitted on five sixths of the drives and
scored on the rest, six times; its score is the share of the variance that it explains.
"""

import numpy as np
import torch

from wmlib.agent import Agent, new_models
from wmlib.checkpoint import file_hash
from wmlib.collect import BrownianPolicy
from wmlib.config import LAPTOP, resolve
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import MDNRNN, mixture_nll
from wmlib.rollout import Drive, drives
from wmlib.train import encode_frames

FOLDER = "data/pretrained/car_racing"
TRACKS = [45_000_000 + i for i in range(24)]  # in no stage's range
FOLDS, SKIP, RIDGE = 6, 50, 100.0  # SKIP: first steps left out, while the camera comes down


@torch.inference_mode()
def memories(mdnrnn: MDNRNN, codes: np.ndarray, action: np.ndarray) -> np.ndarray:
    """h[t] (T, H), before z[t] and action[t], of one drive."""
    h, _ = mdnrnn.memory(torch.from_numpy(codes)[None], torch.from_numpy(action)[None])
    return torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)[0].numpy()


def share(guess: np.ndarray, truth: np.ndarray) -> float:
    """The share of the truth's variance that a guess explains."""
    return float(1 - np.mean((guess - truth) ** 2) / truth.var())


def probe(inputs: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """The share explained: inputs (T, F) and truth (T,) of each drive."""
    x, y = np.concatenate(inputs).astype(float), np.concatenate(truth)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    fold = np.repeat(np.arange(len(truth)) % FOLDS, [len(one) for one in truth])
    guess = np.empty_like(y)
    for one in range(FOLDS):
        fit, middle = x[fold != one], y[fold != one].mean()
        weights = np.linalg.solve(
            fit.T @ fit + RIDGE * np.eye(x.shape[1]), fit.T @ (y[fold != one] - middle)
        )
        guess[fold == one] = x[fold == one] @ weights + middle
    return share(guess, y)


def knowledge(
    trained: MDNRNN, untrained: MDNRNN, found: list[Drive], codes: list[np.ndarray]
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


@torch.inference_mode()
def likelihood(mdnrnn: MDNRNN, drive: Drive, codes: np.ndarray) -> float:
    """The mean -log p(z[t+1]) of one latent, in nats."""
    z, action = torch.from_numpy(codes)[None], torch.from_numpy(drive.action)[None]
    mixture, _ = mdnrnn(z[:, :-1], action[:, :-1])
    return mixture_nll(mixture, z[:, 1:])[:, SKIP:].mean().item()


def encoded(agent: Agent, drive: Drive) -> np.ndarray:
    """The codes (T, Z) that the agent's M reads of a drive's frames."""
    if drive.z is not None:
        return drive.z
    mu, logvar = (torch.from_numpy(part) for part in encode_frames(agent.vae, drive.frames[:-1]))
    return (
        mu
        if "mu" in agent.reads
        else agent.vae.sample(mu, logvar, torch.Generator().manual_seed(0))
    ).numpy()


def main() -> dict:
    """Print a table for each kind of drives."""
    agent = Agent.load(FOLDER)
    torch.manual_seed(0)
    untrained = new_models(LAPTOP)[1]
    results = {
        "mdnrnn_sha256": file_hash(resolve(FOLDER) / "mdnrnn" / "weights.safetensors"),
        "drives": {},
    }
    for name, policy in {"the agent's": agent, "random": BrownianPolicy()}.items():
        found = drives(VectorEnv(CAR_RACING.make, len(TRACKS), 1_000), policy, TRACKS, 0)
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
