"""What makes the clinics' patients: every fault is that one and no other, every main runs at tiny sizes."""

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from bench import rivals
from bench.clinics import dreams, mdnrnns, vaes
from wmlib.data import EncodedEpisode
from wmlib.exercises import dreaming, predicting, variational
from wmlib.mdnrnn import MDNRNN, Mixture, mixture_nll


@pytest.fixture(scope="module")
def agent_and_episode():
    """The shipped agent, and the episode from which the clinic's dreams begin."""
    return dreams.awake()


def test_the_stored_dreams_are_as_dreamt(agent_and_episode):
    names = {fault: name for name, fault in dreaming.CLINIC.patients.items()}
    again = (
        dreams.dreamt(*agent_and_episode, "noise drawn once").obs[list(dreaming.SHOWN)].astype(int)
    )
    assert np.abs(again - dreaming.CLINIC.read_frames(names["noise drawn once"])[0]).mean() < 1


def test_the_faults_that_no_dream_of_the_clinic_has_would_show_what_they_are_said_to_show(
    agent_and_episode,
):
    agent, episode = agent_and_episode
    cold = dreams.dreamt(agent, episode, "temperature near zero")
    assert 0.2 < dreams.changes(cold)[50:].mean() < 1 and np.abs(cold.action[50:, 0]).mean() < 0.3
    turned = dreams.dreamt(agent, episode, "steering mirrored")
    around = agent.task.landmark(turned.obs[:, 46:62, 24:40]).mean(axis=(1, 2))
    assert around[0] > 0.5 and around[100:].mean() < 0.5


def wandering(number=3, T=80):
    """Episodes in which z wanders slowly."""
    episodes, rng = [], np.random.default_rng(0)
    for _ in range(number):
        mu = 0.1 * rng.standard_normal((T + 1, 32)).cumsum(axis=0)
        parts = mu, np.full_like(mu, -4), rng.uniform(-1, 1, (T, 3)), np.zeros(T)
        episodes.append(
            EncodedEpisode(*(part.astype(np.float32) for part in parts), terminated=False)
        )
    return episodes


def broken(fault):
    """An untrained M with that fault, the same weights for every fault."""
    torch.manual_seed(1)
    mdnrnn = mdnrnns.Broken()
    mdnrnn.fault = fault
    return mdnrnn


@torch.no_grad()
def test_each_fault_of_an_m_is_that_one_and_no_other():
    z, action = torch.randn(2, 6, 32), torch.rand(2, 5, 3)
    h, _ = MDNRNN.memory(broken(""), z[:, :-1], action)
    mixture = MDNRNN.mixture(broken(""), h)
    wide = mixture._replace(logsigma=mixture.logsigma / 2)
    idle, _ = MDNRNN.memory(broken(""), z[:, :-1], torch.zeros_like(action))
    forgetful = rivals.Forgetful()
    forgetful.load_state_dict(broken("").state_dict())
    expected = {
        "": mixture_nll(mixture, z[:, 1:]),
        "noise drawn once": mixture_nll(mixture, z[:, 1:]),
        "off by one": mixture_nll(mixture, z[:, :-1]),
        "logsigma as logvar": mixture_nll(wide, z[:, 1:]),
        "one width": mixture_nll(mixture._replace(logsigma=torch.zeros_like(mixture.mu)), z[:, 1:]),
        "memory emptied": mixture_nll(forgetful(z[:, :-1], action)[0], z[:, 1:]),
        "actions lost": mixture_nll(MDNRNN.mixture(broken(""), idle), z[:, 1:]),
    }
    assert expected.keys() == {"", *predicting.CLINIC.faults}
    for fault, loss in expected.items():
        torch.testing.assert_close(mdnrnns.lesson(broken(fault), z, action), loss)
        right, _ = broken(fault)(
            z[:, :-1], action
        )  # as it is judged: faults of the lesson are gone
        if fault in predicting.CLINIC.patients.values():
            torch.testing.assert_close(right, mixture)


def test_noise_drawn_once_is_drawn_from_v_and_then_kept():
    episodes = wandering()
    (kept, *_), again = (mdnrnns.material(episodes, "noise drawn once") for _ in range(2))
    assert np.array_equal(kept.mu, again[0].mu) and np.array_equal(mdnrnns.drawn(kept, 5), kept.mu)
    assert (kept.mu - episodes[0].mu).std() == pytest.approx(math.exp(-2), rel=0.05)
    assert mdnrnns.material(episodes, "off by one") is episodes


