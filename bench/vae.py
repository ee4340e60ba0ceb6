"""Training V, frames a second, on the same episodes in turn: the origin script's loop, a plain one, and ours.

The script's V has other layers, so a frame costs it another number of multiplications; these are counted for each, and
set beside the machine's own speed in multiplying matrices.
"""

import itertools
import statistics
import tempfile
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from wmlib.collect import collect
from wmlib.data import frame_batches, load_episode
from wmlib.fast import ConvTranspose2d
from wmlib.presets import LAPTOP
from wmlib.run import claim_run
from wmlib.train import train_vae
from wmlib.vae import VAE, vae_loss

ROUNDS, STEPS, EPISODES = 7, 20, 8
BATCH = LAPTOP.vae.batch_size
SCRIPT_LEARNING_RATE = 1e-4
SIDE = 1536  # of the matrices whose product is the machine's best


class ScriptVAE(nn.Module):
    """The origin script's V, written anew, at the paper's number of latents."""

    def __init__(self, z_size: int = 32):
        super().__init__()
        widths = [3, 32, 64, 128, 256]
        down = [(nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in itertools.pairwise(widths)]
        up = [
            (nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU())
            for a, b in reversed(list(itertools.pairwise(widths)))
        ]
        self.encoder = nn.Sequential(
            *itertools.chain(*down), nn.Flatten(), nn.Linear(4096, 2 * z_size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(z_size, 4096),
            nn.ReLU(),
            nn.Unflatten(1, (256, 4, 4)),
            *list(itertools.chain(*up))[:-1],
            nn.Sigmoid(),
        )

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar


def plain_vae() -> VAE:
    """V with torch's own layers where ours has faster ones."""
    vae = VAE()
    for index, own in enumerate(vae.decoder):
        if isinstance(own, ConvTranspose2d):
            k, stride = own.kernel_size[0], own.stride[0]
            vae.decoder[index] = nn.ConvTranspose2d(own.in_channels, own.out_channels, k, stride)
    return vae


def script_loss(recon, x, mu, logvar):
    """The script's: squared error averaged over pixels, and a thousandth of the KL."""
    kl = -0.5 * torch.sum(1 + logvar - mu.square() - logvar.exp()) / len(x)
    return nn.functional.mse_loss(recon, x) + 0.001 * kl


def plain_loop(vae, loss_of, learning_rate, batches):
    """Train in fp32 on float pictures, as one would write it first: a step for each next()."""
    optimizer = torch.optim.Adam(vae.parameters(), learning_rate)
    for x in batches:
        recon, mu, logvar = vae(x)
        loss = loss_of(recon, x, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def loaded(frames):
    """Batches of float pictures from a DataLoader, forever."""
    loader = DataLoader(TensorDataset(torch.from_numpy(frames)), BATCH, shuffle=True)
    while True:
        yield from (batch.permute(0, 3, 1, 2).float() / 255 for (batch,) in loader)


def flops_a_frame(vae, loss_of) -> float:
    """Floating-point operations of a training step, forward and backward, per frame."""
    x = torch.rand(BATCH, 3, 64, 64)
    with FlopCounterMode(display=False) as counter:
        loss_of(*[(out := vae(x))[0], x, *out[1:]]).backward()
    return counter.get_total_flops() / BATCH


def matrix_flops(dtype, side: int) -> float:
    """The best of some products of square matrices, in operations a second."""
    one, other, times = torch.rand(side, side).to(dtype), torch.rand(side, side).to(dtype), []
    for _ in range(12):
        start = time.perf_counter()
        one @ other
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def main():
    """Print frames a second, the ratios, and the share of the machine's best matrix product."""
    with tempfile.TemporaryDirectory() as name:
        collected = replace(LAPTOP.collect, episodes=EPISODES, agent_episodes=0)
        run = claim_run(f"{name}/run", replace(LAPTOP, after=None, collect=collected))
        list(collect(run))
        paths = run.episode_paths()
        frames = np.concatenate([load_episode(path).obs for path in paths])
        paper = lambda recon, x, mu, logvar: vae_loss(recon, x, mu, logvar)[0]
        settings = replace(LAPTOP.vae, steps=10**9)
        loops = {
            "script": plain_loop(ScriptVAE(), script_loss, SCRIPT_LEARNING_RATE, loaded(frames)),
            "plain": plain_loop(plain_vae(), paper, settings.learning_rate, loaded(frames)),
            "ours": train_vae(settings, VAE(), frame_batches(paths, BATCH, seed=0)),
        }
        rates = {name: [] for name in loops}
        for loop in loops.values():  # not counted: the first steps choose their kernels
            for _ in range(3):
                next(loop)
        for _ in range(ROUNDS):
            for label, loop in loops.items():
                start = time.perf_counter()
                for _ in range(STEPS):
                    next(loop)
                rates[label].append(BATCH * STEPS / (time.perf_counter() - start))
    flops = {
        "script": flops_a_frame(ScriptVAE(), script_loss),
        "plain": flops_a_frame(plain_vae(), paper),
    }
    flops["ours"] = flops["plain"]
    peaks = {
        str(dtype).removeprefix("torch."): matrix_flops(dtype, SIDE)
        for dtype in (torch.float32, torch.bfloat16)
    }
    medians = {label: statistics.median(values) for label, values in rates.items()}
    for label, rate in medians.items():
        print(f"{label:8}{rate:8.0f} frames/s{rate * flops[label] / 1e9:8.0f} Gflop/s")
    ratios = {}
    for other in ("script", "plain"):
        ratios[other] = ratio = statistics.median(
            a / b for a, b in zip(rates["ours"], rates[other])
        )
        print(
            f"ours trains {ratio:.1f} times as fast as the {other} loop (median of {ROUNDS} rounds)"
        )
    for dtype, peak in peaks.items():
        share = medians["ours"] * flops["ours"] / peak
        print(
            f"matrix products in {dtype}: {peak / 1e9:.0f} Gflop/s; ours reaches {share:.0%} of it"
        )
    return {
        "frames_per_s": medians,
        "ours_times_as_fast_as": ratios,
        "flops_a_frame": flops,
        "matrix_product_flops_per_s": peaks,
    }
