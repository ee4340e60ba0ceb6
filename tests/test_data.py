"""Episodes in memory and on disk, and the batches drawn from them."""

from itertools import islice

import numpy as np
import pytest
import torch

from tests.tiny import TINY
from wmlib import data
from wmlib.checkpoint import save_weights
from wmlib.data import (
    EncodedEpisode,
    Episode,
    EpisodeStore,
    frame_batches,
    load_episode,
    load_episodes,
    sequence_batches,
)
from wmlib.run import Run


def episode(T=6, mark=0, seed=3, terminated=True, noise=False):
    """Frame t of an episode holds `mark` in its first byte and t in its second."""
    obs = (
        np.random.default_rng(mark).integers(0, 256, (T + 1, 64, 64, 3), np.uint8)
        if noise
        else np.zeros((T + 1, 64, 64, 3), np.uint8)
    )
    obs[:, 0, 0, 0], obs[:, 0, 0, 1] = mark, np.arange(T + 1)
    rng = np.random.default_rng(mark)
    return Episode(
        obs,
        rng.standard_normal((T, 3), np.float32),
        rng.standard_normal(T, np.float32),
        terminated,
        seed,
    )


def stored(episode):
    """What a file keeps of an episode, by name."""
    return {name: getattr(episode, name) for name in data.STORED[Episode]}


def store_of(folder, *lengths):
    store = EpisodeStore(folder)
    for index, T in enumerate(lengths):
        store.save(index, episode(T, mark=index))
    return store


def encoded(T, mark=0, terminated=False, logvar=-2000.0):
    """mu is 1000 x mark + t in both latents, action and reward half more; by default z is mu to the last bit."""
    t = 1000.0 * mark + np.arange(T + 1, dtype=np.float32)
    mu, half = np.repeat(t, 2).reshape(-1, 2), t[:-1] + np.float32(0.5)
    return EncodedEpisode(
        mu, np.full_like(mu, logvar), np.repeat(half, 3).reshape(-1, 3), half, terminated
    )


def encoded_store(folder, *episodes):
    store = EpisodeStore(folder, EncodedEpisode)
    for index, each in enumerate(episodes):
        store.save(index, each)
    return store.paths()


def marked(folder, *lengths, **about):
    return encoded_store(folder, *(encoded(T, mark, **about) for mark, T in enumerate(lengths)))


def test_an_episode_is_as_long_as_its_actions():
    assert len(episode(T=6)) == 6 and len(episode(T=6).obs) == 7


@pytest.mark.parametrize(
    "obs, action, reward", [(6, 6, 6), (8, 6, 6), (7, 6, 7), (7, 6, 5), (7, 7, 6)]
)
def test_an_episode_needs_one_more_observation_than_actions_and_rewards(obs, action, reward):
    with pytest.raises(ValueError, match=f"an episode of {action} actions needs"):
        Episode(
            np.zeros((obs, 64, 64, 3), np.uint8), np.zeros((action, 3)), np.zeros(reward), False, 0
        )


@pytest.mark.parametrize("terminated, seed", [(True, 0), (False, 59_999_999)])
def test_an_episode_comes_back_bit_for_bit(tmp_path, terminated, seed):
    kept = episode(T=4, terminated=terminated, seed=seed, noise=True)
    store = EpisodeStore(tmp_path / "episodes")
    store.save(12, kept)
    found = load_episode(store.path(12))
    for name in ("obs", "action", "reward"):
        one, other = getattr(kept, name), getattr(found, name)
        assert (
            one.dtype == other.dtype
            and one.tobytes() == other.tobytes()
            and one.shape == other.shape
        )
    assert found.terminated is terminated and found.seed == seed and type(found.seed) is int


def test_the_same_episode_is_the_same_file(tmp_path):
    one, other = EpisodeStore(tmp_path / "a"), EpisodeStore(tmp_path / "b")
    one.save(0, episode())
    other.save(0, episode())
    assert one.path(0).read_bytes() == other.path(0).read_bytes()


def test_episodes_are_listed_in_the_order_of_their_indices(tmp_path):
    store = EpisodeStore(tmp_path)
    for index in (10, 2, 0):
        store.save(index, episode(T=1))
    assert store.paths() == [store.path(0), store.path(2), store.path(10)]


def test_a_file_that_is_being_written_is_not_listed(tmp_path):
    store = store_of(tmp_path, 1)
    (tmp_path / ".000001.npz.77.tmp").write_bytes(b"half")
    assert store.paths() == [store.path(0)]


