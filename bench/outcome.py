"""What the shipped M says of a step besides the next z: what it pays, and whether it ends the episode.

Both were learnt from M's h after M (`python -m wmlib train-mdnrnn`, where the configuration's outcome is trained
"after" M). Here they are judged on episodes of the agent and of the random policy, on tracks of their own.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.common import FOLDER, LIMIT, TRACKS, encoded, share, weights_hashes
from wmlib.agent import Agent
from wmlib.data import Episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.policies import BrownianPolicy
from wmlib.rollout import record_all
from wmlib.world import Policy

WINDOW = 50  # steps, a second of the game


def driven(policy: Policy, seeds: Sequence[int]) -> list[Episode]:
    """A drive on each track, 32 at a time."""
    groups = [list(seeds[i : i + 32]) for i in range(0, len(seeds), 32)]
    return [
        drive
        for group in groups
        for drive in record_all(
            VectorEnv(CAR_RACING.make, len(group), LIMIT), policy, group, policy_seed=group[0]
        )
    ]


@torch.inference_mode()
def remembered(agent: Agent, episode: Episode) -> Tensor:
    """h (T, H) after each action of an episode."""
    z = torch.from_numpy(encoded(agent, episode))
    return agent.mdnrnn.memory(z[None], torch.from_numpy(episode.action)[None])[0][0]


@torch.inference_mode()
def judged(agent: Agent, found: list[Episode]) -> dict:
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
    agent = Agent.load(FOLDER)
    policies: dict[str, Policy] = {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}
    results: dict = {"outcome_sha256": weights_hashes("outcome")["outcome"], "drives": {}}
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
