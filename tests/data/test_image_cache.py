from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import image_cache, load_split
from latentdiff.data.decode import CropAndResize
from latentdiff.data.file_list import FileList
from latentdiff.data.files import open_files
from latentdiff.errors import DataError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{index:02d}.png")
    return path


EIGHT = CropAndResize(8)
NO_MEMORY = "there is not enough memory to decode it"


def cached(folder, square=EIGHT):
    return image_cache.cached_images(
        FileList.without_labels("folder", open_files(folder)), square, folder.parent / "cache"
    )


def test_second_start_decodes_nothing(folder, monkeypatch):
    first, _ = cached(folder)
    monkeypatch.setattr(image_cache, "decode", None)
    again, kept = cached(folder)
    assert torch.equal(first, again)
    assert kept.tolist() == list(range(12))
    again[:] = 0  # a tensor may be written to, its file is not
    assert torch.equal(first, cached(folder)[0])


def test_cache_depends_on_files_and_square(folder):
    cached(folder)
    for square in (
        CropAndResize(9),
        CropAndResize(8, grey=True),
        CropAndResize(8, crop="random"),
        CropAndResize(8, crop="random", seed=1),
    ):
        cached(folder, square)
    assert len(list((folder.parent / "cache").iterdir())) == 5
    Image.new("RGB", (20, 20), "red").save(folder / "00.png")
    assert cached(folder)[0][0, :, 4, 4].tolist() == [255, 0, 0]
    (folder / "11.png").unlink()
    assert len(cached(folder)[0]) == 11


@pytest.mark.parametrize("name", ["images.bin", "kept.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damaged_cache_is_told_and_made_again(folder, name, damage, capsys):
    before = cached(folder)[0].clone()
    (path,) = (folder.parent / "cache").glob(f"*/{name}")
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-9 if name == "kept.npy" else len(content) // 2] ^= 0xFF
        path.write_bytes(content[:-3] if damage == "cut" else content)
    after, kept = cached(folder)
    assert torch.equal(before, after)
    assert kept.tolist() == list(range(12))


def test_a_decoder_that_is_stopped_leaves_no_cache(folder, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_cache, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        cached(folder)
    assert not list((folder.parent / "cache").iterdir())


def test_squares_are_cut_from_the_middle_or_a_seeded_place():
    center, random = CropAndResize(8), CropAndResize(8, crop="random")
    assert center.crop_box(30, 20, "a") == (5, 0, 25, 20)
    assert center.crop_box(20, 31, "a") == (0, 5, 20, 25)
    boxes = {random.crop_box(30, 20, str(i))[0] for i in range(200)}
    assert boxes == set(range(11))
    assert random.crop_box(30, 20, "a") == random.crop_box(30, 20, "a")
    assert {CropAndResize(8, crop="random", seed=i).crop_box(30, 20, "a")[0] for i in range(50)} != {5}


def test_resizing_averages_over_what_it_leaves_out():
    """A fine checkerboard shrinks to grey; without antialiasing it would stay black and white."""
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    assert np.abs(CropAndResize(16, grey=True)(board).astype(int) - 127).max() <= 3


SCRIPT = """
import sys, numpy as np, torch
from pathlib import Path
from latentdiff.data import image_cache
from latentdiff.data.decode import CropAndResize, DecodedImage
from latentdiff.data.files import Files
from latentdiff.data.file_list import FileList

class Faces(Files):
    path, refused = Path("synthetic"), ()
    images = tuple(f"{i:06d}.jpg" for i in range(int(sys.argv[1])))
    def read(self, name, limit=None):
        return name.encode()
    def open(self, name):
        raise NotImplementedError
    def stamp(self, name):
        return 1, 2

def own_memory():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))

def one(content, square, name, rules):
    if int(name[:6]) % 1000 == 0:
        peaks.append(own_memory())
    return DecodedImage(np.full(square.shape, int(name[:6]) % 251, np.uint8))

image_cache.decode = one
listing, peaks = FileList.without_labels("celeba", Faces()), [own_memory()]
images, kept = image_cache.cached_images(listing, CropAndResize(64), Path("cache"))
assert [int(images[i, 0, 0, 0]) for i in (0, 5, len(images) - 1)] == [0, 5, (len(images) - 1) % 251]
total = sum(int(chunk.sum()) for chunk in images.split(10_000))  # every page is read
peaks.append(own_memory())
print(images.numel() / 2**30, max(peaks) - peaks[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's own memory as Linux counts it")
def test_all_of_celeba_is_cached_and_read_without_holding_it(tmp_path):
    """202,599 squares of 64 pixels are 2.3 GiB; only pages of the file itself are held, which the system can drop."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, "202599"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
    size, held = map(float, result.stdout.split())
    assert size > 2.3
    assert held < 200, f"{held:.0f} MiB of memory of its own"


def test_mapped_images_are_an_ordinary_data_set(folder):
    config = DataConfig(name="folder", path=str(folder), size=8, fractions=(0.5, 0.25, 0.25))
    splits = {split: load_split(config, split) for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert splits["train"].image_shape == (3, 8, 8)
    assert len({data.fingerprint for data in splits.values()}) == 3


def test_a_cache_that_cannot_be_written_is_one_sentence(folder):
    place = folder.parent / "cache"
    place.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be kept in .*cache: .*--data\.cache_folder"):
        cached(folder)


def test_the_cache_folder_may_begin_with_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent / "home"))
    load_split(DataConfig(name="folder", path=str(folder), size=8, cache_folder="~/cache"), "train")
    assert list((folder.parent / "home" / "cache").iterdir())


def test_unreadable_cache_folder_is_an_error_not_a_loss(folder, monkeypatch):
    monkeypatch.setattr(image_cache, "_read_cache", lambda *_: None)
    with pytest.raises(DataError, match="cannot be read back"):
        cached(folder)


def test_a_file_is_tried_again_once_what_it_needed_may_be_there(folder):
    files = FileList.without_labels("folder", open_files(folder))
    (folder / "11.png").write_bytes(b"no image")
    reason = "it is HEIC, which needs pip install pillow-heif"
    assert image_cache._is_readable_again(files, [["00.png", reason]], image_cache.ReadingRules())
    assert not image_cache._is_readable_again(files, [["11.png", reason]], image_cache.ReadingRules())
    assert not image_cache._is_readable_again(files, [["00.png", "it is damaged"]], image_cache.ReadingRules())


def test_another_seed_decodes_centred_crops_only_once(folder, monkeypatch):
    settings = {"name": "folder", "path": str(folder), "size": 8, "cache_folder": str(folder.parent / "cache")}
    load_split(DataConfig(**settings), "train")
    monkeypatch.setattr(image_cache, "decode", lambda *_: pytest.fail("decoded again"))
    load_split(DataConfig(**settings, split_seed=1), "train")


def test_images_that_found_no_memory_are_decoded_by_the_next_call(folder, monkeypatch):
    decode = image_cache.decode
    monkeypatch.setattr(image_cache, "decode", lambda *_: (_ for _ in ()).throw(image_cache.BadImageError(NO_MEMORY)))
    with pytest.raises(DataError, match=NO_MEMORY):
        cached(folder)
    monkeypatch.setattr(image_cache, "decode", decode)
    images, _ = cached(folder)
    assert len(images) == 12
