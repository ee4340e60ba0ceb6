"""The player: keys become actions, drives scores. The explorer: sliders become frames. Both also in a browser."""

import json
import math
import re
from itertools import islice

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from browser import browse, shown, troubles
from wmlib import plots
from wmlib.agent import Agent
from wmlib.controller import Controller
from wmlib.dream import DreamEnv
from wmlib.envs.car_racing import CAR_RACING, steer
from wmlib.envs.vector import VectorEnv
from wmlib.rollout import record, rollout
from wmlib.vae import VAE, to_float, to_uint8
from wmlib.widgets import DreamPlayer, LatentExplorer, Player, Sliders, live

SETUP = """
import matplotlib.pyplot as plt
from wmlib import plots
from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.data import load_episode
from wmlib.widgets import LatentExplorer

vae = Agent.load("data/pretrained/car_racing").vae
frames = load_episode(resolve("data/episodes/000000.npz")).obs[50::10]
"""
OURS = """
explorer = LatentExplorer(vae, frames, plots.picture(plt.figure(), "an empty picture"))
explorer
"""

NOTHING = np.zeros(3, np.float32)
PIXELS = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 64, 64).data)"
ENDS_PAINTED = """count => {
    const ends = Array.from(document.querySelectorAll(".wm-latent canvas"));
    return ends.length === count && ends.every(end => end.getContext("2d").getImageData(0, 0, 1, 1).data[3]);
}"""
ACTIVE_CELL = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"


@pytest.fixture
def player(tmp_path):
    poster = plots.picture(plt.figure(), "a strip of frames from a drive")
    env = VectorEnv(CAR_RACING.make, 1, max_steps=4)
    return Player(env, CAR_RACING, [7, 8], poster, keep=tmp_path / "runs" / "drives.jsonl")


def held(keys, steps):
    """The action after some steps with the same keys down."""
    action = NOTHING
    for _ in range(steps):
        action = steer(action, keys)
    return action


def test_the_wheel_turns_gradually_and_comes_back():
    assert steer(NOTHING, ["left"])[0] == pytest.approx(-0.1)
    assert held(["left"], 30)[0] == -1 and held(["right"], 30)[0] == 1
    assert steer(held(["right"], 30), [])[0] == pytest.approx(0.9)
    assert held(["left", "right"], 5)[0] == 0


@pytest.mark.parametrize(
    "keys", [[], ["gas"], ["brake", "left"], ["gas", "brake", "left", "right"], ["unknown"]]
)
def test_keys_give_actions_of_the_game(keys):
    for steps in (1, 40):
        assert CAR_RACING.action_space.contains(held(keys, steps))
    assert (held(keys, 3)[1:] > 0).tolist() == ["gas" in keys, "brake" in keys]


def test_a_drive_is_the_environments_own(player):
    env = VectorEnv(CAR_RACING.make, 1, max_steps=4)
    env.reset(seed=[7])
    action, total = NOTHING, 0
    for _ in range(3):
        player.step(["gas"])
        action = steer(action, ["gas"])
        obs, reward, *_ = env.step(action[None])
        total += reward[0]
    assert np.array_equal(player.obs, obs) and player.total == total and player.steps == 3


def test_a_finished_drive_is_kept_once_and_stays_as_it_is(player):
    for _ in range(6):
        player.step(["gas"])
    assert player.over and player.steps == 4
    rows = [json.loads(line) for line in player.keep.read_text().splitlines()]
    assert rows == [{"seed": 7, "steps": 4, "return": round(player.total, 1)}]


def test_each_new_drive_is_on_the_next_track(player):
    seeds = [player.seed]
    for _ in range(2):
        player.restart()
        seeds.append(player.seed)
    assert seeds == [7, 8, 7] and player.steps == 0 and not player.over


def test_every_message_is_answered_with_the_frame(player, monkeypatch):
    sent = []
    monkeypatch.setattr(player, "send", lambda content, buffers: sent.append((content, buffers[0])))
    player.answer(player, {}, [])
    player.answer(player, {"pressed": ["gas"]}, [])
    for _ in range(3):
        player.answer(player, {"pressed": []}, [])
    player.answer(player, {"again": True}, [])
    assert [content["over"] for content, _ in sent] == ["", "", "", "", "time is up", ""]
    assert sent[-1][1] == player.obs[0].tobytes() and len(sent[0][1]) == 64 * 64 * 3
    assert sent[1][0]["status"].startswith("step 1, ")


