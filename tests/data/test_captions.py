"""Captions: templates, columns, rules, and what is refused; and coloured Fashion-MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import fashion_captions, load_dataset, load_split
from latentdiff.data import fashion_mnist_coloured as coloured
from latentdiff.data.identity import differences, identity
from latentdiff.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def grey():
    return load_split(DataConfig(source="embedded", captions="rule"), "test")


@pytest.fixture(scope="module")
def splits():
    config = {"name": "fashion-mnist-coloured", "source": "embedded"}
    return {split: load_split(DataConfig(**config), split) for split in ("train", "test")}


def images_in(folder, count=4):
    folder.mkdir(parents=True)
    for index in range(count):
        part = folder / ("cat" if index % 2 else "dog")
        part.mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(part / f"{index}.png")
    return folder


def test_a_template_names_the_class():
    data = load_split(DataConfig(source="embedded", captions="a photo of a {class}!"), "test")
    assert data.captions[0] == f"a photo of a {data.class_names[data.labels[0]]}!"
    part = data.take(torch.tensor([5, 3]))
    assert part.captions == (data.captions[5], data.captions[3])
    classless = load_split(DataConfig(source="embedded", captions="a {class}", classes="none"), "test")
    assert classless.captions[0] == f"a {data.class_names[data.labels[0]]}"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_captions_follow_their_images_into_every_split(split):
    for more in ({"split": "fractions"}, {"val_images": 100, "max_train_images": 50}):
        data = load_split(DataConfig(source="embedded", captions="a {class}", **more), split)
        assert data.captions == tuple(f"a {data.class_names[label]}" for label in data.labels.tolist())


def test_a_column_holds_captions_and_classes_come_from_the_folders(tmp_path):
    folder = images_in(tmp_path / "pets")
    table = tmp_path / "words.csv"
    rows = ["file,what", "dog/0.png,a dög", 'cat/1.png,"a cat, asleep"', "dog/2.png,", "cat/3.png,a cat"]
    table.write_text("\n".join(rows), encoding="utf-8")
    config = {"name": "folder", "path": str(folder), "table": str(table), "size": 8, "cache_folder": str(tmp_path)}
    data = load_split(DataConfig(**config, captions="what", fractions=(1.0, 0.0, 0.0)), "train")
    assert data.class_names == ("cat", "dog")
    found = dict(zip(data.files, data.captions, strict=True))
    assert found == {"dog/0.png": "a dög", "cat/1.png": "a cat, asleep", "dog/2.png": "", "cat/3.png": "a cat"}
    again = load_split(DataConfig(**config, captions="what", fractions=(1.0, 0.0, 0.0)), "train")  # of the cache
    assert again.captions == data.captions
    with pytest.raises(DataError, match="has no column 'words'"):
        load_split(DataConfig(**config, captions="words"), "train")


def test_a_table_has_classes_and_captions_in_columns_of_their_own(tmp_path):
    folder = images_in(tmp_path / "pets", 2)
    table = tmp_path / "words.csv"
    table.write_text("file,kind,what\n0.png,big,a big dog\n1.png,small,a small cat\n")
    config = DataConfig(
        name="folder",
        path=str(folder),
        table=str(table),
        captions="what",
        size=8,
        fractions=(1.0, 0.0, 0.0),
        cache_folder=str(tmp_path),
    )
    data = load_split(config, "train")
    assert data.class_names == ("big", "small")
    assert set(data.captions) == {"a big dog", "a small cat"}


def test_images_in_memory_have_captions_too():
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    captions = [f"image {index}" for index in range(40)]
    data = load_dataset(images, captions=captions)
    for image, caption in zip(data.train.images, data.train.captions, strict=True):
        assert torch.equal(image, images[captions.index(caption)])
    both = load_dataset({"train": images, "test": images[:2]}, captions={"train": captions, "test": ["a", "b"]})
    assert both.test.captions == ("a", "b")
    named = load_dataset(images, labels=["cat", "dog"] * 20, captions="one {class}").train
    assert set(named.captions) == {"one cat", "one dog"}
    for wrong, words in ((captions[:3], "3 captions for 40"), ("x" * 40, "auto, rule"), ([1] * 40, "list of texts")):
        if isinstance(wrong, str):
            assert load_dataset(images, captions=wrong).train.captions == ()
            continue
        with pytest.raises(DataError, match=words):
            load_dataset(images, captions=wrong)
    with pytest.raises(ConfigError, match="mapping"):
        load_dataset({"train": images}, captions=captions)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "mnist", "captions": "rule"}, "rule is for fashion-mnist"),
        ({"captions": "a photo"}, "no table"),
        ({"name": "fashion-mnist-coloured", "split": "fractions"}, "official split alone"),
    ],
)
def test_captions_that_there_are_not_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_split(DataConfig(**settings), "train")


def test_other_captions_are_other_data():
    one, other, none = (
        identity(load_split(DataConfig(source="embedded", captions=captions), "test"))
        for captions in ("a {class}", "the {class}", "none")
    )
    assert one["fingerprint"] == other["fingerprint"]
    assert differences(one, one) == []
    (words,) = differences(one, other)
    assert words == "the captions differ: the first is 'the Ankle boot', and was 'a Ankle boot'"
    assert differences(none, one) == ["the images have captions now, but had none before"]
    assert differences({key: value for key, value in none.items() if "caption" not in key}, none) == []


@pytest.mark.parametrize(
    "measure", ["brightness", "slenderness", "roughness"], ids=["dark or light", "long or short", "plain or patterned"]
)
def test_each_word_of_the_rule_is_of_about_half_the_images(grey, measure):
    threshold = {"brightness": "LIGHT", "slenderness": "LONG", "roughness": "PATTERNED"}[measure]
    above = getattr(fashion_captions, measure)(grey.images) > getattr(fashion_captions, threshold)
    assert 0.45 < above.float().mean() < 0.55


def test_the_rule_reads_the_image():
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    images[0, 0, 2:26, 10:18] = 60  # dark, long, plain
    images[1, 0, 10:18, 2:26] = 250  # light, short, plain
    images[2, 0, 2:26, 10:18] = 60
    images[2, 0, 2:26:2, 10:18] = 250  # with stripes
    said = fashion_captions.describe(images, torch.tensor([3, 8, 0, 0]), ("T-shirt", *"ab", "Dress", *"cdef", "Bag"))
    assert said[0] == "a dark long plain dress"
    assert said[1] == "a light short plain bag"
    assert said[2].endswith("long patterned t-shirt")
    assert said[3] == "a dark short plain t-shirt"  # of nothing at all


def test_captions_by_rule_are_in_the_data(grey):
    assert len(set(grey.captions)) > 60
    assert grey.captions == fashion_captions.describe(grey.images, grey.labels, grey.class_names)


def test_colours_can_be_taken_off_again(splits, grey):
    test = splits["test"]
    assert test.image_shape == (3, 28, 28)
    assert torch.equal(coloured.grey_of(test.images), grey.images)
    colours = coloured.colours_of(grey.images)
    assert torch.equal(coloured.read_colours(test.images), colours)
    assert torch.bincount(colours, minlength=6).min() > len(test) / 7
    assert (coloured.read_colours(grey.images.expand(-1, 3, -1, -1)) == -1).all()


def test_ten_pairs_are_in_the_test_images_alone(splits):
    pairs = {}
    for split, data in splits.items():
        colours = coloured.read_colours(data.images)
        pairs[split] = set(zip(data.labels.tolist(), colours.tolist(), strict=True))
        for caption, label, colour in zip(data.captions[:50], data.labels, colours, strict=False):
            assert caption == f"a {coloured.COLOUR_NAMES[colour]} {data.class_names[label].lower()}"
    assert pairs["test"] - pairs["train"] == {(k, k % 6) for k in range(10)}
    assert len(pairs["train"]) == 50
    assert "a red t-shirt" not in splits["train"].captions


def test_a_new_colour_of_an_image_is_no_accident(splits):
    again = load_split(DataConfig(name="fashion-mnist-coloured", source="embedded", captions="a {class}"), "test")
    assert torch.equal(again.images, splits["test"].images)
    assert again.captions[0] == "a Ankle boot"
