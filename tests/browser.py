"""JupyterLab just as `make course` opens it, and a headless Chromium to look at it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = "shown.ipynb"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/lab/tree/\S+token=\w+")
FIRST = "00_start_here.ipynb"  # the notebook that `course.py open` opens
PATIENCE = 600  # seconds, for a busy machine
KERNEL_PATIENCE = 120  # seconds; the server itself gives a kernel 60
NO_CHROMIUM = (
    "no Chromium on the PATH: install chromium or Google Chrome (apt-get install chromium)"
)
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
TROUBLE = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
IN_FRONT = """name => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.path.endsWith(name) && panel.sessionContext?.session?.kernel?.info;
}"""
BEGIN_ANEW = """async () => {
    const { context, sessionContext } = jupyterapp.shell.currentWidget, { session } = sessionContext;
    jupyterapp.shell.currentWidget.dispose();
    if (session) await jupyterapp.serviceManager.sessions.shutdown(session.id);
    jupyterapp.commands.execute("docmanager:open", { path: context.path });
}"""
SETTLED = """() => {
    const { node, content } = jupyterapp.shell.currentWidget;
    return content.widgets.every(({ model, outputArea, rendered }) => model.type === "markdown" ? rendered
        : model.type === "raw" || outputArea.widgets.length >= Math.min(1, outputArea.model.length))
        && [...node.querySelectorAll(".jp-OutputArea-output")].every((output) => output.hasChildNodes())
        && [...node.querySelectorAll("img")].every((image) => image.complete)
        && [...node.querySelectorAll("video")].every((film) => film.readyState >= 1 || film.error);
}"""
FAULTS = """() => {
    const { node, content } = jupyterapp.shell.currentWidget;
    const found = [], wide = ".jp-WindowedPanel-outer, .cm-scroller, .jp-RenderedMarkdown, .jp-OutputArea-output";
    const check = (element, fine, what) => {
        const cell = content.widgets.findIndex((widget) => widget.node.contains(element));
        if (!fine) found.push(`cell ${cell}: ${what}`);
    };
    for (const element of node.querySelectorAll(wide)) {
        const { scrollWidth, clientWidth, className } = element;
        const scrolls = /auto|scroll/.test(getComputedStyle(element).overflowX) && scrollWidth > clientWidth;
        check(element, !scrolls, `${className}: ${scrollWidth} pixels wide in ${clientWidth}`);
    }
    for (const image of node.querySelectorAll("img")) {
        check(image, image.naturalWidth > 0, `no picture: ${image.alt}`);
        // ipywidgets.Image cannot have an alt text
        check(image, image.alt.trim(), "a picture without alt text");
    }
    for (const film of node.querySelectorAll("video")) {
        check(film, film.readyState >= 1 && film.duration > 0, `a dead film: ${film.error?.message}`);
        const { model } = content.widgets.find((widget) => widget.node.contains(film));
        // JupyterLab drops an untrusted film's aria-label
        check(film, film.title.trim() && (film.ariaLabel?.trim() || !model.trusted), "a film without a text");
    }
    for (const output of node.querySelectorAll(".jp-OutputArea-output"))
        check(output, !/(Error displaying|Loading) widget|model not found/.test(output.innerText), output.innerText);
    return found;
}"""
IDLE = "() => allCellsRun && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium; without one the test skips, or fails if WMLIB_REQUIRE_BROWSER is set."""
    if found := find_chromium():
        return found
    pytest.fail(NO_CHROMIUM) if os.environ.get("WMLIB_REQUIRE_BROWSER") else pytest.skip(
        NO_CHROMIUM
    )


@pytest.fixture(scope="session")
def jupyter_home(tmp_path_factory):
    """The folder of JupyterLab's settings and of its log."""
    return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="session")
def jupyterlab(chromium, jupyter_home):
    """A JupyterLab, as `serve` gives it."""
    with serve(jupyter_home) as lab:
        yield lab


