"""Episodes in memory and on disk, and the batches drawn from them."""

from itertools import islice

import numpy as np
import pytest

from wmlib.data import Episode, EpisodeStore, Latents, frame_batches, load_episode, load_episodes, sequence_batches


def episode(T=6, mark=0, seed=3, terminated=True, noise=False):
    """Frame t of an episode holds `mark` in its first byte and t in its second."""
    obs = np.random.default_rng(mark).integers(0, 256, (T + 1, 64, 64, 3), np.uint8) if noise else np.zeros((T + 1, 64, 64, 3), np.uint8)
    obs[:, 0, 0, 0], obs[:, 0, 0, 1] = mark, np.arange(T + 1)
    rng = np.random.default_rng(mark)
    return Episode(obs, rng.standard_normal((T, 3), np.float32), rng.standard_normal(T, np.float32), terminated, seed)


def store_of(folder, *lengths):
    store = EpisodeStore(folder)
    for index, T in enumerate(lengths):
        store.save(index, episode(T, mark=index))
    return store


def marked_latents(*lengths):
    """mu is 1000 x episode + t in every latent, the action is 1000 x episode + t + 0.5, and nothing is drawn around mu."""
    mu = [np.repeat(1000.0 * e + np.arange(T + 1), 2).reshape(-1, 2).astype(np.float32) for e, T in enumerate(lengths)]
    action = [np.repeat(1000.0 * e + np.arange(T) + 0.5, 3).reshape(-1, 3).astype(np.float32) for e, T in enumerate(lengths)]
    return Latents(mu, [np.full_like(m, -2000.0) for m in mu], action)


def test_an_episode_is_as_long_as_its_actions():
    assert len(episode(T=6)) == 6 and len(episode(T=6).obs) == 7


@pytest.mark.parametrize("obs, action, reward", [(6, 6, 6), (8, 6, 6), (7, 6, 7), (7, 6, 5), (7, 7, 6)])
def test_an_episode_needs_one_more_observation_than_actions_and_rewards(obs, action, reward):
    with pytest.raises(ValueError, match=f"{action} actions needs {action + 1} observations"):
        Episode(np.zeros((obs, 64, 64, 3), np.uint8), np.zeros((action, 3)), np.zeros(reward), False, 0)


@pytest.mark.parametrize("terminated, seed", [(True, 0), (False, 59_999_999)])
def test_an_episode_comes_back_bit_for_bit(tmp_path, terminated, seed):
    kept = episode(T=4, terminated=terminated, seed=seed, noise=True)
    store = EpisodeStore(tmp_path / "episodes")
    store.save(12, kept)
    found = load_episode(store.path(12))
    for name in ("obs", "action", "reward"):
        one, other = getattr(kept, name), getattr(found, name)
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes() and one.shape == other.shape
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
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            found = load_episode(path)
        except ValueError as error:
            assert "000000.npz" in str(error), f"byte {position}: {error}"
        else:
            assert np.array_equal(found.obs, kept.obs) and found.seed == kept.seed, f"byte {position}"


def test_an_archive_without_an_entry_is_named(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, obs=np.zeros(1))
    with pytest.raises(ValueError, match="000000.npz is no whole episode.*action"):
        load_episode(path)


