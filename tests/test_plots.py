"""What a notebook shows: alt text is not optional, and a drawing holds the data that it was given."""

import base64
from html.parser import HTMLParser

import matplotlib

matplotlib.use("Agg")

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmlib import plots
from wmlib.mdnrnn import Mixture
from wmlib.video import write_mp4

ALT = "A line that rises from left to right"


@pytest.fixture
def shown(monkeypatch):
    """What was given to IPython's display instead of a notebook."""
    calls = []

    def display(picture, display_id):
        calls.append((picture, display_id))
        return "handle"

    monkeypatch.setattr(plots, "display", display)
    return calls


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def line():
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    return figure


@pytest.mark.parametrize("alt", ["", "   ", "plot", "a figure"])
def test_a_figure_without_alt_text_is_not_shown(shown, alt):
    figure = line()
    with pytest.raises(ValueError, match="alt text must say"):
        plots.show(figure, alt)
    plt.close(figure)
    assert shown == []


def test_alt_text_cannot_be_left_out(shown):
    figure = line()
    with pytest.raises(TypeError):
        plots.show(figure)
    plt.close(figure)


def tag(page):
    """The name and the attributes of the one element of a piece of HTML, as a browser reads them."""
    found, parser = [], HTMLParser()
    parser.handle_starttag = lambda name, attributes: found.append((name, dict(attributes)))
    parser.feed(page)
    (element,) = found
    return element


def test_a_picture_is_an_image_with_its_alt_text(shown):
    alt = 'a "straight" road & a bend < 90 degrees'
    assert plots.show(line(), alt) == "handle"
    ((picture, display_id),) = shown
    data = picture._repr_mimebundle_()
    name, attributes = tag(data["text/html"])
    kind, content = attributes["src"].split(",")
    assert display_id is True and data["text/plain"] == alt
    assert (name, attributes["alt"], kind) == ("img", alt, "data:image/png;base64")
    assert base64.b64decode(content).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_shown_figure_is_closed(shown):
    figure = line()
    plots.show(figure, ALT)
    assert not plt.fignum_exists(figure.number)


def test_a_handle_gets_the_new_picture_in_place(shown):
    class Handle:
        def update(self, picture):
            self.picture = picture

    handle = Handle()
    assert plots.show(line(), ALT, handle) is handle
    assert handle.picture.alt == ALT and shown == []


def test_a_video_is_shown_with_its_text(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(plots, "display", lambda data, raw: calls.append(data))
    write_mp4(tmp_path / "a.mp4", np.zeros((3, 40, 60, 3), np.uint8))
    plots.show_video(tmp_path / "a.mp4", ALT, width=300)
    name, attributes = tag(
        calls[0]["text/html"]
    )  # the src stands in the element itself: it plays untrusted
    assert (
        name == "video"
        and attributes["aria-label"] == attributes["title"] == calls[0]["text/plain"] == ALT
    )
    film = base64.b64encode((tmp_path / "a.mp4").read_bytes()).decode()
    assert attributes["src"] == "data:video/mp4;base64," + film
    assert (attributes["width"], attributes["height"]) == ("300", str(200 + plots.CONTROLS))
    plots.show_video(tmp_path / "a.mp4", ALT, autoplay=True)
    _, by_itself = tag(calls[1]["text/html"])
    assert "autoplay" not in attributes and {"autoplay", "muted", "loop", "playsinline"} <= set(
        by_itself
    )


def test_frame_rows_show_every_frame_in_its_row_under_its_label():
    rng = np.random.default_rng(0)
    rows = {
        "seen": rng.integers(0, 256, (3, 64, 64, 3), np.uint8),
        "recalled": rng.integers(0, 256, (2, 64, 64, 3), np.uint8),
    }
    figure = plots.frame_rows(rows, titles=["one", "two", "three"])
    axes = np.array(figure.axes).reshape(2, 3)
    assert [axes[row, 0].get_ylabel() for row in range(2)] == list(rows)
    for row, frames in enumerate(rows.values()):
        for column, frame in enumerate(frames):
            assert np.array_equal(axes[row, column].images[0].get_array(), frame)
    assert not axes[1, 2].images
    assert [ax.get_title() for ax in axes[0]] == ["one", "two", "three"]
    plt.close(figure)


@pytest.mark.parametrize("frame_size", [0.5, 2.0])
def test_frame_rows_grow_with_the_frames(frame_size):
    figure = plots.frame_rows({"seen": np.zeros((4, 64, 64, 3), np.uint8)}, size=frame_size)
    width, height = figure.get_size_inches()
    assert width > 4 * frame_size and height > frame_size
    plt.close(figure)


def test_a_mixtures_curve_is_its_density(ax):
    logits, mu, logsigma = (
        torch.tensor([0.0, 1.0, -1.0]),
        torch.tensor([-1.0, 0.5, 2.0]),
        torch.tensor([-1.0, 0.0, -2.0]),
    )
    plots.plot_mixture(ax, Mixture(logits, mu, logsigma))
    x, density = ax.lines[0].get_data()
    oracle = (
        MixtureSameFamily(Categorical(logits=logits), Normal(mu, logsigma.exp()))
        .log_prob(torch.tensor(x))
        .exp()
    )
    np.testing.assert_allclose(density, oracle, rtol=1e-4, atol=1e-6)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=0.01)


