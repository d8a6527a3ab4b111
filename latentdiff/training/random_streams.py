"""The streams of random numbers of a training, each seeded by (seed, stream, images seen)."""

from __future__ import annotations

from enum import IntEnum

import torch

from latentdiff.data.loader import mix_seed


class RandomStream(IntEnum):
    """What the random numbers of a training are for.

    The numbers of a stream do not depend on how many were drawn from another. A resumed run needs no generator state.
    """

    DROPOUT = 1
    BATCH = 2
    VALIDATION = 3
    NOISE_LEVELS = 4


def seeded_generator(device: torch.device, *parts: int) -> torch.Generator:
    """Return a generator on ``device`` that is seeded by ``parts``: the run's seed, the stream, and the images seen.

    What it draws is made on the device itself. The numbers of a CPU and of a GPU differ.
    """
    return torch.Generator(device).manual_seed(mix_seed(*parts))
