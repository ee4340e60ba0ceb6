"""Dreams the patients of notebook 08, dreams of the shipped agent with one fault each.

All begin at the same moment of an episode with C at the wheel.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bench.common import FOLDER as AGENT
from bench.common import TRACKS
from wmlib.agent import Agent
from wmlib.data import Episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.vector import VectorEnv
from wmlib.exercises.clinic import Clinic
from wmlib.exercises.dreaming import CLINIC, SHOWN
from wmlib.rollout import record

START, SEED = 180, 4


class Broken(DreamEnv):
    """A dream with a fault."""

    fault = ""
    noise_kept = None

    def step(self, actions: np.ndarray):
        """As DreamEnv's, but for the fault."""
        if self.fault == "memory emptied":
            self.state = self.mdnrnn.initial_state(self.num_envs)
        mirror = np.array([-1, 1, 1], np.float32)
        told = {"actions lost": 0 * actions, "steering mirrored": mirror * actions}
        return super().step(told.get(self.fault, actions))

    def _draw(self, active: np.ndarray):
        if self.fault != "noise drawn once":
            return super()._draw(active)
        self.noise_kept = self.noise_kept or super()._draw(active)
        return self.noise_kept


def awake(start: int = START) -> tuple[Agent, Episode]:
    """The shipped agent, and its episode up to the moment at which the dreams begin."""
    agent = Agent.load(AGENT)
    assert agent.mdnrnn is not None
    agent.mdnrnn.to_outcome = None  # no dream ends early
    return agent, record(VectorEnv(agent.task.make, 1, start + 1), agent, TRACKS[3])


def dreamt(agent: Agent, episode: Episode, fault: str, length: int = SHOWN[-1]) -> Episode:
    """So many steps of a dream that begins at the moment of an episode's last action."""
    assert (
        agent.mdnrnn is not None
        and episode.z is not None
        and episode.h is not None
        and episode.c is not None
    )
    last = [len(episode) - 1]
    memory = torch.from_numpy(episode.h[last]), torch.from_numpy(episode.c[last])
    env = Broken(
        agent.vae,
        agent.mdnrnn,
        episode.z[last],
        max_steps=length,
        task=agent.task,
        first_state=memory,
    )
    env.fault = fault
    env.temperature = 0.02 if fault == "temperature near zero" else 1.0
    return record(env, DreamPolicy(agent, env), SEED)


def main(clinic: Clinic = CLINIC, start: int = START, shown: Sequence[int] = SHOWN) -> None:
    """Keep each one's frames at the steps `shown`, how much a pixel changes in a step, and how C steers."""
    agent, episode = awake(start)
    curves = {}
    for name, fault in clinic.everyone.items():
        dream = dreamt(agent, episode, fault, shown[-1])
        clinic.keep_frames(name, dream.obs[None, list(shown)])
        change, steering = changes(dream), dream.action[:, 0]
        curves[name] = {"change": change.round(2).tolist(), "steering": steering.round(3).tolist()}
        print(
            f"{name:8} a pixel changes by {change.mean():.2f} a step, C steers {np.abs(steering).mean():.2f}"
        )
    clinic.keep_curves({"curves": curves})


def changes(dream: Episode) -> np.ndarray:
    """How much a pixel changes in each step, (T,)."""
    return np.abs(np.diff(dream.obs.astype(float), axis=0)).mean(axis=(1, 2, 3))
