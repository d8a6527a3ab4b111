"""Decode an image file of any kind to a uint8 square."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# A smaller image shows nothing. It is more likely a tracking pixel or a rule than a picture.
SMALLEST_SIDE = 4
# More than any photograph has. A hostile file of a few kilobytes can claim more, and fill the memory.
MOST_PIXELS = 500_000_000
# PIL's modes of more than eight bits a channel.
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "F")


class BadImageError(Exception):
    """A file is not a usable image. The message says why."""


@dataclass(frozen=True)
class CropAndResize:
    """Crop an image to a square as large as its shorter side, then resize the square with antialiasing.

    Attributes:
        size: Side of the result in pixels.
        grey: Make one channel instead of three.
        crop: ``center``, or ``random``: a place along the longer side that depends on (seed, file name) alone.
        seed: Seed of the random crop.
    """

    size: int
    grey: bool = False
    crop: Literal["center", "random"] = "center"
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the result: (channels, size, size)."""
        return (1 if self.grey else 3, self.size, self.size)

    def crop_box(self, width: int, height: int, name: str) -> tuple[int, int, int, int]:
        """The crop in pixels: left, upper, right, lower."""
        side, spare = min(width, height), abs(width - height)
        offset = spare // 2
        if self.crop == "random":
            digest = hashlib.sha256(f"{self.seed}/{name}".encode("utf-8", "surrogateescape")).digest()
            offset = int.from_bytes(digest[:8], "big") % (spare + 1)
        left, upper = (offset, 0) if width > height else (0, offset)
        return left, upper, left + side, upper + side

    def __call__(self, image: Image.Image, name: str = "") -> np.ndarray:
        """Transform a PIL image to uint8 [c, size, size]. The file's name is for the random crop."""
        image = image.convert("L" if self.grey else "RGB")
        box = self.crop_box(*image.size, name)
        # PIL's Lanczos is antialiased: it averages over the pixels that it leaves out.
        image = image.resize((self.size, self.size), Image.Resampling.LANCZOS, box=box)
        array = np.asarray(image)
        return array[None] if self.grey else np.ascontiguousarray(array.transpose(2, 0, 1))


def decode(content: bytes, transform: CropAndResize, name: str = "") -> np.ndarray:
    """Decode the content of an image file to uint8 [c, size, size].

    The image is turned as its EXIF says. An animation gives its first frame, and transparency lies on white. 16 bits
    and CMYK become 8-bit RGB.

    Raises :class:`BadImageError` for a file that is empty, truncated, not an image, or too small or too large.
    """
    return transform(open_image(content), name)


def open_image(content: bytes) -> Image.Image:
    """Open the content of an image file as an 8-bit PIL image, RGB or greyscale. Raises :class:`BadImageError`."""
    if not content:
        raise BadImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about sizes and odd EXIF: both are handled here
            image = Image.open(io.BytesIO(content))
            if min(image.size) < SMALLEST_SIDE:
                raise BadImageError(f"it is {image.width}x{image.height} pixels; at least {SMALLEST_SIDE} are needed")
            if image.width * image.height > MOST_PIXELS:
                raise BadImageError(f"it claims {image.width}x{image.height} pixels")
            image.load()
            return to_eight_bits(image)
    except UnidentifiedImageError as error:
        raise BadImageError("it is not an image") from error
    except BadImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError("it claims too many pixels") from error
    except Exception as error:  # decoders raise many kinds on damaged data
        raise BadImageError(f"it is damaged: {error}") from error


def displayed_size(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height of an image file from its header, as the image is shown: turned as its EXIF says.

    Raises :class:`BadImageError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(file)
            # PIL looks for a PNG's EXIF behind its pixels too, which would decode them.
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # as in open_image
        raise BadImageError(f"its size cannot be read: {error}") from error


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert any PIL image to 8 bits, RGB or greyscale, turned as its EXIF says, with transparency on white.

    Wide values are scaled to eight bits: 16-bit ones by 257, floats up to 1 by 255. Raises :class:`BadImageError` for
    values that are no numbers.
    """
    sixteen = image.format == "PNG"  # whose wide values are all of 16 bits
    image = ImageOps.exif_transpose(image)
    if image.mode in WIDE_MODES:
        array = np.asarray(image).astype(np.float64)
        # PIL holds 16-bit greyscale in wider types too, and 8-bit values there as well: their size must tell.
        sixteen = sixteen or image.mode.startswith("I;16") or array.max(initial=0.0) > 255.0
        top = 65535.0 if sixteen else 255.0
        if image.mode == "F":
            if not np.isfinite(array).all():
                raise BadImageError("it holds values that are no numbers")
            top = 1.0 if array.max(initial=0.0) <= 1.0 else top  # as floats are mostly stored
        return Image.fromarray(np.clip(np.rint(array * (255.0 / top)), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