@pytest.fixture(scope="module")
def agent():
    return Agent.load("data/pretrained/car_racing")


@pytest.fixture
def dreamer(agent):
    poster = plots.picture(plt.figure(), "two frames side by side")
    return DreamPlayer(agent, VectorEnv(CAR_RACING.make, 1, max_steps=90), [7, 8], poster)


def test_dream_and_ghost_begin_a_second_into_a_drive_with_its_memory(agent, dreamer):
    drive = record(VectorEnv(CAR_RACING.make, 1, max_steps=90), agent, 7, 7)
    assert np.array_equal(dreamer.frames()[1], drive.obs[60])
    np.testing.assert_allclose(dreamer.obs[0], drive.z[60], atol=1e-5)
    for part, expected in zip(dreamer.imagined.state, (drive.h[60], drive.c[60])):
        np.testing.assert_allclose(part[0], expected, atol=1e-4)


def test_dream_and_ghost_take_the_same_actions(agent, dreamer):
    first, state = dreamer.obs.copy(), tuple(part.clone() for part in dreamer.imagined.state)
    action = dreamer.action
    ghost = VectorEnv(CAR_RACING.make, 1, max_steps=90)
    for tick in islice(rollout(ghost, agent, [7], 7), 60):
        seen = tick.next_obs
    imagined = DreamEnv(agent.vae, agent.mdnrnn, first, task=agent.task, first_state=state)
    imagined.reset(seed=[7])
    for _ in range(5):
        dreamer.step(["left", "gas"])
        action = steer(action, ["left", "gas"])
        z, *_ = imagined.step(action[None])
        seen, *_ = ghost.step(action[None])
    assert np.array_equal(dreamer.obs, z) and np.array_equal(dreamer.seen, seen)
    assert np.array_equal(dreamer.frames()[0], imagined.render()[0]) and dreamer.steps == 5


def test_c_takes_the_wheel_and_gives_it_back(agent, dreamer):
    with torch.inference_mode():
        expected = agent.choose(torch.from_numpy(dreamer.obs), *dreamer.imagined.state)[0].numpy()
    dreamer.answer(dreamer, {"pressed": ["left"], "agent": True}, [])
    np.testing.assert_allclose(dreamer.action, expected, atol=1e-6)
    dreamer.answer(dreamer, {"pressed": ["left"], "agent": False}, [])
    assert np.array_equal(dreamer.action, steer(expected, ["left"]))


def test_to_wake_is_to_dream_on_from_what_the_ghost_sees_with_its_memory(agent, dreamer):
    memory, actions, codes = dreamer.memory, [], []
    for _ in range(4):
        codes.append(dreamer.code)
        dreamer.step(["right"])
        actions.append(torch.from_numpy(dreamer.action)[None])
    with torch.no_grad():
        expected = agent.mdnrnn.memory(torch.stack(codes, 1), torch.stack(actions, 1), memory)[1]
        mu, _ = agent.vae.encode(to_float(dreamer.seen))
    assert not np.allclose(dreamer.obs, mu, atol=0.1)
    dreamer.answer(dreamer, {"wake": True}, [])
    np.testing.assert_allclose(dreamer.obs, mu, atol=1e-5)
    torch.testing.assert_close(dreamer.imagined.state, expected, atol=1e-4, rtol=0)
    assert dreamer.status()["since"] == 0 and dreamer.steps == 4


@pytest.mark.parametrize("limit, parted", [(0.0, None), (1.1, 1)])
def test_they_part_where_the_overlap_falls_and_stays(dreamer, limit, parted):
    dreamer.PARTED = limit
    for _ in range(9):
        dreamer.step(["gas"])
    assert dreamer.parted is None
    dreamer.step(["gas"])
    assert dreamer.parted == parted
    assert dreamer.overlap == CAR_RACING.overlap(*dreamer.frames())


