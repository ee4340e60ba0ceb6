"""From a slider's key to the new picture, in JupyterLab in headless Chromium: the latent explorer and `interact`.

Needs Chromium on the PATH.
"""

import statistics
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
from tqdm import tqdm

from tests.browser import NO_CHROMIUM, browse, find_chromium, run_all, serve, troubles

MOVES = 40
NOTEBOOK = "bench.ipynb"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}

SETUP = """
import ipywidgets
import matplotlib.pyplot as plt
import torch
from wmlib import plots
from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.data import load_episode
from wmlib.train import encode_frames
from wmlib.vae import to_uint8
from wmlib.widgets import LatentExplorer

vae = Agent.load("data/pretrained/car_racing").vae
frames = load_episode(resolve("data/episodes/000000.npz")).obs[50::10]
"""
OURS = """
explorer = LatentExplorer(vae, frames, plots.picture(plt.figure(), "an empty picture"))
explorer
"""
PEER = """
mu = torch.from_numpy(encode_frames(vae, frames)[0])

def show(value):
    z = mu[:1].clone()
    z[0, explorer.latents[0]] = value
    with torch.inference_mode():
        plt.imshow(to_uint8(vae.decode(z))[0])
    plt.show()

_ = ipywidgets.interact(show, value=ipywidgets.FloatSlider(0, min=-3, max=3, step=0.1))
"""

# The time from the next key until the output's picture is another one, decoded, in a painted frame.
WATCH = """([output, picture]) => {
    const last = () => Array.from(output.querySelectorAll(picture)).at(-1);
    const seen = () => last()?.src ?? last()?.toDataURL();
    const before = seen();
    window.moved = new Promise((resolve, reject) => addEventListener("keydown", () => {
        const start = performance.now();
        const look = async () => {
            if (performance.now() - start > 10000) return reject(new Error("no other picture in ten seconds"));
            if ((seen() ?? before) === before) return requestAnimationFrame(look);
            await last().decode?.();
            requestAnimationFrame(() => resolve(performance.now() - start));
        };
        look();
    }, { capture: true, once: true }));
}"""
# name -> an output, the handle of its most used latent, its decoded picture
SHOWN = {
    "latent explorer": (".wm-explorer", ".wm-latent input", "[data-picture=decoded] canvas"),
    "interact and imshow": (".jp-OutputArea-output:has(.noUi-handle)", ".noUi-handle", "img"),
}


def move(page, name: str, step: int) -> float:
    """One step of the most used latent's slider, up and down in turn, in milliseconds."""
    place, handle, picture = SHOWN[name]
    output = page.locator(place).first
    output.locator(handle).first.focus()
    page.evaluate(WATCH, [output.element_handle(), picture])
    page.keyboard.press("ArrowRight" if step % 2 == 0 else "ArrowLeft")
    return page.evaluate("() => window.moved")


@contextmanager
def shown(*sources: str, lab: tuple[str, Path] | None = None):
    """A page of headless Chromium with a notebook of these cells, run: in a JupyterLab of its own or in `lab`."""
    chromium = find_chromium() or sys.exit(NO_CHROMIUM)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        address, study = lab or stack.enter_context(serve(Path(home)))
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), study / NOTEBOOK)
        page = stack.enter_context(browse(chromium, address, NOTEBOOK))
        run_all(page)
        if found := troubles(page):
            sys.exit("\n".join(found))
        yield page


def main():
    """Print how long a move takes with each, and the ratio."""
    times = {name: [] for name in SHOWN}
    with shown(SETUP, OURS, PEER) as page:
        for step in tqdm(range(-4, MOVES), "moves"):  # the first four are not counted
            for name, found in times.items():
                found += [move(page, name, step)][: step >= 0]
    medians = {name: statistics.median(found) for name, found in times.items()}
    worst = {name: max(found) for name, found in times.items()}
    for name in times:
        slowest = f"the slowest of {MOVES} took {worst[name]:.0f} ms"
        print(f"{name:20} repaints {medians[name]:4.0f} ms after a slider's move; {slowest}")
    ratio = statistics.median(peer / own for own, peer in zip(*times.values()))
    print(f"the explorer answers {ratio:.1f} times as fast")
    return {"moves": MOVES, "median_ms": medians, "slowest_ms": worst, "ours_times_as_fast": ratio}
