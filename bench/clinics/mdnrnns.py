"""Trains the patients of notebook 04, each an M with one fault, for a short time.

All train on the sample episodes and others of the random policy, as the shipped V sees them, and are judged on the
last of these by the same right code. A fault in what M reads or says stays with it when it is judged; one in what it is
taught ends with the training.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.common import FOLDER as AGENT
from bench.common import SKIP, TRACKS
from bench.rivals import Forgetful
from wmlib.agent import Agent
from wmlib.checkpoint import file_hash
from wmlib.config import MDNRNNConfig, resolve
from wmlib.data import EncodedEpisode, EpisodeStore, load_episode, sequence_batches
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.exercises.clinic import Clinic
from wmlib.exercises.predicting import AHEAD, CLINIC, SHOWN
from wmlib.mdnrnn import MDNRNN, Mixture, State, mixture_nll
from wmlib.policies import BrownianPolicy
from wmlib.presets import LAPTOP_M
from wmlib.rollout import episodes as rollouts
from wmlib.train import encode_episode
from wmlib.vae import VAE, kl_to_standard_normal, to_uint8

# As in notebook 04, which trains for less than a minute; the rate falls evenly to 0.
SETTINGS = replace(LAPTOP_M, batch_size=16, sequence_length=64, steps=300, look_ahead=None)
EVERY = 10  # steps between two points of a curve
HELD_OUT = 6
STRIP = 3, 170  # the episode of those held out, and the moment of it, where the kept frames begin
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
        return (
            mixture._replace(logsigma=0 * mixture.logsigma)
            if self.fault == "one width"
            else mixture
        )


def lesson(mdnrnn: Broken, z: Tensor, action: Tensor) -> Tensor:
    """What an M with its fault pays in training: z (B, T+1, Z), action (B, T, A) to (B, T, Z)."""
    mixture, _ = mdnrnn(z[:, :-1], action)
    if mdnrnn.fault == "logsigma as logvar":
        mixture = mixture._replace(logsigma=mixture.logsigma / 2)
    return mixture_nll(mixture, z[:, :-1] if mdnrnn.fault == "off by one" else z[:, 1:])


def drawn(episode: EncodedEpisode, seed: int) -> np.ndarray:
    """One z (T+1, Z) for each frame of an episode."""
    noise = np.random.default_rng(seed).standard_normal(episode.mu.shape, np.float32)
    return episode.mu + np.exp(episode.logvar / 2) * noise


def material(episodes: list[EncodedEpisode], fault: str) -> list[EncodedEpisode]:
    """What an M with this fault trains on: with "noise drawn once" the episodes leave nothing more to draw."""
    if fault != "noise drawn once":
        return episodes
    sure = np.full_like(episodes[0].logvar, -np.inf)
    return [replace(one, mu=drawn(one, seed), logvar=sure) for seed, one in enumerate(episodes)]


def training(
    episodes: list[EncodedEpisode], fault: str, settings: MDNRNNConfig = SETTINGS
) -> Iterator[tuple[Broken, float]]:
    """M and its loss after each step; M is the same object every time. All episodes are of the same length."""
    torch.manual_seed(0)
    mdnrnn = Broken()
    mdnrnn.fault = fault
    trainable = [part for part in mdnrnn.parameters() if part.requires_grad]
    optimizer = torch.optim.Adam(trainable, settings.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        store = EpisodeStore(Path(folder), EncodedEpisode)
        for index, episode in enumerate(material(episodes, fault)):
            store.save(index, episode)
        batches = sequence_batches(
            store.paths(), settings.batch_size, settings.sequence_length, seed=0
        )
        for step, batch in enumerate(islice(batches, settings.steps)):
            loss = lesson(mdnrnn, torch.from_numpy(batch.z), torch.from_numpy(batch.action)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(trainable, settings.gradient_clip)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
            optimizer.step()
            yield mdnrnn, loss.item()


class HeldOut:
    """The episodes that no patient trains on, and what a patient shows on them."""

    def __init__(self, episodes: list[EncodedEpisode]):
        stacked = lambda parts: torch.from_numpy(np.stack(list(parts)))
        self.mu = stacked(one.mu for one in episodes)
        self.action = stacked(one.action for one in episodes)
        self.z = stacked(drawn(one, 100 + seed) for seed, one in enumerate(episodes))
        logvar = stacked(one.logvar for one in episodes)
        self.used = kl_to_standard_normal(self.mu, logvar)[:, SKIP:].mean(dim=(0, 1)) > USED

    @torch.inference_mode()
    def loss(self, mdnrnn: MDNRNN) -> float:
        """The mean -log p(z[t+1]) over latents and steps, in nats."""
        return mixture_nll(mdnrnn(self.z[:, :-1], self.action)[0], self.z[:, 1:]).mean().item()

    @torch.inference_mode()
    def calibration(self, mdnrnn: MDNRNN) -> list[float]:
        """The share of the true z, of the used latents, in each tenth of the predicted distribution."""
        mixture, _ = mdnrnn(self.z[:, :-1], self.action)
        below = torch.special.ndtr(
            (self.z[:, 1:, :, None] - mixture.mu) * torch.exp(-mixture.logsigma)
        )
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
            miss = guess - self.mu[:, start + 1 : start + AHEAD + 1]
            errors.append(miss[..., self.used].square().mean(dim=(0, 2)))
        return torch.stack(errors).mean(dim=0).tolist()

    def frames(self, vae: VAE, mdnrnn: MDNRNN | None) -> np.ndarray:
        """What V paints of the moments SHOWN, uint8 (1, C, 64, 64, 3): of the truth, or of what M predicts."""
        episode, start = STRIP
        came = self.mu[episode, start : start + AHEAD + 1]
        path = (
            came if mdnrnn is None else torch.cat([came[:1], self.dreamt(mdnrnn, start)[episode]])
        )
        with torch.inference_mode():
            return to_uint8(vae.decode(path[list(SHOWN)]))[None]


def levels(episodes: list[EncodedEpisode]) -> dict[str, float]:
    """The floor and *stay as you are*, in nats for each latent, as notebook 04 computes them."""
    constant = 0.5 * math.log(2 * math.pi * math.e)
    change = np.concatenate(
        [np.diff(drawn(one, seed), axis=0) for seed, one in enumerate(episodes)]
    )
    floor = np.mean([np.mean(constant + 0.5 * one.logvar) for one in episodes])
    still = np.mean(constant + np.log(change.std(axis=0)))
    return {"stay as you are": round(float(still), 4), "floor": round(float(floor), 4)}


def encoded(vae: VAE, tracks: Sequence[int]) -> list[EncodedEpisode]:
    """The sample episodes and as long ones on some tracks, as V sees them; the last HELD_OUT are those to judge on."""
    sample = [load_episode(path) for path in EpisodeStore(resolve("data/episodes")).paths()]
    env = VectorEnv(CAR_RACING.make, len(tracks), max(map(len, sample)))
    more = rollouts(env, BrownianPolicy(CAR_RACING), tracks, 0)
    return [
        encode_episode(vae, one)
        for one in sample + [one for one in more if len(one) == len(sample[0])]
    ]


def examined(
    episodes: list[EncodedEpisode], held_out: HeldOut, fault: str, settings: MDNRNNConfig
) -> tuple[Broken, dict]:
    """M with a fault, trained, and what it shows."""
    curve: dict = {"step": [], "training": [], "held out": []}
    for step, (mdnrnn, loss) in enumerate(training(episodes, fault, settings), 1):
        if step == 1 or step % EVERY == 0:
            for name, value in zip(curve, (step, loss, held_out.loss(mdnrnn))):
                curve[name].append(round(value, 3))
    last = {"calibration": held_out.calibration(mdnrnn), "ahead": held_out.ahead(mdnrnn)}
    print(
        f"{fault:20} training {loss:7.3f}, held out {held_out.loss(mdnrnn):8.3f}, tenths", end=" "
    )
    print(
        *(f"{share:.2f}" for share in last["calibration"]),
        "ahead",
        *(f"{x:.2f}" for x in last["ahead"][::5]),
    )
    return mdnrnn, curve | {name: rounded(values) for name, values in last.items()}


def rounded(values: list[float]) -> list[float]:
    """As they are kept."""
    return [round(value, 4) for value in values]


def main(
    clinic: Clinic = CLINIC, tracks: Sequence[int] = TRACKS, settings: MDNRNNConfig = SETTINGS
) -> None:
    """Train a healthy M, the patients, and an M with each other fault, whose frames aren't kept; about four minutes."""
    vae = Agent.load(AGENT).vae
    episodes = encoded(vae, tracks)
    lessons, held_out = episodes[:-HELD_OUT], HeldOut(episodes[-HELD_OUT:])
    clinic.keep_frames("real", held_out.frames(vae, None))
    curves, others = {}, {}
    for name, fault in clinic.everyone.items():
        mdnrnn, curves[name] = examined(lessons, held_out, fault, settings)
        clinic.keep_frames(name, held_out.frames(vae, mdnrnn))
    for fault in sorted(clinic.faults.keys() - clinic.patients.values()):
        _, others[fault] = examined(lessons, held_out, fault, settings)
    about = {
        "vae_sha256": file_hash(resolve(AGENT) / "vae/weights.safetensors"),
        "levels": levels(episodes),
    }
    still = {"standing still": rounded(held_out.ahead(None))}
    clinic.keep_curves(about | still | {"curves": curves, "others": others})
