"""The dream: M imagines the next z, V's decoder paints it, and gymnasium's vector API hides that nothing is real.

Letters: B environments, Z latents, A action, H hidden.
"""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from wmlib.agent import Agent
from wmlib.envs.task import CAR_RACING, Task
from wmlib.envs.vector import checked_actions
from wmlib.mdnrnn import MDNRNN, State, sample_mixture
from wmlib.vae import VAE, to_uint8


class DreamEnv(gym.vector.VectorEnv):
    """B dreams in lock-step; an observation is z, float32 (B, Z) (paper, section 4).

    The same contract as the real vectors: autoreset DISABLED, a finished dream ignores its action, repeats its z and
    pays 0 until `options["reset_mask"]` resets it. The paper's CarRacing M predicts no reward, so all rewards are 0, and
    a dream ends after `max_steps`. `state` is M's (h, c), each (B, H), for C to read.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(
        self,
        vae: VAE,
        mdnrnn: MDNRNN,
        first_z: np.ndarray,
        num_envs: int = 1,
        temperature: float = 1.0,
        max_steps: int = 1_000,
        task: Task = CAR_RACING,
        first_state: State | None = None,
    ):
        """first_z: (N, Z), where dreams may begin; temperature: above 1 for a wilder dream, towards 0 for a sure one.

        first_state: M's (h, c) just before each first z, each (N, H); without it a dream begins with an empty memory.
        """
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature must be a positive number, got {temperature}")
        self.first_z = torch.as_tensor(np.atleast_2d(first_z), dtype=torch.float32)
        if self.first_z.shape[1] != vae.z_size or vae.z_size != mdnrnn.z_size:
            raise ValueError(f"V has {vae.z_size} latents, M {mdnrnn.z_size} and first_z {self.first_z.shape[1]}; they must agree")
        self.first_state = first_state or mdnrnn.initial_state(len(self.first_z))
        if any(part.shape != (len(self.first_z), mdnrnn.hidden_size) for part in self.first_state):
            shapes = [tuple(part.shape) for part in self.first_state]
            raise ValueError(f"first_state must be h and c of shape {(len(self.first_z), mdnrnn.hidden_size)}, got {shapes}")
        self.vae, self.mdnrnn = vae.eval(), mdnrnn.eval()
        self.num_envs, self.temperature, self.max_steps = num_envs, temperature, max_steps
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (vae.z_size,), np.float32)
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = "rgb_array"
        self.generator = torch.Generator()
        self.z = torch.zeros(num_envs, vae.z_size)
        self.state: State = mdnrnn.initial_state(num_envs)
        self.steps = np.full(num_envs, max_steps)  # nothing runs before the first reset

    @torch.inference_mode()
    def reset(self, *, seed: int | list[int] | None = None, options: dict | None = None):
        """Begin dreams, everywhere or where `options["reset_mask"]` (B,) is True: z (B, Z), info.

        One seed (of a list, the first) fixes where the dreams begin and all the noise that follows.
        """
        if seed is not None:
            self.generator.manual_seed(int(np.ravel(seed)[0]))
        mask = torch.as_tensor((options or {}).get("reset_mask", np.ones(self.num_envs)), dtype=torch.bool)
        if len(mask) != self.num_envs:
            raise ValueError(f"{self.num_envs} dreams got a reset mask of {len(mask)}")
        start = torch.randint(len(self.first_z), (self.num_envs,), generator=self.generator)
        self._replace(mask, self.first_z[start], tuple(part[start] for part in self.first_state))
        self.steps[mask.numpy()] = 0
        return self.z.numpy().copy(), {}

    @torch.inference_mode()
    def step(self, actions: np.ndarray):
        """One imagined step: z (B, Z), reward (B,), terminated (B,), truncated (B,), info."""
        actions = checked_actions(np.asarray(actions, np.float32), self.action_space.shape)
        mixture, state = self.mdnrnn(self.z[:, None], torch.from_numpy(actions)[:, None], self.state)
        z = sample_mixture(mixture, self.temperature, self.generator)[:, 0]
        active = self.steps < self.max_steps
        self._replace(torch.from_numpy(active), z, state)
        self.steps[active] += 1
        nothing = np.zeros(self.num_envs)
        return self.z.numpy().copy(), nothing, nothing.astype(bool), self.steps >= self.max_steps, {}

    def _replace(self, mask: torch.Tensor, z: torch.Tensor, state: State) -> None:
        self.z = torch.where(mask[:, None], z, self.z)
        self.state = tuple(torch.where(mask[:, None], new, old) for new, old in zip(state, self.state))

    @torch.inference_mode()
    def render(self) -> np.ndarray:
        """What the dreamers see: uint8 (B, 64, 64, 3)."""
        return to_uint8(self.vae.decode(self.z))


class DreamPolicy:
    """An agent's C inside a DreamEnv: it reads the dream's own h, so there is no second LSTM."""

    def __init__(self, agent: Agent, env: DreamEnv):
        self.agent, self.env = agent, env

    def initial_state(self, B: int, seed: int | None = None) -> None:
        """Nothing: the dream remembers."""

    def act(self, obs: np.ndarray, state: None, active: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """z (B, Z) to action (B, A)."""
        return self.agent.choose(torch.from_numpy(obs), self.env.state[0]).numpy(), None
