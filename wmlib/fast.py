"""Fast ways through V's layers. Nothing here is the paper's; nothing is needed to understand it.

Letters: B batch, H height, W width, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 5 * 5  # pixels; with more of them torch's own layer is faster


def has_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies in bf16 at twice the rate of fp32 or more; elsewhere V stays in fp32.

    Intel's processors do with AMX alone: their AVX-512 has the instruction, at no more than the rate of fp32.
    """
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(
            found.get("amx_bf16")
            or (found.get("avx512_bf16") and "Intel" not in found.get("cpu_name", ""))
        )
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def to_channels_last(encoder: nn.Module) -> None:
    """Lay an encoder's weights in memory as frames lie there, which saves torch from doing it at every call."""
    for weights in encoder.parameters():
        if weights.ndim == 4:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)


class Conv2d(nn.Conv2d):
    """torch's layer, weights and all; where four pixels are left, bf16 is computed as one product over patches.

    torch's own takes four times as long for it on a small batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in, H, W) to (B, out, (H - k) // stride + 1, (W - k) // stride + 1)."""
        k, stride = self.kernel_size[0], self.stride[0]
        rows, columns = ((side - k) // stride + 1 for side in x.shape[2:])
        if x.dtype != torch.bfloat16 or torch.is_grad_enabled() or rows * columns > 4:
            return super().forward(x)
        patches = (
            x.permute(0, 2, 3, 1).unfold(1, k, stride).unfold(2, k, stride)
        )  # (B, rows, columns, in, k, k)
        patches = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's layer, weights and all; on few pixels it is computed as what it is.

    Each pixel paints a patch, and patches add up where they overlap: one matrix product and some additions.
    """

    def forward(self, x: Tensor, output_size=None) -> Tensor:
        """x (B, in, H, W) to (B, out, stride * (H - 1) + k, stride * (W - 1) + k)."""
        if x.shape[2] * x.shape[3] > FEW:
            return super().forward(x, output_size)
        if x.shape[2:] == (1, 1):  # one patch
            y = (x.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        else:
            weight = self.weight.permute(0, 2, 3, 1)  # (in, k, k, out)
            patches = (x.permute(0, 2, 3, 1) @ weight.flatten(1)).unflatten(-1, weight.shape[1:])
            y = Overlap.apply(patches, self.stride[0]).permute(0, 3, 1, 2)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)[:, None, None]
        return y.contiguous(memory_format=torch.channels_last)


class Overlap(torch.autograd.Function):
    """Lay patches (B, H, W, k, k, C) `stride` pixels apart and add them up: (B, stride * (H - 1) + k, ..., C)."""

    @staticmethod
    def forward(ctx, patches: Tensor, stride: int) -> Tensor:
        B, H, W, k, _, C = patches.shape
        ctx.window = k, stride
        y = patches.new_zeros(B, stride * (H - 1) + k, stride * (W - 1) + k, C, dtype=torch.float32)
        for row in range(k):
            for column in range(k):
                place = y[:, row : row + stride * H : stride, column : column + stride * W : stride]
                place += patches[:, :, :, row, column]
        return y.to(patches.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """Each patch gets the gradient of the place where it was laid."""
        windows = gradient.unfold(1, *ctx.window).unfold(2, *ctx.window)  # (B, H, W, C, k, k)
        return windows.permute(0, 1, 2, 4, 5, 3).contiguous(), None
