"""Runs without their work, for tests: what a stage makes is put in its place."""

from dataclasses import replace
from itertools import count

import pytest
import torch

from tests.tiny import TINY
from wmlib.chain import plan
from wmlib.checkpoint import save_weights
from wmlib.config import DreamConfig, OutcomeConfig
from wmlib.run import claim_run

ALL = ("episodes", "vae", "mdnrnn")
NUMBER = count()  # no two weights are the same
AFTER = OutcomeConfig(trained="after")


def collecting(episodes, agent_episodes=0):
    return replace(TINY.collect, episodes=episodes, agent_episodes=agent_episodes)


def dreaming(config, dreamers=0, outcome=AFTER):
    evolve = replace(config.evolve, world="dream", dream=DreamConfig(dreamers=dreamers))
    return replace(config, mdnrnn=replace(config.mdnrnn, outcome=outcome), evolve=evolve)


def begin(folder, config=TINY, **changes):
    return claim_run(folder, replace(config, **changes))


def follow(base, folder, keeps=(), config=TINY, seed=4, **changes):
    """A run that goes on from another."""
    return begin(folder, config, after=str(base.folder), keeps=keeps, seed=seed, **changes)


def keep(run, part):
    """Some weights, as if a part had been trained to its end."""
    meta = {"generation": run.config.evolve.generations} if part == "controller" else {}
    save_weights(run.folder / part, {"weights": torch.tensor(float(next(NUMBER)))}, meta)


def do(run, stage):
    """Put what a stage makes in its place."""
    if stage == "collect":
        for index in range(run.config.collect.total):
            path = run.episodes.path(run.first_episode + index)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return
    made = {"train-vae": ["vae"], "train-mdnrnn": run.memories + run.outcomes}
    for part in made.get(stage, ["controller"]):
        if run.owner(part) == run:
            keep(run, part)


def finish(run):
    for one, stage in plan(run):
        do(one, stage)
    return run


def complaint(kind, function, *args):
    """What a refusal says, which is one line."""
    with pytest.raises(kind) as refused:
        function(*args)
    assert "\n" not in str(refused.value)
    return str(refused.value)
