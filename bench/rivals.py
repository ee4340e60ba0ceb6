"""M and its rivals, trained alike on the same drives for `python -m bench predictions`.

96 drives of the random policy and 48 of the shipped agent, as codes of the shipped V. Drives and weights stay in
runs/predictions: what is stopped goes on, and what is there is not made again.
"""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.common import FOLDER
from wmlib.checkpoint import load_into, save_weights
from wmlib.collect import collect
from wmlib.config import MDNRNNConfig, resolve
from wmlib.data import data_hash, sequence_batches
from wmlib.envs.car_racing import CAR_RACING
from wmlib.mdnrnn import MDNRNN, Mixture, State, mixture_nll
from wmlib.parallel import run as run_jobs
from wmlib.presets import LAPTOP, LAPTOP_M
from wmlib.run import claim_run
from wmlib.train import encode_episodes, train_mdnrnn

RUN = resolve("runs/predictions")
CONFIG = replace(
    LAPTOP,
    preset="predictions",
    seed=2,
    after=FOLDER,
    keeps=("vae",),
    collect=replace(LAPTOP.collect, episodes=96, agent_episodes=48),
)
SETTINGS, SEEDS = replace(LAPTOP_M, steps=800, look_ahead=None), (0, 1)
GAUSSIAN, JOINT, UNTRAINED = "one Gaussian", "one set of weights", "an untrained memory"
NAMES = "M", GAUSSIAN, JOINT, UNTRAINED


class Joint(MDNRNN):
    """An M with one set of K weights: they choose a component for all latents at once."""

    def __init__(self, z_size: int, action_size: int, hidden_size: int, num_mixtures: int):
        super().__init__(z_size, action_size, hidden_size, num_mixtures)
        self.to_mixture = nn.Linear(self.hidden_size, (1 + 2 * self.z_size) * self.num_mixtures)

    def mixture(self, h: Tensor) -> Mixture:
        """Every latent has the same logits."""
        parts = self.to_mixture(h).unflatten(-1, (-1, self.num_mixtures))  # (B, T, 1 + 2 Z, K)
        logits, mu, logsigma = parts.split([1, self.z_size, self.z_size], dim=2)
        return Mixture(logits.expand_as(mu), mu, logsigma)


def joint_nll(mixture: Mixture, target: Tensor) -> Tensor:
    """-log p of each latent given those before it, by a Joint's mixture: target (B, T, Z) to (B, T, Z).

    The latents before tell something of the component that was chosen. The sum is -log p of all together.
    """
    deviation = (target[..., None] - mixture.mu) * torch.exp(-mixture.logsigma)
    log_normal = -0.5 * deviation.square() - mixture.logsigma - 0.5 * math.log(2 * math.pi)
    so_far = torch.logsumexp(
        torch.log_softmax(mixture.logits, dim=-1) + log_normal.cumsum(dim=2), dim=-1
    )
    return -so_far.diff(dim=-1, prepend=torch.zeros_like(so_far[..., :1]))


class Forgetful(MDNRNN):
    """An M whose memory is emptied before every step."""

    def memory(self, z: Tensor, action: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Every step is a sequence of its own."""
        B, T = z.shape[:2]
        h, _ = super().memory(z.reshape(B * T, 1, -1), action.reshape(B * T, 1, -1))
        return h.view(B, T, -1), self.initial_state(B)


def new(name: str, seed: int = 0) -> MDNRNN:
    """An untrained model of that name."""
    torch.manual_seed(seed)
    K = 1 if name == GAUSSIAN else SETTINGS.num_mixtures
    sizes = LAPTOP.vae.z_size, CAR_RACING.action_size, SETTINGS.hidden_size, K
    mdnrnn = {JOINT: Joint, "memory emptied": Forgetful}.get(name, MDNRNN)(*sizes)
    if name == UNTRAINED:
        mdnrnn.lstm.requires_grad_(False)
    return mdnrnn


def train(folder: Path, paths: list[Path], settings: MDNRNNConfig, name: str, seed: int) -> float:
    """Train the model of that name as M is trained, a Joint by its own -log p; keep it and return its last loss."""
    mdnrnn = new(name, seed)
    batches = sequence_batches(paths, settings.batch_size, settings.sequence_length, seed)
    with patch("wmlib.mdnrnn.mixture_nll", joint_nll if name == JOINT else mixture_nll):
        *_, (_, metrics) = train_mdnrnn(settings, mdnrnn, batches)
    save_weights(folder, mdnrnn.state_dict(), {"steps": settings.steps, "metrics": metrics})
    return metrics["loss"]


def training_drives() -> list[Path]:
    """The files of the drives that all is fitted on, as codes of the shipped V."""
    run = claim_run(RUN, CONFIG)
    for done, _ in collect(run):
        if done % 24 == 0:
            print(f"{done} training drives", flush=True)
    for share in encode_episodes(run):
        print(f"{share:.0%} of them encoded", flush=True)
    return run.latent_paths()


def trained(paths: list[Path]) -> dict[str, list[MDNRNN]]:
    """The models of each name, one for each seed; those that are not yet kept are trained."""
    folder = RUN / "trained" / f"{SETTINGS.steps} steps on {data_hash(paths)[:8]}"
    folders = {(name, seed): folder / f"{name} {seed}" for seed in SEEDS for name in NAMES}
    missing = [key for key, place in folders.items() if not (place / "meta.json").exists()]
    for (name, seed), loss in zip(
        missing, run_jobs(train, [(folders[key], paths, SETTINGS, *key) for key in missing])
    ):
        print(
            f"trained {name}, seed {seed}: {loss:.3f} nats for each latent at the end", flush=True
        )
    found: dict[str, list[MDNRNN]] = {}
    for (name, _), place in folders.items():
        found.setdefault(name, []).append(new(name))
        load_into(found[name][-1], place)
    return found
