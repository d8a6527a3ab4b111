"""CelebA in a miniature of torchvision's layout, and as any directory or zip."""

from __future__ import annotations

import zipfile

import pytest
import torch

from latentdiff.data import DatasetSplits, NoSplitError, load_split
from latentdiff.errors import DataError


def test_the_attribute_that_gives_the_classes_moves_no_image_to_another_split(faces, config):
    settings = {"split": "fractions", "fractions": (0.5, 0.25, 0.25)}
    plain, smiling, male = (
        load_split(config(faces, "celeba", classes=classes, **settings), "test").images
        for classes in ("labels", "Smiling", "Male")
    )
    assert torch.equal(plain, smiling)
    assert torch.equal(plain, male)


def test_celeba_with_its_tables(faces, config):
    train = load_split(config(faces, "celeba", classes="Smiling"), "train")
    assert train.class_names == ("not Smiling", "Smiling")
    assert train.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(NoSplitError, match="no test split with the fractions 50/50/0"):
        load_split(config(faces, "celeba", fractions=(0.5, 0.5, 0.0), split="fractions"), "test")
    with pytest.raises(DataError, match="no attribute 'Hat'; it has Smiling, Male"):
        load_split(config(faces, "celeba", classes="Hat"), "train")
    (faces / "celeba/list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match=r"has no line for 000002\.jpg"):
        load_split(config(faces, "celeba"), "train")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_celebas_tables_as_text_or_csv_beside_or_within_a_zip(faces, tmp_path, suffix, inside, config):
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
    assert train.split_description == ""


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("list_eval_partition.txt", "000001.jpg zero\n", "a line is not a name and one of 0, 1, 2: 000001.jpg zero"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "a line is not a name"),
        ("list_eval_partition.txt", "", "has no line for 000001.jpg"),
        ("list_attr_celeba.txt", "8\n", "has no attribute 'Smiling'; it has none at all"),
        ("list_attr_celeba.txt", "", "has no attribute 'Smiling'; it has none at all"),
        ("list_attr_celeba.txt", "8\nMale Smiling\n000001.jpg 1\n", "is truncated: a line ends before Smiling"),
    ],
)
def test_damaged_tables_of_celeba_are_named(faces, table, text, message, config):
    (faces / "celeba" / table).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        load_split(config(faces, "celeba", classes="Smiling"), "train")
    assert table in str(error.value)


def test_an_official_split_of_no_image_is_no_split(faces, config):
    """The first ten thousand faces are all for training."""
    table = faces / "celeba/list_eval_partition.txt"
    table.write_text("\n".join(f"{index:06d}.jpg 0" for index in range(1, 9)))
    assert len(load_split(config(faces, "celeba"), "train")) == 8
    with pytest.raises(NoSplitError, match=r"is in its official test split; use --data\.split fractions"):
        _ = DatasetSplits(config(faces, "celeba")).held_out


def test_celeba_from_any_directory_or_zip_without_tables(faces, tmp_path, config):
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
