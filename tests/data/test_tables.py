"""Parquet files and folders of save_to_disk: which columns, classes and splits are taken, and how rows are read."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import load_dataset
from latentdiff.config import DataConfig
from latentdiff.data import DatasetSplits, load_split, open_files
from latentdiff.data.content import content_digests
from latentdiff.data.duplicates import digest_files
from latentdiff.data.folder import list_images
from latentdiff.data.image_formats import BadImageError
from latentdiff.data.statistics import read_sizes
from latentdiff.errors import ConfigError, DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(seed, size=(12, 10)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def rows(seeds, **columns):
    """A table with a column ``image`` of struct {bytes, path}, and others."""
    images = [{"bytes": png(seed), "path": None} for seed in seeds]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"image": pa.array(images, kind), **columns})


def with_features(table, **features):
    """What Hugging Face's datasets says of a table's columns, in its metadata."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata)


IMAGE = {"_type": "Image"}
ANIMALS = {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]}


@pytest.fixture
def parquet(tmp_path):
    """Writes tables as Parquet files, and makes the settings of their folder."""

    def write(tables, row_group_size=4, **settings):
        (tmp_path / "own").mkdir(exist_ok=True)
        for name, table in tables.items():
            (tmp_path / "own" / name).parent.mkdir(exist_ok=True)
            pq.write_table(table, tmp_path / "own" / name, row_group_size=row_group_size)
        usual = {"name": "parquet", "path": str(tmp_path / "own"), "size": 8, "cache_folder": str(tmp_path / "cache")}
        return DataConfig(**{**usual, **settings})

    return write


def test_splits_classes_and_pixels_are_those_of_the_same_images_in_a_folder(tmp_path, parquet):
    names = ["cat", "dog", "owl"]
    tables = {}
    for split, seeds in (("train", range(12)), ("validation", range(12, 15)), ("test", range(15, 21))):
        table = rows(seeds, label=[seed % 3 for seed in seeds])
        tables[f"data/{split}-00000-of-00001.parquet"] = with_features(table, image=IMAGE, label=ANIMALS)
        for seed in seeds:
            place = tmp_path / "folder" / split / names[seed % 3] / f"{seed:03d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(png(seed))
    config = parquet(tables)
    folder = DataConfig(name="folder", path=str(tmp_path / "folder"), size=8, cache_folder=config.cache_folder)
    for split in ("train", "val", "test"):
        ours, theirs = load_split(config, split), load_split(folder, split)
        assert (ours.class_names, ours.split_description) == (tuple(names), "")
        order = torch.tensor(sorted(range(len(theirs)), key=lambda place: theirs.files[place][-7:]))
        assert torch.equal(ours.images, theirs.images[order])
        assert torch.equal(ours.labels, theirs.labels[order])
    assert load_split(config, "train").files[:2] == ("train/000000", "train/000001")
    assert load_split(config, "val").files[0] == "val/000000"


def test_without_splits_each_image_falls_as_in_a_folder(tmp_path, parquet):
    seeds = range(40)
    config = parquet({"a.parquet": rows(seeds[:25]), "b.parquet": rows(seeds[25:])}, classes="none")
    for seed in seeds:
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{seed:03d}.png").write_bytes(png(seed))
    folder = DataConfig(name="folder", path=str(tmp_path / "folder"), size=8, cache_folder=config.cache_folder)
    ours, theirs = DatasetSplits(config), DatasetSplits(folder)
    assert 0 < len(ours.test) < 10
    for split in ("train", "val", "test"):
        assert getattr(ours, split).fingerprint == getattr(theirs, split).fingerprint
    assert "split 80/10/10 by seed 0" in ours.train.describe()


def test_class_names_without_images_are_kept_and_rows_without_a_class_left_out(parquet, capsys):
    table = with_features(rows(range(4), label=[2, -1, None, 0]), image=IMAGE, label=ANIMALS)
    data = load_split(parquet({"x.parquet": table}, fractions=(1.0, 0.0, 0.0)), "train")
    assert (data.class_names, data.labels.tolist()) == (("cat", "dog", "owl"), [2, 0])
    assert data.files == ("000000", "000003")
    said = capsys.readouterr().out
    assert "2 rows without a class in label" in said
    assert "no image of dog is among the training images" in said


