"""How feature maps lie in memory: a CPU convolves in bf16 twice as fast with channels last, and norms only without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def for_convolutions(x: Tensor) -> Tensor:
    """``x`` [b, c, h, w] in the layout that a network's convolutions are quickest in, and hand on to each other.

    Measured on two AVX-512 cores with AMX, in bf16: a 3x3 convolution of 64 channels on 16x16 maps takes 9.5 ms forward
    and backward in the contiguous layout and 3.6 with channels last; torch's group norm of the same takes 1.2 and 14.
    In fp32 neither gains.
    """
    bf16 = x.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    return x.contiguous(memory_format=CHANNELS_LAST) if x.device.type == "cpu" and bf16 else x


def has_channels_last(x: Tensor) -> bool:
    """Whether ``x`` [b, c, h, w] lies with channels last, and not contiguous (a map of one position is both)."""
    return x.is_contiguous(memory_format=CHANNELS_LAST) and not x.is_contiguous()


def contiguous(x: Tensor) -> Tensor:
    """``x`` in the contiguous layout; its gradient goes back in ``x``'s own."""
    return _Relayout.apply(x, CONTIGUOUS, CHANNELS_LAST) if has_channels_last(x) else x


def like(x: Tensor, other: Tensor) -> Tensor:
    """Contiguous ``x`` in the layout of ``other``; its gradient comes back contiguous."""
    return _Relayout.apply(x, CHANNELS_LAST, CONTIGUOUS) if has_channels_last(other) else x


class _Relayout(torch.autograd.Function):
    """A copy in another layout. A plain copy's gradient would keep the layout of what comes after it, and kernels that
    are given two layouts at once are ten times slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, to: torch.memory_format, back: torch.memory_format) -> Tensor:
        ctx.back = back
        return x.contiguous(memory_format=to)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.contiguous(memory_format=ctx.back), None, None
