"""Noise that belongs to an image: image i of a request depends on (seed, i) alone."""

from __future__ import annotations

import torch
from torch import Tensor


class PerImageNoise:
    """Draw standard normal noise from one random stream for each image.

    Streams are drawn on the CPU, so that every device sees the same noise. The noise of an image does not depend on the
    other images of its batch.

    Args:
        seed: Seed of the request.
        indices: Which images of the request the noise is for.
        shape: Shape of one image's noise.
        device: Device that the noise is moved to.

    >>> both = PerImageNoise(seed=0, indices=range(2), shape=(3,))()
    >>> second = PerImageNoise(seed=0, indices=range(1, 2), shape=(3,))()
    >>> bool((both[1] == second[0]).all())
    True
    """

    def __init__(self, seed: int, indices: range, shape: tuple[int, ...], device: torch.device | str = "cpu"):
        # torch's CPU generator keeps 32 bits of a seed. An odd multiplier spreads requests over them, and adding the
        # index keeps the images of one request apart for certain, which a hash would not.
        self.generators = [torch.Generator().manual_seed((seed * 0x9E3779B1 + index) % (1 << 32)) for index in indices]
        self.shape, self.device = tuple(shape), device

    def __call__(self) -> Tensor:
        """Return the next noise of each image, fp32 [len(indices), *shape]."""
        noise = torch.empty(len(self.generators), *self.shape)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(generator=generator)
        return noise.to(self.device)
