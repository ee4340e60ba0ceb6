"""Exercises of the notebook on M, and its clinic: short trainings with one fault each.

Letters: N rows, D drives, Z latents, H hidden, F = Z + H.
"""

import numpy as np
import torch
from torch import Tensor

from wmlib.exercises import exercise
from wmlib.exercises.clinic import Clinic, draw_frames, label_rows
from wmlib.plots import COLOURS

AHEAD = 20
SHOWN = (0, 5, 10, 15, 20)  # steps ahead whose frames are kept
PENALTY = 20.0


def _example(seed: int, number: int) -> tuple[Tensor, ...]:
    """Rows of drives with a pace of their own, which z betrays; h_after knows the next speed, not quite exactly."""
    rng, length = np.random.default_rng(seed), 40
    parts = []
    for drive in range(number):
        wander = np.zeros(length + 1)
        for t in range(length):
            wander[t + 1] = 0.7 * wander[t] + rng.normal()
        pace, place = rng.normal(0, 2), rng.normal(0, 2, (1, 4))
        z = place + rng.normal(0, 0.3, (length, 4))  # tells the drive, and nothing of its pace
        z[:, 0] = z[:, 0] * (1 + 4 * (drive == 0)) + 0.4 * wander[:-1]
        loads = np.array([[1.0, -0.6, 0.3]])
        h_after = (
            loads * (1.0 + (drive == 1)) * wander[1:, None]
            + rng.normal(0, 0.6, (length, 3))
            + 0.4 * pace
        )
        parts.append((z, h_after, 40 + 3 * (wander[:-1] + 0.5 * pace), np.full(length, drive)))
    return tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*parts))


def _previous(h_after: Tensor, drive: Tensor, begin_anew: bool = True) -> Tensor:
    """h[t] of each row (N, H): the row before, zeros where a drive begins."""
    h = h_after.roll(1, dims=0)
    first = torch.cat([torch.tensor([True]), drive[1:] != drive[:-1]])
    h[first if begin_anew else slice(1)] = 0
    return h


def _guesses(
    x, speed, fold, penalty=PENALTY, scaled_by="fit", centred=True
) -> tuple[Tensor, Tensor]:
    """What the read-outs say of the rows left out (N,), and of the rows that they were fitted on, averaged (N,)."""
    outside, inside, folds = torch.empty_like(speed), torch.zeros_like(speed), fold.unique()
    for one in folds:
        test = fold == one
        known = {"fit": x[~test], "all": x, "each": x[~test]}[scaled_by]
        scale = lambda rows, like: (rows - like.mean(dim=0)) / like.std(dim=0)
        fit, middle = scale(x[~test], known), speed[~test].mean() * centred
        square = fit.T @ fit + penalty * torch.eye(x.shape[1]).to(x)
        weights = torch.linalg.solve(square, fit.T @ (speed[~test] - middle))
        outside[test] = scale(x[test], x[test] if scaled_by == "each" else known) @ weights + middle
        inside[~test] += (fit @ weights + middle) / (len(folds) - 1)
    return outside, inside


def _share(guess: Tensor, truth: Tensor) -> float:
    return (1 - (guess - truth).square().mean() / truth.var()).item()


def _right_and_wrong(given, folds: int, penalty: float) -> tuple[float, dict[str, float]]:
    """The score, and other scores with what is to be said of them; given: z, h_after, speed and drive."""
    z, h_after, speed, drive = given
    h = _previous(h_after, drive)
    x, fold, rows = torch.cat([z, h], dim=1), drive % folds, torch.arange(len(speed))
    at = lambda **how: _share(
        _guesses(**({"x": x, "speed": speed, "fold": fold, "penalty": penalty} | how))[0], speed
    )
    outside, inside = _guesses(x, speed, fold, penalty)
    blocks = rows * folds // len(rows)
    with_h = lambda h: torch.cat([z, h], dim=1)
    by_fold = [_share(outside[fold == one], speed[fold == one]) for one in range(folds)]
    wrong = {
        "the rows are split, not the drives: a row's neighbours stay in the fit and give its answer away":
            at(fold=rows % folds),
        "the folds are stretches of rows; a drive belongs to the fold drive % folds": at(fold=blocks),
        "h_after[t] is made after z[t] and action[t], too late for C: row t is to read the row before":
            at(x=with_h(h_after)),
        "h comes a row too late: row t is to read row t - 1 of h_after": at(x=with_h(_previous(h, drive))),
        "where a drive begins, h is the last one of another drive; M's memory is empty there, so zeros":
            at(x=with_h(_previous(h_after, drive, begin_anew=False))),
        "mean and spread are taken over all rows, those left out as well; use the fitted rows' own":
            at(scaled_by="all"),
        "the rows left out are standardised by their own mean and spread; use those of the fitted rows":
            at(scaled_by="each"),
        "the inputs aren't standardised, so the penalty weighs on some more than on others": _share(
            _unscaled(x, speed, fold, penalty), speed
        ),
        "that is the score on the rows that the read-out was fitted on": _share(inside, speed),
        "that is the squared correlation, which forgives a guess that is off by a constant or a factor":
            torch.corrcoef(torch.stack([outside, speed]))[0, 1].square().item(),
        "that is the error's share; what is explained is 1 minus it": 1 - _share(outside, speed),
        "that is the mean of the folds' scores; put all guesses together and score once": float(np.mean(by_fold)),
        "that is the last fold's score alone; each drive is to have its turn": by_fold[-1],
        "that is the first fold's score alone; each drive is to have its turn": by_fold[0],
        "the fitted rows' mean speed isn't taken off first, so the penalty pulls the guesses towards 0":
            at(centred=False),
        "the penalty isn't used": at(penalty=0.0),
        "z isn't read: the inputs are z and h": at(x=h),
        "h isn't read: the inputs are z and h": at(x=z),
    }  # fmt: skip
    return _share(outside, speed), wrong


