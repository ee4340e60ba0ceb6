"""V, M and C together: what act promises, what load refuses, one policy beside many."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fakes import tiny_models
from wmlib import config
from wmlib.agent import Agent, load_world_model, new_models
from wmlib.checkpoint import save_weights
from wmlib.config_json import to_dict
from wmlib.controller import Controller
from wmlib.envs.car_racing import CAR_RACING
from wmlib.presets import PAPER, QUICK, V_ONLY
from wmlib.run import load_config, open_run

TINY = replace(
    QUICK,
    vae=replace(QUICK.vae, z_size=4),
    mdnrnn=replace(QUICK.mdnrnn, hidden_size=6, num_mixtures=2),
)


def frames(B, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (B, 64, 64, 3), np.uint8)


def candidates(P, seed=0):
    return torch.randn(
        P, Controller(10, 3).num_params, generator=torch.Generator().manual_seed(seed)
    )


def agent_of(params, noiseless=False):
    vae, mdnrnn = tiny_models()
    if noiseless:
        torch.nn.init.zeros_(vae.to_logvar.weight)
        torch.nn.init.constant_(vae.to_logvar.bias, -2000.0)
    return Agent(vae, mdnrnn, Controller(10, 3), params, CAR_RACING)


def drive(agent, B, ticks=4, seed=5, active=None):
    """The actions of a few ticks, (ticks, B, 3)."""
    state, actions = agent.initial_state(B, seed), []
    for tick in range(ticks):
        action, state = agent.act(frames(B, tick), state, active)
        actions.append(action)
    return np.stack(actions)


@pytest.fixture
def folder(tmp_path):
    """A run's folder with tiny random weights."""
    torch.manual_seed(1)
    vae, mdnrnn, controller = new_models(TINY)
    save_weights(tmp_path / "vae", vae.state_dict(), {})
    save_weights(tmp_path / "mdnrnn", mdnrnn.state_dict(), {})
    save_weights(tmp_path / "controller", {"params": candidates(1)[0]}, {})
    keep_config(tmp_path, TINY)
    return tmp_path


def keep_config(folder, values):
    (folder / "config.json").write_text(json.dumps(to_dict(values)))


def test_the_head_that_looks_ahead_is_for_training_and_no_part_of_the_agent(folder):
    values = replace(TINY, mdnrnn=replace(TINY.mdnrnn, look_ahead=3))
    trained = new_models(values)[1]
    save_weights(folder / "mdnrnn", trained.state_dict(), {})
    keep_config(folder, values)
    loaded = load_world_model(open_run(folder)).mdnrnn
    assert set(trained.state_dict()) - set(loaded.state_dict()) == {
        "to_ahead.weight",
        "to_ahead.bias",
    }
    assert torch.equal(loaded.to_mixture.weight, trained.to_mixture.weight)


@pytest.mark.parametrize("B", [1, 3])
def test_act_gives_float32_actions_in_the_environments_units(B):
    agent = agent_of(20 * candidates(1)[0])
    action, _ = agent.act(frames(B), agent.initial_state(B, 0))
    assert isinstance(action, np.ndarray) and action.dtype == np.float32 and action.shape == (B, 3)
    assert all(agent.task.action_space.contains(row) for row in action)


def test_the_same_seed_gives_the_same_actions():
    assert np.array_equal(drive(agent_of(candidates(1)), 3), drive(agent_of(candidates(1)), 3))


def test_another_seed_gives_other_actions():
    assert not np.array_equal(
        drive(agent_of(candidates(1)), 3, seed=5), drive(agent_of(candidates(1)), 3, seed=6)
    )


def test_without_a_seed_the_noise_is_new_each_time():
    agent = agent_of(candidates(1))
    assert not np.array_equal(drive(agent, 3, seed=None), drive(agent, 3, seed=None))


