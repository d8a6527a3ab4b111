"""Settings of a data set, mixes, and arrays that are split, resized and coloured."""

from __future__ import annotations

import pytest
import torch

from latentdiff.config import DataConfig
from latentdiff.data import DatasetSplits, NoSplitError, cifar_10, load_split, open_files
from latentdiff.errors import DataError


def test_mixed_offsets_classes_and_balances(tmp_path, draw, config):
    for index in range(6):
        draw(tmp_path / "cifar-10" / "train" / cifar_10.CLASS_NAMES[index] / "0.png", index, (32, 32))
    mix = {"mix": ("fashion-mnist", "cifar-10"), "size": 32, "colour": "rgb", "source": "embedded"}
    balanced = load_split(config(tmp_path, "mixed", **mix), "train")
    assert (len(balanced), balanced.image_shape, balanced.num_classes) == (12, (3, 32, 32), 20)
    assert balanced.class_names[3] == "fashion-mnist Dress"
    assert balanced.labels[6:].tolist() == [10, 11, 12, 13, 14, 15]
    assert balanced.source == "embedded"
    whole = load_split(config(tmp_path, "mixed", mix_share="proportional", **mix), "train")
    assert len(whole) == 10_006
    with pytest.raises(ValueError, match=r"set data\.size and data\.colour"):
        load_split(config(tmp_path, "mixed", mix=("fashion-mnist",)), "train")


def test_mixed_with_a_folder_and_with_an_attribute(faces, draw, config):
    for label in ("cats", "dogs"):
        draw(faces / "own" / label / "0.png")
    own = {"path": str(faces / "own"), "size": 16, "colour": "grey", "fractions": (1.0, 0.0, 0.0)}
    three = ("celeba", "folder", "fashion-mnist")
    mix = config(faces, "mixed", mix=three, classes="Smiling", source="embedded", **own)
    data = load_split(mix, "train")
    assert data.class_names[:4] == ("celeba not Smiling", "celeba Smiling", "folder cats", "folder dogs")
    assert (data.num_classes, data.labels[2:4].tolist()) == (14, [2, 3])
    by_us = "of all images split 100/0/0 by seed 0"
    assert data.split_description == f"balanced mix of celeba, folder ({by_us}), fashion-mnist"
    files = open_files(mix)
    assert files.path.name == "mixed"
    assert "folder/cats/0.png" in files.images
    # As with the folder alone, training goes on where none of its images is held out.
    assert len(DatasetSplits(mix).held_out) == 0


def test_arrays_can_be_pooled_and_split_anew():
    official = {"source": "embedded"}
    assert DatasetSplits(DataConfig(**official)).held_out.split == "test"
    with pytest.raises(NoSplitError, match="no official validation split"):
        load_split(DataConfig(**official), "val")
    anew = DataConfig(split="fractions", fractions=(0.5, 0.25, 0.25), **official)
    splits = [load_split(anew, split) for split in ("train", "val", "test")]
    assert [len(data) for data in splits] == [6000, 3000, 3000]
    assert all(torch.bincount(data.labels).unique().tolist() == [len(data) // 10] for data in splits)
    assert DatasetSplits(anew).held_out.fingerprint == splits[1].fingerprint
    together = torch.cat([data.images for data in splits]).flatten(1).sum(1).sort().values
    both = torch.cat([load_split(DataConfig(**official), split).images for split in ("train", "test")])
    assert torch.equal(together, both.flatten(1).sum(1).sort().values)
    assert "split 50/25/25 by seed 0" in splits[0].describe()


def test_arrays_are_resized_coloured_and_thinned(capsys):
    small = load_split(DataConfig(source="embedded", size=16, colour="rgb", max_train_images=50), "train")
    assert (len(small), small.image_shape) == (50, (3, 16, 16))
    assert "50 of its images" in small.describe()
    load_split(DataConfig(source="embedded", max_train_images=3), "train")
    assert "of max_train_images 3. A model will not learn these classes: raise it" in capsys.readouterr().out
    whole = load_split(DataConfig(source="embedded"), "train")
    taken = load_split(DataConfig(source="embedded", max_train_images=50), "train")
    keys = {image.numpy().tobytes() for image in whole.images}
    assert all(image.numpy().tobytes() in keys for image in taken.images)
    assert len(load_split(DataConfig(source="embedded", max_train_images=50), "test")) == 2000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x"}, "for images of your own add --data.name folder"),
        ({"name": "folder"}, r"needs --data\.path"),
        ({"name": "celeba", "table": "x"}, "data.table is for data.name folder"),
        ({"classes": "Smiling"}, "only CelebA has attributes"),
        ({"size": 2}, "size must be a whole number from 4"),
        ({"max_train_images": 0}, "max_train_images must be a whole number from 1"),
        ({"name": "mnist", "source": "embedded"}, "data.source is for data.name fashion-mnist"),
        ({"mix_share": "proportional"}, "data.mix_share is for data.name mixed"),
        ({"source": "embedded", "fractions": (0.5, 0.5, 0.0)}, "has no effect: fashion-mnist comes in its official"),
        ({"source": "embedded", "crop": "random"}, "crop random has no effect: fashion-mnist comes in arrays"),
        ({"source": "embedded", "value_range": "0,9"}, "value_range 0,9 has no effect: fashion-mnist comes in"),
        (
            {"name": "mixed", "mix": ("celeba", "oxford-iiit-pet"), "path": "x"},
            "could belong to celeba or oxford-iiit-pet",
        ),
        ({"name": "mixed", "mix": ("folder", "mnist")}, r"needs --data\.path"),
        ({"mix": ("mnist",)}, "need each other"),
        ({"name": "mixed"}, "need each other"),
        ({"name": "mixed", "mix": ("mixed",)}, "not mixed"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_split(DataConfig(**settings), "train")


@pytest.mark.parametrize("name", ["mnist", "cifar-10", "flowers-102", "celeba", "oxford-iiit-pet", "imagenet-64"])
def test_a_set_that_is_nowhere_says_where_it_was_looked_for(name, tmp_path):
    with pytest.raises(DataError, match="could not be downloaded") as error:
        load_split(DataConfig(name=name, root=str(tmp_path)), "train")
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())
