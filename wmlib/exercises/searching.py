"""Exercises of the notebook on CMA-ES, and its clinic: short searches with one fault each, run when they are drawn.

Letters: P candidates, N parameters.
"""

import math

import numpy as np

from wmlib.exercises import exercise
from wmlib.exercises.clinic import Clinic, label_rows
from wmlib.plots import COLOURS


def _expect_array(found: object, shape: tuple[int, ...], what: str) -> None:
    got = "nothing: is there a `return`?" if found is None else type(found).__name__
    if hasattr(found, "shape"):
        got += f" of shape {tuple(found.shape)}"
    assert isinstance(found, np.ndarray) and found.shape == shape, (
        f"expected {what}, an array of shape {shape}, got {got}"
    )


def _weights(P: int) -> np.ndarray:
    raw = math.log((P + 1) / 2) - np.log(np.arange(1, P // 2 + 1))
    return raw / raw.sum()


def _check_recombine(function) -> None:
    for P, N in ((10, 3), (7, 2)):
        rng = np.random.default_rng(P)
        candidates, fitness = rng.standard_normal((P, N)) + 1, 10 * rng.standard_normal(P)
        given = candidates.copy(), fitness.copy()
        found = function(candidates, fitness)
        _expect_array(found, (N,), "the new mean")
        assert np.array_equal(candidates, given[0]) and np.array_equal(fitness, given[1]), (
            "what was given is changed; work on copies"
        )
        best, w = candidates[np.argsort(-fitness)], _weights(P)
        raw = math.log((P + 1) / 2) - np.log(np.arange(1, P + 1))
        half = P // 2
        wrong = {
            "the worst are taken for the best: higher fitness is better": w @ best[::-1][:half],
            "the candidates aren't sorted by their fitness": w @ candidates[:half],
            "the weights don't sum to 1": w @ best[:half] * raw[:half].sum(),
            "all candidates have a say; the worse half is to have none": raw @ best / np.abs(raw).sum(),
            "the weights fall below 0 in the worse half; cut them off there": raw @ best / raw[:half].sum(),
            "all of the better half count equally; the better a rank, the more it is to count":
                best[:half].mean(axis=0),
            "that is the mean of all candidates; fitness has no say in it": candidates.mean(axis=0),
            "that is the best candidate alone": best[0],
            "the best gets the smallest weight: the weights are turned round": w[::-1] @ best[:half],
            "the fitness itself is the weight; only ranks count": np.clip(fitness, 0, None)
            @ candidates / np.clip(fitness, 0, None).sum(),
        }  # fmt: skip
        for said, value in wrong.items():
            assert not np.allclose(found, value, atol=1e-6), said
        gap = np.abs(found - w @ best[:half]).max()
        assert gap < 1e-8, f"on a small example with {P} candidates it is off by up to {gap:.3f}"


@exercise(
    notebook="05_cma_es",
    minutes=8,
    task="""Write the step of the mean: from a population and its fitness to the new mean. Higher fitness is better.
The better half counts ($P/2$ candidates, rounded down), with weights proportional to
$\\log\\frac{P+1}{2} - \\log i$ for rank $i = 1, 2, \\dots$, that sum to 1. `numpy` is there as `np`.""",
    hint="""`np.argsort(-fitness)` lists the candidates from the best to the worst. `weights @ rows` is a weighted
sum of rows.""",
    check=_check_recombine,
)
def recombine(candidates, fitness):
    """The new mean (N,) of candidates (P, N) with the given fitness (P,)."""
    half = len(candidates) // 2
    order = np.argsort(-fitness)
    weights = np.log((len(candidates) + 1) / 2) - np.log(np.arange(1, half + 1))
    weights /= weights.sum()
    return weights @ candidates[order[:half]]


def _root(covariance: np.ndarray, power: float) -> np.ndarray:
    squares, axes = np.linalg.eigh(covariance)
    return axes * squares**power @ axes.T


def _chi(N: int) -> float:
    return math.sqrt(2) * math.exp(math.lgamma((N + 1) / 2) - math.lgamma(N / 2))


def _controlled(
    path, step_size, move, covariance, mueff, c, damping, **how
) -> tuple[np.ndarray, float]:
    """The right answer, or with `how` one that is wrong in one place."""
    N = len(path)
    counted = _root(covariance, how.get("power", -0.5)) @ move / how.get("unit", step_size)
    fresh = how.get("fresh", math.sqrt(c * (2 - c) * mueff))
    path = how.get("kept", 1 - c) * path + fresh * counted
    stretch = how.get("stretch", np.linalg.norm(path) / how.get("length", _chi(N)) - 1)
    return path, step_size * math.exp(how.get("sign", 1) * how.get("rate", c / damping) * stretch)


def _check_step_control(function) -> None:
    rng = np.random.default_rng(3)
    for N in (2, 5):
        root = rng.standard_normal((N, N)) + 2 * np.eye(N)
        covariance, path, move = root @ root.T, rng.standard_normal(N), rng.standard_normal(N)
        given = path, 0.4, move, covariance, 3.2, 0.3, 1.4
        before = path.copy(), move.copy(), covariance.copy()
        found = function(*given)
        assert isinstance(found, tuple) and len(found) == 2, (
            "expected two things, the new path and the new step size"
        )
        _expect_array(found[0], (N,), "the new path")
        assert np.ndim(found[1]) == 0, "expected one number for the step size"
        assert all(map(np.array_equal, before, (path, move, covariance))), (
            "what was given is changed; work on copies"
        )
        for said, how in _WRONG_PATHS.items():
            wrong, _ = _controlled(*given, **how)
            assert not np.allclose(found[0], wrong, atol=1e-6), said
        squares, axes = np.linalg.eigh(covariance)
        unturned = axes.T @ move / np.sqrt(squares) / 0.4
        assert not np.allclose(
            found[0], 0.7 * path + math.sqrt(0.3 * 1.7 * 3.2) * unturned, atol=1e-6
        ), (
            "the move is turned and divided by the widths, but not turned back: whitening ends with B"
        )
        right, size = _controlled(*given)
        gap = np.abs(found[0] - right).max()
        assert gap < 1e-8, f"on a small example the path is off by up to {gap:.3f}"
        root_of_n = "the path's length is compared with the root of N; chance gives a little less"
        old_path = (
            "the old path's length decides; first the path, then its length, then the step size"
        )
        stale = {"stretch": float(np.linalg.norm(path)) / _chi(N) - 1}
        own = {root_of_n: {"length": math.sqrt(N)}, old_path: stale}
        for said, how in (_WRONG_SIZES | own).items():
            assert not math.isclose(found[1], _controlled(*given, **how)[1], rel_tol=1e-6), said
        assert math.isclose(found[1], size, rel_tol=1e-3), (
            f"the path is right; the step size becomes {found[1]:.3f} where {size:.3f} is right"
        )


_WRONG_PATHS: dict[str, dict[str, float]] = {
    "the move isn't divided by the step size": {"unit": 1.0},
    "the move isn't whitened: multiply it by the covariance's root to the power -1": {"power": 0.0},
    "the move is multiplied by the covariance's root; whitening goes the other way": {"power": 0.5},
    "that is the inverse of the covariance; whitening takes the inverse of its root": {"power": -1.0},
    "mueff is missing under the root: an average's noise is that much smaller": {"fresh": math.sqrt(0.3 * 1.7)},
    "the new step gets the weight c; then the path of pure luck is too short: see the root in the formula":
        {"fresh": 0.3},
    "mueff is under no root": {"fresh": math.sqrt(0.3 * 1.7) * 3.2},
    "the weight of the new step has no root": {"fresh": 0.3 * 1.7 * 3.2},
    "the old path doesn't fade": {"kept": 1.0},
    "the old path fades to c of itself; it is to keep 1 - c": {"kept": 0.3},
}  # fmt: skip
_WRONG_SIZES: dict[str, dict[str, float]] = {
    "a long path makes the step smaller; steps that agree are to lengthen it": {"sign": -1},
    "the damping isn't used": {"rate": 0.3},
    "c isn't used in the step size's change": {"rate": 1 / 1.4},
    "c and damping change places": {"rate": 1.4 / 0.3},
    "the step size doesn't change": {"rate": 0.0},
}


@exercise(
    notebook="05_cma_es",
    minutes=12,
    task="""Write the control of the step size. `move` is the last step of the mean as it is, new minus old mean, not
counted in step sizes; `covariance` is the $\\Sigma$ from which the candidates were drawn; `c` is $c_\\sigma$ and
`damping` is $d_\\sigma$. Return the new path $p_\\sigma$ and the new step size. For $\\chi_N$ use the formula of
section 2 (`math` is there).""",
    hint="""`squares, axes = np.linalg.eigh(covariance)`; then `axes @ (axes.T @ y / np.sqrt(squares))` is
$\\Sigma^{-1/2} y$. First the path, then its length, then the step size. `math.lgamma` is the logarithm of
$\\Gamma$.""",
    check=_check_step_control,
)
def step_control(path, step_size, move, covariance, mueff, c, damping):
    """The new path (N,) and step size; path, move (N,), covariance (N, N) and four numbers."""
    N = len(path)
    squares, axes = np.linalg.eigh(covariance)
    whitened = axes @ (axes.T @ move / np.sqrt(squares)) / step_size
    path = (1 - c) * path + np.sqrt(c * (2 - c) * mueff) * whitened
    chi = math.sqrt(2) * math.exp(math.lgamma((N + 1) / 2) - math.lgamma(N / 2))
    return path, step_size * math.exp(c / damping * (np.linalg.norm(path) / chi - 1))


# --- the clinic -----------------------------------------------------------------------------------------------------

GENERATIONS, P = 60, 12
CLINIC = Clinic(
    faults={  # what is wrong, and what it would show
        "ranks turned round": (
            "the lowest fitness is taken for the best",
            "the mean would run down the slopes, farther and farther, with a step size that grows",
        ),
        "control turned round": (
            "a long path makes the step smaller, a short one larger",
            "the step size would fall from the start, though the top is far, and the search would freeze where it is",
        ),
        "size kept": (
            "the step size is never changed",
            "the line on the right would be flat",
        ),
        "shape kept": (
            "$\\Sigma$ is never changed",
            "all ellipses would be round, and the way along the ridge slow",
        ),
        "noise": (
            "fitness carries noise, and nothing is averaged",
            "the curve would fall as the healthy one does, come to rest far above its end and tremble there",
        ),
        "no selection": (
            "all candidates count equally, whatever their fitness",
            "the mean would wander about its start, uphill as often as downhill",
        ),
    },
    patients={"A": "control turned round", "B": "noise", "C": "shape kept"},
)
AGES = np.array([[240, 212, 66], [0, 158, 115], [11, 47, 93]]) / 255  # early, middle, late


def height(x: np.ndarray) -> np.ndarray:
    """The bent ridge: x (..., 2) to (...,), its top of height 0 at (1, 1)."""
    return -((1 - x[..., 0]) ** 2) - 20 * (x[..., 1] - x[..., 0] ** 2) ** 2


def searched(fault: str, generations: int = GENERATIONS) -> dict[str, np.ndarray]:
    """A short search with that fault: means (G, 2), covariances (G, 2, 2), gaps below the top and step sizes (G,)."""
    rng, N, half = np.random.default_rng(2), 2, P // 2
    w = np.full(P, 1 / P) if fault == "no selection" else np.append(_weights(P), np.zeros(half))
    mueff = 1 / np.square(w).sum()
    c, c_c, c_1 = (
        (mueff + 2) / (N + mueff + 3),
        (4 + mueff / N) / (N + 4 + 2 * mueff / N),
        2 / (3.3**2 + mueff),
    )
    c_mu, kept = 2 * (mueff + 1 / mueff - 1.75) / (16 + mueff), []
    mean, size, shape, path, path_c = (
        np.array([-1.6, 1.6]),
        0.25,
        np.eye(N),
        np.zeros(N),
        np.zeros(N),
    )
    for _ in range(generations):
        kept.append((mean, size**2 * shape, -height(mean), size))
        y = rng.standard_normal((P, N)) @ _root(shape, 0.5)
        fitness = height(mean + size * y) + (
            0.3 * rng.standard_normal(P) if fault == "noise" else 0
        )
        y = y[np.argsort(fitness if fault == "ranks turned round" else -fitness)]
        step = w @ y
        sign = -1 if fault == "control turned round" else 1
        path, new_size = _controlled(path, size, size * step, shape, mueff, c, 1 + c, sign=sign)
        mean, size = mean + size * step, size if fault == "size kept" else max(new_size, 1e-8)
        path_c = (1 - c_c) * path_c + math.sqrt(c_c * (2 - c_c) * mueff) * step
        if fault != "shape kept" and size > 1e-6:
            shape = (1 - c_1 - c_mu) * shape + c_1 * np.outer(path_c, path_c) + c_mu * (y.T * w) @ y
    return dict(zip(("mean", "covariance", "gap", "step_size"), map(np.array, zip(*kept))))


def draw_patients(axes: np.ndarray) -> None:
    """Fill axes (4, 3), a row for the healthy search and each patient: ellipses, gap below the top, step size."""
    x, y = np.meshgrid(np.linspace(-2.1, 2.1, 160), np.linspace(-0.5, 2.6, 120))
    ground = -((-height(np.stack([x, y], axis=-1))) ** 0.4)
    turn, ages = np.linspace(0, 2 * np.pi, 80), np.linspace(0, 1, GENERATIONS)
    inks = np.stack([np.interp(ages, (0, 0.5, 1), part) for part in AGES.T], axis=1)
    for row, fault in zip(axes, CLINIC.everyone.values()):
        film = searched(fault)
        row[0].contourf(x, y, ground, 16, cmap="Greys_r", vmin=1.7 * ground.min(), vmax=0)
        for ink, mean, covariance in zip(inks, film["mean"], film["covariance"]):
            edge = mean[:, None] + 2 * _root(covariance, 0.5) @ np.stack(
                [np.cos(turn), np.sin(turn)]
            )
            row[0].plot(*edge, color=ink, ls="-", lw=1.2)
        row[0].plot(1, 1, "*", color=COLOURS["M"], markersize=12, markeredgecolor="white", zorder=5)
        row[0].set(xlim=(-2.1, 2.1), ylim=(-0.5, 2.6), xticks=[], yticks=[])
        row[0].grid(False)
        for ax, part, low in zip(
            row[1:], ("gap", "step_size"), (1e-9, 1e-5)
        ):  # what falls lower leaves the picture
            ax.plot(film[part], color=COLOURS["C"], ls="-")
            ax.set(yscale="log", ylim=(low, 10), xlim=(0, GENERATIONS))
            ax.tick_params(labelsize=8)
    titles = ("ellipses, early to late", "the mean, below the top", "step size")
    label_rows(axes, list(CLINIC.everyone), titles, ("", "generation", "generation"), title_size=10)


@exercise(
    notebook="05_cma_es",
    minutes=12,
    task=CLINIC.task(
        "Three searches in the **clinic** above have one fault each. Name it; choose among:"
    ),
    hint="""First the ellipses: do they ever become long? Then the end of the curve: does it still fall, or is it at
rest? If it rests: has the cloud any width left with which to go on?""",
    check=CLINIC.check,
)
def search_diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "control turned round", "B": "noise", "C": "shape kept"}
