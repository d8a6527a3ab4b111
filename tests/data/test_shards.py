"""Patterns of files, and the splits that their names tell."""

from __future__ import annotations

import pytest

from latentdiff.data.shards import expand_braces, find_files, official_names, split_of_name
from latentdiff.errors import DataError


def test_braces_stand_for_what_a_shell_makes_of_them():
    assert expand_braces("a-{08..11}.tar") == [f"a-{number:02d}.tar" for number in range(8, 12)]
    assert expand_braces("{9..11}") == ["9", "10", "11"]
    assert expand_braces("{a,b}/{1..2}") == ["a/1", "a/2", "b/1", "b/2"]
    assert expand_braces("plain{x}.tar") == ["plain{x}.tar"]
    with pytest.raises(DataError, match="counts no files"):
        expand_braces("{5..2}")
    with pytest.raises(DataError, match="counts no files"):
        expand_braces("{0..99999999999}")
    with pytest.raises(DataError, match="stands for more than"):
        expand_braces("{0..999}{0..999}{0..999}")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/validation-0.parquet", "val"),
        ("train/test-0.tar", "test"),
        ("imagenet_val_000.tar", "val"),
        ("eval.parquet", "test"),
        ("training_part1.parquet", "train"),
        ("retrain.parquet", None),
        ("train-test.parquet", None),
        ("part-0.parquet", None),
    ],
)
def test_the_split_of_a_name(name, split):
    assert split_of_name(name) == split


def test_files_come_in_natural_order_without_litter(tmp_path):
    for name in ("b10.tar", "b9.tar", "sub/a.TAR", ".hidden.tar", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    _, files = find_files(str(tmp_path), (".tar",), "tar")
    assert [name for name, _ in files] == ["b9.tar", "b10.tar", "sub/a.TAR"]
    with pytest.raises(DataError, match="holds no Parquet file"):
        find_files(str(tmp_path), (".parquet",), "Parquet file")
    odd = tmp_path / "odd[1].tar"
    odd.write_bytes(b"")
    assert find_files(str(odd), (".tar",), "tar")[1] == [("odd[1].tar", odd)]


def test_splits_of_authors(capsys):
    assert official_names("x", ["train_extra", "train", "validation"], lambda name: 3) == {
        "train": "train",
        "validation": "val",
    }
    assert "left out of x: the splits train_extra (3 rows)" in capsys.readouterr().out
    assert official_names("x", ["full"], lambda name: 3) == {"full": "train"}
