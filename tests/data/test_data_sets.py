"""Every data set by its name, from a miniature of its layout."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from latentdiff.config import DataConfig
from latentdiff.data import DatasetSplits, NoSplitError, cifar, load_split, open_files
from latentdiff.errors import DataError
from latentdiff.evaluation.record import stood_in


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr("latentdiff.data.download.answers", lambda *_: False)


def draw(path, seed=0, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def config(root, name, **settings):
    return DataConfig(name=name, root=str(root), cache_folder=str(Path(root) / "cache"), **settings)


@pytest.fixture
def flowers(tmp_path):
    from scipy.io import savemat

    folder = tmp_path / "flowers-102"
    for index in range(1, 13):
        draw(folder / "jpg" / f"image_{index:05d}.jpg", index)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 1, 1, 1, 2, 2, 2, 2, 102, 102, 102, 102]])})
    splits = {"trnid": [[1, 5, 9]], "valid": [[2, 6, 10]], "tstid": [[3, 4, 7, 8, 11, 12]]}
    savemat(folder / "setid.mat", {name: np.array(ids) for name, ids in splits.items()})
    return tmp_path


def test_flowers(flowers):
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
def test_damaged_flowers_are_named(flowers, damage, message):
    damage(flowers / "flowers-102")
    with pytest.raises(DataError, match=message):
        load_split(config(flowers, "flowers-102"), "train")


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "celeba"
    names = [f"{index:06d}.jpg" for index in range(1, 9)]
    for index, name in enumerate(names):
        draw(folder / "img_align_celeba" / name, index, (18, 22))
    rows = [f"{name}  {-1 if index % 2 else 1} -1" for index, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["8", "Smiling Male ", *rows]))
    (folder / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {min(2, index // 4)}" for index, name in enumerate(names))
    )
    return tmp_path


def test_the_validation_images_stand_in_where_there_are_no_test_images(faces, capsys):
    halves = config(faces, "celeba", fractions=(0.5, 0.5, 0.0), split="fractions")
    test = DatasetSplits(halves).test_or_val
    assert test.split == "val"
    assert test.fingerprint == load_split(halves, "val").fingerprint
    out = capsys.readouterr().out
    assert "no test split with the fractions 50/50/0: the validation images stand in" in out
    assert 'what is called "test" here are the 4 val images' in stood_in(test)[0]
    thirds = config(faces, "celeba", fractions=(0.5, 0.25, 0.25), split="fractions")
    assert stood_in(DatasetSplits(thirds).test_or_val) == []
    with pytest.raises(NoSplitError, match="no test split"):
        _ = DatasetSplits(config(faces, "celeba", fractions=(1.0, 0.0, 0.0), split="fractions")).test_or_val


def test_celeba_with_its_tables(faces):
    train = load_split(config(faces, "celeba", classes="Smiling"), "train")
    assert train.class_names == ("not Smiling", "Smiling")
    assert train.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(NoSplitError, match="no test split with the fractions 50/50/0"):
        load_split(config(faces, "celeba", fractions=(0.5, 0.5, 0.0), split="fractions"), "test")
    with pytest.raises(DataError, match="no attribute 'Hat'; it has Smiling, Male"):
        load_split(config(faces, "celeba", classes="Hat"), "train")
    (faces / "celeba/list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match=r"says nothing of 000002\.jpg"):
        load_split(config(faces, "celeba"), "train")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_celebas_tables_as_text_or_csv_beside_or_within_a_zip(faces, tmp_path, suffix, inside):
    texts = {name: (faces / f"celeba/{name}.txt").read_text() for name in ("list_attr_celeba", "list_eval_partition")}
    if suffix == ".csv":  # as Kaggle's mirror has them
        rows = {name: [line.split() for line in text.splitlines()] for name, text in texts.items()}
        rows["list_attr_celeba"] = [["image_id", *rows["list_attr_celeba"][1]], *rows["list_attr_celeba"][2:]]
        rows["list_eval_partition"].insert(0, ["image_id", "partition"])
        texts = {name: "\n".join(map(",".join, lines)) for name, lines in rows.items()}
    (tmp_path / "z").mkdir()
    with zipfile.ZipFile(tmp_path / "z/faces.zip", "w") as archive:
        for path in (faces / "celeba/img_align_celeba").iterdir():
            archive.write(path, f"img_align_celeba/{path.name}")
        for name, text in texts.items():
            archive.writestr(name + suffix, text) if inside else (tmp_path / "z" / (name + suffix)).write_text(text)
    train = load_split(
        config(tmp_path / "none", "celeba", path=str(tmp_path / "z/faces.zip"), classes="Smiling"), "train"
    )
    assert train.labels.tolist() == [1, 0, 1, 0]
    assert train.parts == ""


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("list_eval_partition.txt", "000001.jpg zero\n", "a line is not a name and one of 0, 1, 2: 000001.jpg zero"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "a line is not a name"),
        ("list_eval_partition.txt", "", "says nothing of 000001.jpg"),
        ("list_attr_celeba.txt", "8\n", "has no attribute 'Smiling'; it has none at all"),
        ("list_attr_celeba.txt", "", "has no attribute 'Smiling'; it has none at all"),
        ("list_attr_celeba.txt", "8\nMale Smiling\n000001.jpg 1\n", "is truncated: a line ends before Smiling"),
    ],
)
def test_damaged_tables_of_celeba_are_named(faces, table, text, message):
    (faces / "celeba" / table).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        load_split(config(faces, "celeba", classes="Smiling"), "train")
    assert table in str(error.value)


def test_an_official_split_of_no_image_is_no_split(faces):
    """The first ten thousand faces are all for training."""
    table = faces / "celeba/list_eval_partition.txt"
    table.write_text("\n".join(f"{index:06d}.jpg 0" for index in range(1, 9)))
    assert len(load_split(config(faces, "celeba"), "train")) == 8
    with pytest.raises(NoSplitError, match=r"is in its official test split; use --data\.split fractions"):
        _ = DatasetSplits(config(faces, "celeba")).held_out


def test_celeba_from_any_directory_or_zip_without_tables(faces, tmp_path):
    images = sorted((faces / "celeba/img_align_celeba").iterdir())
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in images:
            archive.write(path, f"some/where/{path.name}")
    other = tmp_path / "elsewhere" / "deep"
    other.mkdir(parents=True)
    for path in images:
        (other / path.name).write_bytes(path.read_bytes())
    found = [
        load_split(config(tmp_path / "none", "celeba", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")
        for path in (tmp_path / "faces.zip", other)
    ]
    assert torch.equal(found[0].images, found[1].images)
    assert len(found[0]) == 8
    with pytest.raises(DataError, match=r"with --data\.path"):
        load_split(config(tmp_path / "none", "celeba"), "train")


def test_pets_with_and_without_annotations(tmp_path):
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


def test_cifar_in_torchvisions_layout_and_as_folders(tmp_path, monkeypatch):
    folder = tmp_path / "t" / cifar.BATCHES
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, 3, 4, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar.CLASS_NAMES)}))
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


# one's own folder


def test_folder_classes_from_sub_folders_and_splits_from_their_names(tmp_path):
    for split in ("train", "valid", "test"):
        for index, name in enumerate(("cats", "dogs")):
            draw(tmp_path / "own" / split / name / "0.png", index)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "val")
    assert (data.class_names, data.labels.tolist()) == (("cats", "dogs"), [0, 1])
    pooled = config(tmp_path, "folder", path=str(tmp_path / "own"), split="fractions", fractions=(1.0, 0.0, 0.0))
    assert load_split(pooled, "train").labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST")])
@pytest.mark.parametrize("prefix", ["", "./", "archive/dataset/"])
def test_folder_in_a_zip_of_a_zip_of_folders(tmp_path, names, prefix):
    draw(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for split in names:
            for label in ("cats", "dogs"):
                archive.write(tmp_path / "a.png", f"{prefix}{split}/{label}/0.png")
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own.zip")), "test")
    assert (data.class_names, data.labels.tolist(), data.parts) == (("cats", "dogs"), [0, 1], "")


def test_folder_of_training_images_alone_has_their_classes(tmp_path):
    for label in ("cats", "dogs"):
        draw(tmp_path / "own" / "train" / label / "0.png")
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.class_names == ("cats", "dogs")


def test_folder_with_an_image_beside_its_folders_says_that_these_are_no_classes(tmp_path, capsys):
    for name in ("cats/0.png", "dogs/0.png", "cover.png"):
        draw(tmp_path / "own" / name)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.num_classes == 0
    assert "no classes: 1 of 3 images in" in capsys.readouterr().out


def test_folder_without_folders_has_no_classes(tmp_path):
    for index in range(4):
        draw(tmp_path / "own" / f"{index}.png", index)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert (data.num_classes, len(data), data.image_shape) == (0, 4, (3, 64, 64))


def test_folder_classes_from_a_table(tmp_path):
    for index in range(4):
        draw(tmp_path / "own" / f"{index}.png", index)
    table = tmp_path / "table.csv"
    table.write_text("file,kind,colour\n0.png,a,red\n1,b,red\n2.png,a,blue\n3.png,b,blue\n")
    settings = {"path": str(tmp_path / "own"), "table": str(table), "fractions": (1.0, 0.0, 0.0)}
    assert load_split(config(tmp_path, "folder", **settings), "train").labels.tolist() == [0, 1, 0, 1]
    by_colour = load_split(config(tmp_path, "folder", classes="colour", **settings), "train")
    assert (by_colour.class_names, by_colour.labels.tolist()) == (("blue", "red"), [1, 1, 0, 0])
    with pytest.raises(DataError, match="no column 'size'"):
        load_split(config(tmp_path, "folder", classes="size", **settings), "train")
    for text, message in (
        ("file,kind\n0.png,a\n", r"no row for 1\.png"),
        ("file,kind\n0.png,a\n0.png,b\n", "two classes"),
        ("file\n0.png\n", "two columns"),
        ("", "two columns"),
        ("file,kind\n", "two columns"),
        ("file;kind\n0.png;a\n", "separated by a comma"),
        ("file,kind\n0.png\n1,b\n2,a\n3,a\n", r"gives 0\.png no class"),
        ("file,kind\n0.png,\n1,b\n2,a\n3,a\n", r"gives 0\.png no class"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            load_split(config(tmp_path, "folder", **settings), "train")


def test_spaces_and_empty_lines_of_a_table_are_no_classes(tmp_path):
    for index in range(2):
        draw(tmp_path / "own" / f"{index}.png", index)
    (tmp_path / "table.csv").write_text("file, kind\n0.png, a\n\n1.png,a\n,\n")
    settings = {"table": str(tmp_path / "table.csv"), "classes": "kind", "fractions": (1.0, 0.0, 0.0)}
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), **settings), "train")
    assert data.class_names == ("a",)


def test_a_row_of_a_table_that_two_files_share_is_refused(tmp_path):
    for name in ("a/0.png", "b/0.png"):
        draw(tmp_path / "own" / name)
    settings = {"path": str(tmp_path / "own"), "table": str(tmp_path / "table.csv"), "fractions": (1.0, 0.0, 0.0)}
    (tmp_path / "table.csv").write_text("file,kind\n0.png,a\n")
    with pytest.raises(DataError, match=r"says 0\.png, which is a/0\.png and b/0\.png: name each of them in full"):
        load_split(config(tmp_path, "folder", **settings), "train")
    (tmp_path / "table.csv").write_text("file,kind\na/0.png,x\nb/0.png,y\n")
    assert load_split(config(tmp_path, "folder", **settings), "train").labels.tolist() == [0, 1]


# mixed, and the settings


def test_mixed_offsets_classes_and_balances(tmp_path):
    for index in range(6):
        draw(tmp_path / "cifar-10" / "train" / cifar.CLASS_NAMES[index] / "0.png", index, (32, 32))
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


def test_mixed_with_a_folder_and_with_an_attribute(faces):
    for label in ("cats", "dogs"):
        draw(faces / "own" / label / "0.png")
    own = {"path": str(faces / "own"), "size": 16, "colour": "grey", "fractions": (1.0, 0.0, 0.0)}
    three = ("celeba", "folder", "fashion-mnist")
    mix = config(faces, "mixed", mix=three, classes="Smiling", source="embedded", **own)
    data = load_split(mix, "train")
    assert data.class_names[:4] == ("celeba not Smiling", "celeba Smiling", "folder cats", "folder dogs")
    assert (data.num_classes, data.labels[2:4].tolist()) == (14, [2, 3])
    by_us = "of all images split 100/0/0 by seed 0"
    assert data.parts == f"balanced mix of celeba, folder ({by_us}), fashion-mnist"
    files = open_files(mix)
    assert files.path.name == "mixed"
    assert "folder/cats/0.png" in files.images


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


def test_arrays_are_resized_coloured_and_thinned():
    small = load_split(DataConfig(source="embedded", size=16, colour="rgb", max_train_images=50), "train")
    assert (len(small), small.image_shape) == (50, (3, 16, 16))
    assert "50 of its images" in small.describe()
    whole = load_split(DataConfig(source="embedded"), "train")
    taken = load_split(DataConfig(source="embedded", max_train_images=50), "train")
    keys = {image.numpy().tobytes() for image in whole.images}
    assert all(image.numpy().tobytes() in keys for image in taken.images)
    assert len(load_split(DataConfig(source="embedded", max_train_images=50), "test")) == 2000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x"}, "data.path is for celeba"),
        ({"name": "folder"}, r"needs --data\.path"),
        ({"name": "celeba", "table": "x"}, "data.table is for data.name folder"),
        ({"classes": "Smiling"}, "an attribute is CelebA's"),
        ({"size": 2}, "at least 4 pixels"),
        ({"max_train_images": 0}, "at least 1"),
        ({"name": "mnist", "source": "embedded"}, "data.source is for data.name fashion-mnist"),
        ({"mix_share": "proportional"}, "data.mix_share is for data.name mixed"),
        ({"source": "embedded", "fractions": (0.5, 0.5, 0.0)}, "would go unused: fashion-mnist comes in its official"),
        ({"name": "mixed", "mix": ("celeba", "oxford-iiit-pet"), "path": "x"}, "could be celeba or oxford-iiit-pet"),
        ({"name": "mixed", "mix": ("folder", "mnist")}, r"needs --data\.path"),
        ({"mix": ("mnist",)}, "goes with it alone"),
        ({"name": "mixed"}, "goes with it alone"),
        ({"name": "mixed", "mix": ("mixed",)}, "not itself"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_split(DataConfig(**settings), "train")


@pytest.mark.parametrize("name", ["mnist", "cifar-10", "flowers-102", "celeba", "oxford-iiit-pet"])
def test_a_set_that_is_nowhere_says_where_it_was_looked_for(name, tmp_path):
    with pytest.raises(DataError, match="could not be downloaded") as error:
        load_split(DataConfig(name=name, root=str(tmp_path)), "train")
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())
