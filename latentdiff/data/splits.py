"""Split a data set into training, validation and test images, by a seed and balanced over the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.errors import ConfigError

SPLITS = ("train", "val", "test")


def split_indices(labels: Tensor, fractions: tuple[float, float, float], seed: int) -> dict[str, Tensor]:
    """Choose the images of each split: rising int64 indices, which depend on the arguments alone.

    Every class is divided by the fractions to within two images, and the whole data set to within one: what rounding
    takes from a split in one class, the split gets back in the next class.

    Args:
        labels: int64 [n]: the class of each image.
        fractions: Shares of train, val and test, at least 0, summing to 1; the first above 0.
        seed: Seed of the order within the classes.

    Raises :class:`~latentdiff.errors.ConfigError` for other fractions.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6 or fractions[0] <= 0:
        raise ConfigError(
            f"the fractions of train, val and test must be at least 0, the first above 0, and sum to 1, not {fractions}"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Class after class, each in random order: every image goes to the split that is furthest behind its share.
    order = order[torch.sort(labels[order], stable=True).indices]
    behind = [0.0, 0.0, 0.0]
    split_of = []
    for _ in range(len(order)):
        behind = [owed + share for owed, share in zip(behind, fractions, strict=True)]
        chosen = max(range(3), key=behind.__getitem__)
        behind[chosen] -= 1.0
        split_of.append(chosen)
    place = torch.tensor(split_of)
    return {name: order[place == index].sort().values for index, name in enumerate(SPLITS)}
