"""A task by its name: a second one, with one action and another z size, runs through all stages in both worlds."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import toy
from tests.tiny import TINY
from wmlib import cli, evolve, scoring, train
from wmlib.agent import Agent, load_world_model, new_models
from wmlib.checkpoint import keep_lines, load_weights, read_json, read_lines, save_weights
from wmlib.config import ROOT, ControllerConfig
from wmlib.data import EncodedEpisode, load_episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.task import TASKS, get_task
from wmlib.envs.vector import VectorEnv
from wmlib.fast import has_bf16
from wmlib.plots import Picture
from wmlib.policies import BrownianPolicy, random_network
from wmlib.presets import PRESETS
from wmlib.rollout import record, returns
from wmlib.run import Run, open_run
from wmlib.widgets import DreamPlayer, Player
from wmlib.world import draw_starts, open_world


@pytest.fixture(scope="module", params=["toy", "toy-dream"])
def run(request, tmp_path_factory):
    """A whole run of the toy, evolved in the real game or in the dream."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    command = [
        sys.executable,
        "-m",
        "tests.toy",
        "agent",
        "--preset",
        request.param,
        "--run",
        str(folder),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return open_run(folder)


def copy_of(run, folder, config=None):
    """A run of its own with the same files, as if it had been configured otherwise."""
    return Run(shutil.copytree(run.folder, folder), config or run.config)


def begin(agent, run):
    """Dreams of an agent at the starts of a run's episodes."""
    return draw_starts(agent, [], run.latent_paths(), 100, moments=False, seed=run.config.seed)


def test_a_second_task_goes_through_all_stages_in_both_worlds(run):
    agent = Agent.load(run.folder)
    assert (agent.task.name, agent.vae.z_size, agent.params.shape) == ("toy", 3, (1, 3 + 16 + 1))
    assert {
        row["generation"] for row in read_lines(run.part("controller") / "generations.jsonl")
    } == {0, 1, 2, 3}
    result = read_json(run.folder / "evaluate.json")
    assert len(result["agent"]["returns"]) == len(result["random_policy"]["returns"]) == 2
    assert result["agent"]["mean"] > 0


def test_m_learned_from_the_rewards_and_ends_that_the_game_gave(run):
    for path, encoded in zip(run.episode_paths(), run.latent_paths(), strict=True):
        one, other = load_episode(path), load_episode(encoded, EncodedEpisode)
        assert np.array_equal(one.reward, other.reward) and one.terminated == other.terminated
    assert any(load_episode(path).terminated for path in run.episode_paths())
    last = read_lines(run.part("mdnrnn") / "history.jsonl")[-1]
    assert last["loss"] == pytest.approx(
        sum(last[part] for part in ("nll", "ahead", "reward", "terminated"))
    )


def test_candidates_of_one_generation_dream_the_same_dreams(run, tmp_path):
    run = copy_of(run, tmp_path / "run", toy.DREAM)
    settings = replace(toy.DREAM.evolve, max_steps=12)
    params = np.repeat(load_weights(run.part("controller"))["params"].numpy()[None], 3, axis=0)
    scores = scoring.score_block(run, settings, params, [11, 12], (1,))
    assert scores.shape == (3, 2)
    np.testing.assert_allclose(scores, scores[:1].repeat(3, axis=0), rtol=1e-5)
    assert not np.allclose(scores[:, 0], scores[:, 1])


def test_the_fitness_of_a_dream_is_what_the_dream_paid(run, tmp_path):
    run = copy_of(run, tmp_path / "run", toy.DREAM)
    settings = replace(toy.DREAM.evolve, max_steps=12)
    params = load_weights(run.part("controller"))["params"][None]
    agent = load_world_model(run)
    agent.params = params
    first_z = begin(agent, run).z
    heat = toy.DREAM.evolve.dream.temperature
    env = DreamEnv(
        agent.vae, agent.mdnrnn, first_z, 2, task=agent.task, temperature=heat, max_steps=12
    )
    alone, _ = returns(env, DreamPolicy(agent, env), [11, 12])
    assert scoring.score_block(run, settings, params.numpy(), [11, 12], (1,))[0] == pytest.approx(
        alone, rel=1e-5
    )