def test_a_mixture_has_one_filled_bump_for_each_component(ax):
    plots.plot_mixture(ax, Mixture(torch.zeros(4), torch.arange(4.0), torch.zeros(4)))
    assert len(ax.collections) == 4 and len(ax.lines) == 1
    tops = [bump.get_paths()[0].vertices for bump in ax.collections]
    for k, corners in enumerate(tops):
        assert corners[corners[:, 1].argmax(), 0] == pytest.approx(k, abs=0.05)
        assert corners[:, 1].max() == pytest.approx(0.25 / np.sqrt(2 * np.pi), rel=0.01)


def test_the_value_that_came_is_marked_where_it_is(ax):
    plots.plot_mixture(ax, Mixture(torch.zeros(2), torch.zeros(2), torch.zeros(2)), target=1.25)
    assert ax.lines[1].get_xdata()[0] == 1.25


def test_a_track_is_its_tiles_and_the_path(ax):
    road = np.arange(24.0).reshape(3, 4, 2)
    path = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 6.0]])
    plots.plot_track(ax, road, path)
    assert [tile.vertices[:4].tolist() for tile in ax.collections[0].get_paths()] == road.tolist()
    assert np.array_equal(np.transpose(ax.lines[0].get_data()), path)
    assert np.ravel(ax.lines[1].get_data()).tolist() == [0, 1]


def test_a_track_without_a_path_has_no_line(ax):
    plots.plot_track(ax, np.zeros((2, 4, 2)))
    assert len(ax.collections[0].get_paths()) == 2 and not ax.lines


ROWS = [
    {"generation": 0, "fitness": [1.0, 3.0, 5.0]},
    {"generation": 1, "fitness": [2.0, 4.0, 9.0], "selection": [6.0, 8.0]},
    {"generation": 2, "fitness": [0.0, 6.0, 6.0]},
]


def test_evolution_shows_the_mean_and_the_span_of_each_generation(ax):
    plots.plot_evolution(ax, ROWS)
    assert np.transpose(ax.lines[0].get_data()).tolist() == [[1, 3], [2, 5], [3, 4]]
    corners = {tuple(corner) for corner in ax.collections[0].get_paths()[0].vertices.tolist()}
    assert {(1, 1), (1, 5), (2, 2), (2, 9), (3, 0), (3, 6)} <= corners


def test_evolution_shows_the_distributions_mean_where_it_was_scored(ax):
    plots.plot_evolution(ax, ROWS)
    assert np.transpose(ax.lines[1].get_data()).tolist() == [[2, 7]]


