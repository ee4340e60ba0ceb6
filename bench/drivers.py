"""Whether a dream can tell a good driver from a worse one: the same drivers on real tracks and in dreams.

The drivers are the shipped C with more and more noise in its weights. Their order by what M expects in the dream is
compared with their order on the track (Spearman's correlation of the means). Paper, section 4.2: C may be trained in
the dream where the dream ranks drivers as the world does.
"""

import numpy as np
import torch

from bench.common import FOLDER, LIMIT, TRACKS
from wmlib.agent import Agent
from wmlib.checkpoint import file_hash
from wmlib.config import resolve
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.rollout import returns
from wmlib.vae import to_float

DRIVERS, NOISE = 48, 0.15  # the last driver's noise; C's own weights are about 0.1 wide
DRIVES = 4  # tracks for each driver
DREAMS = 16  # and dreams
AT_ONCE = 12  # drivers on the road together
TEMPERATURES = (0.1, 0.3, 0.65, 1.0, 1.5)
RESAMPLES = 2_000


def ranks(values: np.ndarray) -> np.ndarray:
    """0 for the smallest."""
    return values.argsort().argsort()


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two orders."""
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def interval(one: np.ndarray, other: np.ndarray) -> list[float]:
    """Where nine tenths of the correlations lie when the drivers are drawn anew."""
    rng = np.random.default_rng(0)
    drawn = [
        spearman(one[rows], other[rows])
        for rows in rng.integers(len(one), size=(RESAMPLES, len(one)))
    ]
    return np.quantile(drawn, [0.05, 0.95]).tolist()


def team(agent: Agent, params: torch.Tensor) -> Agent:
    """Drivers that share V and M: params (P, N)."""
    return Agent(
        agent.vae, agent.mdnrnn, agent.controller, params, agent.task, " ".join(agent.reads)
    )


@torch.inference_mode()
def main() -> dict:
    """Print the returns' spread and, for each temperature, how well the orders agree."""
    agent = Agent.load(FOLDER)
    noise = torch.randn(DRIVERS, agent.params.shape[1], generator=torch.Generator().manual_seed(0))
    params = agent.params + torch.linspace(0, NOISE, DRIVERS)[:, None] * noise
    env, tracks = VectorEnv(CAR_RACING.make, AT_ONCE * DRIVES, LIMIT), TRACKS[:DRIVES]
    driven = [
        returns(env, team(agent, some), tracks * len(some))[0] for some in params.split(AT_ONCE)
    ]
    real = np.concatenate(driven).reshape(DRIVERS, DRIVES)
    first_z, _ = agent.vae.encode(to_float(env.reset(seed=TRACKS[0])[0]))
    means, halves = (
        real.mean(axis=1),
        spearman(real[:, ::2].mean(axis=1), real[:, 1::2].mean(axis=1)),
    )
    print(
        f"real returns from {means.min():.0f} to {means.max():.0f}; two tracks and the other two agree {halves:.2f}"
    )
    results: dict = {"drivers": DRIVERS, "noise": NOISE, "tracks": tracks, "dreams_each": DREAMS}
    results |= {"real": means.tolist(), "spearman_of_halves": halves, "dreams": {}}
    for temperature in TEMPERATURES:
        dream = DreamEnv(
            agent.vae,
            agent.mdnrnn,
            first_z,
            DRIVERS * DREAMS,
            task=agent.task,
            temperature=temperature,
        )
        found, _ = returns(
            dream, DreamPolicy(team(agent, params), dream), list(range(DREAMS)) * DRIVERS
        )
        dreamt = found.reshape(DRIVERS, DREAMS).mean(axis=1)
        row = {
            "returns": dreamt.tolist(),
            "spearman": spearman(means, dreamt),
            "interval_90": interval(means, dreamt),
        }
        low, high = row["interval_90"]
        agreement = f"orders agree {row['spearman']:.2f} ({low:.2f} to {high:.2f})"
        print(f"temperature {temperature:4}: the shipped C is paid {dreamt[0]:5.0f}; {agreement}")
        results["dreams"][str(temperature)] = row
    parts = ("vae", "mdnrnn", "controller", "outcome")
    return {
        "weights_sha256": {
            part: file_hash(resolve(FOLDER) / part / "weights.safetensors") for part in parts
        }
    } | results
