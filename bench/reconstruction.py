"""What V keeps of frames it never saw, beside 32 principal components, the average frame, and the origin script's V at
equal training time.

Needs the episodes of the run that the shipped V comes from: python -m wmlib collect --preset laptop --run runs/laptop
"""

import time

import numpy as np
import torch
from tqdm import tqdm

from bench.common import FOLDER, LIMIT
from bench.vae import BATCH, SCRIPT_LEARNING_RATE, ScriptVAE, plain_loop, script_loss
from wmlib.agent import Agent
from wmlib.checkpoint import read_json
from wmlib.data import frame_batches, load_episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.policies import BrownianPolicy
from wmlib.rollout import episodes
from wmlib.run import open_run
from wmlib.vae import VAE, kl_to_standard_normal, to_float
from wmlib.world import Policy

RUN = "runs/laptop"
TRACKS = [41_000_000 + i for i in range(16)]  # no stage drives there
COMPONENTS = 32
FIT_FRAMES = 16_000
SECONDS = None  # of the script's training; None: as many as V took


def held_out_frames() -> dict[str, np.ndarray]:
    """Frames (N, 64, 64, 3) of tracks that no stage drives on, by two drivers; every fifth, once the camera is down."""
    drivers: dict[str, Policy] = {
        "random drives": BrownianPolicy(CAR_RACING),
        "the agent's drives": Agent.load(FOLDER),
    }
    env = VectorEnv(CAR_RACING.make, len(TRACKS), LIMIT)
    return {
        name: np.concatenate([drive.obs[50::5] for drive in episodes(env, driver, TRACKS, 0)])
        for name, driver in drivers.items()
    }


def parts(obs: np.ndarray) -> dict[str, np.ndarray]:
    """Which pixels (N, 64, 64) are car, road and the rest: the car is red with a pixel's margin, the road grey."""
    r, g, b = np.moveaxis(obs.astype(int), -1, 0)
    red = (r > g + 60) & (r > b + 60)
    red[:, :, :24], red[:, :, 40:], red[:, :40] = (
        False,
        False,
        False,
    )  # kerbs are red too, the car is at one place
    car = red.copy()
    for axis, shift in ((1, 1), (1, -1), (2, 1), (2, -1)):
        car |= np.roll(red, shift, axis)
    road = (abs(r - g) < 25) & (abs(g - b) < 25) & ~car
    return {"road": road, "car": car, "rest": ~(road | car)}


@torch.inference_mode()
def errors(paint, obs: np.ndarray) -> dict[str, float]:
    """Squared error a frame, summed over all pixels and over each part's."""
    batches = (to_float(obs[i : i + 100]) for i in range(0, len(obs), 100))
    square = np.concatenate([(paint(x) - x).square().sum(1).numpy() for x in batches])
    found = {name: float((square * mask).sum((1, 2)).mean()) for name, mask in parts(obs).items()}
    return {"all": float(square.sum((1, 2)).mean()), **found}


@torch.inference_mode()
def code(encode, obs: np.ndarray) -> dict:
    """KL of each latent in nats, most used first, and how many carry more than a tenth of a nat."""
    pairs = [encode(to_float(obs[i : i + 100])) for i in range(0, len(obs), 100)]
    kl = (
        torch.cat([kl_to_standard_normal(mu, logvar) for mu, logvar in pairs])
        .mean(0)
        .sort(descending=True)
        .values
    )
    return {
        "kl": kl.sum().item(),
        "kl_per_latent": kl.tolist(),
        "latents_used": int((kl > 0.1).sum()),
    }


def linear_painters(paths) -> dict:
    """Painters that know frames of the run's episodes: their average, and the 32 directions in which they vary most."""
    rng = np.random.default_rng(0)
    each = -(-FIT_FRAMES // len(paths))
    frames = [rng.permutation(load_episode(path).obs)[:each] for path in tqdm(paths, "components")]
    flat = to_float(np.concatenate(frames)).flatten(1)
    center = flat.mean(0)
    directions = torch.pca_lowrank(flat - center, q=COMPONENTS + 16, center=False, niter=4)[2][
        :, :COMPONENTS
    ]

    def paint(x):
        return ((x.flatten(1) - center) @ directions @ directions.T + center).clamp(0, 1).view_as(x)

    return {
        "32 components": paint,
        "average frame": lambda x: center.view(1, *x.shape[1:]).expand_as(x),
    }


def script_vae(paths, seconds: float) -> ScriptVAE:
    """The script's V, trained by its loss and its Adam on the same frames for as long as V was."""
    torch.manual_seed(0)
    vae, started = ScriptVAE(), time.time()
    batches = map(to_float, frame_batches(paths, BATCH, seed=0))
    with tqdm(total=round(seconds), desc="the script's V", unit="s") as bar:
        for _ in plain_loop(vae, script_loss, SCRIPT_LEARNING_RATE, batches):
            if (spent := time.time() - started) > seconds:
                break
            bar.update(round(spent) - bar.n)
    return vae


def main():
    """Print errors and codes of each way, on each driver's frames."""
    paths = open_run(RUN).episode_paths()
    about = read_json(open_run(FOLDER).part("vae") / "meta.json")
    seconds = SECONDS or about["duration_s"]
    vae: VAE = Agent.load(FOLDER).vae
    script = script_vae(paths, seconds)
    encode_script = lambda x: script.encoder(x).chunk(2, dim=1)
    painters = {
        "V": lambda x: vae.decode(vae.encode(x)[0]),
        "V, with noise": lambda x: vae.decode(
            vae.sample(*vae.encode(x), torch.Generator().manual_seed(0))
        ),
        **linear_painters(paths),
        "the script's V": lambda x: script.decoder(encode_script(x)[0]),
    }
    results: dict = {
        "weights_sha256": about["weights_sha256"],
        "training_seconds": seconds,
        "tracks": TRACKS,
        "frames": {},
    }
    for driver, obs in held_out_frames().items():
        print(f"\n{len(obs)} frames of {driver}")
        print(f"{'squared error a frame':22}{'all':>8}{'road':>8}{'car':>8}{'rest':>8}")
        found = {name: errors(paint, obs) for name, paint in painters.items()}
        for name, row in found.items():
            print(f"{name:22}" + "".join(f"{value:8.1f}" for value in row.values()))
        codes = {"V": code(vae.encode, obs), "the script's V": code(encode_script, obs)}
        for name, row in codes.items():
            print(f"{name:22}{row['kl']:6.1f} nats in {row['latents_used']} latents")
        results["frames"][driver] = {"count": len(obs), "squared_error": found, "code": codes}
    return results
