"""Exercises of the notebook on V.

Letters: B images, Z latents.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from wmlib.exercises import exercise


def _check_kl_by_sampling(function) -> None:
    mu, logvar = torch.tensor([[0.0, 1.5, -0.7], [0.3, 0.0, 2.0]]), torch.tensor([[0.0, -3.0, 1.0], [-1.0, -5.0, 0.5]])
    few = [function(mu, logvar, 1, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert isinstance(few[0], Tensor) and few[0].shape == mu.shape, f"expected a tensor of shape {tuple(mu.shape)}"
    assert not torch.equal(*few), "two generators give the same numbers: an estimate from one draw must scatter"
    found = function(mu, logvar, 100_000, torch.Generator().manual_seed(0))
    exact = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0))
    assert not torch.allclose(found, -exact, atol=0.05), (
        "the sign is turned round: log q comes first, and log p is taken from it"
    )
    worst = (found - exact).abs().max().item()
    assert worst < 0.05, f"with 100,000 draws it is still {worst:.2f} nats away from the closed form"


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


def _literal(recon, x, mu, logvar, floor, per_latent=True) -> float:
    """The loss image by image and latent by latent."""
    total = 0.0
    for b in range(len(x)):
        kl = [
            max(k, floor) if per_latent else k
            for k in kl_divergence(Normal(mu[b], torch.exp(logvar[b] / 2)), Normal(0.0, 1.0)).tolist()
        ]
        total += (recon[b] - x[b]).square().sum().item() + max(sum(kl), 0 if per_latent else floor * mu.shape[1])
    return total / len(x)


def _check_loss_with_floors(function) -> None:
    generator = torch.Generator().manual_seed(0)
    recon, x = torch.rand(2, 3, 3, 64, 64, generator=generator) / 16
    mu, logvar = torch.tensor([0.1, 1.0, 2.0])[:, None] * torch.randn(2, 3, 5, generator=generator)
    found, wanted = float(function(recon, x, mu, logvar, 0.5)), _literal(recon, x, mu, logvar, 0.5)
    on_sum = _literal(recon, x, mu, logvar, 0.5, per_latent=False)
    assert not math.isclose(found, on_sum, rel_tol=1e-4), (
        "the floor lies under the sum over latents: each latent needs its own"
    )
    assert math.isclose(found, wanted, rel_tol=1e-4), (
        f"on a small example the loss is {found:.3f}, expected {wanted:.3f}"
    )
    low = torch.full((2, 4), 0.1, requires_grad=True)
    function(recon[:2], x[:2], low, torch.zeros(2, 4), 0.5).backward()
    assert low.grad is not None and low.grad.abs().max() == 0, "a latent below its floor still has a gradient"


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
