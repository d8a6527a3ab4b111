"""Filters of images: luma, blur, and blur of the chroma alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def luma(x: Tensor) -> Tensor:
    """Return the luma [b, 1, h, w] of images [b, c, h, w]: JPEG's for RGB (ITU-R BT.601), else the channels' mean."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    weights = _constants(x, 0.299, 0.587, 0.114)
    return (x * weights[:, None, None]).sum(dim=1, keepdim=True)


def blur(x: Tensor) -> Tensor:
    """Blur images [b, c, h, w] of at least 3x3 pixels by a binomial filter of 5x5 taps, with mirrored edges."""
    taps = _constants(x, 1.0, 4.0, 6.0, 4.0, 1.0) / 16.0
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def blur_chroma(x: Tensor) -> Tensor:
    """Blur the chroma of RGB images [b, 3, h, w] and keep their luma, about as JPEG's 4:2:0 subsampling does."""
    grey = luma(x)
    return grey + blur(x - grey)


def _constants(like: Tensor, *values: float) -> Tensor:
    """Return ``values`` as a tensor on the device of ``like``, made there: a copy would wait for all earlier work."""
    return torch.cat([torch.full((1,), value, device=like.device, dtype=like.dtype) for value in values])
