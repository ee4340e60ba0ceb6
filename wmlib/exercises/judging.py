"""Exercises of the notebook on the whole agent: two agents on the same tracks, and the luck of the best.

Letters: N tracks.
"""

import math

import numpy as np

from wmlib.exercises import exercise

DRAWS = 4_000


def _two_agents(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N,) of two agents on the same tracks: the tracks differ much, the agents little."""
    rng = np.random.default_rng(seed)
    track = rng.normal(800, 60, 50)
    return track + rng.normal(9, 6, 50), track + rng.normal(0, 6, 50) - rng.exponential(30, 50)


def _paired(ours, theirs, percent=(2.5, 97.5), size=None) -> np.ndarray:
    difference = ours - theirs
    size = size or len(difference)
    means = np.random.default_rng(0).choice(difference, size=(20_000, size)).mean(axis=1)
    return np.percentile(means, percent)


def _wrong_intervals(ours, theirs) -> dict[str, np.ndarray]:
    """What is to be said of an interval, and that interval."""
    rng, difference = np.random.default_rng(0), ours - theirs
    one, other = (rng.choice(returns, size=(20_000, len(returns))) for returns in (ours, theirs))
    drawn = rng.choice(difference, size=(20_000, len(difference)))
    middle, width = difference.mean(), 1.96 * difference.std(ddof=1)
    return {
        "the two agents are resampled apart from each other: draw tracks, and take both returns of a track":
            np.percentile((one - other).mean(axis=1), [2.5, 97.5]),
        "that is the interval of single differences, not of their mean": np.percentile(difference, [2.5, 97.5]),
        "that is the spread of single differences around the mean; the mean is surer, by the root of N":
            middle + np.array([-width, width]),
        "that is no 95 % interval: leave 2.5 % out on each side": _paired(ours, theirs, (5, 95)),
        "np.percentile counts in per cent: 2.5, not 0.025": _paired(ours, theirs, (0.025, 0.975)),
        "only half as many tracks are drawn as there are": _paired(ours, theirs, size=len(ours) // 2),
        "the tracks are drawn without repetition, so that every draw has the same mean": np.array([middle, middle]),
        "that is theirs minus ours": -_paired(ours, theirs)[::-1],
        "that is the interval of the median": np.percentile(np.median(drawn, axis=1), [2.5, 97.5]),
        "that is the interval of our mean alone": np.percentile(one.mean(axis=1), [2.5, 97.5]),
    }  # fmt: skip


def _check_paired_interval(function) -> None:
    for seed in (0, 3):
        ours, theirs = _two_agents(seed)
        kept = ours.copy(), theirs.copy()
        found = function(ours, theirs, DRAWS, np.random.default_rng(seed))
        pair = isinstance(found, (tuple, list, np.ndarray)) and np.shape(found) == (2,)
        assert pair, (
            f"expected two numbers, low and high, got {type(found).__name__.lower()} of shape {np.shape(found)}"
        )
        same = np.array_equal(kept[0], ours) and np.array_equal(kept[1], theirs)
        assert same, "the arrays that were given are changed; work on copies"
        again = function(ours, theirs, DRAWS, np.random.default_rng(seed))
        assert np.array_equal(found, again), (
            "the same rng gives another interval: draw from the rng that is given"
        )
        assert found[0] <= found[1], "low is above high: return the lower end first"
        right = _paired(ours, theirs)
        tolerance = 0.06 * (right[1] - right[0])
        for said, wrong in _wrong_intervals(ours, theirs).items():
            assert np.abs(found - wrong).max() > max(tolerance, 0.06 * np.ptp(wrong)), said
        one_sided = np.abs(found - _paired(ours, theirs, (5, 95))).min() < tolerance / 2
        assert not one_sided, "5 % are left out on one side; leave 2.5 % out on each"
        assert np.abs(found - right).max() < tolerance, (
            f"on a small example it gives {found[0]:.1f} to {found[1]:.1f}, "
            f"where {right[0]:.1f} to {right[1]:.1f} is right"
        )


@exercise(
    notebook="07_car_racing_agent",
    minutes=10,
    task="""Section 2 asked how sure the mean of **one** agent is. Now compare two, on the **same** tracks: `ours[i]`
