"""What M buys: -log p of the z that came, one step and ten steps ahead, beside predictors that know or may say less.

In nats for each latent, on drives of the agent and of the random policy on tracks that no stage drives on, their first
steps left out. Ten steps ahead M dreams futures under the true actions; p is then the mean, over these futures, of the
last step's density, each latent by itself (the futures are few, which costs M a little). All are fitted on draws of z
from the same drives (bench/rivals.py; the shipped M on others, for longer) and asked for draws, as in training; then,
unchanged, they read mu and are asked for mu, as in the game. V uses a latent that it spends more than a tenth of a nat
on; a draw of another is noise, whatever one knows.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.common import FOLDER, LIMIT, SKIP, TRACKS, weights_hashes
from bench.rivals import JOINT, SETTINGS, Joint, joint_nll, new, trained, training_drives
from wmlib.agent import Agent
from wmlib.data import EncodedEpisode, load_episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import MDNRNN, Mixture, mixture_nll, place_noise
from wmlib.policies import BrownianPolicy
from wmlib.rollout import episodes
from wmlib.train import encode_episode
from wmlib.vae import kl_to_standard_normal
from wmlib.world import Policy

AHEAD = 10
STARTS = 12  # moments of each episode
SAMPLES = 64  # futures from each of them
RIDGE = 1.0


class Codes(NamedTuple):
    """One drive: z (T+1, Z), drawn or mu; the draws' entropy (T+1, Z) in nats; action (T, A); moments starts (N,)."""

    z: Tensor
    entropy: Tensor
    action: Tensor
    starts: Tensor


def read(drive: EncodedEpisode, seed: int, draw: bool = True) -> Codes:
    """The codes of a drive; its moments and its noise belong to the seed."""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(np.arange(SKIP, len(drive) - AHEAD + 1), STARTS, replace=False))
    noise = np.exp(drive.logvar / 2) * rng.standard_normal(drive.mu.shape, dtype=np.float32)
    entropy = 0.5 * (drive.logvar + math.log(2 * math.pi * math.e))
    return Codes(*map(torch.from_numpy, (drive.mu + draw * noise, entropy, drive.action, starts)))


class Fixed:
    """A Gaussian around z[t] itself, or around a linear function of z[t] and the actions; its widths never change."""

    def __init__(self, training: list[Codes], repeat: bool):
        self.fitted = {}
        for k in (1, AHEAD):
            x, y = (
                torch.cat(parts) for parts in zip(*(self.pairs(codes, k) for codes in training))
            )
            unit = torch.eye(x.shape[1], dtype=x.dtype)
            weights = (
                unit[:, : y.shape[1]]
                if repeat
                else torch.linalg.solve(x.T @ x + RIDGE * unit, x.T @ y)
            )
            self.fitted[k] = weights, (y - x @ weights).square().mean(dim=0)

    @staticmethod
    def pairs(codes: Codes, k: int) -> tuple[Tensor, Tensor]:
        """Of each moment t from SKIP on: z[t], the actions that lead to t + k, and 1, (N, F); z[t + k], (N, Z)."""
        n = len(codes.action) - k + 1
        x = torch.cat(
            [codes.z[:n], *(codes.action[i : n + i] for i in range(k)), torch.ones(n, 1)], dim=1
        )
        return x[SKIP:].double(), codes.z[SKIP + k :].double()

    def score(self, codes: Codes) -> Tensor:
        """Nats for each latent at one step and at AHEAD, (2, Z)."""
        found = []
        for k, rows in ((1, slice(None)), (AHEAD, codes.starts - SKIP)):
            (x, y), (weights, variance) = self.pairs(codes, k), self.fitted[k]
            nll = 0.5 * ((y - x @ weights).square() / variance + torch.log(2 * math.pi * variance))
            found.append(nll[rows].mean(dim=0))
        return torch.stack(found)


def next_step(mdnrnn: MDNRNN, codes: Codes) -> tuple[Mixture, Tensor]:
    """The mixtures (1, N, Z, K) over each z[t+1] from SKIP on, and what came, (1, N, Z)."""
    mixture, _ = mdnrnn(codes.z[None, :-1], codes.action[None])
    return Mixture(*(part[:, SKIP:] for part in mixture)), codes.z[None, SKIP + 1 :]


