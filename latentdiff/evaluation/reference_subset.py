"""Which real images are measured, where not all are: the same for every model, fewer of them among more."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.data.dataset import ImageDataset

# Of the real images that models are measured against.
REFERENCE_SEED = 0


def choose_subset(labels: Tensor | None, available: int, count: int, seed: int) -> Tensor:
    """int64 [min(count, available)]: which images, in ascending order.

    With equal seeds a smaller draw lies within a larger one.

    Args:
        labels: int64 [available], of which each class then gets as many as there are; none draws without regard.
        available: How many images there are.
        count: How many are wanted.
        seed: Seed of the draw.
    """
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        rank = torch.empty_like(order)
        for k in labels.unique():
            own = order[labels[order] == k]
            rank[own] = torch.arange(len(own))
        # The first of each class, then the second of each; among equals in the drawn order.
        order = order[rank[order].sort(stable=True).indices]
    return order[:count].sort().values


def representative(data: ImageDataset, count: int) -> ImageDataset:
    """At most ``count`` images of a data set, equally many of each class where it has classes.

    The first images would not do: files are often sorted by class.
    """
    if count >= len(data):
        return data
    return data.take(choose_subset(data.labels if data.num_classes else None, len(data), count, REFERENCE_SEED))
