"""Every bench and every figure, from first line to last, at sizes of a second; and how a result is kept."""

import hashlib
import importlib
import json
import pickle
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

from bench import __main__ as command
from bench import common, rivals
from figures import draw
from tests.tiny import TINY
from tests.toy import REAL as TOY
from wmlib import checkpoint, parallel
from wmlib.agent import new_models
from wmlib.chain import plan
from wmlib.checkpoint import read_json, save_weights, to_half, write_json
from wmlib.cli import run_stage
from wmlib.collect import collect
from wmlib.config import CollectConfig, ControllerConfig, OutcomeConfig, resolve
from wmlib.evaluate import summarise
from wmlib.mdnrnn import outcome_layers
from wmlib.presets import LAPTOP
from wmlib.run import claim_run
from wmlib.train import encode_episodes

AGENT = replace(
    TINY,
    preset="tiny-agent",
    vae=replace(LAPTOP.vae, steps=2, batch_size=4),
    mdnrnn=replace(TINY.mdnrnn, outcome=OutcomeConfig("after", units=4), steps=2, look_ahead=None),
    controller=ControllerConfig(reads="mu h"),
)
SHORT = replace(AGENT.mdnrnn, outcome=None)  # M's training
SEARCH = replace(
    AGENT.evolve, popsize=4, tracks=1, halving=(), generations=2, decay=2, max_steps=8,
    first_steps=4, growth=1, select_tracks=2,
)  # fmt: skip
FEW = {"FOLDS": 2, "SKIP": 3, "TRACKS": common.TRACKS[:2], "FRAME_TRACKS": common.FRAME_TRACKS[:2]}

# What is smaller than in the bench itself, by the bench's name; FEW and a limit of MAX_STEPS are for all.
SIZES: dict[str, dict] = {
    "agent": {"GOAL": -1e9, "MODULE": "tests.toy", "PRESET": "toy", "WAIT": 0.1},
    "collect": {"ROUNDS": 1, "SCRIPT_FRAMES": 5, "EPISODES_A_CORE": 1, "LAPTOP": AGENT},
    "dream": {"ROUNDS": 1, "REAL": 2, "DREAMT": (2, 4), "STEPS": 2},
    "drivers": {"DRIVERS": 4, "EPISODES": 2, "DREAMS": 2, "AT_ONCE": 2, "TEMPERATURES": (1.0,)},
    "env": {"ROUNDS": 2, "STEPS": 5, "EPISODE": 5},
    "evolve": {"ROUNDS": 1, "STEPS": 5, "ORIGIN_STEPS": 2, "LAPTOP": replace(AGENT, evolve=SEARCH)},
    "horizon": {
        "STEPS": (1, 2), "STARTS": 2, "SKIP": 3, "TEMPERATURES": (1.0,), "BRAKE_AT": 3,
        "LONG": (0, 2, 4), "LOOK": 2,
    },
    "mdnrnn": {
        "ROUNDS": 1, "SIZES": {"tiny": (4, 6)}, "BATCH": (2, 5), "SCRIPT_BATCH": (2, 4),
        "STEPS": {"script": 1, "script, its own batch": 1, "plain": 1, "ours": 1},
    },
    "memory": {"LAPTOP": AGENT},
    "models": {
        "LAPTOP": AGENT, "V_VARIANTS": {"LAPTOP": AGENT.vae}, "SEEDS": (0,), "FEWEST": 0,
        "M_VARIANTS": {"LAPTOP": SHORT, "random drives alone": SHORT},
    },
    "outcome": {"WINDOW": 5},
    "pixels": {},
    "policies": {"EPISODES": 2, "STEPS": 40, "SEEDS": (0,), "QUICK": replace(AGENT, mdnrnn=SHORT)},
    "predictions": {"AHEAD": 2, "STARTS": 3, "SAMPLES": 4, "SETTINGS": SHORT},
    "recipe": {
        "BASE": SEARCH, "GENERATIONS": 2, "LAPTOP": replace(AGENT, mdnrnn=SHORT), "SEEDS": (0,),
        "VARIANTS": {"the whole": ({}, {}), "M untrained": ({}, {}), "z alone": ({}, {"reads": "z"})},
    },
    "reconstruction": {"COMPONENTS": 2, "FIT_FRAMES": 40, "BATCH": 2},
    "store": {"EPISODES": 2, "STEPS": 20, "BATCH": 4, "BATCHES": 3, "TRAINED": 2},
    "vae": {"ROUNDS": 1, "STEPS": 1, "EPISODES": 2, "BATCH": 2, "SIDE": 32, "LAPTOP": AGENT},
}  # fmt: skip