def test_the_fitness_of_a_real_drive_is_what_the_game_paid_however_long_the_drive(run):
    agent = load_world_model(run)
    agent.params = load_weights(run.part("controller"))["params"][None]
    if has_bf16(torch.device("cpu")):
        agent.vae.bfloat16()
    noise, lengths = int(np.random.SeedSequence([1]).generate_state(1)[0]), []
    for steps in (5, 40):  # a worker keeps its world from one horizon to the next
        settings = replace(toy.REAL.evolve, max_steps=steps, patience=None)
        alone, driven = returns(VectorEnv(toy.Bar, 2, steps), agent, [11, 12], noise)
        found = scoring.score_block(run, settings, agent.params.numpy(), [11, 12], (1,))[0]
        assert found == pytest.approx(alone, rel=1e-6)
        lengths.append(driven.max())
    assert 1 < lengths[0] < lengths[1]


def test_the_world_is_opened_by_its_name(run):
    agent = load_world_model(run)
    real, driver = open_world(agent, toy.REAL.evolve, 3)
    dream, dreamer = open_world(agent, toy.DREAM.evolve, 3, begin(agent, run))
    assert (
        isinstance(real.envs[0], toy.Bar)
        and driver is agent
        and real.max_steps == TINY.evolve.max_steps
    )
    assert isinstance(dream, DreamEnv) and dreamer.env is dream and dream.temperature == 1.15
    with pytest.raises(ValueError, match="a dream needs an agent with an M and places to begin"):
        open_world(agent, toy.DREAM.evolve, 3)


def test_a_stopped_dream_evolution_goes_on_as_if_it_had_not_stopped(run, tmp_path):
    run = copy_of(run, tmp_path / "run", toy.DREAM)
    shutil.rmtree(run.folder / "controller")
    whole = [row for _, row in evolve.evolve(run)]
    log = run.part("controller") / "generations.jsonl"
    content = log.read_bytes()
    keep_lines(log, 2)
    assert [row for _, row in evolve.evolve(run)] == whole[2:] and log.read_bytes() == content
    keep_lines(log, 2)
    tensors, about = load_weights(run.part("starts")), read_json(run.part("starts") / "meta.json")
    save_weights(run.part("starts"), tensors | {"z": tensors["z"] + 1}, about)
    with pytest.raises(ValueError, match="its dreams began elsewhere"):
        next(evolve.evolve(run))


def test_latents_that_are_gone_come_back_when_m_is_finished(run, tmp_path):
    run = copy_of(run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.latents.paths()}
    shutil.rmtree(run.folder / "latents")
    list(train.mdnrnn_stage(run))
    assert {path.name: path.read_bytes() for path in run.latents.paths()} == before


def test_a_memory_of_another_v_is_refused_by_every_stage_that_follows(run, tmp_path):
    run = copy_of(run, tmp_path / "run")
    change_v(run)
    shutil.rmtree(run.folder / "controller")
    for stage in (train.mdnrnn_stage(run), evolve.evolve(run)):
        with pytest.raises(ValueError, match="belongs to another V.*train-mdnrnn .* again"):
            next(stage)
    with pytest.raises(ValueError, match="belongs to another V"):
        Agent.load(run.folder)


def change_v(run):
    tensors = {name: tensor + 1 for name, tensor in load_weights(run.part("vae")).items()}
    save_weights(run.part("vae"), tensors, {})


def test_a_half_trained_memory_does_not_go_on_with_another_vs_codes(run, tmp_path):
    run = copy_of(run, tmp_path / "run")
    shutil.rmtree(run.folder / "mdnrnn")
    for step, _ in train.mdnrnn_stage(run):
        if step >= 110:
            break
    change_v(run)
    shutil.rmtree(run.folder / "latents")
    with pytest.raises(ValueError, match="trained on other data"):
        list(train.mdnrnn_stage(run))


def test_the_dream_of_another_v_is_refused(run, tmp_path):
    run = copy_of(run, tmp_path / "run", toy.DREAM)
    shutil.rmtree(run.folder / "starts", ignore_errors=True)
    meta = run.folder / "latents" / "meta.json"
    meta.write_text(json.dumps(read_json(meta) | {"vae_sha256": "of another"}))
    with pytest.raises(ValueError, match="another V"):
        next(evolve.evolve(run))


