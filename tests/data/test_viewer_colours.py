"""Images are shown as a viewer shows them: against Pillow's own result."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from latentdiff.data.decode import open_image

SRGB = ImageCms.createProfile("sRGB")


def content(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode="RGB", size=(40, 24), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def shown(data, name=""):
    return open_image(data, name)[0]


def same(a, b, tolerance=0):
    assert a.size == b.size
    return np.abs(np.asarray(a.convert("RGB")).astype(int) - np.asarray(b.convert("RGB"))).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_each_exif_orientation_is_undone(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = content(picture(), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected.size == ((24, 40) if orientation > 4 else (40, 24))
    assert same(shown(data), expected)


@pytest.mark.parametrize("value", [0, 9, 255, 65_535])
def test_an_orientation_that_there_is_not_turns_nothing(value):
    exif = Image.Exif()
    exif[0x0112] = value
    data = content(picture(), "png", exif=exif)
    assert same(shown(data), picture())


def test_damaged_exif_turns_nothing():
    data = content(picture(), "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff junk", quality=95)
    assert same(shown(data), Image.open(io.BytesIO(data)))


def test_deep_images_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60)
    turned = shown(content(deep, "png", exif=exif))
    assert turned.size == (24, 40)
    assert same(turned, shown(content(deep)).transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("1", "png"), ("L", "png"), ("P", "gif"), ("P", "png"), ("CMYK", "tiff"), ("CMYK", "jpeg")),
        *(("YCbCr", "jpeg"), ("LAB", "tiff"), ("RGBX", "tiff")),
    ],
)
def test_modes_become_what_pillow_makes_of_them(mode, kind):
    image = (
        picture("L").convert("1")
        if mode == "1"
        else ImageCms.profileToProfile(picture(), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
        if mode == "LAB"
        else picture().convert(mode)
    )
    data = content(image, kind)
    assert same(shown(data), Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_inverted_cmyk_of_adobe_is_turned_back():
    plain = content(Image.new("CMYK", (16, 16), (0, 155, 205, 55)), "jpeg", quality=100)
    # The marker by which programs of Adobe say that 255 is no ink; Pillow writes it, with inverted values.
    assert b"Adobe" in plain
    assert np.abs(np.subtract(shown(plain).getpixel((8, 8)), (200, 78, 39))).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_transparency_lies_on_white(mode, kind):
    image = picture("RGBA")
    if mode in ("P", "PA"):
        image = image.quantize(64)
    elif mode == "LA":
        image = image.convert("LA")
    data = content(image, kind, **({"lossless": True} if kind == "webp" else {}))
    opened = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened)
    assert same(shown(data), expected)


def test_transparency_is_laid_strip_by_strip(monkeypatch):
    monkeypatch.setattr("latentdiff.data.viewer_colours.STRIP", 100)
    image = picture("RGBA", (6, 700))
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    assert same(shown(content(image)), expected)


def wide_gamut():
    """A profile whose primaries are far from sRGB's: sRGB with red and blue exchanged in its tables."""
    profile = bytearray(ImageCms.ImageCmsProfile(SRGB).tobytes())
    tags = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile).replace(b"s\0R\0G\0B", b"x\0y\0z\0w")


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_colour_profiles_are_converted(kind):
    options = {"icc_profile": wide_gamut()} | ({"lossless": True} if kind == "webp" else {})
    data = content(picture(), kind, **options)
    opened = Image.open(io.BytesIO(data))
    expected = ImageCms.profileToProfile(
        opened.convert("RGB"), ImageCms.ImageCmsProfile(io.BytesIO(wide_gamut())), SRGB, outputMode="RGB"
    )
    assert not same(expected, opened, 60)
    assert same(shown(data), expected)


def test_a_profile_and_transparency_and_a_turn_together():
    exif = Image.Exif()
    exif[0x0112] = 8
    image = picture("RGBA")
    data = content(image, "png", icc_profile=wide_gamut(), exif=exif)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(wide_gamut()))
    expected = ImageCms.profileToProfile(image.convert("RGB"), profile, SRGB, outputMode="RGB")
    expected.putalpha(image.getchannel("A"))
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), expected)
    assert same(shown(data), expected.transpose(Image.Transpose.ROTATE_90))


def test_srgb_a_damaged_profile_and_one_for_other_colours_change_nothing():
    for profile in (ImageCms.ImageCmsProfile(SRGB).tobytes(), b"junk", wide_gamut()[:200]):
        assert same(shown(content(picture(), icc_profile=profile)), picture())
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert same(shown(content(picture(), icc_profile=lab)), picture())


def test_a_grey_image_with_a_profile_of_colours_is_converted_as_colours():
    data = content(picture("L"), icc_profile=wide_gamut())
    profile = ImageCms.ImageCmsProfile(io.BytesIO(wide_gamut()))
    assert same(shown(data), ImageCms.profileToProfile(picture("L").convert("RGB"), profile, SRGB, outputMode="RGB"))


def test_what_a_caller_gives_is_not_changed():
    from latentdiff.data.decode import to_eight_bits

    image = picture("RGBA")
    image.info["icc_profile"] = wide_gamut()
    before = image.tobytes()
    to_eight_bits(image)
    assert image.tobytes() == before
