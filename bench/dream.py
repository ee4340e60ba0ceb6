"""C drives in the dream and on the fast real track, steps a second on one core: both in turns, in one run.

Real: FastCarRacing with V and M in the loop. Dreamt: DreamEnv, where M is the world and the memory at once; no frame is
decoded, for C needs none. Both as so many drives at a time as suit them; at the real one's number too.
"""

import statistics
import time

import torch

from bench.common import FOLDER
from wmlib.agent import Agent
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.vae import to_float
from wmlib.world import Policy, World

ROUNDS = 20
REAL = 32
DREAMT = (32, 256)
STEPS = 20  # in a round each world takes so many, all episodes at once
EPISODE = 10 * STEPS  # all start again after so many


class Driving:
    """Drives that go on from round to round."""

    def __init__(self, env: World, policy: Policy):
        self.env, self.policy, self.taken = env, policy, 0

    def rate(self) -> float:
        """Steps a second of all drives together, in one round."""
        if self.taken % EPISODE == 0:
            self.obs, _ = self.env.reset(seed=list(range(self.env.num_envs)))
            self.state = self.policy.initial_state(self.env.num_envs, 0)
        started = time.perf_counter()
        for _ in range(STEPS):
            action, self.state = self.policy.act(self.obs, self.state, None)
            self.obs, *_ = self.env.step(action)
        self.taken += STEPS
        return self.env.num_envs * STEPS / (time.perf_counter() - started)


@torch.inference_mode()
def main() -> dict:
    """Print each one's rate and the ratios."""
    torch.set_num_threads(1)
    agent = Agent.load(FOLDER)
    real = VectorEnv(CAR_RACING.make, REAL, EPISODE + STEPS)
    first_z, _ = agent.vae.encode(to_float(real.reset(seed=0)[0]))
    worlds = {f"real, {REAL} drives": Driving(real, agent)}
    for number in DREAMT:
        env = DreamEnv(agent.vae, agent.mdnrnn, first_z, number, task=agent.task)
        worlds[f"dreamt, {number} drives"] = Driving(env, DreamPolicy(agent, env))
    rates: dict[str, list[float]] = {name: [] for name in worlds}
    for number in range(ROUNDS + 1):
        for name, world in worlds.items():
            rates[name] += [world.rate()][: number > 0]  # the first round warms up
    medians = {name: statistics.median(found) for name, found in rates.items()}
    (base, *others), ratios = rates, {}
    print(f"{base:20}{medians[base]:9.0f} steps a second")
    for name in others:
        ratios[name] = statistics.median(
            ours / theirs for ours, theirs in zip(rates[name], rates[base])
        )
        print(f"{name:20}{medians[name]:9.0f} steps a second, {ratios[name]:.1f} times as many")
    return {"rounds": ROUNDS, "steps_per_second": medians, "times_as_many_as_real": ratios}
