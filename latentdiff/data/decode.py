"""Decode an image file of any kind to a uint8 square."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from latentdiff.config.data import DataConfig
from latentdiff.data.deep_images import DeepValues, load_deep_colours, narrow, of_deep_colours
from latentdiff.data.image_formats import (
    HEADER,
    INSTALL_HEIC,
    READABLE,
    BadImageError,
    can_read_heic,
    kind_of,
    suffix_of,
)
from latentdiff.data.memory_budget import MemoryBudget, memory_share
from latentdiff.data.viewer_colours import on_white, orientation, to_srgb, upright
from latentdiff.errors import ConfigError

# A smaller image shows nothing. It is more likely a tracking pixel or a rule than a picture.
SMALLEST_SIDE = 4
# PIL's modes of more than eight bits a channel.
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "F")
# PIL's memory for pixels, in pieces that are larger than what the C library keeps for a thread's next image (32 MiB).
# Otherwise each thread would hold its largest image for good.
BLOCK = 64 * 1024**2
TIFF_SUBFILE, TIFF_TILE_WIDTH, TIFF_TILE_HEIGHT = 254, 322, 323
TOO_MANY = "more than {:,} (--data.max_image_pixels)"
# What all threads together decode into. Large photographs wait for one another on a small machine.
DECODING = MemoryBudget(memory_share(16, least=512 * 1024**2))


@dataclass(frozen=True)
class ReadingRules:
    """Which images are read, and what their values mean: see :class:`~latentdiff.config.DataConfig`.

    Attributes:
        value_range: The values of deep images that become black and white; None for the setting ``auto``.
        max_pixels: An image of more pixels is refused before it is decoded.
        max_bytes: A file of more bytes is refused before it is read.
    """

    value_range: tuple[float, float] | None = None
    max_pixels: int = DataConfig.max_image_pixels
    max_bytes: int = DataConfig.max_file_size

    @classmethod
    def of(cls, config: DataConfig) -> ReadingRules:
        """The rules of these settings. Raises :class:`~latentdiff.errors.ConfigError`."""
        return cls(parse_value_range(config.value_range), config.max_image_pixels, config.max_file_size)


def parse_value_range(text: str) -> tuple[float, float] | None:
    """Read the setting ``value_range``: None for ``auto``. Raises :class:`~latentdiff.errors.ConfigError`."""
    if text == "auto":
        return None
    try:
        low, high = (float(part) for part in text.strip("[]()").split(","))
    except ValueError:
        low = high = math.nan
    if not low < high or math.isinf(high - low):
        raise ConfigError(f"value_range must be auto or LOW,HIGH, such as 0,4095, not {text!r}")
    return low, high


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and facts about its file.

    Attributes:
        pixels: uint8 [c, size, size].
        deep: The values of an image of more than 8 bits a channel, else None.
        frames: Whether the file holds more frames or pages than the first, which is taken.
        enlarged: Whether the image is smaller than the result.
    """

    pixels: np.ndarray
    deep: DeepValues | None = None
    frames: bool = False
    enlarged: bool = False


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
        mode = "L" if self.grey else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        box = self.crop_box(*image.size, name)
        # PIL's Lanczos is antialiased: it averages over the pixels that it leaves out.
        image = image.resize((self.size, self.size), Image.Resampling.LANCZOS, box=box)
        array = np.asarray(image)
        return array[None] if self.grey else np.ascontiguousarray(array.transpose(2, 0, 1))


def decode(content: bytes, transform: CropAndResize, name: str = "", rules: ReadingRules | None = None) -> DecodedImage:
    """Decode the content of an image file to uint8 [c, size, size].

    The image is shown as a viewer shows it: turned as its EXIF says, its colour profile converted to sRGB, transparency
    on white, the first frame of an animation. Values of more than 8 bits become 8 bits by ``rules.value_range``.

    Raises :class:`BadImageError` for a file that is empty, truncated, not an image, or too small or too large.
    """
    with _opened(content, name, rules or ReadingRules()) as opened:
        image, deep = opened.load()
        enlarged = min(image.size) < transform.size
        return DecodedImage(transform(image, name), deep, opened.frames, enlarged)


def open_image(
    content: bytes, name: str = "", rules: ReadingRules | None = None
) -> tuple[Image.Image, DeepValues | None]:
    """Open the content of an image file as an 8-bit PIL image, RGB or greyscale, and its values if it is a deep one.

    Raises :class:`BadImageError`.
    """
    with _opened(content, name, rules or ReadingRules()) as opened:
        return opened.load()


