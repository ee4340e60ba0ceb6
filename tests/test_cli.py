"""Every mistake at the command line gets one clear line, exit status 2, and loses nothing."""

import errno
import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import tiny
from wmlib import checkpoint, cli, evaluate, parallel
from wmlib.agent import Agent, new_models
from wmlib.collect import collect
from wmlib.config import AGENT_BLOCK, EVALUATE_SEEDS
from wmlib.data import EpisodeStore, load_episode
from wmlib.envs.vector import VectorEnv
from wmlib.presets import QUICK
from wmlib.run import Run, load_config, open_run


@pytest.fixture(scope="module", autouse=True)
def workers():
    """The commands of these tests share their workers, else each would start its own; one thread trains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cli, "parallel", SimpleNamespace(use_cluster=parallel.use_cluster, stop=lambda: None)
        )
        yield
    parallel.stop()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def short():
    """Evaluation, in this process, and film end after 60 steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (cli, evaluate):
            patch.setattr(
                module, "VectorEnv", lambda make, num_envs, max_steps: VectorEnv(make, num_envs, 60)
            )
        here = SimpleNamespace(run=lambda function, jobs: (function(*job) for job in jobs))
        patch.setattr(evaluate, "parallel", here)
        yield


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A run with its episodes."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["collect", "--preset", "tiny", "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(collected, short, tmp_path_factory):
    """A whole run, made by one command, and what that printed."""
    folder = shutil.copytree(collected, tmp_path_factory.mktemp("trained") / "run")
    with redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["agent", "--preset", "tiny", "--run", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def run(collected, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(collected, tmp_path / "run")


def complaint(capfd, *argv) -> str:
    """The last line on stderr of a command that must fail, without a traceback."""
    assert cli.main([*argv]) == 2
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.startswith("wmlib:")]
    assert len(lines) == 1
    return lines[0]


def test_unknown_preset_names_the_ones_there_are(capfd, tmp_path):
    line = complaint(capfd, "collect", "--preset", "huge", "--run", str(tmp_path / "run"))
    assert "huge" in line and "quick" in line and not (tmp_path / "run").exists()


def test_unknown_stage_names_the_ones_there_are(capfd):
    with pytest.raises(SystemExit) as stop:
        cli.main(["dance"])
    assert stop.value.code == 2 and "train-mdnrnn" in capfd.readouterr().err


def test_a_run_of_another_configuration_says_what_differs(capfd, run):
    line = complaint(capfd, "train-vae", "--preset", "quick", "--run", str(run))
    assert "preset: tiny != quick" in line and "--run" in line


def test_a_folder_that_is_no_run_is_left_alone(capfd, tmp_path):
    (tmp_path / "holiday.txt").write_text("photos")
    assert "holds no run" in complaint(capfd, "collect", "--preset", "tiny", "--run", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    "stage, there, before",
    [
        ("train-vae", [], "collect"),
        ("train-mdnrnn", ["vae"], "collect"),
        ("train-mdnrnn", ["episodes"], "train-vae"),
        ("evolve", [], "train-vae"),
        ("evolve", ["vae"], "train-mdnrnn"),
    ],
)
def test_a_stage_without_its_input_names_the_command_to_run(capfd, run, stage, there, before):
    if "episodes" not in there:
        shutil.rmtree(run / "episodes")
    if "vae" in there:
        checkpoint.save_weights(run / "vae", cli_models()[0].state_dict(), {})
    made = sorted(run.rglob("*"))
    line = complaint(capfd, stage, "--preset", "tiny", "--run", str(run))
    assert f"{stage} needs the whole of {before} first" in line
    assert f"run python -m wmlib {before} --preset tiny --run {run}" in line
    assert sorted(run.rglob("*")) == made


def test_half_a_collection_is_not_trained_on(capfd, run):
    EpisodeStore(run / "episodes").path(5).unlink()
    line = complaint(capfd, "train-vae", "--preset", "tiny", "--run", str(run))
    assert "whole of collect" in line


def test_a_damaged_episode_is_named(capfd, run):
    path = EpisodeStore(run / "episodes").path(2)
    path.write_bytes(path.read_bytes()[:-100])
    assert "000002.npz" in complaint(capfd, "train-vae", "--preset", "tiny", "--run", str(run))


@pytest.mark.filterwarnings("ignore:skipped")
def test_a_damaged_episode_is_skipped_when_asked(run):
    path = EpisodeStore(run / "episodes").path(2)
    path.write_bytes(path.read_bytes()[:-100])
    for stage in ("train-vae", "train-mdnrnn"):
        assert cli.main([stage, "--preset", "tiny", "--run", str(run), "--skip-damaged"]) == 0
    encoded = [path.name for path in open_run(run).latents.paths()]
    assert encoded == [
        other.name for other in EpisodeStore(run / "episodes").paths() if other != path
    ]


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-10], lambda content: content[:-10] + b"0123456789"],
    ids=["truncated", "edited"],
)
def test_spoilt_weights_are_refused(capfd, run, spoil):
    vae, _, _ = cli_models()
    checkpoint.save_weights(run / "vae", vae.state_dict(), {})
    path = run / "vae" / "weights.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    assert "truncated or edited" in complaint(
        capfd, "train-mdnrnn", "--preset", "tiny", "--run", str(run)
    )
    assert not (run / "latents").exists()