def test_what_goes_wrong_in_a_players_callback_is_said_and_a_new_drive_heals_it(
    dreamer, monkeypatch
):
    sent = []
    monkeypatch.setattr(dreamer, "send", lambda content, buffers: sent.append(content))
    for wrong in (0, -1, math.nan, "hot", None):
        dreamer.answer(dreamer, {"again": True}, [])
        dreamer.answer(dreamer, {"temperature": wrong}, [])
        assert (
            sent[-2]["over"] == ""
            and "ValueError: temperature must be a positive number" in sent[-1]["over"]
        )
    dreamer.answer(dreamer, {"again": True}, [])
    dreamer.answer(dreamer, {"temperature": 0.3}, [])
    dreamer.answer(dreamer, {"pressed": "gas", "agent": True}, [])
    assert sent[-1]["over"] == "" and dreamer.imagined.temperature == 0.3


def test_the_dream_goes_on_when_the_real_drive_is_over_and_says_so(dreamer):
    for _ in range(40):
        dreamer.step([])
    assert (
        dreamer.gone
        and dreamer.status()["status"].endswith("and that drive is over")
        and dreamer.steps == 40
    )


def test_an_agent_without_m_has_no_dream_to_play_in(agent, dreamer):
    sighted = Agent(agent.vae, None, Controller(32), torch.zeros(99), agent.task, "mu")
    with pytest.raises(ValueError, match="without M can't dream"):
        DreamPlayer(sighted, dreamer.ghost, [7], dreamer.poster)


@pytest.mark.parametrize(
    "name, text",
    [("player", "a strip of frames from a drive"), ("explorer", "rows of decoded frames")],
)
def test_where_no_kernel_runs_the_poster_is_shown(request, name, text):
    data, _ = request.getfixturevalue(name)._repr_mimebundle_()
    assert {"text/html", "text/plain"} == data.keys()
    assert data["text/plain"] == text and f'<img alt="{text}"' in data["text/html"]


@pytest.fixture
def explorer():
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    return LatentExplorer(
        VAE(), frames, plots.picture(plt.figure(), "rows of decoded frames"), sliders=6
    )


@pytest.fixture
def sent(explorer, monkeypatch):
    """What the explorer sends, in order: content, buffers."""
    messages = []
    monkeypatch.setattr(
        explorer, "send", lambda content, buffers=(): messages.append((content, list(buffers)))
    )
    return messages


@torch.inference_mode()
def decoded(explorer, z) -> np.ndarray:
    return to_uint8(explorer.vae.decode(torch.from_numpy(z)[None]))[0]


@torch.inference_mode()
def test_the_most_used_latents_come_first(explorer):
    mu, logvar = explorer.vae.encode(to_float(explorer.frames))
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0)).mean(0)
    assert explorer.latents == kl.argsort(descending=True).tolist()
    assert np.allclose(explorer.looks["nats"], kl.sort(descending=True).values, atol=1e-6)
    usage = np.arange(32.0)
    given = LatentExplorer(explorer.vae, explorer.frames, explorer.poster, usage=usage)
    assert given.latents == list(range(31, -1, -1)) and given.looks["nats"] == usage[::-1].tolist()


def test_what_is_not_moved_stays_at_mu(explorer):
    z = explorer.mu[3].copy()
    z[[7, 2]] = -1.5, 0.5
    at_mu, moved = explorer.draw(3, [{}, {7: -1.5, 2: 0.5}])
    assert np.abs(at_mu.astype(int) - decoded(explorer, explorer.mu[3])).max() <= 1
    assert np.abs(moved.astype(int) - decoded(explorer, z)).max() <= 1
    assert (moved != at_mu).any()


