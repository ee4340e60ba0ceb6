"""What candidates drive in: one protocol, a game or dreams of it, and the one place that opens either.

Letters: B environments, N places to begin, Z latents, A action, H hidden.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Agent, load_memory, load_world_model
from wmlib.checkpoint import load_weights, read_json, save_weights
from wmlib.config import EvolveConfig
from wmlib.data import EncodedEpisode, load_episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import MDNRNN, State
from wmlib.run import Run


class World(Protocol):
    """A lock-step vector of B environments, real (envs.vector) or dreamt (dream).

    A finished environment ignores its action, repeats its observation and pays 0 until it is reset.
    """

    num_envs: int
    max_steps: int  # the limit at which an episode is truncated
    stalled: np.ndarray  # (B,), which episodes were cut before that for want of success

    def reset(
        self, *, seed: Sequence[int] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begin episodes, each by its own seed: obs (B, ...), info."""

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step: obs (B, ...), reward, terminated and truncated (B,), info."""

    def view(self) -> dict[str, np.ndarray]:
        """What there is to see now: obs (B, 64, 64, 3) and what else the world can show."""


class Policy(Protocol):
    """Anything that drives. `driver` says who it is, in the episodes that it drives."""

    def initial_state(self, B: int, seed: int | None = None):
        """What it carries from step to step, before the first observation."""

    def act(
        self, obs: np.ndarray, state, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, object]:
        """obs (B, ...) to action (B, A) and the next state; active (B,): which still run."""


class Starts(NamedTuple):
    """Places where dreams may begin: z (N, Z) and, for each M in turn, its (h, c) before it."""

    z: Tensor
    states: list[State]


def open_world(
    agent: Agent,
    settings: EvolveConfig,
    num_envs: int,
    starts: Starts | None = None,
    dreamers: Sequence[MDNRNN] = (),
) -> tuple[World, Policy]:
    """The world that `settings` names, real or dreamt, and the agent as it drives there.

    starts: where dreams begin, as `run_starts` gives them. Candidates meet either by one protocol.
    """
    if settings.world == "real":
        make = agent.task.make
        return VectorEnv(make, num_envs, settings.max_steps, settings.patience), agent
    if starts is None or agent.mdnrnn is None:
        raise ValueError("a dream needs an agent with an M and places to begin; see draw_starts")
    dream = DreamEnv(
        agent.vae,
        agent.mdnrnn,
        starts.z,
        num_envs,
        task=agent.task,
        temperature=settings.dream.temperature,
        max_steps=settings.max_steps,
        first_state=starts.states[0],
        dreamers=dreamers,
        dreamer_states=starts.states[1:],
        dropout=settings.dream.dropout,
    )
    return dream, DreamPolicy(agent, dream)


def run_starts(run: Run) -> Starts:
    """Where the dreams of a run begin: drawn once from its encoded episodes and kept, then read.

    Raises ValueError when they are damaged, or were drawn for other weights.
    """
    folder = run.part("starts")
    settings = run.config.evolve.dream
    made_from = {"inputs": run.input_hashes(), "begin": settings.begin, "number": settings.starts}
    if not (folder / "meta.json").exists():
        agent = load_world_model(run)
        dreamers = [load_memory(run, part) for part in run.memories[1:]]
        paths = [path for path in run.latent_paths() if path.exists()]
        moments = settings.begin == "moments"
        drawn = draw_starts(agent, dreamers, paths, settings.starts, moments, run.config.seed)
        tensors = {"z": drawn.z}
        for index, (h, c) in enumerate(drawn.states):
            tensors |= {f"h{index}": h, f"c{index}": c}
        save_weights(folder, tensors, {"made_from": made_from})
    if read_json(folder / "meta.json").get("made_from") != made_from:
        odd = f"{folder} was made for other weights than there are now"
        raise ValueError(f"{odd}; delete it, and controller beside it, to search anew")
    tensors = load_weights(folder)
    numbers = range(len(run.memories))
    return Starts(tensors["z"], [(tensors[f"h{index}"], tensors[f"c{index}"]) for index in numbers])


@torch.inference_mode()
def draw_starts(
    agent: Agent,
    dreamers: Sequence[MDNRNN],
    paths: Sequence[Path],
    number: int,
    moments: bool,
    seed: int = 0,
) -> Starts:
    """Where `number` dreams of an agent may begin: at the starts of encoded episodes (paper, 4.3).

    moments: at random moments of them instead, with every M's memory of what came before. Dreams
    begin with the code that C reads: mu, or a draw around it. states: the agent's M's, then the
    dreamers'. Raises ValueError for an agent without M, or for latents of another V;
    FileNotFoundError without any.
    """
    if agent.mdnrnn is None:
        raise ValueError("an agent without M can't dream; give it an M, or drive in the real world")
    if not paths:
        lost = "there is no encoded episode at which a dream could begin"
        raise FileNotFoundError(f"{lost}; run python -m wmlib train-mdnrnn first")
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    memories = [agent.mdnrnn, *dreamers]
    z: list[Tensor] = []
    states: list[list[State]] = [[] for _ in memories]
    for index in range(number if moments else min(number, len(paths))):
        path = paths[index % len(paths)]
        episode = load_episode(path, EncodedEpisode)
        if episode.mu.shape[1] != agent.vae.z_size:
            sizes = f"{episode.mu.shape[1]} latents, V has {agent.vae.z_size}"
            raise ValueError(f"{path} has {sizes}")
        t = int(rng.integers(len(episode))) if moments else 0
        seen = torch.from_numpy(episode.mu[: t + 1])
        if "mu" not in agent.reads:
            width = torch.from_numpy(episode.logvar[: t + 1])
            seen = agent.vae.sample(seen, width, generator)
        action = torch.from_numpy(episode.action[None, :t])
        z.append(seen[-1])
        for mdnrnn, found in zip(memories, states):
            empty = mdnrnn.initial_state(1)
            found.append(mdnrnn.memory(seen[None, :-1], action)[1] if t else empty)
    joined = [
        (torch.cat([h for h, _ in found]), torch.cat([c for _, c in found])) for found in states
    ]
    return Starts(torch.stack(z), joined)
