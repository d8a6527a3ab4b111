"""MNIST in a faithful miniature of torchvision's layout."""

from __future__ import annotations

import gzip
import struct

import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.data.idx import FILES
from latentdiff.data.mnist import MNIST
from latentdiff.errors import DataError


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.numpy().tobytes()


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """Plain training files, gzipped test files."""
    pixels = {}
    for split, n in (("train", 30), ("test", 20)):
        monkeypatch.setitem(MNIST.counts, split, n)
        pixels[split] = torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8)
        for name, array in zip(FILES[split], (pixels[split], (torch.arange(n) % 10).to(torch.uint8)), strict=True):
            path = tmp_path / MNIST.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if split == "train":
                path.write_bytes(idx(array))
            else:
                path.with_name(f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path, pixels


def test_both_splits_are_read(small_set):
    root, pixels = small_set
    for split in ("train", "test"):
        data = load_split(DataConfig(name="mnist", root=str(root)), split)
        assert torch.equal(data.images[:, 0], pixels[split])
        assert (data.class_names[3], data.labels[13]) == ("3", 3)


def test_a_truncated_file_is_named(small_set):
    root, _ = small_set
    path = root / MNIST.folder / FILES["train"][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=FILES["train"][0]):
        load_split(DataConfig(name="mnist", root=str(root)), "train")
