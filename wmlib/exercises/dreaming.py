"""Exercises of the notebook on dreams, and its clinic: dreams with one fault each.

Letters: B dreams, Z latents, A action, H hidden.
"""

import math

import numpy as np
import torch
from torch import Tensor

from wmlib.exercises import exercise, expect_tensor
from wmlib.exercises.clinic import Clinic, draw_frames, label_rows
from wmlib.mdnrnn import MDNRNN, place_noise
from wmlib.plots import COLOURS

SHOWN = (
    0,
    2,
    4,
    8,
    16,
    24,
    32,
    50,
    80,
    120,
    160,
    200,
)  # steps whose frames are kept; the last ends the dream


def _example(seed: int) -> tuple:
    """A small M with unlike Gaussians, and what a step of 64 dreams needs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mdnrnn = MDNRNN(z_size=4, action_size=3, hidden_size=6, num_mixtures=3).requires_grad_(
            False
        )
    mdnrnn.to_mixture.weight *= 8
    z, normal, other = torch.randn(3, 64, 4, generator=generator)
    action, state = (
        torch.rand(64, 3, generator=generator),
        tuple(torch.randn(2, 64, 6, generator=generator) / 3),
    )
    return mdnrnn, z, action, state, torch.rand(64, 4, generator=generator), normal, other


def _stepped(function, *given) -> tuple[Tensor, Tensor, Tensor]:
    """The next z, h and c that a dream_step returns; raises AssertionError where it returns something else."""
    found = function(*given)
    pair = (
        isinstance(found, tuple)
        and len(found) == 2
        and isinstance(found[1], (tuple, list))
        and len(found[1]) == 2
    )
    assert pair, (
        "expected two things: the next z, and the state as a pair of h and c; is there a `return` with both?"
    )
    next_z, (h, c) = found
    for part, like, name in (
        (next_z, given[1], "the next z"),
        (h, given[3][0], "h"),
        (c, given[3][1], "c"),
    ):
        expect_tensor(part, like.shape, name)
    return next_z, h, c


def _check_dream_step(function) -> None:
    mdnrnn, z, action, state, uniform, normal, other = _example(0)
    given = mdnrnn, z, action, state, 0.4
    next_z, h, c = _stepped(function, *given, uniform, normal)
    memory, after = mdnrnn.memory(z[:, None], action[:, None], state)
    _, anew = mdnrnn.memory(z[:, None], action[:, None])
    assert not torch.allclose(h, state[0]), (
        "the state that comes back is the one that went in: M forgets this step"
    )
    assert not torch.allclose(h, anew[0], atol=1e-5), (
        "the memory begins anew: the state that went in isn't used"
    )
    assert torch.allclose(h, after[0], atol=1e-5) and torch.allclose(c, after[1], atol=1e-5), (
        "h and c that come back are not the LSTM's after this z and action, beginning with the state that was given"
    )
    again, *_ = _stepped(function, *given, uniform, normal)
    assert torch.equal(again, next_z), "the same noise gives another z: draw nothing yourself"
    again, *_ = _stepped(function, *given, uniform, other)
    assert not torch.allclose(again, next_z), (
        "another normal noise gives the same z: the noise is dropped"
    )
    again, *_ = _stepped(function, *given, (uniform + 0.5) % 1, normal)
    assert not torch.allclose(again, next_z), (
        "another uniform noise gives the same z: the Gaussian isn't picked by it"
    )
    for said, wrong in _wrong_steps(mdnrnn, memory, state, uniform, normal, 0.4).items():
        assert not torch.allclose(next_z, wrong[:, 0], atol=1e-4), said
    right = place_noise(mdnrnn.mixture(memory), uniform[:, None], normal[:, None], 0.4)
    gap = (next_z - right[:, 0]).abs().max().item()
    assert gap < 1e-4, f"on a small example the next z is off by {gap:.3f}"


def _wrong_steps(mdnrnn, memory, state, uniform, normal, temperature) -> dict[str, Tensor]:
    """What is to be said of a next z, and that z (B, 1, Z)."""
    mixture = mdnrnn.mixture(memory)

    def placed(uniform=uniform, normal=normal, **changed):
        return place_noise(
            mixture._replace(**changed), uniform[:, None], normal[:, None], temperature
        )

    center = placed(normal=0 * normal)
    noise = placed() - center  # the width times the normal noise
    k_logsigma = placed(normal=0 * normal, mu=mixture.logsigma)
    return {
        "the noise is multiplied by the temperature; it is the variance that is, so the width by its root":
            center + math.sqrt(temperature) * noise,
        "the noise is divided by the temperature's root, so that the cold dream is the wild one":
            center + noise / temperature,
        "the temperature doesn't reach the noise": center + noise / math.sqrt(temperature),
        "the logits are multiplied by the temperature, not divided": placed(logits=mixture.logits * temperature**2),
        "the temperature doesn't reach the weights": placed(logits=mixture.logits * temperature),
        "all latents take their Gaussian by the first one's noise": placed(uniform[:, :1].expand_as(uniform)),
        "logsigma is taken for the width; it is the width's logarithm":
            center + math.sqrt(temperature) * k_logsigma * normal[:, None],
        "the prediction is read from the h that went in, before this z and action": place_noise(
            mdnrnn.mixture(state[0][:, None]), uniform[:, None], normal[:, None], temperature
        ),
    }  # fmt: skip


@exercise(
    notebook="08_dreaming",
    minutes=15,
    task="""Section 1 dreamt one dream. Write one **step** for $B$ dreams at once, each with its own noise, without
