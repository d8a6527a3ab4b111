"""From an image file of any kind to a uint8 square."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Below this an image shows nothing, and is more likely a tracking pixel or a rule than a picture.
SMALLEST_SIDE = 4
# Far beyond any photograph; a file of a few kilobytes can promise more to fill the memory.
MOST_PIXELS = 500_000_000
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "F")


class BadImageError(Exception):
    """A file is no image that can be used; the message says why."""


@dataclass(frozen=True)
class Square:
    """What every image becomes: the square cut from its shorter side, resized with antialiasing.

    Attributes:
        size: Side in pixels.
        grey: One channel in place of three.
        crop: ``center``, or ``random``: anywhere along the longer side, by (seed, the file's name) alone.
        seed: Of the random crop.
    """

    size: int
    grey: bool = False
    crop: Literal["center", "random"] = "center"
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self.grey else 3, self.size, self.size)

    def box(self, width: int, height: int, name: str) -> tuple[int, int, int, int]:
        """The square cut out of an image: left, upper, right, lower."""
        side, spare = min(width, height), abs(width - height)
        offset = spare // 2
        if self.crop == "random":
            digest = hashlib.sha256(f"{self.seed}/{name}".encode("utf-8", "surrogateescape")).digest()
            offset = int.from_bytes(digest[:8], "big") % (spare + 1)
        left, upper = (offset, 0) if width > height else (0, offset)
        return left, upper, left + side, upper + side

    def of(self, image: Image.Image, name: str = "") -> np.ndarray:
        """A PIL image -> uint8 [c, size, size]."""
        image = image.convert("L" if self.grey else "RGB")
        box = self.box(*image.size, name)
        # Lanczos here always averages over the pixels that it leaves out.
        image = image.resize((self.size, self.size), Image.Resampling.LANCZOS, box=box)
        array = np.asarray(image)
        return array[None] if self.grey else np.ascontiguousarray(array.transpose(2, 0, 1))


def decode(content: bytes, square: Square, name: str = "") -> np.ndarray:
    """The content of an image file -> uint8 [c, size, size].

    Turned as its EXIF says; the first frame of an animation; transparency on white; 16 bits and CMYK to 8-bit RGB.
    Raises :class:`BadImageError` for what is empty, truncated, no image, or too small or large to be one.
    """
    return square.of(open_image(content), name)


def open_image(content: bytes) -> Image.Image:
    """The content of an image file as an 8-bit PIL image, RGB or greyscale. Raises :class:`BadImageError`."""
    if not content:
        raise BadImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's own about sizes and odd EXIF; both are dealt with here
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
    except Exception as error:  # decoders raise whatever they please on damaged data
        raise BadImageError(f"it is damaged: {error}") from error


def shown_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of an image file as it is shown, turned as its EXIF says, from its header alone.

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
    """Any PIL image as an 8-bit one, RGB or greyscale, turned as its EXIF says, transparency on white.

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
