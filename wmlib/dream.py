"""The dream: M imagines the next z, V paints it, and gymnasium's vector API hides that nothing is real.

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
from wmlib.envs.task import Task
from wmlib.envs.vector import checked_actions, reset_places
from wmlib.mdnrnn import MDNRNN, State, place_noise
from wmlib.vae import VAE, to_uint8


class DreamEnv(gym.vector.VectorEnv):
    """B dreams in lock-step; an observation is z, float32 (B, Z) (paper, section 4).

    The same contract as the real vectors: autoreset DISABLED, a finished dream ignores its action,
    repeats its z and pays 0 until `options["reset_mask"]` resets it; it is truncated at `max_steps`.
    Where M predicts the outcome, a step pays the reward that M expects, and a dream terminates when
    M's logit of the end passes 0; else it pays 0. (An end weighs `end_weight` times in training: at
    10, 0 stands for a chance of 1 in 11. Steps that end an episode don't teach the reward, so a
    dreamt end costs what it costs to be over.) A dream and its noise belong to its own seed, whoever
    dreams beside it.

    `state` is the agent's M's (h, c), each (B, H): what C reads. Without `dreamers` that M dreams
    too. With them each dream is dreamt by one of those, for its whole length, while the agent's M
    follows z and actions as it follows the game's.
    """

    metadata = {
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": ["rgb_array"],
    }

    def __init__(
        self,
        vae: VAE,
        mdnrnn: MDNRNN,
        first_z: np.ndarray | Tensor,
        num_envs: int = 1,
        *,
        task: Task,
        temperature: float = 1.0,
        max_steps: int | None = None,
        first_state: State | None = None,
        dreamers: Sequence[MDNRNN] = (),
        dreamer_states: Sequence[State] = (),
        dropout: float = 0.0,
    ):
        """first_z: (N, Z), where dreams may begin; first_state: M's (h, c) just before, each (N, H).

        Without it a dream begins with an empty memory. dreamer_states: the same for each dreamer.
        temperature: above 1 for a wilder dream, towards 0 for a sure one. max_steps: the task's by
        default. dropout: the share of h that M's outputs don't see, another at each step.
        Raises ValueError for sizes that don't agree.
        """
        self.temperature = temperature
        self.first_z = torch.atleast_2d(torch.as_tensor(first_z, dtype=torch.float32))
        _check_sizes(vae, [mdnrnn, *dreamers], self.first_z, task)
        self.vae = vae
        self.mdnrnn = mdnrnn
        self.dreamers = list(dreamers)
        self.dropout = dropout
        N, Z = self.first_z.shape
        self.first_state = _checked_state(mdnrnn, first_state, N)
        states: list[State | None] = [*dreamer_states] or [None] * len(self.dreamers)
        self.dreamer_states = [
            _checked_state(dreamer, state, N)
            for dreamer, state in zip(self.dreamers, states, strict=True)
        ]
        self.num_envs = num_envs
        self.max_steps = max_steps or task.max_steps
        self.render_mode = "rgb_array"
        self.metadata = {**self.metadata, "render_fps": task.fps}
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (Z,), np.float32)
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.noise = [np.random.default_rng() for _ in range(num_envs)]
        self.dreamer = np.zeros(num_envs, int)  # which of the dreamers each dream has
        self.z = torch.zeros(num_envs, Z)
        self.state: State = mdnrnn.initial_state(num_envs)
        self.dreamer_state: State = (self.dreamers or [mdnrnn])[0].initial_state(num_envs)
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

    @torch.inference_mode()
    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict | None = None):
        """Begin dreams, everywhere or where `options["reset_mask"]` (B,) is True: z (B, Z), info.

        seed: one for each dream, or one number from which dream i takes seed + i; without one a
        dream's noise goes on. Each dream's noise draws where it begins and by whom it is dreamt;
        options["start"] (B,) names the places to begin, of the N, instead.
        """
        mask, seeds = reset_places(self.num_envs, seed, options)
        start = np.zeros(self.num_envs, int)
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self.noise[i] = np.random.default_rng(seeds[i])
            start[i] = self.noise[i].integers(len(self.first_z))
            if self.dreamers:
                self.dreamer[i] = self.noise[i].integers(len(self.dreamers))
        if options and "start" in options:
            start = np.asarray(options["start"])
            last = len(self.first_z) - 1
            if start.shape != mask.shape or not np.isin(start, range(last + 1)).all():
                places = f"{self.num_envs} of the places 0 to {last}"
                raise ValueError(f"start must be {places}, got {start}")
        h, c = self.first_state
        self._replace(mask, self.first_z[start], (h[start], c[start]))
        for index, (h, c) in enumerate(self.dreamer_states):
            own = mask & (self.dreamer == index)
            self.dreamer_state = _where(own, (h[start], c[start]), self.dreamer_state)
        self.steps[mask] = 0
        self.terminated[mask] = self.truncated[mask] = False
        return self.z.numpy().copy(), {}

    @torch.inference_mode()
    def step(self, actions: np.ndarray):
        """One imagined step: z (B, Z), reward (B,), terminated (B,), truncated (B,), info."""
        actions = checked_actions(np.asarray(actions, np.float32), self.action_space.shape)
        active = ~(self.terminated | self.truncated)
        z, reward, logit, state = self._imagine(torch.from_numpy(actions), self._draw(active))
        if not torch.isfinite(z).all():
            odd = f"M dreamt a z that is no number at temperature {self.temperature}"
            raise ValueError(f"{odd}; train M anew")
        self._replace(active, z, state)
        self.terminated |= active & (logit > 0)
        self.steps[active] += 1
        self.truncated |= active & ~self.terminated & (self.steps >= self.max_steps)
        reward = np.where(active, reward, 0.0)
        return self.z.numpy().copy(), reward, self.terminated.copy(), self.truncated.copy(), {}

    def _imagine(self, actions: Tensor, noise: list[Tensor]):
        """What follows in every dream: z (B, Z), reward (B,), logit of the end (B,), M's (h, c)."""
        h, state = self.mdnrnn.memory(self.z[:, None], actions[:, None], self.state)
        if not self.dreamers:
            return *self._read(self.mdnrnn, h, noise), state
        z = self.z.clone()
        reward, logit = np.zeros((2, self.num_envs))
        for index, dreamer in enumerate(self.dreamers):
            own = self.dreamer == index
            rows = torch.from_numpy(np.flatnonzero(own))
            before = self.dreamer_state[0][rows], self.dreamer_state[1][rows]
            h, after = dreamer.memory(self.z[rows, None], actions[rows, None], before)
            for kept, part in zip(self.dreamer_state, after):
                kept[rows] = part
            z[rows], reward[own], logit[own] = self._read(
                dreamer, h, [part[rows] for part in noise]
            )
        return z, reward, logit, state

    def _read(self, mdnrnn: MDNRNN, h: Tensor, noise: list[Tensor]):
        """The next z, the reward and the logit of the end that an M's h (B, 1, H) holds."""
        uniform, normal, *keep = noise
        h = h * keep[0][:, None] if keep else h
        z = place_noise(mdnrnn.mixture(h), uniform[:, None], normal[:, None], self.temperature)
        if mdnrnn.to_outcome is None:
            return z[:, 0], np.zeros(len(z)), np.full(len(z), -np.inf)
        reward, logit = mdnrnn.outcome(h)
        return z[:, 0], reward[:, 0].numpy().astype(float), logit[:, 0].numpy()

    def _draw(self, active: np.ndarray) -> list[Tensor]:
        """A step's noise, each dream's from its own source: uniform and normal (B, Z).

        With dropout also what is left of h (B, H): 0, or a little more than 1.
        """
        uniform, normal = np.zeros((2, *self.z.shape), np.float32)
        kept = np.zeros(self.dreamer_state[0].shape if self.dropout else (0, 0), np.float32)
        for i in np.flatnonzero(active):
            self.noise[i].random(out=uniform[i], dtype=np.float32)
            self.noise[i].standard_normal(out=normal[i], dtype=np.float32)
            if self.dropout:
                self.noise[i].random(out=kept[i], dtype=np.float32)
        noise = [torch.from_numpy(uniform), torch.from_numpy(normal)]
        if self.dropout:
            left = (kept >= self.dropout).astype(np.float32) / (1 - self.dropout)
            noise.append(torch.from_numpy(left))
        return noise

    def _replace(self, mask: np.ndarray, z: Tensor, state: State) -> None:
        self.z = torch.where(torch.from_numpy(mask)[:, None], z, self.z)
        self.state = _where(mask, state, self.state)

    @torch.inference_mode()
    def render(self) -> np.ndarray:  # type: ignore[override]  # one array for all, not one for each
        """What the dreamers see: uint8 (B, 64, 64, 3)."""
        return to_uint8(self.vae.decode(self.z))

    def view(self) -> dict[str, np.ndarray]:
        """What there is to see now: obs (B, 64, 64, 3), the code z (B, Z), M's h and c (B, H)."""
        h, c = self.state
        return {"obs": self.render(), "z": self.z.numpy(), "h": h.numpy(), "c": c.numpy()}


