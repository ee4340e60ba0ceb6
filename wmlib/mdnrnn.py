"""M: an LSTM that predicts a mixture of Gaussians over the next z (paper, sections 2.2 and A.2).

Letters: B batch, T time, Z latents, A action, H hidden, K mixture components.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # h and c, each (B, H)


class Mixture(NamedTuple):
    """Five Gaussians for each latent separately: logits, mu, logsigma, each (B, T, Z, K).

    Weights and widths stay logarithms until the last moment, so that nothing under- or overflows.
    """

    logits: Tensor
    mu: Tensor
    logsigma: Tensor


class MDNRNN(nn.Module):
    """p(z[t+1] | z[t], action[t], h[t]) as a factorised mixture of Gaussians."""

    def __init__(self, z_size: int = 32, action_size: int = 3, hidden_size: int = 256, num_mixtures: int = 5):
        super().__init__()
        self.z_size, self.num_mixtures = z_size, num_mixtures
        self.lstm = nn.LSTM(z_size + action_size, hidden_size, batch_first=True)
        # The paper's LSTM has one bias where torch's has two: the second stays at zero, untrained.
        nn.init.zeros_(self.lstm.bias_hh_l0).requires_grad_(False)
        self.to_mixture = nn.Linear(hidden_size, 3 * z_size * num_mixtures)

    @property
    def hidden_size(self) -> int:
        """H, the size of h and of c."""
        return self.lstm.hidden_size

    def initial_state(self, B: int) -> State:
        """h and c of an episode that begins: zeros (B, H)."""
        zeros = self.to_mixture.weight.new_zeros(B, self.hidden_size)
        return zeros, zeros

    def memory(self, z: Tensor, action: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The LSTM alone: z (B, T, Z) and action (B, T, A) to h (B, T, H) and the state after the last step."""
        h, c = self.initial_state(z.shape[0]) if state is None else state
        h_all, (h, c) = self.lstm(torch.cat([z, action], dim=-1), (h[None], c[None]))
        return h_all, (h[0], c[0])

    def mixture(self, h: Tensor) -> Mixture:
        """The prediction that h holds: h (B, T, H) to a Mixture over z[t+1]."""
        B, T, _ = h.shape
        parts = self.to_mixture(h).view(B, T, 3, self.z_size, self.num_mixtures)
        return Mixture(*parts.unbind(dim=2))

    def forward(self, z: Tensor, action: Tensor, state: State | None = None) -> tuple[Mixture, State]:
        """`memory` followed by `mixture`: z (B, T, Z), action (B, T, A) to Mixture (B, T, Z, K) and state."""
        h, state = self.memory(z, action, state)
        return self.mixture(h), state


def mixture_nll(mixture: Mixture, target: Tensor) -> Tensor:
    """-log p(target) of each latent, in nats: target (B, T, Z) to (B, T, Z) (paper, A.2; Bishop 1994, eq. 29).

    A density may pass 1, so a negative value is no mistake.
    """
    deviation = (target[..., None] - mixture.mu) * torch.exp(-mixture.logsigma)  # (B, T, Z, K)
    log_normal = -0.5 * deviation.square() - mixture.logsigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(torch.log_softmax(mixture.logits, dim=-1) + log_normal, dim=-1)


def sample_mixture(mixture: Mixture, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """One z for each latent's mixture, (B, T, Z): logits divided by the temperature, noise scaled by its root (paper, 4.4).

    Raises ValueError unless the temperature is a positive number.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    weights = torch.softmax(mixture.logits / temperature, dim=-1)  # (B, T, Z, K)
    k = torch.multinomial(weights.flatten(0, -2), 1, generator=generator).view(*weights.shape[:-1], 1)
    mu = mixture.mu.gather(-1, k).squeeze(-1)
    logsigma = mixture.logsigma.gather(-1, k).squeeze(-1)
    noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + math.sqrt(temperature) * torch.exp(logsigma) * noise
