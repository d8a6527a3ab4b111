"""Many images as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from latentdiff.errors import FolderError
from latentdiff.files import write_atomically

MIN_SIDE = 56
PADDING = 2


def grid(images: Tensor, columns: int, min_side: int = MIN_SIDE) -> np.ndarray:
    """uint8 images [n, c, h, w] -> one uint8 picture [h', w', 3], ``columns`` a row, on white.

    Small images are enlarged by a whole factor to a side of at least ``min_side``, pixel by pixel. One image alone has
    no frame. What torchvision's ``make_grid`` gives, without its import, which takes as long as torch's.
    """
    factor = max(1, -(-min_side // images.shape[-1]))
    images = images.cpu().repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3).expand(-1, 3, -1, -1)
    if len(images) == 1:
        return images[0].permute(1, 2, 0).numpy()
    columns = min(columns, len(images))
    height, width = (side + PADDING for side in images.shape[2:])
    picture = images.new_full((-(-len(images) // columns) * height + PADDING, columns * width + PADDING, 3), 255)
    for index, image in enumerate(images):
        top, left = index // columns * height + PADDING, index % columns * width + PADDING
        picture[top : top + image.shape[1], left : left + image.shape[2]] = image.permute(1, 2, 0)
    return picture.numpy()


def save_grid(images: Tensor, path: Path | str, columns: int, min_side: int = MIN_SIDE) -> None:
    """Write uint8 images [n, c, h, w] as one PNG, ``columns`` a row; see :func:`grid`."""
    picture = Image.fromarray(grid(images, columns, min_side))
    write_atomically(Path(path), picture.save)


def check_no_file_there(path: Path) -> None:
    """Raise :class:`~latentdiff.errors.FolderError` where anything but a picture would be replaced by one."""
    if not path.exists():
        return
    try:
        Image.open(path).close()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = f"{path} is not written: what is there is no picture, and would be lost. Name another file"
        raise FolderError(what) from error


def save_image(image: Tensor, path: Path | str) -> None:
    """Write one uint8 image [c, h, w] as a PNG of its own size and number of channels.

    It is written straight to its name: of thousands, each would cost milliseconds more. A run that was interrupted
    makes them all again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    array = image.permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    picture.save(path)
