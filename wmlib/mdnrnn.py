"""M: an LSTM that predicts a mixture of Gaussians over the next z (paper, sections 2.2 and A.2).

Letters: B batch, T time, Z latents, A action, H hidden, K mixture components.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmlib.data import Sequences

State = tuple[Tensor, Tensor]  # h and c, each (B, H)


class Mixture(NamedTuple):
    """Five Gaussians for each latent separately: logits, mu, logsigma, each (B, T, Z, K).

    Weights and widths stay logarithms until the last moment, so that nothing under- or overflows.
    """

    logits: Tensor
    mu: Tensor
    logsigma: Tensor


class MDNRNN(nn.Module):
    """p(z[t+1] | z[t], action[t], h[t]) as a factorised mixture of Gaussians.

    h[t] is what M knew before z[t] and action[t]; the outputs are read from the h that follows. With
    `outcome` M predicts the step's reward and end as well. With `look_ahead` it is also trained to
    tell z[t + look_ahead], which nobody asks it for later: what moves too little in one step to be
    worth remembering, such as the car's speed, moves enough in several (not in the paper).
    """

    def __init__(
        self,
        z_size: int = 32,
        action_size: int = 3,
        hidden_size: int = 256,
        num_mixtures: int = 5,
        outcome: bool = False,
        look_ahead: int | None = None,
        outcome_units: int = 64,
    ):
        super().__init__()
        self.z_size = z_size
        self.num_mixtures = num_mixtures
        self.lstm = nn.LSTM(z_size + action_size, hidden_size, batch_first=True)
        # The paper's LSTM has one bias where torch's has two: the second stays at zero, untrained.
        nn.init.zeros_(self.lstm.get_parameter("bias_hh_l0")).requires_grad_(False)
        self.to_mixture = nn.Linear(hidden_size, 3 * z_size * num_mixtures)
        self.to_outcome = outcome_layers(hidden_size, outcome_units) if outcome else None
        self.look_ahead = look_ahead
        self.to_ahead = nn.Linear(hidden_size, 2 * z_size) if look_ahead else None

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
        parts = self.to_mixture(h).unflatten(-1, (3, self.z_size, self.num_mixtures))
        return Mixture(*parts.unbind(dim=2))

    def ahead(self, h: Tensor) -> Mixture:
        """One Gaussian for each latent of z[t + look_ahead]: h (B, T, H) to a Mixture with K = 1.

        Raises ValueError for an M that was built without look_ahead.
        """
        if self.to_ahead is None:
            raise ValueError("this M predicts the next z alone; build and train it with look_ahead")
        mu, logsigma = self.to_ahead(h)[..., None].chunk(2, dim=2)
        return Mixture(torch.zeros_like(mu), mu, logsigma)

    def outcome(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """What the action brings: h (B, T, H) to the reward and the logit of "terminated", each (B, T) (paper, 4.2).

        Raises ValueError for an M that was built without these outputs.
        """
        if self.to_outcome is None:
            raise ValueError(
                "this M predicts no reward and no end; build and train it with outcome=True"
            )
        return self.to_outcome(h).unbind(dim=-1)

    def forward(
        self, z: Tensor, action: Tensor, state: State | None = None
    ) -> tuple[Mixture, State]:
        """`memory` followed by `mixture`: z (B, T, Z), action (B, T, A) to Mixture (B, T, Z, K) and state."""
        h, state = self.memory(z, action, state)
        return self.mixture(h), state


def outcome_layers(hidden_size: int, units: int) -> nn.Sequential:
    """From h to reward and logit of the end, by way of a small hidden layer; straight for 0 units.

    What a step pays depends on speed and on being on the road, both at once; a linear layer can only
    add them. (The paper's M tells the end alone, by a linear layer: Take Cover pays the same for
    every step.)
    """
    if units == 0:
        return nn.Sequential(nn.Linear(hidden_size, 2))
    return nn.Sequential(nn.Linear(hidden_size, units), nn.ReLU(), nn.Linear(units, 2))


def mixture_nll(mixture: Mixture, target: Tensor) -> Tensor:
    """-log p(target) of each latent, in nats: target (B, T, Z) to (B, T, Z) (paper, A.2; Bishop 1994, eq. 29).

    A density may pass 1, so a negative value is no mistake.
    """
    deviation = (target[..., None] - mixture.mu) * torch.exp(-mixture.logsigma)  # (B, T, Z, K)
    log_weight = mixture.logits - torch.logsumexp(mixture.logits, dim=-1, keepdim=True)
    log_normal = -0.5 * deviation.square() - mixture.logsigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_weight + log_normal, dim=-1)


def mdnrnn_loss(
    mdnrnn: MDNRNN, sequences: Sequences, end_weight: float = 10.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of -log p(z[t+1]), nats a latent, over real steps, plus the losses of M's other outputs.

    sequences: as tensors, z (B, T+1, Z), the others (B, T, ...); steps where the mask is False count
    nothing (paper, A.2). Returns the loss and its parts: `nll`; with look_ahead `ahead`, the mean of
    -log p(z[t + look_ahead]); with an outcome those of `outcome_loss`.
    """
    h, _ = mdnrnn.memory(sequences.z[:, :-1], sequences.action)
    real = sequences.mask  # (B, T)
    loss = mixture_nll(mdnrnn.mixture(h), sequences.z[:, 1:])[real].mean()
    parts = {"nll": loss.detach()}
    if (k := mdnrnn.look_ahead) is not None:
        nll = mixture_nll(mdnrnn.ahead(h[:, : real.shape[1] - k + 1]), sequences.z[:, k:])
        ahead = nll[real[:, k - 1 :]].mean()
        loss = loss + ahead
        parts["ahead"] = ahead.detach()
    if mdnrnn.to_outcome is not None:
        more, more_parts = outcome_loss(mdnrnn, h, sequences, end_weight)
        loss = loss + more
        parts |= more_parts
    return loss, parts