def test_evolution_without_a_score_has_one_line(ax):
    plots.plot_evolution(ax, ROWS[:1])
    assert len(ax.lines) == 1


def drawn(figure):
    """A flow diagram's boxes, name -> (left, bottom, right, top), its arrows as points (N, 2), and its names linked."""
    (ax,) = figure.axes
    boxes = {}
    for patch in ax.patches:
        (left, bottom), (right, top) = patch.get_bbox().get_points()
        middle = pytest.approx(((left + right) / 2, (bottom + top) / 2))
        (name,) = (
            text.get_text()
            for text in ax.texts
            if text.get_text() and text.get_position() == middle
        )
        boxes[name] = (left, bottom, right, top)
    arrows = [np.transpose(line.get_data()) for line in ax.lines]
    heads = [text.xy for text in ax.texts if hasattr(text, "arrow_patch")]
    assert np.allclose(
        heads, [arrow[-1] for arrow in arrows]
    )  # each line has its head, where it ends
    plt.close(figure)
    return (
        boxes,
        arrows,
        [(touched(boxes, arrow[0]), touched(boxes, arrow[-1])) for arrow in arrows],
    )


def touched(boxes, point):
    """The one box on whose edge a point lies."""
    x, y = point
    gaps = {
        n: max(left - x, x - right, bottom - y, y - top)
        for n, (left, bottom, right, top) in boxes.items()
    }
    (name,) = (name for name, gap in gaps.items() if abs(gap) < 1e-9)
    return name


LINKS = {
    plots.timing_diagram: "obs[t]>V V>z[t] z[t]>C h[t]>C C>action[t] action[t]>environment environment>obs[t+1] "
    "z[t]>M h[t]>M action[t]>M M>h[t+1] h[t+1]>p(z[t+1])",
    partial(
        plots.timing_diagram, dream=True
    ): "z[t]>C h[t]>C C>action[t] z[t]>M h[t]>M action[t]>M M>h[t+1] "
    "h[t+1]>p(z[t+1]) p(z[t+1])>z[t+1]",
    plots.agent_map: "environment>V V>C V>M M>C C>environment C>M",
}


@pytest.mark.parametrize("draw", LINKS)
def test_a_flow_diagram_links_each_part_to_what_it_gives_to(draw):
    _, _, links = drawn(draw())
    assert sorted(links) == sorted(tuple(link.split(">")) for link in LINKS[draw].split())


@pytest.mark.parametrize("draw", LINKS)
def test_no_arrow_of_a_flow_diagram_runs_through_a_box(draw):
    boxes, arrows, _ = drawn(draw())
    for arrow in arrows:
        way = np.concatenate([np.linspace(a, b, 101) for a, b in zip(arrow, arrow[1:])])
        for left, bottom, right, top in boxes.values():
            x, y = (way - [(left + right) / 2, (bottom + top) / 2]).T
            assert not (
                (abs(x) < (right - left) / 2 - 1e-6) & (abs(y) < (top - bottom) / 2 - 1e-6)
            ).any()


def test_the_style_draws_on_opaque_white():
    with matplotlib.rc_context():
        plots.use_style()
        assert (
            matplotlib.rcParams["figure.facecolor"]
            == matplotlib.rcParams["savefig.facecolor"]
            == "white"
        )


def test_v_m_c_real_and_dream_have_colours_of_their_own():
    assert (
        set(plots.COLOURS) == {"V", "M", "C", "real", "dream"}
        and len(set(plots.COLOURS.values())) == 5
    )


def test_a_film_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="make figures"):
        plots.show_video(tmp_path / "no.mp4", "a film that nobody made")
    (tmp_path / "torn.mp4").write_bytes(b"film")
    with pytest.raises(ValueError, match="torn.mp4 can't be read as a film; delete it"):
        plots.show_video(tmp_path / "torn.mp4", "a film that was cut short")
