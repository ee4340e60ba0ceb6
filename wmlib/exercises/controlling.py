"""Exercise of the notebook on the controller: C from memory, for a whole population.

Letters: P candidates, B batch, Z latents, H hidden, F = Z + H inputs, N parameters.
"""

import torch
from torch import Tensor

from wmlib.exercises import exercise, expect_tensor


def _squash(raw: Tensor) -> Tensor:
    steer, gas, brake = torch.tanh(raw).unbind(dim=-1)
    return torch.stack([steer, (gas + 1) / 2, brake.clamp(min=0)], dim=-1)


def _raw(W: Tensor, b: Tensor | float, x: Tensor) -> Tensor:
    """Raw actions (P, B, 3) of W (P, 3, F), b (P, 1, 3) and x (P, B, F)."""
    return x @ W.transpose(1, 2) + b


def _check_act_for_all(function) -> None:
    for P, B, Z, H in ((4, 3, 5, 8), (3, 3, 6, 2)):
        generator = torch.Generator().manual_seed(P)
        F = Z + H
        params = torch.randn(P, 3 * F + 3, generator=generator) / 3
        z, h = (
            torch.randn(P, B, Z, generator=generator),
            torch.rand(P, B, H, generator=generator) * 2 - 1,
        )
        given = params.clone(), z.clone(), h.clone()
        found = function(params, z, h)
        expect_tensor(found, (P, B, 3), "the actions")
        assert all(map(torch.equal, given, (params, z, h))), (
            "what was given is changed; work on copies"
        )
        W, b, x = (
            params[:, : 3 * F].view(P, 3, F),
            params[:, None, 3 * F :],
            torch.cat([z, h], dim=-1),
        )
        raw = _raw(W, b, x)
        steer, gas, brake = raw.unbind(dim=-1)
        wrong = {
            "h stands before z; C reads [z, h]": _squash(_raw(W, b, torch.cat([h, z], dim=-1))),
            "W is laid out row by row: first all weights of the steering, then gas, then brake": _squash(
                _raw(params[:, : 3 * F].view(P, F, 3).transpose(1, 2), b, x)
            ),
            "b stands behind W in the vector, not before it": _squash(
                _raw(params[:, 3:].view(P, 3, F), params[:, None, :3], x)
            ),
            "the bias is missing: b is to be added to W x": _squash(_raw(W, 0.0, x)),
            "every policy drives with the weights of the first": _squash(_raw(W[:1], b[:1], x)),
            "every policy has the bias of the first": _squash(_raw(W, b[:1], x)),
            "these are the raw actions; squash them into the game's units": raw,
            "gas is cut off at zero like the brake; it is moved up, so that raw 0 is half throttle": torch.stack(
                [torch.tanh(steer), torch.tanh(gas).clamp(min=0), torch.tanh(brake).clamp(min=0)],
                dim=-1,
            ),
            "the brake is moved up like the gas; it is cut off at zero": torch.stack(
                [torch.tanh(steer), (torch.tanh(gas) + 1) / 2, (torch.tanh(brake) + 1) / 2], dim=-1
            ),
            "steering, gas and brake are all squashed alike, by tanh alone": torch.tanh(raw),
            "gas and brake are squashed by a sigmoid; the paper's code takes tanh for all three": torch.stack(
                [torch.tanh(steer), torch.sigmoid(gas), torch.tanh(brake).clamp(min=0)], dim=-1
            ),
        }
        for said, value in wrong.items():
            assert not torch.allclose(found, value, atol=1e-5), said
        gap = (found - _squash(raw)).abs().max().item()
        assert gap < 1e-4, (
            f"on a small example of {P} policies in {B} environments each it is off by up to {gap:.3f}"
        )


@exercise(
    notebook="06_controller",
    minutes=8,
    task="""Close sections 2 and 3 and write C from memory, for a whole population: from flat vectors, $z_t$ and $h_t$
to the actions in the game's units, steering, gas and brake. Policy $p$ reads its own row of `params`: $W$ row by row,
then $b$. Take the sizes from what is given; they need not be 32 and 256. `torch` is there.""",
    hint="""`params[:, :n].view(P, 3, -1)` is a matrix for each policy. `x @ W.transpose(1, 2)` multiplies each policy's
inputs (B, F) with its own matrix. Gas at raw 0 is half throttle, the brake is off at raw 0.""",
    check=_check_act_for_all,
)
def act_for_all(params, z, h):
    """Actions (P, B, 3) from params (P, N), z (P, B, Z) and h (P, B, H)."""
    x = torch.cat([z, h], dim=-1)
    n = 3 * x.shape[-1]
    W, b = params[:, :n].view(len(params), 3, -1), params[:, None, n:]
    raw = x @ W.transpose(1, 2) + b
    steer, gas, brake = torch.tanh(raw).unbind(dim=-1)
    return torch.stack([steer, (gas + 1) / 2, brake.clamp(min=0)], dim=-1)
