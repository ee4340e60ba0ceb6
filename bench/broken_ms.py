"""Trains the clinic's Ms, each for a short time and with one fault, and keeps what they show in data/clinic.

All train on the sample episodes and 18 more drives of the random policy, as the shipped V sees them, and are judged on
6 others by the same right code. A fault in what M reads or says stays with it when it is judged; one in what it is
taught ends with the training.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench.memory import FOLDER as AGENT
from bench.memory import SKIP, TRACKS
from bench.rivals import Forgetful
from wmlib.agent import Agent
from wmlib.checkpoint import file_hash, write_json
from wmlib.collect import BrownianPolicy
from wmlib.config import QUICK, resolve
from wmlib.data import EncodedEpisode, EpisodeStore, load_episode, sequence_batches
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.exercises.predicting import AHEAD, FAULTS, FOLDER, PATIENTS, SHOWN
from wmlib.mdnrnn import MDNRNN, Mixture, State, mixture_nll
from wmlib.rollout import episodes
from wmlib.train import encode_episode
from wmlib.vae import VAE, kl_to_standard_normal, to_uint8

STEPS, EVERY, RATE = 300, 10, 1e-2  # the rate falls evenly to 0, as in notebook 04
HELD_OUT, STRIP = 6, (3, 170)  # STRIP: the drive of those held out, and the moment, where the kept frames begin
USED = 0.1  # nats that V spends on a latent that counts


class Broken(Forgetful):
    """An M with a fault in what it reads or says, if the fault is of that kind."""

    fault = ""

    def memory(self, z: Tensor, action: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As MDNRNN's, but for the fault."""
        if self.fault == "memory emptied":
            return super().memory(z, action, state)
        return MDNRNN.memory(self, z, 0 * action if self.fault == "actions lost" else action, state)

    def mixture(self, h: Tensor) -> Mixture:
        """As MDNRNN's, but for the fault."""
        mixture = super().mixture(h)
        return mixture._replace(logsigma=0 * mixture.logsigma) if self.fault == "one width" else mixture


def lesson(mdnrnn: Broken, z: Tensor, action: Tensor) -> Tensor:
    """What an M with its fault pays in training: z (B, T+1, Z), action (B, T, A) to (B, T, Z)."""
    mixture, _ = mdnrnn(z[:, :-1], action)
    if mdnrnn.fault == "logsigma as logvar":
        mixture = mixture._replace(logsigma=mixture.logsigma / 2)
    return mixture_nll(mixture, z[:, :-1] if mdnrnn.fault == "off by one" else z[:, 1:])


def drawn(drive: EncodedEpisode, seed: int) -> np.ndarray:
    """One z (T+1, Z) for each frame of a drive."""
    noise = np.random.default_rng(seed).standard_normal(drive.mu.shape, np.float32)
    return drive.mu + np.exp(drive.logvar / 2) * noise


def material(drives: list[EncodedEpisode], fault: str) -> list[EncodedEpisode]:
    """The drives that an M with this fault trains on: with "noise drawn once" they leave nothing more to draw."""
    if fault != "noise drawn once":
        return drives
    sure = {"logvar": np.full_like(drives[0].logvar, -np.inf)}
    return [replace(one, mu=drawn(one, seed), **sure) for seed, one in enumerate(drives)]


