"""The dream: it repeats by its seed, it is M's own prediction, and C reads M's own state."""

import math

import numpy as np
import pytest
import torch
from fakes import tiny_models

from wmlib.agent import Agent
from wmlib.controller import Controller
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.mdnrnn import MDNRNN, sample_mixture
from wmlib.rollout import episodes, returns, rollout
from wmlib.vae import VAE, to_uint8

FIRST_Z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def dream(num_envs=3, first_z=FIRST_Z, **settings):
    return DreamEnv(*tiny_models(), first_z, num_envs, **settings)


def scripted(steps, num_envs=3):
    return np.random.default_rng(1).uniform(0, 1, (steps, num_envs, 3)).astype(np.float32)


def run(env, seed, steps=6):
    return np.stack([env.reset(seed=seed)[0], *(env.step(action)[0] for action in scripted(steps, env.num_envs))])


def pilot(seed=0):
    vae, mdnrnn = tiny_models()
    controller = Controller(4 + 6, 3)
    params = torch.randn(controller.num_params, generator=torch.Generator().manual_seed(seed))
    return Agent(vae, mdnrnn, controller, params)


def test_the_same_seed_gives_the_same_dream():
    assert np.array_equal(run(dream(), 5), run(dream(), 5))


def test_a_dream_can_be_dreamt_again_in_the_same_environment():
    env = dream()
    assert np.array_equal(run(env, 5), run(env, 5))


def test_another_seed_gives_another_dream():
    assert not np.array_equal(run(dream(), 5)[1:], run(dream(), 6)[1:])


def test_of_a_list_of_seeds_the_first_counts():
    assert np.array_equal(run(dream(), [5, 1, 2]), run(dream(), 5))


def test_a_dream_leaves_torchs_global_generator_alone():
    env = dream()
    before = torch.get_rng_state()
    run(env, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_dreams_begin_at_the_given_z():
    starts = np.concatenate([dream(20).reset(seed=seed)[0] for seed in range(3)])
    assert {row.tobytes() for row in starts} == {row.tobytes() for row in FIRST_Z}


def test_one_first_z_may_be_a_plain_vector():
    obs, _ = dream(first_z=FIRST_Z[0]).reset(seed=0)
    assert np.array_equal(obs, np.repeat(FIRST_Z[:1], 3, axis=0))


def test_state_is_ms_memory_of_the_z_and_actions_seen():
    env, actions = dream(), scripted(6)
    z = run(env, 5)[:-1]
    with torch.no_grad():
        _, expected = env.mdnrnn.memory(torch.from_numpy(z).transpose(0, 1), torch.from_numpy(actions).transpose(0, 1))
    torch.testing.assert_close(env.state, expected)


def test_the_state_is_zero_when_a_dream_begins():
    env = dream()
    run(env, 5)
    env.reset(options={"reset_mask": [True, False, True]})
    assert [part.eq(0).all(1).tolist() for part in env.state] == [[True, False, True]] * 2


def test_a_dream_may_begin_with_the_memory_of_a_drive():
    drive = dream(1)
    before = run(drive, 5, steps=4)[-1]
    memory = drive.state
    actions = scripted(3, 1)
    expected = [drive.step(action) and drive.state for action in actions]
    env = dream(1, first_z=before, first_state=memory)
    env.reset(seed=7)
    torch.testing.assert_close(env.state, memory)
    env.step(actions[0])
    torch.testing.assert_close(env.state, expected[0])  # the same z, action and memory lead to the same h and c


def test_each_first_z_keeps_its_own_memory():
    memory = tuple(torch.arange(5.0)[:, None].expand(5, 6) + part for part in (0, 10))
    env = dream(20, first_state=memory)
    z, _ = env.reset(seed=0)
    chosen = [next(i for i, row in enumerate(FIRST_Z) if np.array_equal(row, start)) for start in z]
    assert env.state[0][:, 0].tolist() == chosen and env.state[1][:, 0].tolist() == [10 + i for i in chosen]


def test_a_memory_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"first_state must be h and c of shape \(5, 6\)"):
        dream(first_state=(torch.zeros(4, 6), torch.zeros(5, 6)))


