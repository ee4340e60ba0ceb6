"""Every notebook as a reader meets it after `make course`, in headless Chromium: opened; some run and opened again."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from browser import FIRST, ROOT, browse, faults, open_notebook, reopen, run_all, serve

SIZES = {path.name: path.stat().st_size for path in (ROOT / "notebooks").glob("*.ipynb")}
AT_ONCE = (
    2  # each kernel has one thread; the largest notebook first, so that none runs alone at the end
)
RUN = (
    "00_start_here.ipynb",
    "01_car_racing_and_rollouts.ipynb",
    "A_refresher.ipynb",
)  # the others run in nbval alone
if os.environ.get("WMLIB_WALK") == "all":  # seven minutes on two cores
    RUN = tuple(SIZES)
PLACE = ".jp-NotebookPanel:not(.lm-mod-hidden) .wm-live"  # of the notebook in front
LIVE = f"{PLACE}:not(:has(> img))"
PICTURES = "place => [...place.querySelectorAll('img, canvas')].map((shown) => shown.src ?? shown.toDataURL())"
CHANGED = f"([place, before, how]) => ({PICTURES})(place)[how]((shown, i) => shown !== before[i])"
UNNUMBERED = """() => jupyterapp.shell.currentWidget.content.widgets.map(({ model }) => model)
    .filter((model) => model.type === "code" && !model.executionCount).map((model) => model.id)"""
POSTER = f"{PLACE} > img"
TRUSTED = "() => jupyterapp.shell.currentWidget.content.widgets.every(({ model }) => model.trusted !== false)"
OPAQUE = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
    .every((part, i) => i % 4 < 3 || part === 255)"""
WHERE = (
    "() => [jupyterapp.shell.currentWidget.content.activeCellIndex, document.activeElement.tagName]"
)
ALL_LIVE = f"count => document.querySelectorAll('{LIVE}').length === count"


@pytest.fixture(scope="module")
def walks(request, chromium, tmp_path_factory):
    """A walk through each notebook that is asked for, two at the same time: what each found."""
    items = [
        item for item in request.session.items if "walks" in getattr(item, "fixturenames", [])
    ]  # nbval's have none
    asked = [item.callspec.params["name"] for item in items]
    with (
        serve(tmp_path_factory.mktemp("jupyter")) as (address, _),
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        yield {
            name: pool.submit(walk, chromium, address, name)
            for name in sorted(asked, key=SIZES.get, reverse=True)
        }


def walk(chromium, address, name):
    """Open a notebook; if it is one of RUN, run it and open it again without its kernel: what is wrong, by stage."""
    with browse(chromium, address, FIRST if name in RUN else name) as page:
        if name in RUN:
            open_notebook(page, name)
        found = {"opened": faults(page)}
        if page.evaluate(TRUSTED):
            found["opened"].append("trusted before it was run")
        widgets = page.locator(PLACE).count()
        found["opened"] += unposted(page, widgets)
        if name in RUN:
            found |= run(page, name, widgets)
            reopen(page, name, kernel=False)
            found["opened again, without its kernel"] = faults(page) + unposted(page, widgets)
        return found


def run(page, name, widgets):
    """Run a notebook, move its widgets, open it again while its kernel lives."""
    run_all(page)
    page.wait_for_function(ALL_LIVE, arg=widgets)
    found = {"run": faults(page) + unnumbered(page)}
    found["moved"] = [
        fault for place in page.locator(LIVE).all() for fault in move(page, place)
    ] + faults(page)
    if widgets:
        reopen(page, name, kernel=True)
        page.wait_for_function(ALL_LIVE, arg=widgets)
        found["opened again, with its kernel"] = faults(page)
    return found


def unposted(page, widgets):
    """Whether a widget's poster is missing where no kernel has run the widget."""
    return [] if page.locator(POSTER).count() == widgets else ["a widget's poster is not there"]


def unnumbered(page):
    """The cells that did not run to their end."""
    return [f"the cell {name} has no number" for name in page.evaluate(UNNUMBERED)]


def move(page, place):
    """Drive the player or go on in the scrubber until all pictures have changed, or push a slider until some have."""
    place.scroll_into_view_if_needed()
    if place.locator(".wm-hunt").count():
        return hunt(page, place)
    before, explorer = place.evaluate(PICTURES), place.locator(".wm-explorer").count()
    if place.locator(".wm-player").count():
        place.get_by_role("button", name="start again").click()
        page.keyboard.down("ArrowUp")
    else:  # the explorer's, the scrubber's, or one of ipywidgets
        place.locator(".wm-latent input, .wm-time, .noUi-handle").first.focus()
        for _ in range(10):
            page.keyboard.press("ArrowRight")
    page.wait_for_function(
        CHANGED, arg=[place.element_handle(), before, "some" if explorer else "every"]
    )
    page.keyboard.up("ArrowUp")
    page.keyboard.press("Escape")  # a player rests
    kept = sum(now == then for now, then in zip(place.evaluate(PICTURES), before, strict=True))
    return [] if kept or not explorer else ["a slider changes the chosen frame too"]


def hunt(page, place):
    """Use up a hunt's clicks, by mouse and by keys, see CMA-ES's points and the landscape, begin another hunt."""
    canvas, told = (place.locator(name).element_handle() for name in ("canvas", ".wm-told"))
    says = "([told, words]) => told.textContent.startsWith(words)"
    for where in ((60, 60), (150, 90), (60, 60)):
        canvas.click(position=dict(zip("xy", where)))
    page.wait_for_function(says, arg=[told, "click 3 of "])
    before = place.bounding_box(), page.evaluate(WHERE)
    found = ["the landscape is seen before the end"] if canvas.evaluate(OPAQUE) else []
    for key in [
        "PageDown",
        "j",
        "Shift+Enter",
        *["ArrowRight", "Enter"] * 15,
        *["Shift+ArrowDown", "Space"] * 15,
    ]:
        page.keyboard.press(key)  # more than there are clicks
    page.wait_for_function(says, arg=[told, "CMA-ES, generation 2 of "])
    page.wait_for_function(says, arg=[told, "you "])
    page.wait_for_function(OPAQUE, arg=canvas)
    if (place.bounding_box(), page.evaluate(WHERE)) != before or before[1][1] != "CANVAS":
        found.append("a hunt's keys or words move the page")
    place.get_by_role("button", name="again").click()
    page.wait_for_function("told => told.textContent.includes('clicks:')", arg=told)
    page.keyboard.press("Enter")
    page.wait_for_function(says, arg=[told, "click 1 of "])
    place.get_by_role("button", name="show CMA-ES").press("Enter")
    page.wait_for_function(OPAQUE, arg=canvas)
    page.keyboard.press("Escape")
    return found + ([] if page.evaluate(WHERE)[1] != "CANVAS" else ["Esc does not leave the hunt"])


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_notebook_shows_all_it_has_opened_run_and_opened_again(walks, name):
    found = walks[name].result()
    stages = (
        {"opened", "run", "moved", "opened again, without its kernel"}
        if name in RUN
        else {"opened"}
    )
    assert stages <= found.keys() and not {stage: lines for stage, lines in found.items() if lines}


def test_a_kernel_starts_without_a_warning(page, jupyter_home):
    log = (jupyter_home / "log").read_text()
    assert "token=" in log and "warning" not in log.lower()
