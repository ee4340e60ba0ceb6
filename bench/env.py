"""CarRacing-v3 on one core, steps a second: stock, EnvPool where installed, and ours, interleaved in one run."""

import statistics

import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing

from bench.common import timed
from wmlib.envs.car_racing import FastCarRacing, preprocess

ROUNDS, STEPS = 40, 25  # in each round every environment takes so many steps
SEED, EPISODE = 1, 500  # all start again after so many steps


class EnvPool:
    """EnvPool's CarRacing-v3, one environment on one thread, behind the two calls that this file makes."""

    def __init__(self):
        import envpool

        self.pool = envpool.make_gymnasium("CarRacing-v3", num_envs=1, num_threads=1)

    def reset(self, seed):
        return self.pool.reset()  # its tracks are its own: only its speed is compared

    def step(self, action):
        return self.pool.step(action[None])


def contestants():
    """Return the environments by name."""
    envs: dict = {"stock": CarRacing(), "ours": FastCarRacing()}
    try:
        envs["envpool"] = EnvPool()
    except ImportError:
        print("envpool is not installed: left out")
    return envs


def brownian(rng, steps):
    """Return a wandering driver's actions, float32 (steps, 3)."""
    steer, gas, brake = np.cumsum(0.1 * rng.normal(size=(3, steps)), axis=1)
    return np.stack([np.sin(steer), 0.5 + 0.5 * np.sin(gas), 0.2 + 0.2 * np.sin(brake)], 1).astype(
        np.float32
    )


def drive(env, actions):
    """Return the observations of one round."""
    return [env.step(action)[0] for action in actions]


def main():
    envs, actions = contestants(), brownian(np.random.default_rng(0), EPISODE)
    steps, resets, errors = {name: [] for name in envs}, {name: [] for name in envs}, []
    for start in range(0, ROUNDS * STEPS, STEPS):
        if start % EPISODE == 0:
            for name, env in envs.items():
                resets[name].append(timed(env.reset, seed=SEED + start)[0])
        films = {}
        for name, env in envs.items():
            seconds, films[name] = timed(drive, env, actions[start % EPISODE :][:STEPS])
            steps[name].append(seconds / STEPS)
        gaps = preprocess(np.array(films["stock"])).astype(int) - np.array(films["ours"])
        errors.extend(np.abs(gaps).mean((1, 2, 3)))
    results: dict = {
        "rounds": ROUNDS,
        "steps_a_round": STEPS,
        "seconds_a_step": {},
        "seconds_a_reset": {},
        "ours_times_as_fast_as": {},
    }
    for name in envs:
        median, reset = statistics.median(steps[name]), statistics.median(resets[name])
        print(
            f"{name:8}{1 / median:9.0f} steps/s{median * 1e3:9.3f} ms a step{reset * 1e3:8.1f} ms a reset"
        )
        results["seconds_a_step"][name], results["seconds_a_reset"][name] = median, reset
    for name in [name for name in envs if name != "ours"]:
        ratio = statistics.median(
            theirs / ours for theirs, ours in zip(steps[name], steps["ours"], strict=True)
        )
        print(
            f"ours is {ratio:.1f} times as fast as {name} (median over {ROUNDS} rounds of {STEPS} steps)"
        )
        results["ours_times_as_fast_as"][name] = ratio
    print(
        f"mean absolute pixel error against stock: {np.mean(errors):.2f} of 255, worst frame {max(errors):.2f}"
    )
    return results | {
        "pixel_error_mean": float(np.mean(errors)),
        "pixel_error_worst_frame": float(max(errors)),
    }
