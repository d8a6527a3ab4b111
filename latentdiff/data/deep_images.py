"""Images of more than 8 bits a channel: which of their values are black and white."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from latentdiff.data.image_formats import BadImageError
from latentdiff.errors import DataError

STRIP = 1 << 18  # Pixels that are worked on at a time.
LEAST_USED = 1 / 8  # Images that use less of their type's range were meant for another one.
TOLERANCE = 1e-3  # Of a range that was asked for: what resampling adds to floats.
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2


@dataclass(frozen=True)
class DeepValues:
    """The values of a deep image, or of all those of a data set that have one type.

    Attributes:
        kind: What messages call the type, such as ``16-bit``.
        top: The value that is white where no range is given: the largest integer, or 1 for floats.
        low: The smallest value.
        high: The largest value.
    """

    kind: str
    top: float
    low: float
    high: float


def join_values(values: Iterable[DeepValues]) -> list[DeepValues]:
    """The values of many images as one for each type."""
    joined: dict[tuple[str, float], DeepValues] = {}
    for each in values:
        known = joined.get((each.kind, each.top), each)
        low, high = min(each.low, known.low), max(each.high, known.high)
        joined[each.kind, each.top] = DeepValues(each.kind, each.top, low, high)
    return list(joined.values())


def check_values(values: Iterable[DeepValues], where: str, option: str = "--data.value_range") -> None:
    """Raise :class:`~latentdiff.errors.DataError` for images whose type does not tell which values are black and white.

    Args:
        values: Those of all images of a data set, so that all are treated alike.
        where: What the message calls the images.
        option: The setting that says the range.
    """
    for each in values:
        if each.low >= 0 and each.top * LEAST_USED <= each.high <= each.top:
            continue
        found = f"{each.low:.6g} to {each.high:.6g}"
        why = "less than an eighth of" if 0 <= each.low <= each.high < each.top * LEAST_USED else "not within"
        raise DataError(
            f"{where}: {each.kind} values from {found}, {why} 0 to {each.top:.12g}, so it is unclear which are black "
            f"and white.\nSet the range with {option}=LOW,HIGH, such as {' or '.join(_suggestions(each))}."
        )


def narrow(image: Image.Image, value_range: tuple[float, float] | None) -> tuple[np.ndarray, DeepValues]:
    """Convert a greyscale image of wide integers or floats to uint8 [h, w].

    The values are scaled from ``value_range``, or from 0 to all that their type holds, or 1 for floats. What lies
    beyond is cut off: :func:`check_values` refuses it where no range was given.

    Raises :class:`~latentdiff.data.image_formats.BadImageError` for values that are no numbers or beyond
    ``value_range``.
    """
    kind, top, inverted = _type_of(image)
    low, high = math.inf, -math.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        if not np.isfinite(values).all():
            raise BadImageError("it holds values that are no numbers")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    black, white = value_range or (0.0, top)
    if value_range:
        within(low, high, value_range)
    scale = 255.0 / (white - black)
    result = np.empty((image.height, image.width), np.uint8)
    for rows, strip in _strips(image):
        values = np.asarray(strip).astype(np.float64)
        result[rows] = np.clip(np.rint((values - black) * scale), 0, 255)
    return (255 - result if inverted else result), DeepValues(kind, top, low, high)


def of_deep_colours(image: Image.Image) -> bool:
    """Whether an image that was opened but not loaded has colours of 16 bits, of which PIL keeps the upper 8."""
    return image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in _raw_mode(tile) for tile in image.tile)


def load_deep_colours(
    content: bytes, image: Image.Image, value_range: tuple[float, float] | None
) -> tuple[Image.Image, DeepValues]:
    """Load an image for which :func:`of_deep_colours` holds, as 8 bits a channel.

    Without ``value_range`` only the upper 8 bits are used, for the pixels and for the reported values.

    Raises :class:`~latentdiff.data.image_formats.BadImageError` for values beyond ``value_range``.
    """
    if value_range is None:
        image.load()
        extremes = [image.getchannel(band).getextrema() for band in "RGB"]
        low, high = min(pair[0] for pair in extremes), max(pair[1] for pair in extremes)
        return image, DeepValues("16-bit", 65535.0, low * 256.0, high * 256.0 + 255.0 if high else 255.0)
    if any(_raw_mode(tile).startswith("LA;16") for tile in image.tile):
        raise BadImageError("16-bit grey with transparency cannot be read with a value_range: save it without")
    # The bytes in the other order give the lower 8 bits.
    lower = Image.open(io.BytesIO(content), formats=[image.format or ""])
    lower.tile = [tile._replace(args=_swapped(tile.args)) for tile in lower.tile]
    image.load()
    lower.load()
    black, white = value_range
    scale = 255.0 / (white - black)
    result = Image.new("RGB", image.size)
    low, high = math.inf, -math.inf
    has_alpha = image.mode == "RGBA"
    for (rows, upper_strip), (_, lower_strip) in zip(_strips(image), _strips(lower), strict=True):
        high_byte, low_byte = np.asarray(upper_strip)[..., :3], np.asarray(lower_strip)[..., :3]
        values = high_byte.astype(np.uint16) << 8 | low_byte
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        eight = Image.fromarray(np.clip(np.rint((values - black) * scale), 0, 255).astype(np.uint8))
        if has_alpha:
            white_strip = Image.new("RGB", eight.size, "white")
            eight = Image.composite(eight, white_strip, upper_strip.getchannel("A"))
        result.paste(eight, (0, rows.start))
    within(low, high, value_range)
    if profile := image.info.get("icc_profile"):
        result.info["icc_profile"] = profile
    return result, DeepValues("16-bit", 65535.0, low, high)


def _type_of(image: Image.Image) -> tuple[str, float, bool]:
    """What the values of a wide greyscale image are called, their largest, and whether the largest is black."""
    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
    if image.mode == "F":
        return "float", 1.0, inverted
    bits = (tags.get(TIFF_BITS) or (16,))[0]
    signed = (tags.get(TIFF_SAMPLE_FORMAT) or (1,))[0] == SIGNED
    if image.mode == "I" and image.format in (None, "TIFF") and not tags:
        bits, signed = 32, True  # in memory
    return f"{bits}-bit", float(2 ** (bits - signed) - 1), inverted


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The image in pieces of a few rows, each with its place: a wider copy of all of a large one fills the memory."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        place = slice(top, min(top + rows, image.height))
        yield place, image.crop((0, place.start, image.width, place.stop))


def within(low: float, high: float, value_range: tuple[float, float]) -> None:
    """Raise :class:`~latentdiff.data.image_formats.BadImageError` for values beyond the range that was asked for."""
    black, white = value_range
    slack = TOLERANCE * (white - black)
    if low < black - slack or high > white + slack:
        raise BadImageError(
            f"its values reach from {low:.6g} to {high:.6g}, beyond the value_range {black:g},{white:g}"
        )


def _suggestions(values: DeepValues) -> list[str]:
    """Ranges that such values may have been meant for."""
    if values.low < 0:
        return ["-1,1"] if max(-values.low, values.high) <= 1 else [f"{values.low:.6g},{values.high:.6g}"]
    if values.kind == "float" and values.high <= 1:
        return [f"0,{values.high:.3g}", "0,1"]
    bits = next((bits for bits in (8, 10, 12, 14, 16) if values.high < 2**bits), None)
    fitting = f"0,{2**bits - 1}" if bits else f"0,{values.high:.12g}"
    own = f"0,{values.top:.12g}"
    return [fitting] if fitting == own or values.kind == "float" else [fitting, own]


def _raw_mode(tile: Image.core.ImagingDecoder) -> str:  # type: ignore[name-defined]
    args = tile[3]
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _swapped(args: object) -> object:
    """The arguments of a decoder with the other order of bytes."""
    if isinstance(args, tuple):
        return (_swapped(args[0]), *args[1:])
    native = "L" if sys.byteorder == "little" else "B"
    raw = str(args).replace(";16N", f";16{native}")
    return raw.replace(";16L", ";16?").replace(";16B", ";16L").replace(";16?", ";16B")
