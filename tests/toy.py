"""A second task, as small as one can be: `python -m tests.toy STAGE` is `python -m wmlib STAGE` with its presets.

A bright bar drifts over the frame; one action pushes it left or right. Staying in the middle pays, the edge ends it.
"""

import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch

from tests.tiny import TINY
from wmlib.cli import main
from wmlib.config import DreamConfig, OutcomeConfig
from wmlib.envs.task import Button, Task, register
from wmlib.presets import PRESETS


class Bar(gym.Env):
    """A bar at `place`, from 0 to 63, that drifts away from the middle."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 32 + self.np_random.uniform(-6, 6)
        return self.render(), {}

    def step(self, action):
        self.place += (
            3 * float(action[0]) + 0.05 * (self.place - 32) + self.np_random.normal(0, 0.5)
        )
        over = not 2 < self.place < 62
        self.place = float(np.clip(self.place, 2, 62))
        return self.render(), 0.0 if over else 1 - abs(self.place - 32) / 32, over, False, {}

    def telemetry(self):
        return {
            "height": 64 - self.place,
            "h": 1.0,
        }  # names of its own, one of which means something else elsewhere

    def render(self):
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[:, int(self.place) - 2 : int(self.place) + 2] = 255
        return frame


register(
    Task(
        name="toy",
        make=Bar,
        make_official=Bar,
        action_space=Bar.action_space,
        action_names=("push",),
        squash=torch.tanh,
        noise_mean=(0.0,),
        noise_spread=(1.0,),
        step_cost=0.0,
        max_steps=60,
        fps=20,
        noun="balance",
        verb="push",
        buttons=(
            Button("left", "to the left", "push left", ("ArrowLeft",)),
            Button("right", "to the right", "push right", ("ArrowRight",)),
        ),
        help="the arrow keys push",
        steer=lambda action, pressed: np.float32([("right" in pressed) - ("left" in pressed)]),
        landmark=lambda frames: frames[..., 0] > 127,
        landmark_name="bar",
    )
)
REAL = replace(
    TINY,
    preset="toy",
    task="toy",
    vae=replace(TINY.vae, z_size=3),
    mdnrnn=replace(TINY.mdnrnn, outcome=OutcomeConfig()),
)
DREAM = replace(
    REAL,
    preset="toy-dream",
    evolve=replace(TINY.evolve, world="dream", dream=DreamConfig(temperature=1.15)),
)
PRESETS |= {preset.preset: preset for preset in (REAL, DREAM)}

if __name__ == "__main__":
    sys.exit(main())