def test_a_question_comes_back_with_the_frame_and_its_pictures(explorer, sent):
    question = {"view": 0.5, "frame": 2, "moves": [{}, {"7": 1}], "ends": False}
    explorer.answer(explorer, question, [])
    (content, (frame, pictures)) = sent[0]
    assert content == {**question, "mu": explorer.mu[2].tolist()}
    assert frame == explorer.frames[2].tobytes()
    assert pictures == explorer.draw(2, [{}, {7: 1}]).tobytes() and len(pictures) == 2 * 64 * 64 * 3


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "unknown"},
        {"frame": 9, "moves": [{}]},
        {"frame": None, "moves": [{}]},
        {"frame": 0, "moves": [{"7": "high"}]},
        {"frame": 0, "moves": [{"7": None}]},
        {"frame": 0, "moves": [{"7": float("nan")}]},
        {"frame": 0, "moves": [{"99": 1}]},
        {"frame": 0, "moves": 3},
    ],
)
def test_a_bad_question_gets_one_line_and_the_next_an_answer(explorer, sent, bad):
    explorer.answer(explorer, {"view": 1, **bad}, [])
    explorer.answer(explorer, {"view": 1, "frame": 0, "moves": [{}]}, [])
    trouble = sent[0][0]["trouble"]
    assert (
        trouble.startswith("the kernel can't decode this")
        and "\n" not in trouble
        and sent[0][0]["view"] == 1
    )
    assert len(sent[1][1]) == 2


@pytest.fixture
def page(chromium, jupyterlab):
    """A page of headless Chromium with notebook 01, run as far as its player."""
    with browse(chromium, jupyterlab[0], "01_car_racing_and_rollouts.ipynb") as page:
        page.evaluate("""async () => {
            const { content } = jupyterapp.shell.currentWidget;
            content.activeCellIndex = 0;
            for (let cell = 0; cell < 4; cell++) await jupyterapp.commands.execute("notebook:run-cell-and-select-next");
        }""")
        page.wait_for_function(
            "() => document.querySelector('.wm-line')?.textContent.startsWith('step 0')"
        )
        yield page


