"""Each stage, killed with -9 in the middle and continued, leaves the very files of an uninterrupted run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import TINY, contents
from wmlib import checkpoint, cli, evolve, fast, policies, scoring, train
from wmlib.agent import Agent
from wmlib.config import (
    COLLECT_SEEDS,
    EVALUATE_SEEDS,
    EVOLVE_SEEDS,
    RANDOM_POLICIES,
    ROOT,
    SELECT_SEEDS,
    track_seeds,
)
from wmlib.config_json import to_dict
from wmlib.data import EpisodeStore, Sequences, load_episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import MDNRNN
from wmlib.rollout import returns
from wmlib.run import claim_run, open_run

STAGES = {
    "collect": "episodes/*.npz",
    "train-vae": "vae/history.jsonl",
    "train-mdnrnn": "mdnrnn/history.jsonl",
    "evolve": "controller/generations.jsonl",
}


def start(stage: str, folder: Path) -> subprocess.Popen:
    """A stage in a process of its own, with one thread so that every machine agrees with itself."""
    command = [
        sys.executable,
        "-m",
        "tests.tiny",
        stage,
        "--preset",
        "tiny",
        "--run",
        str(folder),
        "--device",
        "cpu",
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(stage: str, folder: Path) -> None:
    """A stage to its end, in this process, whose workers go on from one to the next."""
    cli.run_stage(claim_run(folder, TINY), stage, "cpu")


def progress(stage: str, folder: Path) -> int:
    """How much a stage has put on disk: files or lines."""
    found = list(folder.glob(STAGES[stage]))
    return (
        len(found) if stage == "collect" else sum(path.read_bytes().count(b"\n") for path in found)
    )


@pytest.fixture(scope="module", autouse=True)
def alone(one_thread):
    """As in the processes that are killed."""


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> dict[str, Path]:
    """An uninterrupted run, and a copy of it as it stood before each stage."""
    folder, before = tmp_path_factory.mktemp("whole") / "run", {}
    for stage in STAGES:
        before[stage] = folder.with_name(f"before_{stage}")
        shutil.copytree(folder, before[stage]) if folder.exists() else before[stage].mkdir()
        finish(stage, folder)
    return before | {"whole": folder}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_in_the_middle_continues_to_the_same_files(stage, whole_run):
    folder = whole_run[stage]
    total = progress(stage, whole_run["whole"])
    process = start(stage, folder)
    while process.poll() is None and progress(stage, folder) < max(1, total // 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < progress(stage, folder) < total, "the kill came too late to test anything"
    finish(stage, folder)
    continued, whole = contents(folder), contents(whole_run["whole"])
    assert [name for name in continued if continued[name] != whole[name]] == []
    assert not list(folder.rglob("*.tmp"))


def test_encoding_killed_in_the_middle_continues_to_the_same_files(whole_run, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    shutil.copytree(
        whole_run["whole"], whole, ignore=shutil.ignore_patterns("latents", "mdnrnn", "controller")
    )
    for index in range(6, 40):
        shutil.copy(
            EpisodeStore(whole / "episodes").path(index % 6),
            EpisodeStore(whole / "episodes").path(index),
        )
    shutil.copytree(whole, folder)
    finish("train-mdnrnn", whole)
    process = start("train-mdnrnn", folder)
    while process.poll() is None and len(list(folder.glob("latents/0*.npz"))) < 10:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(list(folder.glob("latents/0*.npz"))) < 40, (
        "the kill came too late to test anything"
    )
    finish("train-mdnrnn", folder)
    assert contents(folder) == contents(whole) and len(list(folder.glob("latents/0*.npz"))) == 40


def test_a_finished_stage_does_nothing(whole_run):
    folder = whole_run["whole"]
    before = contents(folder)
    for stage in STAGES:
        finish(stage, folder)
    assert contents(folder) == before


def test_ctrl_c_is_one_line_and_the_same_command_continues(whole_run):
    folder = whole_run["whole"].with_name("interrupted")
    shutil.copytree(whole_run["whole"], folder)
    shutil.rmtree(folder / "mdnrnn")
    process = start("train-mdnrnn", folder)
    while process.poll() is None and progress("train-mdnrnn", folder) < 8:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "wmlib: stopped; the same command continues"
    assert "Traceback" not in errors
    finish("train-mdnrnn", folder)
    assert contents(folder / "mdnrnn") == contents(whole_run["whole"] / "mdnrnn")


def test_weights_ship_in_half_precision_with_the_run_that_made_them(whole_run):
    for part in ("vae", "mdnrnn"):
        folder = whole_run["whole"] / part
        meta = json.loads((folder / "meta.json").read_text())
        assert meta["config"] == to_dict(TINY)
        assert meta["weights_sha256"] == checkpoint.file_hash(folder / "weights.safetensors")
        tensors = checkpoint.load_weights(folder)
        assert all(torch.equal(tensor, tensor.half().float()) for tensor in tensors.values())


def test_stored_actions_replayed_on_the_official_environment_earn_the_stored_rewards(whole_run):
    episode = load_episode(EpisodeStore(whole_run["whole"] / "episodes").paths()[0])
    env = CAR_RACING.make_official()
    env.reset(seed=episode.seed)
    assert [env.step(action)[1] for action in episode.action] == pytest.approx(
        episode.reward.tolist(), abs=1e-5
    )


def test_the_log_replays_to_the_saved_mean(whole_run):
    folder = whole_run["whole"] / "controller"
    rows = checkpoint.read_lines(folder / "generations.jsonl")
    best = max(
        (row for row in rows if "selection" in row), key=lambda row: np.mean(row["selection"])
    )
    search = evolve.replay(open_run(whole_run["whole"]), best["generation"] + 1)
    assert torch.equal(
        torch.from_numpy(search.mean).float(), checkpoint.load_weights(folder)["params"]
    )
    assert evolve.replay(open_run(whole_run["whole"]), 2).generation == 2


def test_the_duration_of_a_stopped_evolution_goes_on(whole_run):
    folder = whole_run["whole"].with_name("stopped")
    shutil.copytree(whole_run["whole"], folder)
    checkpoint.keep_lines(folder / "controller" / "generations.jsonl", TINY.evolve.generations - 1)
    meta = folder / "controller" / "meta.json"
    checkpoint.write_json(meta, checkpoint.read_json(meta) | {"duration_s": 5000})
    list(evolve.evolve(open_run(folder)))
    assert checkpoint.read_json(meta)["duration_s"] > 5000


def test_an_edited_log_is_refused(whole_run):
    folder = whole_run["whole"].with_name("edited")
    shutil.copytree(whole_run["whole"], folder)
    log = folder / "controller" / "generations.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[1]["fitness"] = [-value for value in rows[1]["fitness"]]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="can't be replayed from generation 1"):
        evolve.replay(open_run(folder))


def test_a_controller_evolved_on_another_m_is_refused(whole_run):
    folder = shutil.copytree(whole_run["whole"], whole_run["whole"].with_name("other_m"))
    change_m(folder)
    with pytest.raises(ValueError, match="evolved on another V or M"):
        next(evolve.evolve(open_run(folder)))


def test_an_m_that_changes_under_a_running_search_stops_it(whole_run, tmp_path):
    folder = shutil.copytree(whole_run["whole"], tmp_path / "run")
    checkpoint.keep_lines(folder / "controller" / "generations.jsonl", 2)
    search = evolve.evolve(open_run(folder))
    assert next(search)[0] == 3
    change_m(folder)
    with pytest.raises(ValueError, match="evolved on another V or M"):
        next(search)
    assert len(checkpoint.read_lines(folder / "controller" / "generations.jsonl")) == 3


def change_m(folder):
    tensors = checkpoint.load_weights(folder / "mdnrnn")
    tensors["to_mixture.bias"] += 1
    checkpoint.save_weights(
        folder / "mdnrnn", tensors, checkpoint.read_json(folder / "mdnrnn" / "meta.json")
    )


def test_fitness_is_the_return_of_each_candidate_alone(whole_run):
    folder, seeds = whole_run["whole"], [EVOLVE_SEEDS.start, EVOLVE_SEEDS.start + 1]
    candidates = evolve.Search(TINY.evolve, 63, seed=0).ask()[:3].astype("float32")
    settings = replace(TINY.evolve, max_steps=12, patience=None)
    together = scoring.score_block(open_run(folder), settings, candidates, seeds, (1,))
    assert together.shape == (3, 2)
    growing = replace(settings, first_steps=6, growth=2)  # of a search whose horizon grows
    again = scoring.score_block(open_run(folder), growing, candidates, seeds, (1,))
    assert np.array_equal(together, again)
    agent = Agent.load(folder)
    agent.vae.sample = lambda mu, logvar, generator: (
        mu
    )  # noise belongs to the block, so compare without it
    agent.params = torch.from_numpy(candidates[1:2])
    alone, _ = returns(VectorEnv(CAR_RACING.make, 2, 12), agent, seeds)
    assert together[1] == pytest.approx(alone, abs=5)


def test_a_stalled_episode_is_charged_for_the_steps_it_did_not_take(whole_run):
    standing = torch.zeros(1, 63).numpy()
    standing[0, -2:] = (-9, 9)  # no gas, full brake
    settings = replace(TINY.evolve, max_steps=1000, patience=20)
    scores = scoring.score_block(
        open_run(whole_run["whole"]), settings, standing, [EVOLVE_SEEDS.start], (1,)
    )
    tiles = scores[0, 0] + 0.1 * 1000  # what the first tiles paid
    assert 0 <= tiles < 30


def test_search_climbs_a_smooth_hill_and_its_step_size_follows_the_schedule():
    config = TINY.evolve
    search = evolve.Search(config, 10, seed=0)
    scores = []
    for _ in range(config.generations):
        candidates = search.ask()
        scores.append(-((candidates - 0.3) ** 2).sum(axis=1).mean())
        search.tell(candidates, -((candidates - 0.3) ** 2).sum(axis=1))
    assert scores[-1] > scores[0]
    assert search.strategy.sigma == pytest.approx(config.sigma_end)


def test_searches_with_the_same_seed_agree_and_numpys_global_generator_is_left_alone():
    np.random.seed(5)
    one, other = evolve.Search(TINY.evolve, 8, seed=1), evolve.Search(TINY.evolve, 8, seed=1)
    assert (one.ask() == other.ask()).all()
    drawn = np.random.random()
    np.random.seed(5)
    assert drawn == np.random.random()


def test_no_two_stages_share_a_track():
    ranges = [COLLECT_SEEDS, EVOLVE_SEEDS, SELECT_SEEDS, EVALUATE_SEEDS]
    assert all(a.stop <= b.start for a, b in zip(ranges, ranges[1:]))
    assert all(seed in SELECT_SEEDS for seed in track_seeds(SELECT_SEEDS, (0, 1), 100))


@pytest.mark.parametrize("policy", RANDOM_POLICIES)
def test_random_policies_stay_inside_the_action_space(policy):
    config = replace(TINY, collect=replace(TINY.collect, policy=policy))
    driver, frames = (
        policies.random_policy(config, 3),
        np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8),
    )
    state, actions = driver.initial_state(2, seed=0), []
    for _ in range(200):
        action, state = driver.act(frames, state)
        actions.append(action)
    assert all(CAR_RACING.action_space.contains(row) for action in actions for row in action)


def test_brownian_actions_are_correlated_and_uniform_ones_are_not():
    def correlation(policy):
        state, steer = policy.initial_state(1, seed=0), []
        for _ in range(2000):
            action, state = policy.act(None, state)
            steer.append(action[0, 0])
        steer = torch.tensor(steer)
        return torch.corrcoef(torch.stack([steer[:-1], steer[1:]]))[0, 1]

    assert correlation(policies.BrownianPolicy(CAR_RACING)) > 0.8
    assert abs(correlation(policies.UniformPolicy(CAR_RACING))) < 0.1


def test_random_networks_differ_from_seed_to_seed_and_repeat_for_the_same_one():
    params = [policies.random_network(seed).params for seed in (0, 0, 1)]
    assert torch.equal(params[0], params[1]) and not torch.equal(params[0], params[2])


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_drive(seed):
    driver, obs = (
        policies.random_network(seed),
        torch.full((1, 64, 64, 3), 100, dtype=torch.uint8).numpy(),
    )
    state = driver.initial_state(1, seed)
    for _ in range(3):
        action, state = driver.act(obs, state)
        assert CAR_RACING.action_space.contains(action[0])


def test_training_stops_at_the_first_loss_that_is_not_finite():
    from wmlib.vae import VAE

    vae = VAE(4)
    torch.nn.init.constant_(vae.to_mu.bias, float("nan"))
    frames = iter([torch.zeros(2, 64, 64, 3, dtype=torch.uint8).numpy()] * 2)
    with pytest.raises(FloatingPointError, match="step 1"):
        next(train.train_vae(TINY.vae, vae, frames))


@pytest.mark.parametrize("end, expected", [(None, [1e-3] * 4), (2e-4, [1e-3, 8e-4, 6e-4, 4e-4])])
def test_the_learning_rate_falls_evenly_towards_its_end_or_stays(end, expected):
    settings = replace(TINY.mdnrnn, steps=4, learning_rate_end=end)
    mdnrnn, rates = MDNRNN(4, 3, 8, 2), []
    optimizer = torch.optim.Adam(
        [p for p in mdnrnn.parameters() if p.requires_grad], settings.learning_rate
    )
    z, mask = torch.randn(2, 6, 4).numpy(), torch.ones(2, 5, dtype=torch.bool).numpy()
    batch = Sequences(z, z[:, 1:, :3], z[:, 1:, 0], ~mask, mask)
    for _ in train.train_mdnrnn(settings, mdnrnn, iter([batch] * 4), optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "found, expected",
    [
        ({}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
    ],
)
def test_v_trains_in_bf16_only_where_that_is_faster(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert fast.has_bf16(torch.device("cpu")) is expected
