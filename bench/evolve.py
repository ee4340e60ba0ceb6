"""A generation's drives, environment steps a second on all cores: the script that the course began with, and ours.

The script drives one candidate after another in the stock environment, each frame through V twice, once as what C sees
and once as what M is told; its loop is written anew here. Ours is `race` with LAPTOP's numbers around the shipped C.
Both drive in turns. No lap ends within STEPS, so that the number of steps is known.
"""

import statistics
import tempfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench.common import FOLDER, episodes_in_generation, timed
from wmlib import parallel
from wmlib.agent import Agent
from wmlib.evolve import race
from wmlib.presets import LAPTOP
from wmlib.run import claim_run, load_config

ROUNDS, STEPS, ORIGIN_STEPS = 5, 600, 400


class OriginV(nn.Module):
    """The script's encoder: padded convolutions to 4x4x256, then mu and logvar of 32 latents in one layer."""

    def __init__(self):
        super().__init__()
        widths = [3, 32, 64, 128, 256]
        pairs = zip(widths[:-1], widths[1:])
        layers = [
            layer
            for a, b in pairs
            for layer in (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU())
        ]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 64))

    def forward(self, obs: np.ndarray) -> torch.Tensor:
        """A stock observation (96, 96, 3) to mu (32,)."""
        x = torch.from_numpy(obs).permute(2, 0, 1).float()[None] / 255
        return self.layers(F.interpolate(x, size=(64, 64))).chunk(2, dim=1)[0][0]


class OriginM(nn.Module):
    """The script's M: an LSTM and its mixture, which is computed at every step."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(35, 256, batch_first=True), nn.Linear(256, 5 * 65)

    def forward(self, z: torch.Tensor, action: np.ndarray, state):
        """The mixture and the state after one step."""
        h, state = self.lstm(torch.cat([z, torch.from_numpy(action).float()])[None, None], state)
        return self.head(h), state


@torch.no_grad()
def origin(env: gym.Env, v: OriginV, m: OriginM, seed: int) -> int:
    """One candidate's drive as the script evaluates it; returns its steps."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(0, 0.1, (3, 288)), rng.normal(0, 0.1, (3, 1))
    obs, _ = env.reset(seed=seed)
    state, done, steps = (torch.zeros(1, 1, 256), torch.zeros(1, 1, 256)), False, 0
    while not done and steps < ORIGIN_STEPS:
        z = v(obs)
        x = np.concatenate([z.numpy(), state[0][0, 0].numpy()])[:, None]
        action = np.clip((weights @ x + bias)[:, 0], [-1, 0, 0], 1)
        obs, _, terminated, truncated, _ = env.step(action)
        v(obs)
        _, state = m(z, action, state)
        done, steps = terminated or truncated, steps + 1
    return steps


def main() -> dict:
    """Print both rates, round by round, and their ratio."""
    mean = Agent.load(FOLDER).params[0].numpy().astype(float)
    settings = replace(LAPTOP.evolve, max_steps=STEPS, first_steps=None, growth=None, patience=None)
    shipped = load_config(FOLDER)
    config = replace(
        shipped,
        after=FOLDER,
        keeps=("vae", "mdnrnn"),
        collect=replace(shipped.collect, episodes=0, agent_episodes=0),
        evolve=settings,
    )
    env, v, m = gym.make("CarRacing-v3", render_mode="rgb_array"), OriginV(), OriginM()
    rates: dict[str, list[float]] = {"origin": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        run = claim_run(f"{name}/run", config)
        for number in range(ROUNDS + 1):
            noise = np.random.default_rng(number).standard_normal((settings.popsize, len(mean)))
            candidates = mean + (settings.sigma_end or settings.sigma0) * noise
            ours, _ = timed(race, run, candidates, number, [])
            theirs, steps = timed(origin, env, v, m, number)
            if number > 0:  # the first round starts the workers and makes the worlds
                rates["origin"].append(steps / theirs)
                rates["ours"].append(episodes_in_generation(settings) * STEPS / ours)
                origins, own = rates["origin"][-1], rates["ours"][-1]
                print(f"origin {origins:7.1f}   ours {own:7.1f} steps a second", flush=True)
    parallel.stop()
    ratio = statistics.median(rates["ours"]) / statistics.median(rates["origin"])
    print(f"ours takes {ratio:.1f} times as many steps a second")
    return {
        "steps": STEPS,
        "drives_in_a_generation": episodes_in_generation(settings),
        "steps_per_second": rates,
        "ratio": ratio,
    }
