"""What matters in the search for C: a short search with one thing changed, on the shipped V and M, two seeds each.

Every variant may drive as many steps as BASE asks for; then its mean is scored on the selection's tracks. Stopped, the
bench goes on where it was: its evolutions lie in runs/recipe.
"""

import shutil
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from wmlib import parallel
from wmlib.agent import new_models
from wmlib.checkpoint import read_lines, save_weights, to_half, write_json
from wmlib.config import LAPTOP, Config, ControllerConfig, EvolveConfig, resolve, to_dict
from wmlib.evolve import evolve, horizon, input_hashes

FOLDER, RUNS = resolve("data/pretrained/car_racing"), resolve("runs/recipe")
SEEDS = (0, 1)
GENERATIONS = 20
BASE = replace(
    LAPTOP.evolve,
    popsize=32,
    halving=(2, 4),
    generations=GENERATIONS,
    finish_from=None,
    decay=GENERATIONS,
    growth=10,
)
UNTRAINED = "M untrained"
DRAWS = 0.10  # a step size for C that reads draws: z is three times as long a vector as mu

# What is changed: of the evolution, of the controller.
VARIANTS: dict[str, tuple[dict, dict]] = {
    "the whole": ({}, {}),
    "z alone": ({"sigma0": DRAWS}, {"reads": "z"}),
    "mu alone": ({}, {"reads": "mu"}),
    "h alone": ({}, {"reads": "h"}),
    UNTRAINED: ({}, {}),
    "a draw instead of mu": ({"sigma0": DRAWS}, {"reads": "z h"}),
    "z alone, 40 tanh units": ({"sigma0": DRAWS}, {"reads": "z", "hidden_size": 40}),
    "no racing": ({"tracks": 4, "halving": ()}, {}),
    "1,000 steps from the start": ({"first_steps": None, "growth": None}, {}),
    "CMA-ES's own step size": ({"sigma_end": None, "decay": None}, {}),
    "twice the population": ({"popsize": 2 * BASE.popsize}, {}),
    "half the step size": ({"sigma0": BASE.sigma0 / 2, "sigma_end": BASE.sigma_end / 2}, {}),
}


def drives(settings: EvolveConfig) -> int:
    """The episodes of one generation: all candidates on `tracks`, the better half on halving's first, and so on."""
    racing = accumulate(
        settings.halving, lambda number, _: (number + 1) // 2, initial=settings.popsize
    )
    return sum(
        number * tracks for number, tracks in zip(racing, [settings.tracks, *settings.halving])
    )


def steps(settings: EvolveConfig, generations: int) -> int:
    """The most steps that so many generations may drive."""
    return drives(settings) * sum(
        horizon(settings, generation) for generation in range(generations)
    )


def variant(name: str, seed: int) -> Config:
    """A variant's configuration, with as many generations as the common budget of steps allows."""
    changes, reads = VARIANTS[name]
    settings, budget = replace(BASE, **changes), steps(BASE, GENERATIONS)
    generations = max(number for number in range(1, 200) if steps(settings, number) <= budget)
    settings = replace(settings, generations=generations, select_every=generations)
    controller = ControllerConfig(**({"reads": "mu h"} | reads))
    return replace(LAPTOP, seed=seed, evolve=settings, controller=controller)


def prepare(name: str, config: Config) -> Path:
    """The variant's run, with V and M in it."""
    folder = RUNS / f"{name} {config.seed}"
    if not (folder / "config.json").exists():
        for part in ("vae", "mdnrnn"):
            shutil.copytree(FOLDER / part, folder / part, dirs_exist_ok=True)
        if name == UNTRAINED:
            torch.manual_seed(config.seed)
            save_weights(folder / "mdnrnn", to_half(new_models(config)[1].state_dict()), {})
        write_json(folder / "config.json", to_dict(config))
    return folder


def main() -> dict:
    """Print a line for each variant and seed."""
    results: dict[str, dict] = {}
    for seed in SEEDS:
        for name in VARIANTS:
            config = variant(name, seed)
            folder = prepare(name, config)
            for _ in evolve(config, folder):
                pass
            rows = read_lines(folder / "controller" / "generations.jsonl")
            found = np.array(rows[-1]["selection"])
            row = {"seed": seed, "generations": len(rows), "mean": found.mean(), "std": found.std()}
            results.setdefault(name, {"changes": VARIANTS[name], "runs": []})["runs"].append(row)
            print(
                f"{name:28} seed {seed}: {row['mean']:6.1f} ± {row['std']:5.1f}, {len(rows)} generations",
                flush=True,
            )
    parallel.stop()
    about = {"steps": steps(BASE, GENERATIONS), "tracks_scored_on": BASE.select_tracks}
    return about | {"weights_sha256": input_hashes(FOLDER), "variants": results}
