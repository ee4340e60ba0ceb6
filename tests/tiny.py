"""`python -m tests.tiny STAGE` is `python -m wmlib STAGE` with a preset small enough for tests."""

import signal
import sys
from dataclasses import replace

from wmlib import config, presets, train
from wmlib.cli import main

TINY = config.Config(
    preset="tiny",
    seed=3,
    task="car_racing",
    collect=config.CollectConfig(episodes=6, max_steps=40, policy="brownian"),
    vae=config.VAEConfig(z_size=4, kl_tolerance=0.5, batch_size=4, learning_rate=1e-3, steps=24),
    mdnrnn=config.MDNRNNConfig(
        hidden_size=16, num_mixtures=3, batch_size=4, sequence_length=12, learning_rate=1e-3,
        gradient_clip=1.0, steps=240, look_ahead=4,
    ),
    evolve=config.EvolveConfig(
        popsize=9, tracks=2, generations=4, sigma0=0.1, sigma_end=0.05, decay=3, max_steps=25,
        select_every=2, select_tracks=3, patience=15,
    ),
    evaluate=config.EvaluateConfig(episodes=2),
)  # fmt: skip

presets.PRESETS["tiny"] = TINY
presets.PRESETS["tiny-v-only"] = replace(
    TINY, preset="tiny-v-only", mdnrnn=None, controller=config.ControllerConfig(reads="z")
)
train.SAVE_EVERY = 5


def contents(folder):
    """What a run has made, byte for byte, by path: all but what tells times and commands."""
    kept = ("*.npz", "*.safetensors", "*.jsonl")
    files = [path for pattern in kept for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests run in the background inherit that it is ignored
    sys.exit(main())
