"""What a notebook shows: one style, one colour for each part, alt text for every picture.

Letters: N frames, Z latents, K mixture components.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from wmlib.mdnrnn import Mixture, mixture_nll

COLOURS = {"V": "#0072B2", "M": "#D55E00", "C": "#009E73", "real": "#404040", "dream": "#CC79A7"}
CONTROLS = 72  # the height of a browser's controls, in pixels


def use_style() -> None:
    """Draw everything that follows in the course's style."""
    mpl.style.use(Path(__file__).with_name("style.mplstyle"))


class Picture:
    """A PNG with alt text, as Jupyter stores and shows it: an <img>, since JupyterLab drops a bare PNG's alt text."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        return {
            "text/html": f'<img alt="{html.escape(self.alt)}" src="{source}">',
            "text/plain": self.alt,
        }


def picture(figure: Figure, alt: str) -> Picture:
    """Close a figure and keep it as a small PNG; ValueError without an alt text that says what is to be seen."""
    _check(alt)
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    small = (
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    )  # a third of the size
    small.save(content, format="png", optimize=True)
    return Picture(content.getvalue(), alt)


def show(figure: Figure, alt: str, handle: DisplayHandle | None = None) -> DisplayHandle:
    """Display a figure with alt text; given the handle of an earlier one, replace that picture in place."""
    still = picture(figure, alt)
    if handle is None:
        return display(still, display_id=True)
    handle.update(still)
    return handle


def show_video(path: Path, alt: str, width: int = 600, autoplay: bool = False) -> None:
    """Display an mp4, stored in the notebook, with a text for those who can't see it; autoplay: it starts by itself.

    The browser's controls get a strip below the picture. Raises FileNotFoundError when there is no such film,
    ValueError when it can't be read, or without a text that says what is to be seen.
    """
    _check(alt)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; run make figures")
    film = cv2.VideoCapture(str(path))
    across, down = film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if not film.isOpened():
        raise ValueError(f"{path} can't be read as a film; delete it and run make figures")
    source = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
    shape = f'width="{width}" height="{round(width * down / across) + CONTROLS}"'
    style = "max-width: 100%; object-fit: contain; object-position: top"
    text = html.escape(alt)  # twice: JupyterLab drops the aria-label of an untrusted notebook
    looks = f'{"autoplay " * autoplay}controls loop muted playsinline {shape} style="{style}"'
    element = f'<video {looks} aria-label="{text}" title="{text}" src="{source}"></video>'
    display({"text/html": element, "text/plain": alt}, raw=True)


def _check(alt: str) -> None:
    if len(alt.split()) < 3:
        raise ValueError(f"alt text must say in a few words what the picture shows, got {alt!r}")


def frame_rows(
    rows: Mapping[str, np.ndarray], size: float = 1.0, titles: Sequence[str] = ()
) -> Figure:
    """Labelled rows of frames: each value uint8 (N, 64, 64, 3); `size` is a frame's side in inches."""
    columns = max(map(len, rows.values()))
    figsize = size * columns + 0.9, size * len(rows) + 0.25
    figure, axes = plt.subplots(len(rows), columns, figsize=figsize, squeeze=False)
    for line, (label, frames) in zip(axes, rows.items()):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for ax, frame in zip(line, frames):
            ax.imshow(frame)
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=8, loc="center")
    return figure


