"""CIFAR-10 in torchvision's layout and as a folder of images."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from latentdiff.data import cifar_10, load_split
from latentdiff.errors import DataError


def test_cifar_in_torchvisions_layout_and_as_folders(tmp_path, monkeypatch, draw, config):
    folder = tmp_path / "t" / cifar_10.BATCHES
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, 3, 4, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar_10.CLASS_NAMES)}))
    with pytest.raises(DataError, match="is damaged"):  # by its checksums, this is not CIFAR-10
        load_split(config(tmp_path / "t", "cifar-10"), "train")
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    train = load_split(config(tmp_path / "t", "cifar-10"), "train")
    assert (len(train), train.image_shape) == (30, (3, 32, 32))
    assert np.array_equal(train.images[1].numpy().ravel(), rows[1])
    for split in ("train", "test"):
        for index, name in enumerate(("cat", "dog")):
            draw(tmp_path / "f" / "cifar-10" / split / name / "0.png", index, (32, 32))
    test = load_split(config(tmp_path / "f", "cifar-10"), "test")
    assert (test.labels.tolist(), test.image_shape) == ([3, 5], (3, 32, 32))
