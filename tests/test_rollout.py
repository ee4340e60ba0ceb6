"""The interaction loop: what belongs together stands together, and nothing is recorded after an end."""

import numpy as np
import pytest
from fakes import CounterOf, Script

from wmlib.envs.vector import VectorEnv
from wmlib.rollout import episodes, returns, rollout

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
    assert [episode.terminated for episode in episodes(vector(max_steps=3), Script(), SEEDS)] == [True, False, True]
    assert [len(episode) for episode in episodes(vector(max_steps=3), Script(), SEEDS)] == [3, 3, 2]


def test_returns_are_the_sums_of_the_episodes_rewards():
    total, steps = returns(vector(), Script(), SEEDS)
    drives = episodes(vector(), Script(), SEEDS)
    assert total.tolist() == pytest.approx([episode.reward.sum() for episode in drives])
    assert steps.tolist() == [len(episode) for episode in drives] == LENGTHS


def test_a_rollout_ends_with_the_last_episode():
    assert len(list(rollout(vector(), Script(), SEEDS))) == max(LENGTHS)


def test_active_says_which_environments_still_ran():
    ticks = list(rollout(vector(), Script(), SEEDS))
    assert np.array([tick.active for tick in ticks]).T.tolist() == [[t < T for t in range(5)] for T in LENGTHS]


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
    assert all(np.array_equal(tick.active, seen) for tick, seen in zip(ticks, policy.seen, strict=True))


def test_a_vector_can_be_driven_again():
    env = vector()
    first, _ = returns(env, Script(), SEEDS)
    again, _ = returns(env, Script(), SEEDS)
    assert np.array_equal(first, again)
