"""What a notebook lets the reader move: seen in the browser, computed here.

Callbacks are plain methods, so that tests call them without a browser.
"""

from collections.abc import Callable, Collection
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets

from wmlib import plots
from wmlib.checkpoint import append_line
from wmlib.config import Config
from wmlib.dream import DreamEnv
from wmlib.envs.task import Task, get_task
from wmlib.envs.vector import VectorEnv
from wmlib.plots import Picture
from wmlib.train import encode_frames
from wmlib.vae import VAE, kl_to_standard_normal, to_uint8


class _Posted:
    """A widget that leaves `poster`, a picture, where no kernel runs."""

    poster: Picture

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        widget = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]  # of the widget that it is mixed into
        data, metadata = widget if isinstance(widget, tuple) else (widget, {})
        return {**(data or {}), **self.poster._repr_mimebundle_()}, metadata


class Player(_Posted, anywidget.AnyWidget):
    """A game in the reader's own hands: keys in, frames out.

    The browser is the clock. It asks for a step at most 50 times a second and has three under way at most, so that a
    slow machine plays slower and misses nothing.
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
        task: Task = get_task(Config.task),
    ):
        """env: a vector of one, of this task; seeds: one a drive, in turn; poster: what is shown where no kernel runs;
        frame: observations (1, ...) to what the player sees, uint8 (64, 64, 3); keep: a log of finished drives.
        """
        super().__init__(label=poster.alt)
        self.env, self.seeds, self.task, self.poster = env, list(seeds), task, poster
        self.frame, self.keep = frame, keep
        self.drives = 0
        self.restart()
        self.on_msg(self.answer)

    def restart(self) -> None:
        """Begin a drive, on the next seed's track."""
        self.seed = self.seeds[self.drives % len(self.seeds)]
        self.obs, _ = self.env.reset(seed=[self.seed])
        self.action, self.steps, self.total, self.over = np.zeros(self.task.action_size, np.float32), 0, 0.0, ""
        self.drives += 1

    def step(self, pressed: Collection[str]) -> None:
        """One step with these keys down, of left, right, gas and brake; a finished drive is kept and stays as it is."""
        if self.over:
            return
        self.action = self.task.steer(self.action, pressed)
        self.obs, reward, terminated, truncated, _ = self.env.step(self.action[None])
        self.steps, self.total = self.steps + 1, self.total + float(reward[0])
        if terminated[0]:
            self.over = f"the game ended the drive, with {reward[0]:+.0f} points for the last step"
        elif truncated[0]:
            self.over = "time is up"
        if self.over and self.keep:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.keep, {"seed": self.seed, "steps": self.steps, "return": round(self.total, 1)})

    def answer(self, _, content: dict, buffers) -> None:
        """Do what the browser asks and send it the frame."""
        if content.get("again"):
            self.restart()
        elif "pressed" in content:
            self.step(content["pressed"])
        status = f"step {self.steps}, {self.total:.0f} points"
        frame = np.ascontiguousarray(self.frame(self.obs)).tobytes()
        self.send({"status": status, "over": self.over, "drive": self.drives}, [frame])


class LatentExplorer(_Posted, ipywidgets.VBox):
    """One frame, what V makes of it, and a slider for each of the latents that V uses most."""

    def __init__(self, vae: VAE, frames: np.ndarray, poster: Picture, sliders: int = 8):
        """frames: uint8 (N, 64, 64, 3), those to choose from; how much V uses a latent is its mean KL over them."""
        self.vae, self.frames, self.poster = vae, frames, poster
        self.mu, logvar = encode_frames(vae, frames)  # (N, Z)
        usage = kl_to_standard_normal(torch.from_numpy(self.mu), torch.from_numpy(logvar)).mean(dim=0)
        self.latents = usage.argsort(descending=True)[:sliders].tolist()
        self.rng, self.moving = np.random.default_rng(0), False
        reach = float(max(3, np.ceil(np.abs(self.mu[:, self.latents]).max())))
        wide = {"width": "400px"}
        self.picker = ipywidgets.IntSlider(0, 0, len(frames) - 1, description="frame", layout=wide)
        looks = {"min": -reach, "max": reach, "step": 0.1, "readout_format": ".1f", "layout": wide}
        self.sliders = [ipywidgets.FloatSlider(0, description=f"latent {latent}", **looks) for latent in self.latents]
        self.original, self.decoded = (ipywidgets.Image(layout={"width": "224px", "height": "224px"}) for _ in range(2))
        self.status = ipywidgets.Label()
        buttons = {
            "reset": ipywidgets.Button(description="reset", tooltip="all latents back to what V encodes"),
            "random": ipywidgets.Button(description="random", tooltip="these latents drawn from N(0, 1)"),
        }
        controls = ipywidgets.VBox([self.picker, *self.sliders, ipywidgets.HBox(list(buttons.values()))])
        pictures = ipywidgets.VBox([ipywidgets.HBox([self.original, self.decoded]), self.status])
        super().__init__([ipywidgets.HBox([controls, pictures])])
        self.picker.observe(lambda change: self.reset(), "value")
        for slider in self.sliders:
            slider.observe(lambda change: self.draw(), "value")
        buttons["reset"].on_click(lambda button: self.reset())
        buttons["random"].on_click(lambda button: self.randomise())
        self.reset()

    def reset(self) -> None:
        """The sliders to mu of the chosen frame."""
        self.original.value = plots.png(self.frames[self.picker.value])
        self.move(self.mu[self.picker.value, self.latents])

    def randomise(self) -> None:
        """The sliders to draws from the prior."""
        self.move(self.rng.standard_normal(len(self.sliders)))

    def move(self, values: np.ndarray) -> None:
        """All sliders at once, and one drawing."""
        self.moving = True
        for slider, value in zip(self.sliders, values):
            slider.value = float(value)
        self.moving = False
        self.draw()

    @torch.inference_mode()
    def draw(self) -> None:
        """Decode what the sliders say; a latent without a slider keeps the chosen frame's mu."""
        if self.moving:
            return
        mu = torch.from_numpy(self.mu[self.picker.value])
        z = mu.clone()
        z[self.latents] = torch.tensor([slider.value for slider in self.sliders])
        self.decoded.value = plots.png(to_uint8(self.vae.decode(z[None]))[0])
        source = "mu" if torch.allclose(z, mu, atol=0.05) else "your z"
        self.status.value = f"left: the frame; right: decoded from {source}"
