"""The player: keys become actions, drives scores. The explorer: sliders become frames. Both also in a browser."""

import io
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from browser import open_notebook, run_all, troubles
from wmlib import plots
from wmlib.envs.car_racing import CAR_RACING, steer
from wmlib.envs.vector import VectorEnv
from wmlib.vae import VAE, to_float, to_uint8
from wmlib.widgets import LatentExplorer, Player

NOTHING = np.zeros(3, np.float32)
PIXELS = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 64, 64).data)"
ACTIVE_CELL = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"


@pytest.fixture
def player(tmp_path):
    poster = plots.picture(plt.figure(), "a strip of frames from a drive")
    return Player(VectorEnv(CAR_RACING.make, 1, max_steps=4), [7, 8], poster, keep=tmp_path / "runs" / "drives.jsonl")


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


@pytest.mark.parametrize("keys", [[], ["gas"], ["brake", "left"], ["gas", "brake", "left", "right"], ["unknown"]])
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


@pytest.mark.parametrize(
    "name, text", [("player", "a strip of frames from a drive"), ("explorer", "rows of decoded frames")]
)
def test_where_no_kernel_runs_the_poster_is_shown(request, name, text):
    data, _ = request.getfixturevalue(name)._repr_mimebundle_()
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} == data.keys()
    assert data["text/plain"] == text and f'<img alt="{text}"' in data["text/html"]


@pytest.fixture
def explorer():
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    return LatentExplorer(VAE(), frames, plots.picture(plt.figure(), "rows of decoded frames"), sliders=6)


def shown(image) -> np.ndarray:
    """The frame in an enlarged picture."""
    return np.array(Image.open(io.BytesIO(image.value)))[2::4, 2::4]


@torch.inference_mode()
def decoded(explorer, z) -> np.ndarray:
    return to_uint8(explorer.vae.decode(z[None]))[0]


@torch.inference_mode()
def test_the_explorer_starts_with_a_frame_and_its_reconstruction(explorer):
    mu, logvar = explorer.vae.encode(to_float(explorer.frames))
    assert np.array_equal(shown(explorer.original), explorer.frames[0])
    assert np.array_equal(shown(explorer.decoded), decoded(explorer, mu[0]))
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0)).mean(0)
    assert explorer.latents == kl.topk(6).indices.tolist()


def test_a_slider_moves_its_latent_and_no_other(explorer):
    z = torch.from_numpy(explorer.mu[0].copy())
    z[explorer.latents[2]] = explorer.sliders[2].value = -1.5
    assert np.array_equal(shown(explorer.decoded), decoded(explorer, z))
    assert explorer.status.value.endswith("your z")


def test_another_frame_or_reset_brings_mu_back(explorer):
    explorer.randomise()
    assert len({slider.value for slider in explorer.sliders}) == 6
    explorer.picker.value = 3
    for _ in range(2):
        assert np.array_equal(shown(explorer.original), explorer.frames[3])
        assert np.array_equal(shown(explorer.decoded), decoded(explorer, torch.from_numpy(explorer.mu[3])))
        assert explorer.status.value.endswith("mu")
        explorer.randomise()
        explorer.reset()


def test_a_reader_drives_with_the_keys_and_the_page_stays_where_it_is(page):
    open_notebook(page, "01_car_racing_and_rollouts.ipynb")
    page.evaluate("""async () => {
        const { content } = jupyterapp.shell.currentWidget;
        content.activeCellIndex = 0;
        for (let cell = 0; cell < 4; cell++) await jupyterapp.commands.execute("notebook:run-cell-and-select-next");
    }""")
    player, line = page.locator(".wm-player"), page.locator(".wm-line")
    page.wait_for_function("() => document.querySelector('.wm-line')?.textContent.startsWith('step 0')")
    canvas = player.locator("canvas")
    before = canvas.evaluate(PIXELS)
    canvas.click()
    top, active = player.bounding_box()["y"], page.evaluate(ACTIVE_CELL)
    page.keyboard.down("ArrowUp")
    page.wait_for_function("() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) >= 60")
    page.keyboard.up("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert canvas.evaluate(PIXELS) != before and player.bounding_box()["y"] == pytest.approx(top, abs=2)
    assert page.evaluate(ACTIVE_CELL) == active
    page.wait_for_timeout(300)
    paused = line.inner_text()
    page.wait_for_timeout(300)
    assert line.inner_text() == paused and "points" in paused and paused.endswith("paused")
    player.get_by_role("button", name="start again").click()
    page.wait_for_function("() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) < 50")
    page.keyboard.press("Space")
    gas = player.get_by_role("button", name="gas").bounding_box()
    page.mouse.move(gas["x"] + gas["width"] / 2, gas["y"] + gas["height"] / 2)
    page.mouse.down()  # a finger on the page's button drives on
    page.wait_for_function("() => parseInt(document.querySelector('.wm-line').textContent.slice(5)) > 80")
    page.mouse.up()
    assert troubles(page) == []
    page.evaluate("async () => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function("() => document.querySelector('.wm-player').dataset.mode === 'waiting'")
    assert "run this cell again" in line.inner_text()


def test_a_slider_in_the_browser_redraws_the_frame(page):
    open_notebook(page, "02_vae.ipynb")
    run_all(page)
    explorer = page.locator(".jp-OutputArea-output:has(.widget-slider)").first
    explorer.scroll_into_view_if_needed()
    pictures = explorer.locator("img")
    before = [pictures.nth(i).get_attribute("src") for i in range(2)]
    handle = explorer.locator(".noUi-handle").nth(1)
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([image, before]) => image.src !== before", arg=[pictures.nth(1).element_handle(), before[1]]
    )
    assert pictures.nth(0).get_attribute("src") == before[0]
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") == 256 for i in range(2))
    assert troubles(page) == []
