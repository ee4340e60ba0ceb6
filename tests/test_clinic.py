"""The clinics: each patient shows what its fault is said to show; the step by hand against two oracles."""

import math
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from bench import broken_dreams, broken_ms, rivals
from wmlib.agent import Agent
from wmlib.checkpoint import file_hash, read_json
from wmlib.config import resolve
from wmlib.data import EncodedEpisode, EpisodeStore, load_episode
from wmlib.dream import DreamEnv
from wmlib.envs.vector import VectorEnv
from wmlib.exercises import clinic, dreaming, predicting
from wmlib.mdnrnn import MDNRNN, Mixture, mixture_nll
from wmlib.rollout import record


def test_the_clinics_pictures_show_the_episode_that_was_left_out():
    frames = load_episode(EpisodeStore(resolve("data/episodes")).paths()[-1]).obs
    for name in [*clinic.PATIENTS, *clinic.FLOORS]:
        sheet = clinic.read_sheet(name)
        assert sheet.shape == (4, clinic.SHOWN, 64, 64, 3)
        assert all((frame == frames).all(axis=(1, 2, 3)).any() for frame in sheet[0])


def test_each_patient_shows_what_its_fault_is_said_to_show():
    curves = read_json(clinic.FOLDER / "curves.json")["curves"]
    sheets = {name: clinic.read_sheet(name).astype(float) for name in curves}

    def error(name, row):
        return np.square(sheets[name][row] - sheets[name][0]).mean()

    patient = {fault: name for name, fault in clinic.PATIENTS.items()}
    healthy = "floor 16"
    assert error(patient["no noise"], 2) > 3 * error(patient["no noise"], 1) > 0
    assert error(healthy, 2) < 2 * error(healthy, 1)
    assert (
        curves[patient["averaged error"]][-1]["kl"] < 0.1
        and np.ptp(sheets[patient["averaged error"]][1], axis=0).max() < 10
    )

    assert error(patient["frames in order"], 1) > 2 * error(healthy, 1)


def test_each_broken_dream_shows_what_its_fault_is_said_to_show():
    curves = read_json(dreaming.FOLDER / "dreams.json")["curves"]
    change = {name: np.array(curve["change"]) for name, curve in curves.items()}
    patient = {fault: name for name, fault in dreaming.PATIENTS.items()}
    healthy = change["healthy"]
    assert change[patient["noise drawn once"]][50:].max() < 0.6 < 0.5 * healthy[50:].mean()
    assert change[patient["memory emptied"]].max() > 2 * healthy.max()
    lost = patient["actions lost"]
    assert change[lost].max() < 1.5 * healthy.max()
    assert longest(np.array(curves[lost]["steering"]) > 0.8) > 2 * longest(
        np.array(curves["healthy"]["steering"]) > 0.8
    )
    for name in curves:
        frames = dreaming.read_frames(name)
        assert frames.shape == (len(dreaming.SHOWN), 64, 64, 3)
        assert np.array_equal(frames[0], dreaming.read_frames("healthy")[0])


def longest(held) -> int:
    """The longest run of True."""
    return max(map(len, "".join("x" if one else " " for one in held).split()), default=0)


@pytest.fixture(scope="module")
def agent_and_drive():
    """The shipped agent, and the drive from which the clinic's dreams begin."""
    agent = Agent.load(broken_dreams.AGENT)
    agent.mdnrnn.to_outcome = None
    return agent, record(VectorEnv(agent.task.make, 1, broken_dreams.START + 1), agent, broken_dreams.TRACKS[3])


def test_the_stored_dreams_are_as_dreamt(agent_and_drive):
    names = {fault: name for name, fault in dreaming.PATIENTS.items()}
    again = broken_dreams.dreamt(*agent_and_drive, "noise drawn once").frames[list(dreaming.SHOWN)].astype(int)
    assert np.abs(again - dreaming.read_frames(names["noise drawn once"])).mean() < 1


