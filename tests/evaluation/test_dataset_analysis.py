from __future__ import annotations

import html.parser
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from latentdiff.config import DataConfig, RunConfig
from latentdiff.config.tool_stages import AnalyseStage
from latentdiff.data import load_split
from latentdiff.errors import DataError, FolderError
from latentdiff.evaluation.dataset_analysis import analyse_dataset


def analysed(folder):
    return json.loads((folder / "analysis.json").read_text()), (folder / "index.html").read_text()


def links(page):
    """Everything that a page would fetch."""
    found = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.extend(value for name, value in attributes if name in ("src", "srcset", "href"))

    Reader().feed(page)
    return found


def test_the_embedded_slice(tmp_path, capsys):
    config = DataConfig(source="embedded", max_train_images=300)
    folder = analyse_dataset(AnalyseStage(data=config, run=RunConfig(folder=str(tmp_path / "run"))), "the command")
    record, page = analysed(folder)
    train, test = load_split(config, "train"), load_split(config, "test")
    assert list(record["splits"]) == ["train", "test"]
    assert [split["n"] for split in record["splits"].values()] == [300, 2000]
    assert [split["fingerprint"] for split in record["splits"].values()] == [train.fingerprint, test.fingerprint]
    assert record["splits"]["train"]["class_counts"] == np.bincount(train.labels.numpy(), minlength=10).tolist()
    assert record["splits"]["test"]["pixels"]["mean"] == pytest.approx([test.images.double().mean().item() / 255])
    assert (record["sizes"], record["arrays"]) == (None, {"fashion-mnist": [1, 28, 28]})
    assert record["data"]["max_train_images"] == 300
    assert [*record["seconds"]] == ["sizes", "pixels", "duplicates"]
    names = {path.name for path in folder.iterdir()}
    assert {"classes.png", "density.png", "means.png", "samples-train.png", "samples-test.png"} <= names
    assert "sizes.png" not in names
    assert links(page)
    assert all(link.startswith("data:") for link in links(page))
    assert "the command" in page
    printed = capsys.readouterr().out
    assert "fashion-mnist: 300 train and 2,000 test images of 1×28×28, 10 classes." in printed
    with pytest.raises(FolderError, match="already holds an analysis:"):
        analyse_dataset(AnalyseStage(data=config, run=RunConfig(folder=str(tmp_path / "run"))))


@pytest.fixture
def odd_sizes(tmp_path):
    """A folder in official splits with images of many sizes and one of each kind of duplicate across them."""
    generator = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / "images" / ("test" if index >= 9 else "train") / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        coarse.resize((30 + 2 * index, 40), Image.Resampling.BICUBIC).save(path)
    train, test = tmp_path / "images" / "train", tmp_path / "images" / "test"
    shutil.copy(train / "a" / "0.png", test / "b" / "same.png")
    Image.open(train / "b" / "1.png").save(test / "a" / "pixels.bmp")
    Image.open(train / "a" / "2.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(test / "a" / "<mirror>.png")
    return tmp_path / "images"


def test_a_folder_of_odd_sizes_with_duplicates_across_its_splits(odd_sizes, tmp_path, capsys):
    config = DataConfig(name="folder", path=str(odd_sizes), size=32, cache_folder="cache")
    folder = analyse_dataset(AnalyseStage(data=config, samples=5, run=RunConfig(folder=str(tmp_path / "run"))))
    record, page = analysed(folder)
    assert record["sizes"]["files"] == 15
    assert record["sizes"]["width"]["maximum"] == 52
    assert record["sizes"]["height"] == {"minimum": 40, "median": 40.0, "maximum": 40}
    found = [
        (pair["kind"], pair["mirrored"], pair["first"]["file"], pair["second"]["file"])
        for pair in record["duplicates"]["pairs"]
    ]
    assert found == [
        ("file", False, "train/a/0.png", "test/b/same.png"),
        ("pixels", False, "train/b/1.png", "test/a/pixels.bmp"),
        ("near", True, "train/a/2.png", "test/a/<mirror>.png"),
    ]
    assert [pair["second"]["class"] for pair in record["duplicates"]["pairs"]] == ["b", "a", "a"]
    assert record["duplicates"]["counts"] == {kind: {"train and test": 1} for kind in ("file", "pixels", "near")}
    assert "test/a/&lt;mirror&gt;.png" in page
    assert "<mirror>" not in page
    printed = capsys.readouterr().out
    assert "3 in train and test" in printed
    assert "2 of the listed pairs, first train/a/0.png (a) and test/b/same.png (b)" in printed


def test_a_mixed_data_set_of_files_and_arrays(odd_sizes, tmp_path):
    (tmp_path / "celeba").mkdir()
    odd_sizes.rename(tmp_path / "celeba" / "img_align_celeba")
    config = DataConfig(
        name="mixed",
        mix=("fashion-mnist", "celeba"),
        root=str(tmp_path),
        source="embedded",
        size=32,
        colour="grey",
        classes="none",
        fractions=(0.6, 0.0, 0.4),
        cache_folder="cache",
    )
    folder = analyse_dataset(AnalyseStage(data=config, near=0.0, run=RunConfig(folder=str(tmp_path / "run"))))
    record, page = analysed(folder)
    assert {name: split["n"] for name, split in record["splits"].items()} == {"train": 18, "test": 12}
    assert (record["sizes"]["files"], record["arrays"]) == (15, {"fashion-mnist": [1, 28, 28]})
    assert record["duplicates"]["counts"]["near"] == {}
    (same,) = (pair for pair in record["duplicates"]["pairs"] if pair["kind"] == "file")
    files = {same["first"]["file"], same["second"]["file"]}
    assert files == {"celeba/train/a/0.png", "celeba/test/b/same.png"}
    assert "fashion-mnist comes in arrays of 1×28×28. Files are 30–52 (median" in page
    assert "Arrays are resized to 32×32" in page


def test_bad_data_is_one_sentence_and_leaves_no_run(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    config = DataConfig(name="folder", path=str(tmp_path / "images"))
    with pytest.raises(DataError, match=r"a\.png: it is not an image"):
        analyse_dataset(AnalyseStage(data=config, run=RunConfig(folder=str(tmp_path / "run"))))
    assert not (tmp_path / "run").exists()