def test_an_unknown_task_names_those_there_are():
    with pytest.raises(ValueError, match="no task 'chess'; choose one of car_racing"):
        get_task("chess")
    with pytest.raises(ValueError, match="no task 'chess'"):
        new_models(replace(TINY, task="chess"))


def test_a_run_of_an_unknown_task_is_not_begun(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(PRESETS, "chess", replace(TINY, preset="chess", task="chess"))
    assert cli.main(["collect", "--preset", "chess", "--run", str(tmp_path / "run")]) == 2
    assert (
        "no task 'chess'; choose one of car_racing" in capfd.readouterr().err
        and not (tmp_path / "run").exists()
    )


def test_a_drive_keeps_whatever_telemetry_its_game_has():
    env, task = VectorEnv(toy.Bar, 1, 5), TASKS["toy"]
    episode = record(env, BrownianPolicy(task), 3)
    assert (
        episode.telemetry["height"].shape == (len(episode) + 1,)
        and (episode.telemetry["h"] == 1).all()
    )
    assert (
        episode.h is None
        and episode.z is None
        and episode.obs.shape == (len(episode) + 1, 64, 64, 3)
    )


def test_noise_and_networks_have_the_tasks_sizes():
    brownian = BrownianPolicy(TASKS["toy"])
    action, _ = brownian.act(None, brownian.initial_state(5, 0))
    assert action.shape == (5, 1)
    network = random_network(0, toy.REAL)
    assert (
        network.vae.z_size == 3 and network.task.name == "toy" and network.params.shape == (1, 20)
    )


def test_what_a_person_can_do_is_the_tasks(tmp_path):
    task = TASKS["toy"]
    player = Player(VectorEnv(task.make, 1, 300), task, [7], Picture(b"", "a bar in the dark"))
    player.step(["left"])
    assert player.action.tolist() == [-1.0]
    assert player.controls["fps"] == 20 and player.controls["help"] == "the arrow keys push"
    keys = [button["keys"] for button in player.controls["buttons"]]
    assert keys == [("ArrowLeft",), ("ArrowRight",)]
    for _ in range(200):
        player.step(["left"])
    assert player.over.startswith("the game ended the balance")


def test_a_dream_of_a_task_without_a_landmark_has_no_overlap_and_never_parts(run):
    agent = Agent.load(run.folder)
    agent.task = replace(agent.task, landmark=None, landmark_name="")
    env = VectorEnv(agent.task.make, 1, 200)
    player = DreamPlayer(agent, env, [7], Picture(b"", "a bar in the dark"))
    for _ in range(30):
        player.step(["left"])
    assert player.status()["parted"] is None and player.controls["landmark"] == ""
    with pytest.raises(ValueError, match="the task has no landmark"):
        agent.task.overlap(*player.frames())


@pytest.mark.parametrize(
    "reads, hidden_size, bias, expected",
    [
        ("z h", 0, True, 63),
        ("z", 0, True, 15),
        ("mu h", 0, False, 60),
        ("z h c", 0, False, 108),
        ("h", 5, True, 103),
    ],
)
def test_c_is_built_as_its_configuration_says(reads, hidden_size, bias, expected):
    config = replace(TINY, controller=ControllerConfig(reads, hidden_size, bias))
    assert new_models(config)[2].num_params == expected


@pytest.mark.parametrize("reads", ["mu h", "c z", "h c", "z"])
def test_c_reads_what_its_configuration_names_in_that_order(reads):
    vae, mdnrnn, controller = new_models(replace(TINY, controller=ControllerConfig(reads)))
    params = torch.randn(controller.num_params, generator=torch.Generator().manual_seed(0))
    agent = Agent(vae, mdnrnn, controller, params, get_task(TINY.task), reads)
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 64, 64, 3), np.uint8)
    _, before = agent.act(frames[0], agent.initial_state(2, 3))
    action, after = agent.act(frames[1], before)
    parts = {"mu": after.mu, "z": after.z, "h": before.h, "c": before.c}
    x = torch.cat([parts[name] for name in reads.split()], dim=-1)
    expected = agent.task.squash(controller.act(params[None], x[None])[0])
    np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(after.z, after.mu) == ("mu" in reads)
    with torch.no_grad():
        _, (h, _) = mdnrnn.memory(
            after.z[:, None], torch.from_numpy(action)[:, None], (before.h, before.c)
        )
    torch.testing.assert_close(after.h, h)  # M reads the code that C reads
