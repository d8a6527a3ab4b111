"""One test for each way in which a file of a data set can be odd or unusable."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.data.decode import BadImageError, Square, decode
from latentdiff.errors import DataError

SQUARE = Square(16)


def content(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour=(200, 100, 50), size=(20, 24), mode="RGB"):
    return Image.new(mode, size, colour)


def pixel(data, square=SQUARE):
    """The colour in the middle of a decoded square."""
    image = decode(data, square)
    assert image.shape == square.shape
    assert image.dtype == np.uint8
    return image[:, square.size // 2, square.size // 2].tolist()


def near(a, b, tolerance=3):
    return np.abs(np.subtract(a, b)).max() <= tolerance


# odd, and read


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
    assert near(pixel(content(half, "tiff"), Square(16, grey=True)), (128,), 1)


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


def test_floats_are_of_one_or_of_as_many_levels_as_they_reach():
    for value, level in ((0.5, 128), (128.0, 128), (32_768.0, 128)):
        assert pixel(content(Image.fromarray(np.full((20, 20), value, np.float32)), "tiff")) == [level] * 3
    with pytest.raises(BadImageError, match="no numbers"):
        decode(content(Image.fromarray(np.full((20, 20), np.nan, np.float32)), "tiff"), SQUARE)


def test_greyscale_becomes_three_channels_and_colour_one():
    assert pixel(content(plain(77, mode="L"))) == [77, 77, 77]
    assert pixel(content(plain((77, 77, 77))), Square(16, grey=True)) == [77]


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
    turned = decode(content(image, "jpeg", exif=exif, quality=95), Square(16))
    as_it_is = decode(content(image, "jpeg", quality=95), Square(16))
    assert turned[:, :4].min() > 240
    assert turned[:, -4:].max() < 15
    assert as_it_is[:, :, :4].min() > 240


# unusable, and named


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
    monkeypatch.setattr("latentdiff.data.decode.MOST_PIXELS", 100)
    with pytest.raises(BadImageError, match="claims 20x24 pixels"):
        decode(content(plain()), SQUARE)


def fill(folder, bad=True):
    folder.mkdir(parents=True)
    for index in range(10):
        (folder / f"good{index}.png").write_bytes(content(plain((index, 0, 0))))
    for name, (data, _) in UNUSABLE.items() if bad else ():
        (folder / f"{name}.jpg").write_bytes(data)


def test_all_bad_files_are_listed_at_once_and_nothing_else_is_lost(tmp_path, capsys):
    fill(tmp_path / "images")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), size=16, cache_folder="cache")
    with pytest.raises(DataError) as error:
        load_split(config, "train")
    for name, (_, reason) in UNUSABLE.items():
        assert f"{name}.jpg: {reason}" in str(error.value)
    assert "6 of 16 files" in str(error.value)
    assert "--data.on_bad_image skip" in str(error.value)
    skipping = dataclasses.replace(config, on_bad_image="skip", fractions=(1.0, 0.0, 0.0))
    images = load_split(skipping, "train").images
    assert "6 of 16 files" in capsys.readouterr().out
    assert [int(image[0, 8, 8]) for image in images] == list(range(10))
    (meta,) = (tmp_path / "cache").glob("*/meta.json")
    assert len(json.loads(meta.read_text())["bad"]) == 6
    assert len(list((tmp_path / "images").iterdir())) == 16


def test_a_folder_of_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), on_bad_image="skip")
    with pytest.raises(DataError, match="none of the 1 files"):
        load_split(config, "train")


# names


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def test_names_in_any_script_and_with_spaces(tmp_path):
    for name in ("花.png", "ünïcode ß.png", "a b.png", "emoji 🌷.png"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content(plain()))
    zipped(tmp_path / "z.zip", [(f"класс/{i}.png", content(plain())) for i in range(4)])
    for path in ("images", "z.zip"):
        config = DataConfig(name="folder", path=str(tmp_path / path), fractions=(1.0, 0.0, 0.0))
        assert len(load_split(config, "train")) == 4


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_and_double_names_in_a_zip_are_listed_and_nothing_is_written_outside(tmp_path):
    good = content(plain())
    names = ["ok/a.png", "ok/b.png", "../../evil.png", "/etc/evil.png", "C:/evil.png", "ok/a.png"]
    path = zipped(tmp_path / "z.zip", [(name, good) for name in names])
    with pytest.raises(DataError) as error:
        load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")
    for name in ("../../evil.png", "/etc/evil.png", "C:/evil.png"):
        assert f"{name}: its path points out of the archive" in str(error.value)
    assert "ok/a.png: the archive holds this name twice" in str(error.value)
    assert "4 of 6 files" in str(error.value)
    backslashes = zipped(tmp_path / "w.zip", [("a.png", good), (r"..\..\evil.png", good)])
    with pytest.raises(DataError, match=r"1 of 2 files(.|\n)*evil\.png: its path points out of the archive"):
        load_split(DataConfig(name="folder", path=str(backslashes), fractions=(1.0, 0.0, 0.0)), "train")
    only = zipped(tmp_path / "only.zip", [("../evil.png", good)])
    with pytest.raises(DataError, match=r"holds no image that can be used(.|\n)*\.\./evil\.png: its path points out"):
        load_split(DataConfig(name="folder", path=str(only)), "train")
    config = DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0), on_bad_image="skip")
    assert len(load_split(config, "train")) == 2
    assert not list(tmp_path.parent.rglob("evil.png"))


def test_an_encrypted_entry_of_a_zip_is_listed(tmp_path):
    path = zipped(tmp_path / "z.zip", [("a.png", content(plain())), ("b.png", content(plain()))])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1  # the first entry's flags in the directory at the end
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"1 of 2 files(.|\n)*a\.png: it is encrypted"):
        load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")


def test_the_summary_is_printed_once_though_every_split_is_loaded(tmp_path, capsys):
    fill(tmp_path / "images")
    settings = {"name": "folder", "path": str(tmp_path / "images"), "size": 16, "fractions": (0.4, 0.3, 0.3)}
    for split in ("train", "val", "test"):
        load_split(DataConfig(on_bad_image="skip", **settings), split)
    assert capsys.readouterr().out.count("files in") == 1


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names here are Unicode")
def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path, capsys):
    for label in (b"caf\xe9", b"bar"):
        folder = os.fsencode(tmp_path / "images") + b"/" + label
        os.makedirs(folder)
        for name, data in ((b"\xe4.png", content(plain())), (b"b.png", content(plain())), (b"\xe5.png", b"junk")):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
    config = DataConfig(
        name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16, on_bad_image="skip"
    )
    data = load_split(config, "train")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.class_names == ("bar", r"caf\udce9")
    printed = capsys.readouterr().out
    assert r"bar/\udce5.png: it is not an image" in printed
    printed.encode()


def test_a_file_that_can_be_read_again_is_no_longer_bad(tmp_path, monkeypatch):
    """Rights, and a drive that failed, leave no trace in the times by which the cache is named."""
    fill(tmp_path / "images", bad=False)
    config = DataConfig(
        name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16, on_bad_image="skip"
    )

    def read(self, name):
        if name == "good3.png":
            raise PermissionError("Permission denied")
        return (self.path / name).read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr("latentdiff.data.files.DirectoryFiles.read", read)
        assert len(load_split(config, "train")) == 9
        assert len(load_split(config, "train")) == 9
    assert len(load_split(config, "train")) == 10


def test_linked_folders_are_followed_and_never_in_a_circle(tmp_path):
    fill(tmp_path / "elsewhere", bad=False)
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "0.png").write_bytes(content(plain()))
    (tmp_path / "images" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "b" / "up").symlink_to(tmp_path / "images")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16)
    assert load_split(config, "train").labels.tolist() == [0] + [1] * 10


def test_a_link_to_nowhere_is_listed(tmp_path):
    fill(tmp_path / "images", bad=False)
    (tmp_path / "images" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0))
    with pytest.raises(DataError, match=r"1 of 11 files(.|\n)*lost\.png: it is a link to nowhere"):
        load_split(config, "train")
    assert len(load_split(dataclasses.replace(config, on_bad_image="skip"), "train")) == 10


def test_same_name_in_two_folders_is_two_images(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "1.png").write_bytes(content(plain()))
    data = load_split(DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.labels.tolist() == [0, 1]


def test_what_systems_leave_behind_is_not_an_image(tmp_path):
    fill(tmp_path / "images", bad=False)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._good0.png"):
        (tmp_path / "images" / name).write_bytes(b"junk")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0))
    assert len(load_split(config, "train")) == 10
    path = zipped(tmp_path / "z.zip", [("d/a.png", content(plain())), ("__MACOSX/d/._a.png", b"junk")])
    assert len(load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")) == 1


def test_a_damaged_zip_a_missing_path_and_an_empty_folder_are_named(tmp_path):
    (tmp_path / "z.zip").write_bytes(zipped(tmp_path / "ok.zip", [("a.png", content(plain()))]).read_bytes()[:40])
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("z.zip", "cannot be read as a zip"),
        ("nowhere", "there is no"),
        ("empty", "holds no image"),
    ):
        with pytest.raises(DataError, match=message) as error:
            load_split(DataConfig(name="folder", path=str(tmp_path / path)), "train")
        assert path in str(error.value)


def test_a_damaged_entry_of_a_zip_is_listed(tmp_path):
    data = noise_jpeg()
    path = zipped(tmp_path / "z.zip", [("a.jpg", data), ("b.jpg", data)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(data) + 700] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.jpg: it cannot be read: Bad CRC"):
        load_split(DataConfig(name="folder", path=str(path)), "train")


def test_the_inverse_of_what_a_network_sees_is_exact():
    from latentdiff.codec import to_float, to_uint8

    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(every)), every)