def cli_models(config=tiny.TINY):
    return new_models(config)


def test_weights_of_another_latent_size_are_refused(capfd, run):
    vae, _, _ = cli_models(QUICK)
    checkpoint.save_weights(run / "vae", vae.state_dict(), {})
    line = complaint(capfd, "train-mdnrnn", "--preset", "tiny", "--run", str(run))
    assert "z_size" in line and "is (1024, 32), expected (1024, 4)" in line


def test_latents_of_another_v_are_refused_with_the_command_that_makes_them_anew(capfd, run):
    command = ["train-mdnrnn", "--preset", "tiny", "--run", str(run)]
    for stage in ("train-vae", "train-mdnrnn"):
        assert cli.main([stage, *command[1:]]) == 0
    vae, _, _ = cli_models()
    checkpoint.save_weights(run / "vae", vae.state_dict(), {})
    line = complaint(capfd, *command)
    assert (
        str(run / "latents") in line
        and "another V" in line
        and "run python -m wmlib train-mdnrnn" in line
    )
    for part in ("latents", "mdnrnn"):
        shutil.rmtree(run / part)
    assert cli.main(command) == 0


def test_a_run_of_a_newer_version_names_the_entry_that_is_not_known(capfd, run):
    values = checkpoint.read_json(run / "config.json")
    checkpoint.write_json(run / "config.json", values | {"dropout": 0.1})
    line = complaint(capfd, "train-vae", "--preset", "tiny", "--run", str(run))
    assert "another version" in line and "unknown entries: dropout" in line
    assert str(run / "config.json") in line and "git pull" in line


def test_without_a_preset_a_run_goes_on_by_its_own_configuration(run):
    assert cli.main(["train-vae", "--run", str(run)]) == 0
    assert load_config(run) == tiny.TINY


def test_without_a_preset_a_new_run_is_a_quick_one(capfd, tmp_path):
    line = complaint(capfd, "train-vae", "--run", str(tmp_path / "run"))
    assert "collect --preset quick" in line and load_config(tmp_path / "run") == QUICK


def test_a_run_of_an_older_version_goes_on(run):
    values = checkpoint.read_json(run / "config.json")
    del values["task"], values["controller"], values["evolve"]["world"], values["mdnrnn"]["outcome"]
    checkpoint.write_json(run / "config.json", values)
    assert cli.main(["train-vae", "--preset", "tiny", "--run", str(run)]) == 0


def test_an_agent_that_is_not_there(capfd, tmp_path):
    line = complaint(capfd, "evaluate", "--agent", str(tmp_path), "--episodes", "1")
    assert "no config.json" in line


