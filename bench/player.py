"""Frames a second that the players paint at full speed, in JupyterLab in headless Chromium; asked for 50.

The peer is the same player with one step under way at a time. In the dream C has the wheel, and dream and ghost are
painted. Needs Chromium on the PATH.
"""

from bench.explorer import shown

SECONDS = 10
PLAYER = """
import matplotlib.pyplot as plt
from wmlib import plots
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.agent import Agent
from wmlib.widgets import DreamPlayer, Player

class OneAtATime(Player):
    _esm = str(Player._esm).replace("UNDER_WAY = 3", "UNDER_WAY = 1")

assert "UNDER_WAY = 1" in OneAtATime._esm

def game():
    return VectorEnv(CAR_RACING.make, 1, 1000)

poster = plots.picture(plt.figure(), "an empty picture")
agent = Agent.load("data/pretrained/car_racing")
"""
PLAYERS = (
    "Player(game(), CAR_RACING, [1], poster)",
    "OneAtATime(game(), CAR_RACING, [1], poster)",
    "DreamPlayer(agent, game(), [1], poster)",
)
COUNT = """() => {
    const paint = CanvasRenderingContext2D.prototype.putImageData;
    window.painted = 0;
    CanvasRenderingContext2D.prototype.putImageData = function (...what) {
        window.painted += 1;
        paint.apply(this, what);
    };
}"""


def painted(page, player) -> float:
    """Pictures painted a second, of each view."""
    player.get_by_role("button", name="start again").click()
    if player.get_by_role("button", name="C drives").count():
        player.get_by_role("button", name="C drives").click()
    page.wait_for_timeout(1_000)
    first, start = page.evaluate("() => [window.painted, performance.now()]")
    page.wait_for_timeout(1_000 * SECONDS)
    last, end = page.evaluate("() => [window.painted, performance.now()]")
    page.keyboard.press("Escape")
    return 1_000 * (last - first) / (end - start) / player.locator("figure").count()


def main():
    """Print the rate of each."""
    with shown(PLAYER, *PLAYERS) as page:
        page.evaluate(COUNT)
        players = page.locator(".wm-player")
        ours, peer, dream = (painted(page, players.nth(number)) for number in range(3))
    print(
        f"the player paints {ours:.1f} frames a second, with one step under way {peer:.1f}; asked for 50"
    )
    print(
        f"the dream player paints {dream:.1f} frames a second, each of dream and ghost; asked for 40"
    )
    rates = {"ours": ours, "one step under way": peer, "dream player": dream}
    return {"seconds": SECONDS, "frames_per_second": rates}
