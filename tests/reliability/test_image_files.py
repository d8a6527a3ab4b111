"""A hundred odd and hostile image files: each is shown as a viewer shows it, or refused with the reason."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.data.decode import BadImageError, CropAndResize, decode
from latentdiff.data.image_formats import can_read_heic
from latentdiff.errors import DataError

COLOUR, GREY = (200, 100, 50), (124, 124, 124)
SIZE = (40, 32)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode="RGB", size=SIZE, colour=COLOUR):
    return Image.new("RGB", size, colour).convert(mode)


def noise(size=SIZE):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, rows=b"", before=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def tiff(tags, data=b"", next_ifd=0):
    """A little-endian TIFF with these (tag, type, count, value), and ``data`` after them."""
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", next_ifd) + data


def basic_tags(width=32, height=32, **changed):
    size = min(width * height, 2**32 - 1)
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 200), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, size)}
    tags |= {int(name[1:]): value for name, value in changed.items()}
    return [(tag, *value) for tag, value in tags.items()]


def grey_tiff(**changed):
    head = tiff(basic_tags(**changed))
    return head + b"\0" * (200 - len(head)) + bytes([124]) * (32 * 32)


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def patched(data, place, new):
    return data[:place] + new + data[place + len(new) :]


def animated(kind, **options):
    return saved(plain(), kind, save_all=True, append_images=[plain(colour=(0, 0, 255))], **options)


def text_bomb():
    packed = zlib.compress(b"a" * 200_000_000, 9)
    return png(32, 32, rows=(b"\0" + bytes(COLOUR) * 32) * 32, before=chunk(b"zTXt", b"Comment\0\0" + packed))


def many_texts():
    packed = zlib.compress(b"a" * 1_000_000, 9)
    texts = b"".join(chunk(b"zTXt", b"Comment%d\0\0" % i + packed) for i in range(300))
    return png(32, 32, rows=(b"\0" + bytes(COLOUR) * 32) * 32, before=texts)


def profile_bomb():
    packed = zlib.compress(b"\0" * 200_000_000, 9)
    return png(32, 32, rows=(b"\0" + bytes(COLOUR) * 32) * 32, before=chunk(b"iCCP", b"p\0\0" + packed))


def huge_deep_png(side=13_300):
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + 2 * side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def lying_jp2():
    """JPEG 2000 whose header says 40x32, and whose data says 60,000x60,000."""
    data = bytearray(saved(plain(), "JPEG2000"))
    place = data.index(b"\xff\x4f\xff\x51") + 8
    data[place : place + 8] = struct.pack(">II", 60_000, 60_000)
    data[place + 16 : place + 24] = struct.pack(">II", 60_000, 60_000)  # in one tile
    return bytes(data)


def lab_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def png_info():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10_000, zip=True)
    info.add_itxt("Title", "ü" * 100, lang="de")
    return info


JPEG, PNG = saved(noise(), "jpeg"), saved(noise(), "png")
AVIF, WEBP = saved(plain(), "avif", quality=95), saved(plain(), "webp", lossless=True)
GIF, BMP, TIFF = saved(plain(), "gif"), saved(plain(), "bmp"), saved(plain(), "tiff")
# Name of the file: its content, and the colour of its middle or why it is refused.
READ = {
    # Suffixes that are seldom, wrong, or not there.
    "photo.jfif": (saved(plain(), "jpeg", quality=95), COLOUR),
    "photo.JPE": (saved(plain(), "jpeg", quality=95), COLOUR),
    "photo.avif": (AVIF, COLOUR),
    "photo.jp2": (saved(plain(), "JPEG2000"), COLOUR),
    "photo.j2k": (saved(plain(), "JPEG2000", no_jp2=True), COLOUR),
    "photo.tga": (saved(plain(), "tga"), COLOUR),
    "packed.tga": (saved(plain(), "tga", compression="tga_rle"), COLOUR),
    "photo.webp": (WEBP, COLOUR),
    "photo.bmp": (BMP, COLOUR),
    "photo.gif": (GIF, COLOUR),
    "photo.tif": (TIFF, COLOUR),
    "photo.ppm": (saved(plain(), "ppm"), COLOUR),
    "photo.pgm": (saved(plain("L"), "ppm"), GREY),
    "text.ppm": (b"P3 8 8 255\n" + b"200 100 50 " * 64, COLOUR),
    "photo.qoi": (saved(plain("RGBA"), "qoi"), COLOUR),
    "no_suffix_png": (saved(plain(), "png"), COLOUR),
    "no_suffix_avif": (AVIF, COLOUR),
    "no_suffix_bmp": (BMP, COLOUR),
    "png_called.jpg": (saved(plain(), "png"), COLOUR),
    "webp_called.jpg": (WEBP, COLOUR),
    "avif_called.png": (AVIF, COLOUR),
    "jpeg_called.gif": (saved(plain(), "jpeg", quality=95), COLOUR),
    "image.dat": (saved(plain(), "png"), COLOUR),
    "image.jpg_original": (saved(plain(), "png"), COLOUR),
    "image.tmp": (TIFF, COLOUR),
    "image.bin": (GIF, COLOUR),
    "photo.jpg.download": (saved(plain(), "jpeg", quality=95), COLOUR),
    "url.png@size=large": (saved(plain(), "png"), COLOUR),
    # Modes.
    "one_bit.png": (saved(Image.new("1", SIZE, 1), "png"), (255, 255, 255)),
    "one_bit.tif": (saved(Image.new("1", SIZE, 1), "tiff", compression="group4"), (255, 255, 255)),
    "one_bit.bmp": (saved(Image.new("1", SIZE, 1), "bmp"), (255, 255, 255)),
    "grey.jpg": (saved(plain("L"), "jpeg"), GREY),
    "grey_alpha.png": (saved(Image.new("LA", SIZE, (0, 128)), "png"), (127, 127, 127)),
    "palette.png": (saved(plain().quantize(4), "png"), COLOUR),
    "palette_alpha.png": (saved(Image.new("RGBA", SIZE, (9, 9, 9, 0)).quantize(4), "png"), (255, 255, 255)),
    "palette_clear.gif": (saved(Image.new("P", SIZE, 0), "gif", transparency=0), (255, 255, 255)),
    "rgb_with_clear_colour.png": (saved(plain(), "png", transparency=COLOUR), (255, 255, 255)),
    "half_clear.png": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 128)), "png"), (127, 127, 127)),
    "half_clear.webp": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 128)), "webp", lossless=True), (127, 127, 127)),
    "half_clear.tif": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 128)), "tiff"), (127, 127, 127)),
    "half_clear.avif": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 128)), "avif"), (127, 127, 127)),
    "cmyk.jpg": (saved(plain("CMYK"), "jpeg", quality=100), COLOUR),
    "cmyk.tif": (saved(plain("CMYK"), "tiff"), COLOUR),
    # Compressed: Pillow 12 writes others that it cannot read.
    "ycc.tif": (saved(plain("YCbCr"), "tiff", compression="tiff_lzw"), COLOUR),
    "lab.tif": (saved(Image.new("LAB", SIZE, (128, 128, 128)), "tiff"), (119, 119, 119)),
    "deep.png": (saved(Image.fromarray(np.full((32, 40), 32_768, np.uint16)), "png"), (128, 128, 128)),
    "deep_colours.png": (png(32, 32, 16, 2, (b"\0" + b"\xc8\xc8\x64\x64\x32\x32" * 32) * 32), COLOUR),
    "deep_alpha.png": (png(32, 32, 16, 6, (b"\0" + b"\0" * 8 * 32) * 32), (255, 255, 255)),
    "deep_grey_alpha.png": (png(32, 32, 16, 4, (b"\0" + b"\x80\x80\xff\xff" * 32) * 32), (128, 128, 128)),
    "float.tif": (saved(Image.fromarray(np.full((32, 40), 0.5, np.float32)), "tiff"), (128, 128, 128)),
    "two_bit.png": (png(32, 32, 2, 0, (b"\0" + b"\xaa" * 8) * 32), (170, 170, 170)),
    # Files that say odd things of themselves.
    **{f"turned_{i}.jpg": (saved(plain(), "jpeg", quality=95, exif=exif(i)), COLOUR) for i in (0, 1, 3, 6, 8, 99)},
    "bad_exif.jpg": (saved(plain(), "jpeg", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), COLOUR),
    "bad_profile.png": (saved(plain(), "png", icc_profile=b"no profile"), COLOUR),
    "profile_of_other_colours.png": (saved(plain(), "png", icc_profile=lab_profile()), COLOUR),
    "comments.png": (saved(plain(), "png", pnginfo=png_info()), COLOUR),
    "animated.gif": (animated("gif"), COLOUR),
    "animated.webp": (animated("webp", lossless=True), COLOUR),
    "animated.png": (animated("png"), COLOUR),
    "animated.avif": (animated("avif", quality=95), COLOUR),
    "pages.tif": (animated("tiff"), COLOUR),
    "gif_with_bad_second_frame.gif": (animated("gif")[:-12] + b"junk", COLOUR),
    "junk_after_the_end.jpg": (saved(plain(), "jpeg", quality=95) + b"junk" * 99, COLOUR),
    "junk_after_the_end.png": (saved(plain(), "png") + b"junk" * 99, COLOUR),
    "script_in_a_comment.jpg": (saved(plain(), "jpeg", quality=95, comment=b"<?php system('x') ?>"), COLOUR),
    "progressive.jpg": (saved(plain(), "jpeg", quality=95, progressive=True), COLOUR),
    "interlaced.gif": (saved(plain(), "gif", interlace=1), COLOUR),
    "big_tiff.tif": (saved(plain(), "tiff", big_tiff=True), COLOUR),
    "lzw.tif": (saved(plain(), "tiff", compression="tiff_lzw"), COLOUR),
    "jpeg_in.tif": (saved(plain(), "tiff", compression="jpeg", quality=95), COLOUR),
    "deflated.tif": (saved(plain(), "tiff", compression="tiff_adobe_deflate"), COLOUR),
    "strips.tif": (grey_tiff(), GREY),
    "a_circle_of_pages.tif": (patched(grey_tiff(), 8 + 2 + 12 * 9, struct.pack("<I", 8)), GREY),
    "a_circle_of_exif.tif": (grey_tiff(_34665=(4, 1, 8)), GREY),
    "a_circle_of_gps.tif": (grey_tiff(_34853=(4, 1, 8)), GREY),
    "two_in_one.mpo": (saved(plain(), "mpo", save_all=True, append_images=[plain()], quality=95), COLOUR),
    "very_wide.png": (saved(plain(size=(4000, 4)), "png"), COLOUR),
}
REFUSED = {
    "empty.jpg": (b"", "the file is empty"),
    "page_not_found.jpg": (b"<!DOCTYPE html><html>404</html>", "it is not an image"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is not an image"),
    "zeros.png": (b"\0" * 4096, "it is not an image"),
    "zip_called.png": (b"PK\x03\x04" + b"\0" * 100, "it is not an image"),
    "svg_called.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is not an image"),
    "pdf_called.jpg": (b"%PDF-1.7\n" + b"0" * 99, "it is not an image"),
    "eps_called.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is not an image"),
    "movie_called.jpg": (b"\0\0\0\x20ftypisom" + b"\0" * 99, "it is not an image"),
    "jpeg_xl.jpg": (b"\xff\x0a" + b"\0" * 99, "it is JPEG XL, which cannot be read"),
    "bad.tga": (b"\0" * 18, "damaged|cannot be read"),
    "cut.jpg": (JPEG[:900], "damaged"),
    "cut.png": (PNG[:900], "damaged"),
    "cut.webp": (saved(noise(), "webp")[:300], "damaged"),
    "cut.avif": (AVIF[:200], "damaged"),
    "cut.bmp": (BMP[:900], "damaged"),
    "cut.tif": (TIFF[:900], "damaged"),
    "cut.jp2": (saved(noise(), "JPEG2000")[:120], "damaged"),
    "header_only.jpg": (b"\xff\xd8\xff\xe0", "damaged"),
    "header_only.png": (PNG[:20], "damaged"),
    "header_only.gif": (b"GIF89a", "damaged"),
    "header_only.tif": (b"II*\0", "damaged"),
    "header_only.webp": (b"RIFF\x10\0\0\0WEBP", "damaged"),
    "bad_checksum.png": (patched(PNG, 29, b"\0\0\0\0"), "damaged"),
    "no_pixels.png": (png(32, 32), "damaged"),
    "one_pixel.png": (saved(plain(size=(1, 1)), "png"), "it is 1x1 pixels; at least 4 are needed"),
    "a_rule.gif": (saved(plain(size=(600, 1)), "gif"), "it is 600x1 pixels"),
    "nan.tif": (saved(Image.fromarray(np.full((32, 40), np.nan, np.float32)), "tiff"), "no numbers"),
    "infinite.tif": (saved(Image.fromarray(np.full((32, 40), np.inf, np.float32)), "tiff"), "no numbers"),
    "preview_of_a_raw.tif": (grey_tiff(_254=(4, 1, 1)), "only a preview"),
    "half_floats.tif": (grey_tiff(_258=(3, 1, 16), _339=(3, 1, 3)), "damaged TIFF, or one that cannot be read"),
    # Bombs.
    "claims.png": (png(60_000, 60_000), "claims .*more than 67,108,864"),
    "claims_all.png": (png(2**31 - 1, 2**31 - 1), "claims .*more than"),
    "claims.gif": (b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + GIF[13:], "claims"),
    "claims.bmp": (patched(BMP, 18, struct.pack("<ii", 50_000, 50_000)), "claims"),
    "claims.tif": (tiff(basic_tags(200_000, 200_000)), "claims"),
    "claims_a_tile.tif": (grey_tiff(_322=(4, 1, 100_000), _323=(4, 1, 100_000), _324=(4, 1, 200)), "claims 100000x"),
    "claims.qoi": (b"qoif" + struct.pack(">IIBB", 50_000, 50_000, 4, 0) + b"\0" * 99, "claims"),
    "claims.ppm": (b"P6 60000 60000 255\n", "claims"),
    "claims.tga": (struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65_535, 65_535, 24, 0), "claims"),
    "claims.jpg": (saved(plain(), "jpeg").replace(struct.pack(">HH", 32, 40), b"\xff\xdc\xff\xdc", 1), "claims"),
    "claims_inside.jp2": (lying_jp2(), "claims 60000x60000"),
    "many_strips.tif": (grey_tiff(_273=(4, 2**30, 200), _279=(4, 2**30, 200)), "damaged"),
    "text_bomb.png": (text_bomb, "damaged"),
    "many_texts.png": (many_texts, "damaged"),
    "deep_and_huge.png": (huge_deep_png, "claims 13300x13300 pixels, more than 67,108,864"),
}  # fmt: skip
EITHER = {"profile_bomb.png": profile_bomb}  # Pillow drops the profile, or refuses the file.
QUICK = ("text_bomb.png", "many_texts.png", "deep_and_huge.png")


def content(data):
    return data() if callable(data) else data


@pytest.mark.parametrize("name", READ)
def test_what_a_viewer_shows_is_read(name):
    data, colour = READ[name]
    found = decode(data, CropAndResize(8), name)
    assert np.abs(found.pixels[:, 4, 4].astype(int) - colour).max() <= 6
    assert found.frames == name.startswith(("animated", "pages", "gif_with_bad"))


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in QUICK])
def test_what_cannot_be_shown_says_why(name):
    data, reason = REFUSED[name]
    with pytest.raises(BadImageError, match=reason) as error:
        decode(content(data), CropAndResize(8), name)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_there_are_more_than_a_hundred():
    assert len(READ) + len(REFUSED) + len(EITHER) > 120


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_all_of_them_at_once_lose_no_image_in_silence(tmp_path, capsys, kind):
    """Those that are read are there, with their colours; each of the others is named with its reason."""
    files = READ | {name: pair for name, pair in REFUSED.items() if name not in QUICK}
    path = tmp_path / "all"
    path.mkdir()
    for name, (data, _) in files.items():
        (path / name).write_bytes(content(data))
    if kind == "zip":
        path = tmp_path / "all.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, (data, _) in files.items():
                archive.writestr(name, content(data))
    # bad.tga is of an image's suffix, and so are all that are refused.
    config = DataConfig(
        name="folder", path=str(path), size=8, on_bad_image="skip", split="fractions", fractions=(1.0, 0.0, 0.0)
    )
    data = load_split(config, "train")
    assert sorted(data.files) == sorted(READ)
    for name, image in zip(data.files, data.images, strict=True):
        assert np.abs(image[:, 4, 4].numpy().astype(int) - READ[name][1]).max() <= 6, name
    assert f"{len(files) - len(READ)} of {len(files)} files in" in capsys.readouterr().out
    with pytest.raises(DataError, match="cannot be used"):
        load_split(DataConfig(name="folder", path=str(path), size=8), "train")


# Memory. Each runs in a process of its own, whose peak is measured.

SCRIPT = """
import json, os, sys
from pathlib import Path
from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.data.decode import DECODING
from latentdiff.errors import DataError
from latentdiff.evaluation.image_files import read_images