def plot_mixture(
    ax: Axes, mixture: Mixture, target: float | None = None, span: float = 4.0
) -> None:
    """One latent's predicted density: its K Gaussians, their sum, and the value that really came.

    mixture: logits, mu, logsigma, each (K,).
    """
    mu, width = mixture.mu, torch.exp(mixture.logsigma)
    weights = torch.softmax(mixture.logits, dim=-1)
    x = torch.linspace(
        min(-span, (mu - 3 * width).min().item()), max(span, (mu + 3 * width).max().item()), 600
    )
    for weight, center, scale in zip(weights, mu, width):
        density = weight * torch.exp(torch.distributions.Normal(center, scale).log_prob(x))
        ax.fill_between(x, density, alpha=0.25, color=COLOURS["M"], linewidth=0)
    whole = Mixture(*(part.expand(1, len(x), 1, -1) for part in mixture))
    ax.plot(
        x,
        torch.exp(-mixture_nll(whole, x[None, :, None]))[0, :, 0],
        color=COLOURS["M"],
        linestyle="-",
    )
    if target is not None:
        ax.axvline(target, color=COLOURS["real"], linestyle="--", linewidth=1.2)
    ax.set(xlim=(-span, span), yticks=[])


def plot_track(
    ax: Axes, road: np.ndarray, path: np.ndarray | None = None, colour: str = "#009E73"
) -> None:
    """A track from above, as its tiles' corners (tiles, 4, 2), and the path (T, 2) that a car took on it."""
    ax.add_collection(
        PolyCollection(list(road), facecolor="#c8c8c8", edgecolor="#c8c8c8", linewidth=0.5)
    )
    ax.autoscale_view()
    if path is not None:
        ax.plot(*path.T, color=colour, linestyle="-", linewidth=1.4)
        ax.plot(*path[0], "o", color=colour, markersize=4)
    ax.set_aspect("equal")
    ax.axis("off")


def plot_evolution(ax: Axes, rows: Sequence[Mapping]) -> None:
    """Fitness over the generations: the population's mean, its span, and the score of the distribution's mean."""
    generation = np.array([row["generation"] + 1 for row in rows])
    fitness = np.array(
        [row["fitness"] for row in rows], float
    )  # (generations, P); null, no number, is NaN
    worst, best = np.nanmin(fitness, axis=1), np.nanmax(fitness, axis=1)
    ax.fill_between(
        generation,
        worst,
        best,
        color=COLOURS["C"],
        alpha=0.15,
        lw=0,
        label="worst to best candidate",
    )
    ax.plot(
        generation,
        np.nanmean(fitness, axis=1),
        color=COLOURS["C"],
        linestyle="-",
        label="population's mean",
    )
    if chosen := [row for row in rows if "selection" in row]:
        x, y = (
            [row["generation"] + 1 for row in chosen],
            [np.mean(row["selection"]) for row in chosen],
        )
        ax.plot(
            x,
            y,
            "o--",
            color=COLOURS["real"],
            markersize=4,
            label="the distribution's mean on its own tracks",
        )
    ax.set(xlabel="generation", ylabel="return")
    ax.legend()


def landscape(
    heights: np.ndarray, extent: tuple[float, float, float, float], points: np.ndarray
) -> Figure:
    """Heights (N, N) from above, the lowest y first, with contour lines, points (P, 2) and a star at the top.

    extent: x_low, x_high, y_low, y_high.
    """
    figure = plt.figure(figsize=(4.2, 4.2), layout="none")
    ax = figure.add_axes((0.005, 0.005, 0.99, 0.99), xticks=[], yticks=[])
    ax.imshow(
        heights,
        cmap="cividis",
        extent=extent,
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
    )
    ax.contour(heights, 9, colors="white", linewidths=0.6, alpha=0.6, extent=extent)
    low, high = np.array(extent[::2]), np.array(extent[1::2])
    ax.plot(
        *np.clip(points, low, high).T,
        "D",
        color=COLOURS["C"],
        markeredgecolor="white",
        markersize=7,
    )
    top = np.array(np.unravel_index(heights.argmax(), heights.shape))[::-1] / (len(heights) - 1)
    ax.plot(*low + top * (high - low), "*", color="#ffd400", markeredgecolor="black", markersize=17)
    return figure