def test_act_leaves_torchs_global_generator_alone():
    agent = agent_of(candidates(1))
    before = torch.get_rng_state()
    drive(agent, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_act_leaves_the_state_that_it_was_given_as_it_was():
    agent = agent_of(candidates(1))
    _, state = agent.act(frames(2), agent.initial_state(2, 0))
    before = [part.clone() for part in (state.h, state.c, state.z)]
    agent.act(frames(2, 1), state)
    assert all(torch.equal(one, other) for one, other in zip((state.h, state.c, state.z), before))


def test_one_tick_is_v_then_c_then_m():
    agent = agent_of(candidates(1), noiseless=True)
    state = agent.initial_state(2, 0)
    for tick in range(3):
        obs = frames(2, tick)
        action, after = agent.act(obs, state)
        with torch.no_grad():
            z, _ = agent.vae.encode(torch.from_numpy(obs).permute(0, 3, 1, 2) / 255)
            raw = agent.controller.act(agent.params, torch.cat([z, state.h], -1)[None])[0]
            expected = agent.task.squash(raw)
            _, (h, c) = agent.mdnrnn.memory(z[:, None], expected[:, None], (state.h, state.c))
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close((after.z, after.h, after.c), (z, h, c), rtol=1e-4, atol=1e-5)
        state = after


def test_without_m_c_sees_z_alone_and_nothing_is_remembered():
    vae, _, controller = new_models(V_ONLY)
    assert controller.num_params == 99
    params = torch.randn(99, generator=torch.Generator().manual_seed(0))
    agent = Agent(vae, None, controller, params, CAR_RACING, reads="z")
    _, state = agent.act(frames(2), agent.initial_state(2, 0))
    action, after = agent.act(frames(2, 1), state)
    weight, bias = agent.params[0, :96].view(3, 32), agent.params[0, 96:]
    np.testing.assert_allclose(
        action, agent.task.squash(after.z @ weight.T + bias), rtol=1e-4, atol=1e-5
    )
    assert after.h.shape == (2, 0)


def test_c_sees_a_sample_of_z_and_not_its_mean():
    agent = agent_of(candidates(1))
    obs = np.repeat(frames(1), 2, axis=0)
    _, state = agent.act(obs, agent.initial_state(2, 0))
    assert not torch.allclose(state.z[0], state.z[1])


def test_rows_that_have_ended_do_not_change_the_actions_of_the_others():
    agent, active = agent_of(candidates(1)), np.array([True, False, True, False])
    whole, masked = drive(agent, 4), drive(agent, 4, active=active)
    np.testing.assert_allclose(masked[:, active], whole[:, active], rtol=1e-4, atol=1e-5)


def test_what_rows_that_have_ended_show_does_not_matter():
    agent, active = agent_of(candidates(1)), np.array([True, False])
    one, other = frames(2), frames(2)
    other[1] = 0
    actions = [agent.act(obs, agent.initial_state(2, 0), active)[0] for obs in (one, other)]
    assert np.array_equal(*actions)


@pytest.mark.parametrize("tracks", [1, 2])
def test_a_population_drives_as_its_policies_do_alone(tracks):
    params, B = candidates(3), 3 * tracks
    together = drive(agent_of(params, noiseless=True), B)
    for p in range(3):
        rows = slice(p * tracks, (p + 1) * tracks)
        agent = agent_of(params[p], noiseless=True)
        state = agent.initial_state(tracks, 5)
        for tick in range(4):
            action, state = agent.act(frames(B, tick)[rows], state)
            np.testing.assert_allclose(together[tick, rows], action, rtol=1e-4, atol=1e-5)


def test_in_bf16_the_actions_are_nearly_the_same():
    agent = agent_of(candidates(1), noiseless=True)
    exact = drive(agent, 3)
    agent.vae.bfloat16()
    rough = drive(agent, 3)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.02


def test_flat_parameters_are_a_population_of_one():
    params = candidates(1)
    assert np.array_equal(drive(agent_of(params), 2), drive(agent_of(params[0]), 2))


@pytest.mark.parametrize(
    "obs",
    [
        frames(2).astype(np.float32),
        frames(2)[0],
        frames(2).transpose(0, 3, 1, 2),
        np.zeros((2, 96, 96, 3), np.uint8),
    ],
    ids=["float", "no batch", "colour first", "raw pixels"],
)
def test_observations_of_another_shape_or_dtype_are_refused(obs):
    agent = agent_of(candidates(1))
    with pytest.raises(ValueError, match="frames must be uint8"):
        agent.act(obs, agent.initial_state(2, 0))


def test_observations_of_another_number_than_the_states_are_refused():
    agent = agent_of(candidates(1))
    with pytest.raises(ValueError, match="3 observations for a state of 2 environments"):
        agent.act(frames(3), agent.initial_state(2, 0))


def test_a_loaded_agent_drives_as_the_one_that_was_kept(folder):
    torch.manual_seed(1)
    vae, mdnrnn, controller = new_models(TINY)
    kept = Agent(vae, mdnrnn, controller, candidates(1), CAR_RACING)
    assert np.array_equal(drive(Agent.load(folder), 2), drive(kept, 2))


def test_an_agent_loads_from_a_path_given_as_text(folder):
    assert Agent.load(str(folder)).params.shape == (1, 33)


def test_a_relative_path_is_read_from_the_repositorys_root(folder, monkeypatch):
    monkeypatch.setattr(config, "ROOT", folder.parent)
    assert Agent.load(folder.name).vae.z_size == 4


def test_a_world_model_alone_steers_straight_on_at_half_throttle(folder):
    action = drive(load_world_model(open_run(folder)), 2)
    assert np.array_equal(action, np.broadcast_to(np.float32([0, 0.5, 0]), action.shape))


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run.*wmlib collect"):
        Agent.load(tmp_path)


@pytest.mark.parametrize("part", ["vae", "mdnrnn", "controller"])
def test_a_missing_part_is_named(folder, part):
    (folder / part / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=f"{part}/weights.safetensors is missing"):
        Agent.load(folder)


@pytest.mark.parametrize("part", ["vae", "mdnrnn", "controller"])
def test_a_truncated_part_is_named(folder, part):
    path = folder / part / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=f"{part}/weights.safetensors is truncated or edited"):
        Agent.load(folder)


