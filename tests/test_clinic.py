"""The clinics: each patient shows what its fault is said to show; the step by hand against two oracles."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from bench import broken_dreams
from wmlib.agent import Agent
from wmlib.checkpoint import read_json
from wmlib.config import resolve
from wmlib.data import EpisodeStore, load_episode
from wmlib.dream import DreamEnv
from wmlib.envs.vector import VectorEnv
from wmlib.exercises import clinic, dreaming
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
