"""Dreams by other Ms than the agent's, each by one of them, and dreams with dropout."""

import numpy as np
import pytest
import torch

from fakes import dreamers, tiny_models
from wmlib.dream import DreamEnv
from wmlib.envs.car_racing import CAR_RACING
from wmlib.mdnrnn import MDNRNN, place_noise

FIRST_Z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
CLOSE = dict(rtol=1e-4, atol=1e-5)


def dream(num_envs, memories=(), **settings):
    settings = dict(task=CAR_RACING, max_steps=6, dreamers=memories) | settings
    return DreamEnv(*tiny_models(), FIRST_Z, num_envs, **settings)


def scripted(num_envs, steps=6):
    return np.random.default_rng(1).uniform(0, 1, (steps, num_envs, 3)).astype(np.float32)


def run(env, seeds, actions):
    """z (T+1, B, Z) and the reward (T, B) of dreams under these actions (T, B, A)."""
    z, rewards = [env.reset(seed=seeds)[0]], []
    for action in actions:
        obs, reward, *_ = env.step(action)
        z.append(obs)
        rewards.append(reward)
    return np.stack(z), np.stack(rewards)


def test_each_dream_is_one_dreamers_for_its_whole_length_and_c_reads_the_agents_own_m():
    memories, seeds, actions = dreamers(), [5, 6, 7, 8, 9, 10], scripted(6)
    env = dream(6, memories, temperature=0.8)
    z, reward = run(env, seeds, actions)
    assert set(env.dreamer) == {0, 1}
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        start, index = rng.integers(5), rng.integers(2)
        alone = DreamEnv(
            env.vae, memories[index], FIRST_Z, task=CAR_RACING, temperature=0.8, max_steps=6
        )
        alone.reset(options={"start": [start]})
        alone.noise[0] = rng
        for t, action in enumerate(actions[:, i]):
            obs, paid, *_ = alone.step(action[None])
            np.testing.assert_allclose(z[t + 1, i], obs[0], **CLOSE)
            np.testing.assert_allclose(reward[t, i], paid[0], **CLOSE)
    assert reward.all()
    parts = (torch.from_numpy(part).transpose(0, 1) for part in (z[:-1], actions))
    with torch.no_grad():
        expected = env.mdnrnn.memory(*parts)[1]
    torch.testing.assert_close(env.state, expected, **CLOSE)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_same_seed_gives_the_same_dream_whoever_dreams_beside_it(dropout):
    actions = scripted(5)
    env = dream(5, dreamers(), dropout=dropout)
    z, reward = run(env, [5, 6, 7, 8, 9], actions)
    for i in range(5):
        beside = dream(2, dreamers(), dropout=dropout)
        other = run(beside, [40 + i, 5 + i], actions[:, [0, i]])
        assert beside.dreamer[1] == env.dreamer[i]
        np.testing.assert_allclose(other[0][:, 1], z[:, i], **CLOSE)
        np.testing.assert_allclose(other[1][:, 1], reward[:, i], **CLOSE)


def test_a_dream_that_begins_anew_leaves_the_others_their_dreamers_and_memories():
    actions, memories = scripted(4, 8), dreamers()
    env, twin = (dream(4, memories, max_steps=8) for _ in range(2))
    for each in (env, twin):
        run(each, [5, 6, 7, 8], actions[:4])
    env.reset(seed=[None, 60, None, None], options={"reset_mask": [False, True, False, False]})
    for action in actions[4:]:
        one, other = (each.step(action)[0] for each in (env, twin))
        np.testing.assert_allclose(np.delete(one, 1, 0), np.delete(other, 1, 0), **CLOSE)
        assert not np.array_equal(one[1], other[1])


def test_a_dreamer_begins_with_its_own_memory_of_the_place():
    memories, rows = dreamers(), torch.arange(5.0)[:, None]
    states = [tuple((rows + 10 * k).expand(5, 8) for _ in "hc") for k in range(2)]
    env = dream(6, memories, dreamer_states=states)
    env.reset(seed=[5, 6, 7, 8, 9, 10], options={"start": [0, 1, 2, 3, 4, 0]})
    expected = np.array([0, 1, 2, 3, 4, 0]) + 10 * env.dreamer
    assert [part[:, 3].tolist() for part in env.dreamer_state] == [expected.tolist()] * 2
    assert not env.state[0].any()


def test_dreamers_of_unlike_sizes_are_refused():
    with pytest.raises(
        ValueError, match=r"all dreamers must have the same number of units, got \[6, 8\]"
    ):
        dream(2, [*dreamers(1), *dreamers(1, hidden_size=6)])
    with pytest.raises(ValueError, match="V has 4 latents, M 5 and first_z 4"):
        dream(2, [MDNRNN(5, 3, 8, 2)])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_hides_a_share_of_h_from_what_m_says_and_from_nothing_else(dropout):
    env, actions = dream(3, dropout=dropout), scripted(3)
    z, _ = run(env, [5, 6, 7], actions)
    parts = [torch.from_numpy(part).transpose(0, 1) for part in (z[:-1], actions)]
    with torch.no_grad():
        h, state = env.mdnrnn.memory(*parts)
        torch.testing.assert_close(env.state, state, **CLOSE)
        for i, seed in enumerate([5, 6, 7]):
            rng = np.random.default_rng(seed)
            rng.integers(5)
            for t in range(6):
                uniform, normal = rng.random(4, np.float32), rng.standard_normal(4, np.float32)
                keep = torch.ones(6)
                if dropout:  # no noise is spent where there is none
                    keep = torch.from_numpy(rng.random(6, np.float32) >= dropout) / (1 - dropout)
                mixture = env.mdnrnn.mixture((h[i, t] * keep)[None, None])
                noise = (torch.from_numpy(part)[None, None] for part in (uniform, normal))
                np.testing.assert_allclose(z[t + 1, i], place_noise(mixture, *noise)[0, 0], **CLOSE)


def test_no_dropout_changes_nothing_and_some_changes_the_dream():
    usual, none, some = (
        run(dream(3, **settings), [5, 6, 7], scripted(3))[0]
        for settings in ({}, {"dropout": 0.0}, {"dropout": 0.3})
    )
    assert np.array_equal(usual, none) and not np.allclose(usual[1:], some[1:], atol=1e-3)