def test_labels_without_names_are_the_names(parquet):
    whole = {"fractions": (1.0, 0.0, 0.0)}
    texts = parquet({"x.parquet": rows(range(3), label=["owl", "cat", "owl"])}, **whole)
    assert load_split(texts, "train").class_names == ("cat", "owl")
    numbers = parquet({"x.parquet": rows(range(3), label=[10, 9, 10])}, **whole)
    data = load_split(numbers, "train")
    assert (data.class_names, data.labels.tolist()) == (("9", "10"), [1, 0, 1])


@pytest.mark.parametrize(
    ("columns", "features", "settings", "message"),
    [
        ({"mask": [b""] * 2}, {"image": IMAGE, "mask": IMAGE}, {}, None),
        ({"left": [b""] * 2}, {}, {"image_column": "left"}, "cannot be used"),
        ({}, {}, {"image_column": "picture"}, r"no column 'picture'; it has image \(struct"),
        ({}, {}, {"classes": "kind"}, "no column 'kind'"),
        (
            {"label": [0, 1], "target": [0, 1]},
            {},
            {},
            "could be in label, target: name one or none with --data.classes",
        ),
        ({"a": [0, 1], "b": [0, 1]}, {"a": ANIMALS, "b": ANIMALS}, {}, "the classes of .* could be in a, b"),
        ({"fine_label": [0, 1], "coarse_label": [0, 1]}, {"fine_label": ANIMALS, "coarse_label": ANIMALS}, {}, None),
        ({"label": [0, 3]}, {"label": ANIMALS}, {}, "a label beyond its 3 classes"),
        ({"label": [[0], [1]]}, {}, {"classes": "label"}, "holds list<.*>, not classes"),
        ({"x": [1, 2]}, {}, {"image_column": "x"}, "holds int64, not the bytes of image files"),
    ],
)
def test_which_columns_are_taken_is_sure_or_asked(parquet, columns, features, settings, message):
    table = with_features(rows(range(2), **columns), **features)
    config = parquet({"x.parquet": table}, fractions=(1.0, 0.0, 0.0), **settings)
    if message is None:
        assert load_split(config, "train").image_shape == (3, 8, 8)
    else:
        with pytest.raises(DataError, match=message) as error:
            load_split(config, "train")
        assert len(str(error.value).splitlines()) <= 4


def test_two_columns_of_images_are_asked_about_and_bytes_are_enough(parquet):
    both = pa.table({"left": [png(0)], "right": [png(1)]})
    with pytest.raises(DataError, match=r"the images of .* could be in left, right: name one with --data.image_column"):
        load_split(parquet({"x.parquet": both}), "train")
    config = parquet({"x.parquet": both}, image_column="right", fractions=(1.0, 0.0, 0.0))
    right = load_split(config, "train")
    assert right.image_shape == (3, 8, 8)
    left = load_split(replace(config, image_column="left"), "train")  # not the images that are cached already
    assert not torch.equal(left.images, right.images)
    with pytest.raises(DataError, match=r"no column of image files; it has a \(int64\)"):
        load_split(parquet({"x.parquet": pa.table({"a": [1]})}), "train")


def test_a_bad_row_is_named_and_can_be_skipped(parquet):
    table = pa.table({"img": [png(0), b"no image", None, png(1, (2, 2)), png(4)], "label": [0, 0, 1, 1, 1]})
    config = parquet({"x.parquet": table}, fractions=(1.0, 0.0, 0.0))
    with pytest.raises(DataError, match=r"3 of 5 files in .* cannot be used") as error:
        load_split(config, "train")
    assert "000001: it is not an image" in str(error.value)
    assert "000002: its row is empty" in str(error.value)
    assert "000003: it is 2x2 pixels" in str(error.value)
    skipping = parquet({"x.parquet": table}, fractions=(1.0, 0.0, 0.0), on_bad_image="skip")
    assert load_split(skipping, "train").labels.tolist() == [0, 1]


