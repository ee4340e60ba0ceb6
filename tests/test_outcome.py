"""What M says of reward and end, trained after it: M itself stays as it is, byte for byte."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from tests.tiny import TINY, contents
from wmlib import chain, parallel
from wmlib.agent import load_memory, load_world_model, new_models
from wmlib.checkpoint import file_hash, read_json, save_weights
from wmlib.config import OutcomeConfig
from wmlib.data import Episode, Sequences
from wmlib.mdnrnn import MDNRNN
from wmlib.run import claim_run, open_run
from wmlib.train import mdnrnn_stage, train_outcome

AFTER = OutcomeConfig(trained="after", units=5, steps=12, end_weight=3.0)
PLAIN = replace(
    TINY,
    collect=replace(TINY.collect, episodes=2),
    mdnrnn=replace(TINY.mdnrnn, steps=8, look_ahead=None),
)
HEADED = replace(PLAIN, mdnrnn=replace(PLAIN.mdnrnn, outcome=AFTER))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Jobs are done in this process: they are too small to start others for."""
    monkeypatch.setattr(parallel, "run", lambda function, jobs: (function(*job) for job in jobs))


def begun(folder, config):
    """A run with two episodes and a V."""
    run, rng = claim_run(folder, config), np.random.default_rng(2)
    for index in range(2):
        obs = rng.integers(0, 256, (14, 64, 64, 3), np.uint8)
        action = rng.uniform(0, 1, (13, 3)).astype(np.float32)
        run.episodes.save(index, Episode(obs, action, np.ones(13, np.float32), True, index))
    torch.manual_seed(0)
    save_weights(run.folder / "vae", new_models(config)[0].state_dict(), {})
    return run


def trained(folder, config):
    run = begun(folder, config)
    list(mdnrnn_stage(run))
    return run


def memory_and_batch(pay=1.0):
    torch.manual_seed(0)
    mdnrnn, rng = MDNRNN(4, 3, 6, 2, outcome=True), np.random.default_rng(0)
    z, action = rng.standard_normal((2, 6, 4), np.float32), rng.uniform(0, 1, (2, 5, 3))
    end = np.zeros((2, 5), bool)
    end[0, 4] = True
    reward = np.where(end, pay, 1.0).astype(np.float32)
    batch = Sequences(z, action.astype(np.float32), reward, end, np.ones((2, 5), bool))
    return mdnrnn, batch


def test_training_after_m_moves_the_outcomes_layers_and_nothing_of_m():
    mdnrnn, batch = memory_and_batch()
    before = {name: part.clone() for name, part in mdnrnn.state_dict().items()}
    losses = [
        parts["loss"] for _, parts in train_outcome(HEADED.mdnrnn, mdnrnn, iter([batch] * 12))
    ]
    assert losses[-1] < losses[0] and len(losses) == 12
    moved = {name for name, part in mdnrnn.state_dict().items() if not part.equal(before[name])}
    assert moved == {name for name in before if name.startswith("to_outcome")}
    assert mdnrnn.lstm.weight_hh_l0.grad is None


def test_what_a_step_pays_that_ends_an_episode_is_not_learnt():
    kept = []
    for pay in (1.0, -100.0):
        mdnrnn, batch = memory_and_batch(pay)
        found = list(train_outcome(HEADED.mdnrnn, mdnrnn, iter([batch] * 12)))
        kept.append([parts["reward"] for _, parts in found])
        kept.append(torch.cat([part.flatten() for part in mdnrnn.to_outcome.parameters()]))
    assert kept[0] == kept[2] and torch.equal(kept[1], kept[3])


def test_its_rate_falls_evenly_to_nothing():
    mdnrnn, batch = memory_and_batch()
    optimizer, rates = torch.optim.Adam(mdnrnn.to_outcome.parameters(), 1.0), []
    for _ in train_outcome(HEADED.mdnrnn, mdnrnn, iter([batch] * 12), optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3 * (12 - step) / 12 for step in range(12)])


def test_without_an_outcome_to_train_the_stage_says_so():
    mdnrnn, batch = memory_and_batch()
    with pytest.raises(ValueError, match="is to predict no outcome"):
        next(train_outcome(PLAIN.mdnrnn, mdnrnn, iter([batch])))


def test_the_stage_trains_m_first_as_if_there_were_no_outcome_and_then_leaves_it_alone(tmp_path):
    plain = trained(tmp_path / "plain", PLAIN)
    run = trained(tmp_path / "headed", HEADED)
    m = "mdnrnn/weights.safetensors"
    assert contents(run.folder)[m] == contents(plain.folder)[m]
    assert chain.is_done(run, "train-mdnrnn") and not (plain.folder / "outcome").exists()
    meta = read_json(run.folder / "outcome" / "meta.json")
    assert meta["mdnrnn_sha256"] == file_hash(run.folder / m)
    agent = load_world_model(run)
    assert agent.mdnrnn.to_outcome[0].out_features == 5
    assert [part.shape for part in agent.mdnrnn.outcome(torch.zeros(1, 2, 16))] == [(1, 2)] * 2
    assert load_memory(run, "mdnrnn", with_outcome=False).to_outcome is None


def test_a_stage_stopped_in_the_outcome_continues_to_the_same_files(tmp_path):
    whole = trained(tmp_path / "whole", HEADED)
    run = begun(tmp_path / "stopped", HEADED)
    steps = [step for step, _ in islice(mdnrnn_stage(run), 1 + 8 + 7)]
    assert steps[-1] == 8 + 7 and not chain.is_done(run, "train-mdnrnn")
    list(mdnrnn_stage(run))
    assert contents(run.folder) == contents(whole.folder)


def test_an_m_that_was_trained_before_is_given_an_outcome_by_a_run_that_keeps_it(tmp_path):
    base = trained(tmp_path / "base", PLAIN)
    before = contents(base.folder)
    kept = ("episodes", "vae", "mdnrnn")
    nothing = replace(PLAIN.collect, episodes=0)
    config = replace(HEADED, after=str(base.folder), keeps=kept, collect=nothing)
    run = claim_run(tmp_path / "run", config)
    assert chain.stages(run) == ["train-mdnrnn", "evolve"]
    list(mdnrnn_stage(run))
    assert {name.split("/")[0] for name in contents(run.folder)} == {"outcome"}
    assert contents(base.folder) == before
    assert load_world_model(open_run(run.folder)).mdnrnn.to_outcome is not None
