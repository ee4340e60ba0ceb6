"""Trains the patients of notebook 02, QUICK's V with one fault each, and healthy Vs with other floors.

All train on the sample episodes but the last, whose frames they are shown.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from wmlib.config import VAEConfig, resolve
from wmlib.data import EpisodeStore, frame_batches, load_episode
from wmlib.exercises.clinic import Clinic
from wmlib.exercises.variational import CLINIC, FLOORS
from wmlib.presets import QUICK
from wmlib.train import encode_frames
from wmlib.vae import VAE, kl_to_standard_normal, to_float, to_uint8, vae_loss

SETTINGS = replace(QUICK.vae, steps=500)
EVERY = 5  # steps between two points of a curve
COLUMNS = 8  # frames in a row


def trained(paths: list[Path], settings: VAEConfig, fault: str = "") -> tuple[VAE, list[dict]]:
    """V after a short training with that fault, if it is one of the patients', and its curve."""
    torch.manual_seed(0)
    vae, curve = VAE(), []
    optimizer = torch.optim.Adam(vae.parameters(), settings.learning_rate)
    B = settings.batch_size
    batches = _in_order(paths, B) if fault == "frames in order" else frame_batches(paths, B, seed=0)
    for step, obs in enumerate(islice(batches, settings.steps), 1):
        x = to_float(obs)
        mu, logvar = vae.encode(x)
        recon = vae.decode(mu if fault == "no noise" else vae.sample(mu, logvar))
        loss, metrics = vae_loss(recon, x, mu, logvar, settings.kl_tolerance)
        if fault == "averaged error":
            loss = (recon - x).square().mean() + kl_to_standard_normal(mu, logvar).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            curve.append(
                {"step": step, **{name: round(value.item(), 2) for name, value in metrics.items()}}
            )
    return vae, curve


def _in_order(paths: list[Path], B: int) -> Iterator[np.ndarray]:
    while True:
        for path in paths:
            obs = load_episode(path).obs
            yield from (obs[i : i + B] for i in range(0, len(obs), B))


@torch.inference_mode()
def painted(vae: VAE, obs: np.ndarray) -> np.ndarray:
    """Rows of COLUMNS frames: of an episode, and what V paints from their mu, from their z, from the prior."""
    frames = obs[np.linspace(60, len(obs) - 1, COLUMNS).astype(int)]
    mu, logvar = (torch.from_numpy(part) for part in encode_frames(vae, frames))
    generator = torch.Generator().manual_seed(0)
    codes = mu, vae.sample(mu, logvar, generator), torch.randn(mu.shape, generator=generator)
    return np.stack([frames, *(to_uint8(vae.decode(z)) for z in codes)])


def main(clinic: Clinic = CLINIC, settings: VAEConfig = SETTINGS) -> None:
    """Train all patients, then a healthy V for each floor; about four minutes on two cores."""
    *paths, left_out = EpisodeStore(resolve("data/episodes")).paths()
    patients = {name: (settings, fault) for name, fault in clinic.patients.items()}
    healthy = {name: (replace(settings, kl_tolerance=floor), "") for name, floor in FLOORS.items()}
    curves = {}
    for name, how in (patients | healthy).items():
        vae, curves[name] = trained(paths, *how)
        clinic.keep_frames(name, painted(vae, load_episode(left_out).obs))
        print(name, curves[name][-1], flush=True)
    clinic.keep_curves({"steps": settings.steps, "curves": curves})
