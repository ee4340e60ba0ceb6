"""Exercises of the notebook on V, and its clinic: short trainings with one fault each.

Letters: B images, Z latents.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from wmlib.exercises import exercise, expect_tensor
from wmlib.exercises.clinic import Clinic


def _check_kl_by_sampling(function) -> None:
    mu, logvar = (
        torch.tensor([[0.0, 1.5, -0.7], [0.3, 0.0, 2.0]]),
        torch.tensor([[0.0, -3.0, 1.0], [-1.0, -5.0, 0.5]]),
    )
    few = [function(mu, logvar, 1, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    expect_tensor(few[0], mu.shape)
    assert not torch.equal(*few), (
        "two generators give the same numbers: an estimate from one draw must scatter"
    )
    found = function(mu, logvar, 100_000, torch.Generator().manual_seed(0))
    exact = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0))
    assert not torch.allclose(found, -exact, atol=0.05), (
        "the sign is turned round: log q comes first, and log p is taken from it"
    )
    for wrong in _variance_for_width(mu, logvar):
        assert not torch.allclose(found, wrong, rtol=0.03, atol=0.05), (
            "a width is taken from logvar wrongly: exp(logvar) is the variance, its root the standard deviation"
        )
    worst = (found - exact).abs().max().item()
    assert worst < 0.05, (
        f"with 100,000 draws it is still {worst:.2f} nats away from the closed form"
    )


def _variance_for_width(mu: Tensor, logvar: Tensor) -> list[Tensor]:
    """What becomes of the KL where exp(logvar), or logvar itself, is taken for a standard deviation."""
    variance = torch.exp(logvar)
    drawn = mu.square() + variance.square()  # E[z^2] of draws that are exp(logvar) wide
    return [
        0.5 * (drawn - 1 - logvar),  # the draws alone, the squared noise in log q
        0.5
        * (
            drawn - variance - logvar
        ),  # the draws alone, the squared distance over the variance in log q
        0.5 * (drawn - 1 - 2 * logvar),  # draws and log q alike
        0.5 * (mu.square() + variance - 1 / variance - logvar),  # the fraction in log q alone
        0.5 * (mu.square() + variance - 1 / variance - 2 * logvar),  # all of log q
        0.5 * (mu.square() + logvar.square() - 1 - logvar),  # draws that are logvar wide
    ]


@exercise(
    notebook="02_vae",
    minutes=10,
    task="""The KL has a closed form only because both sides are Gaussians. Without it one can still **estimate** it:
$$\\mathrm{KL}(q \\,\\|\\, p) = \\mathbb{E}_{z \\sim q}\\left[\\ln q(z) - \\ln p(z)\\right].$$
Draw $z$ from $q = \\mathcal N(\\mu, e^{\\mathrm{logvar}})$ with the reparameterisation trick, evaluate both
log-densities yourself, take the mean over the draws. Keep the latents apart.""",
    hint="""The log-density of a Gaussian is
$-\\frac12\\left(\\frac{(z-\\mu)^2}{e^{\\mathrm{logvar}}} + \\mathrm{logvar} + \\ln 2\\pi\\right)$.
For $q$ the first fraction is just the squared noise.""",
    check=_check_kl_by_sampling,
)
def kl_by_sampling(mu, logvar, samples, generator):
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent from draws: mu, logvar (B, Z) to (B, Z)."""
    noise = torch.randn(samples, *mu.shape, generator=generator)
    z = mu + torch.exp(logvar / 2) * noise
    log_q = -0.5 * (noise.square() + logvar + math.log(2 * math.pi))
    log_p = -0.5 * (z.square() + math.log(2 * math.pi))
    return (log_q - log_p).mean(dim=0)


def _literal(recon, x, mu, logvar, floor) -> float:
    """The loss image by image and latent by latent."""
    total = 0.0
    for b in range(len(x)):
        kl = kl_divergence(Normal(mu[b], torch.exp(logvar[b] / 2)), Normal(0.0, 1.0)).tolist()
        total += (recon[b] - x[b]).square().sum().item() + sum(max(k, floor) for k in kl)
    return total / len(x)