def memory(kind):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(kind))

path, threads, before = sys.argv[1], int(sys.argv[2]), memory("VmRSS")
os.cpu_count = lambda: threads
DECODING.total = 512 * 1024**2
try:
    if path.endswith(("npz", "npy")):
        message = str([*read_images(Path(path), (3, 32, 32))[0].shape])
    else:
        config = DataConfig(name="folder", path=path, size=8, fractions=(1.0, 0.0, 0.0))
        message = str(len(load_split(config, "train")))
except DataError as error:
    message = str(error)
# Not getrusage: its peak is that of the process that started this one, where that was larger.
print(json.dumps([message, memory("VmHWM"), memory("VmHWM") - before]))
"""
MOST = 1000  # MiB
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux counts it")


def peak(path, tmp_path, threads=4):
    """What loading ``path`` says, and how many MiB of memory it took at its peak, beside what was imported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(threads)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    message, memory, taken = json.loads(result.stdout.splitlines()[-1])
    if threads == 4:
        assert memory < MOST, f"{memory:.0f} MiB: {message}"
    return message, taken


def deflated(size):
    """Zeros, deflated without a header as in a zip, and their checksum."""
    packer, checksum = zlib.compressobj(9, zlib.DEFLATED, -15), 0
    pieces, piece = [], bytes(1 << 24)
    for start in range(0, size, len(piece)):
        part = piece[: size - start]
        pieces.append(packer.compress(part))
        checksum = zlib.crc32(part, checksum)
    return b"".join([*pieces, packer.flush()]), checksum