def displayed_size(file: BinaryIO, name: str = "") -> tuple[int, int]:
    """Read the width and height of an image file from its header, as the image is shown: turned as its EXIF says.

    Raises :class:`BadImageError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = _kind(file.read(HEADER), name)
            file.seek(0)
            image = Image.open(file, formats=[kind])
            # PIL looks for a PNG's EXIF behind its pixels too, which would decode them.
            turned = (image.format != "PNG" or "exif" in image.info) and orientation(image) in (5, 6, 7, 8)
            # Pillow from 12 on turns a TIFF's size itself.
            width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
            return (height, width) if turned else (width, height)
    except Exception as error:  # as in _opened
        raise BadImageError(f"its size cannot be read: {error}") from error


def to_eight_bits(
    image: Image.Image, value_range: tuple[float, float] | None = None
) -> tuple[Image.Image, DeepValues | None]:
    """Convert any PIL image to 8 bits, RGB or greyscale, as a viewer shows it, and tell the values of a deep image.

    Raises :class:`BadImageError` for values that are no numbers, or beyond ``value_range``.
    """
    if image.mode in WIDE_MODES:
        array, deep = narrow(image, value_range)
        return upright(Image.fromarray(array), orientation(image)), deep
    turned = upright(image, orientation(image))
    turned = on_white(to_srgb(turned))
    return (turned if turned.mode in ("L", "RGB") else turned.convert("RGB")), None


class _Opened:
    """An image file whose header was read and accepted."""

    def __init__(self, content: bytes, image: Image.Image, rules: ReadingRules):
        self._content, self._image, self._rules = content, image, rules
        self.frames = _has_frames(content, image)

    def load(self) -> tuple[Image.Image, DeepValues | None]:
        """Decode the pixels to 8 bits."""
        deep_colours = of_deep_colours(self._image)
        if deep_colours:
            image, deep = load_deep_colours(self._content, self._image, self._rules.value_range)
            if self._rules.value_range:
                return upright(to_srgb(image), orientation(self._image)), deep
            return to_eight_bits(image)[0], deep
        self._image.load()
        return to_eight_bits(self._image, self._rules.value_range)


@contextmanager
def _opened(content: bytes, name: str, rules: ReadingRules) -> Iterator[_Opened]:
    """Check an image file's header, and hold memory of the budget while the block decodes it.

    Whatever the decoder raises in the block becomes a :class:`BadImageError`.
    """
    if not content:
        raise BadImageError("the file is empty")
    kind = _kind(content, name)
    if rules.max_pixels > 2 * (Image.MAX_IMAGE_PIXELS or rules.max_pixels):
        Image.MAX_IMAGE_PIXELS = rules.max_pixels  # the user allows more than PIL does by itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about sizes and odd EXIF: both are handled here
            image = Image.open(io.BytesIO(content), formats=[kind])
            _check_header(image, content, rules)
            if Image.core.get_block_size() < BLOCK:
                Image.core.set_block_size(BLOCK)
            with DECODING.reserve(_memory_to_decode(image)):
                yield _Opened(content, image, rules)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(f"it is a damaged {kind}, or one that cannot be read: save it as PNG") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"it claims {TOO_MANY.format(rules.max_pixels)}") from error
    except MemoryError as error:
        raise BadImageError("there is not enough memory to decode it") from error
    except Exception as error:  # decoders raise many kinds on damaged data
        raise BadImageError(f"it is damaged: {' '.join(str(error).split())[:200]}") from error


def _kind(header: bytes, name: str) -> str:
    """The kind of image by its first bytes, as PIL names its decoders. Raises :class:`BadImageError` for no image."""
    kind = kind_of(header[:HEADER])
    if kind is None and suffix_of(name) == ".tga":
        kind = "TGA"  # which has no mark
    elif kind == "HEIF" and not can_read_heic():
        raise BadImageError(f"it is HEIC, which needs {INSTALL_HEIC}")
    elif kind is not None and kind not in READABLE:
        raise BadImageError(f"it is {kind}, which cannot be read here: save it as PNG")
    if kind is None:
        raise BadImageError("it is not an image")
    if kind not in Image.OPEN:
        Image.init()
        if kind not in Image.OPEN:
            raise BadImageError(f"it is {kind}, which needs a newer Pillow")
    return kind


def _check_header(image: Image.Image, content: bytes, rules: ReadingRules) -> None:
    """Raise :class:`BadImageError` for an image that is too small or too large, or that is only a preview."""
    if min(image.size) < SMALLEST_SIDE:
        raise BadImageError(f"it is {image.width}x{image.height} pixels; at least {SMALLEST_SIDE} are needed")
    areas = [image.size]
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(TIFF_SUBFILE, 0) & 1:
            raise BadImageError("its first image is only a preview, as in raw photographs: export it as JPEG or PNG")
        # A tile is decoded whole, however small the image is.
        areas.append((tags.get(TIFF_TILE_WIDTH, 0), tags.get(TIFF_TILE_HEIGHT, 0)))
    elif image.format == "JPEG2000":
        areas.append(_codestream_size(content))
    for width, height in areas:
        if width * height > rules.max_pixels:
            raise BadImageError(f"it claims {width}x{height} pixels, {TOO_MANY.format(rules.max_pixels)}")


def _codestream_size(content: bytes) -> tuple[int, int]:
    """The size of a JPEG 2000 by the data that is decoded, which the header around it may not tell."""
    start = content.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(content) < start + 24:
        raise BadImageError("it is damaged: it has no pixels")
    width, height = struct.unpack(">II", content[start + 8 : start + 16])
    return width, height


def _memory_to_decode(image: Image.Image) -> int:
    """Estimate the bytes that decoding takes at its peak: the pixels as they are, and as they become."""
    stored = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    converted = 0 if image.mode in ("L", "RGB") else 4 + stored if image.mode in WIDE_MODES else 4
    if "exif" in image.info and orientation(image) != 1:
        converted += stored
    if image.info.get("icc_profile"):
        converted += 4
    if of_deep_colours(image):
        converted += 8
    # What decoders hold beside the pixels.
    working = {"AVIF": 7, "HEIF": 7, "WEBP": 8, "JPEG2000": 12}.get(image.format or "", 0)
    working += 3 if image.info.get("progressive") else 0
    return image.width * image.height * (stored + converted + working)


def _has_frames(content: bytes, image: Image.Image) -> bool:
    """Whether the file holds more frames or pages than the first."""
    if image.format not in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
        return False
    try:
        # A GIF is searched for its second frame: in a reader of its own, since damage there is no matter.
        reader = Image.open(io.BytesIO(content), formats=["GIF"]) if image.format == "GIF" else image
        return bool(getattr(reader, "is_animated", False))
    except Exception:
        return False
