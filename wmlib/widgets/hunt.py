"""A search for the highest point of a hidden landscape: first the reader's, then CMA-ES's."""

from collections.abc import Callable
from threading import Lock

import anywidget
import numpy as np
import traitlets

from wmlib import plots
from wmlib.widgets.live import Posted, script, style

GRID = 121  # heights along each side of the uncovered landscape
ALT = "A landscape from above: a heat map with contour lines, CMA-ES's points on it, a star at the highest point."


def short(height: float) -> str:
    """A height with one decimal at most."""
    return f"{round(height, 1) + 0.0:.1f}".removesuffix(".0").replace("-", "\u2212")


class Hunt(Posted, anywidget.AnyWidget):
    """The reader asks for heights, point by point; then another searcher's points are shown, then the landscape.

    Until `reveal` the browser has the heights of the asked points alone, just what CMA-ES has. It shows the landscape
    turned or mirrored, another way after each `again`; points here are the landscape's own, [x, y, height] once asked.
    """

    _esm = script("hunt")
    _css = style("hunt")
    extent = traitlets.List(traitlets.Float()).tag(sync=True)
    clicks = traitlets.Int().tag(sync=True)
    state = traitlets.Dict().tag(
        sync=True
    )  # asked, line (what is said), turn; at last rival (G, P, 3) and top
    land = traitlets.Bytes().tag(
        sync=True
    )  # float32 (GRID, GRID), the lowest y first; empty while it is hidden

    def __init__(
        self,
        height: Callable[[np.ndarray], np.ndarray],
        extent: tuple[float, float, float, float],
        rival: np.ndarray,
        clicks: int = 20,
        poster: plots.Picture | None = None,
    ):
        """height: float (N, 2) -> (N,), higher is better; extent: x_low, x_high, y_low, y_high of the field; rival:
        CMA-ES's points (G, P, 2), generation by generation, those outside are shown at the field's edge; clicks: the
        reader's; poster: else the landscape, uncovered.

        Raises ValueError for what has another shape, no number, no field, or more points than clicks.
        """
        if len(extent) != 4 or not (
            np.isfinite(extent).all() and extent[0] < extent[1] and extent[2] < extent[3]
        ):
            raise ValueError(f"extent must be x_low < x_high, y_low < y_high, got {extent}")
        self.height, self.rival = height, np.asarray(rival, float)
        if (
            self.rival.ndim != 3
            or self.rival.shape[2] != 2
            or not 0 < self.rival.size <= 2 * clicks
        ):
            raise ValueError(
                f"rival must be (G, P, 2), of 1 to {clicks} points, not {self.rival.shape}"
            )
        x, y = np.meshgrid(np.linspace(*extent[:2], GRID), np.linspace(*extent[2:], GRID))
        self.ground = self.measure(np.stack([x, y], axis=-1).reshape(-1, 2))  # (GRID * GRID, 3)
        self.found = self.measure(self.rival.reshape(-1, 2))  # (G * P, 3)
        drawing = self.ground[:, 2].reshape(GRID, GRID), extent, self.found[:, :2]
        self.poster = poster or plots.picture(plots.landscape(*drawing), ALT)
        self.turn = 0  # which of the eight ways to lay a square down: 1 mirrors x, 2 mirrors y, 4 swaps them
        self.busy = Lock()  # JupyterLab's first click may come on another thread than its second
        super().__init__(extent=list(map(float, extent)), clicks=clicks)
        self.again()
        self.on_msg(self.answer)

    def measure(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) with their heights, (N, 3); ValueError unless each is a finite number."""
        heights = np.asarray(self.height(points), float)
        if heights.shape != (len(points),) or not np.isfinite(heights).all():
            raise ValueError(f"height must give {len(points)} finite numbers, got {heights.shape}")
        return np.column_stack([points, heights])

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Which points (N, 2 or 3) lie in the field, bool (N,)."""
        return np.all(
            (self.extent[::2] <= points[:, :2]) & (points[:, :2] <= self.extent[1::2]), axis=1
        )

    def again(self) -> None:
        """A fresh start: nothing is asked, the landscape is hidden and lies in another way."""
        self.turn = int(
            np.random.default_rng().choice([turn for turn in range(8) if turn != self.turn])
        )
        self.asked, self.shown = np.empty((0, 3)), False
        self.tell()

    def ask(self, x: float, y: float) -> float:
        """The height at a point, for one click; the last click also reveals.

        Raises ValueError when there is none left, or for a point outside the field.
        """
        point = np.array([[x, y]], float)
        if self.shown or not self.inside(point).all():
            raise ValueError(
                "this search is over" if self.shown else f"({x}, {y}) is outside the field"
            )
        self.asked = np.vstack([self.asked, self.measure(point)])
        self.shown = len(self.asked) == self.clicks
        self.tell()
        return float(self.asked[-1, 2])

    def reveal(self) -> None:
        """Show the rival's points and the landscape; ValueError before the first click."""
        if len(self.asked) == 0:
            raise ValueError("ask for a height first")
        self.shown = True
        self.tell()

    def line(self) -> str:
        """How things stand, to one decimal: the last height and the best so far, at the end who found the higher."""
        tries, total = len(self.asked), len(self.found)
        if tries == 0:
            return f"{self.clicks} clicks: where is the highest point?"
        best, others = self.asked[:, 2].max(), self.found[:tries, 2].max()  # as many tries for both
        mine, its = short(best), short(others)
        if not self.shown:
            return (
                f"click {tries} of {self.clicks} · {short(self.asked[-1, 2])} there · best {mine}"
            )
        first = (
            "both are equally high"
            if mine == its
            else f"{'you' if best > others else 'CMA-ES'} found the higher point"
        )
        told = "with as many tries" if tries <= total else f"with its {total} tries"
        later = (
            f"; with all its {total} tries {short(self.found[:, 2].max())}" if tries < total else ""
        )
        return f"you {mine} · CMA-ES {its}, {told}: {first}{later}"

    def tell(self) -> None:
        """Send the browser what it may know."""
        state = {"asked": self.asked.tolist(), "line": self.line(), "turn": self.turn}
        if self.shown:
            known = np.vstack([self.ground, self.asked, self.found[self.inside(self.found)]])
            state["rival"] = self.found.reshape(*self.rival.shape[:2], 3).tolist()
            state["top"] = known[known[:, 2].argmax()].tolist()
        with self.hold_sync():  # both in one message
            self.land = self.ground[:, 2].astype(np.float32).tobytes() if self.shown else b""
            self.state = state

    def answer(self, _, content: dict, buffers) -> None:
        """Do what the browser asks, `ask` [x, y], `reveal` or `again`; its words come back, with what went wrong."""
        try:
            with self.busy:
                if "ask" in content:
                    self.ask(*content["ask"])
                else:
                    self.reveal() if content.get("reveal") else self.again()
            self.send(content)
        except (
            Exception
        ) as error:  # whatever it is, the reader sees it and the next click gets an answer
            self.send({**content, "trouble": f"the kernel can't do this: {error!r}"})
