"""The hunt: what the reader is told, how both are compared, and that the landscape stays hidden until the end."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pytest

from wmlib import plots
from wmlib.widgets import Hunt

EXTENT = (-2, 2, 0, 8)
RIVAL = np.array(
    [[[0, 4], [-1, 1], [1, 9]], [[0.5, 6], [1, 6], [1.01, 6.5]]], float
)  # (G, P, 2), one outside
POSTER = plots.picture(plt.figure(), "a landscape from above")


def height(points):
    """The top, 100, at (1, 6), on a point of the grid."""
    x, y = points.T
    return 100 - 10 * (x - 1) ** 2 - (y - 6) ** 2


@pytest.fixture
def hunt():
    return Hunt(height, EXTENT, RIVAL, clicks=7, poster=POSTER)


@pytest.fixture
def sent(hunt, monkeypatch):
    """What the hunt sends, in order."""
    messages = []
    monkeypatch.setattr(hunt, "send", lambda content, buffers=(): messages.append(content))
    return messages


def test_each_click_tells_the_height_there_and_the_best_so_far(hunt):
    assert hunt.state["asked"] == [] and hunt.line() == "7 clicks: where is the highest point?"
    for count, (x, y, line) in enumerate(
        [(0, 6, "90 there · best 90"), (-1.5, 1, "12.5 there · best 90")], 1
    ):
        assert hunt.ask(x, y) == height(np.array([[x, y]]))[0]
        assert hunt.state["line"] == f"click {count} of 7 · {line}"
    hunt.ask(1, 5.8)
    assert hunt.state["line"].endswith("100 there · best 100")
    assert hunt.state["asked"] == [[0, 6, 90], [-1.5, 1, 12.5], [1, 5.8, pytest.approx(99.96)]]


def test_the_landscape_and_the_rival_stay_hidden_until_the_last_click(hunt):
    for _ in range(6):
        hunt.ask(0, 6)
        assert hunt.land == b"" and hunt.state.keys() == {"asked", "line", "turn"}
    hunt.ask(0, 6)
    assert hunt.shown and np.array(hunt.state["rival"]).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="search is over"):
        hunt.ask(0, 6)
    assert len(hunt.state["asked"]) == 7


def test_what_is_uncovered_is_the_function_and_its_top(hunt):
    hunt.ask(0, 6)
    hunt.reveal()
    ground = np.frombuffer(hunt.land, np.float32).reshape(121, 121)
    assert ground[-1, 0] == height(np.array([[-2, 8]])) and ground[0, -1] == height(
        np.array([[2, 0]])
    )
    assert ground.max() == ground[90, 90] == 100 and hunt.state["top"] == [1, 6, 100]
    x, y, told = np.moveaxis(np.array(hunt.state["rival"]), 2, 0)
    assert np.array_equal(np.stack([x, y], 2), RIVAL) and np.array_equal(
        told.ravel(), height(RIVAL.reshape(-1, 2))
    )


def test_the_star_stands_at_the_highest_point_known_in_the_field():
    peak = lambda points: 10 - np.hypot(*(points - [0.016, 4.01]).T)  # between the grid's points
    hunt = Hunt(peak, EXTENT, np.array([[[0.01, 4], [0, 9]]]), poster=POSTER)
    for asked, top in (((1, 1), [0.01, 4]), ((0.016, 4.01), [0.016, 4.01])):
        hunt.ask(*asked)
        hunt.reveal()
        assert hunt.state["top"][:2] == top
        hunt.again()
    outside = Hunt(lambda points: points[:, 1], EXTENT, np.array([[[0, 9]]]), poster=POSTER)
    outside.ask(0, 0)
    outside.reveal()
    assert outside.state["top"][2] == 8


def test_as_many_of_the_rivals_tries_count_as_the_reader_used(hunt):
    for tries, line in (
        (
            1,
            "you 90 · CMA-ES 86, with as many tries: you found the higher point; with all its 6 tries 100",
        ),
        (
            3,
            "you 90 · CMA-ES 91, with as many tries: CMA-ES found the higher point; with all its 6 tries 100",
        ),
        (6, "you 90 · CMA-ES 100, with as many tries: CMA-ES found the higher point"),
        (7, "you 90 · CMA-ES 100, with its 6 tries: CMA-ES found the higher point"),
    ):
        hunt.again()
        for _ in range(tries):
            hunt.ask(0, 6)
        if not hunt.shown:
            hunt.reveal()
        assert hunt.state["line"] == line and len(np.concatenate(hunt.state["rival"])) == 6


def test_what_looks_equal_is_called_equal(hunt):
    for _ in range(5):
        hunt.ask(1, 6.01)
    hunt.reveal()
    assert hunt.line().startswith("you 100 · CMA-ES 100, with as many tries: both are equally high")


def test_again_forgets_all_and_turns_the_landscape(hunt):
    turns = [hunt.turn]
    for _ in range(30):
        hunt.ask(0, 6)
        hunt.reveal()
        hunt.again()
        turns.append(hunt.state["turn"])
        assert (
            hunt.land == b""
            and len(hunt.asked) == 0
            and not hunt.shown
            and "rival" not in hunt.state
        )
    assert (
        all(a != b for a, b in zip([0, *turns], turns))
        and len(set(turns)) > 4
        and set(turns) <= set(range(8))
    )
    assert hunt.ask(0, 6) == 90


def test_the_browsers_questions_come_back_answered(hunt, sent):
    for content in (
        {"view": 0.5, "ask": [0, 6]},
        {"view": 0.5, "reveal": True},
        {"view": 0.5, "again": True},
    ):
        hunt.answer(hunt, content, [])
        assert sent[-1] == content and (len(hunt.asked), hunt.shown) == (
            "again" not in content,
            "reveal" in content,
        )


def test_clicks_on_two_threads_are_all_answered(hunt, sent):
    hunt.height = lambda points: [time.sleep(0.02), height(points)][1]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda x: hunt.answer(hunt, {"ask": [x, 6]}, []), [-1, -0.5, 0, 0.5, 1]))
    assert sorted(x for x, *_ in hunt.state["asked"]) == [-1, -0.5, 0, 0.5, 1] and len(sent) == 5


@pytest.mark.parametrize("bad", [[3, 1], [0, 8.1], [math.nan, 1], [0], [0, "high"], None])
def test_a_bad_click_is_refused_in_one_line_and_costs_nothing(hunt, sent, bad):
    hunt.answer(hunt, {"view": 0.5, "reveal": True}, [])
    hunt.answer(hunt, {"view": 0.5, "ask": bad}, [])
    for content in sent:
        assert (
            content["trouble"].startswith("the kernel can't do this: ")
            and "\n" not in content["trouble"]
        )
    assert (
        len(hunt.asked) == 0 and not hunt.shown and sent[1]["ask"] == bad and hunt.ask(0, 6) == 90
    )


@pytest.mark.parametrize(
    "change, match",
    [
        ({"extent": (-2, 2)}, "extent must be"),
        ({"extent": (2, -2, 0, 8)}, "extent must be"),
        ({"extent": (-2, 2, 8, 8)}, "extent must be"),
        ({"extent": (-2, math.inf, 0, 8)}, "extent must be"),
        ({"rival": RIVAL[0]}, "rival must be"),
        ({"rival": RIVAL[:, :, :1]}, "rival must be"),
        ({"rival": RIVAL[:0]}, "rival must be"),
        ({"clicks": 5}, "1 to 5 points"),
        ({"height": lambda points: points}, "14641 finite numbers"),
        ({"height": lambda points: np.full(len(points), math.nan)}, "finite numbers"),
        ({"rival": RIVAL * math.nan}, "6 finite numbers"),
    ],
)
def test_what_cannot_be_hunted_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        Hunt(**{"height": height, "extent": EXTENT, "rival": RIVAL, "poster": POSTER, **change})


def test_where_no_kernel_runs_a_poster_is_shown(hunt):
    data, _ = hunt._repr_mimebundle_()
    assert {
        "text/html",
        "text/plain",
    } == data.keys() and '<img alt="a landscape from above"' in data["text/html"]
    drawn = Hunt(height, EXTENT, RIVAL).poster
    assert drawn.alt.startswith("A landscape from above: a heat map") and len(drawn.png) < 60_000
