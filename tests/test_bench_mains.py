"""Every main of bench/ and figures/ runs once, at tiny sizes: a call that no longer fits fails here."""

import importlib
import shutil
from dataclasses import replace

import pytest

from bench import recipe
from bench.__main__ import names
from bench.common import FOLDER
from figures import draw
from wmlib import parallel
from wmlib.collect import collect
from wmlib.config import resolve
from wmlib.presets import LAPTOP
from wmlib.run import claim_run
from wmlib.train import encode_episodes

M = replace(LAPTOP.mdnrnn, steps=2, batch_size=2, sequence_length=12)
V = replace(LAPTOP.vae, steps=2, batch_size=2)
FEW = replace(LAPTOP.collect, episodes=3, agent_episodes=1, max_steps=60)
SEARCH = replace(
    LAPTOP.evolve, popsize=4, halving=(1,), tracks=1, generations=1, max_steps=9, first_steps=None,
    growth=None, finish_from=None, decay=1, select_every=1, select_tracks=1,
)  # fmt: skip
SMALL_RUN = replace(LAPTOP, collect=FEW, vae=V, mdnrnn=M, evolve=SEARCH)
ALONE = replace(SMALL_RUN, after=None, collect=replace(FEW, agent_episodes=0))
EPISODES = replace(LAPTOP, preset="episodes", seed=9, after=FOLDER, keeps=("vae",), collect=FEW)
VARIANTS = {name: recipe.VARIANTS[name] for name in ("the whole", recipe.UNTRAINED, "z alone")}
TRACKS = {"TRACKS": [45_000_000, 45_000_001], "LIMIT": 60, "SKIP": 10, "FOLDS": 2}

# What each main is shrunk by: settings, in every module of bench/ it uses that has one of that name.
SMALL: dict[str, dict] = {
    "collect": {"ROUNDS": 1, "SCRIPT_FRAMES": 5, "EPISODES_A_CORE": 1, "LAPTOP": SMALL_RUN},
    "dream": {"ROUNDS": 1, "REAL": 2, "DREAMT": (2, 3), "STEPS": 2, "EPISODE": 4},
    "drivers": {"DRIVERS": 4, "DRIVES": 2, "DREAMS": 2, "AT_ONCE": 4, "RESAMPLES": 9, "LIMIT": 9},
    "env": {"ROUNDS": 2, "STEPS": 3, "EPISODE": 6},
    "evolve": {"ROUNDS": 1, "STEPS": 9, "ORIGIN_STEPS": 4, "LAPTOP": SMALL_RUN},
    "horizon": TRACKS | {"STEPS": (1, 5), "STARTS": 2, "TEMPERATURES": (1.0,), "LONG": (0, 5), "LOOK": 5},
    "mdnrnn": {"ROUNDS": 1, "SIZES": {"tiny": (32, 8)}, "BATCH": (2, 8), "SCRIPT_BATCH": (2, 8)},
    "memory": TRACKS,
    "models": TRACKS | {"SEEDS": (0,), "FEWEST": 0, "V_VARIANTS": {"V": V}, "M_VARIANTS": {"M": M}},
    "outcome": TRACKS | {"WINDOW": 10},
    "pixels": {"TRACKS": 1, "LIMIT": 60},
    "policies": {"DRIVES": 2, "STEPS": 60, "SEEDS": (0,), "QUICK": ALONE},
    "predictions": TRACKS
    | {"SETTINGS": M, "CONFIG": EPISODES, "SEEDS": (0,), "AHEAD": 3, "STARTS": 2, "SAMPLES": 4},
    "recipe": {"SEEDS": (0,), "BASE": SEARCH, "GENERATIONS": 1, "VARIANTS": VARIANTS},
    "reconstruction": TRACKS | {"COMPONENTS": 4, "FIT_FRAMES": 40, "BATCH": 2, "SECONDS": 0.1},
    "store": {"EPISODES": 2, "STEPS": 60, "BATCH": 2, "BATCHES": 2},
    "vae": {"ROUNDS": 1, "STEPS": 1, "EPISODES": 1, "BATCH": 2, "SIDE": 64, "LAPTOP": SMALL_RUN},
}  # fmt: skip
SKIPPED = {
    "agent": "hours: LAPTOP's whole chain in a process of its own, killed in each stage",
    "quick": "minutes: QUICK's whole chain, by the commands that a reader types",
}
BENCHES = set(names())


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Shrinks a bench, in this process alone; what it reads and keeps in runs/ lies elsewhere."""
    run = claim_run(tmp_path / "run", EPISODES)
    monkeypatch.setattr(parallel, "run", lambda function, jobs: (function(*job) for job in jobs))

    def shrink(name):
        names = {name, "common", "rivals", "vae", "reconstruction"}
        modules = [importlib.import_module(f"bench.{one}") for one in names]
        for setting, value in (SMALL[name] | {"RUN": run.folder, "RUNS": tmp_path}).items():
            owners = [module for module in modules if hasattr(module, setting)]
            assert owners or setting in TRACKS or setting in ("RUN", "RUNS"), (
                f"nothing is called {setting} there"
            )
            for module in owners:
                monkeypatch.setattr(module, setting, value)
        if name in ("models", "reconstruction"):
            for _ in (*collect(run), *encode_episodes(run)):
                pass
        return importlib.import_module(f"bench.{name}")

    return shrink


@pytest.mark.parametrize("name", sorted(BENCHES - SKIPPED.keys()))
def test_a_main_runs_and_gives_numbers(name, small):
    assert small(name).main()


def test_every_bench_that_does_not_run_here_says_why():
    assert SMALL.keys() | SKIPPED.keys() == BENCHES and all(map(len, SKIPPED.values()))


def test_figures_are_drawn(tmp_path, monkeypatch):
    for name in ("README.md", "CONTRIBUTING.md"):
        shutil.copy(resolve(name), tmp_path)
        monkeypatch.setattr(draw, name.removesuffix(".md"), tmp_path / name)
    monkeypatch.setattr(draw, "HERE", tmp_path)
    monkeypatch.setattr(draw, "STEPS", 80)
    monkeypatch.setattr(draw, "CLIP", 10)
    draw.main()
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {
        path.name for path in resolve("figures").iterdir() if path.suffix in (".mp4", ".png")
    }
    assert (tmp_path / "README.md").read_text() == resolve("README.md").read_text()
