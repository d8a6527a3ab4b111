"""Patches: squares of pixels or latents that a network folds into channels first and unfolds last."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def patch_stem(in_channels: int, out_channels: int, patch: int) -> nn.Conv2d:
    """Return a convolution over each patch and the pixels around it. With patches of one pixel it is the usual 3x3."""
    return nn.Conv2d(in_channels, out_channels, patch + 2, stride=patch, padding=1)


def pad_to_patches(x: Tensor, patch: int) -> Tensor:
    """Return x [b, c, h, w], its last row and column repeated until whole patches cover it."""
    height, width = x.shape[2:]
    if height % patch or width % patch:
        return F.pad(x, (0, -width % patch, 0, -height % patch), mode="replicate")
    return x


def unfold_patches(x: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Return x [b, c * patch**2, ceil(h / patch), ceil(w / patch)] as [b, c, h, w] (Shi et al. 2016)."""
    return F.pixel_shuffle(x, patch)[..., :height, :width]