def training(drives: list[EncodedEpisode], fault: str) -> Iterator[tuple[Broken, float]]:
    """M and its loss after each step; M is the same object every time. All drives are of the same length."""
    torch.manual_seed(0)
    mdnrnn = Broken()
    mdnrnn.fault, trainable = fault, [part for part in mdnrnn.parameters() if part.requires_grad]
    optimizer = torch.optim.Adam(trainable, RATE)
    with tempfile.TemporaryDirectory() as folder:
        store = EpisodeStore(Path(folder), EncodedEpisode)
        for index, drive in enumerate(material(drives, fault)):
            store.save(index, drive)
        batches = sequence_batches(store.paths(), QUICK.mdnrnn.batch_size, QUICK.mdnrnn.sequence_length, seed=0)
        for step, batch in enumerate(islice(batches, STEPS)):
            loss = lesson(mdnrnn, torch.from_numpy(batch.z), torch.from_numpy(batch.action)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(trainable, QUICK.mdnrnn.gradient_clip)
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            optimizer.step()
            yield mdnrnn, loss.item()


class HeldOut:
    """The drives that no patient trains on, and what a patient shows on them."""

    def __init__(self, drives: list[EncodedEpisode]):
        stacked = lambda parts: torch.from_numpy(np.stack(list(parts)))
        self.mu, self.action = stacked(one.mu for one in drives), stacked(one.action for one in drives)
        self.z = stacked(drawn(one, 100 + seed) for seed, one in enumerate(drives))
        logvar = stacked(one.logvar for one in drives)
        self.used = kl_to_standard_normal(self.mu, logvar)[:, SKIP:].mean(dim=(0, 1)) > USED

    @torch.inference_mode()
    def loss(self, mdnrnn: MDNRNN) -> float:
        """The mean -log p(z[t+1]) over latents and steps, in nats."""
        return mixture_nll(mdnrnn(self.z[:, :-1], self.action)[0], self.z[:, 1:]).mean().item()

    @torch.inference_mode()
    def calibration(self, mdnrnn: MDNRNN) -> list[float]:
        """The share of the true z, of the used latents, in each tenth of the predicted distribution."""
        mixture, _ = mdnrnn(self.z[:, :-1], self.action)
        below = torch.special.ndtr((self.z[:, 1:, :, None] - mixture.mu) * torch.exp(-mixture.logsigma))
        place = (torch.softmax(mixture.logits, dim=-1) * below).sum(dim=-1)[:, SKIP:, self.used]
        return (torch.histc(place, 10, 0, 1) / place.numel()).tolist()

    @torch.inference_mode()
    def dreamt(self, mdnrnn: MDNRNN, start: int) -> Tensor:
        """AHEAD steps from a moment on (B, AHEAD, Z): M reads mu as in the game, then its own means."""
        _, state = mdnrnn.memory(self.mu[:, :start], self.action[:, :start])
        now, path = self.mu[:, start : start + 1], []
        for t in range(start, start + AHEAD):
            mixture, state = mdnrnn(now, self.action[:, t : t + 1], state)
            now = (torch.softmax(mixture.logits, dim=-1) * mixture.mu).sum(dim=-1)
            path.append(now)
        return torch.cat(path, dim=1)

    def ahead(self, mdnrnn: MDNRNN | None) -> list[float]:
        """The squared error of a used latent 1 to AHEAD steps ahead; without an M, of staying as one is."""
        errors = []
        for start in range(SKIP, self.action.shape[1] - AHEAD, 10):
            guess = self.mu[:, start : start + 1] if mdnrnn is None else self.dreamt(mdnrnn, start)
            errors.append((guess - self.mu[:, start + 1 : start + AHEAD + 1])[..., self.used].square().mean(dim=(0, 2)))
        return torch.stack(errors).mean(dim=0).tolist()

    def frames(self, vae: VAE, mdnrnn: MDNRNN | None) -> np.ndarray:
        """What V paints of the moments SHOWN, uint8 (N, 64, 64, 3): of the truth, or of what M predicts."""
        drive, start = STRIP
        came = self.mu[drive, start : start + AHEAD + 1]
        path = came if mdnrnn is None else torch.cat([came[:1], self.dreamt(mdnrnn, start)[drive]])
        with torch.inference_mode():
            return to_uint8(vae.decode(path[list(SHOWN)]))


def levels(drives: list[EncodedEpisode]) -> dict[str, float]:
    """The floor and *stay as you are*, in nats for each latent, as notebook 04 computes them."""
    constant = 0.5 * math.log(2 * math.pi * math.e)
    change = np.concatenate([np.diff(drawn(one, seed), axis=0) for seed, one in enumerate(drives)])
    floor = np.mean([np.mean(constant + 0.5 * one.logvar) for one in drives])
    still = np.mean(constant + np.log(change.std(axis=0)))
    return {"stay as you are": round(float(still), 4), "floor": round(float(floor), 4)}


def encoded(vae: VAE) -> list[EncodedEpisode]:
    """The sample episodes and as long drives on TRACKS, as V sees them; the last HELD_OUT are those to judge on."""
    sample = [load_episode(path) for path in EpisodeStore(resolve("data/episodes")).paths()]
    env = VectorEnv(CAR_RACING.make, len(TRACKS), max(map(len, sample)))
    more = episodes(env, BrownianPolicy(), TRACKS, 0)
    return [encode_episode(vae, one) for one in sample + [one for one in more if len(one) == len(sample[0])]]


def keep_strip(name: str, frames: np.ndarray) -> None:
    """Frames beside each other in one PNG."""
    Image.fromarray(np.concatenate(frames, axis=1)).save(FOLDER / f"m_{name}.png", optimize=True)


def examined(drives: list[EncodedEpisode], held_out: HeldOut, fault: str) -> tuple[Broken, dict]:
    """M with a fault, trained, and what it shows."""
    curve: dict = {"step": [], "training": [], "held out": []}
    for step, (mdnrnn, loss) in enumerate(training(drives, fault), 1):
        if step == 1 or step % EVERY == 0:
            for name, value in zip(curve, (step, loss, held_out.loss(mdnrnn))):
                curve[name].append(round(value, 3))
    last = {"calibration": held_out.calibration(mdnrnn), "ahead": held_out.ahead(mdnrnn)}
    print(f"{fault:20} training {loss:7.3f}, held out {held_out.loss(mdnrnn):8.3f}, tenths", end=" ")
    print(*(f"{share:.2f}" for share in last["calibration"]), "ahead", *(f"{x:.2f}" for x in last["ahead"][::5]))
    return mdnrnn, curve | {name: rounded(values) for name, values in last.items()}


def rounded(values: list[float]) -> list[float]:
    """As they are kept."""
    return [round(value, 4) for value in values]


def main() -> None:
    """Train a healthy M, the patients, and an M with each other fault, whose frames aren't kept; about four minutes."""
    torch.set_num_threads(1)
    vae = Agent.load(AGENT).vae
    drives = encoded(vae)
    held_out = HeldOut(drives[-HELD_OUT:])
    keep_strip("real", held_out.frames(vae, None))
    curves, others = {}, {}
    for name, fault in ({"healthy": ""} | PATIENTS).items():
        mdnrnn, curves[name] = examined(drives[:-HELD_OUT], held_out, fault)
        keep_strip(name, held_out.frames(vae, mdnrnn))
    for fault in FAULTS.keys() - PATIENTS.values():
        _, others[fault] = examined(drives[:-HELD_OUT], held_out, fault)
    about = {
        "command": "python -m bench broken_ms",
        "vae_sha256": file_hash(resolve(AGENT) / "vae/weights.safetensors"),
    }
    about |= {"levels": levels(drives), "standing still": rounded(held_out.ahead(None))}
    write_json(FOLDER / "ms.json", about | {"curves": curves, "others": dict(sorted(others.items()))})
