"""What is taken of an image without any weights: its luma, and what a blur leaves of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def luma(x: Tensor) -> Tensor:
    """[b, c, h, w] -> [b, 1, h, w]: of RGB as JPEG has it (ITU-R BT.601), of other channels their mean."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device, dtype=x.dtype)
    return (x * weights[:, None, None]).sum(dim=1, keepdim=True)


def blur(x: Tensor) -> Tensor:
    """[b, c, h, w], sides of three at least: by the binomial of five taps, along each side, mirrored at the edges."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype) / 16.0
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def blur_chroma(x: Tensor) -> Tensor:
    """RGB [b, 3, h, w] with its luma as it is and its colour differences blurred, about as JPEG's 4:2:0 does."""
    grey = luma(x)
    return grey + blur(x - grey)