def raw_zip(path, name, data, stated, checksum=0, method=8, packed=None):
    """A zip of one entry whose directory says what it is told to; the rest of ``packed`` bytes is a hole."""
    packed = len(data) if packed is None else packed
    name = name.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, checksum, packed, stated, len(name), 0)
    with open(path, "wb") as file:
        file.write(b"PK\3\4" + fields + name + data)
        file.seek(packed - len(data), os.SEEK_CUR)
        place = file.tell()
        entry = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
        file.write(entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), place, 0))
    return path


@linux
@pytest.mark.slow
def test_bombs_in_zips_are_refused_from_the_directory_or_while_they_are_unpacked(tmp_path):
    data, checksum = deflated(2_500_000_000)
    assert len(data) < 2_600_000
    honest = raw_zip(tmp_path / "honest.zip", "a.png", data, 2_500_000_000, checksum)
    assert "a.png: it has 2,500,000,000 bytes; at most 268,435,456 are read" in peak(honest, tmp_path)[0]
    lying = raw_zip(tmp_path / "lying.zip", "a.png", data, 10, checksum)
    assert "a.png: it cannot be read: Bad CRC" in peak(lying, tmp_path)[0]
    nearly = raw_zip(tmp_path / "nearly.zip", "a.png", data, 268_435_456, checksum)
    assert "a.png: it cannot be read: Bad CRC" in peak(nearly, tmp_path)[0]
    stored = raw_zip(tmp_path / "stored.zip", "a.png", PNG, 3_000_000_000, method=0, packed=3_000_000_000)
    assert "a.png: it has 3,000,000,000 bytes" in peak(stored, tmp_path)[0]
    hidden = raw_zip(tmp_path / "hidden.zip", "a.dat", PNG, 3_000_000_000, method=0, packed=3_000_000_000)
    assert "a.dat: it has 3,000,000,000 bytes" in peak(hidden, tmp_path)[0]
    unknown = raw_zip(tmp_path / "unknown.zip", "a.dat", data, 2_500_000_000, checksum)
    assert "left out: 1 .dat" in peak(unknown, tmp_path)[0]


