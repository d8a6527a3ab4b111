"""Noise that belongs to an image: image i of a request depends on (seed, i) alone."""

from __future__ import annotations

import torch
from torch import Tensor


class PerImageNoise:
    """Streams of normal noise, one for each image, drawn on the CPU so that every device sees the same.

    Args:
        seed: The request's seed.
        indices: Which images of the request these are.
        shape: Shape of one image's noise.
        device: Where the noise is wanted.
    """

    def __init__(self, seed: int, indices: range, shape: tuple[int, ...], device: torch.device | str = "cpu"):
        # torch's CPU generator keeps 32 bits of a seed. An odd multiplier spreads requests over them, and adding the
        # index keeps the images of one request apart for certain, which a hash would not.
        self.generators = [torch.Generator().manual_seed((seed * 0x9E3779B1 + index) % (1 << 32)) for index in indices]
        self.shape, self.device = tuple(shape), device

    def __call__(self) -> Tensor:
        """The next draw, [len(indices), *shape], fp32."""
        noise = torch.empty(len(self.generators), *self.shape)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(generator=generator)
        return noise.to(self.device)
