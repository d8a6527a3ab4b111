"""One test for each way in which an image can be odd or unusable."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from latentdiff.data.decode import BadImageError, CropAndResize, ReadingRules, decode

SQUARE = CropAndResize(16)


def content(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour=(200, 100, 50), size=(20, 24), mode="RGB"):
    return Image.new(mode, size, colour)


def pixel(data, square=SQUARE):
    """The colour in the middle of a decoded square."""
    image = decode(data, square).pixels
    assert image.shape == square.shape
    assert image.dtype == np.uint8
    return image[:, square.size // 2, square.size // 2].tolist()


def near(a, b, tolerance=3):
    return np.abs(np.subtract(a, b)).max() <= tolerance


def test_cmyk_jpeg_becomes_rgb():
    assert near(pixel(content(plain().convert("CMYK"), "jpeg", quality=95)), (200, 100, 50), 6)


def test_palette_becomes_its_colours():
    assert pixel(content(plain().convert("P", palette=Image.Palette.ADAPTIVE))) == [200, 100, 50]


def test_transparency_is_laid_on_white():
    assert near(pixel(content(Image.new("RGBA", (20, 20), (0, 0, 0, 128)))), (127, 127, 127))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0])
    assert pixel(content(palette, transparency=0)) == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_clipped():
    half = Image.fromarray(np.full((20, 20), 32_768, np.uint16))
    assert near(pixel(content(half)), (128, 128, 128), 1)
    assert near(pixel(content(half, "tiff"), CropAndResize(16, grey=True)), (128,), 1)


def test_sixteen_bits_are_known_by_the_format_not_by_how_bright_they_are():
    dark = Image.fromarray(np.full((20, 20), 200, np.uint16))  # nearly black, not a light eight-bit grey
    assert near(pixel(content(dark)), (1, 1, 1), 1)


def test_sixteen_bit_colours_are_scaled():
    assert near(pixel(png_of_sixteen_bits(rgb=(32_768, 65_535, 0))), (128, 255, 0), 1)


def png_of_sixteen_bits(rgb):
    """A PNG of 20x20 pixels with three channels of 16 bits, which PIL reads and does not write."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + struct.pack(">3H", *rgb) * 20) * 20
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def float_tiff(*values):
    pixels = np.resize(np.array(values, np.float32), (20, 20))
    return content(Image.fromarray(pixels), "tiff")


def test_floats_are_from_zero_to_one_or_in_the_range_that_is_given():
    assert pixel(float_tiff(0.5)) == [128] * 3
    for value, value_range in ((128.0, (0, 255)), (0.0, (-1, 1)), (32_768.0, (0, 65_535))):
        found = decode(float_tiff(value), SQUARE, rules=ReadingRules(value_range))
        assert found.pixels[:, 8, 8].tolist() == [128] * 3
        assert (found.deep.kind, found.deep.low, found.deep.high) == ("float", value, value)
    with pytest.raises(BadImageError, match="no numbers"):
        decode(float_tiff(np.nan), SQUARE)
    with pytest.raises(BadImageError, match=r"from -2 to 3, beyond the value_range -1,1"):
        decode(float_tiff(-2, 3), SQUARE, rules=ReadingRules((-1.0, 1.0)))


def test_greyscale_becomes_three_channels_and_colour_one():
    assert pixel(content(plain(77, mode="L"))) == [77, 77, 77]
    assert pixel(content(plain((77, 77, 77))), CropAndResize(16, grey=True)) == [77]


def test_one_bit_images_are_black_and_white():
    assert pixel(content(Image.new("1", (20, 20), 1))) == [255, 255, 255]


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_an_animation_is_its_first_frame(kind):
    frames = [plain((255, 0, 0)), plain((0, 0, 255))]
    options = {"lossless": True} if kind == "webp" else {}
    assert pixel(content(frames[0], kind, save_all=True, append_images=frames[1:], **options)) == [255, 0, 0]


def test_exif_rotation_is_undone():
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: white on top
    turned = decode(content(image, "jpeg", exif=exif, quality=95), CropAndResize(16)).pixels
    as_it_is = decode(content(image, "jpeg", quality=95), CropAndResize(16)).pixels
    assert turned[:, :4].min() > 240
    assert turned[:, -4:].max() < 15
    assert as_it_is[:, :, :4].min() > 240


def noise_jpeg():
    return content(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "jpeg")


UNUSABLE = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>not found</html>", "it is not an image"),
    "truncated": (noise_jpeg()[:1500], "it is damaged"),
    "truncated-png": (content(Image.effect_noise((64, 64), 50))[:900], "it is damaged"),
    "one-pixel-wide": (content(plain(size=(1, 60))), "it is 1x60 pixels"),
    "flat": (content(plain(size=(60, 3))), "it is 60x3 pixels"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_content_says_why(name):
    data, reason = UNUSABLE[name]
    with pytest.raises(BadImageError, match=reason):
        decode(data, SQUARE)


def test_an_image_that_claims_to_be_huge_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(BadImageError, match=r"claims 20x24 pixels, more than 100 \(--data.max_image_pixels\)"):
        decode(content(plain()), SQUARE, rules=ReadingRules(max_pixels=100))
