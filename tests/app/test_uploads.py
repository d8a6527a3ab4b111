"""An upload becomes an image of the model's shape, or is refused in one line, without the memory that it asks for."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdiff.app.uploads import read_upload
from latentdiff.errors import DataError

LIMIT = 1_000_000


def bomb(width, height):
    """A PNG of a few bytes that claims to have so many pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("mode", "name"), [("RGB", "a.jpg"), ("L", "b.png"), ("RGBA", "c.webp"), ("P", "d.gif")])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_an_image_of_any_kind_gets_the_models_shape(png, shape, mode, name):
    image = read_upload(png(name, (120, 90), mode), shape, LIMIT)
    assert (tuple(image.shape), str(image.dtype)) == ((1, *shape), "torch.uint8")
    assert image.float().std() > 5


def test_its_name_does_not_matter(tmp_path, png):
    renamed = Path(png()).rename(tmp_path / "photo.txt")
    assert read_upload(renamed, (3, 8, 8), LIMIT).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not an image", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "cannot be used"),
        (b"GIF89a" + b"\xff" * 40, "cannot be used"),
        (bomb(60_000, 60_000), "more than 50,000,000"),
        (bomb(200, 200), "cannot be used"),
        (b"\xff\xd8\xff" + b"x" * LIMIT, "larger than 1 MB"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, content, words):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_upload(tmp_path / "bad.png", (3, 64, 64), LIMIT)
    assert "\n" not in str(error.value)
    assert "--" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((40, 40), 4095, np.uint16), "16-bit values from 4095 to 4095, less than an eighth of 0 to 65535"),
        (np.eye(40, dtype=np.uint8), "only the 8-bit values 0 and 1"),
    ],
)
def test_values_whose_white_is_unclear_are_refused(tmp_path, image, words):
    Image.fromarray(image).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=words) as error:
        read_upload(tmp_path / "deep.png", (1, 28, 28), LIMIT)
    assert "--" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_photograph_is_refused(tmp_path, png):
    content = Path(png("a.jpg", (400, 300))).read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_upload(tmp_path / "half.jpg", (3, 64, 64), LIMIT)


def test_what_is_gone_or_does_not_fit_is_said(tmp_path, png):
    with pytest.raises(DataError, match="upload it again"):
        read_upload(tmp_path / "gone.png", (3, 8, 8), LIMIT)
    with pytest.raises(DataError, match="becomes a square"):
        read_upload(png(), (3, 8, 12), LIMIT)


def test_pillow_keeps_its_own_limit(tmp_path):
    (tmp_path / "bad.png").write_bytes(bomb(60_000, 60_000))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError):
        read_upload(tmp_path / "bad.png", (3, 64, 64), LIMIT)
    assert before == Image.MAX_IMAGE_PIXELS
