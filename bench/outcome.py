"""Trains what the shipped M lacks, M itself unchanged: from its h, what a step pays and whether it ends the drive.

The weights go to data/pretrained/car_racing/outcome, where Agent.load finds them: dreams then pay and end. Learnt from
drives of the agent and of the random policy, judged on others. Steps that end a drive are left out of the reward's
error, or a few times -100 would drown all else. Three minutes on two cores.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.memory import FOLDER, TRACKS, encoded, share
from wmlib.agent import Agent
from wmlib.checkpoint import describe, file_hash, save_weights, to_half
from wmlib.collect import BrownianPolicy
from wmlib.config import COLLECT_SEEDS, resolve
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import END_WEIGHT, outcome_layers
from wmlib.rollout import Drive, Policy, drives

SEEDS = COLLECT_SEEDS[5_000_000 : 5_000_000 + 256]
STEPS, BATCH, RATE = 10_000, 512, 1e-3
WINDOW = 50  # steps, a second of the game


def driven(policy: Policy, seeds: Sequence[int]) -> list[Drive]:
    """A drive on each track, 32 at a time."""
    groups = [list(seeds[i : i + 32]) for i in range(0, len(seeds), 32)]
    return [
        drive
        for group in groups
        for drive in drives(
            VectorEnv(CAR_RACING.make, len(group), 1_000), policy, group, policy_seed=group[0]
        )
    ]


@torch.inference_mode()
def remembered(agent: Agent, drive: Drive, noise: float = 0.0) -> Tensor:
    """h (T, H) after each action of a drive; with noise 1 M reads draws, as in a dream, and not mu."""
    z = torch.from_numpy(encoded(agent, drive))
    if drive.logvar is not None:
        z = z + noise * torch.from_numpy(np.exp(drive.logvar / 2)) * torch.randn(z.shape)
    return agent.mdnrnn.memory(z[None], torch.from_numpy(drive.action)[None])[0][0]


def trained(h: Tensor, reward: Tensor, end: Tensor) -> nn.Sequential:
    """The layers, from h (N, H), reward (N,) and end (N,) of as many steps."""
    layers = outcome_layers(h.shape[1])
    optimizer = torch.optim.Adam(layers.parameters(), RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        some = torch.randint(len(h), (BATCH,))
        expected, logit = layers(h[some]).unbind(dim=-1)
        error = (expected - reward[some])[~end[some]].square().mean()
        weight = torch.tensor(END_WEIGHT)
        loss = error + F.binary_cross_entropy_with_logits(
            logit, end[some].float(), pos_weight=weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layers


@torch.inference_mode()
def judged(agent: Agent, found: list[Drive]) -> dict:
    """Reward: what a second pays, and the shares explained. Ends: how many, how many called within a second of them."""
    guesses, truths, called, false_calls = [], [], 0, 0
    for drive in found:
        reward, logit = (
            part[0].numpy() for part in agent.mdnrnn.outcome(remembered(agent, drive)[None])
        )
        whole = (len(drive) - drive.terminated) // WINDOW * WINDOW
        guesses.append(reward[:whole].reshape(-1, WINDOW))
        truths.append(drive.reward[:whole].reshape(-1, WINDOW))
        calls = np.flatnonzero(logit > 0)
        near = calls >= len(drive) - WINDOW if drive.terminated else np.zeros(len(calls), bool)
        called, false_calls = called + bool(near.any()), false_calls + int((~near).sum())
    guess, truth = np.concatenate(guesses), np.concatenate(truths)
    return {
        "number": len(found),
        "steps": sum(map(len, found)),
        "reward_a_second": {
            "expected": float(guess.sum(axis=1).mean()),
            "paid": float(truth.sum(axis=1).mean()),
        },
        "share_of_reward": {
            "a step": share(guess, truth),
            "a second": share(guess.sum(axis=1), truth.sum(axis=1)),
        },
        "ends": sum(drive.terminated for drive in found),
        "ends_called": called,
        "false_calls": false_calls,
    }


def main() -> dict:
    """Print two lines for each kind of drives."""
    torch.manual_seed(0)
    started, agent = time.time(), Agent.load(FOLDER)
    policies = {"the agent's": agent, "random": BrownianPolicy()}
    learnt_from = driven(agent, SEEDS[:96]) + driven(BrownianPolicy(), SEEDS[96:])
    h = torch.cat(
        [remembered(agent, drive, noise=index % 2) for index, drive in enumerate(learnt_from)]
    )
    reward = torch.cat([torch.from_numpy(drive.reward).float() for drive in learnt_from])
    end = torch.cat(
        [torch.arange(1 - len(drive), 1) == (0 if drive.terminated else 1) for drive in learnt_from]
    )
    agent.mdnrnn.to_outcome = trained(h, reward, end)
    weights = {
        part: file_hash(resolve(FOLDER) / part / "weights.safetensors")
        for part in ("vae", "mdnrnn")
    }
    meta = describe(started, command="python -m bench outcome", inputs_sha256=weights, steps=len(h))
    save_weights(resolve(FOLDER) / "outcome", to_half(agent.mdnrnn.to_outcome.state_dict()), meta)
    results: dict = {
        "outcome_sha256": file_hash(resolve(FOLDER) / "outcome" / "weights.safetensors"),
        "drives": {},
    }
    for name, policy in policies.items():
        results["drives"][name] = row = judged(agent, driven(policy, TRACKS))
        shares = ", ".join(
            f"{value:.2f} of {what}" for what, value in row["share_of_reward"].items()
        )
        expected, paid = row["reward_a_second"].values()
        print(
            f"{name} drives: a second pays {paid:.1f}, expected {expected:.1f}; share of the reward explained: {shares}"
        )
        print(
            f"  {row['ends']} ends, {row['ends_called']} called, {row['false_calls']} steps called without one"
        )
    return results