SKIPPED = {
    "quick": "it starts five commands one after the other, half a minute; test_cli runs each"
}


def follows(agent, seed):
    """The configuration of a run that goes on from the tiny agent, with a few episodes."""
    few = CollectConfig(episodes=3, max_steps=30, policy="brownian", agent_episodes=2)
    after = str(agent.folder)
    return replace(AGENT, seed=seed, after=after, keeps=("vae",), collect=few)


def here(function, jobs):
    """`parallel.run` in this process, where sizes are small; what is sent arrives as a copy."""
    for job in jobs:
        sent, copied = pickle.loads(pickle.dumps((function, job)))
        yield sent(*copied)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """A run with random weights in it: V's latents are narrow enough to be used."""
    run = claim_run(tmp_path_factory.mktemp("agent") / "run", AGENT)
    torch.manual_seed(0)
    vae, mdnrnn, controller = new_models(AGENT)
    torch.nn.init.constant_(vae.to_logvar.bias, -3)
    parts = {"vae": vae, "mdnrnn": mdnrnn, "outcome": outcome_layers(mdnrnn.hidden_size, 4)}
    for part, module in parts.items():
        save_weights(run.folder / part, to_half(module.state_dict()), {"duration_s": 0.1})
    params = {"params": 0.1 * torch.randn(controller.num_params)}
    save_weights(run.folder / "controller", params, {"generation": AGENT.evolve.generations})
    return run


