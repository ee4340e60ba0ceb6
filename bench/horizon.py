"""How long a dream stays true: the same start, the same actions, dreamt and real frames compared step by step.

The measure is the road's overlap: of the pixels that are road in either frame, the share that is road in both. Chance
is the overlap with another moment of the same kind of drives. A prediction is usable while it lies nearer to V's own
reconstruction than to chance; the step at which it no longer does is its half-life. Beside M: the last frame repeated,
and M with its memory emptied before every step. Then what a dream does that the world never does, and the reverse.
"""

from collections.abc import Callable

import numpy as np
import torch

from bench.common import FOLDER, LIMIT, TRACKS, encoded, weights_hashes
from wmlib.agent import Agent
from wmlib.data import Episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING, road
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import State
from wmlib.policies import BrownianPolicy
from wmlib.rollout import record_all
from wmlib.vae import to_uint8
from wmlib.world import Policy

STEPS = (1, 2, 3, 5, 7, 10, 12, 15, 20, 25, 30, 40, 50, 70, 100, 150, 200)
STARTS = 12  # moments of each episode
SKIP = 60  # its first steps, while the camera comes down, are left out
TEMPERATURES = (0.1, 0.3, 0.65, 1.0, 1.5)
BRAKE = np.array([0, 0, 1], np.float32)
LONG = (0, 50, 100, 200, 500, 1_000)
LOOK = 10  # steps from one look at the road to the next
CAR = (slice(46, 62), slice(24, 40))  # rows and columns around the car


class Places:
    """Moments of drives: what was seen then, what M remembered, which actions and frames followed."""

    def __init__(self, agent: Agent, found: list[Episode]):
        rng, T = np.random.default_rng(0), max(STEPS)
        chosen = [
            (d, t)
            for d in found
            for t in sorted(rng.choice(np.arange(SKIP, len(d) - T), STARTS, replace=False))
        ]
        self.agent, self.drive = agent, np.repeat(np.arange(len(found)), STARTS)
        codes = {id(drive): encoded(agent, drive) for drive in found}
        self.z = torch.from_numpy(np.stack([codes[id(drive)][t] for drive, t in chosen]))  # (N, Z)
        self.state = self._remembered(
            [(codes[id(drive)][:t], drive.action[:t]) for drive, t in chosen]
        )
        self.action = np.stack(
            [drive.action[t : t + T] for drive, t in chosen], axis=1
        )  # (T, N, A)
        self.frames = {k: np.stack([drive.obs[t + k] for drive, t in chosen]) for k in (0, *STEPS)}
        self.codes = {
            k: torch.from_numpy(np.stack([codes[id(d)][min(t + k, len(d) - 1)] for d, t in chosen]))
            for k in STEPS
        }

    def _remembered(self, before: list[tuple[np.ndarray, np.ndarray]]) -> State:
        parts = [
            self.agent.mdnrnn.memory(torch.from_numpy(z)[None], torch.from_numpy(a)[None])[1]
            for z, a in before
        ]
        h, c = (torch.cat(part) for part in zip(*parts))
        return h, c

    def dream(self, temperature: float) -> DreamEnv:
        """One dream at each place."""
        N = len(self.z)
        env = DreamEnv(
            self.agent.vae,
            self.agent.mdnrnn,
            self.z,
            N,
            task=self.agent.task,
            temperature=temperature,
            max_steps=10_000,
            first_state=self.state,
        )
        env.reset(seed=0, options={"start": np.arange(N)})
        return env


def dreamt(places: Places, temperature: float, memory: bool = True) -> dict[int, np.ndarray]:
    """The frames (N, 64, 64, 3) after so many steps under the real actions."""
    env, frames = places.dream(temperature), {}
    for step, action in enumerate(places.action, start=1):
        if not memory:
            env.state = env.mdnrnn.initial_state(env.num_envs)
        env.step(action)
        if step in STEPS:
            frames[step] = env.render()
    return frames


def compared(places: Places, frames: dict[int, np.ndarray]) -> dict[str, list[float]]:
    """At each of STEPS the road's overlap, its standard error over the drives, and the squared error of a pixel."""
    rows: dict[str, list[float]] = {"overlap": [], "standard_error": [], "squared_error": []}
    for step in STEPS:
        overlap = CAR_RACING.overlap(frames[step], places.frames[step])
        each = np.array(
            [overlap[places.drive == drive].mean() for drive in np.unique(places.drive)]
        )
        rows["overlap"].append(float(overlap.mean()))
        rows["standard_error"].append(float(each.std(ddof=1) / np.sqrt(len(each))))
        gap = frames[step].astype(float) - places.frames[step]
        rows["squared_error"].append(float(np.square(gap).mean()))
    return rows


def half_life(overlap: list[float], half: float) -> float | None:
    """The step at which the overlap falls under `half`, between two of STEPS; None where it never does."""
    for after in range(len(STEPS)):
        if overlap[after] < half:
            if after == 0:
                return float(STEPS[0])
            share = (overlap[after - 1] - half) / (overlap[after - 1] - overlap[after])
            return STEPS[after - 1] + share * (STEPS[after] - STEPS[after - 1])
    return None