@pytest.mark.parametrize("fault", ["", *predicting.CLINIC.patients.values()])
def test_an_ms_training_gives_the_same_numbers_again(fault):
    one, other = (
        [loss for _, loss in islice(mdnrnns.training(wandering(), fault), 4)] for _ in range(2)
    )
    assert one == other and one[-1] < one[0]


def test_an_m_that_repeats_z_is_judged_as_standing_still():
    class Same(MDNRNN):
        def memory(self, z, action, state=None):
            return z, self.initial_state(len(z))

        def mixture(self, h):
            mu = h[..., None]
            return Mixture(torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5)))

    held_out = mdnrnns.HeldOut(wandering())
    assert held_out.used.all()
    assert held_out.ahead(Same()) == pytest.approx(held_out.ahead(None))
    z = held_out.z
    expected = -Normal(z[:, :-1], 0.5).log_prob(z[:, 1:]).mean().item()
    assert held_out.loss(Same()) == pytest.approx(expected, rel=1e-5)
    places = Normal(z[:, 50:-1], 0.5).cdf(z[:, 51:]).flatten()
    assert held_out.calibration(Same()) == pytest.approx(
        (np.histogram(places, 10, (0, 1))[0] / len(places)).tolist()
    )


# --- the mains ------------------------------------------------------------------------------------------------------


def test_vaes_keeps_curves_and_pictures_of_every_patient_and_floor(tmp_path):
    shipped = variational.CLINIC
    made = replace(shipped, folder=tmp_path)
    vaes.main(made, replace(vaes.SETTINGS, steps=10, batch_size=4))
    found, before = made.read_curves(), shipped.read_curves()
    assert (
        found.keys() == before.keys()
        and found["command"] == before["command"]
        and found["steps"] == 10
    )
    assert list(found["curves"]) == list(before["curves"])
    for name, curve in found["curves"].items():
        assert [row["step"] for row in curve] == [5, 10]
        assert made.read_frames(name).shape == shipped.read_frames(name).shape
        assert np.array_equal(made.read_frames(name)[0], shipped.read_frames(name)[0])
    assert all(found["curves"][name] != found["curves"]["floor 16"] for name in shipped.patients)
    assert len(list(tmp_path.iterdir())) == 1 + len(found["curves"])


def test_mdnrnns_keeps_curves_of_every_fault_and_frames_of_every_patient(tmp_path):
    shipped = predicting.CLINIC
    made = replace(shipped, folder=tmp_path)
    mdnrnns.main(
        made,
        mdnrnns.TRACKS[:1],
        replace(mdnrnns.SETTINGS, steps=2, batch_size=2, sequence_length=8),
    )
    found, before = made.read_curves(), shipped.read_curves()
    assert list(found) == list(before) and found["command"] == before["command"]
    for part in ("curves", "others"):
        assert list(found[part]) == list(before[part])
        for name, curve in found[part].items():
            assert curve["step"] == [1] and curve.keys() == before[part][name].keys()
            assert sum(curve["calibration"]) == pytest.approx(1, abs=1e-3)
            assert len(curve["ahead"]) == predicting.AHEAD
    real = made.read_frames("real")
    assert real.shape == shipped.read_frames("real").shape
    for name in made.everyone:
        frames = made.read_frames(name)
        assert np.array_equal(frames[:, 0], real[:, 0]) and not np.array_equal(frames, real)
    assert len(list(tmp_path.iterdir())) == 1 + len(["real", *made.everyone])


def test_dreams_keeps_curves_and_frames_of_every_dream(tmp_path):
    shipped = dreaming.CLINIC
    made = replace(shipped, folder=tmp_path)
    dreams.main(made, start=60, shown=(0, 3, 6))
    found, before = made.read_curves(), shipped.read_curves()
    assert list(found) == list(before) and found["command"] == before["command"]
    assert list(found["curves"]) == list(before["curves"])
    first = made.read_frames("healthy")[:, 0]
    for name, curve in found["curves"].items():
        assert len(curve["change"]) == len(curve["steering"]) == 6
        assert made.read_frames(name).shape == (1, 3, 64, 64, 3)
        assert np.array_equal(made.read_frames(name)[:, 0], first)
    assert len({str(curve) for curve in found["curves"].values()}) == 4
    assert len(list(tmp_path.iterdir())) == 1 + len(made.everyone)
