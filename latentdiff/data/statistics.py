"""Describe a data set in numbers: sizes of its files, images of each class, mean image, density of pixel values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdiff.data.dataset import ImageDataset
from latentdiff.data.decode import BadImageError, displayed_size
from latentdiff.data.files import Files
from latentdiff.errors import DataError

CHUNK = 1000  # Images that are counted, or held in a wider type, at a time.


def read_sizes(files: Files, names: Iterable[str]) -> np.ndarray:
    """Read the width and height of each file as it is shown, int64 [n, 2], from the headers alone.

    Raises :class:`DataError` naming a file that cannot be read.
    """

    def read_size(name: str) -> tuple[int, int]:
        try:
            with files.open(name) as file:
                return displayed_size(file, name)
        except (OSError, BadImageError) as error:
            raise DataError(f"{name} in {files.path}: {error}") from error

    # Most of the time goes to waiting for the disk, so there are more threads than cores.
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        return np.array(list(pool.map(read_size, names)), dtype=np.int64).reshape(-1, 2)


def describe_sizes(sizes: np.ndarray) -> dict[str, Any]:
    """Summarise widths and heights.

    Args:
        sizes: int64 [n, 2] in pixels, n at least 1.

    Returns:
        ``width`` and ``height``, each with minimum, median and maximum; ``portrait``, ``landscape`` and ``square``, the
        fractions of such images; and ``kept_area``, the mean and the minimum fraction of an image's area that a square
        crop keeps.
    """
    width, height = sizes[:, 0], sizes[:, 1]
    kept = sizes.min(1) / sizes.max(1)
    return {
        "files": len(sizes),
        **{
            name: {"minimum": int(side.min()), "median": float(np.median(side)), "maximum": int(side.max())}
            for name, side in (("width", width), ("height", height))
        },
        "portrait": float((height > width).mean()),
        "landscape": float((width > height).mean()),
        "square": float((width == height).mean()),
        "kept_area": {"mean": float(kept.mean()), "minimum": float(kept.min())},
    }


def class_counts(data: ImageDataset) -> list[int]:
    """Count the images of each class, in the order of ``class_names``; empty where there are no classes."""
    return torch.bincount(data.labels, minlength=data.num_classes).tolist() if data.class_names else []


def mean_image(images: Tensor) -> Tensor:
    """Average images uint8 [n, c, h, w], n at least 1, pixel by pixel: uint8 [c, h, w]."""
    total = sum(chunk.sum(0, dtype=torch.int64) for chunk in images.split(CHUNK))
    return (total / len(images)).round().to(torch.uint8)


def pixel_density(images: Tensor) -> np.ndarray:
    """The fraction of each channel's pixels with each value: uint8 [n, c, h, w] -> fp64 [c, 256], rows sum to 1."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for chunk in images.split(CHUNK):
        for channel, values in enumerate(chunk.cpu().numpy().transpose(1, 0, 2, 3)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    return counts / counts.sum(1, keepdims=True)


def density_moments(density: np.ndarray) -> dict[str, list[float]]:
    """Moments of each channel of a density [c, 256]: ``mean`` and ``std`` in [0, 1], and the fractions of 0 and 255."""
    values = np.arange(256) / 255
    mean = density @ values
    std = np.sqrt((density * (values - mean[:, None]) ** 2).sum(1))
    return {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "share_of_0": density[:, 0].tolist(),
        "share_of_255": density[:, -1].tolist(),
    }
