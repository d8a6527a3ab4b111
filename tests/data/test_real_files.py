"""The data sets from their real files, where these are on this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import load_split, open_files
from latentdiff.data.duplicates import digest_files, find_duplicates
from latentdiff.errors import DataError

REAL = Path(os.environ.get("LATENTDIFF_DATA", "data")).resolve()
real = {
    name: pytest.mark.skipif(not (REAL / place).exists(), reason=f"{name} is not on this machine")
    for name, place in {
        "mnist": "MNIST/raw",
        "cifar-10": "cifar-10/train",
        "flowers-102": "flowers-102/setid.mat",
        "celeba": "celeba/img_align_celeba",
    }.items()
}


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@real["mnist"]
def test_real_mnist():
    train, test = (load_split(DataConfig(name="mnist", root=str(REAL)), split) for split in ("train", "test"))
    assert (len(train), len(test), train.image_shape, train.num_classes) == (60_000, 10_000, (1, 28, 28), 10)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@real["cifar-10"]
def test_real_cifar(real_cache):
    data = load_split(DataConfig(name="cifar-10", root=str(REAL), cache_folder=real_cache), "test")
    assert (len(data), data.image_shape) == (10_000, (3, 32, 32))
    assert torch.bincount(data.labels).tolist() == [1000] * 10


@real["flowers-102"]
def test_real_flowers_hold_four_equal_pairs(real_cache):
    settings = DataConfig(name="flowers-102", root=str(REAL), cache_folder=real_cache)
    splits = [load_split(settings, split) for split in ("train", "val", "test")]
    digests = digest_files(open_files(settings), [name for data in splits for name in data.files])
    assert find_duplicates([data.images for data in splits], digests, threshold=0.0).total("file") == 4


@real["flowers-102"]
def test_real_flowers_pooled_and_official(real_cache):
    splits = {}
    for rule, sizes in (("default", (6551, 819, 819)), ("official", (1020, 1020, 6149))):
        settings = DataConfig(name="flowers-102", root=str(REAL), split=rule, cache_folder=real_cache)
        splits[rule] = [load_split(settings, split) for split in ("train", "val", "test")]
        assert tuple(len(data) for data in splits[rule]) == sizes
    # Released models rely on these very splits.
    names = ["\n".join(data.files).encode() for data in splits["default"]]
    digests = [hashlib.sha256(text).hexdigest()[:16] for text in names]
    assert digests == ["f0192c96fad07799", "7fbc7259e515f08c", "9d41c0af07844469"]
    train = splits["default"][0]
    assert (train.image_shape, train.num_classes, train.class_names[0]) == ((3, 64, 64), 102, "pink primrose")
    assert torch.bincount(splits["official"][0].labels).tolist() == [10] * 102
    # Every class is shared out alike, to within an image.
    counts = torch.stack([torch.bincount(data.labels, minlength=102) for data in splits["default"]])
    assert (counts[0] - 0.8 * counts.sum(0)).abs().max() <= 1.5


@real["celeba"]
def test_real_celeba_has_no_classes(real_cache, monkeypatch):
    train = load_split(DataConfig(name="celeba", root=str(REAL), cache_folder=real_cache), "train")
    assert (len(train), train.image_shape, train.num_classes) == (8000, (3, 64, 64), 0)
    # A later start is quick because nothing is decoded again.
    monkeypatch.setattr("latentdiff.data.image_cache.decode", None)
    again = load_split(DataConfig(name="celeba", root=str(REAL), cache_folder=real_cache), "train")
    assert again.fingerprint == train.fingerprint
    with pytest.raises(DataError, match="list_attr_celeba"):
        load_split(DataConfig(name="celeba", root=str(REAL), classes="Smiling", cache_folder=real_cache), "train")
