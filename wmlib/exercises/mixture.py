"""Exercises of the notebook on mixture densities.

Letters: B batch, T time, N samples, Z latents, K mixture components.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmlib.exercises import exercise, expect_tensor
from wmlib.mdnrnn import Mixture


def _mixture(shape: tuple[int, ...], seed: int) -> Mixture:
    """Unlike components: logits that don't sum to anything in particular, widths on both sides of 1."""
    logits, mu, logsigma = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    return Mixture(logits + 0.3, 2 * mu, 0.7 * logsigma - 0.2)


def _check_mixture_cdf(function) -> None:
    mixture = _mixture((2, 5, 4, 3), 0)
    x = 2 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    found = function(mixture, x)
    expect_tensor(found, x.shape)
    for said, wrong in _wrong_cdfs(mixture, x).items():
        assert not torch.allclose(found, wrong, atol=1e-3), said
    right = _oracle(mixture).cdf(x)
    gap = (found - right).abs().max().item()
    assert gap < 1e-4, f"on a small example it is off by up to {gap:.3f}"
    shifted = function(mixture._replace(logits=mixture.logits + 3), x)
    assert torch.allclose(shifted, found, atol=1e-4), (
        "3 more for every logit changes the result: softmax forgets it"
    )


def _oracle(mixture: Mixture) -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(logits=mixture.logits), Normal(mixture.mu, torch.exp(mixture.logsigma))
    )


def _wrong_cdfs(mixture: Mixture, x: Tensor) -> dict[str, Tensor]:
    """What is to be said of a wrong cumulative distribution, and its values (B, T, Z)."""
    weights = torch.softmax(mixture.logits, dim=-1)
    apart = x[..., None] - mixture.mu
    whole = _oracle(mixture)

    def summed(width: Tensor, weights: Tensor = weights) -> Tensor:
        return (weights * Normal(0.0, 1.0).cdf(apart / width)).sum(dim=-1)

    width = torch.exp(mixture.logsigma)
    erf = torch.erf(apart / width / math.sqrt(2))
    return {
        "the components are averaged as if their weights were equal": summed(width, torch.full_like(weights, 1 / 3)),
        "the logits are used as weights; their softmax is": summed(width, mixture.logits),
        "the weights are exp(logits) and don't sum to 1: divide by their sum, as softmax does":
            summed(width, mixture.logits.exp()),
        "exp(logsigma) is the width already; it is squared once more": summed(width.square()),
        "logsigma is halved, as if it were a logvar; exp(logsigma) is the width": summed(width.sqrt()),
        "logsigma is taken for the width; it is the width's logarithm": summed(mixture.logsigma),
        "that is one Gaussian with the mixture's mean and width; sum the components' own distributions":
            Normal(whole.mean, whole.stddev).cdf(x),
        "x is compared with the means' mean; each component has a distribution of its own":
            Normal((weights * mixture.mu).sum(-1), (weights * width).sum(-1)).cdf(x),
        "that is the density; it is the area to the left of x that is asked for": whole.log_prob(x).exp(),
        "that is the area to the right of x": 1 - whole.cdf(x),
        "erf runs from -1 to 1; a distribution function from 0 to 1": (weights * erf).sum(dim=-1),
        "inside erf the distance is to be divided by the root of 2 as well":
            (weights * 0.5 * (1 + torch.erf(apart / width))).sum(dim=-1),
    }  # fmt: skip


@exercise(
    notebook="03_mixture_density",
    minutes=10,
    task="""`mixture_nll` gives the height of a density. Write the **area** to the left of $x$, the mixture's cumulative
distribution function

$$F(x) = \\int_{-\\infty}^{x} p(y)\\, dy,$$

without `torch.distributions`. Shapes as for `mixture_nll`. Notebook 04 judges M's honesty with it.""",
    hint="""An integral of a sum is the sum of the integrals, so the weights come out in front. For one Gaussian the
area left of $x$ is $\\frac12\\big(1 + \\mathrm{erf}(\\frac{x - \\mu}{\\sqrt 2 \\cdot \\mathrm{width}})\\big)$, with
`torch.erf`.""",
    check=_check_mixture_cdf,
)
def mixture_cdf(mixture, x):
    """P(y < x) of each latent: logits, mu, logsigma (B, T, Z, K) and x (B, T, Z) to (B, T, Z)."""
    standard = (x[..., None] - mixture.mu) * torch.exp(-mixture.logsigma)
    area = 0.5 * (1 + torch.erf(standard / math.sqrt(2)))  # (B, T, Z, K)
    return (torch.softmax(mixture.logits, dim=-1) * area).sum(dim=-1)


