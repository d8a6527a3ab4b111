"""Downsampled ImageNet: files of npz, as image-net.org has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.errors import DataError


def test_batches_become_the_training_images_pixel_for_pixel(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "imagenet-64"
    folder.mkdir()
    made = {}
    for name, count, save in (("train_data_batch_1", 5, np.savez), ("train_data_batch_10", 3, np.savez_compressed)):
        made[name] = generator.integers(0, 256, (count, 3 * 16 * 16), dtype=np.uint8)
        save(folder / f"{name}.npz", data=made[name], labels=np.arange(count) + 1, mean=np.zeros(3))
    val = generator.integers(0, 256, (2, 3 * 16 * 16), dtype=np.uint8)
    np.savez(folder / "val_data.npz", data=val, labels=[7, 1])
    config = DataConfig(name="imagenet-64", root=str(tmp_path), size=16, cache_folder=str(tmp_path / "cache"))
    train = load_split(config, "train")
    assert torch.equal(train.images.flatten(1), torch.from_numpy(np.concatenate(list(made.values()))))
    assert (train.class_names, train.labels.tolist()) == (("1", "2", "3", "4", "5", "7"), [0, 1, 2, 3, 4, 0, 1, 2])
    held_out = load_split(config, "val")
    assert torch.equal(held_out.images.flatten(1), torch.from_numpy(val))
    assert held_out.labels.tolist() == [5, 0]
    np.savez(folder / "val_data.npz", data=val, labels=[7])
    with pytest.raises(DataError, match=r"val_data.npz is no file of downsampled ImageNet: there are 1 labels for 2"):
        load_split(config, "train")
    np.savez(folder / "val_data.npz", data=np.zeros((2, 100), np.uint8), labels=[7, 1])
    with pytest.raises(DataError, match=r"data is uint8 \[2, 100\]"):
        load_split(config, "train")
