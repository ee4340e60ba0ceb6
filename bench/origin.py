"""The V of the script that the course began with, and a loop that trains one; written anew."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

SCRIPT_LEARNING_RATE = 1e-4


class ScriptVAE(nn.Module):
    """V at the paper's number of latents; its encoder gives mu and logvar side by side."""

    def __init__(self, z_size: int = 32):
        super().__init__()
        widths = [3, 32, 64, 128, 256]
        down = [(nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in itertools.pairwise(widths)]
        up = [
            (nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU())
            for a, b in reversed(list(itertools.pairwise(widths)))
        ]
        self.encoder = nn.Sequential(
            *itertools.chain(*down), nn.Flatten(), nn.Linear(4096, 2 * z_size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(z_size, 4096),
            nn.ReLU(),
            nn.Unflatten(1, (256, 4, 4)),
            *list(itertools.chain(*up))[:-1],
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (B, 3, 64, 64) to their reconstruction, mu and logvar."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar


def script_loss(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Squared error averaged over pixels, and a thousandth of the KL."""
    kl = -0.5 * torch.sum(1 + logvar - mu.square() - logvar.exp()) / len(x)
    return nn.functional.mse_loss(recon, x) + 0.001 * kl


def plain_loop(
    vae: nn.Module, loss_of: Callable[..., Tensor], learning_rate: float, batches: Iterable[Tensor]
) -> Iterator[float]:
    """Train in fp32 on float pictures, as one would write it first: a step for each next()."""
    optimizer = torch.optim.Adam(vae.parameters(), learning_rate)
    for x in batches:
        recon, mu, logvar = vae(x)
        loss = loss_of(recon, x, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
