"""What differs between the paper's two experiments, as far as they are built."""

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wmlib.envs.car_racing import FastCarRacing, preprocess


@dataclass(frozen=True)
class Task:
    """An environment and how C meets it."""

    name: str
    make: Callable[[], gym.Env]
    make_official: Callable[[], gym.Env]  # gymnasium's own, whose score counts
    action_space: gym.spaces.Box
    squash: Callable[[Tensor], Tensor]  # raw action (..., A) to the environment's units
    step_cost: float  # what one step without a success costs
    max_steps: int

    @property
    def action_size(self) -> int:
        """A, the entries of an action."""
        return self.action_space.shape[0]


def squash_car_racing(raw: Tensor) -> Tensor:
    """Raw action (..., 3) to steer in [-1, 1], gas and brake in [0, 1] (paper, A.4 and its code).

    All three pass through tanh; gas = (a + 1) / 2, brake = a clipped at 0.
    """
    steer, gas, brake = torch.tanh(raw).unbind(-1)
    return torch.stack([steer, (gas + 1) / 2, brake.clamp(min=0)], dim=-1)


def make_official_car_racing(render_mode: str | None = None) -> gym.Env:
    """gymnasium's CarRacing-v3 with its own pixels, cut and resized as the paper does."""
    env = gym.make("CarRacing-v3", render_mode=render_mode, disable_env_checker=True)
    return gym.wrappers.TransformObservation(env, preprocess, gym.spaces.Box(0, 255, (64, 64, 3), np.uint8))


CAR_RACING = Task(
    name="car_racing",
    make=FastCarRacing,
    make_official=make_official_car_racing,
    action_space=gym.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1])),  # steer, gas, brake
    squash=squash_car_racing,
    step_cost=0.1,
    max_steps=1_000,
)
