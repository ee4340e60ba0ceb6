"""V: a variational autoencoder that keeps 32 of a frame's 12,288 numbers (paper, sections 2.1 and A.1).

Letters: B batch, Z latents.
"""

import numpy as np
import torch
from torch import Tensor, nn

from wmlib.fast import Conv2d, ConvTranspose2d  # torch.nn's, only faster on few pixels


def to_float(obs: np.ndarray) -> Tensor:
    """Frames as the environment gives them, uint8 (B, 64, 64, 3), to those V reads, float32 (B, 3, 64, 64) in [0, 1].

    Raises ValueError on another shape or dtype.
    """
    if obs.dtype != np.uint8 or obs.ndim != 4 or obs.shape[1:] != (64, 64, 3):
        raise ValueError(
            f"frames must be uint8 (B, 64, 64, 3), got {obs.dtype} {obs.shape}; see preprocess in envs"
        )
    return torch.from_numpy(obs).permute(0, 3, 1, 2).float().div_(255)


def to_uint8(x: Tensor) -> np.ndarray:
    """The inverse of `to_float`, rounded: float (B, 3, 64, 64) in [0, 1] to uint8 (B, 64, 64, 3)."""
    return (
        x.detach()
        .mul(255)
        .round_()
        .clamp_(0, 255)
        .byte()
        .permute(0, 2, 3, 1)
        .contiguous()
        .cpu()
        .numpy()
    )


class VAE(nn.Module):
    """Encoder q(z | x) = N(mu, exp(logvar)) and decoder x = f(z), the paper's figure 22."""

    def __init__(self, z_size: int = 32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=4, stride=2), nn.ReLU(),     # (B, 32, 31, 31)
            nn.Conv2d(32, 64, kernel_size=4, stride=2), nn.ReLU(),    # (B, 64, 14, 14)
            nn.Conv2d(64, 128, kernel_size=4, stride=2), nn.ReLU(),   # (B, 128, 6, 6)
            Conv2d(128, 256, kernel_size=4, stride=2), nn.ReLU(),     # (B, 256, 2, 2)
            nn.Flatten(),                                             # (B, 1024)
        )  # fmt: skip
        self.to_mu = nn.Linear(1024, z_size)
        self.to_logvar = nn.Linear(1024, z_size)
        self.decoder = nn.Sequential(
            nn.Linear(z_size, 1024), nn.Unflatten(1, (1024, 1, 1)),
            ConvTranspose2d(1024, 128, kernel_size=5, stride=2), nn.ReLU(),  # (B, 128, 5, 5)
            ConvTranspose2d(128, 64, kernel_size=5, stride=2), nn.ReLU(),    # (B, 64, 13, 13)
            ConvTranspose2d(64, 32, kernel_size=6, stride=2), nn.ReLU(),     # (B, 32, 30, 30)
            ConvTranspose2d(32, 3, kernel_size=6, stride=2), nn.Sigmoid(),   # (B, 3, 64, 64)
        )  # fmt: skip

    @property
    def z_size(self) -> int:
        """Z, the number of latents."""
        return self.to_mu.out_features

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): x (B, 3, 64, 64) in [0, 1] to mu, logvar, each (B, Z)."""
        features = self.encoder(x)
        return self.to_mu(features), self.to_logvar(features)

    def sample(
        self, mu: Tensor, logvar: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The reparameterisation trick, z = mu + exp(logvar / 2) * noise: (B, Z)."""
        noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return mu + torch.exp(0.5 * logvar) * noise

    def decode(self, z: Tensor) -> Tensor:
        """The frame that z stands for: z (B, Z) to (B, 3, 64, 64) in [0, 1]."""
        return self.decoder(z)

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample, decode: recon (B, 3, 64, 64), mu (B, Z), logvar (B, Z)."""
        mu, logvar = self.encode(x)
        return self.decode(self.sample(mu, logvar, generator)), mu, logvar


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent, in nats; same shape as mu."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def vae_loss(
    recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor, kl_tolerance: float = 0.5
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error summed over the image plus the summed KL (paper, A.1), free of cost below a floor (its code).

    recon, x: (B, 3, 64, 64); mu, logvar: (B, Z). The floor is kl_tolerance * Z nats for each image: 16 in that code.
    Returns the mean over the batch and its two parts, `squared_error` and `kl` (the KL before the floor).
    """
    squared_error = (recon - x).square().sum(dim=(1, 2, 3))  # (B,)
    kl = kl_to_standard_normal(mu, logvar).sum(dim=1)  # (B,)
    loss = (squared_error + kl.clamp(min=kl_tolerance * mu.shape[1])).mean()
    return loss, {"squared_error": squared_error.mean().detach(), "kl": kl.mean().detach()}
