"""What a denoising autoencoder is given in place of the images (Vincent et al. 2008)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdiff.errors import ConfigError

HOLE = 4  # side of a masked square, in pixels


def check_degradation(kind: str, strength: float) -> None:
    """Raise ValueError for a strength that ``kind`` cannot have."""
    if (kind != "none" and strength <= 0) or (kind == "mask" and strength >= 1):
        limits = "between 0 and 1" if kind == "mask" else "above 0"
        raise ConfigError(f"--loss.degradation_strength for {kind} must be {limits}, not {strength}")


def degrade(x: Tensor, kind: str, strength: float, draws: Callable[..., Tensor]) -> Tensor:
    """Images [b, c, h, w] in [-1, 1], degraded; random where the kind is.

    Args:
        x: The images.
        kind: ``none``, ``noise``, ``blur`` or ``mask``.
        strength: Noise: its standard deviation; blur: that of its Gaussian, in pixels; mask: the share of squares of
            4 pixels that become grey (0).
        draws: Gives b random tensors by torch's function and a shape, as in ``draws(torch.randn, c, h, w)``.
    """
    if kind == "noise":
        return x + strength * draws(torch.randn, *x.shape[1:])
    if kind == "blur":
        return _blur(x, strength)
    if kind == "mask":
        height, width = x.shape[-2:]
        grid = draws(torch.rand, 1, -(-height // HOLE), -(-width // HOLE)) < strength
        holes = grid.repeat_interleave(HOLE, dim=2).repeat_interleave(HOLE, dim=3)[..., :height, :width]
        return x.masked_fill(holes, 0.0)
    return x


def _blur(x: Tensor, std: float) -> Tensor:
    radius = max(1, math.ceil(3 * std))
    at = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / std).square())
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), kernel, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), kernel.mT, groups=x.shape[1])
