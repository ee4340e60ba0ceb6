"""From a key to the repainted pictures of the scrubber, in JupyterLab in headless Chromium.

Needs Chromium on the PATH.
"""

import statistics

import numpy as np
from tqdm import tqdm

from bench.explorer import WATCH, shown

MOVES = 60
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
LAST = ".wm-came canvas"  # all others of a moment are painted within the same turn


def step(page, scrubber) -> float:
    """One step on, in milliseconds."""
    scrubber.locator(".wm-time").focus()
    page.evaluate(WATCH, [scrubber.element_handle(), LAST])
    page.keyboard.press("ArrowRight")
    return page.evaluate("() => window.moved")


def main():
    """Print how long a step takes."""
    with shown(SETUP, SCRUBBER) as page:
        page.wait_for_function(PAINTED, arg=1)
        scrubber = page.locator(".wm-scrubber")
        times = [step(page, scrubber) for _ in tqdm(range(MOVES + 4), "steps")][4:]
    median, slow = statistics.median(times), float(np.quantile(times, 0.95))
    print(f"the scrubber repaints {median:.0f} ms after a key; 19 of 20 steps within {slow:.0f} ms")
    return {"moves": MOVES, "median_ms": median, "quantile_95_ms": slow}
