"""The scrubber: what it shows of a moment against M, V and record themselves; its keys in a browser."""

import math

import numpy as np
import pytest
import torch

from browser import shown, troubles
from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.controller import Controller
from wmlib.data import Episode, load_episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import Mixture, mixture_nll
from wmlib.rollout import record
from wmlib.vae import to_float, to_uint8
from wmlib.widgets import Scrubber

PICTURE = 64 * 64 * 3
ACTIVE_CELL = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
QUESTION = {"view": 0.5, "t": 70, "latent": 6, "temperature": 1.0, "draw": 0}

SETUP = """
from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.data import load_episode
from wmlib.widgets import Scrubber

agent = Agent.load("data/pretrained/car_racing")
episode = load_episode(resolve("data/episodes/000003.npz"))
"""
SCRUBBER = "Scrubber(agent, episode)"
PAINTED = "count => document.querySelectorAll('.wm-density canvas[aria-label]').length === count"


@pytest.fixture(scope="module")
def agent():
    return Agent.load("data/pretrained/car_racing")


@pytest.fixture(scope="module")
def drive(agent):
    return record(VectorEnv(CAR_RACING.make, 1, max_steps=90), agent, 7, 7)


@pytest.fixture
def scrubber(agent, drive):
    return Scrubber(agent, drive)


@pytest.fixture
def sent(scrubber, monkeypatch):
    """What the scrubber sends, in order: content, buffers."""
    messages = []
    monkeypatch.setattr(
        scrubber, "send", lambda content, buffers=(): messages.append((content, list(buffers)))
    )
    return messages


@pytest.fixture
def predicted(agent, drive):
    """M's mixture over z[1] to z[T], (1, T, Z, K), by a run of its own over V's mu."""
    with torch.no_grad():
        mu, _ = agent.vae.encode(to_float(drive.obs))
        return agent.mdnrnn(mu[None, :-1], torch.from_numpy(drive.action)[None])[0]


def test_z_and_h_are_those_of_the_drive(scrubber, drive):
    assert np.array_equal(scrubber.z[:-1], drive.z) and scrubber.z.shape == (91, 32)
    np.testing.assert_allclose(scrubber.h, drive.h, atol=1e-4)


def test_a_stored_drive_shows_what_the_fresh_one_did(agent, scrubber, drive):
    stored = Scrubber(
        agent, Episode(drive.obs, drive.action, drive.reward, drive.terminated, drive.seed)
    )
    np.testing.assert_allclose(stored.z, scrubber.z, atol=1e-4)
    np.testing.assert_allclose(stored.h, scrubber.h, atol=1e-4)
    np.testing.assert_allclose(stored.draw(70), scrubber.draw(70), atol=1e-3)
    assert stored.latents == scrubber.latents and stored.curves == scrubber.curves


def test_a_dream_is_shown_with_its_own_z_and_the_memory_it_began_with(agent, drive):
    state = torch.from_numpy(drive.h[60:61]), torch.from_numpy(drive.c[60:61])
    dream = DreamEnv(
        agent.vae, agent.mdnrnn, drive.z[60:61], task=agent.task, max_steps=12, first_state=state
    )
    dreamt = record(dream, DreamPolicy(agent, dream), 7)
    scrubber = Scrubber(agent, dreamt)
    assert np.array_equal(scrubber.z[:12], dreamt.z)
    np.testing.assert_allclose(scrubber.h, dreamt.h, atol=1e-4)


def test_an_agent_that_reads_a_draw_gets_its_own_draws(agent):
    reader = Agent(agent.vae, agent.mdnrnn, Controller(288), torch.zeros(867), agent.task, "z h")
    drive = record(VectorEnv(CAR_RACING.make, 1, max_steps=8), reader, 7, 7)
    fresh = Scrubber(reader, drive)
    assert np.array_equal(fresh.z[:8], drive.z) and not np.allclose(drive.z, drive.mu)
    np.testing.assert_allclose(fresh.h, drive.h, atol=1e-4)
    stored = Scrubber(
        reader, Episode(drive.obs, drive.action, drive.reward, drive.terminated, drive.seed)
    )
    far = (stored.z[:8] - torch.from_numpy(drive.mu)) / torch.from_numpy(drive.logvar / 2).exp()
    assert 0.8 < far.std() < 1.2


def test_another_drivers_drive_is_read_by_this_agents_v_and_m(agent, drive, scrubber):
    sighted = Episode(
        drive.obs, drive.action, drive.reward, False, 7, h=np.zeros((91, 0), np.float32)
    )
    np.testing.assert_allclose(Scrubber(agent, sighted).h, scrubber.h, atol=1e-4)


