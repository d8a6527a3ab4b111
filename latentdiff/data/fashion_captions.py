"""Captions of Fashion-MNIST, by rule from the image: its class, dark or light, long or short, plain or patterned.

A threshold is the median of its measure over the 60,000 training images, so that half of them are on either side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# A pixel of the thing itself: the background is 0, and its edge is a little more.
LEAST_OF_THING = 32
LIGHT, LONG, PATTERNED = 0.656, 1.27, 0.166


def brightness(images: Tensor) -> Tensor:
    """The mean of the thing's pixels, from 0 to 1: fp32 [n] of uint8 [n, 1, h, w]."""
    thing = images >= LEAST_OF_THING
    return (images * thing).flatten(1).sum(1) / (255.0 * thing.flatten(1).sum(1).clamp_min(1))


def slenderness(images: Tensor) -> Tensor:
    """Height over width of the box around the thing's pixels: fp32 [n] of uint8 [n, 1, h, w]; 1 without any."""
    thing = images[:, 0] >= LEAST_OF_THING

    def extent(occupied: Tensor) -> Tensor:
        first = occupied.int().argmax(1)
        last = occupied.shape[1] - occupied.flip(1).int().argmax(1)
        return torch.where(occupied.any(1), last - first, 1).float()

    return extent(thing.any(2)) / extent(thing.any(1))


def roughness(images: Tensor) -> Tensor:
    """The mean difference of neighbouring pixels within the thing over their mean: fp32 [n] of uint8 [n, 1, h, w]."""
    values, thing = images.float(), images >= LEAST_OF_THING
    total, count = torch.zeros(len(images)), torch.zeros(len(images))
    for axis in (2, 3):
        size = images.shape[axis] - 1
        both = thing.narrow(axis, 0, size) & thing.narrow(axis, 1, size)
        total += (values.diff(dim=axis).abs() * both).flatten(1).sum(1)
        count += both.flatten(1).sum(1)
    return total / count.clamp_min(1) / (255.0 * brightness(images)).clamp_min(1)


def describe(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> tuple[str, ...]:
    """The captions of images, such as ``a dark long plain dress``.

    Args:
        images: uint8 [n, 1, h, w], the thing bright on black.
        labels: int64 [n].
        class_names: The name of each class.
    """
    words: list[list[str]] = []
    for chunk in images.split(4096):
        words += [
            ["light" if light else "dark", "long" if long else "short", "patterned" if patterned else "plain"]
            for light, long, patterned in zip(
                (brightness(chunk) > LIGHT).tolist(),
                (slenderness(chunk) > LONG).tolist(),
                (roughness(chunk) > PATTERNED).tolist(),
                strict=True,
            )
        ]
    names = [name.lower() for name in class_names]
    return tuple(" ".join(["a", *own, names[k]]) for own, k in zip(words, labels.tolist(), strict=True))
