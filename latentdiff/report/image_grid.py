"""Images as a notebook shows them: one picture of many."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from latentdiff.errors import ConfigError
from latentdiff.report.grids import check_no_file_there, grid, save_grid


class ImageGrid:
    """Images side by side, which a notebook shows as a picture; :func:`~latentdiff.image_grid` makes one.

    Attributes:
        images: uint8 [n, c, h, w].
        columns: Images in a row.
    """

    def __init__(self, images: Tensor, columns: int):
        self.images, self.columns = images, columns

    def __repr__(self) -> str:
        count, *shape = self.images.shape
        return f"ImageGrid({count} images of {'x'.join(map(str, shape))}, {self.columns} in a row)"

    def _repr_png_(self) -> bytes:
        """The picture as a PNG. Small images are enlarged by a whole factor."""
        buffer = BytesIO()
        Image.fromarray(grid(self.images, self.columns)).save(buffer, "png")
        return buffer.getvalue()

    def save(self, path: Path | str) -> None:
        """Write the picture as a PNG. An earlier picture at ``path`` is replaced.

        Raises :class:`~latentdiff.errors.FolderError` where there is anything else, which is kept.
        """
        check_no_file_there(Path(path))
        save_grid(self.images, path, self.columns)


def image_grid(images: Tensor, columns: int | None = None) -> ImageGrid:
    """Put images side by side: the last line of a notebook's cell shows them.

    Args:
        images: uint8 [n, c, h, w], as ``model.sample`` returns them, with c 1 or 3; or one image [c, h, w].
        columns: Images in a row. Default: as many as make the grid about square.

    Raises :class:`~latentdiff.errors.ConfigError` for what is no such tensor.

    Example:
        >>> from latentdiff import image_grid, load
        >>> model = load("checkpoints/fashion-mnist/latent.safetensors")
        >>> image_grid(model.sample(num_images=4, steps=2), columns=2)
        ImageGrid(4 images of 1x28x28, 2 in a row)
    """
    images = images[None] if images.ndim == 3 else images
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise ConfigError(f"a grid takes uint8 images [n, 1 or 3, h, w], not {images.dtype} {list(images.shape)}")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1:
        raise ConfigError(f"columns must be at least 1, not {columns}")
    return ImageGrid(images, columns)
