"""LPIPS as a measure: of reconstructions against originals, and of how unlike one another a class's samples are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentdiff.models.lpips import LPIPS, load_trunk_weights

# The trunk that the metric's authors recommend for measuring; VGG is for training. Smaller images are enlarged.
TRUNK, MIN_SIDE = "alexnet", 64
PAIRS = 1000


def find_lpips(device: torch.device) -> LPIPS | None:
    """The metric on ``device``, or None where its trunk is not here and cannot be downloaded.

    Raises :class:`~latentdiff.errors.CheckpointError` where LATENTDIFF_LPIPS names a folder that cannot serve.
    """
    trunk = load_trunk_weights(TRUNK, None)
    return None if trunk is None else LPIPS(trunk, TRUNK, MIN_SIDE).to(device)


def lpips_between(net: LPIPS, x: Tensor, y: Tensor, batch_size: int = 100) -> Tensor:
    """LPIPS of each pair of uint8 images [n, c, h, w]: fp32 [n], on the CPU."""
    device = next(net.parameters()).device
    with torch.inference_mode():
        found = [
            net.per_image(*(images.to(device).float() / 127.5 - 1 for images in pair)).cpu()
            for pair in zip(x.split(batch_size), y.split(batch_size), strict=True)
        ]
    return torch.cat(found)


def diversity(net: LPIPS, images: Tensor, labels: Tensor | None, seed: int = 0) -> dict[str, Any] | None:
    """Mean LPIPS of random pairs of different images, of one class each where there are labels.

    A model that draws one garment of a class over and over scores near 0; compare with the real images'. Every image is
    in at most one pair, so that the pairs are independent.

    Args:
        net: The metric.
        images: uint8 [n, c, h, w].
        labels: int64 [n], or none.
        seed: Of the pairs.

    Returns: ``mean``, ``error`` (its standard error) and ``pairs`` (at most :data:`PAIRS`); None for less than 2 pairs.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[labels[order].sort(stable=True).indices]
    first, second = order[:-1:2], order[1::2]
    if labels is not None:
        # A class of an odd number of images leaves one pair across two classes, and shifts the next class by one.
        same = labels[first] == labels[second]
        first, second = first[same], second[same]
    if len(first) < 2:
        return None
    kept = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed))[:PAIRS]
    values = lpips_between(net, images[first[kept]], images[second[kept]])
    return {"mean": float(values.mean()), "error": float(values.std() / len(values) ** 0.5), "pairs": len(values)}