@linux
@pytest.mark.slow
def test_a_huge_file_in_a_folder_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "images").mkdir()
    with open(tmp_path / "images" / "a.png", "wb") as file:
        file.write(PNG)
        file.truncate(3_000_000_000)
    assert "a.png: it has 3,000,000,000 bytes" in peak(tmp_path / "images", tmp_path)[0]


@linux
@pytest.mark.slow
def test_bombs_that_are_images_are_refused_from_their_headers(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in QUICK:
        (folder / name).write_bytes(content(REFUSED[name][0]))
    (folder / "profile_bomb.png").write_bytes(profile_bomb())
    for name, (data, _) in REFUSED.items():
        if name.startswith("claims"):
            (folder / name).write_bytes(content(data))
    message, _ = peak(folder, tmp_path)
    assert (folder / "deep_and_huge.png").stat().st_size < 1_600_000
    assert "deep_and_huge.png: it claims 13300x13300 pixels" in message
    assert "text_bomb.png: it is damaged" in message


@linux
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "progressive", "deep"])
def test_threads_share_one_budget(tmp_path, mode):
    """Eight images of 60 million pixels in eight threads."""
    folder = tmp_path / "images"
    folder.mkdir()
    side = 7_750
    if mode == "deep":
        data = huge_deep_png(side)
    elif mode == "progressive":
        data = saved(Image.new("RGB", (side, side), COLOUR), "jpeg", progressive=True)
    else:
        data = saved(Image.new(mode, (side, side)), "png", compress_level=1)
    for index in range(8):
        (folder / f"{index}.png").write_bytes(data)
    message, memory = peak(folder, tmp_path, threads=8)
    assert message == "8" or "less than an eighth" in message
    assert memory < 512 + 64, f"{memory:.0f} MiB"


