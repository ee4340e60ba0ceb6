"""What several benches share: the shipped agent's folder, tracks of their own, probes, clocks, costs.

Letters: T time, Z latents, H hidden, F inputs of a probe.
"""

import time
from itertools import accumulate

import numpy as np
import torch

from wmlib.agent import Agent
from wmlib.config import EvolveConfig
from wmlib.data import Episode
from wmlib.evolve import horizon
from wmlib.mdnrnn import MDNRNN, mixture_nll
from wmlib.run import open_run
from wmlib.train import encode_frames

FOLDER = "data/pretrained/car_racing"
TRACKS = [45_000_000 + i for i in range(24)]  # in no stage's range
LIMIT = 1_000  # steps of an episode
SKIP = 50  # an episode's first steps, left out while the camera comes down
FOLDS = 6
RIDGE = 100.0


def timed(call, *args, **kwargs):
    """Return the seconds that a call takes, and its answer."""
    start = time.perf_counter()
    answer = call(*args, **kwargs)
    return time.perf_counter() - start, answer


def episodes_in_generation(settings: EvolveConfig) -> int:
    """The episodes of one generation: all candidates on `tracks`, the better half on halving's first, and so on."""
    halves = lambda number, _: (number + 1) // 2
    racing = accumulate(settings.halving, halves, initial=settings.popsize)
    rungs = [settings.tracks, *settings.halving]
    return sum(number * tracks for number, tracks in zip(racing, rungs))


def steps_in_generations(settings: EvolveConfig, generations: int) -> int:
    """The most steps that so many generations may drive."""
    limits = sum(horizon(settings, generation) for generation in range(generations))
    return episodes_in_generation(settings) * limits


@torch.inference_mode()
def memories(mdnrnn: MDNRNN, codes: np.ndarray, action: np.ndarray) -> np.ndarray:
    """h[t] (T, H), before z[t] and action[t], of one episode."""
    h, _ = mdnrnn.memory(torch.from_numpy(codes)[None], torch.from_numpy(action)[None])
    return torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)[0].numpy()


def share(guess: np.ndarray, truth: np.ndarray) -> float:
    """The share of the truth's variance that a guess explains."""
    return float(1 - np.mean((guess - truth) ** 2) / truth.var())


def probe(inputs: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """The share explained: inputs (T, F) and truth (T,) of each episode."""
    x, y = np.concatenate(inputs).astype(float), np.concatenate(truth)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    fold = np.repeat(np.arange(len(truth)) % FOLDS, [len(one) for one in truth])
    guess = np.empty_like(y)
    for one in range(FOLDS):
        fit, middle = x[fold != one], y[fold != one].mean()
        weights = np.linalg.solve(
            fit.T @ fit + RIDGE * np.eye(x.shape[1]), fit.T @ (y[fold != one] - middle)
        )
        guess[fold == one] = x[fold == one] @ weights + middle
    return share(guess, y)


@torch.inference_mode()
def likelihood(mdnrnn: MDNRNN, episode: Episode, codes: np.ndarray) -> float:
    """The mean -log p(z[t+1]) of one latent, in nats."""
    z, action = torch.from_numpy(codes)[None], torch.from_numpy(episode.action)[None]
    mixture, _ = mdnrnn(z[:, :-1], action[:, :-1])
    return mixture_nll(mixture, z[:, 1:])[:, SKIP:].mean().item()


def encoded(agent: Agent, episode: Episode) -> np.ndarray:
    """The codes (T, Z) that the agent's M reads of an episode's frames."""
    if episode.z is not None:
        return episode.z
    mu, logvar = (torch.from_numpy(part) for part in encode_frames(agent.vae, episode.obs[:-1]))
    if "mu" in agent.reads:
        return mu.numpy()
    return agent.vae.sample(mu, logvar, torch.Generator().manual_seed(0)).numpy()


def weights_hashes(*parts: str) -> dict[str, str]:
    """The hashes of the shipped weights that a result is about."""
    run = open_run(FOLDER)
    return {part: run.weights_hash(part) for part in parts}
