"""What a reader wants to see of a measured model beside its numbers: pictures in the evaluation's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.report.denoising import write_gif, write_strip
from latentdiff.report.grids import MIN_SIDE, PADDING, save_grid

MOST_CLASSES, OF_A_CLASS = 24, 12
RECONSTRUCTIONS, OF_A_ROW = 30, 10
MOMENTS = 8


def write_classes(folder: Path, images: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> dict[str, Any]:
    """classes.png: a row of samples for each class (the first 24 classes that have any), for the page to pick from.

    Args:
        folder: Where to.
        images: uint8 [n, c, h, w].
        labels: int64 [n], the class asked for in each.
        class_names: Of the data set.

    Returns: ``file``, the ``names`` of the rows, and ``row``, the height of one in pixels.
    """
    present = [k for k in range(len(class_names)) if (labels == k).any()][:MOST_CLASSES]
    rows = []
    for k in present:
        own = images[labels == k][:OF_A_CLASS]
        blank = torch.full((OF_A_CLASS - len(own), *own.shape[1:]), 255, dtype=torch.uint8)
        rows.append(torch.cat([own, blank]))
    save_grid(torch.cat(rows), folder / "classes.png", OF_A_CLASS)
    side = images.shape[-2] * max(1, -(-MIN_SIDE // images.shape[-1]))
    return {"file": "classes.png", "names": [class_names[k] for k in present], "row": side + PADDING}


def write_originals(folder: Path, images: Tensor, originals: Tensor) -> dict[str, Any]:
    """originals.png: rows of real images, each above the row of their reconstructions. uint8 [n, c, h, w] both."""
    count = min(RECONSTRUCTIONS, len(images)) // OF_A_ROW * OF_A_ROW or len(images)
    columns = min(OF_A_ROW, count)
    pairs = zip(originals[:count].split(columns), images[:count].split(columns), strict=True)
    save_grid(torch.cat([image for pair in pairs for image in pair]), folder / "originals.png", columns)
    return {"file": "originals.png"}


def write_neighbours(
    folder: Path, samples: Tensor, neighbours: Tensor, distances: list[float], differences: list[float]
) -> dict[str, Any]:
    """neighbours.png: a column for each sample, over its nearest training images.

    Args:
        folder: Where to.
        samples: uint8 [n, c, h, w].
        neighbours: uint8 [n, 1 + k, c, h, w], the nearest by pixels, then the nearest by features.
        distances: Of each sample to its nearest by features.
        differences: Of each to its nearest by pixels, rms in grey levels.
    """
    rows = torch.cat([samples[:, None], neighbours], dim=1).transpose(0, 1).flatten(0, 1)
    save_grid(rows, folder / "neighbours.png", len(samples))
    return {"file": "neighbours.png", "distances": distances, "differences": differences}


def write_denoising(folder: Path, frames: list[Tensor]) -> dict[str, dict[str, Any]]:
    """strip.png and denoising.gif of the decoded states from noise to image, uint8 [n, c, h, w] each."""
    write_strip(frames, folder / "strip.png", MOMENTS)
    write_gif(frames, folder / "denoising.gif", columns=4)
    return {"strip": {"file": "strip.png"}, "gif": {"file": "denoising.gif"}}