def npy_header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


@linux
@pytest.mark.slow
def test_arrays_that_claim_more_than_they_hold_are_refused(tmp_path):
    header = npy_header((10**12, 32, 32, 3))
    (tmp_path / "claims.npy").write_bytes(header)
    assert "does not fit into the 128 bytes" in peak(tmp_path / "claims.npy", tmp_path)[0]
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        archive.writestr("arr_0.npy", header + bytes(3072))
    assert "does not fit into the 3,200 bytes" in peak(tmp_path / "claims.npz", tmp_path)[0]
    # An honest header over zeros: 2.4 GB in 2.4 MB.
    count = 2_400_000_000 // 3072
    packer, piece = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(3072 * 1000)
    header = npy_header((count, 32, 32, 3))
    data = packer.compress(header) + b"".join(
        packer.compress(piece if start + 1000 <= count else piece[: 3072 * (count - start)])
        for start in range(0, count, 1000)
    )
    path = raw_zip(tmp_path / "zeros.npz", "arr_0.npy", data + packer.flush(), len(header) + count * 3072)
    assert "no images are packed so tightly" in peak(path, tmp_path)[0]


def test_names_that_lead_out_and_folders_without_end(tmp_path):
    good = saved(plain(), "png")
    path = tmp_path / "deep.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../" * 50 + "etc/evil.png", good)
        archive.writestr("a/" * 20_000 + "1.png", good)
        archive.writestr("a/" * 20_000 + "2.png", good)
    config = DataConfig(name="folder", path=str(path), size=8, fractions=(1.0, 0.0, 0.0), on_bad_image="skip")
    assert len(load_split(config, "train")) == 2
    assert not list(tmp_path.parent.rglob("evil.png"))
    folders = [tmp_path / "deep"]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
    for folder in folders:
        folder.mkdir()
    (folders[-1] / "1.png").write_bytes(good)
    config = DataConfig(name="folder", path=str(folders[0]), size=8, fractions=(1.0, 0.0, 0.0))
    assert len(load_split(config, "train")) == 1
    (folders[-1] / "1.png").unlink()  # pytest would remove them one inside the other
    for folder in reversed(folders):
        folder.rmdir()


@pytest.mark.skipif(not can_read_heic(), reason="pillow-heif is not installed")
def test_heic_is_read_where_its_extra_is_installed():
    data = saved(plain(), "heif", quality=95)
    for name in ("photo.heic", "photo.jpg", "no_suffix"):
        assert np.abs(decode(data, CropAndResize(8), name).pixels[:, 4, 4].astype(int) - COLOUR).max() <= 6
