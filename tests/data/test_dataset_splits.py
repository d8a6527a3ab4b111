"""`load_dataset` from every kind of source, and what a data set shows of itself."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset
from torchvision.datasets import FakeData
from torchvision.transforms.v2 import functional as transforms

from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DataConfig,
    NetworkConfig,
    TrainerConfig,
)
from latentdiff.data import DatasetSplits, NoSplitError, load_dataset, load_split
from latentdiff.data.load import warn_of_empty_classes
from latentdiff.errors import ConfigError, DataError
from latentdiff.evaluation.evaluation_record import validation_as_test_warnings
from latentdiff.inference.model import load
from latentdiff.latents import cache_latents
from latentdiff.stages import diffusion as diffusion_stage
from latentdiff.training.train_autoencoder import train_autoencoder
from latentdiff.training.train_diffusion import train_diffusion


def random_images(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Pairs(Dataset):
    """A torch Dataset of given images and labels."""

    def __init__(self, images, labels, classes=None):
        self.images, self.labels = images, labels
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def pil(image):
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def pixels(splits):
    """The images of all splits, in an order of their own."""
    images = torch.cat([data.images for data in (splits.train, splits.val, splits.test)]).flatten(1)
    return sorted(map(bytes, images.numpy()))


# tensors and arrays


def test_a_tensor_is_split_by_content_and_seed_and_keeps_its_pixels():
    images, labels = random_images(200, 1, 8, 8), torch.arange(200) % 4
    data = load_dataset(images, labels=labels)
    assert [len(split) for split in (data.train, data.val, data.test)] == [162, 16, 22]
    assert torch.bincount(data.train.labels).min() >= 30
    assert pixels(data) == sorted(map(bytes, images.flatten(1).numpy()))  # disjoint, and none is lost
    assert data.train.class_names == ("0", "1", "2", "3")
    place = {bytes(image): int(label) for image, label in zip(images.flatten(1).numpy(), labels, strict=True)}
    assert [place[bytes(image)] for image in data.test.images.flatten(1).numpy()] == data.test.labels.tolist()
    again, other = (load_dataset(images.clone(), labels=labels.tolist(), split_seed=seed) for seed in (0, 1))
    assert again.train.fingerprint == data.train.fingerprint
    assert other.train.fingerprint != data.train.fingerprint
    assert "split 80/10/10 by seed 0" in data.train.describe()


def test_images_are_those_of_a_folder_of_the_same_images(tmp_path):
    """Cropped and resized alike; 13x20 pixels are neither square nor of the size that is asked for.

    A tensor and pairs are split alike, by their pixels; a folder by its files.
    """
    images = random_images(40, 3, 13, 20)
    labels = [("cat", "dog")[index % 2] for index in range(40)]
    order = sorted(range(40), key=lambda index: (labels[index], index))
    for index in order:
        (tmp_path / "own" / labels[index]).mkdir(parents=True, exist_ok=True)
        pil(images[index]).save(tmp_path / "own" / labels[index] / f"{index:02d}.png")
    for settings in ({"size": 8}, {"size": 16, "colour": "grey", "split_seed": 3}, {}):
        for fractions in ((1.0, 0.0, 0.0), (0.5, 0.25, 0.25)):
            settings["fractions"] = fractions
            folder = load_dataset(tmp_path / "own", **settings)
            tensor = load_dataset(images[order], labels=[labels[index] for index in order], **settings)
            pairs = load_dataset(Pairs([pil(images[i]) for i in order], [labels[i] for i in order]), **settings)
            for split in ("train", "val", "test") if fractions[0] < 1 else ("train",):
                found, again = getattr(tensor, split), getattr(pairs, split)
                assert again.fingerprint == found.fingerprint
                if fractions[0] < 1:
                    continue
                expected = getattr(folder, split)
                assert torch.equal(found.images, expected.images)
                assert torch.equal(found.labels, expected.labels)
                assert found.class_names == expected.class_names
                assert found.fingerprint == expected.fingerprint
    assert folder.train.image_shape == (3, 64, 64)


def test_layouts_that_can_be_told_are_understood():
    images = random_images(20, 3, 9, 9)
    expected = load_dataset(images).train
    assert load_dataset(images.numpy()).train.fingerprint == expected.fingerprint
    assert load_dataset(images.permute(0, 2, 3, 1).numpy()).train.fingerprint == expected.fingerprint
    grey = load_dataset(images[:, :1])
    assert grey.train.image_shape == (1, 9, 9)
    assert load_dataset(images[:, 0].numpy()).train.fingerprint == grey.train.fingerprint
    for shape in ((3, 9, 9), (9, 9, 3), (20, 4, 9, 9), (20, 3, 9, 3), (9, 9), (20, 1, 9, 9, 3)):
        with pytest.raises(DataError, match=r"the layout of the shape \[" + ", ".join(map(str, shape))):
            load_dataset(np.zeros(shape, np.uint8))


def test_later_changes_to_the_tensor_do_not_reach_the_data_set():
    images = random_images(20, 1, 8, 8)
    data = load_dataset({"train": images, "test": images})
    images[:] = 0
    assert data.train.images.float().mean() > 100


def test_strings_become_classes_in_natural_order():
    labels = ["class 10", "class 2", "Class 1", "class 2"] * 5
    data = load_dataset(random_images(20, 1, 8, 8), labels=labels, fractions=(1.0, 0.0, 0.0))
    assert data.train.class_names == ("Class 1", "class 2", "class 10")
    assert data.train.labels.tolist() == [2, 1, 0, 1] * 5
    ordered = load_dataset(
        random_images(20, 1, 8, 8), labels=np.array(["b", "a"] * 10), class_names=["b", "a", "c"], fractions=(1, 0, 0)
    )
    assert (ordered.train.class_names, ordered.train.labels[:2].tolist()) == (("b", "a", "c"), [0, 1])
    named = load_dataset(random_images(20, 1, 8, 8), labels=[0, 1] * 10, class_names=["shirt", "shoe"])
    assert named.test.class_names == ("shirt", "shoe")
    none = load_dataset(random_images(20, 1, 8, 8))
    assert (none.train.class_names, none.train.labels.unique().tolist()) == ((), [0])


def test_keywords_limit_colour_and_mirror():
    data = load_dataset(random_images(50, 1, 8, 8), colour="rgb", hflip=True, max_train_images=10, name="my-set")
    assert (data.train.images.shape, len(data.test)) == ((10, 3, 8, 8), 5)
    assert (data.config.hflip, data.config.name, data.name, data.train.name) == (True, "tensors", "my-set", "my-set")
    assert "10 of its images, drawn by seed 0" in data.train.describe()


def test_keywords_go_into_the_settings_of_a_name_and_a_folder(tmp_path):
    data = load_dataset("fashion-mnist", size=16, colour="rgb", fractions=(0.5, 0.25, 0.25), hflip=True, split_seed=2)
    assert data.config == DataConfig(
        size=16, colour="rgb", split="fractions", fractions=(0.5, 0.25, 0.25), hflip=True, split_seed=2
    )
    embedded = load_dataset(DataConfig(source="embedded"), max_train_images=7, name="few")
    assert (len(embedded.train), embedded.train.name, embedded.config.source) == (7, "few", "embedded")
    assert load_dataset(DataConfig(source="embedded")).train.name == "fashion-mnist"


# a mapping of splits


def test_a_mapping_is_taken_as_it_is():
    train, test = random_images(30, 1, 8, 8), random_images(10, 1, 8, 8, seed=1)
    data = load_dataset({"test": test, "train": train}, labels={"train": ["a", "c"] * 15, "test": ["b"] * 10})
    assert torch.equal(data.train.images, train)
    assert torch.equal(data.test.images, test)
    assert (data.train.class_names, data.train.labels[:2].tolist(), data.test.labels[0]) == (("a", "b", "c"), [0, 2], 1)
    assert data.held_out is data.test
    assert "as given" in data.train.describe()
    with pytest.raises(NoSplitError, match="tensors was given without a val split: add it to the mapping"):
        _ = data.val
    mixed = load_dataset({"train": train, "val": random_images(5, 3, 12, 8)})
    assert (mixed.train.image_shape, mixed.val.image_shape) == ((3, 64, 64), (3, 64, 64))


def test_a_mapping_of_datasets():
    splits = {name: FakeData(12, (3, 16, 16), 3, random_offset=12 * i) for i, name in enumerate(("train", "test"))}
    data = load_dataset(splits)
    assert torch.equal(data.test.images[3], transforms.pil_to_tensor(splits["test"][3][0]))
    assert data.test.labels.tolist() == [int(splits["test"][index][1]) for index in range(12)]


# torch Datasets


def test_images_of_every_kind_give_the_same_pixels():
    images, labels = random_images(20, 3, 8, 8), list(range(10)) * 2
    expected = load_dataset(images, labels=labels)
    kinds = {
        "pil": [pil(image) for image in images],
        "uint8": images,
        "float": [image / 255 for image in images],
        "half": [(image / 255).half() for image in images],
    }
    for kind, values in kinds.items():
        found = load_dataset(Pairs(values, [torch.tensor(label) for label in labels]))
        assert found.train.fingerprint == expected.train.fingerprint, kind


def test_class_names_come_from_the_dataset_or_the_one_it_is_a_subset_of():
    pairs = Pairs(random_images(20, 1, 8, 8), [0, 1] * 10, ["shirt", "shoe"])
    assert load_dataset(pairs).train.class_names == ("shirt", "shoe")
    assert load_dataset(Subset(pairs, range(10))).train.class_names == ("shirt", "shoe")
    assert load_dataset(Subset(ConcatDataset([pairs, pairs]), range(30))).train.class_names == ("shirt", "shoe")
    assert load_dataset(pairs, class_names=["a", "b"]).train.class_names == ("a", "b")
    assert load_dataset(FakeData(20, (3, 8, 8), 4)).train.class_names == ("0", "1", "2", "3")


def test_photographs_of_many_sizes_become_squares():
    photos = [pil(random_images(3, 10 + index, 30)) for index in range(20)]
    data = load_dataset(Pairs(photos, [0] * 20), fractions=(1.0, 0.0, 0.0))
    assert data.train.images.shape == (20, 3, 64, 64)
    first_square = [pil(random_images(1, 8, 8)), *photos]
    assert load_dataset(Pairs(first_square, [0] * 21)).train.image_shape == (3, 64, 64)
    assert load_dataset(Pairs(first_square, [0] * 21), size=16, colour="grey").train.image_shape == (1, 16, 16)


# what is refused


IMAGES = random_images(20, 1, 8, 8)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (IMAGES.float(), {}, r"must be uint8, not float32.* \(images \* 255\)"),
        (IMAGES[:0], {}, r"no image in an array of shape \[0, 1, 8, 8\]"),
        (IMAGES[..., :2], {}, "2x8 pixels; at least 4"),
        (IMAGES, {"labels": [0] * 19}, "19 labels for 20 images"),
        (IMAGES, {"labels": [0.5] * 20}, "labels must all be whole numbers, or all strings; one is 0.5"),
        (IMAGES, {"labels": [0, "a"] * 10}, "or all strings; one is a"),
        (IMAGES, {"labels": torch.zeros(20, 2)}, r"one is \[0.0, 0.0\]"),
        (IMAGES, {"labels": 3}, "a list, not a int"),
        (IMAGES, {"labels": [-1, 0] * 10}, "count classes from 0; these are from -1 to 0"),
        (IMAGES, {"labels": [0, 123_456] * 10}, "these are from 0 to 123456"),
        (IMAGES, {"labels": [0, 2] * 10, "class_names": ["a", "b"]}, "the label 2 is not one of the 2 classes, a, b"),
        (IMAGES, {"labels": ["c"] * 20, "class_names": ["a", "b"]}, "the label 'c' is not one of the 2 classes"),
        (IMAGES, {"labels": ["c"] * 20, "class_names": ["c", "c"]}, "a name twice"),
        (IMAGES, {"class_names": ["a"]}, "class_names need labels"),
        (IMAGES, {"labels": [0] * 20, "class_names": "a"}, "must be a list, .* not a str"),
        (IMAGES, {"labels": [0] * 20, "class_names": {"a": 0}}, "must be a list, .* not a dict"),
        (IMAGES, {"labels": [0] * 20, "class_names": [7]}, "must be strings; one is 7"),
        (IMAGES.to_sparse(), {}, "neither sparse nor quantised"),
        (IMAGES % 2, {}, "tensors: only the 8-bit values 0 and 1"),
        (ConcatDataset([Pairs(IMAGES, [0] * 20, [name]) for name in "ab"]), {}, r"differently \(a and b\)"),
        ("", {}, "'' is neither a folder or zip"),
        (IMAGES, {"size": 3}, "size must be a whole number from 4 to"),
        (IMAGES, {"colour": "blue"}, "colour must be"),
        (IMAGES, {"fractions": (0.5, 0.6, 0.0)}, "sum to 1"),
        (IMAGES, {"name": "../x"}, "name may have letters"),
        (IMAGES, {"labels": {"train": [0]}}, "labels by split need images by split"),
        ({"test": IMAGES}, {}, "must have train, and may have val and test; this one has test"),
        ({"train": IMAGES, "extra": IMAGES}, {}, "this one has train, extra"),
        ({"train": IMAGES}, {"labels": [0] * 20}, "a mapping with the same splits"),
        ({"train": IMAGES}, {"fractions": (0.5, 0.5, 0.0)}, "fractions have no effect"),
        ({"train": IMAGES, "test": IMAGES}, {"labels": {"train": [0] * 20, "test": ["a"] * 20}}, "or strings in all"),
        (Pairs([], []), {}, "the Dataset is empty"),
        (Pairs(IMAGES, [0] * 20), {"labels": [0] * 20}, "a Dataset gives its own"),
        (Pairs(IMAGES / 127.5 - 1, [0] * 20), {}, r"item 0 .* must be in \[0, 1\], not from -.* to 0.9"),
        (Pairs(IMAGES * float("nan"), [0] * 20), {}, "not from nan to nan"),
        (Pairs(IMAGES.long(), [0] * 20), {}, "must be uint8, or floats .* not torch.int64"),
        (Pairs(IMAGES.expand(-1, 2, -1, -1), [0] * 20), {}, r"of shape \[c, h, w\] .* not \[2, 8, 8\]"),
        (Pairs(["a.png"], [0]), {}, "a PIL image or a tensor, not a str"),
        (Pairs(IMAGES, [0, 5] * 10, ["a", "b"]), {}, "the label 5 is not one of the 2 classes"),
        (["a.png", "b.png"], {}, "item 0 of the Dataset is not a pair"),
        (5, {}, "a data set is a name, .*, not int"),
        ("fashion-mnist", {"labels": [1]}, "are for images in memory"),
        ("nowhere", {}, "'nowhere' is neither a folder or zip"),
        (DataConfig(name="tensors"), {}, "which only Python can do"),
    ],
)
def test_bad_input_is_named_in_a_line_or_three(source, settings, message):
    with pytest.raises((DataError, ConfigError), match=message) as error:
        load_dataset(source, **settings)
    assert len(str(error.value).splitlines()) <= 3


def test_an_iterable_is_read_to_its_end():
    class Stream(IterableDataset):
        def __init__(self, count):
            self.count = count

        def __iter__(self):
            yield from Pairs(IMAGES[: self.count], [0, 1] * (self.count // 2))

    expected = load_dataset(IMAGES, labels=[0, 1] * 10)
    pairs = Pairs(IMAGES, [0, 1] * 10)
    for source in (Stream(20), (pairs[index] for index in range(20)), [pairs[index] for index in range(20)]):
        assert load_dataset(source).train.fingerprint == expected.train.fingerprint
    with pytest.raises(DataError, match="the Dataset is empty"):
        load_dataset(Stream(0))


def test_items_may_be_mappings_as_of_hugging_face():
    class Rows(list):
        features: ClassVar = {"label": SimpleNamespace(names=["shirt", "shoe"])}

    rows = Rows({"image": pil(image), "label": index % 2, "id": "x"} for index, image in enumerate(IMAGES))
    expected = load_dataset({"train": IMAGES, "val": IMAGES}, labels=dict.fromkeys(("train", "val"), [0, 1] * 10))
    found = load_dataset({"train": rows, "validation": rows})
    assert found.val.fingerprint == expected.val.fingerprint
    assert found.train.class_names == ("shirt", "shoe")
    assert load_dataset([{"img": image} for image in IMAGES]).train.class_names == ()
    with pytest.raises(DataError, match="item 0 of the Dataset has the columns scan, label: call one image"):
        load_dataset([{"scan": IMAGES[0], "label": 1}])


def test_too_few_images_for_a_test_split_say_what_to_set():
    for count, advice in ((2, "split_seed={}, fractions=(0.5, 0.0, 0.5)"), (4, "split_seed={}")):
        data = load_dataset(IMAGES[:count])
        with pytest.raises(NoSplitError, match=f"none of its {count} images falls into its 10 % by seed 0") as refused:
            _ = data.test if count == 2 else data.val
        seed = int(re.search(r"split_seed=(\d+)", str(refused.value))[1])
        assert advice.format(seed) + ", or add images" in str(refused.value)
        settings = {"fractions": (0.5, 0.0, 0.5)} if count == 2 else {}
        assert len(load_dataset(IMAGES[:count], split_seed=seed, **settings).test)
    with pytest.raises(NoSplitError, match=r"one image falls .* fractions=\(1\.0, 0\.0, 0\.0\), or add"):
        _ = load_dataset(IMAGES[:1]).test
    with pytest.raises(NoSplitError, match=r"no test split with the fractions 80/20/0$"):
        _ = load_dataset(IMAGES, fractions=(0.8, 0.2, 0.0)).test
    assert len(load_dataset(IMAGES[:1], fractions=(1.0, 0.0, 0.0)).train) == 1


def test_where_no_image_is_held_out_a_line_says_so(capsys):
    data = load_dataset(IMAGES[:3], fractions=(1.0, 0.0, 0.0), name="three")
    assert (len(data.held_out), data.held_out.split) == (0, "val")
    assert "three has neither validation nor test images: nothing is measured" in capsys.readouterr().out


def test_a_class_without_a_training_image_is_named(capsys):
    load_dataset(IMAGES, labels=["many"] * 19 + ["rare"], name="r", split_seed=4, fractions=(0.1, 0.4, 0.5))
    assert "r: no image of rare is among the training images by seed 4" in capsys.readouterr().out
    load_dataset(IMAGES, labels=[0, 2] * (len(IMAGES) // 2), name="gap")
    assert "gap: no image of 1 is among the training images" in capsys.readouterr().out


@pytest.mark.parametrize(("names", "listed"), [("abcdef", "a, b, c, d, e"), ("abcdefg", "a, b, c, d, e, …")])
def test_five_classes_without_a_training_image_are_named(names, listed, capsys):
    warn_of_empty_classes(torch.tensor([len(names) - 1]), tuple(names), "", "advice", listed, "train")
    assert f"no image of {listed} is among" in capsys.readouterr().out


def test_a_command_line_cannot_name_images_in_memory():
    for config in (DataConfig(name="tensors"), DataConfig(name="mixed", mix=("mnist", "tensors"))):
        with pytest.raises(ConfigError, match="give them to load_dataset, which only Python can do"):
            load_split(config, "train")
    with pytest.raises(ConfigError, match="which only Python can do"):
        diffusion_stage.main(["--data.name=tensors"])


# what a data set shows of itself


def test_a_data_set_says_what_it_holds():
    data = DatasetSplits(DataConfig(source="embedded"))
    assert repr(data) == "<DatasetSplits fashion-mnist; train: not loaded; val: not loaded; test: not loaded>"
    assert "<img" not in data._repr_html_()
    assert len(data.test) == 2000
    assert "test: 2,000 images; of 1x28x28; 10 classes: T-shirt, Trouser" in repr(data)
    assert repr(data.test).startswith("<ImageDataset fashion-mnist test split (embedded slice")
    given = load_dataset({"train": IMAGES}, labels={"train": list(range(20))})
    assert repr(given) == (
        "<DatasetSplits tensors; train: 20 images; of 1x8x8; 20 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …>"
    )
    encoded = given._repr_html_().partition("base64,")[2].partition('"')[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert picture.shape == (8, 128, 3)
    assert np.array_equal(picture[:, :8, 0], IMAGES[0, 0])


# splits that are not there


def test_the_validation_images_stand_in_where_there_are_no_test_images(faces, capsys, config):
    halves = config(faces, "celeba", fractions=(0.5, 0.5, 0.0), split="fractions")
    test = DatasetSplits(halves).test_or_val
    assert test.split == "val"
    assert test.fingerprint == load_split(halves, "val").fingerprint
    out = capsys.readouterr().out
    assert "no test split with the fractions 50/50/0: the validation images are used instead" in out
    assert 'what is called "test" here are the 4 val images' in validation_as_test_warnings(test)[0]
    thirds = config(faces, "celeba", fractions=(0.5, 0.25, 0.25), split="fractions")
    assert validation_as_test_warnings(DatasetSplits(thirds).test_or_val) == []
    with pytest.raises(NoSplitError, match="no test split"):
        _ = DatasetSplits(config(faces, "celeba", fractions=(1.0, 0.0, 0.0), split="fractions")).test_or_val


# training

SHORT = TrainerConfig(max_images=80, batch_size=8, accelerator="cpu")
SMALL = NetworkConfig(channels=(8, 8), num_res_blocks=1, attention_levels=(), head_channels=8)


def test_ten_steps_of_both_stages_from_a_tensor(tmp_path):
    data = load_dataset(random_images(60, 1, 8, 8), labels=["a", "b"] * 30, name="noise", hflip=True)
    autoencoder = train_autoencoder(
        data,
        network=AutoencoderConfig(channels=(8, 8), attention=False),
        loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
        trainer=SHORT,
        validation_images=4,
    )
    latents = cache_latents(autoencoder, data, folder=tmp_path)
    count = len(data.train)
    assert len(latents) == 2 * count  # each mirrored
    assert cache_latents(autoencoder, data, folder=tmp_path).moments.equal(latents.moments)
    assert len(list(tmp_path.glob("noise-train-*.safetensors"))) == 1
    model = train_diffusion(latents, network=SMALL, trainer=SHORT, validation_images=4, quality_images=0)
    assert model.provenance["images_seen"] == 80
    about = model.provenance["data"]
    assert (about["name"], about["fingerprint"], about["images"]) == ("noise", data.train.fingerprint, count)
    assert about["class_names"] == ["a", "b"]
    assert model.settings["data"]["name"] == "tensors"
    model.save(tmp_path / "noise.safetensors")
    assert load(tmp_path / "noise.safetensors").sample(2, steps=2).shape == (2, 1, 8, 8)


def test_ten_steps_from_a_torchvision_dataset():
    model = train_diffusion(
        FakeData(40, (3, 8, 8), 3), network=SMALL, trainer=SHORT, validation_images=4, quality_images=0
    )
    assert model.provenance["images_seen"] == 80
    assert model.class_names == ("0", "1", "2")
    assert model.codec.image_shape == (3, 8, 8)
