"""The widgets' scripts as modules, and widgets of a game that isn't CarRacing in a browser."""

import os
import re
import shutil
import subprocess
import time

import pytest

from browser import shown, troubles
from wmlib.widgets import live

NAMES = ("explorer", "hunt", "player", "scrubber")
NO_NODE = "no Node on the PATH: install nodejs"
SETUP = """
import sys
from dataclasses import replace
import torch
from wmlib import plots
from wmlib.agent import Agent, new_models
from wmlib.config import ROOT
from wmlib.envs.task import TASKS
from wmlib.envs.vector import VectorEnv
from wmlib.policies import BrownianPolicy
from wmlib.rollout import record
from wmlib.widgets import DreamPlayer, Player, Scrubber

sys.path.insert(0, str(ROOT))
from tests import toy

task = replace(TASKS["toy"], landmark=None)
vae, mdnrnn, controller = new_models(toy.REAL)
with torch.no_grad():
    mdnrnn.to_outcome[-1].bias[1] = -99  # M, untrained, ends no dream
agent = Agent(vae, mdnrnn, controller, torch.zeros(controller.num_params), task)
poster = plots.Picture(b"", "a bar in the dark")
game = lambda: VectorEnv(task.make, 1, 500)
"""
PLAYER = "Player(game(), task, [7], poster)"
DREAM = "DreamPlayer(agent, game(), [7], poster)"
SCRUBBER = "Scrubber(agent, record(game(), BrownianPolicy(task), 7), poster)"
STEP = "line => parseInt(line.textContent.slice(5))"
REACHED = "([line, step]) => parseInt(line.textContent.slice(5)) >= step"


@pytest.fixture(scope="session")
def node():
    """The path of Node; without it the test skips, or fails if WMLIB_REQUIRE_NODE is set."""
    if found := shutil.which("node"):
        return found
    pytest.fail(NO_NODE) if os.environ.get("WMLIB_REQUIRE_NODE") else pytest.skip(NO_NODE)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_with_what_it_imports_is_a_module(node, name):
    check = [node, "--input-type=module", "--check"]
    done = subprocess.run(check, input=live.script(name), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_what_scripts_import_of_one_another_is_there_and_what_they_share_is_used():
    texts = {path.stem: path.read_text() for path in live.FOLDER.glob("*.js")}
    offered = {
        (name, what)
        for name, text in texts.items()
        for what in re.findall(r"^export (?:const|function|class) (\w+)", text, re.MULTILINE)
    }
    taken = {
        (name, what)
        for text in texts.values()
        for names, name in re.findall(r'^import \{([^}]*)\} from "\./(\w+)\.js";', text, re.M)
        for what in re.findall(r"\w+", names)
    }
    assert taken == offered


def test_another_games_widgets_take_all_of_it_from_its_task(chromium):
    with shown(SETUP, PLAYER, DREAM, SCRUBBER) as page:
        page.wait_for_function("() => document.querySelectorAll('.wm-line').length === 2")
        player, dream = page.locator(".wm-player").all()
        play_with_its_own_buttons_keys_words_and_rate(page, player)
        dream_without_a_curve(page, dream)
        scrub_in_its_own_seconds(page, page.locator(".wm-scrubber"))
        assert troubles(page) == []


def play_with_its_own_buttons_keys_words_and_rate(page, player):
    line = player.locator(".wm-line").element_handle()
    buttons = player.locator("[data-key]")
    assert buttons.all_inner_texts() == ["to the left", "to the right"]
    spoken = buttons.evaluate_all("all => all.map(it => it.ariaLabel)")
    assert spoken == ["push left", "push right"]
    hint = "the arrow keys push, space pauses, Esc leaves"
    assert player.locator(".wm-keys").inner_text() == hint
    page.wait_for_function(
        "line => line.textContent.endsWith('click the picture to push')", arg=line
    )
    player.focus()
    page.keyboard.press("KeyA")  # a key of another game's
    assert player.get_attribute("data-mode") == "ready"
    page.keyboard.press("Space")
    page.wait_for_function(REACHED, arg=[line, 2])
    first, start = line.evaluate(STEP), time.monotonic()
    page.wait_for_function(REACHED, arg=[line, 12])
    rate = (line.evaluate(STEP) - first) / (time.monotonic() - start)
    page.keyboard.press("Escape")
    assert rate < 30  # asked for 20


def dream_without_a_curve(page, dream):
    line = dream.locator(".wm-line").element_handle()
    page.wait_for_function("line => line.textContent.startsWith('step 0')", arg=line)
    assert dream.locator(".wm-curve").count() == 0
    dream.get_by_role("button", name="C pushes").click()
    page.wait_for_function(REACHED, arg=[line, 20])
    page.keyboard.press("Escape")
    assert "parted" not in line.text_content()


def scrub_in_its_own_seconds(page, scrubber):
    scrubber.locator(".wm-time").press("End")
    state = scrubber.locator(".wm-state").element_handle()
    page.wait_for_function("it => it.textContent.endsWith('the balance ends here')", arg=state)
    step, seconds = re.search(r"step (\d+) of .*, ([\d.]+) s", state.text_content()).groups()
    assert float(seconds) == pytest.approx(int(step) / 20, abs=0.01)