def test_a_reader_drives_with_the_keys_and_the_page_stays_where_it_is(page):
    player, line = page.locator(".wm-player"), page.locator(".wm-line")
    canvas = player.locator("canvas")
    before = canvas.evaluate(PIXELS)
    canvas.click()
    top, active = player.bounding_box()["y"], page.evaluate(ACTIVE_CELL)
    page.keyboard.down("ArrowUp")
    page.wait_for_function(
        "() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) >= 60"
    )
    page.keyboard.up("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert canvas.evaluate(PIXELS) != before and player.bounding_box()["y"] == pytest.approx(
        top, abs=2
    )
    assert page.evaluate(ACTIVE_CELL) == active
    page.wait_for_timeout(300)
    paused = line.inner_text()
    page.wait_for_timeout(300)
    assert line.inner_text() == paused and "points" in paused and paused.endswith("paused")
    player.get_by_role("button", name="start again").click()
    page.wait_for_function(
        "() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) < 50"
    )
    page.keyboard.press("Space")
    player.get_by_role("button", name="gas").hover()
    page.mouse.down()  # the page's button drives on
    page.wait_for_function(
        "() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) > 80"
    )
    page.mouse.up()
    assert troubles(page) == []
    page.evaluate(
        "async () => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    page.wait_for_function("() => document.querySelector('.wm-player').dataset.mode === 'waiting'")
    assert "run this cell again" in line.inner_text()


def test_two_fingers_press_two_buttons_for_as_long_as_they_stay(page):
    page.evaluate("""() => {
        const send = WebSocket.prototype.send, pressed = /"pressed":\\[(.*?)\\]/;
        WebSocket.prototype.send = function (data) {
            const asked = typeof data === "string" ? data : new TextDecoder().decode(data);
            window.pressed = pressed.exec(asked)?.[1].replaceAll('"', "") ?? window.pressed;
            return send.call(this, data);
        };
    }""")
    hand = page.context.new_cdp_session(page)
    hand.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})

    def touch(kind, *fingers):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    page.locator(".wm-buttons").scroll_into_view_if_needed()
    boxes = [
        page.locator(f".wm-buttons [data-key={key}]").bounding_box() for key in ("gas", "left")
    ]
    gas, left = ((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes)
    touch("touchStart", gas)
    page.wait_for_function("() => window.pressed === 'gas'")
    touch("touchStart", gas, left)
    page.wait_for_function("() => window.pressed === 'gas,left'")
    page.wait_for_timeout(1500)  # longer than what calls up a menu
    for step in range(10):
        touch("touchMove", gas, (left[0], left[1] - 8 * step))  # what scrolls a page elsewhere
    page.wait_for_timeout(200)
    assert page.evaluate("window.pressed") == "gas,left" and page.locator(".lm-Menu").count() == 0
    assert page.locator(".wm-buttons [data-key=gas]").bounding_box() == boxes[0]
    touch("touchEnd", gas)
    page.wait_for_function("() => window.pressed === 'left'")
    touch("touchEnd")
    page.wait_for_function("() => window.pressed === ''")
    assert (
        page.locator(".wm-player").get_attribute("data-mode") == "playing" and troubles(page) == []
    )


@pytest.fixture
def explorers(jupyterlab):
    """A page of headless Chromium with two explorers, painted to the sliders' ends."""
    with shown(SETUP, OURS, OURS, lab=jupyterlab) as page:
        page.wait_for_function(ENDS_PAINTED, arg=32)
        yield page


def picture(explorer, name) -> np.ndarray:
    return np.array(explorer.locator(f"[data-picture={name}] canvas").evaluate(PIXELS)).reshape(
        64, 64, 4
    )[..., :3]


def wait_for_caption(explorer, text):
    explorer.locator("figcaption").get_by_text(text, exact=True).wait_for()


def test_an_arrow_key_moves_its_slider_and_nothing_else(explorers):
    one, other = (explorers.locator(".wm-explorer").nth(number) for number in range(2))
    slider = one.locator(".wm-latent input").first
    wait_for_caption(one, "decoded from mu")
    assert (picture(one, "change") == 128).all()
    frame, at_mu, elsewhere = (
        picture(one, "frame"),
        picture(one, "decoded"),
        picture(other, "decoded"),
    )
    slider.focus()
    explorers.wait_for_timeout(300)
    where = one.bounding_box(), explorers.evaluate(ACTIVE_CELL), float(slider.input_value())
    for key in (
        ["ArrowRight"] * 8 + ["ArrowUp"] * 4 + ["ArrowDown"] * 2 + ["Space", "j", "Shift+Enter"]
    ):
        explorers.keyboard.press(key)
    wait_for_caption(one, "decoded from your z")
    explorers.wait_for_timeout(500)
    assert float(slider.input_value()) == pytest.approx(where[2] + 1, abs=1e-3)
    assert (one.bounding_box(), explorers.evaluate(ACTIVE_CELL)) == where[:2]
    now = picture(one, "decoded")
    assert (
        np.array_equal(picture(one, "change"), np.clip(128 + now - at_mu, 0, 255))
        and (now != at_mu).any()
    )
    size = np.abs(now - at_mu).mean()
    assert (
        one.locator("[data-picture=change]").inner_text().endswith(f"{size:.1f} of 255 on average")
    )
    assert np.array_equal(picture(one, "frame"), frame) and np.array_equal(
        picture(other, "decoded"), elsewhere
    )
    one.get_by_role("button", name="reset").click()
    wait_for_caption(one, "decoded from mu")
    assert np.array_equal(picture(one, "decoded"), at_mu) and troubles(explorers) == []


def test_every_latent_has_a_name_and_pictures_of_its_two_ends(explorers):
    one = explorers.locator(".wm-explorer").first
    names = "inputs => inputs.map(input => input.ariaLabel)"
    most_used = one.locator(".wm-latent input").evaluate_all(names)
    one.get_by_role("button", name="all 32").click()
    explorers.wait_for_function(ENDS_PAINTED, arg=64 + 16)
    every = one.locator(".wm-latent input").evaluate_all(names)
    assert every[:8] == most_used and sorted(every) == sorted(
        f"latent {latent}" for latent in range(32)
    )
    low = np.array(one.locator(".wm-latent canvas").first.evaluate(PIXELS)).reshape(64, 64, 4)[
        ..., :3
    ]
    one.get_by_label(every[0], exact=True).press("Home")
    wait_for_caption(one, "decoded from your z")
    explorers.wait_for_timeout(500)
    assert np.abs(picture(one, "decoded") - low).max() <= 1
    assert one.locator("canvas").evaluate_all(
        "all => all.every(it => it.role === 'img' && it.ariaLabel.length > 10)"
    )


def test_positions_that_pile_up_are_asked_for_once_with_the_newest(explorers):
    asked = explorers.evaluate("""async () => {
        const send = WebSocket.prototype.send;
        let count = 0;
        WebSocket.prototype.send = function (data) {
            count += 1;
            return send.call(this, data);
        };
        const slider = document.querySelector(".wm-latent input");
        for (let value = -200; value <= 200; value++) {
            slider.value = value / 100;
            slider.dispatchEvent(new Event("input"));
        }
        await new Promise((resolve) => setTimeout(resolve, 1500));
        WebSocket.prototype.send = send;
        return count;
    }""")
    one = explorers.locator(".wm-explorer").first
    assert 2 <= asked <= 10
    dragged = picture(one, "decoded")
    one.get_by_role("button", name="reset").click()
    wait_for_caption(one, "decoded from mu")
    one.locator(".wm-latent input").first.evaluate(
        "it => { it.value = 2; it.dispatchEvent(new Event('input')); }"
    )
    wait_for_caption(one, "decoded from your z")
    explorers.wait_for_timeout(500)
    assert np.array_equal(picture(one, "decoded"), dragged)


def test_without_a_kernel_the_explorer_says_what_to_do(explorers):
    explorers.evaluate(
        "async () => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    one = explorers.locator(".wm-explorer").first
    one.locator(".wm-latent input").first.press("ArrowRight")
    explorers.wait_for_function(
        "() => document.querySelector('.wm-explorer').dataset.mode === 'waiting'"
    )
    assert "run this cell again" in one.locator(".wm-state").inner_text()


def test_sliders_show_the_picture_of_their_values_in_order():
    asked = []

    def draw(x, y, shown):
        asked.append((x, y, shown))
        return plots.Picture(bytes([x, y]), f"a picture of {x} and {y}")

    x, y = (ipywidgets.IntSlider(value, min=0, max=9) for value in (1, 2))
    panel = Sliders(draw, [x, y], [ipywidgets.Checkbox(True)])
    before = panel.view.value
    assert set(asked) == {(1, 2, True)} and 'alt="a picture of 1 and 2"' in before
    y.value = 7
    assert asked[-1] == (1, 7, True) and 'alt="a picture of 1 and 7"' in panel.view.value
    assert panel.poster.alt == "a picture of 1 and 2"  # what those without a kernel see


def test_two_players_on_one_page_drive_apart(page):
    page.evaluate("""async () => {
        jupyterapp.shell.currentWidget.content.activeCellIndex = 2;
        for (const job of ["copy-cell", "paste-cell-below", "run-cell"])
            await jupyterapp.commands.execute("notebook:" + job);
    }""")
    page.wait_for_function(
        "() => document.querySelectorAll('.wm-line')[1]?.textContent.startsWith('step 0')"
    )
    lines = page.locator(".wm-line")
    for driven, other in [(1, 0), (0, 1)]:
        page.locator(".wm-player canvas").nth(driven).click()
        page.wait_for_timeout(300)
        still = lines.nth(other).inner_text()
        page.wait_for_function(
            "i => parseInt(document.querySelectorAll('.wm-line')[i].textContent.slice(5)) >= 30",
            arg=driven,
        )
        assert lines.nth(other).inner_text() == still
    assert still.endswith("paused") and troubles(page) == []


@pytest.mark.parametrize("name", ["player", "explorer", "hunt", "scrubber"])
def test_a_widgets_script_is_one_module_with_all_that_it_imports(name):
    text = live.script(name)
    assert "import {" not in text and text.count("function clamp") + text.count("const clamp") == 1
    assert text.count("export ") == 1 and text.rstrip().endswith("export default { render };")
    words = ("gas", "brake", "drive", "50") if name in ("player", "scrubber") else ()
    code = "\n".join(line.split("//")[0] for line in text.splitlines())
    assert [word for word in words if re.search(rf"\b{word}\b", code)] == []