@pytest.fixture
def page(chromium, jupyterlab):
    """A page of headless Chromium with notebook 00 open."""
    with browse(chromium, jupyterlab[0]) as page:
        yield page


def find_chromium():
    """The path of a Chromium, or None."""
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


@contextmanager
def serve(home):
    """`course.py open` on a fresh copy of the notebooks, Jupyter's settings in `home`: its address, the copy."""
    study = Path(
        tempfile.mkdtemp(prefix="study_", dir=ROOT)
    )  # beside notebooks/, so that ../figures resolves
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "course.py", "open", "--study", study],
            cwd=ROOT,
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield read_address(server, home / "log"), study
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)
        shutil.rmtree(study)


@contextmanager
def browse(chromium, address, name=FIRST):
    """A page of headless Chromium with this notebook of the reader's copy open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:  # one per test: its event loop must not outlive the test
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(1000 * PATIENCE)
        workspace = f"/lab/workspaces/{uuid.uuid4().hex}/"  # without another test's tabs
        page.goto(address.replace("/lab/", workspace).replace(FIRST, name))
        wait_for_kernel(page, name)
        yield page
        browser.close()


def environment(home):
    """An environment without a display, with a free port, and with Jupyter's settings in `home`."""
    settings = home / "lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        json.dumps({"windowingMode": "none"})
    )  # cells out of sight are rendered too
    (home / "jupyter_lab_config.json").write_text(
        json.dumps({"LabApp": {"expose_app_in_browser": True}})
    )
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JUPYTER") and "DISPLAY" not in name
    }
    return kept | dict.fromkeys(names, str(home)) | {"JUPYTER_PORT": str(free_port())}


def free_port():
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_address(server, log):
    """Wait for the address that JupyterLab prints."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        if address := ADDRESS.search(log.read_text()):
            return address.group()
        time.sleep(0.2)
    pytest.fail(f"JupyterLab printed no address:\n{log.read_text()}")


def wait_for_kernel(page, name):
    """Wait for the notebook in front and its kernel; one that the server didn't get going is ended and begun anew."""
    from playwright.sync_api import TimeoutError as TooLate

    try:
        page.wait_for_function(IN_FRONT, arg=name, timeout=1000 * KERNEL_PATIENCE)
    except TooLate:  # the server gave up on it: "Kernel never reached an 'alive' state"
        page.evaluate(BEGIN_ANEW)
        page.wait_for_function(IN_FRONT, arg=name)


def open_notebook(page, name):
    """Open another notebook of the reader's copy, in front."""
    page.evaluate(
        """name => {
        const folder = jupyterapp.shell.currentWidget.context.path.split("/")[0];
        jupyterapp.commands.execute("docmanager:open", { path: `${folder}/${name}` });
    }""",
        name,
    )
    wait_for_kernel(page, name)


def reopen(page, name, kernel):
    """Save the notebook in front and open it again: on the page loaded anew, or in a new tab, its kernel ended."""
    page.evaluate("async () => jupyterapp.shell.currentWidget.context.save()")
    if kernel:
        page.reload()
    else:
        page.evaluate(BEGIN_ANEW)
    wait_for_kernel(page, name)


def run_all(page):
    """Run All Cells, as the menu does, and wait until the kernel is idle again."""
    page.evaluate("""() => {
        window.allCellsRun = false;
        jupyterapp.commands.execute("notebook:run-all-cells").finally(() => { window.allCellsRun = true; });
    }""")
    page.wait_for_function(IDLE)


def troubles(page):
    """The text of every error and every line on stderr that the notebook shows."""
    return page.locator(TROUBLE).all_inner_texts()


def faults(page):
    """What is wrong with the looks of the notebook in front, a line each."""
    page.add_style_tag(
        content="mjx-assistive-mml { display: none !important }"
    )  # as wide as a formula in other fonts
    page.wait_for_function(SETTLED)
    return troubles(page) + page.evaluate(FAULTS)


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