def _flow(size: tuple[float, float], boxes: Mapping[str, tuple], arrows: Sequence[tuple]) -> Figure:
    """Boxes by name, (x, y, part), and arrows (start, end, label, *corners) from edge to edge, along the axes."""
    figure, ax = plt.subplots(figsize=size)
    half = np.array([0.66, 0.36])  # of a box
    look = {
        "arrowstyle": "-|>",
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 13,
        "color": COLOURS["real"],
    }
    for name, (x, y, part) in boxes.items():
        ground, ink = (
            (COLOURS[part], "white")
            if name in ("V", "M", "C", "environment")
            else ("white", COLOURS[part])
        )
        ax.add_patch(
            Rectangle(
                (x, y) - half, *2 * half, linewidth=1.5, facecolor=ground, edgecolor=COLOURS[part]
            )
        )
        ax.text(x, y, name, ha="center", va="center", color=ink)
    for start, end, label, *corners in arrows:
        line = np.array([boxes[start][:2], *corners, boxes[end][:2]], float)
        line[[0, -1]] += np.sign(line[[1, -2]] - line[[0, -1]]) * half
        ax.plot(*line.T, "-", color=COLOURS["real"], linewidth=1.2)
        ax.annotate("", line[-1], line[-2], arrowprops=look)
        longest = np.abs(np.diff(line, axis=0)).sum(axis=1).argmax()
        x, y = line[longest : longest + 2].mean(axis=0)
        ax.text(x, y, label, ha="center", va="center", backgroundcolor="white")
    ax.axis("off")
    return figure


def agent_map() -> Figure:
    """Who gives what to whom: the environment, V, M and C."""
    boxes = {"environment": (0, 0, "real"), "V": (3, 0, "V"), "M": (5, -1.4, "M"), "C": (7, 0, "C")}
    arrows = [
        ("environment", "V", "frame"), ("V", "C", "z"), ("V", "M", "z", (3, -1.4)), ("M", "C", "h", (7, -1.4)),
        ("C", "environment", "action", (7, 1.1), (0, 1.1)), ("C", "M", "action", (8.6, 0), (8.6, -2.5), (5, -2.5)),
    ]  # fmt: skip
    return _flow((7.6, 3.2), boxes, arrows)


def timing_diagram(dream: bool = False) -> Figure:
    """One tick of the agent: who reads what, and when (the same drawing in every notebook that needs it).

    dream: the same without a game; the next z is drawn from M's prediction.
    """
    top = ("obs[t]", "V", "z[t]", "C", "action[t]", "environment", "obs[t+1]")
    low = ("h[t]", "M", "h[t+1]", "p(z[t+1])")
    boxes = {
        name: (1.75 * i, 0.0, part)
        for i, (name, part) in enumerate(zip(top, "real V V C C real real".split()))
    }
    boxes |= {name: (1.75 * i, -1.5, "M") for i, name in enumerate(low, 3)}
    pairs = (*pairwise(top), *pairwise(low), ("h[t]", "C"), ("action[t]", "M"))
    arrows: list[tuple] = [(*pair, "") for pair in pairs]
    arrows.append(("z[t]", "M", "", (3.5, -2.3), (7, -2.3)))
    note = "M's prediction, from h[t+1]:\na dream draws z[t+1] from it"
    if dream:
        boxes = {name: box for name, box in boxes.items() if name not in (*top[:2], *top[5:])}
        boxes["z[t+1]"] = (10.5, 0.0, "V")
        arrows = [arrow for arrow in arrows if boxes.keys() >= set(arrow[:2])] + [
            ("p(z[t+1])", "z[t+1]", "a draw")
        ]
        note = "the next tick begins with\nh[t+1] and the z[t+1] that was drawn"
    figure = _flow((10, 3), boxes, arrows)
    figure.axes[0].text(9.6, -2.35, note, ha="center", va="center", color=COLOURS["M"])
    figure.axes[0].text(
        1.75 * dream, -1.5, "one tick", ha="center", va="center", fontsize=13, color=COLOURS["real"]
    )
    return figure