def test_a_row_names_no_file_of_this_machine(tmp_path, parquet):
    (tmp_path / "secret.png").write_bytes(png(0))
    images = pa.array(
        [{"bytes": None, "path": str(tmp_path / "secret.png")}], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    with pytest.raises(DataError, match=r"its row holds no image, and names .*secret.png, which is not read"):
        load_split(parquet({"x.parquet": pa.table({"image": images})}, fractions=(1.0, 0.0, 0.0)), "train")


def test_large_values_are_refused_and_rows_come_in_any_order(parquet):
    seeds = range(30)
    table = rows(seeds)
    config = parquet({"a.parquet": table.slice(0, 20), "b.parquet": table.slice(20)}, row_group_size=7)
    files = open_files(config)
    assert files is not None
    assert len(files.images) == 30
    for seed in (29, 0, 13, 14, 6, 7, 20, 19, 28):
        assert files.read(files.images[seed]) == png(seed)
    with pytest.raises(BadImageError, match=r"at most 10 are read"):
        files.read(files.images[3], 10)
    assert read_sizes(files, files.images).tolist() == [[12, 10]] * 30
    assert len(set(digest_files(files, files.images))) == 30


def test_a_damaged_file_is_named_and_its_other_rows_are_read(tmp_path, parquet):
    config = parquet({"x.parquet": rows(range(12))}, row_group_size=4, fractions=(1.0, 0.0, 0.0), on_bad_image="skip")
    place = tmp_path / "own" / "x.parquet"
    content = bytearray(place.read_bytes())
    start = pq.ParquetFile(place).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 400] = bytes(400)
    place.write_bytes(content)
    assert len(load_split(config, "train")) == 8
    place.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x.parquet cannot be read: .* Copy or download it again"):
        load_split(config, "train")


def test_the_content_of_a_row_is_that_of_the_file(tmp_path, parquet):
    config = parquet({"x.parquet": rows(range(3))})
    (tmp_path / "folder").mkdir()
    for seed in range(3):
        (tmp_path / "folder" / f"{seed}.png").write_bytes(png(seed))
    table, folder = open_files(config), list_images(tmp_path / "folder").source
    assert table is not None
    ours, theirs = (content_digests(files, files.images, tmp_path / "cache") for files in (table, folder))
    assert torch.equal(ours, theirs)


def test_names_of_splits(tmp_path, parquet, capsys):
    odd = {"train.parquet": rows(range(2)), "test.parquet": rows(range(2, 4)), "other.parquet": rows(range(4, 6))}
    with pytest.raises(DataError, match=r"other.parquet does not"):
        load_split(parquet(odd), "train")