def test_the_faults_that_no_dream_of_the_clinic_has_would_show_what_they_are_said_to_show(agent_and_drive):
    agent, drive = agent_and_drive
    cold = broken_dreams.dreamt(agent, drive, "temperature near zero")
    steps = np.abs(np.diff(cold.frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert 0.2 < steps[50:].mean() < 1 and np.abs(cold.action[50:, 0]).mean() < 0.3
    turned = broken_dreams.dreamt(agent, drive, "steering mirrored")
    around = agent.task.landmark(turned.frames[:, 46:62, 24:40]).mean(axis=(1, 2))
    assert around[0] > 0.5 and around[100:].mean() < 0.5


def test_the_patients_are_drawn_beside_their_curves():
    figure, axes = plt.subplots(4, 3)
    dreaming.draw_patients(axes)
    assert [row[0].get_ylabel() for row in axes] == ["healthy", *dreaming.PATIENTS]
    for name, (strip, change, steering) in zip(["healthy", *dreaming.PATIENTS], axes):
        shown = strip.images[0].get_array().reshape(64, len(dreaming.SHOWN), 68, 3)[:, :, 2:-2].swapaxes(0, 1)
        assert np.array_equal(shown, dreaming.read_frames(name))
        assert all(len(ax.lines[0].get_ydata()) == dreaming.LENGTH for ax in (change, steering))
    plt.close(figure)


@torch.inference_mode()
def test_steps_by_hand_dream_what_a_dream_environment_dreams():
    agent = Agent.load(broken_dreams.AGENT)
    noise = [np.random.default_rng(seed) for seed in (5, 6)]
    first = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    actions = np.random.default_rng(0).random((20, 2, 3), np.float32)
    env = DreamEnv(agent.vae, agent.mdnrnn, first, 2, temperature=0.7, task=agent.task)
    env.reset(seed=[5, 6], options={"start": np.arange(2)})
    for one in noise:
        one.integers(2)  # the place to begin, which the options overrule
    z, state = first, agent.mdnrnn.initial_state(2)
    for action in actions:
        draws = [(one.random(32, np.float32), one.standard_normal(32, np.float32)) for one in noise]
        uniform, normal = (torch.from_numpy(np.stack(part)) for part in zip(*draws))
        z, state = dreaming.dream_step(agent.mdnrnn, z, torch.from_numpy(action), state, 0.7, uniform, normal)
        np.testing.assert_allclose(z, env.step(action)[0], atol=1e-3)
    np.testing.assert_allclose(state[0], env.state[0], atol=1e-3)


def test_many_steps_by_hand_follow_the_tempered_mixture():
    mdnrnn, z, action, state, *_ = dreaming._example(1)
    z, action, state = z[:1], action[:1], tuple(part[:1] for part in state)
    N, generator = 20_000, torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(N, 4, generator=generator), torch.randn(N, 4, generator=generator)
    many = z.expand(N, -1), action.expand(N, -1), tuple(part.expand(N, -1).contiguous() for part in state)
    drawn, _ = dreaming.dream_step(mdnrnn, *many, 0.4, uniform, normal)
    logits, mu, logsigma = (part[0, 0] for part in mdnrnn(z[:, None], action[:, None], state)[0])
    tempered = MixtureSameFamily(Categorical(logits=logits / 0.4), Normal(mu, (0.4 * torch.exp(2 * logsigma)).sqrt()))
    ranks = tempered.cdf(drawn).sort(dim=0).values  # uniform, if drawn follows the mixture
    even = (torch.arange(N) + 0.5) / N
    assert (ranks - even[:, None]).abs().max() < 1.95 / N**0.5  # Kolmogorov and Smirnov, one in a thousand


# --- the clinic of Ms -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ms():
    """What is kept of the Ms: by name, a fault or healthy; its curves; beside them what belongs to all."""
    found = read_json(predicting.FOLDER / "ms.json")
    named = {predicting.PATIENTS.get(name, name): curve for name, curve in found["curves"].items()}
    return found, named | found["others"]


def test_each_m_shows_what_its_fault_is_said_to_show(ms):
    found, curves = ms
    floor, stay = found["levels"]["floor"], found["levels"]["stay as you are"]
    still = np.array(found["standing still"])
    training, held_out, ahead, tenths = (
        {name: np.array(curve[part]) for name, curve in curves.items()}
        for part in ("training", "held out", "ahead", "calibration")
    )
    assert curves.keys() == {"healthy", *predicting.FAULTS}
    well = "healthy"
    assert floor < training[well][-1] < held_out[well][-1] < (floor + stay) / 2
    assert np.abs(tenths[well] - 0.1).max() < 0.025 and (ahead[well][4:] < 0.65 * still[4:]).all()
    for too_sure in predicting.PATIENTS.values():
        assert tenths[too_sure][[0, -1]].min() > 0.2 > 2 * tenths[too_sure][1:-1].max()
        assert held_out[too_sure][-1] > stay

    halved = "logsigma as logvar"
    assert abs(training[halved][-1] - training[well][-1]) < 0.02
    assert np.abs(ahead[halved] / ahead[well] - 1).max() < 0.1

    off = "off by one"
    assert training[off][2] < floor and training[off][-1] < -1 and held_out[off][2] > 5 * stay
    assert (ahead[off][4:] > still[4:]).all()

    kept, turn = "noise drawn once", held_out["noise drawn once"].argmin()
    assert 30 < curves[kept]["step"][turn] < 120 and held_out[kept][-1] > 1.5 * held_out[kept][turn]
    assert held_out[kept][turn] < stay and training[kept][turn] > floor > training[kept][-1] + 0.2

    wide = "one width"
    assert tenths[wide][4:6].min() > 0.25 and tenths[wide][[0, 1, -2, -1]].max() < 0.05
    assert all(0.9 * stay < loss[wide][-1] < stay for loss in (training, held_out))

    for honest in ("memory emptied", "actions lost"):
        assert np.abs(tenths[honest] - 0.1).max() < 0.025 and held_out[honest][-1] < stay
        assert ahead[honest][9:].mean() > 1.1 * ahead[well][9:].mean()
    assert abs(held_out["actions lost"][-1] - held_out[well][-1]) < 0.01
    assert np.abs(ahead["actions lost"][:5] / ahead[well][:5] - 1).max() < 0.1


def test_the_roads_that_the_ms_predict_are_as_said():
    frames = {name: predicting.read_frames(name).astype(float) for name in ("real", "healthy", *predicting.PATIENTS)}
    patient = {fault: name for name, fault in predicting.PATIENTS.items()}
    moved = lambda one, other: np.abs(one - other).mean()
    real = frames["real"]
    assert all(strip.shape == (5, 64, 64, 3) and np.array_equal(strip[0], real[0]) for strip in frames.values())
    still = frames[patient["off by one"]]
    assert moved(still[-1], still[0]) < 0.3 * moved(real[-1], real[0])
    off = {name: moved(strip, real) for name, strip in frames.items()}
    assert off["healthy"] < off[patient["logsigma as logvar"]] < 0.7 * moved(real[:1], real)
    assert off[patient["noise drawn once"]] > 0.9 * moved(real[:1], real) > 2 * off["healthy"]


def test_the_ms_were_trained_on_the_codes_of_the_v_that_ships(ms):
    found, _ = ms
    assert found["vae_sha256"] == file_hash(resolve(broken_ms.AGENT) / "vae" / "weights.safetensors")


def test_the_ms_are_drawn_in_a_row_each(ms):
    found, _ = ms
    figure, axes = plt.subplots(4, 4)
    predicting.draw_patients(axes)
    assert [row[0].get_ylabel() for row in axes] == ["healthy", *predicting.PATIENTS]
    for (name, curve), (loss, tenths, ahead, road) in zip(found["curves"].items(), axes):
        lines = {line.get_label(): line.get_ydata() for line in loss.lines}
        assert lines.keys() == {"training", "held out", "stay as you are", "floor"}
        assert list(lines["held out"]) == curve["held out"] and list(lines["training"]) == curve["training"]
        assert [bar.get_height() for bar in tenths.patches] == curve["calibration"]
        assert list(ahead.lines[0].get_ydata()) == curve["ahead"]
        shown = road.images[0].get_array().reshape(2, 68, 5, 68, 3)[:, 2:-2, :, 2:-2].swapaxes(1, 2)
        assert all(np.array_equal(*pair) for pair in zip(shown, map(predicting.read_frames, ("real", name))))
    plt.close(figure)


def wandering(number=3, T=80):
    """Drives in which z wanders slowly."""
    drives, rng = [], np.random.default_rng(0)
    for _ in range(number):
        mu = 0.1 * rng.standard_normal((T + 1, 32)).cumsum(axis=0)
        parts = mu, np.full_like(mu, -4), rng.uniform(-1, 1, (T, 3)), np.zeros(T)
        drives.append(EncodedEpisode(*(part.astype(np.float32) for part in parts), terminated=False))
    return drives


def broken(fault):
    """An untrained M with that fault, the same weights for every fault."""
    torch.manual_seed(1)
    mdnrnn = broken_ms.Broken()
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
    assert expected.keys() == {"", *predicting.FAULTS}
    for fault, loss in expected.items():
        torch.testing.assert_close(broken_ms.lesson(broken(fault), z, action), loss)
        right, _ = broken(fault)(z[:, :-1], action)  # as it is judged: faults of the lesson are gone
        if fault in predicting.PATIENTS.values():
            torch.testing.assert_close(right, mixture)


def test_noise_drawn_once_is_drawn_from_v_and_then_kept():
    drives = wandering()
    (kept, *_), again = (broken_ms.material(drives, "noise drawn once") for _ in range(2))
    assert np.array_equal(kept.mu, again[0].mu) and np.array_equal(broken_ms.drawn(kept, 5), kept.mu)
    assert (kept.mu - drives[0].mu).std() == pytest.approx(math.exp(-2), rel=0.05)
    assert broken_ms.material(drives, "off by one") is drives


@pytest.mark.parametrize("fault", ["", *predicting.PATIENTS.values()])
def test_an_ms_training_gives_the_same_numbers_again(fault):
    one, other = ([loss for _, loss in islice(broken_ms.training(wandering(), fault), 4)] for _ in range(2))
    assert one == other and one[-1] < one[0]


def test_an_m_that_repeats_z_is_judged_as_standing_still():
    class Same(MDNRNN):
        def memory(self, z, action, state=None):
            return z, self.initial_state(len(z))

        def mixture(self, h):
            mu = h[..., None]
            return Mixture(torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5)))

    held_out = broken_ms.HeldOut(wandering())
    assert held_out.used.all()
    assert held_out.ahead(Same()) == pytest.approx(held_out.ahead(None))
    z = held_out.z
    expected = -Normal(z[:, :-1], 0.5).log_prob(z[:, 1:]).mean().item()
    assert held_out.loss(Same()) == pytest.approx(expected, rel=1e-5)
    places = Normal(z[:, 50:-1], 0.5).cdf(z[:, 51:]).flatten()
    assert held_out.calibration(Same()) == pytest.approx((np.histogram(places, 10, (0, 1))[0] / len(places)).tolist())
