"""What matters in the search for C: a short search with one thing changed, on the shipped V and M, two seeds each.

Every variant may drive as many steps as BASE asks for; then its mean is scored on the selection's tracks. Stopped, the
bench goes on where it was: its evolutions lie in runs/recipe.
"""

from dataclasses import replace

import numpy as np
import torch

from bench.common import FOLDER, steps_in_generations, weights_hashes
from wmlib import parallel
from wmlib.agent import new_models
from wmlib.checkpoint import read_lines, save_weights, to_half
from wmlib.config import Config, ControllerConfig, resolve
from wmlib.evolve import evolve
from wmlib.presets import LAPTOP
from wmlib.run import Run, claim_run

RUNS = resolve("runs/recipe")
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
NOTHING = replace(LAPTOP.collect, episodes=0, agent_episodes=0)
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


def variant(name: str, seed: int) -> Config:
    """A variant's configuration, with as many generations as the common budget of steps allows."""
    changes, reads = VARIANTS[name]
    settings, budget = replace(BASE, **changes), steps_in_generations(BASE, GENERATIONS)
    generations = max(
        number for number in range(1, 200) if steps_in_generations(settings, number) <= budget
    )
    settings = replace(settings, generations=generations, select_every=generations)
    controller = ControllerConfig(**({"reads": "mu h"} | reads))
    return replace(
        LAPTOP,
        preset=name,
        seed=seed,
        after=FOLDER,
        keeps=("episodes", "vae") if name == UNTRAINED else ("vae", "mdnrnn"),
        mdnrnn=replace(LAPTOP.mdnrnn, outcome=None),
        collect=NOTHING,
        controller=controller,
        evolve=settings,
    )


def prepare(config: Config) -> Run:
    """The variant's run: on the shipped V and M, or on an M with random weights."""
    run = claim_run(RUNS / f"{config.preset} {config.seed}", config)
    if config.preset == UNTRAINED and not run.has("mdnrnn"):
        torch.manual_seed(config.seed)
        untrained = to_half(new_models(config)[1].state_dict())
        save_weights(run.part("mdnrnn"), untrained, {"vae_sha256": run.weights_hash("vae")})
    return run


def main() -> dict:
    """Print a line for each variant and seed."""
    results: dict[str, dict] = {}
    for seed in SEEDS:
        for name in VARIANTS:
            run = prepare(variant(name, seed))
            for _ in evolve(run):
                pass
            rows = read_lines(run.part("controller") / "generations.jsonl")
            found = np.array(rows[-1]["selection"])
            row = {"seed": seed, "generations": len(rows), "mean": found.mean(), "std": found.std()}
            results.setdefault(name, {"changes": VARIANTS[name], "runs": []})["runs"].append(row)
            print(
                f"{name:28} seed {seed}: {row['mean']:6.1f} ± {row['std']:5.1f}, {len(rows)} generations",
                flush=True,
            )
    parallel.stop()
    about = {
        "steps": steps_in_generations(BASE, GENERATIONS),
        "tracks_scored_on": BASE.select_tracks,
    }
    return about | {"weights_sha256": weights_hashes("vae", "mdnrnn"), "variants": results}
