from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import load_dataset
from latentdiff.errors import ConfigError, LatentdiffError
from latentdiff.evaluation.evaluation_record import other_split_warnings

EMBEDDED = {"source": "embedded", "val_images": 1000}


def test_training_images_are_set_apart_and_test_images_stay():
    plain, splits = load_dataset(DataConfig(source="embedded")), load_dataset(DataConfig(**EMBEDDED))
    assert splits.held_out.split == "val"
    assert splits.val.labels.bincount().tolist() == [100] * 10
    assert splits.test.fingerprint == plain.test.fingerprint
    # Together they are the training images: no image is in both, and none is lost.
    both = torch.cat([splits.train.images, splits.val.images]).flatten(1).double() @ torch.arange(784.0).double()
    assert torch.equal(
        both.sort().values, (plain.train.images.flatten(1).double() @ torch.arange(784.0).double()).sort().values
    )
    other = load_dataset(DataConfig(**EMBEDDED, split_seed=1))
    assert other.val.fingerprint != splits.val.fingerprint
    few = load_dataset(DataConfig(**EMBEDDED, max_train_images=50))
    assert (len(few.train), few.val.fingerprint) == (50, splits.val.fingerprint)
    assert "1,000 of the official training images set apart" in few.train.describe()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_images": 10_000}, "would leave no image"),
        ({"split": "fractions"}, "sets the validation share"),
        ({"fractions": (0.5, 0.2, 0.3)}, "has no effect"),
        ({"source": "auto", "name": "flowers-102", "root": "nowhere"}, "flowers-102"),
    ],
)
def test_what_it_does_not_go_with_is_refused(settings, message):
    with pytest.raises(LatentdiffError, match=message):
        load_dataset(DataConfig(**EMBEDDED | settings)).train.images.sum()


def test_files_have_another_way(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="not for folder: use"):
        _ = load_dataset(DataConfig(name="folder", path=str(tmp_path), val_images=10)).train


def test_no_one_warns_of_test_images_seen():
    splits = load_dataset(DataConfig(**EMBEDDED))
    made = {"data": {"split": splits.train.split_description, "fingerprint": "f"}}
    plain = load_dataset(DataConfig(source="embedded"))
    assert other_split_warnings(made | {"config": {"data": {"val_images": 1000}}}, plain.train, plain.test) == []
    assert other_split_warnings(made, plain.train, plain.test)
    pooled = SimpleNamespace(split_description="of all images split 80/10/10")
    assert other_split_warnings(made | {"config": {"data": {"val_images": 1000}}}, plain.train, pooled)
