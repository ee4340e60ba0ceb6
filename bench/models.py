"""What matters in training V and M: LAPTOP's (V's shortened) with one thing changed, two seeds each.

V is judged by its squared error on frames of tracks that no stage drives on, M by its likelihood there and by what its
h knows. Needs the episodes and latents of a whole run: python -m bench agent.
"""

from dataclasses import replace

import numpy as np
import torch

from bench.common import FOLDER, LIMIT, SKIP, TRACKS, encoded, likelihood, memories, probe
from bench.reconstruction import held_out_frames
from wmlib.agent import Agent, new_models
from wmlib.config import MDNRNNConfig, VAEConfig
from wmlib.data import Episode, frame_batches, sequence_batches
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.policies import BrownianPolicy
from wmlib.presets import LAPTOP, LAPTOP_M
from wmlib.rollout import record_all
from wmlib.run import open_run
from wmlib.train import train_mdnrnn, train_vae
from wmlib.vae import to_float
from wmlib.world import Policy

RUN = "runs/bench_agent"
SEEDS = (0, 1)
FEWEST = 16  # episodes to split among the probes
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
    for driver, (driven, codes) in found.items():
        h = [memories(mdnrnn, code, drive.action)[SKIP:] for code, drive in zip(codes, driven)]
        results[driver] = {
            "nll": float(
                np.mean([likelihood(mdnrnn, drive, code) for drive, code in zip(driven, codes)])
            ),
            "speed": probe(h, [drive.speed[SKIP:-1] for drive in driven]),
            "turning": probe(h, [drive.turning[SKIP:-1] for drive in driven]),
            "last gas": probe(h, [drive.action[SKIP - 1 : -1, 1] for drive in driven]),
        }
    return results


def main() -> dict:
    """Print a line for each variant, seed and driver."""
    agent, frames, found = Agent.load(FOLDER), held_out_frames(), {}
    policies: dict[str, Policy] = {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}
    for name, policy in policies.items():
        driven = record_all(VectorEnv(CAR_RACING.make, len(TRACKS), LIMIT), policy, TRACKS, 0)
        driven = [drive for drive in driven if len(drive) > 4 * SKIP]
        assert len(driven) > FEWEST, f"only {len(driven)} drives are long enough to split"
        found[name] = driven, [encoded(agent, drive) for drive in driven]
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
            print(f"{part} {name:30} seed {seed}, {driver} drives: {shown}", flush=True)
    return {"steps": {"V": V.steps, "M": M.steps}, **results}