def test_tracks_that_a_stage_trains_on_are_refused(capfd, run):
    for part, model in zip(("vae", "mdnrnn"), cli_models()):
        checkpoint.save_weights(run / part, model.state_dict(), {})
    checkpoint.save_weights(run / "controller", {"params": torch.zeros(63)}, {})
    line = complaint(capfd, "evaluate", "--agent", str(run), "--episodes", "1", "--first-seed", "7")
    assert f"{EVALUATE_SEEDS.start:,}" in line


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(capfd, run, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    assert "disk is full" in complaint(capfd, "train-vae", "--preset", "tiny", "--run", str(run))
    monkeypatch.undo()
    assert not list(run.rglob("*.tmp")) and not (run / "vae" / "weights.safetensors").exists()
    assert cli.main(["train-vae", "--preset", "tiny", "--run", str(run)]) == 0


def test_an_absent_device_is_named(capfd, run):
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    assert absent in complaint(
        capfd, "train-vae", "--preset", "tiny", "--run", str(run), "--device", absent
    )


def test_json_prints_one_object_last(capfd, run):
    assert cli.main(["collect", "--preset", "tiny", "--run", str(run), "--json"]) == 0
    json.loads(capfd.readouterr().out.splitlines()[-1])


def test_the_whole_chain_ends_with_a_score_and_a_film(capfd, trained, monkeypatch, tmp_path):
    run, printed = trained
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(cli, "WATCH_FOLDER", tmp_path)
    assert "random policy" in printed and "agent" in printed
    result = json.loads((run / "evaluate.json").read_text())
    assert len(result["agent"]["returns"]) == len(result["random_policy"]["returns"]) == 2
    assert cli.main(["watch", "--agent", str(run), "--json"]) == 0
    film = json.loads(capfd.readouterr().out.splitlines()[-1])["video"]
    assert (tmp_path / film).read_bytes()[4:8] == b"ftyp"


def test_a_preset_without_m_goes_from_v_to_c(capfd, short, tmp_path):
    folder = tmp_path / "v_only"
    line = complaint(capfd, "train-mdnrnn", "--preset", "tiny-v-only", "--run", str(folder))
    assert "train-mdnrnn has nothing to make there" in line
    assert line.endswith("are collect, train-vae, evolve")
    assert cli.main(["agent", "--preset", "tiny-v-only", "--run", str(folder)]) == 0
    assert not (folder / "mdnrnn").exists()
    assert set(checkpoint.read_json(folder / "evaluate.json")["weights_sha256"]) == {
        "vae",
        "controller",
    }


def test_the_bases_agent_drives_behind_the_random_policy(capfd, trained, tmp_path, monkeypatch):
    settings = replace(tiny.TINY.collect, agent_episodes=AGENT_BLOCK + 1)
    second = replace(tiny.TINY, preset="second", seed=4, after="tiny", collect=settings)
    monkeypatch.setitem(cli.PRESETS, "second", second)
    folder, count = tmp_path / "second", tiny.TINY.collect.episodes
    command = ["collect", "--preset", "second", "--run", str(folder)]
    asked = f"run python -m wmlib agent --preset tiny --run {folder / 'tiny'}"
    assert asked in complaint(capfd, *command)
    shutil.rmtree(folder / "tiny")
    shutil.copytree(trained[0], folder / "tiny")
    assert cli.main(command) == 0
    files = files_of(folder)
    assert len(files) == count + AGENT_BLOCK + 1
    alone = Run(tmp_path / "alone", replace(tiny.TINY, seed=4))
    assert len(list(collect(alone))) == count
    assert files_of(alone.folder).items() <= files.items()
    agent = Agent.load(folder / "tiny")
    episodes = [load_episode(path) for path in open_run(folder).episode_paths()]
    drivers = [episode.driver for episode in episodes]
    assert drivers == ["brownian"] * count + [agent.driver] * (AGENT_BLOCK + 1)
    noise = int(np.random.SeedSequence([4, count]).generate_state(1)[0])
    state = agent.initial_state(AGENT_BLOCK, noise)
    action, _ = agent.act(episodes[count].obs[:1].repeat(AGENT_BLOCK, 0), state)
    np.testing.assert_allclose(episodes[count].action[0], action[0], rtol=1e-4, atol=1e-5)
    for index in (1, count + 2):  # what is lost is driven again, to the same bytes
        EpisodeStore(folder / "episodes").path(index).unlink()
    assert "whole of collect" in complaint(capfd, "train-vae", *command[1:])
    assert cli.main(command) == 0
    assert files_of(folder) == files


def files_of(folder):
    """The episodes that a run adds, byte for byte."""
    return {path.name: path.read_bytes() for path in EpisodeStore(folder / "episodes").paths()}
