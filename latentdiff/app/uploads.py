"""An uploaded file as an image of a model's shape, checked as all images are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from latentdiff.data.decode import CropAndResize, ReadingRules, decode
from latentdiff.data.deep_images import check_values
from latentdiff.data.image_formats import BadImageError
from latentdiff.data.load import check_white
from latentdiff.errors import DataError

# Pixels of a photograph of today's telephones. What decoding it takes is a few times as many bytes.
MOST_PIXELS = 50_000_000
MEGABYTE = 10**6


def read_upload(path: str | Path, shape: tuple[int, int, int], max_bytes: int) -> Tensor:
    """Read an uploaded file: uint8 [1, *shape], its middle square resized, in the model's colours.

    Args:
        path: The file.
        shape: (channels, height, width) of the model's images.
        max_bytes: A larger file is refused before it is read.

    Raises :class:`~latentdiff.errors.DataError` for a file that is no image, damaged, or too large, and for a model of
    images that are not square.
    """
    channels, height, width = shape
    if height != width:
        raise DataError(f"this model's images are {width}x{height}, and an upload becomes a square")
    path = Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise DataError(f"the file is larger than {max_bytes / MEGABYTE:.0f} MB: make it smaller")
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the uploaded file is no longer kept: upload it again") from error
    try:
        rules = ReadingRules(max_pixels=MOST_PIXELS, max_bytes=max_bytes)
        image = decode(content, CropAndResize(height, grey=channels == 1), path.name, rules)
    except BadImageError as error:
        reason = str(error).replace(" (--data.max_image_pixels)", "")
        raise DataError(f"this file cannot be used: {reason}") from error
    pixels = torch.from_numpy(image.pixels.copy())[None]
    try:
        check_values([image.deep] if image.deep else [], path.name)
        check_white([pixels], path.name)
    except DataError as error:
        # Its last sentence is advice for the command line.
        reason = str(error).splitlines()[0].removesuffix(" Multiply them by 255.").rstrip(".")
        raise DataError(f"{reason}. Save it with 8 bits, from black 0 to white 255") from error
    return pixels