def saved(place, splits):
    """What ``save_to_disk`` writes: a folder for each split, or one alone where there is one without a name."""
    for split, tables in splits.items():
        folder = place / split
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"data-{index:05d}-of-{len(tables):05d}.arrow" for index in range(len(tables))]
        for name, table in zip(names, tables, strict=True):
            with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=3)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        (folder / "dataset_info.json").write_text("{}")
    if set(splits) != {""}:
        (place / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def test_a_folder_of_save_to_disk_is_read_by_pyarrow_alone(tmp_path, parquet, capsys):
    def table(seeds):
        return with_features(rows(seeds, label=[seed % 3 for seed in seeds]), image=IMAGE, label=ANIMALS)

    extra = {"train": [table(range(5)), table(range(5, 12))], "test": [table(range(12, 16))], "extra": [table([20])]}
    saved(tmp_path / "saved", extra)
    data = load_dataset(tmp_path / "saved", size=8)
    assert data.config.name == "datasets"
    data = DatasetSplits(DataConfig(**{**vars(data.config), "cache_folder": str(tmp_path / "cache")}))
    assert data.train.labels.tolist() == [seed % 3 for seed in range(12)]
    assert data.held_out.files == tuple(f"test/{row:06d}" for row in range(4))
    assert "left out of" in capsys.readouterr().out
    same = parquet({"train.parquet": table(range(12)), "test.parquet": table(range(12, 16))})
    assert data.train.fingerprint == load_split(same, "train").fingerprint
    saved(tmp_path / "one", {"": [table(range(6))]})
    alone = DataConfig(name="datasets", path=str(tmp_path / "one"), size=8, cache_folder=str(tmp_path / "cache"))
    assert len(load_split(DataConfig(**{**vars(alone), "fractions": (1.0, 0.0, 0.0)}), "train")) == 6
    (tmp_path / "one" / "state.json").write_text('{"_data_files": [{"filename": "../saved/train/data.arrow"}]}')
    with pytest.raises(DataError, match=r"lists no files of the folder"):
        load_split(alone, "train")
    (tmp_path / "one" / "state.json").unlink()
    with pytest.raises(DataError, match=r"is not what save_to_disk writes"):
        load_split(alone, "train")


def test_offsets_of_an_arrow_file_that_lead_out_of_it_are_noticed(tmp_path):
    table = pa.table({"image": [png(0), png(1)]})
    saved(tmp_path / "own", {"": [table]})
    place = tmp_path / "own" / "data-00000-of-00001.arrow"
    content = place.read_bytes()
    offsets = np.array([0, len(png(0)), len(png(0)) + len(png(1))], np.int32).tobytes()
    assert content.count(offsets) == 1
    bad = np.array([0, 2**30, 2**30 + 5], np.int32).tobytes()
    place.write_bytes(content.replace(offsets, bad))
    with pytest.raises(DataError, match=r"data-00000-of-00001.arrow cannot be read"):
        load_split(DataConfig(name="datasets", path=str(tmp_path / "own"), cache_folder=str(tmp_path / "c")), "train")


def test_a_path_tells_its_name(tmp_path, parquet):
    config = parquet({"x.parquet": rows(range(2))})
    for path in (f"{config.path}/x.parquet", config.path):
        wrong = DataConfig(name="folder", path=path)
        with pytest.raises(DataError, match=r"is Parquet: add --data.name parquet"):
            load_split(wrong, "train")
        assert load_dataset(path).config.name == "parquet"
    with pytest.raises(ConfigError, match=r"data.name parquet needs --data.path, a Parquet file"):
        load_split(DataConfig(name="parquet"), "train")
    with pytest.raises(ConfigError, match=r"data.image_column is for parquet, datasets, webdataset and hf:ID"):
        load_split(DataConfig(image_column="x", source="embedded"), "train")
    with pytest.raises(DataError, match=r"there is no .*nowhere.parquet"):
        load_split(DataConfig(name="parquet", path="nowhere.parquet"), "train")


def test_a_mix_with_a_table(tmp_path, parquet):
    table = rows(range(6), kind=["a", "b"] * 3)
    settings = {"name": "mixed", "mix": ("parquet", "fashion-mnist"), "source": "embedded", "colour": "grey"}
    config = parquet({"x.parquet": table}, classes="kind", fractions=(1.0, 0.0, 0.0), **settings)
    data = load_split(config, "train")
    assert (data.class_names[:3], len(data)) == (("parquet a", "parquet b", "fashion-mnist T-shirt"), 12)
    files = open_files(config)
    assert files is not None
    assert files.read(data.files[0]) == png(0)


def test_pyarrow_is_named_where_it_is_missing(parquet, monkeypatch):
    config = parquet({"x.parquet": rows(range(2))})

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("latentdiff.extras.import_module", missing)
    with pytest.raises(ConfigError, match=r"pyarrow is not installed: pip install 'latentdiff\[parquet\]'"):
        load_split(config, "train")


def test_captions_come_from_a_column_of_texts(parquet):
    words = ["a cat", None, "ein Hund", "an owl"]
    columns = {
        "label": ["cat", "dog", None, "cat"],
        "what": words,
        "number": [0, 1, 2, 3],
        "score": [0.5, 1.5, 2.0, 3.0],
    }
    config = parquet({"data.parquet": rows(range(4), **columns)}, captions="what", fractions=(1.0, 0.0, 0.0))
    data = load_split(config, "train")
    pixels = {
        tuple(image.flatten().tolist()): caption for image, caption in zip(data.images, data.captions, strict=True)
    }
    plain = load_split(parquet({}, classes="none", captions="what", fractions=(1.0, 0.0, 0.0)), "train")
    assert plain.captions == ("a cat", "", "ein Hund", "an owl")
    # A row without a class is left out, and its caption with it.
    assert sorted(data.captions) == ["", "a cat", "an owl"]
    for image, caption in zip(plain.images, plain.captions, strict=True):
        assert pixels.get(tuple(image.flatten().tolist()), caption) == caption
    with pytest.raises(DataError, match="which is not a text"):
        load_split(parquet({}, captions="number"), "train")
    with pytest.raises(DataError, match="has no column 'words'"):
        load_split(parquet({}, captions="words"), "train")
