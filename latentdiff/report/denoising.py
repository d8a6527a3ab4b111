"""The states between noise and image as pictures: a strip of moments and a GIF."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.report.grids import grid, save_grid


def check_strip(moments: int) -> None:
    """Raise ConfigError for a number of moments that makes no strip; 0 leaves the strip out."""
    if moments and moments < 2:
        raise ConfigError(f"--strip must be at least 2, noise and image, or 0 to leave it out, not {moments}")


def write_strip(frames: list[Tensor], path: Path, moments: int, rows: int = 8) -> None:
    """One row an image: its state at ``moments`` evenly spaced frames, with the first and the last.

    Args:
        frames: The decoded states one after the other, uint8 [b, c, h, w].
        path: Where to.
        moments: How many states.
        rows: At most this many images.
    """
    index = torch.linspace(0, len(frames) - 1, min(moments, len(frames))).round().long().tolist()
    images = torch.stack([frames[i][:rows] for i in index], dim=1)  # row, moment, c, h, w
    save_grid(images.flatten(0, 1), path, columns=len(index))


def write_gif(frames: list[Tensor], path: Path, columns: int, milliseconds: int = 80) -> None:
    """The grid of the states, a frame each, the last held for two seconds."""
    pictures = [Image.fromarray(grid(states, columns)) for states in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    options = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    write_atomically(path, lambda name: pictures[0].save(name, **options))
