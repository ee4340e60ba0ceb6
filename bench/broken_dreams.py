"""Dreams the clinic's patients, dreams of the shipped agent with one fault each, and keeps them in data/clinic.

All begin at the same moment of a drive with C at the wheel.
"""

import numpy as np
import torch
from PIL import Image

from bench.memory import FOLDER as AGENT
from bench.memory import TRACKS
from wmlib.agent import Agent
from wmlib.checkpoint import write_json
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.vector import VectorEnv
from wmlib.exercises.dreaming import FOLDER, LENGTH, PATIENTS, SHOWN
from wmlib.rollout import Drive, record

START, SEED = 180, 4


class Broken(DreamEnv):
    """A dream with a fault."""

    fault = ""
    noise_kept = None

    def step(self, actions: np.ndarray):
        """As DreamEnv's, but for the fault."""
        if self.fault == "memory emptied":
            self.state = self.mdnrnn.initial_state(self.num_envs)
        told = {"actions lost": 0 * actions, "steering mirrored": actions * np.float32([-1, 1, 1])}
        return super().step(told.get(self.fault, actions))

    def _draw(self, active: np.ndarray):
        if self.fault != "noise drawn once":
            return super()._draw(active)
        self.noise_kept = self.noise_kept or super()._draw(active)
        return self.noise_kept


def dreamt(agent: Agent, drive: Drive, fault: str) -> Drive:
    """One dream from moment START of a drive."""
    memory = torch.from_numpy(drive.h[[START]]), torch.from_numpy(drive.c[[START]])
    env = Broken(agent.vae, agent.mdnrnn, drive.z[[START]], max_steps=LENGTH, task=agent.task, first_state=memory)
    env.fault, env.temperature = fault, 0.02 if fault == "temperature near zero" else 1.0
    return record(env, DreamPolicy(agent, env), SEED)


def main() -> None:
    """Keep each one's frames and two curves: how much a pixel changes in a step, and how C steers."""
    agent, curves = Agent.load(AGENT), {}
    agent.mdnrnn.to_outcome = None  # no dream ends early
    drive = record(VectorEnv(agent.task.make, 1, START + 1), agent, TRACKS[3])
    for name, fault in ({"healthy": ""} | PATIENTS).items():
        found = dreamt(agent, drive, fault)
        strip = found.frames[list(SHOWN)].swapaxes(0, 1).reshape(64, len(SHOWN) * 64, 3)
        Image.fromarray(strip).save(FOLDER / f"dream_{name}.png", optimize=True)
        change = np.abs(np.diff(found.frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
        curves[name] = {"change": change.round(2).tolist(), "steering": found.action[:, 0].round(3).tolist()}
        print(
            f"{name:8} a pixel changes by {change.mean():.2f} a step, C steers {np.abs(found.action[:, 0]).mean():.2f}"
        )
    write_json(FOLDER / "dreams.json", {"command": "python -m bench broken_dreams", "curves": curves})
