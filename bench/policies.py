"""Where random policies get, and what a V and an M that saw only their drives make of a good driver's frames.

For each policy: tiles visited, speed, distance from the start, how many directions the frames vary in; then QUICK's V
and M are trained on its drives and asked about the shipped agent's: V for the frame itself, M for the next one.
"""

import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from wmlib import parallel
from wmlib.agent import Agent, load_world_model
from wmlib.collect import collect
from wmlib.config import RANDOM_POLICIES, SELECT_SEEDS
from wmlib.data import Episode, load_episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.policies import random_policy
from wmlib.presets import QUICK
from wmlib.rollout import episodes, record
from wmlib.run import Run, claim_run
from wmlib.train import mdnrnn_stage, vae_stage
from wmlib.vae import to_float

DRIVES, STEPS, SEEDS = 48, 1_000, (0, 1)


def reach(policy: str, seed: int) -> dict[str, float]:
    """One drive's tiles visited, mean speed and farthest distance from the start, in world units."""
    env = VectorEnv(CAR_RACING.make, 1, STEPS)
    config = replace(QUICK, collect=replace(QUICK.collect, policy=policy))
    drive = record(env, random_policy(config, seed), seed, policy_seed=seed)
    far = np.linalg.norm(drive.place - drive.place[0], axis=1).max()
    game: Any = env.envs[0].unwrapped
    tiles = game.tile_visited_count
    return {"tiles": tiles, "speed": float(drive.speed[1:].mean()), "farthest": float(far)}


def directions(frames: np.ndarray) -> float:
    """In how many directions frames (N, 64, 64, 3) vary: the participation ratio of their principal components."""
    flat = frames.reshape(len(frames), -1).astype(np.float32) / 255
    power = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
    return float(power.sum() ** 2 / (power**2).sum())


@torch.inference_mode()
def errors(run: Run, drives: list[Episode]) -> tuple[float, float]:
    """Squared error a frame, summed over the image, on some drives: V's of the frame itself, V and M's of the next."""
    model = load_world_model(run)
    seen, expected = [], []
    for drive in drives:
        x = to_float(drive.obs)
        z, _ = model.vae.encode(x)
        h, _ = model.mdnrnn.memory(z[None, :-1], torch.from_numpy(drive.action)[None])
        mixture = model.mdnrnn.mixture(h)
        mean = (mixture.logits.softmax(-1) * mixture.mu).sum(-1)[0]
        seen.append((model.vae.decode(z) - x).square().sum((1, 2, 3)))
        expected.append((model.vae.decode(mean) - x[1:]).square().sum((1, 2, 3)))
    return torch.cat(seen).mean().item(), torch.cat(expected).mean().item()


def measured(policy: str, drives: list[Episode]) -> dict:
    """All that is said of a policy: means over its drives, and over the seeds of V and M."""
    driven = list(parallel.run(reach, [(policy, seed) for seed in range(DRIVES)]))
    found: dict = {name: float(np.mean([drive[name] for drive in driven])) for name in driven[0]}
    found |= {"directions": [], "seen_error": [], "expected_error": []}
    for seed in SEEDS:
        collected = replace(QUICK.collect, max_steps=STEPS, policy=policy)
        config = replace(QUICK, seed=seed, collect=collected)
        with tempfile.TemporaryDirectory() as folder:
            run = claim_run(f"{folder}/run", config)
            for stage in (collect(run), vae_stage(run), mdnrnn_stage(run)):
                for _ in stage:
                    pass
            kept = [load_episode(path).obs[50::25] for path in run.episode_paths()]
            found["directions"].append(directions(np.concatenate(kept)))
            for key, error in zip(("seen_error", "expected_error"), errors(run, drives)):
                found[key].append(error)
    return found


def main():
    """Print a line for each policy."""
    agent = Agent.load("data/pretrained/car_racing")
    drives = episodes(VectorEnv(CAR_RACING.make, 4, STEPS), agent, list(SELECT_SEEDS[500:504]), 0)
    drives = [
        Episode(drive.obs[50:], drive.action[50:], drive.reward[50:], drive.terminated, drive.seed)
        for drive in drives
    ]
    results = {}
    print(
        f"{'':16}{'tiles':>7}{'speed':>7}{'farthest':>10}{'directions':>12}{'frame error':>13}{'next frame':>12}"
    )
    for policy in RANDOM_POLICIES:
        found = results[policy] = measured(policy, drives)
        means = (np.mean(found[key]) for key in ("directions", "seen_error", "expected_error"))
        columns = found["tiles"], found["speed"], found["farthest"], *means
        print(
            "{:16}{:7.1f}{:7.1f}{:10.0f}{:12.1f}{:13.1f}{:12.1f}".format(policy, *columns),
            flush=True,
        )
    parallel.stop()
    return {"drives": DRIVES, "steps": STEPS, "policies": results}
