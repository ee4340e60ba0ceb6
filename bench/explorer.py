"""From a slider's key to the new picture, in JupyterLab in headless Chromium: the latent explorer and `interact`.

Needs Chromium on the PATH.
"""

import statistics
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import nbformat
from tqdm import tqdm

from tests.browser import NO_CHROMIUM, browse, find_chromium, open_notebook, run_all, serve, troubles

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

# A step of the slider, and the time until the last picture of its output is another one, decoded, in a painted frame.
MOVE = """([handle, output, key]) => new Promise((resolve, reject) => {
    const image = () => Array.from(output.querySelectorAll("img")).at(-1);
    const before = image().src, start = performance.now();
    const look = async () => {
        const now = image();
        if (performance.now() - start > 10000) return reject(new Error("the picture did not change in ten seconds"));
        if (!now || now.src === before) return requestAnimationFrame(look);
        await now.decode();
        requestAnimationFrame(() => resolve(performance.now() - start));
    };
    handle.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    look();
})"""


def move(page, output, step: int) -> float:
    """One step of the most used latent's slider, up and down in turn, in milliseconds."""
    handles = output.locator(".noUi-handle")
    handle = handles.nth(min(1, handles.count() - 1))  # the explorer's first slider picks a frame
    key = "ArrowRight" if step % 2 == 0 else "ArrowLeft"
    return page.evaluate(MOVE, [handle.element_handle(), output.element_handle(), key])


@contextmanager
def shown(*sources: str):
    """A page of headless Chromium with a notebook of these cells, run."""
    chromium = find_chromium() or sys.exit(NO_CHROMIUM)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as (address, study):
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), study / NOTEBOOK)
        with browse(chromium, address) as page:
            open_notebook(page, NOTEBOOK)
            run_all(page)
            if found := troubles(page):
                sys.exit("\n".join(found))
            yield page


def main():
    """Print how long a move takes with each, and the ratio."""
    times = {"latent explorer": [], "interact and imshow": []}
    with shown(SETUP, OURS, PEER) as page:
        outputs = page.locator(".jp-OutputArea-output:has(.noUi-handle)")
        for step in tqdm(range(-4, MOVES), "moves"):  # the first four are not counted
            for index, found in enumerate(times.values()):
                found += [move(page, outputs.nth(index), step)][: step >= 0]
    medians = {name: statistics.median(found) for name, found in times.items()}
    worst = {name: max(found) for name, found in times.items()}
    for name in times:
        slowest = f"the slowest of {MOVES} took {worst[name]:.0f} ms"
        print(f"{name:20} repaints {medians[name]:4.0f} ms after a slider's move; {slowest}")
    ratio = statistics.median(peer / own for own, peer in zip(*times.values()))
    print(f"the explorer answers {ratio:.1f} times as fast")
    return {"moves": MOVES, "median_ms": medians, "slowest_ms": worst, "ours_times_as_fast": ratio}
