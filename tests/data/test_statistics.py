from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import ImageDataset
from latentdiff.data.decode import open_image
from latentdiff.data.files import JoinedFiles, open_files
from latentdiff.data.statistics import class_counts, describe_sizes, mean_image, read_sizes
from latentdiff.errors import DataError


def jpeg(width, height, orientation=None):
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (width, height), "teal").save(buffer, "jpeg", exif=exif)
    return buffer.getvalue()


def test_sizes_are_read_from_a_directory_and_a_zip_as_the_images_are_shown(tmp_path):
    contents = {"wide.jpg": jpeg(40, 20), "turned.jpg": jpeg(40, 20, 6), "upside-down.jpg": jpeg(40, 20, 3)}
    (tmp_path / "images").mkdir()
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, content in contents.items():
            (tmp_path / "images" / name).write_bytes(content)
            archive.writestr(name, content)
    for path in ("images", "images.zip"):
        sizes = read_sizes(open_files(tmp_path / path), contents)
        assert sizes.tolist() == [[40, 20], [20, 40], [40, 20]]


def test_only_the_header_is_decoded(tmp_path, monkeypatch):
    """The pixels are cut off, and a size is still there; without a header it is an error that names the file."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for kind in ("png", "jpg"):
        Image.fromarray(noise).save(tmp_path / f"a.{kind}")
        content = (tmp_path / f"a.{kind}").read_bytes()
        (tmp_path / f"a.{kind}").write_bytes(content[: len(content) // 2])
        assert read_sizes(open_files(tmp_path), [f"a.{kind}"]).tolist() == [[48, 64]]
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.png"):
        read_sizes(open_files(tmp_path), ["a.png"])


@pytest.mark.parametrize(("orientation", "size"), [(1, [40, 20]), (4, [40, 20]), (8, [20, 40]), (99, [40, 20])])
def test_sizes_are_turned_as_the_pixels_are(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_sizes(open_files(tmp_path), ["a.jpg"]).tolist() == [size]
    assert list(open_image((tmp_path / "a.jpg").read_bytes())[0].size) == size


def test_sizes_of_joined_data_sets_are_found_by_their_names(tmp_path):
    for name, size in (("one", (30, 20)), ("two", (20, 50))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "a.png")
    joined = JoinedFiles({name: open_files(tmp_path / name) for name in ("one", "two")})
    assert joined.images == ("one/a.png", "two/a.png")
    assert read_sizes(joined, joined.images).tolist() == [[30, 20], [20, 50]]
    assert joined.read("two/a.png") == (tmp_path / "two" / "a.png").read_bytes()


def test_sizes_are_summed_up():
    found = describe_sizes(np.array([[100, 50], [50, 100], [80, 80], [100, 40]]))
    assert found["width"] == {"minimum": 50, "median": 90.0, "maximum": 100}
    assert found["height"] == {"minimum": 40, "median": 65.0, "maximum": 100}
    assert (found["portrait"], found["landscape"], found["square"]) == (0.25, 0.5, 0.25)
    # 50x50 of 100x50, 50x50 of 50x100, all of 80x80, 40x40 of 100x40
    assert found["kept_area"] == pytest.approx({"mean": (0.5 + 0.5 + 1 + 0.4) / 4, "minimum": 0.4})


def test_classes_are_counted_the_empty_ones_too():
    images = torch.zeros(4, 1, 4, 4, dtype=torch.uint8)
    data = ImageDataset(images, torch.tensor([0, 2, 2, 0]), "x", "train", "full", ("a", "b", "c", "d"))
    assert class_counts(data) == [2, 0, 2, 0]
    assert class_counts(ImageDataset(images, torch.zeros(4, dtype=torch.int64), "x", "train", "full", ())) == []


def test_mean_image_is_the_mean_whatever_the_chunks(monkeypatch):
    images = torch.randint(0, 256, (2500, 3, 5, 4), dtype=torch.uint8)
    expected = np.rint(images.numpy().astype(np.float64).mean(0))
    assert np.array_equal(mean_image(images).numpy(), expected)
