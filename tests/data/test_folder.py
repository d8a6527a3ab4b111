"""One's own folder or zip: classes and splits from names and from a table."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from latentdiff.data import DatasetSplits, load_split
from latentdiff.errors import DataError


def test_folder_classes_from_sub_folders_and_splits_from_their_names(tmp_path, draw, config):
    for split in ("train", "valid", "test"):
        for index, name in enumerate(("cats", "dogs")):
            draw(tmp_path / "own" / split / name / "0.png", index)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "val")
    assert (data.class_names, data.labels.tolist()) == (("cats", "dogs"), [0, 1])
    pooled = config(tmp_path, "folder", path=str(tmp_path / "own"), split="fractions", fractions=(1.0, 0.0, 0.0))
    assert load_split(pooled, "train").labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST"), ("training", "testing")])
@pytest.mark.parametrize("prefix", ["", "./", "archive/dataset/"])
def test_folder_in_a_zip_of_a_zip_of_folders(tmp_path, names, prefix, draw, config):
    draw(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for split in names:
            for label in ("cats", "dogs"):
                archive.write(tmp_path / "a.png", f"{prefix}{split}/{label}/0.png")
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own.zip")), "test")
    assert (data.class_names, data.labels.tolist(), data.split_description) == (("cats", "dogs"), [0, 1], "")


def test_folder_of_training_images_alone_has_their_classes(tmp_path, draw, config):
    for label in ("cats", "dogs"):
        draw(tmp_path / "own" / "train" / label / "0.png")
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.class_names == ("cats", "dogs")


def test_folder_with_an_image_beside_its_folders_says_that_these_are_no_classes(tmp_path, capsys, draw, config):
    for name in ("cats/0.png", "dogs/0.png", "cover.png"):
        draw(tmp_path / "own" / name)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.num_classes == 0
    assert "no classes: 1 of 3 images in" in capsys.readouterr().out


def test_two_classes_that_look_the_same_are_refused(tmp_path, draw, config):
    for index, name in enumerate(("caf\u00e9", "cafe\u0301", "Cafe")):
        draw(tmp_path / "own" / name / "0.png", index)
    with pytest.raises(DataError, match=r"two classes are called .* and look the same: .*u0301"):
        load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "train")


def test_a_class_that_comes_while_the_splits_are_read_shifts_no_label(tmp_path, draw, config):
    for name in ("train/cat", "train/dog", "test/cat"):
        draw(tmp_path / "own" / name / "0.png")
    data = DatasetSplits(config(tmp_path, "folder", path=str(tmp_path / "own")))
    assert data.train.class_names == ("cat", "dog")
    draw(tmp_path / "own" / "test" / "ant" / "0.png")
    with pytest.raises(DataError, match="classes of folder have changed while its splits were read"):
        _ = data.test


def test_folder_without_folders_has_no_classes(tmp_path, draw, config):
    for index in range(4):
        draw(tmp_path / "own" / f"{index}.png", index)
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), fractions=(1.0, 0.0, 0.0)), "train")
    assert (data.num_classes, len(data), data.image_shape) == (0, 4, (3, 64, 64))


def test_folder_classes_from_a_table(tmp_path, draw, config):
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
        ("file,kind,kind\n0.png,a,c\n1,b,c\n2,a,c\n3,a,c\n", "two columns 'kind': rename one"),
        (
            "file,kind\n0.png,T-shirt, top\n1,b\n2,a\n3,a\n",
            "2 columns, but the row of 0.png has more cells: .* in quotes",
        ),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            load_split(config(tmp_path, "folder", **settings), "train")


def test_a_table_may_name_its_files_by_any_path(tmp_path, monkeypatch, draw, config):
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        draw(tmp_path / "own" / "in" / f"{index}.png", index)
    settings = {"path": "own", "table": "table.csv", "fractions": (1.0, 0.0, 0.0)}
    rows = ["./in/0.png", r"in\1.png", "own/in/2.png", f"{tmp_path}/own/in/3.png"]
    table = "file,kind\n" + "".join(f'{row}, "{kind}"\n' for row, kind in zip(rows, "abba", strict=True))
    Path("table.csv").write_text(table)
    data = load_split(config(tmp_path, "folder", **settings), "train")
    assert (data.class_names, data.labels.tolist()) == (("a", "b"), [0, 1, 1, 0])
    Path("table.csv").write_text(f"{table}in/0.png,b\n")
    with pytest.raises(DataError, match=r"in/0\.png two classes: a and b"):
        load_split(config(tmp_path, "folder", **settings), "train")


@pytest.mark.parametrize("names", ["train_images test_images", "train2017 val2017", "train eval", "Train train"])
def test_folders_that_look_like_splits_are_no_classes(tmp_path, names, draw, config):
    for name in names.split():
        draw(tmp_path / "own" / name / "cat" / "0.png", len(name))
    with pytest.raises(DataError, match=f"{sorted(names.split())[0]}, .* look like splits, but would become classes"):
        load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "train")


def test_a_table_that_is_not_in_utf_8_is_refused_with_the_remedy(tmp_path, draw, config):
    draw(tmp_path / "own" / "0.png")
    (tmp_path / "table.csv").write_bytes("file,kind\n0.png,é\n".encode("latin-1"))
    settings = {"path": str(tmp_path / "own"), "table": str(tmp_path / "table.csv")}
    with pytest.raises(DataError, match="Save it as UTF-8"):
        load_split(config(tmp_path, "folder", **settings), "train")


def test_rows_of_a_table_without_a_file_are_counted_in_a_line(tmp_path, draw, config, capsys):
    draw(tmp_path / "own" / "0.png")
    (tmp_path / "own" / "notes.txt").write_text("")
    table = tmp_path / "table.csv"
    settings = {"path": str(tmp_path / "own"), "table": str(table), "fractions": (1.0, 0.0, 0.0)}
    table.write_text("file,kind\n0.png,a\nnotes.txt,a\n,\n")
    load_split(config(tmp_path, "folder", **settings), "train")
    assert "names" not in capsys.readouterr().out
    table.write_text("file,kind\n0.png,a\nz.png,a\nb.png,a\n")
    load_split(config(tmp_path, "folder", **settings), "train")
    assert f"{table} names 2 files that {tmp_path / 'own'} lacks; the first is b.png" in capsys.readouterr().out


def test_spaces_and_empty_lines_of_a_table_are_no_classes(tmp_path, draw, config):
    for index in range(2):
        draw(tmp_path / "own" / f"{index}.png", index)
    (tmp_path / "table.csv").write_text("file, kind\n0.png, a\n\n1.png,a\n,\n")
    settings = {"table": str(tmp_path / "table.csv"), "classes": "kind", "fractions": (1.0, 0.0, 0.0)}
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own"), **settings), "train")
    assert data.class_names == ("a",)


def test_a_row_of_a_table_that_two_files_share_is_refused(tmp_path, draw, config):
    for name in ("a/0.png", "b/0.png"):
        draw(tmp_path / "own" / name)
    settings = {"path": str(tmp_path / "own"), "table": str(tmp_path / "table.csv"), "fractions": (1.0, 0.0, 0.0)}
    (tmp_path / "table.csv").write_text("file,kind\n0.png,a\n")
    with pytest.raises(
        DataError, match=r"has a row for 0\.png, which could be a/0\.png or b/0\.png: give the full name of each"
    ):
        load_split(config(tmp_path, "folder", **settings), "train")
    (tmp_path / "table.csv").write_text("file,kind\na/0.png,x\nb/0.png,y\n")
    assert load_split(config(tmp_path, "folder", **settings), "train").labels.tolist() == [0, 1]
    draw(tmp_path / "own" / "0.png")  # which a row names in full, is not b/0.png, which has none
    (tmp_path / "table.csv").write_text("file,kind\na/0.png,x\n0.png,y\n")
    with pytest.raises(DataError, match=r"has a row for 0\.png, which could be 0\.png or b/0\.png"):
        load_split(config(tmp_path, "folder", **settings), "train")


def test_a_class_folder_of_litter_alone_is_empty(tmp_path, draw, config):
    draw(tmp_path / "own" / "dogs" / "0.png")
    draw(tmp_path / "own" / "cows" / "0.png")
    (tmp_path / "own" / "cats").mkdir()
    (tmp_path / "own" / "cats" / ".DS_Store").write_bytes(b"finder")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for path in sorted((tmp_path / "own").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "own"))
    for path in ("own", "own.zip"):
        with pytest.raises(DataError, match=r"the folder cats in .* is empty, next to folders with images"):
            load_split(config(tmp_path, "folder", path=str(tmp_path / path)), "train")


def test_names_in_a_zip_that_are_utf8_without_saying_so_are_read(tmp_path, draw, config):
    draw(tmp_path / "0.png")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for name in ("café", "the"):
            archive.writestr(f"{name}/0.png", (tmp_path / "0.png").read_bytes())
    content = (tmp_path / "own.zip").read_bytes()
    flags = b"\x00\x08"  # bit 11 of the two bytes before the method, in both headers of the name
    (tmp_path / "own.zip").write_bytes(content.replace(flags, b"\x00\x00"))
    with zipfile.ZipFile(tmp_path / "own.zip") as archive:
        assert "café/0.png" not in archive.namelist()
    data = load_split(config(tmp_path, "folder", path=str(tmp_path / "own.zip"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.class_names == ("café", "the")


def test_folders_within_classes_are_joined_in_a_line_and_splits_there_are_refused(tmp_path, capsys, draw, config):
    for label in ("cat", "dog"):
        for year in ("2019", "2020"):
            draw(tmp_path / "years" / label / year / "0.png")
        for split in ("test", "train"):
            draw(tmp_path / "own" / label / split / "0.png")
    settings = config(tmp_path, "folder", path=str(tmp_path / "years"), fractions=(1.0, 0.0, 0.0))
    assert load_split(settings, "train").class_names == ("cat", "dog")
    assert "are its outermost folders; those within (2019, 2020) are joined" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"splits \(test, train\) within its folders.* as in train/cat"):
        load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "train")


def test_a_class_that_only_the_test_folder_has_is_named(tmp_path, capsys, draw, config):
    for name in ("train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/Dog/0.png"):
        draw(tmp_path / "own" / name)
    load_split(config(tmp_path, "folder", path=str(tmp_path / "own")), "train")
    assert "folder: no image of Dog is among the training images. A model will" in capsys.readouterr().out