def test_a_latent_size_that_does_not_match_is_named_with_both_sizes(folder):
    keep_config(folder, replace(TINY, vae=replace(TINY.vae, z_size=5)))
    with pytest.raises(
        ValueError,
        match=r"does not fit this VAE: .* is \(.*4.*\), expected \(.*5.*\); check z_size",
    ):
        Agent.load(folder)


def test_a_hidden_size_that_does_not_match_is_named(folder):
    keep_config(folder, replace(TINY, mdnrnn=replace(TINY.mdnrnn, hidden_size=7)))
    with pytest.raises(ValueError, match="does not fit this MDNRNN.*check z_size and hidden_size"):
        Agent.load(folder)


def test_a_mask_of_another_length_is_refused():
    agent = agent_of(candidates(1))
    with pytest.raises(ValueError, match="active has 3 entries for a state of 2 environments"):
        agent.act(frames(2, 0), agent.initial_state(2, 0), np.ones(3, bool))


def test_a_controller_without_parameters_is_named(folder):
    save_weights(folder / "controller", {"weights": torch.zeros(33)}, {})
    with pytest.raises(ValueError, match="controller holds 0 parameters, expected 33"):
        Agent.load(folder)


def test_a_controller_of_another_size_is_named_with_both_sizes(folder):
    save_weights(folder / "controller", {"params": torch.zeros(32)}, {})
    with pytest.raises(ValueError, match="controller holds 32 parameters, expected 33"):
        Agent.load(folder)


@pytest.mark.parametrize("text", ["", '{"preset": "qui', '{"preset": "quick"}'])
def test_a_damaged_config_is_a_value_error(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged|another version"):
        Agent.load(folder)


def test_a_config_comes_back_from_its_folder(folder):
    assert load_config(folder) == TINY


def test_a_loaded_agent_says_who_drives(folder):
    driver = json.loads((folder / "controller" / "meta.json").read_text())["weights_sha256"]
    assert Agent.load(folder).driver == f"agent {driver[:12]}"


def test_new_models_have_the_papers_sizes():
    vae, mdnrnn, controller = new_models(PAPER)
    sizes = (vae.z_size, mdnrnn.z_size, mdnrnn.hidden_size, mdnrnn.num_mixtures)
    assert (*sizes, controller.num_params) == (32, 32, 256, 5, 867)