def _unscaled(x: Tensor, speed: Tensor, fold: Tensor, penalty: float) -> Tensor:
    guess = torch.empty_like(speed)
    for one in fold.unique():
        fit, y = x[fold != one], speed[fold != one]
        square = (fit - fit.mean(dim=0)).T @ (fit - fit.mean(dim=0)) + penalty * torch.eye(
            x.shape[1]
        ).to(x)
        weights = torch.linalg.solve(square, (fit - fit.mean(dim=0)).T @ (y - y.mean()))
        guess[fold == one] = (x[fold == one] - fit.mean(dim=0)) @ weights + y.mean()
    return guess


def _check_speed_probe(function) -> None:
    for parts, folds in ((_example(21, 6), 3), (_example(10, 8), 4)):
        before = [part.clone() for part in parts]
        found = function(*parts, folds, PENALTY)
        number = isinstance(found, float) or (isinstance(found, Tensor) and found.shape == ())
        assert number, f"expected one number, got {type(found).__name__.lower()}"
        assert all(map(torch.equal, before, parts)), (
            "the tensors that were given are changed; work on copies"
        )
        right, wrong = _right_and_wrong(parts, folds, PENALTY)
        said = min(wrong, key=lambda said: abs(found - wrong[said]))
        assert abs(found - wrong[said]) > 2e-3, said
        assert found < right + 0.05, (
            f"{found:.2f} is too good, {right:.2f} would be honest: does the fit see rows of the drives left out?"
        )
        assert abs(found - right) < 5e-3, (
            f"on a small example it gives {found:.3f}, where {right:.3f} is right"
        )


@exercise(
    notebook="04_mdn_rnn",
    minutes=15,
    task="""How much of the car's speed can be read from $[z_t, h_t]$? Write the linear read-out and its score, with
nothing leaking from the drives that it is scored on. The rows of all drives lie below each other, in order. Row $t$ of
`h_after` is the $h_{t+1}$ that `memory` returned after $z_t$ and `action[t]`.
- Row $t$ reads $z_t$ and $h_t$, which is the row before in `h_after`; where a drive begins, $h$ is zero.
- A drive belongs to the fold `drive % folds`. Each fold in turn is left out, and guessed by a read-out that was fitted
  on the others.
- Fit: standardise the inputs by the fitted rows' mean and spread, take the fitted rows' mean speed off, and solve
  $(X^\\top X + \\mathrm{penalty}\\, I)\\, w = X^\\top y$.
- Score: put the guesses of all folds together; then 1 minus the mean squared error over the speed's variance.""",
    hint="""`h_after.roll(1, dims=0)` moves every row down by one, over the border of two drives as well; `drive[1:] !=
drive[:-1]` finds the borders. In each fold `test = drive % folds == fold` is a mask and `~test` the rest.
`torch.linalg.solve(a, b)` solves $a\\,w = b$; `torch.eye(F).to(x)` is $I$ in the type of `x`.""",
    check=_check_speed_probe,
)
def speed_probe(z, h_after, speed, drive, folds, penalty):
    """The share of the speed's variance, one number, explained on drives that were left out.

    z (N, Z), h_after (N, H), speed (N,), float64; drive (N,): the number of each row's drive.
    """
    h = h_after.roll(1, dims=0)
    h[0] = 0
    h[1:][drive[1:] != drive[:-1]] = 0
    x = torch.cat([z, h], dim=1)
    guess = torch.empty_like(speed)
    for fold in range(folds):
        test = drive % folds == fold
        mean, spread = x[~test].mean(dim=0), x[~test].std(dim=0)
        fit, middle = (x[~test] - mean) / spread, speed[~test].mean()
        square = fit.T @ fit + penalty * torch.eye(x.shape[1]).to(x)
        weights = torch.linalg.solve(square, fit.T @ (speed[~test] - middle))
        guess[test] = (x[test] - mean) / spread @ weights + middle
    return (1 - (guess - speed).square().mean() / speed.var()).item()