def table(places: Places) -> dict:
    """Every prediction's rows, V's own and chance's, the line half-way between these two, and the half-lives."""
    shuffled = np.random.default_rng(1).permutation(len(places.z))
    rows = {
        "V alone": {step: to_uint8(places.agent.vae.decode(places.codes[step])) for step in STEPS},
        "another moment": {step: places.frames[step][shuffled] for step in STEPS},
        "the last frame": dict.fromkeys(STEPS, places.frames[0]),
        "M without memory": dreamt(places, 1.0, memory=False),
    }
    rows |= {f"M at {temperature}": dreamt(places, temperature) for temperature in TEMPERATURES}
    found = {name: compared(places, frames) for name, frames in rows.items()}
    best, chance = (np.mean(found[name]["overlap"]) for name in ("V alone", "another moment"))
    half = float(best + chance) / 2
    lives = {name: half_life(row["overlap"], half) for name, row in found.items()}
    return {
        "places": len(places.z),
        "half": half,
        "half_life": lives,
        "rows": found,
    }


def on_road(frames: np.ndarray) -> np.ndarray:
    """In which frames (N, 64, 64, 3) most of what is around the car is road."""
    return road(frames[:, *CAR]).mean(axis=(1, 2)) > 0.5


def followed(
    places: Places, temperature: float, choose: Callable[[DreamEnv], np.ndarray]
) -> dict[str, list[float]]:
    """Dreams under a policy: at each of LONG the share with road around the car, then and at every look before, and how
    much a frame changes in one step.
    """
    env, rows = places.dream(temperature), {"on_road": [], "always_on_road": [], "change": []}
    always = np.ones(env.num_envs, bool)
    for step in range(max(LONG) + 1):
        before = env.render() if step % LOOK == 0 else None
        env.step(choose(env))
        if before is None:
            continue
        always &= on_road(before)
        if step in LONG:
            rows["on_road"].append(float(on_road(before).mean()))
            rows["always_on_road"].append(float(always.mean()))
            rows["change"].append(float(np.abs(env.render().astype(float) - before).mean()))
    return rows


def braked(tracks: list[int], agent: Agent) -> list[float]:
    """The real car brakes after 150 steps: a frame's mean change in one step, at each of LONG but the last two."""
    env = VectorEnv(CAR_RACING.make, len(tracks), 1_000)
    obs, _ = env.reset(seed=tracks)
    state, changes = agent.initial_state(len(tracks), 0), []
    for _ in range(150):
        action, state = agent.act(obs, state)
        obs, *_ = env.step(action)
    for step in range(max(LONG[:-1]) + 1):
        now, *_ = env.step(np.tile(BRAKE, (len(tracks), 1)))
        if step in LONG:
            changes.append(float(np.abs(now.astype(float) - obs).mean()))
        obs = now
    return changes


@torch.inference_mode()
def main() -> dict:
    """Print both tables and what becomes of dreams that are driven on."""
    agent = Agent.load(FOLDER)
    agent.mdnrnn.to_outcome = None  # here no dream ends
    results: dict = {
        "weights_sha256": weights_hashes("vae", "mdnrnn"),
        "steps": STEPS,
        "drives": {},
        "long": LONG,
        "driven_on": {},
    }
    policies: dict[str, Policy] = {"the agent's": agent, "random": BrownianPolicy(CAR_RACING)}
    for name, policy in policies.items():
        driven = record_all(VectorEnv(CAR_RACING.make, len(TRACKS), LIMIT), policy, TRACKS, 0)
        long_enough = [one for one in driven if len(one) > SKIP + max(STEPS) + STARTS]
        places = Places(agent, long_enough)
        results["drives"][name] = found = table(places)
        print(
            f"{name} drives, {found['places']} places; the road's overlap, half-way at {found['half']:.2f}"
        )
        print(f"  {'after':18}" + "".join(f"{step:6}" for step in STEPS) + "  half-life")
        for row, values in found["rows"].items():
            life = found["half_life"][row]
            overlaps = "".join(f"{value:6.2f}" for value in values["overlap"])
            print(f"  {row:18}{overlaps}{'' if life is None else f'{life:11.1f}'}")
        if policy is agent:
            followed_by = {"C": lambda env: DreamPolicy(agent, env).act(env.z.numpy(), None)[0]}
            followed_by["the brake"] = lambda env: np.tile(BRAKE, (env.num_envs, 1))
            for who, choose in followed_by.items():
                results["driven_on"][who] = rows = {
                    t: followed(places, t, choose) for t in TEMPERATURES
                }
                for temperature, row in rows.items():
                    print(
                        f"  {who} at {temperature}: "
                        + ", ".join(f"{k} {np.round(v, 2)}" for k, v in row.items())
                    )
    results["real_brake"] = braked(TRACKS, agent)
    print(f"  the brake, really: change {np.round(results['real_brake'], 2)}")
    return results
