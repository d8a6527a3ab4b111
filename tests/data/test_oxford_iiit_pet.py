"""The Oxford-IIIT pets in a miniature of torchvision's layout."""

from __future__ import annotations

import pytest

from latentdiff.data import NoSplitError, load_split
from latentdiff.errors import DataError


def test_pets_with_and_without_annotations(tmp_path, draw, config):
    folder = tmp_path / "oxford-iiit-pet"
    names = [f"{breed}_{index}" for breed in ("Abyssinian", "american_bulldog") for index in range(1, 6)]
    for index, name in enumerate(names):
        draw(folder / "images" / f"{name}.jpg", index)
    pooled = load_split(config(tmp_path, "oxford-iiit-pet", fractions=(0.8, 0.2, 0.0)), "train")
    assert pooled.class_names == ("Abyssinian", "american_bulldog")
    assert pooled.labels.tolist() == [0] * 4 + [1] * 4
    (folder / "annotations").mkdir()
    (folder / "annotations/trainval.txt").write_text("\n".join(f"{name} 1 1 1" for name in names[::2]))
    (folder / "annotations/test.txt").write_text("\n".join(f"{name} 1 1 1" for name in names[1::2]))
    assert load_split(config(tmp_path, "oxford-iiit-pet"), "test").labels.tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="no official val split"):
        load_split(config(tmp_path, "oxford-iiit-pet"), "val")
    elsewhere = load_split(config(tmp_path / "x", "oxford-iiit-pet", path=str(folder / "images")), "test")
    assert elsewhere.labels.tolist() == [0, 0, 1, 1, 1]
    (folder / "annotations/test.txt").write_text("#Image CLASS-ID SPECIES BREED-ID\n")
    with pytest.raises(NoSplitError, match="official test split"):
        load_split(config(tmp_path, "oxford-iiit-pet"), "test")
    draw(folder / "images" / "nameless.jpg")
    with pytest.raises(DataError, match="does not say its breed"):
        load_split(config(tmp_path, "oxford-iiit-pet"), "train")