# Twelve cars, seen where the roads lie 5.5 road widths ahead, and four forecasts of such cars.
CARS = torch.tensor([2.10, 2.28, 2.37, 2.44, 2.52, 2.69, -0.79, -0.58, -0.47, -2.73, -2.61, -2.40])
FORECASTS = {
    "A": Mixture(torch.tensor([0.0]), torch.tensor([0.4]), torch.tensor([2.1]).log()),
    "B": Mixture(
        torch.tensor([0.6, 0.4]).log(), torch.tensor([2.4, -0.6]), torch.tensor([0.2, 0.2]).log()
    ),
    "C": Mixture(
        torch.tensor([0.4, 0.3, 0.3]).log(),
        torch.tensor([2.4, -0.6, -2.6]),
        torch.tensor([0.35, 0.35, 0.35]).log(),
    ),
    "D": Mixture(
        torch.tensor([0.5, 0.25, 0.25]).log(),
        torch.tensor([2.25, -0.75, -2.75]),
        torch.tensor([0.07, 0.07, 0.07]).log(),
    ),
}


def _check_predictions(function) -> None:
    found = function()
    keys = {"order", "weight", "width"}
    assert isinstance(found, dict) and found.keys() == keys, (
        f"expected a dict with {', '.join(sorted(keys))}"
    )
    order = str(found["order"]).upper()
    assert sorted(order) == list("ABCD"), (
        f"order: expected the four letters, each once, as in 'ABCD', got {order!r}"
    )
    place = order.index
    assert place("B") > place("D"), (
        "order: B gives three cars hardly any density; one car ten widths away costs 50 nats, more than all the rest"
    )
    assert place("B") > place("A"), (
        "order: A is blunt, but no car surprises it; B is surprised by every fourth car"
    )
    assert place("C") < place("A"), (
        "order: C has every car under a hill, and is higher there than A is anywhere"
    )
    assert place("C") < place("D"), (
        "order: D's hills are the tallest, and most cars stand two widths beside them"
    )
    assert place("A") < place("D"), (
        "order: D is sharp and a little off: cars lie several of its widths away, and that costs half the square of it"
    )
    weight, width = found["weight"], found["width"]
    for name, value in (("weight", weight), ("width", width)):
        assert isinstance(value, (int, float)), (
            f"{name}: expected a number, got {type(value).__name__}"
        )
    assert abs(weight - 0.7) > 0.01, (
        "weight: the temperature changes it; a cold draw prefers the heavier component"
    )
    assert abs(weight - 0.49) > 0.01, (
        "weight: 0.7 squared, and now divide by the sum of both squares"
    )
    assert weight > 0.7, (
        "weight: below 1 the temperature makes the heavy component heavier, not lighter"
    )
    assert abs(weight - 0.49 / 0.58) < 0.01, (
        f"weight: not {weight}. Logits are logarithms of weights: halving the temperature squares the weights"
    )
    assert abs(width - 0.25) > 0.01, (
        "width: the variance is multiplied by tau, so the width by its root"
    )
    assert abs(width - 0.5) < 0.01, (
        f"width: not {width}; the noise is multiplied by the root of tau"
    )


@exercise(
    notebook="03_mixture_density",
    minutes=8,
    task="""**Predict before you compute.** Three questions, on paper:
- `order`: the four forecasts **A** to **D** in the picture above, from the lowest NLL of the twelve cars to the
  highest, as in `"ABCD"`.
- `weight`: a mixture has the weights 0.7 and 0.3. What is the first one at $\\tau = 0.5$?
- `width`: by what factor are the widths multiplied at $\\tau = 0.25$?""",
    hint="""A car at a distance of $d$ widths from the only hill near it costs $d^2/2$ nats more than one at its top. A
hill that is ten times narrower gains $\\ln 10 \\approx 2.3$. Logits are logarithms of weights, so dividing them by
$\\tau$ raises the weights to the power $1/\\tau$.""",
    check=_check_predictions,
)
def predictions():
    """Your answers: a dict with the keys order, weight and width."""
    return {"order": "CADB", "weight": 0.49 / (0.49 + 0.09), "width": 0.5}