@pytest.fixture(scope="module")
def collected(agent, tmp_path_factory):
    """A run that goes on from it, with episodes and what V sees of them."""
    folder = tmp_path_factory.mktemp("collected") / "run"
    run = claim_run(folder, follows(agent, seed=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "run", here)
        list(collect(run))
        list(encode_episodes(run))
    return run


@pytest.fixture
def small(monkeypatch, one_thread, agent, collected, tmp_path):
    """Makes a module small: what it takes of the course's agent and runs becomes the tiny ones'."""
    torch.set_num_threads(1)  # another bench may have asked for more
    monkeypatch.setattr(parallel, "run", here)
    folders = {"FOLDER": str(agent.folder), "RUN": collected.folder, "RUNS": tmp_path / "runs"}

    def shrink(module, **sizes):
        for name, value in (FEW | folders | {"MAX_STEPS": 40} | sizes).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
        return module

    shrink(common)
    config = follows(agent, seed=6)
    shrink(rivals, RUN=tmp_path / "rivals", CONFIG=config, SETTINGS=SHORT, SEEDS=(0,))
    return shrink


def prepared(name, agent, tmp_path):
    """What a bench needs besides: sizes that name folders of its own."""
    if name == "pixels":
        hashes = {part: agent.weights_hash(part) for part in ("vae", "mdnrnn")}
        about = {"weights_sha256": hashes, "first_seed": 50_000_000}
        write_json(tmp_path / "car_racing.json", about | {"agent": summarise([1.0, 2.0])})
        return {"RESULTS": str(tmp_path / "car_racing.json")}
    if name == "agent":  # all is done but the last stage
        run = claim_run(tmp_path / "toy", TOY)
        for one, stage in plan(run):
            run_stage(one, stage, "cpu")
        return {"RUN": run.folder}
    return {}


def test_every_bench_is_run_here_or_says_why_not():
    assert {*SIZES, *SKIPPED} == {*command.benches()} and not {*SIZES} & {*SKIPPED}


@pytest.mark.parametrize("name", command.benches())
def test_a_bench_runs_to_its_end_and_returns_what_its_result_holds(
    name, small, agent, tmp_path, capsys
):
    if name in SKIPPED:
        pytest.skip(SKIPPED[name])
    module = importlib.import_module(f"bench.{name}")
    small(module, **SIZES[name], **prepared(name, agent, tmp_path))
    found = json.loads(json.dumps(module.main(), allow_nan=False))
    assert capsys.readouterr().out.strip()
    kept = read_json(resolve(f"data/results/bench_{name}.json"))
    about = {*command.describe(name, tmp_path)}
    assert {*found} == {*kept} - about - {"note"}  # which is written by hand


def test_all_figures_are_drawn(small, tmp_path):
    pages = ("README.md", "CONTRIBUTING.md")
    readme, contributing = (shutil.copy(resolve(page), tmp_path / page) for page in pages)
    small(draw, HERE=tmp_path, README=readme, CONTRIBUTING=contributing, STEPS=24, START=3, CLIP=8)
    draw.main()
    drawn = {path.name for path in tmp_path.iterdir()} - {*pages}
    assert drawn == {path.name for path in resolve("figures").glob("*.*")} - {"draw.py"}
    assert readme.read_text() == resolve("README.md").read_text()


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a little code in it, committed; and `git`, to go on with."""
    for name in ("wmlib/one.py", "bench/two.py", "README.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{name}\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]

    def git(*args):
        told = subprocess.run(
            ["git", "-C", tmp_path, *who, *args], capture_output=True, text=True, check=True
        )
        return told.stdout.strip()

    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        git(*args)
    return git


def saved(root, small):
    """Measures a little and keeps it: the exit status, and the result if there is one."""
    small(importlib.import_module("bench.env"), **SIZES["env"])
    status = command.main(["env", "--save"], root)
    path = root / "data" / "results" / "bench_env.json"
    return status, read_json(path) if path.exists() else None


def test_a_result_is_kept_with_the_code_that_made_it(checkout, small, tmp_path):
    (tmp_path / "README.md").write_text("no code\n")
    status, result = saved(tmp_path, small)
    assert status == 0 and result["commit"] == checkout("rev-parse", "HEAD")
    assert result["code_sha256"] == checkpoint.code_hash(tmp_path) and result["rounds"] == 2
    assert result["command"] == "python -m bench env"


@pytest.mark.parametrize("name", ["wmlib/one.py", "bench/two.py", "bench/new.py"])
def test_no_result_is_kept_of_code_that_is_in_no_commit(name, checkout, small, tmp_path, capsys):
    (tmp_path / name).write_text("changed\n")
    status, result = saved(tmp_path, small)
    assert status == 2 and result is None
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1  # refused before anything is measured
    assert name in told.err and "commit first" in told.err
    checkout("add", ".")
    checkout("commit", "-qm", "changed")
    assert saved(tmp_path, small)[0] == 0


def test_the_codes_hash_is_of_names_and_contents_in_order(tmp_path):
    for name in ("bench/b.py", "wmlib/a.py", "wmlib/inner/c.py", "wmlib/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = checkpoint.code_hash(tmp_path)
    lines = [
        f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n"
        for name in ("bench/b.py", "wmlib/a.py", "wmlib/inner/c.py")
    ]
    assert found == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "wmlib" / "notes.txt").write_text("of no account")
    assert checkpoint.code_hash(tmp_path) == found
    (tmp_path / "wmlib" / "a.py").rename(tmp_path / "wmlib" / "d.py")
    assert checkpoint.code_hash(tmp_path) != found
