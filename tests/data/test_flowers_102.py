"""Flowers-102 in a miniature of torchvision's layout."""

from __future__ import annotations

import numpy as np
import pytest

from latentdiff.data import load_split
from latentdiff.errors import DataError


@pytest.fixture
def flowers(tmp_path, draw):
    from scipy.io import savemat

    folder = tmp_path / "flowers-102"
    for index in range(1, 13):
        draw(folder / "jpg" / f"image_{index:05d}.jpg", index)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 1, 1, 1, 2, 2, 2, 2, 102, 102, 102, 102]])})
    splits = {"trnid": [[1, 5, 9]], "valid": [[2, 6, 10]], "tstid": [[3, 4, 7, 8, 11, 12]]}
    savemat(folder / "setid.mat", {name: np.array(ids) for name, ids in splits.items()})
    return tmp_path


def test_flowers(flowers, config):
    val = load_split(config(flowers, "flowers-102", split="official"), "val")
    assert val.labels.tolist() == [0, 1, 101]
    pooled = config(flowers, "flowers-102", fractions=(0.5, 0.25, 0.25))
    assert load_split(pooled, "train").labels.tolist() == [0, 0, 1, 1, 101, 101]
    dropped = load_split(config(flowers, "flowers-102", classes="none"), "train")
    assert (dropped.num_classes, dropped.labels.tolist()) == (0, [0] * len(dropped))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "jpg/image_00004.jpg").unlink(), "1 of 12 images are missing"),
        (lambda folder: (folder / "setid.mat").write_bytes(b"bad"), "setid.mat cannot be read"),
        (lambda folder: (folder / "imagelabels.mat").unlink(), "imagelabels.mat cannot be read"),
    ],
)
def test_damaged_flowers_are_named(flowers, damage, message, config):
    damage(flowers / "flowers-102")
    with pytest.raises(DataError, match=message):
        load_split(config(flowers, "flowers-102"), "train")