def _where(mask: np.ndarray, state: State, other: State) -> State:
    """The rows of one state where `mask` (B,) is True, else of the other."""
    rows = torch.from_numpy(mask)[:, None]
    return torch.where(rows, state[0], other[0]), torch.where(rows, state[1], other[1])


def _check_sizes(vae: VAE, mdnrnns: list[MDNRNN], first_z: Tensor, task: Task) -> None:
    N, Z = first_z.shape
    if N == 0:
        raise ValueError("first_z holds no place to begin; expected (N, Z) with N at least 1")
    for mdnrnn in mdnrnns:
        if Z != vae.z_size or vae.z_size != mdnrnn.z_size:
            sizes = f"V has {vae.z_size} latents, M {mdnrnn.z_size} and first_z {Z}"
            raise ValueError(f"{sizes}; they must agree")
        read = mdnrnn.lstm.input_size - Z
        if read != task.action_size:
            wanted = f"the task {task.name} has {task.action_size}"
            raise ValueError(f"M reads actions of {read} entries, {wanted}")
    units = {mdnrnn.hidden_size for mdnrnn in mdnrnns[1:]}
    if len(units) > 1:
        raise ValueError(f"all dreamers must have the same number of units, got {sorted(units)}")


def _checked_state(mdnrnn: MDNRNN, state: State | None, N: int) -> State:
    h, c = (torch.as_tensor(part) for part in state or mdnrnn.initial_state(N))
    expected = (N, mdnrnn.hidden_size)
    if h.shape != expected or c.shape != expected:
        found = [tuple(h.shape), tuple(c.shape)]
        raise ValueError(f"M's state must be h and c of shape {expected}, got {found}")
    return h, c


class DreamPolicy:
    """An agent's C inside a DreamEnv: it reads the h and c that the dream keeps for it."""

    def __init__(self, agent: Agent, env: DreamEnv):
        self.agent = agent
        self.env = env
        self.driver = agent.driver

    def initial_state(self, B: int, seed: int | None = None) -> None:
        """Nothing: the dream remembers."""

    def act(
        self, obs: np.ndarray, state: None, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, None]:
        """z (B, Z) to action (B, A)."""
        with torch.inference_mode():
            return self.agent.choose(torch.from_numpy(obs), *self.env.state).numpy(), None
