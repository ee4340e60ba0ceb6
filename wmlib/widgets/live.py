"""A widget on a page that outlives its kernel: a poster, in whose place the widget stands while the kernel lives."""

from pathlib import Path

import anywidget
import traitlets

from wmlib.plots import Picture


class Live(anywidget.AnyWidget):
    """Puts a widget, named by its model's id, in its poster's place on the page while the kernel lives."""

    _esm = Path(__file__).with_name("live.js")
    widget = traitlets.Unicode().tag(sync=True)


class Posted:
    """A widget whose output is `poster`, a picture; with a kernel, the widget stands in the picture's place.

    JupyterLab prefers a widget's own output to any other and, once the kernel is gone, shows an error for it.
    """

    poster: Picture
    model_id: str

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Live(widget=self.model_id)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        bundle = self.poster._repr_mimebundle_()
        place = f'<div class="wm-live wm-{self.model_id}">{bundle["text/html"]}</div>'
        return bundle | {"text/html": place}, {}
