"""A user's folder as it grows, moves and is renamed: which image is in which split."""

from __future__ import annotations

import random
import shutil
import zipfile
from pathlib import Path

import pytest

from latentdiff.config import DataConfig
from latentdiff.data import DatasetSplits, NoSplitError, load_split
from latentdiff.data.content import content_digests
from latentdiff.data.files import open_files


@pytest.fixture
def own(tmp_path):
    """Writes a folder of images of two classes in one folder; each image is a few bytes of its own."""

    def write(count, classes=("cat", "dog"), start=0):
        for index in range(start, start + count):
            path = tmp_path / "own" / classes[index % len(classes)] / f"{index:04d}.ppm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"P6 4 4 255\n" + random.Random(index).randbytes(48))
        return tmp_path / "own"

    return write


def splits_of(path, cache, by_name=True, **settings):
    """The split of each image: by its name, or by its pixels and class."""
    config = DataConfig(name="folder", path=str(path), size=4, cache_folder=str(cache), **settings)
    found = {}
    for split in ("train", "val", "test"):
        try:
            data = load_split(config, split)
        except NoSplitError:
            continue
        for name, image in zip(data.files, data.images, strict=True):
            found[name if by_name else image.numpy().tobytes()] = split
    return found


@pytest.mark.parametrize(("count", "seeds"), [(10, 8), (100, 4), (1000, 1)])
def test_an_image_that_is_added_or_removed_moves_no_other(own, tmp_path, count, seeds):
    path = own(count)
    before = {seed: splits_of(path, tmp_path / "cache", split_seed=seed) for seed in range(seeds)}
    own(1, ("ant",), start=count)  # also a new class, and first in order
    for seed, splits in before.items():
        after = splits_of(path, tmp_path / "cache", split_seed=seed)
        assert len(splits) == count
        assert len(after) == count + 1
        assert splits.items() <= after.items()
    shutil.rmtree(path / "ant")
    removed = next(iter(before[0]))
    (path / removed).unlink()
    after = splits_of(path, tmp_path / "cache")
    assert before[0].items() - after.items() == {(removed, before[0][removed])}


def test_new_names_new_folders_and_a_zip_leave_the_split_as_it_is(own, tmp_path):
    path = own(60)
    before = splits_of(path, tmp_path / "cache", by_name=False)
    assert len(set(before.values())) == 3
    for file in path.rglob("*.ppm"):
        file.rename(file.with_name(f"renamed-{file.name}"))
    (path / "cat").rename(path / "zebra")
    moved = tmp_path / "elsewhere" / "pictures"
    moved.parent.mkdir()
    path.rename(moved)
    assert splits_of(moved, tmp_path / "cache", by_name=False) == before
    archive = tmp_path / "own.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in moved.rglob("*.ppm"):
            file.write(name, Path("pictures") / name.relative_to(moved))
    assert splits_of(archive, tmp_path / "cache", by_name=False) == before


def test_copies_of_an_image_are_in_its_split_and_move_no_other(own, tmp_path):
    path = own(40)
    before = splits_of(path, tmp_path / "cache")
    for file in sorted(path.rglob("*.ppm")):
        shutil.copy(file, file.with_name(f"a copy of {file.name}"))
    after = splits_of(path, tmp_path / "cache")
    assert before.items() <= after.items()
    for name, split in before.items():
        folder, file = name.split("/")
        assert after[f"{folder}/a copy of {file}"] == split


def test_a_limit_of_training_images_exchanges_at_most_one(own, tmp_path):
    path = own(60)
    config = DataConfig(
        name="folder", path=str(path), size=4, cache_folder=str(tmp_path / "cache"), max_train_images=20
    )
    before = set(load_split(config, "train").files)
    own(1, start=60)
    after = set(load_split(config, "train").files)
    assert len(before) == len(after) == 20
    assert len(before - after) <= 1


def test_an_empty_split_says_which_setting_fills_it(own, tmp_path):
    path = own(4)
    config = DataConfig(name="folder", path=str(path), size=4, cache_folder=str(tmp_path / "cache"))
    message = "no val split: none of its 4 images falls into its 10 % by seed 0"
    with pytest.raises(NoSplitError, match=message) as refused:
        load_split(config, "val")
    seed = int(str(refused.value).partition("--data.split_seed ")[2].partition(",")[0])
    good = DatasetSplits(DataConfig(**{**config.to_kwargs(), "split_seed": seed}))
    assert min(len(good.train), len(good.val), len(good.test)) >= 1


def test_digests_are_kept_and_those_that_are_damaged_are_made_again(own, tmp_path, monkeypatch):
    path, cache = own(5), tmp_path / "cache"
    files = open_files(path)
    first = content_digests(files, files.images, cache)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(type(files), "read", lambda *_: pytest.fail("the files are read again"))
        assert content_digests(files, files.images, cache).equal(first)
    whole = kept.read_bytes()
    for place in (len(whole) - 3, 20):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        kept.write_bytes(damaged)
        assert content_digests(files, files.images, cache).equal(first)
        assert kept.read_bytes() == whole