def test_entries_that_do_not_fit_together_are_named(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, **vars(episode(T=3)) | {"reward": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="000000.npz"):
        load_episode(path)


def test_a_pickled_array_is_refused(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, **vars(episode(T=3)) | {"obs": np.array([None, {}], object)})
    with pytest.raises(ValueError, match="000000.npz is no whole episode"):
        load_episode(path)


def test_frame_batches_are_frames_of_the_episodes(tmp_path):
    paths = store_of(tmp_path, 3, 5).paths()
    batch = next(frame_batches(paths, 64, seed=0))
    assert batch.shape == (64, 64, 64, 3) and batch.dtype == np.uint8
    assert {(e, t) for e, t in batch[:, 0, 0, :2].tolist()} <= {(e, t) for e, T in ((0, 3), (1, 5)) for t in range(T + 1)}


def test_every_frame_of_every_episode_is_drawn(tmp_path):
    paths = store_of(tmp_path, 3, 5).paths()
    seen = {(e, t) for batch in islice(frame_batches(paths, 64, seed=0), 5) for e, t in batch[:, 0, 0, :2].tolist()}
    assert len(seen) == 4 + 6


@pytest.mark.parametrize("first_step", [1, 5, 299, 300, 301, 603])
def test_frame_batches_resume_where_they_stopped(tmp_path, first_step):
    paths = store_of(tmp_path, *[1] * 34).paths()
    whole = list(islice(frame_batches(paths, 3, seed=1), 606))
    resumed = islice(frame_batches(paths, 3, seed=1, first_step=first_step), 3)
    assert all(np.array_equal(one, other) for one, other in zip(resumed, whole[first_step:], strict=False))


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
    with pytest.raises(ValueError, match="all 1 episodes .* are damaged"), pytest.warns(UserWarning):
        next(frame_batches(paths[1:2], 64, seed=0, skip_damaged=True))


@pytest.mark.parametrize("other", [dict(seed=2), dict(first_step=1)])
def test_another_seed_or_step_gives_other_frames(tmp_path, other):
    paths = store_of(tmp_path, 20).paths()
    one = next(frame_batches(paths, 16, **dict(seed=1) | other))
    assert not np.array_equal(one, next(frame_batches(paths, 16, seed=1)))


def test_pieces_never_cross_an_episodes_end():
    for z, action in islice(sequence_batches(marked_latents(5, 3, 9, 4), 50, 4, seed=0), 10):
        assert z.shape == (50, 5, 2) and action.shape == (50, 4, 3)
        assert (np.diff(z, axis=1) == 1).all()
        assert (z // 1000 == z[:, :1] // 1000).all()


def test_an_action_stands_between_the_two_z_that_it_connects():
    z, action = next(sequence_batches(marked_latents(5, 3, 9, 4), 50, 4, seed=0))
    assert np.array_equal(action, np.repeat(z[:, :-1, :1] + 0.5, 3, axis=-1))
    assert np.array_equal(action, np.repeat(z[:, 1:, :1] - 0.5, 3, axis=-1))


def test_every_piece_that_fits_is_drawn_equally_often():
    draws = np.concatenate([z[:, 0, 0] for z, _ in islice(sequence_batches(marked_latents(5, 3, 6, 4), 200, 4, seed=0), 30)])
    starts, counts = np.unique(draws, return_counts=True)
    assert starts.tolist() == [0, 1, 2000, 2001, 2002, 3000]
    assert (abs(counts - 1000) < 150).all()


def test_a_piece_may_be_a_whole_episode():
    z, action = next(sequence_batches(marked_latents(4), 3, 4, seed=0))
    assert (z[:, :, 0] == np.arange(5)).all() and (action[:, :, 0] == np.arange(4) + 0.5).all()


@pytest.mark.parametrize("lengths", [(3,), (3, 1, 2)])
def test_too_short_episodes_are_an_error_that_names_the_longest(lengths):
    with pytest.raises(ValueError, match="no episode has 4 steps; the longest has 3"):
        next(sequence_batches(marked_latents(*lengths), 2, 4, seed=0))


@pytest.mark.parametrize("first_step", [1, 7])
def test_sequence_batches_resume_where_they_stopped(first_step):
    latents = marked_latents(9, 12)
    latents.logvar = [np.zeros_like(mu) for mu in latents.mu]
    whole = list(islice(sequence_batches(latents, 4, 5, seed=2), 10))
    for one, other in zip(sequence_batches(latents, 4, 5, seed=2, first_step=first_step), whole[first_step:]):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_z_is_drawn_around_mu_with_the_variance_that_v_gave():
    latents = Latents([np.full((1001, 2), 3.0, np.float32)], [np.full((1001, 2), np.log(4.0), np.float32)], [np.zeros((1000, 3), np.float32)])
    z = np.concatenate([z.ravel() for z, _ in islice(sequence_batches(latents, 8, 200, seed=0), 20)])
    assert z.dtype == np.float32
    assert z.mean() == pytest.approx(3, abs=0.05) and z.var() == pytest.approx(4, rel=0.03)


def test_z_is_drawn_anew_for_every_batch():
    latents = marked_latents(4)
    latents.logvar = [np.zeros_like(mu) for mu in latents.mu]
    one, other = (z for z, _ in islice(sequence_batches(latents, 1, 4, seed=0), 2))
    assert not np.array_equal(one, other)


def test_latents_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    lengths = (4, 1, 7)
    mu, logvar = ([rng.standard_normal((T + 1, 3), np.float32) for T in lengths] for _ in range(2))
    kept = Latents(mu, logvar, [rng.standard_normal((T, 2), np.float32) for T in lengths])
    kept.save(tmp_path / "latents.npz")
    found = Latents.load(tmp_path / "latents.npz")
    for name in ("mu", "logvar", "action"):
        pairs = list(zip(getattr(kept, name), getattr(found, name), strict=True))
        assert all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_latents_are_named(tmp_path, keep):
    path = tmp_path / "latents.npz"
    marked_latents(5, 3).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match="latents.npz is damaged.*train-mdnrnn"):
        Latents.load(path)


def test_edited_latents_are_named(tmp_path):
    path = tmp_path / "latents.npz"
    marked_latents(5, 3).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(1003).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="latents.npz is damaged"):
        Latents.load(path)
