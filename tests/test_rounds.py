"""Three rounds of the toy task, awake and asleep, each on the one before; two Cs on one V and M."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.tiny import contents
from tests.toy import DREAM, REAL
from wmlib import chain, cli
from wmlib.agent import Agent
from wmlib.checkpoint import read_lines
from wmlib.config import ROOT, DreamConfig
from wmlib.data import load_episode
from wmlib.presets import PRESETS
from wmlib.run import claim_run

NOTHING = replace(REAL.collect, episodes=0)
DREAMS = DreamConfig(1.15, "moments", starts=8, dreamers=1, dropout=0.1)
ASLEEP = replace(
    DREAM, preset="toy-asleep", seed=4, after="toy", keeps=("episodes", "vae"),
    collect=replace(NOTHING, agent_episodes=9), evolve=replace(DREAM.evolve, dream=DREAMS),
)  # fmt: skip
AWAKE = replace(
    ASLEEP, preset="toy-awake", seed=5, after="toy-asleep", keeps=("episodes", "vae", "mdnrnn"),
    collect=NOTHING, evolve=replace(REAL.evolve, start="base"),
)  # fmt: skip
PRESETS |= {config.preset: config for config in (ASLEEP, AWAKE)}
MAIN = "import sys, tests.test_rounds, wmlib.cli; sys.exit(wmlib.cli.main(sys.argv[1:]))"


def finish(folder, config):
    """All that is left to do of a run and its bases, in this process."""
    run = claim_run(folder, config)
    for one, stage in chain.plan(run):
        cli.run_stage(one, stage, "cpu")
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_thread):
    return finish(tmp_path_factory.mktemp("rounds") / "whole", AWAKE)


def test_three_rounds_killed_in_the_dream_continue_to_the_same_files(whole):
    folder = whole.folder.with_name("killed")
    command = [sys.executable, "-c", MAIN, "agent", "--preset", "toy-awake", "--run", folder]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    log = folder / "toy-asleep" / "controller" / "generations.jsonl"
    while process.poll() is None and (not log.exists() or log.stat().st_size == 0):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(read_lines(log)) < ASLEEP.evolve.generations, "the kill came too late"
    finish(folder, AWAKE)
    assert contents(folder) == contents(whole.folder)


def test_each_round_adds_its_own_episodes_and_says_who_drove_them(whole):
    paths = whole.episode_paths()
    assert [path.stem for path in paths] == [f"{index:06d}" for index in range(15)]
    drivers = [load_episode(path).driver for path in paths]
    assert drivers == 6 * ["brownian"] + 9 * [Agent.load(whole.base.base.folder).driver]
    assert len(set(whole.latent_paths())) == 15
    assert whole.latent_paths() == whole.base.latent_paths()


def test_a_second_c_on_one_v_and_m_makes_nothing_but_itself(whole):
    dream = replace(ASLEEP.evolve, dream=replace(DREAMS, temperature=0.3))
    second = replace(AWAKE, preset="toy-second", after=str(whole.base.folder), evolve=dream)
    run = finish(whole.folder.with_name("second"), second)
    made = {path.name for path in run.folder.iterdir()}
    assert made == {"config.json", "base.json", "controller", "starts"}
    assert run.input_hashes() == whole.base.input_hashes()
    assert contents(run.folder / "controller") != contents(whole.base.folder / "controller")