def test_an_empty_store_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no episodes.*wmlib collect"):
        EpisodeStore(tmp_path / "nowhere").paths()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_episode_is_named(tmp_path, keep):
    path = store_of(tmp_path, 3).path(0)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match="000000.npz is no whole episode.*collect"):
        load_episode(path)


@pytest.mark.parametrize("block", range(8))
def test_an_edited_byte_is_found_or_harmless(tmp_path, block):
    kept = episode(T=1)
    store = EpisodeStore(tmp_path)
    store.save(0, kept)
    path, content = store.path(0), store.path(0).read_bytes()
    for position in range(block, len(content), 24):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        )
        try:
            found = load_episode(path)
        except ValueError as error:
            assert "000000.npz" in str(error), f"byte {position}: {error}"
        else:
            assert np.array_equal(found.obs, kept.obs) and found.seed == kept.seed, (
                f"byte {position}"
            )


def test_an_archive_without_an_entry_is_named(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, obs=np.zeros(1))
    with pytest.raises(ValueError, match="000000.npz is no whole episode.*action"):
        load_episode(path)


def test_entries_that_do_not_fit_together_are_named(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, **stored(episode(T=3)) | {"reward": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="000000.npz"):
        load_episode(path)


def test_a_pickled_array_is_refused(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, **stored(episode(T=3)) | {"obs": np.array([None, {}], object)})
    with pytest.raises(ValueError, match="000000.npz is no whole episode"):
        load_episode(path)


def test_frame_batches_are_frames_of_the_episodes(tmp_path):
    paths = store_of(tmp_path, 3, 5).paths()
    batch = next(frame_batches(paths, 64, seed=0))
    assert batch.shape == (64, 64, 64, 3) and batch.dtype == np.uint8
    assert {(e, t) for e, t in batch[:, 0, 0, :2].tolist()} <= {
        (e, t) for e, T in ((0, 3), (1, 5)) for t in range(T + 1)
    }


def test_every_frame_of_every_episode_is_drawn(tmp_path):
    paths = store_of(tmp_path, 3, 5).paths()
    seen = {
        (e, t)
        for batch in islice(frame_batches(paths, 64, seed=0), 5)
        for e, t in batch[:, 0, 0, :2].tolist()
    }
    assert len(seen) == 4 + 6


@pytest.mark.parametrize("first_step", [1, 5, 299, 300, 301, 603])
def test_frame_batches_resume_where_they_stopped(tmp_path, first_step):
    paths = store_of(tmp_path, *[1] * 34).paths()
    whole = list(islice(frame_batches(paths, 3, seed=1), 606))
    resumed = islice(frame_batches(paths, 3, seed=1, first_step=first_step), 3)
    assert all(
        np.array_equal(one, other) for one, other in zip(resumed, whole[first_step:], strict=False)
    )


def test_other_episodes_come_into_memory_after_a_while(tmp_path):
    paths = store_of(tmp_path, *[1] * 40).paths()
    batches = list(islice(frame_batches(paths, 400, seed=1), 299, 301))
    before, after = (set(batch[:, 0, 0, 0].tolist()) for batch in batches)
    assert len(before) == len(after) == 32 and before != after


def test_damaged_episodes_are_skipped_only_when_asked(tmp_path):
    paths = store_of(tmp_path, 3, 5, 4).paths()
    paths[1].write_bytes(b"nothing")
    with pytest.raises(ValueError, match="000001.npz.*--skip-damaged"):
        list(load_episodes(paths))
    with pytest.warns(UserWarning, match="skipped: .*000001.npz"):
        assert [len(found) for found in load_episodes(paths, skip_damaged=True)] == [3, 4]
    with pytest.warns(UserWarning):
        batch = next(frame_batches(paths, 64, seed=0, skip_damaged=True))
    assert set(batch[:, 0, 0, 0].tolist()) == {0, 2}
    with (
        pytest.raises(ValueError, match="all 1 episodes .* are damaged"),
        pytest.warns(UserWarning),
    ):
        next(frame_batches(paths[1:2], 64, seed=0, skip_damaged=True))


@pytest.mark.parametrize("other", [dict(seed=2), dict(first_step=1)])
def test_another_seed_or_step_gives_other_frames(tmp_path, other):
    paths = store_of(tmp_path, 20).paths()
    one = next(frame_batches(paths, 16, **dict(seed=1) | other))
    assert not np.array_equal(one, next(frame_batches(paths, 16, seed=1)))


def batches(paths, B=50, length=4, number=10, seed=0):
    return list(islice(sequence_batches(paths, B, length, seed), number))


def test_pieces_never_cross_an_episodes_end(tmp_path):
    for batch in batches(marked(tmp_path, 5, 3, 9, 4)):
        assert batch.z.shape == (50, 5, 2) and batch.action.shape == (50, 4, 3)
        for row in range(50):
            z = batch.z[row, : batch.mask[row].sum() + 1]
            assert (np.diff(z, axis=0) == 1).all() and (z // 1000 == z[0] // 1000).all()


def test_action_and_reward_stand_between_the_two_z_that_they_connect(tmp_path):
    for batch in batches(marked(tmp_path, 5, 3, 9, 4)):
        z = batch.z[:, :-1, 0][batch.mask]
        assert np.array_equal(batch.action[batch.mask], np.repeat(z[:, None] + 0.5, 3, axis=1))
        assert np.array_equal(batch.reward[batch.mask], z + 0.5)


def test_a_short_episode_is_a_piece_of_its_own_filled_up_with_zeros(tmp_path):
    (batch,) = batches(marked(tmp_path, 3, 9), number=1)
    short = batch.z[:, 0, 0] < 1000
    assert short.any() and batch.mask[short].tolist() == [[True, True, True, False]] * short.sum()
    assert batch.mask[~short].all()
    assert (
        not batch.z[short, 4:].any()
        and not batch.action[short, 3:].any()
        and not batch.reward[short, 3:].any()
    )


def test_a_batch_is_as_long_as_its_longest_piece(tmp_path):
    (batch,) = batches(marked(tmp_path, 3, 2), number=1)
    assert [part.shape[1] for part in batch] == [4, 3, 3, 3, 3]


@pytest.mark.parametrize("terminated", [True, False])
def test_only_the_step_that_ended_an_episode_is_marked_and_it_is_seen_often(tmp_path, terminated):
    length, T = 4, 40
    found = batches(marked(tmp_path, T, terminated=terminated), length=length)
    at_end = np.concatenate([batch.reward == T - 0.5 for batch in found])
    assert np.array_equal(
        np.concatenate([batch.terminated for batch in found]), at_end & terminated
    )
    share = at_end.any(
        axis=1
    ).mean()  # a window that must fit would show the end in one of 37 pieces
    assert share == pytest.approx(length / (T + length - 1), abs=0.04)


def test_the_end_of_a_short_episode_is_marked_before_the_filling(tmp_path):
    (batch,) = batches(marked(tmp_path, 2, terminated=True), length=9, number=1)
    assert (batch.terminated == [False, True]).all() and batch.mask.all()


def test_every_step_of_every_episode_is_drawn(tmp_path):
    seen = {
        value
        for batch in batches(marked(tmp_path, 5, 3, 40, 4), number=20)
        for value in batch.reward[batch.mask]
    }
    assert seen == {1000 * e + t + 0.5 for e, T in enumerate((5, 3, 40, 4)) for t in range(T)}


@pytest.mark.parametrize("first_step", [1, 7, 300, 304])
def test_sequence_batches_resume_where_they_stopped(tmp_path, first_step):
    paths = marked(tmp_path, *[4] * 260, logvar=0.0)
    whole = islice(sequence_batches(paths, 2, 3, seed=2), first_step, first_step + 2)
    for one, other in zip(
        islice(sequence_batches(paths, 2, 3, 2, first_step), 2), whole, strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_more_than_a_few_hundred_episodes_are_in_memory(tmp_path, monkeypatch):
    paths, opened = marked(tmp_path, *[1] * 300), []
    real = data.load_episode
    monkeypatch.setattr(
        data, "load_episode", lambda path, kind: opened.append(path) or real(path, kind)
    )
    before, after = islice(sequence_batches(paths, 400, 1, seed=0), 299, 301)
    assert len(set(opened[:256])) == 256 and len(opened) == 512
    assert set(before.z[:, 0, 0]) != set(after.z[:, 0, 0])


def test_z_is_drawn_around_mu_with_the_variance_that_v_gave(tmp_path):
    each = encoded(1000, logvar=np.log(4.0))
    each.mu[:] = 3
    z = np.concatenate(
        [batch.z.ravel() for batch in batches(encoded_store(tmp_path, each), 8, 200, 20)]
    )
    assert z.dtype == np.float32
    assert z.mean() == pytest.approx(3, abs=0.05) and z.var() == pytest.approx(4, rel=0.03)


def test_z_is_drawn_anew_for_every_batch(tmp_path):
    one, other = batches(marked(tmp_path, 4, logvar=0.0), B=1, number=2)
    assert not np.array_equal(one.z, other.z)


def test_an_encoded_episode_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    mu, logvar = rng.standard_normal((2, 5, 3), np.float32)
    action, reward = rng.standard_normal((4, 2), np.float32), rng.standard_normal(4, np.float32)
    kept = EncodedEpisode(mu, logvar, action, reward, True)
    found = load_episode(encoded_store(tmp_path, kept)[0], EncodedEpisode)
    assert found.terminated is True
    for name in ("mu", "logvar", "action", "reward"):
        one, other = getattr(kept, name), getattr(found, name)
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_latents_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="4 actions needs 5 logvar, got 4"):
        EncodedEpisode(np.zeros((5, 2)), np.zeros((4, 2)), np.zeros((4, 3)), np.zeros(4), False)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_latents_are_named_with_the_command_that_makes_them_anew(tmp_path, keep):
    path = marked(tmp_path, 5)[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match="000000.npz is no whole episode.*train-mdnrnn again"):
        next(sequence_batches([path], 1, 1, seed=0))


def test_an_empty_store_of_latents_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no episodes.*wmlib train-mdnrnn"):
        EpisodeStore(tmp_path, EncodedEpisode).paths()


def with_v(folder, value):
    save_weights(folder / "vae", {"weights": torch.full((2,), value)}, {})
    return Run(folder, TINY)


def with_latents(folder):
    run = with_v(folder, 1.0)
    run.bind_latents()
    run.latents.save(0, encoded(3))
    return run


def test_latents_are_bound_to_the_v_that_made_them(tmp_path):
    run = with_latents(tmp_path)
    assert len(run.latents.paths()) == 1
    with_v(tmp_path, 2.0)
    odd = f"{tmp_path / 'latents'} belongs to another V.*{run.command('train-mdnrnn')} again"
    with pytest.raises(ValueError, match=odd):
        _ = run.latents


def test_an_m_of_another_v_is_refused_where_its_latents_are_gone(tmp_path):
    run = with_v(tmp_path, 1.0)
    save_weights(tmp_path / "mdnrnn", {}, {"vae_sha256": run.weights_hash("vae")})
    run.check_memory()
    with_v(tmp_path, 2.0)
    with pytest.raises(ValueError, match="mdnrnn belongs to another V.*train-mdnrnn"):
        run.check_memory()


def test_an_older_m_that_does_not_say_whose_codes_it_knows_is_taken(tmp_path):
    run = with_v(tmp_path, 1.0)
    save_weights(tmp_path / "mdnrnn", {}, {})
    run.check_memory()


def test_latents_of_nobody_knows_which_v_are_refused(tmp_path):
    run = with_latents(tmp_path)
    (tmp_path / "latents" / "meta.json").unlink()
    with pytest.raises(ValueError, match="another V"):
        _ = run.latents


def test_to_look_at_latents_makes_nothing(tmp_path):
    run = with_v(tmp_path, 1.0)
    assert run.latents.find() == [] and not (tmp_path / "latents").exists()


def test_an_episode_says_who_drove_it_and_an_older_file_that_nobody_knows(tmp_path):
    store = EpisodeStore(tmp_path)
    kept = episode(T=2)
    kept.driver = "brownian"
    store.save(0, kept)
    assert load_episode(store.path(0)).driver == "brownian"
    older = {name: value for name, value in stored(kept).items() if name != "driver"}
    np.savez(store.path(1), **older)
    assert load_episode(store.path(1)).driver == ""


def test_what_only_pictures_need_is_not_stored(tmp_path):
    store = EpisodeStore(tmp_path)
    kept = episode(T=2)
    kept.z, kept.telemetry = np.zeros((2, 4)), {"speed": np.zeros(3)}
    store.save(0, kept)
    with np.load(store.path(0)) as file:
        assert set(file) == set(data.STORED[Episode])
    found = load_episode(store.path(0))
    assert found.z is None and found.telemetry == {}
