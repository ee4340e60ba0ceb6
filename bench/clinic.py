"""Trains the clinic's patients, QUICK's V with one fault each, and keeps their curves and pictures in data/clinic."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from PIL import Image

from wmlib.checkpoint import write_json
from wmlib.config import QUICK, resolve
from wmlib.data import EpisodeStore, frame_batches, load_episode
from wmlib.exercises.clinic import FLOORS, FOLDER, PATIENTS, SHOWN, STEPS
from wmlib.train import encode_frames
from wmlib.vae import VAE, kl_to_standard_normal, to_float, to_uint8, vae_loss


def trained(fault: str = "", kl_tolerance: float = QUICK.vae.kl_tolerance) -> tuple[VAE, list[dict]]:
    """V after a short training on all sample episodes but the last, and its curve; `fault` is one of the patients'."""
    torch.manual_seed(0)
    paths = EpisodeStore(resolve("data/episodes")).paths()[:-1]
    vae, curve = VAE(), []
    optimizer = torch.optim.Adam(vae.parameters(), QUICK.vae.learning_rate)
    batches = _in_order(paths) if fault == "frames in order" else frame_batches(paths, QUICK.vae.batch_size, seed=0)
    for step, obs in enumerate(islice(batches, STEPS), 1):
        x = to_float(obs)
        mu, logvar = vae.encode(x)
        recon = vae.decode(mu if fault == "no noise" else vae.sample(mu, logvar))
        loss, metrics = vae_loss(recon, x, mu, logvar, kl_tolerance)
        if fault == "averaged error":
            loss = (recon - x).square().mean() + kl_to_standard_normal(mu, logvar).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            curve.append({"step": step, **{name: round(value.item(), 2) for name, value in metrics.items()}})
    return vae, curve


def _in_order(paths) -> Iterator[np.ndarray]:
    size = QUICK.vae.batch_size
    while True:
        for path in paths:
            obs = load_episode(path).obs
            yield from (obs[i : i + size] for i in range(0, len(obs), size))


@torch.inference_mode()
def contact_sheet(vae: VAE) -> np.ndarray:
    """Rows of eight: frames of the episode left out, painted from mu, from z, from the prior."""
    obs = load_episode(EpisodeStore(resolve("data/episodes")).paths()[-1]).obs
    frames = obs[np.linspace(60, len(obs) - 1, SHOWN).astype(int)]
    mu, logvar = (torch.from_numpy(part) for part in encode_frames(vae, frames))
    generator = torch.Generator().manual_seed(0)
    codes = mu, vae.sample(mu, logvar, generator), torch.randn(mu.shape, generator=generator)
    return np.stack([frames, *(to_uint8(vae.decode(z)) for z in codes)])


def main() -> None:
    """Train all patients and, with other floors, healthy Vs; about four minutes on two cores."""
    runs = {name: {"fault": fault} for name, fault in PATIENTS.items()} | {
        name: {"kl_tolerance": each} for name, each in FLOORS.items()
    }
    curves = {}
    for name, how in runs.items():
        vae, curves[name] = trained(**how)
        sheet = contact_sheet(vae).swapaxes(1, 2).reshape(4 * 64, SHOWN * 64, 3)
        FOLDER.mkdir(exist_ok=True)
        Image.fromarray(sheet).save(FOLDER / f"{name.replace(' ', '_')}.png", optimize=True)
        print(name, curves[name][-1], flush=True)
    write_json(FOLDER / "curves.json", {"command": "python -m bench clinic", "steps": STEPS, "curves": curves})