def outcome_loss(
    mdnrnn: MDNRNN, h: Tensor, sequences: Sequences, end_weight: float = 10.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """How wrong M's reward and end are, read from h (B, T, H); sequences as of `mdnrnn_loss`.

    `reward`: squared error of the steps that end no episode, or a few times -100 would drown all
    else. `terminated`: cross-entropy, in which an end counts `end_weight` times (paper's code).
    """
    expected, logit = mdnrnn.outcome(h)
    real, end = sequences.mask, sequences.terminated
    paid = real & ~end  # (B, T), of which there may be none
    error = (expected - sequences.reward)[paid].square().sum() / paid.sum().clamp(min=1)
    weight = torch.tensor(end_weight, device=h.device)
    surprise = F.binary_cross_entropy_with_logits(logit[real], end[real].float(), pos_weight=weight)
    parts = {"reward": error.detach(), "terminated": surprise.detach()}
    return error + surprise, parts


def sample_mixture(
    mixture: Mixture, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """One z for each latent's mixture, (B, T, Z): logits divided by the temperature, noise times its root (paper, 4.4).

    Raises ValueError unless the temperature is a positive number.
    """
    shape, like = mixture.mu.shape[:-1], mixture.mu  # (B, T, Z)
    uniform = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    normal = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return place_noise(mixture, uniform, normal, temperature)


def place_noise(
    mixture: Mixture, uniform: Tensor, normal: Tensor, temperature: float = 1.0
) -> Tensor:
    """The z (B, T, Z) that given noise leads to: `uniform` in [0, 1) picks a component, `normal` a place in it.

    Raises ValueError unless the temperature is a positive number.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    weights = torch.softmax(mixture.logits / temperature, dim=-1)  # (B, T, Z, K)
    passed = (
        weights.cumsum(dim=-1)[..., :-1] <= uniform[..., None]
    )  # the last one takes what rounding leaves
    k = passed.sum(dim=-1, keepdim=True)
    mu = mixture.mu.gather(-1, k).squeeze(-1)
    logsigma = mixture.logsigma.gather(-1, k).squeeze(-1)
    return mu + math.sqrt(temperature) * torch.exp(logsigma) * normal
