"""The lock-step contract of DESIGN.md, for the real vector and for the dream."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from fakes import Counter, CounterOf, tiny_models
from wmlib.dream import DreamEnv
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv

STILL = np.zeros((3, 3), np.float32)


def real(max_steps=4):
    return VectorEnv(CounterOf(100, 100, 100), 3, max_steps)


def dream(max_steps=4):
    return DreamEnv(
        *tiny_models(),
        np.random.default_rng(0).standard_normal((5, 4)),
        num_envs=3,
        task=CAR_RACING,
        max_steps=max_steps,
    )


@pytest.fixture(params=[real, dream])
def make(request):
    return request.param


def finished(make, resets=()):
    """A vector of three in which all have finished but those in `resets`, which have just begun again."""
    env = make()
    env.reset(seed=0)
    for _ in range(4):
        env.step(STILL)
    if resets:
        env.reset(options={"reset_mask": np.isin(np.arange(3), resets)})
    return env


def test_the_vector_is_gymnasiums_and_says_that_it_does_not_reset_itself(make):
    env = make()
    assert isinstance(env, gym.vector.VectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    assert env.num_envs == 3


def test_spaces_are_the_single_ones_stacked(make):
    env = make()
    assert env.observation_space.shape == (3, *env.single_observation_space.shape)
    assert env.action_space.shape == (3, *env.single_action_space.shape) == (3, 3)


def test_reset_and_step_give_what_gymnasium_promises(make):
    env = make()
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs) and isinstance(info, dict)
    obs, reward, terminated, truncated, info = env.step(STILL)
    assert env.observation_space.contains(obs) and isinstance(info, dict)
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert terminated.dtype == truncated.dtype == bool


def test_every_copy_is_truncated_at_max_steps_and_not_before(make):
    env = make()
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(4)]
    assert [truncated.tolist() for _, truncated in ends] == [[False] * 3] * 3 + [[True] * 3]
    assert not any(terminated.any() for terminated, _ in ends)


def test_a_finished_copy_repeats_its_observation_and_pays_nothing(make):
    env = finished(make)
    last = env.step(STILL)[0]
    obs, reward, _, truncated, _ = env.step(STILL + 0.5)
    assert np.array_equal(obs, last) and not reward.any() and truncated.all()


def test_running_copies_move_on_beside_finished_ones(make):
    env = finished(make, resets=[1])
    before = env.step(STILL)[0]
    obs, _, _, truncated, _ = env.step(STILL)
    assert (obs != before).any(axis=1).tolist() == [False, True, False]
    assert truncated.tolist() == [True, False, True]


def test_a_reset_mask_resets_those_and_no_others(make):
    env = make()
    env.reset(seed=0)
    env.step(STILL)
    before = env.step(STILL)[0]
    obs, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert (obs != before).any(axis=1).tolist() == [False, True, False]
    ends = [env.step(STILL)[3].tolist() for _ in range(4)]
    assert ends == [[False] * 3, [True, False, True], [True, False, True], [True] * 3]


def test_nothing_runs_before_the_first_reset(make):
    env = make()
    obs, reward, _, truncated, _ = env.step(STILL)
    assert truncated.all() and not reward.any() and not obs.any()


def test_what_was_returned_does_not_change_afterwards(make):
    env = make()
    kept = [env.reset(seed=0)[0]]
    for _ in range(5):
        kept += env.step(STILL)[:4]
    copies = [array.copy() for array in kept]
    env.reset()
    env.step(STILL)
    assert all(np.array_equal(one, other) for one, other in zip(kept, copies))


BAD_ACTIONS = {
    "NaN": np.full((3, 3), np.nan, np.float32),
    "one NaN": np.where(np.eye(3), np.nan, 0),
    "infinite": np.where(np.eye(3), np.inf, 0),
    "too few rows": np.zeros((2, 3)),
    "too many columns": np.zeros((3, 4)),
    "one action for all": np.zeros(3),
    "one axis too many": np.zeros((1, 3, 3)),
}


@pytest.mark.parametrize("actions", BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_bad_actions_are_refused_before_anything_moves(make, actions):
    env, twin = make(), make()
    for each in (env, twin):
        each.reset(seed=0)
        each.step(STILL)
    with pytest.raises(ValueError, match=r"actions must be finite numbers of shape \(3, 3\)"):
        env.step(actions)
    for one, other in zip(env.step(STILL)[:4], twin.step(STILL)[:4]):
        assert np.array_equal(one, other)


def test_a_list_of_seeds_of_another_length_is_refused(make):
    with pytest.raises(
        ValueError, match="3 environments got 2 seeds and a reset mask of 3; expected 3 of each"
    ):
        make().reset(seed=[1, 2])


@pytest.mark.parametrize("kind", [int, np.int64])
def test_one_seed_counts_upwards_as_a_list_would(make, kind):
    one, other = make(), make()
    assert np.array_equal(
        one.reset(seed=kind(7))[0], other.reset(seed=np.array([7, 8, 9], kind))[0]
    )
    assert np.array_equal(one.step(STILL)[0], other.step(STILL)[0])


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_reset_mask_of_another_length_is_refused_and_resets_nothing(make, length):
    env, twin = make(), make()
    for each in (env, twin):
        each.reset(seed=0)
        each.step(STILL)
    with pytest.raises(ValueError, match=f"mask of {length}"):
        env.reset(options={"reset_mask": np.ones(length, bool)})
    for _ in range(3):
        for one, other in zip(env.step(STILL)[:4], twin.step(STILL)[:4]):
            assert np.array_equal(one, other)


def test_options_without_a_mask_reset_everything(make):
    env = make()
    env.reset(seed=0)
    env.step(STILL)
    env.reset(options={"track": "long"})
    assert [env.step(STILL)[3].any() for _ in range(4)] == [False, False, False, True]


def test_each_copy_gets_its_own_seed():
    obs, _ = real().reset(seed=[7, 3, 9])
    assert obs.tolist() == [[7, 0], [3, 0], [9, 0]]


def test_seeds_reach_gymnasium_as_plain_integers():
    env = VectorEnv(lambda: gym.make("CarRacing-v3", disable_env_checker=True), 1, 4)
    assert (
        env.reset(seed=np.array([3]))[0].shape
        == env.reset(seed=np.int64(3))[0].shape
        == (1, 96, 96, 3)
    )


def test_no_seed_leaves_each_copy_its_own():
    env = real()
    env.reset(seed=[7, 3, 9])
    assert env.reset()[0][:, 0].tolist() == [7, 3, 9]


def test_a_masked_reset_gives_each_copy_the_seed_at_its_place():
    env = real()
    env.reset(seed=[7, 3, 9])
    obs, _ = env.reset(seed=[0, 50, 60], options={"reset_mask": [False, True, True]})
    assert obs[:, 0].tolist() == [7, 50, 60]


def test_too_few_seeds_are_refused_and_nothing_is_reset():
    env = real()
    with pytest.raises(ValueError, match="3 environments got 2 seeds"):
        env.reset(seed=[1, 2])
    assert [copy.resets for copy in env.envs] == [0, 0, 0]


def test_copies_that_terminate_stop_at_their_own_step():
    env = VectorEnv(CounterOf(2, 100, 3), 3, 4)
    env.reset(seed=0)
    ends = [tuple(part.tolist() for part in env.step(STILL)[1:4]) for _ in range(4)]
    assert [reward for reward, _, _ in ends] == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 1, 0]]
    assert [terminated for _, terminated, _ in ends] == [
        [False] * 3,
        [True, False, False],
        [True, False, True],
        [True, False, True],
    ]
    assert ends[-1][2] == [False, True, False]


def test_a_finished_copy_never_sees_its_action():
    env = VectorEnv(CounterOf(2, 100, 3), 3, 4)
    env.reset(seed=0)
    for tick in range(4):
        env.step(STILL + tick / 8)
    assert [len(copy.actions) for copy in env.envs] == [2, 4, 3]
    assert [action[0] for copy in env.envs for action in copy.actions] == [
        0,
        1 / 8,
        0,
        1 / 8,
        2 / 8,
        3 / 8,
        0,
        1 / 8,
        2 / 8,
    ]


def test_termination_at_the_limit_counts_as_termination_alone():
    env = VectorEnv(CounterOf(4), 1, 4)
    env.reset(seed=0)
    for _ in range(4):
        _, _, terminated, truncated, _ = env.step(STILL[:1])
    assert terminated.all() and not truncated.any()


class Paying(Counter):
    """Pays one in the steps that it is told, else a little less than nothing."""

    def __init__(self, *steps):
        super().__init__(100)
        self.paid = steps

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 1.0 if self.count in self.paid else -0.1, terminated, truncated, info


@pytest.mark.parametrize("paid, length", [((), 3), ((1,), 4), ((2, 4), 7), ((3,), 6), ((4,), 3)])
def test_patience_ends_an_episode_after_that_many_steps_without_reward(paid, length):
    env = VectorEnv(lambda: Paying(*paid), 1, 50, patience=3)
    env.reset(seed=0)
    steps = 1
    while not env.step(STILL[:1])[3].any():
        steps += 1
    assert steps == length


def test_only_what_patience_cut_is_stalled():
    env = VectorEnv(
        MakeOneAfterTheOther(Paying(), Cut(100), Counter(2), Paying(1, 2, 3)), 4, 4, patience=3
    )
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros((4, 3)))
    assert env.stalled.tolist() == [True, False, False, False] and env.truncated.tolist() == [
        True,
        True,
        False,
        True,
    ]
    env.reset(seed=0)
    assert not env.stalled.any()


class MakeOneAfterTheOther:
    def __init__(self, *envs):
        self.envs = iter(envs)

    def __call__(self):
        return next(self.envs)


def test_patience_begins_anew_with_every_episode():
    env = VectorEnv(lambda: Paying(), 1, 50, patience=3)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(STILL[:1])[3].item() for _ in range(3)] == [False, False, True]


def test_without_patience_only_the_limit_ends_an_episode():
    env = VectorEnv(lambda: Paying(), 1, 6)
    env.reset(seed=0)
    assert [env.step(STILL[:1])[3].item() for _ in range(6)] == [False] * 5 + [True]


class Cut(Counter):
    """Truncates itself after two steps."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, self.count >= 2, info


def test_a_copys_own_truncation_counts():
    env = VectorEnv(lambda: Cut(100), 1, 6)
    env.reset(seed=0)
    assert [env.step(STILL[:1])[3].item() for _ in range(3)] == [False, True, True]
    assert len(env.envs[0].actions) == 2


def test_close_closes_every_copy():
    env = real()
    env.close()
    assert all(copy.closed for copy in env.envs)