def test_the_density_is_that_of_ms_mixture(scrubber, predicted):
    for t, latent in ((0, 6), (60, 0), (89, 31)):
        x, curves = scrubber.density(t, latent)
        target = x[:, None].expand(-1, 32)[None]
        whole = Mixture(*(part[:, t : t + 1].expand(1, len(x), -1, -1) for part in predicted))
        expected = torch.exp(-mixture_nll(whole, target))[0, :, latent]
        torch.testing.assert_close(curves[-1], expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(curves[:-1].sum(0), curves[-1])
        assert (
            len(curves) == 6
            and (scrubber.z[:, latent] >= x[0]).all()
            and (scrubber.z[:, latent] <= x[-1]).all()
        )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.5])
def test_what_may_come_is_drawn_from_the_density_that_is_shown(scrubber, temperature):
    t = 70
    drawn = torch.cat([scrubber.draw(t, temperature, draw) for draw in range(1_000)])
    for latent in scrubber.latents[:4]:
        x, curves = scrubber.density(t, latent, temperature)
        mass = curves[-1] / curves[-1].sum()
        mean = (x * mass).sum()
        std = ((x - mean).square() * mass).sum().sqrt()
        assert abs(drawn[:, latent].mean() - mean) < 0.08 * std
        assert drawn[:, latent].std() == pytest.approx(std.item(), rel=0.1)


def test_the_same_draw_is_the_same_whatever_was_asked_before(agent, drive, scrubber):
    first = scrubber.draw(70, 1.0, 3)
    for t, draw in ((70, 4), (71, 3)):
        assert not torch.equal(scrubber.draw(t, 1.0, draw), first)
    assert torch.equal(scrubber.draw(70, 1.0, 3), first)
    assert torch.equal(Scrubber(agent, drive).draw(70, 1.0, 3), first)


def test_a_question_comes_back_with_the_moment(scrubber, sent, drive):
    scrubber.answer(scrubber, QUESTION, [])
    content, (frames, pictures, curves, h) = sent[0]
    drawn = scrubber.draw(70)
    x, density = scrubber.density(70, 6)
    assert {name: content[name] for name in QUESTION} == QUESTION
    assert frames == drive.obs[70:72].tobytes()
    with torch.no_grad():
        expected = to_uint8(
            scrubber.vae.decode(torch.cat([torch.from_numpy(drive.z[70:71]), drawn]))
        )
    assert np.abs(np.frombuffer(pictures, np.uint8).astype(int) - expected.ravel()).max() <= 1
    assert content["came"] == [drive.z[71, 6]] and content["axis"] == pytest.approx(
        x[[0, -1]].tolist()
    )
    assert content["drawn"] == drawn[:, 6].tolist() and curves == density.numpy().tobytes()
    np.testing.assert_allclose(np.frombuffer(h, np.float32), drive.h[70], atol=1e-4)


def test_after_the_last_step_nothing_comes(scrubber, sent, drive):
    scrubber.answer(scrubber, {**QUESTION, "t": 90}, [])
    content, (frames, pictures, curves, h) = sent[0]
    assert (
        "trouble" not in content and content["came"] == content["drawn"] == [] and len(curves) == 0
    )
    assert frames == drive.obs[90].tobytes() and len(pictures) == PICTURE and len(h) == 4 * 256


def test_the_timeline_holds_actions_reward_and_return(scrubber, drive):
    curves = np.frombuffer(scrubber.curves, np.float32).reshape(5, 90)
    assert np.array_equal(curves[:3], drive.action.T) and np.array_equal(curves[3], drive.reward)
    np.testing.assert_allclose(np.diff(curves[4]), drive.reward[1:], atol=1e-4)
    assert scrubber.looks["actions"] == [("steer", -1, 1), ("gas", 0, 1), ("brake", 0, 1)]


@pytest.mark.parametrize(
    "bad",
    [
        {"t": 91},
        {"t": -1},
        {"t": 2.5},
        {"t": "70"},
        {"t": None},
        {"latent": 32},
        {"latent": [6]},
        {"temperature": 0},
        {"temperature": math.nan},
        {"temperature": "hot"},
        {"draw": -1},
        {"draw": "again"},
    ],
)
def test_a_bad_question_gets_one_line_and_the_next_an_answer(scrubber, sent, bad):
    scrubber.answer(scrubber, {**QUESTION, **bad}, [])
    scrubber.answer(scrubber, {"view": 0.5}, [])
    scrubber.answer(scrubber, QUESTION, [])
    for content, buffers in sent[:2]:
        assert (
            content["trouble"].startswith("the kernel can't show this: ")
            and "\n" not in content["trouble"]
        )
        assert content["view"] == 0.5 and buffers == []
    assert "trouble" not in sent[2][0] and len(sent[2][1]) == 4


def test_an_agent_without_m_has_nothing_to_foresee(agent, drive):
    sighted = Agent(agent.vae, None, Controller(32), torch.zeros(99), agent.task, "mu")
    with pytest.raises(ValueError, match="without M foresees nothing"):
        Scrubber(sighted, drive)


