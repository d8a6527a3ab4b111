"""A string is a class's name, a whole number its index, in Python and in the shell alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentdiff import command_line as cli
from latentdiff.config.model_stages import SampleStage
from latentdiff.errors import ConfigError
from latentdiff.inference.labels import parse_labels, resolve_labels

NAMES = ("Coat", "Dress", "T-shirt, top", "cat", "Cat", "th\u00e9")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, [0, 1, 2]),
        (1, [1, 1, 1]),
        ("Dress", [1, 1, 1]),
        ("dress", [1, 1, 1]),
        ("The\u0301", [5, 5, 5]),
        ("cat", [3, 3, 3]),
        ("Cat", [4, 4, 4]),
        (["coat", 1, "T-shirt, top"], [0, 1, 2]),
        (torch.tensor([2, 1, 0]), [2, 1, 0]),
        (torch.tensor(2), [2, 2, 2]),
        (np.array([2, 1, 0]), [2, 1, 0]),
    ],
)
def test_names_and_indices_are_found(labels, expected):
    found = resolve_labels(labels, NAMES, 5, 3)
    assert found.tolist() == expected
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("zebra", "'zebra' is no class. The classes are 0: Coat, 1: Dress"),
        ("CAT", "'CAT' could be cat or Cat"),
        (5, "from 0 to 4, not 5: 0: Coat"),
        (-1, "from 0 to 4, not -1"),
        (3.7, "a class's name or its index, not 3.7"),
        (True, "a class's name or its index, not True"),
        ([0, None, 1], "not None"),
        ("3.5", "'3.5' is no class"),
        (torch.tensor([0.5, 1.0, 2.0]), "not 0.5"),
        ([0, 1], "2 labels were given for 3 images"),
        (b"\x00\x01\x02", "not b'"),
        ({0: 1, 1: 2, 2: 3}, "not {0: 1"),
        ({0, 1, 2}, "not {0, 1, 2}"),
        ([[0], [1], [2]], "not [0]"),
        ("", "'' is no class"),
    ],
)
def test_what_is_no_class_is_refused(labels, message):
    with pytest.raises(ConfigError) as refused:
        resolve_labels(labels, NAMES, 5, 3)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_hundred_classes_are_listed_in_short():
    with pytest.raises(ConfigError) as refused:
        resolve_labels("zebra", [f"class {index}" for index in range(102)], 102, 1)
    assert "18: class 18, …, 101: class 101" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("Dress", "Dress"),
        ("Dress, cat", ["Dress", "cat"]),
        ("3", 3),
        ("3,Dress", [3, "Dress"]),
        ("T-shirt, top", "T-shirt, top"),
        ('["T-shirt, top", 1]', ["T-shirt, top", 1]),
        # As YAML has them: a text is a name, a whole number an index.
        (3, 3),
        (("cat", "dog"), ("cat", "dog")),
        ((3, 5), (3, 5)),
        # What looks like a number, and is none.
        ("²", "²"),
        ("-1", "-1"),
        ("3.5", "3.5"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_the_shell_says_the_same(text, expected):
    assert parse_labels(text, NAMES) == expected


def test_a_name_like_a_list_is_a_name():
    assert parse_labels("[new]", ("[new]", "old")) == "[new]"
    with pytest.raises(ConfigError, match="starts like a JSON list but is not one"):
        parse_labels("[new", ("[new]", "old"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labels: 3", 3),
        ("labels: cat", "cat"),
        ("labels: [cat, dog]", ("cat", "dog")),
        ("labels: [3, 5]", (3, 5)),
        ('labels: ["10", 3]', ("10", 3)),
    ],
)
def test_yaml_says_the_same(text, expected, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    assert cli.parse(SampleStage, ["--config", str(tmp_path / "own.yaml")]).labels == expected


@pytest.mark.parametrize("text", ["labels: 3.7", "labels: true", "labels: [3.7]", "labels: [true]", "labels: {a: 1}"])
def test_yaml_refuses_what_is_no_class(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"labels in .* must be text or a whole number"):
        cli.parse(SampleStage, ["--config", str(tmp_path / "own.yaml")])


@pytest.mark.parametrize("text", ["3", "001", "1e3", "3.7", "true", "T-shirt, top", "[0]", "3,Dress"])
def test_the_shells_text_stays_as_it_is_typed(text):
    assert cli.parse(SampleStage, ["--labels", text]).labels == text


def test_a_number_that_is_a_name_and_another_classs_index_is_refused():
    digits = ("1", "0", "2")
    with pytest.raises(ConfigError, match="is the name of class 1, and the index of class '1'"):
        parse_labels("0", digits)
    assert parse_labels("2", digits) == "2"
    assert parse_labels('["0"]', digits) == "0"
    assert parse_labels("[0]", digits) == 0


def test_a_number_that_is_spelt_otherwise_than_the_name_it_means_is_no_index():
    padded = ("01", "02", "10")
    with pytest.raises(ConfigError, match=r'is the name of class 0, and the index of class .02.. Write \["01"\]'):
        parse_labels("1", padded)
    assert parse_labels("10", padded) == "10"
    assert parse_labels("0", padded) == 0


def test_indices_of_numpy_in_a_list_are_indices():
    labels = resolve_labels([np.int64(1), np.uint8(0)], ("a", "b"), num_classes=2, num_images=2)
    assert labels.tolist() == [1, 0]
    with pytest.raises(ConfigError, match="not "):
        resolve_labels([np.float64(1)] * 2, ("a", "b"), num_classes=2, num_images=2)
