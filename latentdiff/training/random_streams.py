"""The streams of random numbers of a training, each seeded by (seed, stream, images seen)."""

from __future__ import annotations

from enum import IntEnum


class RandomStream(IntEnum):
    """What the random numbers of a training are for.

    A stream's numbers do not depend on how many of another's were drawn. A resumed run needs no generator's state.
    """

    DROPOUT = 1
    BATCH = 2
    VALIDATION = 3
    NOISE_LEVELS = 4