def _check_loss_with_floors(function) -> None:
    generator = torch.Generator().manual_seed(0)
    recon, x = torch.rand(2, 3, 3, 64, 64, generator=generator) / 16
    mu, logvar = torch.tensor([0.1, 1.0, 2.0])[:, None] * torch.randn(2, 3, 5, generator=generator)
    found = function(recon, x, mu, logvar, 0.5)
    expect_tensor(found, (), "one number")
    exact = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0))
    pixels, error, floored = (
        x[0].numel(),
        (recon - x).square().flatten(1).sum(dim=1),
        exact.clamp(min=0.5).sum(dim=1),
    )
    square = mu.square() + torch.exp(2 * logvar)  # as if exp(logvar) were the standard deviation
    double, half_double = (
        (0.5 * (square - 1 - n * logvar)).clamp(min=0.5).sum(dim=1) for n in (2, 1)
    )
    mistakes = {
        "the floor lies under the sum over latents: each latent needs its own": (
            error + exact.sum(dim=1).clamp(min=0.5 * mu.shape[1])
        ),
        "the squared error is averaged over the pixels; it is to be summed over the image": error
        / pixels
        + floored,
        "the floor isn't used: a latent below it is counted as it is": error + exact.sum(dim=1),
        "exp(logvar) is the variance, not the standard deviation": error + double,
        "exp(logvar) is the variance already; it is squared once more": error + half_double,
        "the floor lies under the mean over images: each image needs its own": (
            error + exact.mean(dim=0).clamp(min=0.5).sum()
        ),
        "the KL is averaged over the latents; it is to be summed": error + floored / mu.shape[1],
        "the mean over the images is a sum": len(x) * (error + floored),
    }
    for said, wrong in mistakes.items():
        assert not math.isclose(found, wrong.mean(), rel_tol=1e-4), said
    wanted = _literal(recon, x, mu, logvar, 0.5)
    assert math.isclose(found, wanted, rel_tol=1e-4), (
        f"on a small example the loss is {found:.3f}, expected {wanted:.3f}"
    )
    low = torch.full((2, 4), 0.1, requires_grad=True)
    loss = function(recon[:2], x[:2], low, torch.zeros(2, 4), 0.5)
    assert loss.requires_grad, (
        "the loss has no gradient: it must stay a tensor all the way from mu and logvar"
    )
    loss.backward()
    assert low.grad is not None and low.grad.abs().max() == 0, (
        "a latent below its floor still has a gradient"
    )


@exercise(
    notebook="02_vae",
    minutes=10,
    task="""The authors' code puts one floor under the **sum** of the KL: 16 nats for 32 latents, spent as V likes.
Write the other version: a floor of half a nat under **each** latent of each image.
The squared error stays summed over the image, the loss stays a mean over the batch.
Predict first: will V use more latents or fewer? (The fourth task of *Try it* tells.)""",
    hint="""`clamp(min=floor)` works on a tensor of any shape. What matters is where it stands: before the sum over
latents, and before the mean over images.""",
    check=_check_loss_with_floors,
)
def loss_with_floors(recon, x, mu, logvar, floor=0.5):
    """Squared error plus a KL with floors: recon, x (B, 3, 64, 64); mu, logvar (B, Z)."""
    squared_error = (recon - x).square().sum(dim=(1, 2, 3))  # (B,)
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar)  # (B, Z)
    return (squared_error + kl.clamp(min=floor).sum(dim=1)).mean()


CLINIC = Clinic(
    faults={  # what is wrong, and what it would show
        "averaged error": (
            "the squared error is averaged over the pixels beside a summed KL without a floor",
            "the KL would fall to nothing and stay there, and every frame would be painted as the same average",
        ),
        "frames in order": (
            "batches are taken from the episodes in the order of driving",
            "the squared error would swing with the episodes, and V would paint what it saw last, whatever it is shown",
        ),
        "no noise": (
            "the decoder gets mu itself, not a draw from q",
            "the pictures from mu would be as good as ever, while noise of the width that q claims would ruin them",
        ),
        "no KL": (
            "the loss is the squared error alone",
            "the KL would climb far above the floor, since nothing holds it",
        ),
        "KL subtracted": (
            "the KL has the wrong sign",
            "the KL would grow without end, and the loss would fall below zero",
        ),
        "learning rate too high": (
            "steps a hundred times too large",
            "the curves would jump instead of falling, from the first steps on",
        ),
    },
    patients={"A": "no noise", "B": "averaged error", "C": "frames in order"},
    maker="vaes",
    curves="curves.json",
    picture="{}.png",
)
FLOORS = {
    "floor 0": 0.0,
    "floor 16": 0.5,
    "floor 96": 3.0,
}  # healthy Vs; nats, together and for each latent


@exercise(
    notebook="02_vae",
    minutes=15,
    task=CLINIC.task("""\
Three Vs in the **clinic** above, each trained with one fault. Read curves and pictures, and name
each fault. Choose among:"""),
    hint="""What does each fault do to the KL? Three of the six can be told from that curve alone. For the others
compare the row from $\\mu$ with the row from $z$, and look at the shape of the error's curve.""",
    check=CLINIC.check,
)
def diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "no noise", "B": "averaged error", "C": "frames in order"}