def futures(mdnrnn: MDNRNN, codes: Codes) -> tuple[Mixture, Tensor]:
    """The last step's mixtures (N, S, Z, K) of S dreams of AHEAD steps from each moment, and what came, (N, S, Z)."""
    state, states, generator = mdnrnn.initial_state(1), [], torch.Generator().manual_seed(0)
    for begin, end in zip([0, *codes.starts], codes.starts):
        _, state = mdnrnn.memory(codes.z[None, begin:end], codes.action[None, begin:end], state)
        states.append(state)
    each = lambda part: part.repeat_interleave(SAMPLES, dim=0)
    h, c = (each(torch.cat(part)) for part in zip(*states))
    z = each(codes.z[codes.starts])[:, None]  # (N S, 1, Z)
    for step in range(AHEAD):
        mixture, (h, c) = mdnrnn(z, each(codes.action[codes.starts + step])[:, None], (h, c))
        uniform = torch.rand(
            len(z), 1, 1 if isinstance(mdnrnn, Joint) else z.shape[2], generator=generator
        )
        z = place_noise(mixture, uniform, torch.randn(z.shape, generator=generator))
    last = Mixture(*(part.view(len(codes.starts), SAMPLES, *part.shape[2:]) for part in mixture))
    return last, codes.z[codes.starts + AHEAD][:, None].expand(-1, SAMPLES, -1)


@torch.inference_mode()
def score(mdnrnn: MDNRNN, codes: Codes) -> Tensor:
    """Nats for each latent by itself at one step and at AHEAD, (2, Z)."""
    one = mixture_nll(*next_step(mdnrnn, codes)).mean(dim=(0, 1))
    ten = math.log(SAMPLES) - torch.logsumexp(-mixture_nll(*futures(mdnrnn, codes)), dim=1)
    return torch.stack([one, ten.mean(dim=0)])


@torch.inference_mode()
def together(mdnrnn: MDNRNN, order: Tensor, codes: Codes) -> Tensor:
    """As `score`, of each latent given those before it in `order`, by a Joint; nan at AHEAD."""
    mixture, target = next_step(mdnrnn, codes)
    ordered = Mixture(*(part[:, :, order] for part in mixture))
    one = joint_nll(ordered, target[:, :, order]).mean(dim=(0, 1))[order.argsort()]
    return torch.stack([one, torch.full_like(one, math.nan)])


def entropy(codes: Codes) -> Tensor:
    """As `score`: the least that drawn codes cost whoever knows mu and logvar."""
    return torch.stack(
        [codes.entropy[SKIP + 1 :].mean(dim=0), codes.entropy[codes.starts + AHEAD].mean(dim=0)]
    )


@torch.inference_mode()
def calibration(mdnrnn: MDNRNN, found: list[Codes], used: Tensor) -> dict:
    """Where z came in what M predicted: the share in each tenth of its distribution function, 0.1 if M is right."""
    rows = {}
    for k, predicted in {1: next_step, AHEAD: futures}.items():
        places = []
        for mixture, target in (predicted(mdnrnn, codes) for codes in found):
            below = torch.special.ndtr(
                (target[..., None] - mixture.mu) * torch.exp(-mixture.logsigma)
            )
            below = (torch.softmax(mixture.logits, dim=-1) * below).sum(dim=-1)
            places.append(below.mean(dim=0 if k == 1 else 1)[:, used].flatten())
        shares = torch.histc(torch.cat(places).clamp(max=1), 10, 0, 1) / sum(map(len, places))
        rows[str(k)] = {
            "shares": shares.tolist(),
            "largest_deviation": (shares - 0.1).abs().max().item(),
        }
        print(
            f"  {k:>2} ahead, the shipped M's tenths hold",
            *(f"{share:.3f}" for share in shares),
            flush=True,
        )
    return rows


