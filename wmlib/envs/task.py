"""A task: an environment and all that differs between one game and another; one file a task stands beside this one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)  # a space has no hash, so a task is one by being itself
class Task:
    """An environment and how C and a person meet it. Observations are frames, uint8 (64, 64, 3)."""

    name: str
    make: Callable[..., gym.Env]  # render_mode=None
    make_official: Callable[..., gym.Env]  # the environment whose score counts; render_mode=None
    action_space: gym.spaces.Box
    action_names: tuple[str, ...]
    squash: Callable[[Tensor], Tensor]  # raw action (..., A) to the environment's units
    steer: Callable[
        [np.ndarray, Collection[str]], np.ndarray
    ]  # action before (A,) and the keys down to action (A,)
    noise_mean: tuple[
        float, ...
    ]  # the Brownian policy's raw action: where each entry wanders around,
    noise_spread: tuple[float, ...]  # and how far from there
    landmark: Callable[
        [np.ndarray], np.ndarray
    ]  # frames to the pixels, bool (..., 64, 64), by which two are compared
    step_cost: float  # what one step without a success costs
    max_steps: int

    @property
    def action_size(self) -> int:
        """A, the entries of an action."""
        return self.action_space.shape[0]

    def overlap(self, frames: np.ndarray, others: np.ndarray) -> np.ndarray:
        """How far frames (..., 64, 64, 3) show the landmark where others do: intersection over union, (...)."""
        one, other = self.landmark(frames), self.landmark(others)
        return (one & other).sum(axis=(-2, -1)) / np.maximum((one | other).sum(axis=(-2, -1)), 1)


TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Make a task known by its name to configurations, stages and commands."""
    TASKS[task.name] = task
    return task


def get_task(name: str) -> Task:
    """The task of that name; ValueError names the ones there are."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]