CLINIC = Clinic(
    faults={  # what is wrong, and what it would show
        "noise drawn once": (
            "each frame's $z$ is drawn once and kept, not drawn anew for every batch",
            "the held-out loss would fall at first, then turn round, while the training loss went on through the floor",
        ),
        "off by one": (
            "M is taught $z_t$ from $z_t$ and the action, where $z_{t+1}$ was meant",
            "the losses would part at once, far below the floor and far above all levels, and the "
            "road would hardly move",
        ),
        "logsigma as logvar": (
            "the loss in training takes $\\exp(\\mathrm{logsigma}/2)$ for the width",
            "training loss and error ahead would be the healthy M's; held-out loss and histogram, "
            "which read the widths as they are meant, would be bad",
        ),
        "one width": (
            "logsigma is set to 0, so that every width is 1",
            "the histogram would have a hump in its middle, and both losses would stop a little "
            "below *stay as you are*",
        ),
        "memory emptied": (
            "$h$ and $c$ are set to zero before every step",
            "the histogram would be flat and the held-out loss below *stay as you are*; only "
            "further ahead would the error be plainly larger than the healthy M's",
        ),
        "actions lost": (
            "M is given zeros, whatever C does",
            "losses, histogram and the next few steps would be the healthy M's; the error would grow faster after that",
        ),
    },
    patients={"A": "logsigma as logvar", "B": "off by one", "C": "noise drawn once"},
    maker="mdnrnns",
    curves="ms.json",
    picture="m_{}.png",
)


def draw_patients(axes: np.ndarray) -> None:
    """Fill axes (4, 4), a row for the healthy M and each patient: losses, calibration, error ahead, frames."""
    found, real = CLINIC.read_curves(), CLINIC.read_frames("real")
    for row, (name, curve) in zip(axes, found["curves"].items()):
        _draw_losses(row[0], curve, found["levels"])
        row[1].bar(np.arange(10) + 0.5, curve["calibration"], 0.9, color=COLOURS["M"], alpha=0.7)
        row[1].axhline(0.1, color=COLOURS["real"], ls="--", lw=1)
        row[1].set(
            ylim=(0, 0.5),
            xlim=(0, 10),
            xticks=[0, 5, 10],
            xticklabels=["0", "0.5", "1"],
            yticks=[0, 0.1, 0.5],
        )
        steps = np.arange(1, AHEAD + 1)
        row[2].plot(steps, curve["ahead"], color=COLOURS["M"], ls="-", label="M")
        row[2].plot(
            steps,
            found["standing still"],
            color=COLOURS["real"],
            ls="--",
            lw=1,
            label="stay as you are",
        )
        row[2].set(ylim=(0, 2), xticks=[1, 5, 10, 15, 20], yticks=[0, 1, 2])
        road = np.concatenate([real, CLINIC.read_frames(name)])
        draw_frames(row[3], road, rows=("came", "predicted"), columns=SHOWN)
        row[3].tick_params(length=0)
        for ax in row:
            ax.tick_params(labelsize=8)
    titles = (
        "loss, in nats for each latent",
        "truths in each tenth of F",
        "squared error",
        "the road",
    )
    below = ("training step", "F(z)", "steps ahead", "steps ahead")
    label_rows(axes, list(found["curves"]), titles, below)
    for ax, place in ((axes[0, 0], "upper right"), (axes[0, 2], "upper left")):
        ax.legend(fontsize=8, loc=place, ncols=2 if place == "upper right" else 1)


def _draw_losses(ax, curve: dict, levels: dict[str, float]) -> None:
    low, high = 0.2, 2.8
    for (name, level), style in zip(levels.items(), ("-.", ":")):
        ax.axhline(level, color="#888888", ls=style, lw=1, label=name)
    for name, colour, style in (
        ("training", COLOURS["M"], "-"),
        ("held out", COLOURS["dream"], "--"),
    ):
        ax.plot(curve["step"], curve[name], color=colour, ls=style, label=name)
        last = curve[name][-1]
        if not low < last < high:
            y, side = (0.9, "top") if last > high else (0.06, "bottom")
            said, place = f"{name}: ends at {last:.0f}".replace("-", "−"), ax.transAxes
            ax.text(0.97, y, said, ha="right", va=side, transform=place, color=colour, fontsize=8)
    ax.set(ylim=(low, high), xlim=(0, curve["step"][-1]), yticks=[1, 2])


@exercise(
    notebook="04_mdn_rnn",
    minutes=15,
    task=CLINIC.task("""\
Three Ms in the **clinic** above were trained as the healthy one was, but for one fault each. All are
judged by the same right code, on drives that none of them saw: a fault in the data or in the loss of the training is
gone there, one in what M itself reads or puts out stays. Name each fault; choose among:"""),
    hint="""The three histograms look alike: all three Ms are too sure. So ask *why* each is. Does it do too well on
what it trains on? From which step on? Does it still know where the road goes?""",
    check=CLINIC.check,
)
def prediction_diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "logsigma as logvar", "B": "off by one", "C": "noise drawn once"}
