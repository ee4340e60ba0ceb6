"""What a notebook lets the reader move: seen in the browser, computed here.

Callbacks are plain methods, so that tests call them without a browser.
"""

from collections.abc import Callable, Collection
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from wmlib.checkpoint import append_line
from wmlib.dream import DreamEnv
from wmlib.envs.vector import VectorEnv
from wmlib.plots import Picture


class Player(anywidget.AnyWidget):
    """A car in the reader's own hands: keys in, frames out.

    The browser is the clock. It asks for a step at most 50 times a second, and only when it has painted the last one, so
    that a slow machine plays slower and misses nothing.
    """

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("player.css")
    label = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        env: VectorEnv | DreamEnv,
        seeds: Collection[int],
        poster: Picture,
        frame: Callable[[np.ndarray], np.ndarray] = lambda obs: obs[0],
        keep: Path | None = None,
    ):
        """env: a vector of one; seeds: one a drive, in turn; poster: what is shown where no kernel runs;
        frame: observations (1, ...) to what the player sees, uint8 (64, 64, 3); keep: a log of finished drives.
        """
        super().__init__(label=poster.alt)
        self.env, self.seeds, self.poster, self.frame, self.keep = env, list(seeds), poster, frame, keep
        self.drives = 0
        self.restart()
        self.on_msg(self.answer)

    def restart(self) -> None:
        """Begin a drive, on the next seed's track."""
        self.seed = self.seeds[self.drives % len(self.seeds)]
        self.obs, _ = self.env.reset(seed=[self.seed])
        self.action, self.steps, self.total, self.over = np.zeros(3, np.float32), 0, 0.0, False
        self.drives += 1

    def step(self, pressed: Collection[str]) -> None:
        """One step with these keys down, of left, right, gas and brake; a finished drive is kept and stays as it is."""
        if self.over:
            return
        self.action = steer(self.action, pressed)
        self.obs, reward, terminated, truncated, _ = self.env.step(self.action[None])
        self.steps, self.total, self.over = self.steps + 1, self.total + float(reward[0]), bool(terminated[0] | truncated[0])
        if self.over and self.keep:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.keep, {"seed": self.seed, "steps": self.steps, "return": round(self.total, 1)})

    def answer(self, _, content: dict, buffers) -> None:
        """Do what the browser asks and send it the frame."""
        if content.get("again"):
            self.restart()
        elif "pressed" in content:
            self.step(content["pressed"])
        status = f"step {self.steps}, {self.total:.0f} points" + ("; the drive is over" if self.over else "")
        self.send({"status": status, "over": self.over}, [np.ascontiguousarray(self.frame(self.obs)).tobytes()])

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        widget = super()._repr_mimebundle_(**kwargs)
        data, metadata = widget if isinstance(widget, tuple) else (widget, {})
        still, alt = self.poster._repr_mimebundle_()
        return {**(data or {}), **still}, {**metadata, **alt}


def steer(action: np.ndarray, pressed: Collection[str]) -> np.ndarray:
    """The next action (3,) of a person with keys: the wheel turns by a tenth a step, the pedals go half way down."""
    target = float("right" in pressed) - float("left" in pressed)
    wheel = action[0] + np.clip(target - action[0], -0.1, 0.1)
    return np.array([wheel, 0.5 * ("gas" in pressed), 0.5 * ("brake" in pressed)], np.float32)
