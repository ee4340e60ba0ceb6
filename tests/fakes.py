"""Small stand-ins that several test files share: a counting environment, a policy that does not look, tiny models."""

import gymnasium as gym
import numpy as np
import torch

from wmlib.mdnrnn import MDNRNN
from wmlib.vae import VAE


class Counter(gym.Env):
    """Observes [seed, steps taken]; pays 1 + action[0]; terminates after `length` steps; remembers every action."""

    observation_space = gym.spaces.Box(0, 1e6, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, length: int = 5, pay: float = 1.0):
        self.length, self.pay = length, pay
        self.actions, self.resets, self.closed = [], 0, False
        self.seed = self.count = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        self.seed = self.seed if seed is None else seed
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        self.actions.append(action.copy())
        self.count += 1
        return self._obs(), self.pay + action[0], self.count >= self.length, False, {}

    def close(self):
        self.closed = True

    def _obs(self):
        return np.array([self.seed, self.count], np.float32)


class CounterOf:
    """Makes counters of the given lengths, one after the other."""

    def __init__(self, *lengths: int, pay: float = 1.0):
        self.lengths, self.pay = iter(lengths), pay

    def __call__(self) -> Counter:
        return Counter(next(self.lengths), self.pay)


class Script:
    """Gives every environment the action [tick / 8, 0, 0] and counts ticks in its state."""

    def initial_state(self, B, seed=None):
        self.seed, self.seen = seed, []
        return 0

    def act(self, obs, state, active=None):
        self.seen.append(active.copy())
        action = np.zeros((len(obs), 3), np.float32)
        action[:, 0] = state / 8
        return action, state + 1


def tiny_models(z_size: int = 4, hidden_size: int = 6, num_mixtures: int = 2) -> tuple[VAE, MDNRNN]:
    """V and M with random weights, the same ones every time."""
    torch.manual_seed(0)
    return VAE(z_size), MDNRNN(z_size, 3, hidden_size, num_mixtures)


def dreamers(number=2, hidden_size=8):
    """Ms of another size than the agent's, which expect the outcome and never an end."""
    found = []
    for seed in range(number):
        torch.manual_seed(10 + seed)
        found.append(MDNRNN(4, 3, hidden_size, 2, outcome=True))
        torch.nn.init.constant_(found[-1].to_outcome[-1].bias, -9.0)
    return found
