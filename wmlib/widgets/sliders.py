"""Sliders over a picture."""

from collections.abc import Callable, Sequence

import ipywidgets

from wmlib.plots import Picture
from wmlib.widgets.live import Posted


class Sliders(Posted, ipywidgets.VBox):
    """Rows of ipywidgets' controls over the picture that `draw` makes of their values, in order, whenever one moves."""

    def __init__(self, draw: Callable[..., Picture], *rows: Sequence[ipywidgets.ValueWidget]):
        self.draw, self.movable = draw, [control for row in rows for control in row]
        self.poster = self.drawn()
        self.view = ipywidgets.HTML(self.poster._repr_mimebundle_()["text/html"])
        lines = [
            ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows
        ]  # narrow pages break a row
        super().__init__([*lines, self.view])
        for control in self.movable:
            control.observe(self.redraw, "value")

    def drawn(self) -> Picture:
        """The picture of the present values."""
        return self.draw(*(control.value for control in self.movable))

    def redraw(self, change: object = None) -> None:
        """Show it on the page."""
        self.view.value = self.drawn()._repr_mimebundle_()["text/html"]