def test_where_no_kernel_runs_the_poster_is_shown(agent, drive, scrubber):
    data, _ = scrubber._repr_mimebundle_()
    assert {"text/html", "text/plain"} == data.keys()
    assert (
        data["text/plain"].startswith("Moments of a drive")
        and '<img alt="Moments of a drive' in data["text/html"]
    )
    assert Scrubber(agent, drive, scrubber.poster).poster is scrubber.poster


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scrubbers(chromium):
    """A page of headless Chromium with two scrubbers, painted."""
    with shown(SETUP, SCRUBBER, SCRUBBER) as page:
        page.wait_for_function(PAINTED, arg=2)
        yield page


def painted(scrubber, name):
    pixels = "it => Array.from(it.getContext('2d').getImageData(0, 0, 64, 64).data)"
    canvas = np.array(scrubber.locator(f".wm-{name} canvas").first.evaluate(pixels))
    return canvas.reshape(64, 64, 4)[..., :3]


def test_keys_step_play_and_pause_and_nothing_else_moves(scrubbers):
    episode = load_episode(resolve("data/episodes/000003.npz"))
    one, other = (scrubbers.locator(".wm-scrubber").nth(number) for number in range(2))
    time, state = one.locator(".wm-time"), one.locator(".wm-state")
    still = other.locator(".wm-state").inner_text()
    one.locator(".wm-now canvas").click()
    scrubbers.wait_for_timeout(300)
    before = one.bounding_box(), scrubbers.evaluate(ACTIVE_CELL)

    def arrive(step):
        scrubbers.wait_for_function(
            "step => document.querySelector('.wm-now canvas').ariaLabel === `the frame at step ${step}`",
            arg=step,
        )
        assert time.input_value() == str(step) and f"step {step} of 300" in state.inner_text()
        assert np.array_equal(painted(one, "now"), episode.obs[step])

    arrive(60)
    for keys, step in [
        (["ArrowRight"], 61),
        (["j", "Shift+Enter", "ArrowLeft"], 60),
        (["Shift+ArrowRight"], 70),
    ]:
        for key in keys:
            scrubbers.keyboard.press(key)
        arrive(step)
        assert np.array_equal(painted(one, "came"), episode.obs[step + 1])
    for key, step in (("End", 300), ("Home", 0)):
        scrubbers.keyboard.press(key)
        arrive(step)
    scrubbers.keyboard.press("Space")
    scrubbers.wait_for_function("() => document.querySelector('.wm-time').value > 20")
    assert state.inner_text().startswith("playing")
    scrubbers.keyboard.press("Space")
    at = int(time.input_value())
    arrive(at)
    assert state.inner_text().startswith("paused") and at < 300
    scrubbers.keyboard.press("Escape")
    assert not time.evaluate("it => it === document.activeElement")
    assert (one.bounding_box(), scrubbers.evaluate(ACTIVE_CELL)) == before
    assert other.locator(".wm-state").inner_text() == still
    names = "all => all.every(it => it.role === 'img' && it.ariaLabel.length > 10)"
    assert one.locator("canvas").evaluate_all(names) and troubles(scrubbers) == []


def test_positions_that_pile_up_are_asked_for_once_and_a_lost_kernel_is_told(scrubbers):
    asked = scrubbers.evaluate("""async () => {
        const send = WebSocket.prototype.send;
        let count = 0;
        WebSocket.prototype.send = function (data) {
            count += 1;
            return send.call(this, data);
        };
        const curves = document.querySelector(".wm-curves"), { left, top, width } = curves.getBoundingClientRect();
        for (let place = 0; place < 390; place++) {
            const where = { clientX: left + place / 400 * width, clientY: top + 9, buttons: 1 };
            curves.dispatchEvent(new PointerEvent("pointermove", where));
        }
        await new Promise((resolve) => setTimeout(resolve, 1500));
        WebSocket.prototype.send = send;
        return count;
    }""")
    one = scrubbers.locator(".wm-scrubber").first
    last = int(one.locator(".wm-time").input_value())
    assert 2 <= asked <= 10 and 280 < last < 300
    assert one.locator(".wm-now canvas").get_attribute("aria-label") == f"the frame at step {last}"
    drawn = painted(one, "may")
    one.get_by_role("button", name="draw again").click()
    scrubbers.wait_for_timeout(700)
    assert (painted(one, "may") != drawn).any()
    scrubbers.evaluate(
        "async () => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    one.locator(".wm-time").press("ArrowLeft")
    scrubbers.wait_for_function(
        "() => document.querySelector('.wm-scrubber').dataset.mode === 'waiting'"
    )
    assert "run this cell again" in one.locator(".wm-state").inner_text()
