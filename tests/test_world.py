"""Worlds: one protocol, awake and asleep, and the places where dreams begin."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fakes import dreamers, tiny_models
from tests.tiny import TINY
from wmlib import evolve, parallel, world
from wmlib.agent import Agent, new_models
from wmlib.checkpoint import save_weights, write_json
from wmlib.config import DreamConfig, OutcomeConfig
from wmlib.config_json import to_dict
from wmlib.controller import Controller
from wmlib.data import EncodedEpisode, Episode, EpisodeStore, load_episode
from wmlib.envs.car_racing import CAR_RACING
from wmlib.rollout import record
from wmlib.run import Run, claim_run
from wmlib.world import Starts, draw_starts, open_world, run_starts

FIRST_Z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def pilot(reads="mu h", z_size=4):
    torch.manual_seed(4)
    controller = Controller(z_size + 6, 3)
    params = torch.randn(controller.num_params)
    return Agent(*tiny_models(z_size), controller, params, CAR_RACING, reads, driver="pilot")


# --- the protocol -------------------------------------------------------------------------------


def open_one(kind, num_envs=2, patience=None):
    settings = replace(TINY.evolve, world=kind, max_steps=4, patience=patience)
    agent = pilot()
    starts = Starts(torch.from_numpy(FIRST_Z), [agent.mdnrnn.initial_state(5)])
    return open_world(agent, settings, num_envs, starts)


both = pytest.mark.parametrize("kind", ["real", "dream"])


@both
def test_both_worlds_have_all_that_candidates_ask_for(kind):
    env, policy = open_one(kind)
    assert (env.num_envs, env.max_steps, policy.driver) == (2, 4, "pilot")
    assert env.stalled.shape == (2,) and env.stalled.dtype == bool and not env.stalled.any()
    obs, info = env.reset(seed=[3, 4])
    action, _ = policy.act(obs, policy.initial_state(2, 0), np.ones(2, bool))
    after, reward, terminated, truncated, _ = env.step(action)
    assert after.shape == obs.shape and isinstance(info, dict)
    assert reward.shape == terminated.shape == truncated.shape == (2,)
    seen = env.view()["obs"]
    assert seen.shape == (2, 64, 64, 3) and seen.dtype == np.uint8


@both
def test_in_both_worlds_the_limit_may_change_and_nothing_happens_after_an_end(kind):
    env, _ = open_one(kind)
    env.max_steps = 2
    env.reset(seed=[3, 4])
    still = np.zeros((2, 3), np.float32)
    assert not env.step(still)[3].any()
    last, _, _, truncated, _ = env.step(still)
    obs, reward, _, again, _ = env.step(still + 1)
    assert truncated.all() and again.all() and not reward.any() and not env.stalled.any()
    assert np.array_equal(obs, last)


@both
def test_in_both_worlds_an_episode_is_recorded_with_what_there_was_to_see(kind):
    episode = record(*open_one(kind, num_envs=1), 3)
    assert episode.obs.shape == (5, 64, 64, 3) and episode.h.shape == (5, 6)
    assert (len(episode), episode.driver) == (4, "pilot")


def test_patience_stalls_a_real_episode_and_no_dream():
    for kind, stalls in (("real", True), ("dream", False)):
        env, _ = open_one(kind, patience=1)
        env.reset(seed=[3, 4])
        for _ in range(4):
            env.step(np.float32([[0, 0, 1], [0, 0, 1]]))
        assert env.stalled.tolist() == [stalls, stalls]


def test_a_dream_needs_places_to_begin():
    settings = replace(TINY.evolve, world="dream")
    with pytest.raises(ValueError, match="needs an agent with an M and places to begin"):
        open_world(pilot(), settings, 2)


# --- where dreams begin -------------------------------------------------------------------------


def encoded(T, rng, logvar=-2000.0):
    """An episode with other codes at every step; by default z is mu to the last bit."""
    mu = rng.standard_normal((T + 1, 4)).astype(np.float32)
    action = rng.uniform(0, 1, (T, 3)).astype(np.float32)
    reward = np.zeros(T, np.float32)
    return EncodedEpisode(mu, np.full_like(mu, logvar), action, reward, False)


def stored(folder, lengths=(6, 9, 4), logvar=-2000.0):
    store, rng = EpisodeStore(folder, EncodedEpisode), np.random.default_rng(3)
    for index, T in enumerate(lengths):
        store.save(index, encoded(T, rng, logvar))
    return store.paths()


def test_dreams_begin_where_the_stored_episodes_do(tmp_path):
    paths = stored(tmp_path, logvar=-6.0)
    firsts = np.stack([load_episode(path, EncodedEpisode).mu[0] for path in paths])
    starts = draw_starts(pilot(reads="mu h"), [], paths, 1_000, moments=False)
    assert np.array_equal(starts.z, firsts) and not any(part.any() for part in starts.states[0])
    assert len(draw_starts(pilot(), [], paths, 2, moments=False).z) == 2
    around = draw_starts(pilot(reads="z h"), [], paths, 3, moments=False).z.numpy() - firsts
    assert around.all() and (abs(around) < 5 * np.exp(-3)).all()


@pytest.mark.parametrize("reads", ["mu h", "z h"])
def test_dreams_begin_at_random_moments_with_every_ms_memory_of_what_came_before(tmp_path, reads):
    paths, agent, memories = stored(tmp_path), pilot(reads), dreamers()
    starts = draw_starts(agent, memories, paths, 20, moments=True)
    assert len(starts.z) == 20 and len(starts.states) == 3
    begun = []
    for place in range(20):
        episode = load_episode(paths[place % 3], EncodedEpisode)  # each episode in turn
        (t,) = np.flatnonzero((episode.mu == starts.z[place].numpy()).all(axis=1))
        assert t < len(episode)
        begun.append((place % 3, t))
        for mdnrnn, found in zip([agent.mdnrnn, *memories], starts.states, strict=True):
            state = mdnrnn.initial_state(1)
            for step in range(t):
                z, action = (
                    torch.from_numpy(part[step])[None, None]
                    for part in (episode.mu, episode.action)
                )
                with torch.no_grad():
                    _, state = mdnrnn.memory(z, action, state)
            for part, expected in zip(found, state, strict=True):
                torch.testing.assert_close(part[place], expected[0])
    assert len(set(begun)) > 10


def test_latents_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="000000.npz has 4 latents, V has 5"):
        draw_starts(pilot(z_size=5), [], stored(tmp_path), 3, moments=False)


def test_an_agent_without_m_cannot_dream(tmp_path):
    vae, _ = tiny_models()
    agent = Agent(vae, None, Controller(4, 3), torch.zeros(15), CAR_RACING, reads="z")
    with pytest.raises(ValueError, match="without M can't dream"):
        draw_starts(agent, [], stored(tmp_path), 3, moments=False)


def test_without_an_encoded_episode_there_is_nowhere_to_begin():
    with pytest.raises(FileNotFoundError, match="no encoded episode.*wmlib train-mdnrnn"):
        draw_starts(pilot(), [], [], 3, moments=True)


DREAMING = replace(
    TINY,
    mdnrnn=replace(TINY.mdnrnn, outcome=OutcomeConfig()),
    evolve=replace(
        TINY.evolve, world="dream", dream=DreamConfig(begin="moments", starts=7, dreamers=1)
    ),
)


@pytest.fixture
def asleep(tmp_path):
    """A run with V, two Ms and encoded episodes, before its first dream."""
    made, rng = Run(tmp_path, DREAMING), np.random.default_rng(3)
    for seed, part in enumerate(["vae", *made.memories]):
        keep(made, part, seed)
    made.bind_latents()
    for index, T in enumerate([5, 8]):
        latents = encoded(T, rng)
        made.latents.save(index, latents)
        obs = np.zeros((T + 1, 64, 64, 3), np.uint8)
        made.episodes.save(index, Episode(obs, latents.action, latents.reward, False, 0))
    return made


def keep(made, part, seed):
    """Random weights for a part of a run."""
    torch.manual_seed(seed)
    vae, mdnrnn, _ = new_models(made.config)
    module = vae if part == "vae" else mdnrnn
    save_weights(made.folder / part, module.state_dict(), {})


def test_the_places_where_dreams_begin_are_drawn_once_and_then_read(asleep, monkeypatch):
    first = run_starts(asleep)
    assert first.z.shape == (7, 4) and [h.shape for h, _ in first.states] == [(7, 16)] * 2
    monkeypatch.setattr(world, "draw_starts", None)
    monkeypatch.setattr(world, "load_episode", None)
    again = run_starts(asleep)
    assert torch.equal(first.z, again.z)
    for one, other in zip(first.states, again.states, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("part", ["mdnrnn", "mdnrnn_1", "vae"])
def test_places_of_other_weights_are_refused(asleep, part):
    run_starts(asleep)
    keep(asleep, part, seed=77)
    with pytest.raises(ValueError, match="starts was made for other weights .*; delete it"):
        run_starts(asleep)


def test_damaged_places_are_refused(asleep):
    run_starts(asleep)
    path = asleep.part("starts") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="starts/weights.safetensors is truncated"):
        run_starts(asleep)


def test_a_kept_m_dreams_from_the_runs_own_episodes_too(asleep, tmp_path_factory, monkeypatch):
    write_json(asleep.folder / "config.json", to_dict(asleep.config))
    monkeypatch.setattr(parallel, "run", lambda function, jobs: (function(*job) for job in jobs))
    monkeypatch.setattr(evolve, "_next_generation", lambda *args: 1 / 0)
    dreams = replace(DREAMING.evolve.dream, begin="first")
    config = replace(
        DREAMING,
        seed=9,
        after=str(asleep.folder),
        keeps=("vae", "mdnrnn"),
        collect=replace(DREAMING.collect, episodes=2),
        evolve=replace(DREAMING.evolve, dream=dreams),
    )
    run, rng = claim_run(tmp_path_factory.mktemp("own") / "run", config), np.random.default_rng(0)
    for index in range(2):
        obs = rng.integers(0, 256, (6, 64, 64, 3), np.uint8)
        run.episodes.save(index, Episode(obs, np.zeros((5, 3)), np.zeros(5), False, index))
    with pytest.raises(ZeroDivisionError):
        next(evolve.evolve(run))
    paths = run.latent_paths()
    assert [path.parent for path in paths] == [run.folder / "latents"] * 2
    codes = [load_episode(path, EncodedEpisode) for path in paths]
    width = [np.exp(code.logvar[0] / 2) for code in codes]
    away = run_starts(run).z.numpy() - np.stack([code.mu[0] for code in codes])
    assert (abs(away) < 5 * np.stack(width)).all()
