"""What matters in training V and M: LAPTOP's (V's shortened) with one thing changed, two seeds each.

V is judged by its squared error on frames of tracks that no stage drives on, M by its likelihood there and by what its
h knows. Needs the episodes and latents of a whole run: python -m bench agent.
"""

from dataclasses import replace

import numpy as np
import torch

from bench.common import (
    FOLDER,
    SKIP,
    driven,
    drivers,
    encoded,
    held_out_frames,
    likelihood,
    memories,
    probe,
)
from wmlib.agent import Agent, new_models
from wmlib.config import MDNRNNConfig, VAEConfig
from wmlib.data import Episode, frame_batches, sequence_batches
from wmlib.presets import LAPTOP, LAPTOP_M
from wmlib.run import open_run
from wmlib.train import train_mdnrnn, train_vae
from wmlib.vae import to_float

RUN = "runs/bench_agent"
SEEDS = (0, 1)
FEWEST = 16  # more episodes than that, or the probes' folds are too small
V, M = replace(LAPTOP.vae, steps=1_000), LAPTOP_M
V_VARIANTS = {
    "LAPTOP": V,
    "a constant rate, half as high": replace(V, learning_rate=5e-4, learning_rate_end=None),
}
M_VARIANTS = {
    "LAPTOP": M,
    "the next z alone": replace(M, look_ahead=None),
    "a third as long": replace(M, steps=M.steps // 3),
    "random drives alone": M,
}


def judged_vae(settings: VAEConfig, seed: int, frames: dict[str, np.ndarray]) -> dict:
    """V's squared error a frame, summed over the image, decoded from mu, and the number of latents that it uses."""
    torch.manual_seed(seed)
    vae, paths = new_models(LAPTOP)[0], open_run(RUN).episode_paths()
    for _ in train_vae(settings, vae, frame_batches(paths, settings.batch_size, seed), seed=seed):
        pass
    found = {}
    with torch.inference_mode():
        for name, obs in frames.items():
            x = to_float(obs[::4])
            mu, logvar = vae.encode(x)
            used = (mu.square() + logvar.exp() - 1 - logvar).mean(dim=0) / 2 > 0.1
            error = (vae.decode(mu) - x).square().sum(dim=(1, 2, 3)).mean()
            found[name] = {"squared_error": error.item(), "latents_used": int(used.sum())}
    return found


def judged_mdnrnn(
    name: str, settings: MDNRNNConfig, seed: int, found: dict[str, tuple[list[Episode], list]]
) -> dict:
    """M's -log p(z[t+1]) of one latent, in nats, and the shares of speed, turning and last gas that its h explains."""
    torch.manual_seed(seed)
    mdnrnn = new_models(replace(LAPTOP, mdnrnn=settings))[1]
    paths = open_run(RUN).latent_paths()
    paths = paths[: LAPTOP.collect.episodes] if name == "random drives alone" else paths
    batches = sequence_batches(paths, settings.batch_size, settings.sequence_length, seed)
    for _ in train_mdnrnn(settings, mdnrnn, batches):
        pass
    results = {}
    for driver, (episodes, codes) in found.items():
        pairs = list(zip(episodes, codes))
        h = [memories(mdnrnn, code, episode.action)[SKIP:] for episode, code in pairs]
        results[driver] = {
            "nll": float(np.mean([likelihood(mdnrnn, *pair) for pair in pairs])),
            "speed": probe(h, [episode.speed[SKIP:-1] for episode in episodes]),
            "turning": probe(h, [episode.turning[SKIP:-1] for episode in episodes]),
            "last gas": probe(h, [episode.action[SKIP - 1 : -1, 1] for episode in episodes]),
        }
    return results


def main() -> dict:
    """Print a line for each variant, seed and driver."""
    agent = Agent.load(FOLDER)
    frames = held_out_frames()
    found = {}
    for name, policy in drivers(agent).items():
        episodes = [episode for episode in driven(policy) if len(episode) > 4 * SKIP]
        assert len(episodes) > FEWEST, f"only {len(episodes)} episodes are long enough to split"
        found[name] = episodes, [encoded(agent, episode) for episode in episodes]
    jobs = [("V", name, seed) for seed in SEEDS for name in V_VARIANTS]
    jobs += [("M", name, seed) for seed in SEEDS for name in M_VARIANTS]
    results: dict = {"V": {}, "M": {}}
    for part, name, seed in jobs:
        if part == "V":
            row = judged_vae(V_VARIANTS[name], seed, frames)
        else:
            row = judged_mdnrnn(name, M_VARIANTS[name], seed, found)
        results[part].setdefault(name, []).append({"seed": seed} | row)
        for driver, values in row.items():
            shown = ", ".join(f"{key} {value:.3f}" for key, value in values.items())
            print(f"{part} {name:30} seed {seed}, {driver}: {shown}", flush=True)
    return {"steps": {"V": V.steps, "M": M.steps}, **results}