`place_noise` or `sample_mixture`. It returns the next $z$ and the next state, so that steps can follow each other.""",
    hint="""`mdnrnn.memory` wants a time axis: `z[:, None]` is $(B, 1, Z)$. The parts of `mdnrnn.mixture(h)` are
$(B, 1, Z, K)$; drop the time axis again. `gather` picks one of the $K$ for each latent.""",
    check=_check_dream_step,
)
def dream_step(mdnrnn, z, action, state, temperature, uniform, normal):
    """One step of B dreams: z (B, Z), action (B, A), state h, c (B, H) to the next z and state.

    uniform (B, Z), in [0, 1), picks each latent's Gaussian; normal (B, Z) a place in it.
    """
    h, state = mdnrnn.memory(z[:, None], action[:, None], state)
    logits, mu, logsigma = (part[:, 0] for part in mdnrnn.mixture(h))
    weights = torch.softmax(logits / temperature, dim=-1)
    k = (weights.cumsum(dim=-1)[..., :-1] <= uniform[..., None]).sum(dim=-1, keepdim=True)
    width = temperature**0.5 * torch.exp(logsigma.gather(-1, k)[..., 0])
    return mu.gather(-1, k)[..., 0] + width * normal, state


def _check_half_life(function) -> None:
    steps = np.array([1, 2, 5, 10, 20, 50])
    curve = np.array([0.94, 0.90, 0.80, 0.70, 0.50, 0.76])
    found = function(steps, curve, 0.9, 0.3)
    assert isinstance(found, (int, float, np.floating)), (
        f"expected a number, got {type(found).__name__}"
    )
    assert not math.isclose(found, 20, abs_tol=1e-6), (
        "20 is the first listed step below the line; it is crossed before"
    )
    assert not math.isclose(found, 10, abs_tol=1e-6), (
        "10 is the last listed step above the line; it is crossed after"
    )
    late = 20 + 30 * 0.1 / 0.26
    assert not math.isclose(found, late, abs_tol=0.1), (
        "there the curve comes back; it is the first crossing that counts"
    )
    assert not math.isclose(found, 5 + 5 * (0.8 - 0.75) / 0.1, abs_tol=0.1), (
        "half of the best overlap, or another line, was taken: it lies half-way between best and chance"
    )
    assert math.isclose(found, 15, abs_tol=0.01), (
        f"from 0.70 at step 10 to 0.50 at step 20 the line at 0.60 is crossed at step 15, not at {found:.2f}"
    )
    scaled = function(steps, curve / 2, 0.45, 0.15)
    assert math.isclose(scaled, 15, abs_tol=0.01), "with everything halved the crossing moved"
    assert function(steps, np.full(6, 0.8), 0.9, 0.3) == math.inf, (
        "a curve that stays above the line never ends: inf"
    )
    assert function(steps, np.full(6, 0.2), 0.9, 0.3) == 1, (
        "a curve that begins below the line ends at its first step"
    )


@exercise(
    notebook="08_dreaming",
    minutes=10,
    task="""Section 3 read half-lives from a file. Compute one: `steps` (N,) rise, `overlap` (N,) belongs to them,
