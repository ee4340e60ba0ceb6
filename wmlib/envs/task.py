"""A task: an environment and all that differs between one game and another; one file a task stands beside this one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Button:
    """Something that a person can do: what `steer` calls it, and how it is shown, spoken and typed."""

    name: str
    label: str
    spoken: str
    keys: tuple[str, ...]  # as KeyboardEvent.code names them


@dataclass(frozen=True, eq=False)  # a space has no hash, so a task is one by being itself
class Task:
    """An environment and how C and a person meet it. Observations are frames, uint8 (64, 64, 3)."""

    name: str
    make: Callable[..., gym.Env]  # render_mode=None
    make_official: Callable[..., gym.Env]  # the one whose score counts; render_mode=None
    action_space: gym.spaces.Box
    action_names: tuple[str, ...]
    squash: Callable[[Tensor], Tensor]  # raw action (..., A) to the environment's units
    noise_mean: tuple[float, ...]  # where each entry of the Brownian policy's raw action wanders,
    noise_spread: tuple[float, ...]  # and how far from there
    step_cost: float  # what one step without a success costs
    max_steps: int
    fps: int  # steps a second, for a person
    noun: str  # what a person calls an episode
    verb: str  # and to play it
    buttons: tuple[Button, ...]  # in their order on the screen
    help: str  # the keys, in words
    steer: Callable[[np.ndarray, Collection[str]], np.ndarray]  # action (A,) and buttons to (A,)
    landmark: Callable[[np.ndarray], np.ndarray] | None = None  # frames to pixels (..., 64, 64)
    landmark_name: str = "landmark"  # what it shows
    opening: int = 0  # steps until a person sees what it is about

    @property
    def action_size(self) -> int:
        """A, the entries of an action."""
        return self.action_space.shape[0]

    def overlap(self, frames: np.ndarray, others: np.ndarray) -> np.ndarray:
        """How far frames (..., 64, 64, 3) show the landmark where others do: (...).

        Intersection over union. Raises ValueError for a task without a landmark.
        """
        if self.landmark is None:
            raise ValueError(f"frames of {self.name} can't be compared: the task has no landmark")
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
