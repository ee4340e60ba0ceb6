"""Frames a second of collecting: the origin script's loop, and ours on all cores with every episode stored, in turn."""

import statistics
import tempfile
import time
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch

from wmlib import parallel
from wmlib.collect import collect
from wmlib.presets import LAPTOP
from wmlib.run import claim_run

ROUNDS, SCRIPT_FRAMES, EPISODES_A_CORE = 5, 500, 3


def script(frames: int) -> None:
    """The origin script's way, written anew: uniform actions, stock environment, a torch resize, all kept in a list.

    Its episodes of five steps would spend most of the time in reset; here one episode fills the round.
    """
    env, data = gym.make("CarRacing-v3", render_mode="rgb_array"), []
    obs, _ = env.reset(seed=0)
    for _ in range(frames):
        action = np.random.uniform([-1, 0, 0], [1, 1, 1]).astype(np.float32)
        following, _, terminated, truncated, _ = env.step(action)
        image = torch.from_numpy(obs).permute(2, 0, 1).float() / 255
        data.append((torch.nn.functional.interpolate(image[None], size=(64, 64))[0], action))
        obs = env.reset()[0] if terminated or truncated else following
    env.close()


def ours(episodes: int, seed: int) -> int:
    """Collect LAPTOP's episodes into a folder that is thrown away; returns the frames."""
    collected = replace(LAPTOP.collect, episodes=episodes, agent_episodes=0)
    config = replace(LAPTOP, seed=seed, after=None, collect=collected)
    with tempfile.TemporaryDirectory() as folder:
        run = claim_run(f"{folder}/run", config)
        return sum(metrics["steps"] + 1 for _, metrics in collect(run))


def main():
    ours(parallel.cores(), seed=99)  # the workers start once a session: not counted
    rates = {"script": [], "ours": []}
    for index in range(ROUNDS):
        start = time.perf_counter()
        script(SCRIPT_FRAMES)
        middle = time.perf_counter()
        frames = ours(EPISODES_A_CORE * parallel.cores(), seed=index)
        rates["script"].append(SCRIPT_FRAMES / (middle - start))
        rates["ours"].append(frames / (time.perf_counter() - middle))
    parallel.stop()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:8}{rate:9.0f} frames/s")
    ratio = statistics.median(ours / script for ours, script in zip(rates["ours"], rates["script"]))
    print(
        f"ours, on {parallel.cores()} cores, collects {ratio:.1f} times as fast (median of {ROUNDS} rounds)"
    )
    return {"rounds": ROUNDS, "frames_per_s": medians, "ours_times_as_fast_as_script": ratio}