def test_the_next_z_is_a_sample_of_ms_mixture():
    env, action = dream(temperature=0.7), scripted(1)[0]
    z, _ = env.reset(seed=5)
    twin = torch.Generator()
    twin.set_state(env.generator.get_state())
    with torch.no_grad():
        mixture, _ = env.mdnrnn(torch.from_numpy(z)[:, None], torch.from_numpy(action)[:, None])
    expected = sample_mixture(mixture, 0.7, twin)[:, 0].numpy()
    np.testing.assert_allclose(env.step(action)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_action_steers_the_dream():
    z = []
    for value in (0, 1):
        env = dream()
        env.reset(seed=5)
        env.step(np.full((3, 3), value, np.float32))
        z.append(env.state[0])
    assert not torch.allclose(*z)


def test_an_action_that_float32_cannot_hold_is_refused():
    env = dream()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be finite"):
        env.step(np.full((3, 3), 1e300))


def test_a_hotter_dream_spreads_wider():
    spread = []
    for temperature in (0.1, 1.0, 3.0):
        env = dream(500, FIRST_Z[:1], temperature=temperature)
        env.reset(seed=0)
        spread.append(env.step(np.zeros((500, 3), np.float32))[0].std(axis=0).mean())
    assert 2 * spread[0] < spread[1] < 0.8 * spread[2]


def test_a_dream_pays_nothing_and_never_terminates():
    env = dream()
    env.reset(seed=0)
    for action in scripted(6):
        _, reward, terminated, _, _ = env.step(action)
        assert not reward.any() and not terminated.any()


def test_a_finished_dream_keeps_its_state():
    env = dream(max_steps=2)
    run(env, 5, steps=2)
    state = [part.clone() for part in env.state]
    env.step(scripted(1)[0])
    torch.testing.assert_close(list(env.state), state, atol=0, rtol=0)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_render_decodes_the_present_z(num_envs):
    env = dream(num_envs)
    z = run(env, 5)[-1]
    frames = env.render()
    assert frames.shape == (num_envs, 64, 64, 3) and frames.dtype == np.uint8
    with torch.no_grad():
        assert np.array_equal(frames, to_uint8(env.vae.decode(torch.from_numpy(z))))


@pytest.mark.parametrize(
    "vae, mdnrnn, width", [(4, 4, 5), (4, 5, 4), (5, 4, 4)], ids=["first_z differs", "M differs", "V differs"]
)
def test_latent_sizes_that_do_not_agree_are_refused_with_all_three(vae, mdnrnn, width):
    with pytest.raises(ValueError, match=f"V has {vae} latents, M {mdnrnn} and first_z {width}"):
        DreamEnv(VAE(vae), MDNRNN(mdnrnn, 3, 6, 2), np.zeros((2, width)))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        dream(temperature=temperature)


def test_the_policy_drives_a_dream_through_the_common_loop():
    env = dream(max_steps=5)
    ticks = list(rollout(env, DreamPolicy(pilot(), env), [0, 1, 2]))
    assert len(ticks) == 5
    assert all(tick.action.shape == (3, 3) and tick.action.dtype == np.float32 for tick in ticks)
    assert all(env.single_action_space.contains(action) for tick in ticks for action in tick.action)


def test_the_policy_reads_the_dreams_own_h():
    agent, env = pilot(), dream(max_steps=5)
    h = env.mdnrnn.initial_state(3)[0]
    for tick in rollout(env, DreamPolicy(agent, env), [0, 1, 2]):
        with torch.no_grad():
            x = torch.cat([torch.from_numpy(tick.obs), h], -1)[None]
            expected = agent.task.squash(agent.controller.act(agent.params, x))[0]
        np.testing.assert_allclose(tick.action, expected, rtol=1e-5, atol=1e-6)
        h = env.state[0].clone()


def test_dreamt_episodes_are_whole_and_repeat():
    def drive():
        env = dream(max_steps=5)
        return episodes(env, DreamPolicy(pilot(), env), [7, 8, 9])

    for one, other in zip(drive(), drive()):
        assert one.obs.shape == (6, 4) and one.action.shape == (5, 3) and not one.terminated
        assert np.array_equal(one.obs, other.obs) and np.array_equal(one.action, other.action)


def test_returns_of_a_dream_are_zero_and_its_steps_the_limit():
    env = dream(max_steps=5)
    total, steps = returns(env, DreamPolicy(pilot(), env), [0, 1, 2])
    assert total.tolist() == [0, 0, 0] and steps.tolist() == [5, 5, 5]