def predictors(
    models: dict[str, list[MDNRNN]], shipped: MDNRNN, training: list[Codes], order: Tensor
) -> dict:
    """What scores a drive's codes, by the name of its row: one for each seed."""
    rows: dict[str, list[Callable[[Codes], Tensor]]] = {
        "z repeated": [Fixed(training, repeat=True).score]
    }
    rows["linear"] = [Fixed(training, repeat=False).score]
    for name, found in (models | {"the shipped M": [shipped]}).items():
        rows[name] = [partial(score, mdnrnn) for mdnrnn in found]
        if name == JOINT:
            rows[f"{name}, latents together"] = [
                partial(together, mdnrnn, order) for mdnrnn in found
            ]
        if name in ("M", "the shipped M"):
            emptied = [new("memory emptied") for _ in found]
            for forgetful, mdnrnn in zip(emptied, found):
                forgetful.load_state_dict(
                    mdnrnn.state_dict(), strict=False
                )  # the shipped one's outcome is left out
            rows[f"{name}, memory emptied"] = [partial(score, forgetful) for forgetful in emptied]
    return rows


def table(
    rows: dict[str, list[Callable[[Codes], Tensor]]], codes: list[Codes], used: Tensor
) -> dict:
    """Print and return each row's nats at one step and at AHEAD, one for each seed, over the used latents and over all.

    above_m: how much more than M's on the used ones; standard_error: of this difference, over the drives.
    """
    found: dict = {}
    together = lambda seeds: torch.stack(
        [torch.stack([one(each) for each in codes]) for one in seeds]
    )
    nats = {row: together(seeds) for row, seeds in rows.items()}  # (seeds, drives, 2, Z)
    for row, values in nats.items():
        for k, now, m in zip((1, AHEAD), values.unbind(dim=2), nats["M"].unbind(dim=2)):
            if now.isnan().any():
                continue
            averages = {"used": now[..., used].mean(dim=(1, 2)), "all": now.mean(dim=(1, 2))}
            above = (now.mean(dim=0) - m.mean(dim=0))[:, used].mean(dim=1)
            more, error = above.mean().item(), above.std().item() / math.sqrt(len(codes))
            found.setdefault(row, {})[str(k)] = {
                group: average.tolist() for group, average in averages.items()
            }
            found[row][str(k)] |= {"above_m": more, "standard_error": error}
            means = "".join(f"{average.mean():8.3f}" for average in averages.values())
            print(f"  {k:>2} ahead {row:35}{means}{more:+8.3f} (error {error:.3f})", flush=True)
    return found


def spent(drives: list[EncodedEpisode]) -> Tensor:
    """The mean nats that V spends on each latent (Z,), its KL to a standard normal."""
    mu, logvar = (
        np.concatenate([getattr(one, part)[SKIP:] for one in drives]) for part in ("mu", "logvar")
    )
    return kl_to_standard_normal(torch.from_numpy(mu), torch.from_numpy(logvar)).mean(dim=0)


def main() -> dict:
    """Print a table for each driver and code, and the calibration of the shipped M."""
    agent, paths = Agent.load(FOLDER), training_drives()
    models, drives = trained(paths), [load_episode(path, EncodedEpisode) for path in paths]
    training = [read(drive, index) for index, drive in enumerate(drives) if len(drive) > 4 * SKIP]
    kl = spent(drives)
    used, rows = (
        torch.where(kl > 0.1)[0],
        predictors(models, agent.mdnrnn, training, kl.argsort(descending=True)),
    )
    results: dict = {
        "weights_sha256": weights_hashes("vae", "mdnrnn"),
        "steps": SETTINGS.steps,
        "latents_used": used.tolist(),
        "drives": {},
    }
    policies: dict[str, Policy] = {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}
    for driver, policy in policies.items():
        env = VectorEnv(CAR_RACING.make, len(TRACKS), LIMIT)
        driven = episodes(env, policy, TRACKS, 0)
        found = [encode_episode(agent.vae, drive) for drive in driven if len(drive) > 4 * SKIP]
        results["drives"][driver] = {"number": len(found), "nats": {}}
        for code, floor in {"z": {"entropy of the draw": [entropy]}, "mu": {}}.items():
            codes = [read(drive, index, draw=code == "z") for index, drive in enumerate(found)]
            print(
                f"{driver} drives ({len(found)}), {code}: nats on the used latents, on all, on the used above M's"
            )
            results["drives"][driver]["nats"][code] = table(rows | floor, codes, used)
            if code == "z":
                results["drives"][driver]["calibration"] = calibration(agent.mdnrnn, codes, used)
    return results
