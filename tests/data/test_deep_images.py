"""Images of more than 8 bits a channel: one range for all images of a data set, or a refusal."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from latentdiff.config import DataConfig
from latentdiff.data import load_dataset, load_split
from latentdiff.data.decode import BadImageError, CropAndResize, ReadingRules, decode, open_image, parse_value_range
from latentdiff.data.deep_images import DeepValues, check_values, join_values
from latentdiff.errors import ConfigError, DataError

RAMP = np.linspace(0, 1, 24 * 24).reshape(24, 24)


def content(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png(array, profile=b""):
    """A PNG of 16 bits: grey [h, w], or colours [h, w, 3] or [h, w, 4], which Pillow reads and does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    colour = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(array.shape[-1])}[array.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    colours = chunk(b"iCCP", b"own\0\0" + zlib.compress(profile)) if profile else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def deep_tiff(array, order="<", photometric=None, sample_format=1, bits=16):
    """An uncompressed TIFF of one strip, of any type and byte order."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    samples = 1 if array.ndim == 2 else array.shape[2]
    photometric = (1 if samples == 1 else 2) if photometric is None else photometric
    after = 8 + 2 + 11 * 12 + 4
    tags = [
        (256, 3, 1, array.shape[1]), (257, 3, 1, array.shape[0]), (258, 3, samples, bits), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, after + 8), (277, 3, 1, samples), (278, 3, 1, array.shape[0]),
        (279, 4, 1, len(data)), (284, 3, 1, 1), (339, 3, samples, sample_format),
    ]  # fmt: skip
    body = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        inline = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        if count == 3:
            inline = struct.pack(order + "I", after)
        body += struct.pack(order + "HHI", tag, kind, count) + inline
    # Both three-valued tags are of one value here: bits and format share the place only where they are equal.
    extra = struct.pack(order + "4H", *([bits] * 3), 0)
    if samples == 3:
        body = body.replace(struct.pack(order + "HHI", 339, 3, 3) + struct.pack(order + "I", after), b"")
        body = struct.pack(order + "H", len(tags) - 1) + body[2:] + b"\0" * 12
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + body + b"\0\0\0\0" + extra + data


def grey(data, rules=None):
    image, values = open_image(data, rules=rules)
    return np.asarray(image), values


def scaled(array, low, high):
    return np.clip(np.rint((array.astype(np.float64) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


SIXTEEN = np.rint(RAMP * 65_535).astype(np.uint16)
TWELVE = np.rint(RAMP * 4095).astype(np.uint16)


def test_sixteen_bits_of_every_format_are_scaled_alike():
    for data in (
        deep_png(SIXTEEN),
        content(Image.fromarray(SIXTEEN), "tiff"),
        content(Image.fromarray(SIXTEEN), "tiff", compression="tiff_lzw"),
        deep_tiff(SIXTEEN, "<"),
        deep_tiff(SIXTEEN, ">"),
        b"P5 24 24 65535\n" + SIXTEEN.astype(">u2").tobytes(),
    ):
        pixels, values = grey(data)
        assert (pixels == scaled(SIXTEEN, 0, 65_535)).all()
        assert values == DeepValues("16-bit", 65_535.0, 0.0, 65_535.0)


def test_white_is_zero_in_some_tiffs():
    assert (grey(deep_tiff(SIXTEEN, photometric=0))[0] == 255 - scaled(SIXTEEN, 0, 65_535)).all()


def test_twelve_bits_in_sixteen_need_their_range():
    for data in (deep_png(TWELVE), content(Image.fromarray(TWELVE), "tiff"), deep_tiff(TWELVE, ">")):
        pixels, values = grey(data, ReadingRules((0, 4095)))
        assert (pixels == scaled(TWELVE, 0, 4095)).all()
        with pytest.raises(DataError, match=r"16-bit values from 0 to 4095, less than an eighth of 0 to 65535"):
            check_values([values], "it")


def test_signed_and_wide_integers():
    signed = (SIXTEEN // 2).astype(np.int16)
    pixels, values = grey(deep_tiff(signed, sample_format=2))
    assert (pixels == scaled(signed, 0, 32_767)).all()
    assert values == DeepValues("16-bit", 32_767.0, 0.0, 32_767.0)
    negative = deep_tiff(signed - 1000, sample_format=2)
    with pytest.raises(DataError, match=r"values from -1000 to 31767, not within 0 to 32767"):
        check_values([grey(negative)[1]], "it")
    wide = np.rint(RAMP * 100_000).astype(np.int32)
    with pytest.raises(DataError, match=r"less than an eighth of 0 to 2147483647(.|\n)*such as 0,100000 or"):
        check_values([grey(deep_tiff(wide, sample_format=2, bits=32))[1]], "it")
    pixels, _ = grey(deep_tiff(wide, sample_format=2, bits=32), ReadingRules((0, 100_000)))
    assert (pixels == scaled(wide, 0, 100_000)).all()


def test_floats():
    floats = RAMP.astype(np.float32)
    assert (grey(deep_tiff(floats, sample_format=3, bits=32))[0] == scaled(floats, 0, 1)).all()
    signed = deep_tiff(floats * 2 - 1, sample_format=3, bits=32)
    with pytest.raises(
        DataError, match=r"float values from -1 to 1, not within 0 to 1.*\n.*value_range=LOW,HIGH, such as -1,1"
    ):
        check_values([grey(signed)[1]], "it")
    assert (grey(signed, ReadingRules((-1, 1)))[0] == scaled(floats * 2 - 1, -1, 1)).all()
    with pytest.raises(DataError, match=r"float values from 0 to 0\.1, less than an eighth"):
        check_values([grey(deep_tiff(floats / 10, sample_format=3, bits=32))[1]], "it")


def test_values_beyond_the_range_that_was_asked_for_are_refused():
    with pytest.raises(BadImageError, match=r"from 0 to 65535, beyond the value_range 0,4095"):
        open_image(deep_png(SIXTEEN), rules=ReadingRules((0, 4095)))


@pytest.mark.parametrize("seed", range(3))
def test_all_sixteen_bits_of_colours_are_used_where_a_range_is_given(seed):
    colours = np.random.default_rng(seed).integers(0, 4096, (24, 300, 3)).astype(np.uint16)
    expected = scaled(colours, 0, 4095)
    for data in (deep_png(colours), deep_tiff(colours, "<"), deep_tiff(colours, ">")):
        image, values = open_image(data, rules=ReadingRules((0, 4095)))
        assert (np.asarray(image) == expected).all()
        assert (values.low, values.high) == (colours.min(), colours.max())
        with pytest.raises(DataError, match="less than an eighth of 0 to 65535"):
            check_values([open_image(data)[1]], "it")


def test_colours_of_sixteen_bits_are_told_without_a_range_too():
    colours = np.stack([SIXTEEN] * 3, -1)
    image, values = open_image(deep_png(colours))
    check_values([values], "it")
    assert (np.asarray(image) == colours >> 8).all()


def test_a_colour_profile_holds_where_a_range_is_given(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "latentdiff.data.decode.to_srgb", lambda image: seen.append(image.info) or ImageOps.invert(image)
    )
    colours = np.stack([SIXTEEN // 16] * 3, -1)
    converted, _ = open_image(deep_png(colours, b"adobe"), rules=ReadingRules((0, 4095)))
    assert (np.asarray(converted) == 255 - scaled(colours, 0, 4095)).all()
    assert [info["icc_profile"] for info in seen] == [b"adobe"]


def test_grey_with_transparency_of_sixteen_bits_says_what_to_do():
    grey = np.stack([SIXTEEN // 16, SIXTEEN], -1)
    with pytest.raises(BadImageError, match="16-bit grey with transparency cannot be read with a value_range: save it"):
        open_image(deep_png(grey), rules=ReadingRules((0, 4095)))


def test_transparency_of_sixteen_bits_lies_on_white():
    colours = np.stack([SIXTEEN // 16] * 3 + [np.full_like(SIXTEEN, 0)], -1)
    image, _ = open_image(deep_png(colours), rules=ReadingRules((0, 4095)))
    assert np.asarray(image).min() == 255


def test_eight_bits_are_left_alone_by_a_range():
    image = Image.fromarray(np.full((8, 8), 77, np.uint8))
    assert decode(content(image), CropAndResize(8, grey=True), rules=ReadingRules((0, 4095))).pixels.max() == 77


def test_a_set_is_scaled_as_one_and_refused_as_one(tmp_path, capsys):
    for index, share in enumerate((1.0, 0.02)):
        folder = tmp_path / "all"
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.png").write_bytes(deep_png((SIXTEEN * share).astype(np.uint16)))
    config = DataConfig(name="folder", path=str(folder), size=24, colour="grey", fractions=(1.0, 0.0, 0.0))
    images = load_split(config, "train").images
    assert images.amax((1, 2, 3)).tolist() == [255, 5]  # the dark one stays dark
    (folder / "0.png").unlink()
    for _ in range(2):  # from the cache too
        with pytest.raises(
            DataError, match=r"all: 16-bit values from 0 to 1310, less than an eighth(.|\n)*0,4095 or 0,65535"
        ):
            load_split(config, "train")
    kept = dataclasses.replace(config, value_range="0,65535")
    assert load_split(kept, "train").images.max() == 5
    assert load_split(dataclasses.replace(config, value_range="0,4095"), "train").images.max() == 82
    Image.new("L", (24, 24), 9).save(folder / "1.png")
    with pytest.raises(ConfigError, match=r"value_range has no effect: all images in .* have 8 bits"):
        load_split(kept, "train")


def test_deep_images_of_a_dataset_are_scaled_as_one():
    dark = Image.fromarray((SIXTEEN // 64).astype(np.uint16))
    with pytest.raises(DataError, match="the Dataset: 16-bit values from 0 to 1023, less than an eighth"):
        load_dataset([(dark, 0), (dark, 1)] * 4)
    whole = Image.fromarray(SIXTEEN)
    data = load_dataset([(dark, 0), (whole, 1)] * 4, fractions=(1.0, 0.0, 0.0))
    assert sorted({int(image.max()) for image in data.train.images}) == [4, 255]


def test_values_are_joined_by_type():
    joined = join_values(
        [DeepValues("16-bit", 65_535, 5, 10), DeepValues("float", 1, 0, 1), DeepValues("16-bit", 65_535, 1, 7)]
    )
    assert joined == [DeepValues("16-bit", 65_535, 1, 10), DeepValues("float", 1, 0, 1)]


def test_the_setting_is_auto_or_two_numbers():
    assert parse_value_range("auto") is None
    assert parse_value_range("0,4095") == (0.0, 4095.0)
    assert parse_value_range("[-1, 1]") == (-1.0, 1.0)
    for text in ("", "1", "1,0", "0,0", "a,b", "0,nan", "0,inf", "-inf,1", "0,1,2"):
        with pytest.raises(ConfigError, match="value_range must be auto or LOW,HIGH"):
            parse_value_range(text)
    with pytest.raises(ConfigError, match="value_range"):
        load_split(DataConfig(name="folder", path="x", value_range="1,0"), "train")