def _check_sample_joint(function) -> None:
    generator = torch.Generator().manual_seed(0)
    _, mu, logsigma = _mixture((400, 3, 4), 2)
    logits = torch.randn(400, 4, generator=generator)
    uniform, normal, other = (
        torch.rand(400, generator=generator),
        *torch.randn(2, 400, 3, generator=generator),
    )
    tau = 0.4
    found = function(logits, mu, logsigma, tau, uniform, normal)
    expect_tensor(found, normal.shape)
    again = function(logits, mu, logsigma, tau, uniform, normal)
    assert torch.equal(again, found), "the same noise gives another draw: draw nothing yourself"
    again = function(logits, mu, logsigma, tau, uniform, other)
    assert not torch.allclose(again, found), (
        "another normal noise gives the same draw: the noise is dropped"
    )
    again = function(logits, mu, logsigma, tau, (uniform + 0.5) % 1, normal)
    assert not torch.allclose(again, found), (
        "another uniform noise gives the same draw: it is to pick the component"
    )
    for said, wrong in _wrong_draws(logits, mu, logsigma, uniform, normal, tau).items():
        assert not torch.allclose(found, wrong, atol=1e-4), said
    right = _drawn(logits / tau, mu, math.sqrt(tau) * torch.exp(logsigma), uniform, normal)
    gap = (found - right).abs().max().item()
    assert gap < 1e-4, f"on a small example a draw is off by {gap:.3f}"


def _drawn(logits: Tensor, mu: Tensor, width: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
    totals = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    k = torch.searchsorted(totals[:, :-1].contiguous(), uniform[:, None], right=True)  # (N, 1)
    here = torch.arange(len(k))
    return mu[here, :, k[:, 0]] + width[here, :, k[:, 0]] * normal


def _wrong_draws(logits, mu, logsigma, uniform, normal, tau) -> dict[str, Tensor]:
    """What is to be said of a wrong draw, and that draw (N, Z)."""
    width = torch.exp(logsigma)
    draw: Callable[[Tensor, Tensor], Tensor] = lambda logits, width: _drawn(
        logits, mu, width, uniform, normal
    )
    return {
        "the temperature doesn't reach the noise": draw(logits / tau, width),
        "the temperature doesn't reach the weights": draw(logits, math.sqrt(tau) * width),
        "the noise is multiplied by the temperature; it is the variance that is, so the width by its root":
            draw(logits / tau, tau * width),
        "the logits are multiplied by the temperature, not divided": draw(logits * tau, math.sqrt(tau) * width),
        "the heaviest component is taken every time": draw(logits * 1e6, math.sqrt(tau) * width),
        "logsigma is taken for the width; it is the width's logarithm": draw(logits / tau, math.sqrt(tau) * logsigma),
        "all latents get the same noise": _drawn(
            logits / tau, mu, math.sqrt(tau) * width, uniform, normal[:, :1].expand_as(normal)
        ),
    }  # fmt: skip


@exercise(
    notebook="03_mixture_density",
    minutes=12,
    task="""`place_noise` draws from the paper's factorised mixture. Write the draw from a **joint** one: one set of
logits for all latents, so one choice of $k$ for all of them, with the temperature in both of its places.""",
    hint="""Add up the weights with `cumsum`, and count for each sample how many of these totals `uniform` has passed.
`mu[torch.arange(N), :, k]` picks for each sample its own component and has the shape $(N, Z)$.""",
    check=_check_sample_joint,
)
def sample_joint(logits, mu, logsigma, temperature, uniform, normal):
    """Draws (N, Z) of a joint mixture: logits (N, K); mu, logsigma (N, Z, K).

    uniform (N,), in [0, 1), picks the component; normal (N, Z) a place in it.
    """
    totals = torch.softmax(logits / temperature, dim=-1).cumsum(dim=-1)
    k = (totals[:, :-1] <= uniform[:, None]).sum(dim=-1)
    n = torch.arange(len(k))
    width = temperature**0.5 * torch.exp(logsigma[n, :, k])
    return mu[n, :, k] + width * normal