and `theirs[i]` are their returns on track $i$. A hard track is hard for both, so look at the difference on each track.
Write the bootstrap of the **mean difference**, ours minus theirs, with `draws` draws from `rng`, a numpy generator, and
return its 95 % interval: `low, high`. Where it doesn't hold zero, the agents can be told apart.""",
    hint="""`rng.integers(N, size=(draws, N))` draws tracks with repetition, and an array of differences takes such an
array as its index. Then a mean along one axis, and `np.percentile`.""",
    check=_check_paired_interval,
)
def paired_interval(ours, theirs, draws, rng):
    """95 % interval (low, high) of the mean of ours - theirs, (N,) each, in one order."""
    difference = ours - theirs
    chosen = rng.integers(len(difference), size=(draws, len(difference)))
    means = difference[chosen].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return low, high


def _check_luck_of_the_best(function) -> None:
    scores = np.array([700.0, 910.0, 640.0, 850.0, 905.0, 880.0])
    given = scores.copy()
    found = function(scores, 3)
    assert isinstance(found, (int, float, np.floating)), (
        f"expected a number, got {type(found).__name__.lower()}"
    )
    assert np.array_equal(given, scores), (
        "the scores that were given are changed; np.sort makes a copy"
    )
    n, ordered = np.arange(1, 7), np.sort(scores)
    right = _expected(ordered, (n / 6) ** 3)
    without = _expected(ordered, n * (n - 1) * (n - 2) / 120)
    wrong: dict[str, float] = {
        "that is the expected best; how far is it above the mean?": right + scores.mean(),
        "the scores aren't sorted: the chance belongs to a rank": _expected(scores, (n / 6) ** 3),
        "that is the best score there is; three draws often miss it": scores.max() - scores.mean(),
        "the draws are without repetition": without,
        "the ranks are counted from 0: the chance to draw the best score or less is 1":
            _expected(ordered, ((n - 1) / 6) ** 3),
        "that is the luck of a single draw, which is 0: all draws must be at most that score": 0.0,
        "the number of candidates is one too high": _expected(ordered, (n / 6) ** 4),
        "that is the worst of the draws, not the best": _expected(ordered, 1 - (1 - n / 6) ** 3),
    }  # fmt: skip
    for said, value in wrong.items():
        assert not math.isclose(found, value, abs_tol=1e-6), said
    assert math.isclose(found, right, abs_tol=1e-6), (
        f"for six scores and three draws it gives {found:.2f}, where {right:.2f} is right"
    )
    one = function(scores, 1)
    assert abs(one) < 1e-6, (
        f"the best of one draw is no better than the mean, yet it gives {one:.2f}"
    )
    many = function(scores, 10_000)
    assert abs(many - (scores.max() - scores.mean())) < 1e-6, (
        "the best of very many draws is the highest score"
    )


def _expected(scores, at_most) -> float:
    """The expected score above the mean, given the chance (N,) that the best is at most each of them."""
    return float(np.diff(at_most, prepend=0) @ scores - scores.mean())


@exercise(
    notebook="07_car_racing_agent",
    minutes=10,
    task="""Section 8 drew thousands of times to see how far luck carries the best of many. For one track each no
draw is needed. `candidates` equally good drivers each get one return, drawn with repetition from `scores` (N,). How far
above the mean of `scores` is the best of them, on average? Compute it exactly, without random numbers.""",
    hint="""Sort the scores. One draw is at most the $i$-th smallest with a chance of $i/N$, so all of them are with
$(i/N)^{\\text{candidates}}$. The chance that the best **is** the $i$-th is the difference of two such numbers
(`np.diff` with `prepend=0`).""",
    check=_check_luck_of_the_best,
)
def luck_of_the_best(scores, candidates):
    """How far the best of so many draws from scores (N,) is above their mean, on average."""
    ordered = np.sort(scores)
    share = np.arange(1, len(scores) + 1) / len(scores)
    best_at_most = share**candidates
    best_is = np.diff(best_at_most, prepend=0)
    return best_is @ ordered - scores.mean()