`best` is V alone and `chance` is chance. Return the step at which the curve first falls below the middle of `best` and
`chance`, on the straight line between two listed steps; `math.inf` if it never does, the first step if it begins
below.""",
    hint="""Find the first place $i$ with `overlap[i] < line`. Between $i-1$ and $i$ the share of the way is
$(o_{i-1} - \\mathrm{line}) / (o_{i-1} - o_i)$.""",
    check=_check_half_life,
)
def half_life(steps, overlap, best, chance):
    """The step, a float, at which a prediction is no longer usable."""
    line = (best + chance) / 2
    for i in range(len(steps)):
        if overlap[i] < line:
            if i == 0:
                return float(steps[0])
            share = (overlap[i - 1] - line) / (overlap[i - 1] - overlap[i])
            return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
    return math.inf


CLINIC = Clinic(
    faults={  # what is wrong, and what it would show
        "memory emptied": (
            "$h$ and $c$ are set to zero before every step",
            "now and then a frame would jump, twice as far as the healthy dream ever does, and the road would get lost",
        ),
        "noise drawn once": (
            "the noise of the first step is used at every step",
            "the dream would come to rest on one picture, whatever C does",
        ),
        "actions lost": (
            "M is given zeros, whatever C does",
            "the road would not answer: C would steer as hard as it can, and the car would leave the bend all the same",
        ),
        "temperature near zero": (
            "0.02 in place of 1",
            "a straight road would go on for ever, calmly but never quite at rest, with hardly any steering",
        ),
        "steering mirrored": (
            "M is told of the wheel with its sign turned round",
            "the car would turn away from where C steers, and stand on the grass within a second or two",
        ),
    },
    patients={"A": "actions lost", "B": "noise drawn once", "C": "memory emptied"},
    maker="dreams",
    curves="dreams.json",
    picture="dream_{}.png",
)


def draw_patients(axes: np.ndarray) -> None:
    """Fill axes (4, 3), a row for the healthy dream and each patient: frames, a pixel's change, C's steering."""
    curves = CLINIC.read_curves()["curves"]
    for row, (name, curve) in zip(axes, curves.items()):
        strip, change, steering = row
        draw_frames(strip, CLINIC.read_frames(name), columns=SHOWN)
        strip.tick_params(length=0)
        change.plot(curve["change"], color=COLOURS["dream"], ls="-", lw=1)
        change.set(ylim=(0, 12), xticks=[0, 100, 200])
        steering.plot(curve["steering"], color=COLOURS["C"], ls="-", lw=1)
        steering.set(ylim=(-1.1, 1.1), xticks=[0, 100, 200])
    titles = ("frames", "a pixel's change in a step", "C's steering, left is −1")
    label_rows(axes, list(curves), titles, ("steps", "steps", "steps"), name_size=10)


@exercise(
    notebook="08_dreaming",
    minutes=15,
    task=CLINIC.task("""\
Three dreams in the **clinic** above began as the healthy one did, with C at the wheel. Each has one
fault. Name it; choose among:"""),
    hint="""Begin with the curve of the frame's change: which fault stops a film, and which makes it jump? Then compare
what C steers with what the road does.""",
    check=CLINIC.check,
)
def dream_diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "actions lost", "B": "noise drawn once", "C": "memory emptied"}
