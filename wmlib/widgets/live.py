"""A widget on a page that outlives its kernel: a poster, in whose place the widget stands while the kernel lives."""

import re
from pathlib import Path

import anywidget
import traitlets

from wmlib.plots import Picture

FOLDER = Path(__file__).parent
IMPORT = re.compile(r'^import [^;]* from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def script(name: str) -> str:
    """A widget's script behind all that it imports, as one module, which is what anywidget takes."""
    texts: dict[str, str] = {}

    def gather(module: str) -> None:
        text = (FOLDER / f"{module}.js").read_text(encoding="utf-8")
        for other in IMPORT.findall(text):
            if other not in texts:
                gather(other)
        texts[module] = EXPORT.sub("", IMPORT.sub("", text))

    gather(name)
    return "\n".join(texts.values())


def style(name: str) -> str:
    """A widget's style sheet behind the common one."""
    sheets = [FOLDER / f"{sheet}.css" for sheet in ("common", name)]
    return "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


class Live(anywidget.AnyWidget):
    """Puts a widget, named by its model's id, in its poster's place on the page while the kernel lives."""

    _esm = FOLDER / "live.js"
    widget = traitlets.Unicode().tag(sync=True)


class Posted:
    """A widget whose output is `poster`, a picture; with a kernel, the widget stands in its place.

    JupyterLab prefers a widget's own output to any other and, once the kernel is gone, shows an error
    for it.
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
