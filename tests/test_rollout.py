"""The interaction loop: what belongs together stands together, and nothing is recorded after an end."""

import numpy as np
import pytest
import torch

from fakes import CounterOf, Script, tiny_models
from wmlib.agent import Agent
from wmlib.controller import Controller
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.rollout import episodes, record, record_all, returns, rollout
from wmlib.train import encode_frames

LENGTHS = [3, 5, 2]
SEEDS = [70, 80, 90]


def vector(max_steps=10, lengths=LENGTHS):
    return VectorEnv(CounterOf(*lengths), len(lengths), max_steps)


def test_an_episode_has_one_more_observation_than_actions():
    for episode, T in zip(episodes(vector(), Script(), SEEDS), LENGTHS, strict=True):
        assert (len(episode.obs), len(episode.action), len(episode.reward)) == (T + 1, T, T)


def test_action_t_leads_from_obs_t_to_the_next():
    for episode, seed, T in zip(episodes(vector(), Script(), SEEDS), SEEDS, LENGTHS):
        assert episode.obs.tolist() == [[seed, t] for t in range(T + 1)]
        assert episode.action[:, 0].tolist() == [t / 8 for t in range(T)]
        assert episode.reward.tolist() == [1 + t / 8 for t in range(T)]


def test_the_recorded_actions_are_those_that_the_environment_got():
    env = vector()
    for episode, copy in zip(episodes(env, Script(), SEEDS), env.envs):
        assert np.array_equal(episode.action, np.stack(copy.actions))


def test_an_episode_keeps_its_seed_and_float32():
    for episode, seed in zip(episodes(vector(), Script(), SEEDS), SEEDS):
        assert episode.seed == seed
        assert episode.action.dtype == episode.reward.dtype == np.float32


def test_an_episode_knows_whether_the_environment_or_the_limit_ended_it():
    assert [episode.terminated for episode in episodes(vector(max_steps=3), Script(), SEEDS)] == [
        True,
        False,
        True,
    ]
    assert [len(episode) for episode in episodes(vector(max_steps=3), Script(), SEEDS)] == [3, 3, 2]


def test_returns_are_the_sums_of_the_episodes_rewards():
    total, steps = returns(vector(), Script(), SEEDS)
    found = episodes(vector(), Script(), SEEDS)
    assert total.tolist() == pytest.approx([episode.reward.sum() for episode in found])
    assert steps.tolist() == [len(episode) for episode in found] == LENGTHS


def test_a_rollout_ends_with_the_last_episode():
    assert len(list(rollout(vector(), Script(), SEEDS))) == max(LENGTHS)


def test_active_says_which_environments_still_ran():
    ticks = list(rollout(vector(), Script(), SEEDS))
    assert np.array([tick.active for tick in ticks]).T.tolist() == [
        [t < T for t in range(5)] for T in LENGTHS
    ]


def test_where_active_is_false_nothing_happened():
    for tick in rollout(vector(), Script(), SEEDS):
        assert np.array_equal(tick.obs[~tick.active], tick.next_obs[~tick.active])
        assert not tick.reward[~tick.active].any()


def test_each_tick_begins_where_the_one_before_ended():
    ticks = list(rollout(vector(), Script(), SEEDS))
    assert all(np.array_equal(one.next_obs, other.obs) for one, other in zip(ticks, ticks[1:]))


def test_the_policy_is_told_who_is_active_and_gets_its_seed_and_state():
    policy = Script()
    ticks = list(rollout(vector(), policy, SEEDS, policy_seed=17))
    assert policy.seed == 17
    assert [tick.state for tick in ticks] == [1, 2, 3, 4, 5]
    assert all(
        np.array_equal(tick.active, seen) for tick, seen in zip(ticks, policy.seen, strict=True)
    )


def test_a_vector_can_be_driven_again():
    env = vector()
    first, _ = returns(env, Script(), SEEDS)
    again, _ = returns(env, Script(), SEEDS)
    assert np.array_equal(first, again)


def tiny_agent():
    vae, mdnrnn = tiny_models()
    params = torch.randn(33, generator=torch.Generator().manual_seed(2))
    return Agent(vae, mdnrnn, Controller(10, 3), params, CAR_RACING)


def test_a_real_episode_is_recorded_with_what_v_m_and_the_game_made_of_it():
    agent, env = tiny_agent(), VectorEnv(CAR_RACING.make, 1, 9)
    found = record(env, agent, 3, policy_seed=5)
    (episode,) = episodes(VectorEnv(CAR_RACING.make, 1, 9), agent, [3], 5)
    assert len(found) == 9 and found.seed == 3 and found.pictures is None
    assert np.array_equal(found.obs, episode.obs) and np.array_equal(found.action, episode.action)
    mu, logvar = encode_frames(agent.vae, found.obs[:-1])
    np.testing.assert_allclose(found.mu, mu, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.logvar, logvar, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        inputs = torch.from_numpy(found.z)[None], torch.from_numpy(found.action)[None]
        h, (_, c) = agent.mdnrnn.memory(*inputs)
    assert not found.h[0].any() and not found.c[0].any()
    np.testing.assert_allclose(found.h[1:], h[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.c[-1], c[0], rtol=1e-4, atol=1e-5)
    game = CAR_RACING.make()
    game.reset(seed=3)
    for t, action in enumerate([*found.action, None]):
        assert found.place[t].tolist() == list(game.car.hull.position)
        assert found.speed[t] == game.car.hull.linearVelocity.length
        assert found.turning[t] == game.car.hull.angularVelocity
        game.step(action)


def test_pictures_are_recorded_where_the_game_renders():
    env = VectorEnv(lambda: CAR_RACING.make(render_mode="rgb_array"), 1, 2)
    assert record(env, tiny_agent(), 3).pictures.shape == (3, 400, 600, 3)


def test_a_dreamt_episode_is_recorded_too():
    agent = tiny_agent()
    env = DreamEnv(agent.vae, agent.mdnrnn, np.ones((1, 4)), task=CAR_RACING, max_steps=4)
    found = record(env, DreamPolicy(agent, env), 3)
    assert (
        found.obs.shape == (5, 64, 64, 3)
        and found.z.shape == (4, 4)
        and found.h.shape == found.c.shape == (5, 6)
    )
    assert (found.z[0] == 1).all() and not found.h[0].any() and found.h[1:].any(axis=1).all()
    assert np.array_equal(found.h[4], env.state[0][0]) and np.array_equal(
        found.obs[4], env.render()[0]
    )
    assert not found.telemetry and found.mu is None


def test_recorded_episodes_end_each_at_its_own_step():
    for found, T in zip(record_all(vector(), Script(), SEEDS), LENGTHS, strict=True):
        assert len(found.obs) == T + 1 and len(found) == len(found.reward) == T and found.z is None


def test_recording_changes_nothing_about_an_episode():
    recorded = [found.reward.sum() for found in record_all(vector(), Script(), SEEDS)]
    assert recorded == pytest.approx(returns(vector(), Script(), SEEDS)[0])
