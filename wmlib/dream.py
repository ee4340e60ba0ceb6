"""The dream: M imagines the next z, V's decoder paints it, and gymnasium's vector API hides that nothing is real.

Letters: B environments, N places to begin, Z latents, A action, H hidden.
"""

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from wmlib.agent import Agent
from wmlib.config import Config
from wmlib.data import EncodedEpisode, EpisodeStore, load_episode
from wmlib.envs.task import Task, get_task
from wmlib.envs.vector import checked_actions, reset_places
from wmlib.mdnrnn import MDNRNN, State, place_noise
from wmlib.vae import VAE, to_uint8

STARTS = 1_000  # stored episodes at whose first frames dreams may begin


class DreamEnv(gym.vector.VectorEnv):
    """B dreams in lock-step; an observation is z, float32 (B, Z) (paper, section 4).

    The same contract as the real vectors: autoreset DISABLED, a finished dream ignores its action, repeats its z and
    pays 0 until `options["reset_mask"]` resets it; it is truncated at `max_steps`. Where M predicts the outcome, a step
    pays the reward that M expects, and a dream terminates when M's logit of the end passes 0; else it pays 0. (Ends
    weigh END_WEIGHT times in training, so that 0 stands for a chance of 1 in 11.) A dream and its noise belong to its
    own seed, whoever dreams beside it. `state` is M's (h, c), each (B, H).
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(
        self, vae: VAE, mdnrnn: MDNRNN, first_z: np.ndarray | Tensor, num_envs: int = 1, temperature: float = 1.0,
        max_steps: int | None = None, task: Task = get_task(Config.task), first_state: State | None = None,
    ):  # fmt: skip
        """first_z: (N, Z), where dreams may begin; temperature: above 1 for a wilder dream, towards 0 for a sure one.

        max_steps: the task's by default. first_state: M's (h, c) just before each first z, each (N, H); without it a
        dream begins with an empty memory. Raises ValueError for sizes that don't agree.
        """
        self.temperature = temperature
        self.first_z = torch.atleast_2d(torch.as_tensor(first_z, dtype=torch.float32))
        N, Z = self.first_z.shape
        if N == 0:
            raise ValueError("first_z holds no place to begin; expected (N, Z) with N at least 1")
        if Z != vae.z_size or vae.z_size != mdnrnn.z_size:
            raise ValueError(f"V has {vae.z_size} latents, M {mdnrnn.z_size} and first_z {Z}; they must agree")
        if mdnrnn.lstm.input_size != Z + task.action_size:
            size = mdnrnn.lstm.input_size - Z
            raise ValueError(f"M reads actions of {size} entries, the task {task.name} has {task.action_size}")
        h, c = first_state or mdnrnn.initial_state(N)
        self.first_state = torch.as_tensor(h), torch.as_tensor(c)
        if any(part.shape != (N, mdnrnn.hidden_size) for part in self.first_state):
            shapes = [tuple(part.shape) for part in self.first_state]
            raise ValueError(f"first_state must be h and c of shape {(N, mdnrnn.hidden_size)}, got {shapes}")
        self.vae, self.mdnrnn, self.num_envs = vae, mdnrnn, num_envs
        self.max_steps, self.render_mode = max_steps or task.max_steps, "rgb_array"
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (Z,), np.float32)
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.noise = [np.random.default_rng() for _ in range(num_envs)]
        self.z = torch.zeros(num_envs, Z)
        self.state: State = mdnrnn.initial_state(num_envs)
        self.steps = np.zeros(num_envs, int)
        self.terminated = np.zeros(num_envs, bool)
        self.truncated = np.ones(num_envs, bool)  # nothing runs before the first reset
        self.stalled = np.zeros(num_envs, bool)  # a dream has no patience

    @property
    def temperature(self) -> float:
        """Above 1 for a wilder dream, towards 0 for a sure one; may be set while it runs."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not (isinstance(value, (int, float)) and 0 < value < np.inf):
            raise ValueError(f"temperature must be a positive number, got {value!r}")
        self._temperature = float(value)

    @staticmethod
    @torch.inference_mode()
    def from_store(
        agent: Agent, store: EpisodeStore, num_envs: int = 1, anywhere: bool = False, **settings
    ) -> "DreamEnv":
        """Dreams of an agent's V and M that begin where the encoded episodes of a store do (paper, section 4.3).

        anywhere: at one moment of each episode instead, drawn at random, with M's memory of what came before. Dreams
        begin with the code that C reads: mu, or a draw around it. settings: as of `DreamEnv`.
        Raises FileNotFoundError for an empty store, ValueError for an agent without M or latents of another V.
        """
        if agent.mdnrnn is None:
            raise ValueError("an agent without M can't dream; give it an M, or drive in the real world")
        generator, moments = torch.Generator().manual_seed(0), np.random.default_rng(0)
        z, states = [], []
        for path in store.paths()[:STARTS]:
            episode = load_episode(path, EncodedEpisode)
            if episode.mu.shape[1] != agent.vae.z_size:
                raise ValueError(f"{path} has {episode.mu.shape[1]} latents, V has {agent.vae.z_size}")
            t = moments.integers(len(episode)) if anywhere else 0
            seen = torch.from_numpy(episode.mu[: t + 1])
            if "mu" not in agent.reads:
                seen = agent.vae.sample(seen, torch.from_numpy(episode.logvar[: t + 1]), generator)
            before, action = seen[None, :-1], torch.from_numpy(episode.action[None, :t])
            z.append(seen[-1])
            states.append(agent.mdnrnn.memory(before, action)[1] if t else agent.mdnrnn.initial_state(1))
        first_z, (h, c) = torch.stack(z), (torch.cat(part) for part in zip(*states))
        return DreamEnv(agent.vae, agent.mdnrnn, first_z, num_envs, task=agent.task, first_state=(h, c), **settings)

    @torch.inference_mode()
    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict | None = None):
        """Begin dreams, everywhere or where `options["reset_mask"]` (B,) is True: z (B, Z), info.

        seed: one for each dream, or one number from which dream i takes seed + i; without one a dream's noise goes on.
        options["start"] (B,): at which of the N places each begins; drawn by each dream's own noise if it isn't given.
        """
        mask, seeds = reset_places(self.num_envs, seed, options)
        start = np.zeros(self.num_envs, int)
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self.noise[i] = np.random.default_rng(seeds[i])
            start[i] = self.noise[i].integers(len(self.first_z))
        if options and "start" in options:
            start = np.asarray(options["start"])
            last = len(self.first_z) - 1
            if start.shape != mask.shape or not np.isin(start, range(last + 1)).all():
                raise ValueError(f"start must be {self.num_envs} of the places 0 to {last}, got {start}")
        h, c = self.first_state
        self._replace(mask, self.first_z[start], (h[start], c[start]))
        self.steps[mask] = 0
        self.terminated[mask] = self.truncated[mask] = False
        return self.z.numpy().copy(), {}

    @torch.inference_mode()
    def step(self, actions: np.ndarray):
        """One imagined step: z (B, Z), reward (B,), terminated (B,), truncated (B,), info."""
        actions = checked_actions(np.asarray(actions, np.float32), self.action_space.shape)
        active = ~(self.terminated | self.truncated)
        h, state = self.mdnrnn.memory(self.z[:, None], torch.from_numpy(actions)[:, None], self.state)
        uniform, normal = self._draw(active)
        z = place_noise(self.mdnrnn.mixture(h), uniform[:, None], normal[:, None], self.temperature)
        if not torch.isfinite(z).all():
            raise ValueError(f"M dreamt a z that is no number at temperature {self.temperature}; train M anew")
        self._replace(active, z[:, 0], state)
        reward = np.zeros(self.num_envs)
        if self.mdnrnn.to_outcome is not None:
            expected, logit = (part[:, 0].numpy() for part in self.mdnrnn.outcome(h))
            reward[active] = expected[active]
            self.terminated |= active & (logit > 0)
        self.steps[active] += 1
        self.truncated |= active & ~self.terminated & (self.steps >= self.max_steps)
        return self.z.numpy().copy(), reward, self.terminated.copy(), self.truncated.copy(), {}

    def _draw(self, active: np.ndarray) -> tuple[Tensor, Tensor]:
        """The noise of one step, each dream's from its own source: uniform and normal (B, Z)."""
        uniform, normal = np.zeros((2, *self.z.shape), np.float32)
        for i in np.flatnonzero(active):
            self.noise[i].random(out=uniform[i], dtype=np.float32)
            self.noise[i].standard_normal(out=normal[i], dtype=np.float32)
        return torch.from_numpy(uniform), torch.from_numpy(normal)

    def _replace(self, mask: np.ndarray, z: Tensor, state: State) -> None:
        rows = torch.from_numpy(mask)[:, None]
        (h, c), (old_h, old_c) = state, self.state
        self.z = torch.where(rows, z, self.z)
        self.state = torch.where(rows, h, old_h), torch.where(rows, c, old_c)

    @torch.inference_mode()
    def render(self) -> np.ndarray:  # type: ignore[override]  # one array for all, not one for each
        """What the dreamers see: uint8 (B, 64, 64, 3)."""
        return to_uint8(self.vae.decode(self.z))

    def view(self) -> dict[str, np.ndarray]:
        """What there is to see now: frames (B, 64, 64, 3), the code z (B, Z) that they show, M's h and c (B, H)."""
        h, c = self.state
        return {"frames": self.render(), "z": self.z.numpy(), "h": h.numpy(), "c": c.numpy()}


class DreamPolicy:
    """An agent's C inside a DreamEnv: it reads the dream's own h and c, so there is no second LSTM."""

    def __init__(self, agent: Agent, env: DreamEnv):
        self.agent, self.env = agent, env

    def initial_state(self, B: int, seed: int | None = None) -> None:
        """Nothing: the dream remembers."""

    def act(self, obs: np.ndarray, state: None, active: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """z (B, Z) to action (B, A)."""
        with torch.inference_mode():
            return self.agent.choose(torch.from_numpy(obs), *self.env.state).numpy(), None
