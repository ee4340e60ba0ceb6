"""What several benches share: the shipped agent, tracks of their own and who drives there, probes, clocks, costs.

Letters: T time, Z latents, H hidden, F inputs of a probe.
"""

import time
from collections.abc import Callable
from itertools import accumulate
from typing import ParamSpec, TypeVar

import numpy as np
import torch

from wmlib.agent import Agent
from wmlib.config import EvolveConfig
from wmlib.data import Episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.evolve import horizon
from wmlib.mdnrnn import MDNRNN, mixture_nll
from wmlib.policies import BrownianPolicy
from wmlib.rollout import episodes, record_all
from wmlib.run import open_run
from wmlib.train import encode_frames
from wmlib.world import Policy

FOLDER = "data/pretrained/car_racing"
TRACKS = [45_000_000 + i for i in range(24)]  # in no stage's range
FRAME_TRACKS = [41_000_000 + i for i in range(16)]  # nor are these, whose frames V is judged by
MAX_STEPS = 1_000
SKIP = 50  # an episode's first steps, left out while the camera comes down
FOLDS = 6
RIDGE = 100.0

P = ParamSpec("P")
Answer = TypeVar("Answer")


def timed(call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> tuple[float, Answer]:
    """The seconds that a call takes, and its answer."""
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


def drivers(agent: Agent) -> dict[str, Policy]:
    """Who drives, by the names that results have: an agent and the random policy."""
    return {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}


def driven(policy: Policy) -> list[Episode]:
    """An episode on each of TRACKS, with all that was seen of it."""
    return record_all(VectorEnv(CAR_RACING.make, len(TRACKS), MAX_STEPS), policy, TRACKS)


def held_out_frames() -> dict[str, np.ndarray]:
    """Frames (N, 64, 64, 3) by two drivers, every fifth, once the camera is down."""
    env = VectorEnv(CAR_RACING.make, len(FRAME_TRACKS), MAX_STEPS)
    found = {}
    for name, policy in drivers(Agent.load(FOLDER)).items():
        seen = [episode.obs[SKIP::5] for episode in episodes(env, policy, FRAME_TRACKS)]
        found[f"{name} drives"] = np.concatenate(seen)
    return found


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
