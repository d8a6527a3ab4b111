"""Tars of samples: images and classes by their fields, shards by patterns, and tars that are hostile."""

from __future__ import annotations

import io
import json
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import load_dataset
from latentdiff.config import DataConfig
from latentdiff.data import load_split, open_files
from latentdiff.data.image_formats import BadImageError
from latentdiff.errors import DataError


def jpg(seed, size=(12, 10)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def add(archive, name, content, **attributes):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in attributes.items():
        setattr(entry, key, value)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """Writes tars of (name, content), and makes the settings of a path in their folder."""

    def write(tars, path="", **settings):
        for name, members in tars.items():
            (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(tmp_path / "own" / name, "w") as archive:
                for member, content in members:
                    add(archive, member, content)
        place = str(tmp_path / "own" / path)
        usual = {"name": "webdataset", "path": place, "size": 8, "cache_folder": str(tmp_path / "cache")}
        return DataConfig(**{**usual, **settings})

    return write


def samples(seeds):
    return [
        member for seed in seeds for member in ((f"./{seed:04d}.jpg", jpg(seed)), (f"./{seed:04d}.cls", b"%d\n" % seed))
    ]


def test_shards_with_splits_and_classes(shards, draw, tmp_path):
    tars = {f"train-{shard:03d}.tar": samples(range(3 * shard, 3 * shard + 3)) for shard in range(3)}
    config = shards({**tars, "val-000.tar": samples(range(9, 11))})
    train, val = load_split(config, "train"), load_split(config, "val")
    assert (train.class_names[:2], train.class_names[-1]) == (("0", "1"), "10")
    assert train.labels.tolist() == list(range(9))
    assert val.labels.tolist() == [9, 10]
    assert train.files[0] == "train-000.tar/0000.jpg"
    folder = tmp_path / "folder"
    folder.mkdir()
    for seed in range(9):
        (folder / f"{seed}.jpg").write_bytes(jpg(seed))
    plain = DataConfig(name="folder", path=str(folder), size=8, fractions=(1.0, 0.0, 0.0), cache_folder="cache")
    assert torch.equal(train.images, load_split(plain, "train").images)
    some = shards({}, path="train-{000..001}.tar", fractions=(1.0, 0.0, 0.0))
    assert load_split(some, "train").labels.tolist() == list(range(6))
    every = shards({}, path="train-*.tar", fractions=(1.0, 0.0, 0.0))
    assert len(load_split(every, "train")) == 9
    with pytest.raises(DataError, match=r"there is no .*train-003.tar of .*train-\{000..003\}.tar"):
        load_split(shards({}, path="train-{000..003}.tar"), "train")
    assert load_dataset(config.path).config.name == "webdataset"


def test_which_field_is_the_image_and_which_the_class(shards, capsys):
    one = {"fractions": (1.0, 0.0, 0.0)}
    both = {"a.tar": [("1.jpg", jpg(1)), ("1.png", jpg(2)), ("1.json", b'{"label": "owl", "n": 3}')]}
    with pytest.raises(DataError, match=r"the image of 1 in .* could be jpg, png: name one with --data.image_column"):
        load_split(shards(both), "train")
    named = load_split(shards(both, image_column="png", classes="json.label", **one), "train")
    assert (named.files, named.class_names) == (("1.png",), ("owl",))
    assert load_split(shards(both, image_column="jpg", classes="json.n", **one), "train").class_names == ("3",)
    assert load_split(shards(both, image_column="jpg", **one), "train").class_names == ()
    assert "no classes: no sample of" in capsys.readouterr().out
    about = {"a.tar": [("1.jpg", jpg(1)), ("1.seg.png", jpg(2)), ("2.txt", b"x")]}
    assert load_split(shards(about, **one), "train").files == ("1.jpg",)
    assert "1 samples without an image, such as 2" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"no sample of .* has the field 'cls'; the fields are"):
        load_split(shards(about, classes="cls"), "train")
    some = {"a.tar": [*samples([1]), ("2.jpg", jpg(2))]}
    with pytest.raises(DataError, match=r"1 of 2 images of .* have no class, the first is 2.jpg"):
        load_split(shards(some), "train")
    with pytest.raises(DataError, match=r"the class of 1 in .* cannot be read"):
        load_split(shards({"a.tar": [("1.jpg", jpg(1)), ("1.json", b"[" * 5000)]}, classes="json.label"), "train")
    with pytest.raises(DataError, match=r"which is too long for a class"):
        load_split(shards({"a.tar": [("1.jpg", jpg(1)), ("1.cls", bytes(2**20 + 1))]}), "train")
    with pytest.raises(DataError, match=r"holds no image that can be used; the fields of its samples are json"):
        load_split(shards({"a.tar": [("1.json", json.dumps({}).encode())]}), "train")


def test_captions_come_from_txt_or_from_a_field_that_is_named(shards, capsys):
    whole = {"fractions": (1.0, 0.0, 0.0)}
    text, about = "ein schöner 犬 🐕\n", {"caption": "a dog", "n": 3, "tags": ["a"]}
    members = [
        ("1.jpg", jpg(1)),
        ("1.txt", b"\xef\xbb\xbf" + text.encode()),
        ("1.json", json.dumps(about).encode()),
        ("1.alt", b"an animal"),
        ("2.jpg", jpg(2)),
        ("2.txt", b" \n"),
        ("2.json", b'{"caption": null}'),
        ("3.jpg", jpg(3)),
    ]
    tars = {"a.tar": members}

    def captions(**settings):
        data = load_split(shards(tars, **whole, **settings), "train")
        return dict(zip(data.files, data.captions, strict=True)) if data.captions else {}

    empty = {"2.jpg": "", "3.jpg": ""}
    assert captions() == {"1.jpg": "ein schöner 犬 🐕", **empty}
    assert re.search(
        r"captions: 2 of 3 images of .* have none, the first is 2.jpg: they get an empty caption",
        capsys.readouterr().out,
    )
    assert captions(captions="txt") == captions(captions=".TXT") == captions()
    assert captions(captions="json.caption") == {"1.jpg": "a dog", **empty}
    assert captions(captions="alt") == {"1.jpg": "an animal", **empty}
    assert captions(captions="none") == {}
    assert captions() == {"1.jpg": "ein schöner 犬 🐕", **empty}  # of the cache of images
    for wrong, words in (
        ("caption", r"no sample of .* has a caption in 'caption'; the fields are .*json.*named json\.NAME"),
        ("json.title", r"no sample of .* has a caption in 'json.title'"),
        ("json.n", r"the caption of 1 in .* cannot be read: n is no caption"),
        ("json.tags", r"the caption of 1 in .* cannot be read: tags is no caption"),
    ):
        with pytest.raises(DataError, match=words):
            captions(captions=wrong)
    tars = {"a.tar": [("1.jpg", jpg(1)), ("1.cls", b"owl"), ("1.txt", b"\xff\xfe")]}
    with pytest.raises(DataError, match=r"the caption of 1 in .* cannot be read: .* or use --data.captions none"):
        captions()
    assert captions(captions="an {class}") == {"1.jpg": "an owl"}
    tars = {"a.tar": [("1.jpg", jpg(1)), ("1.txt", bytes(2**20 + 1))]}
    with pytest.raises(DataError, match=r"1.txt in .* has 1,048,577 bytes, which is too long for a caption"):
        captions()
    tars = {"a.tar": [("1.jpg", jpg(1)), ("1.txt", b"")]}
    assert captions() == {}
    assert "have none" not in capsys.readouterr().out


def test_captions_stay_with_their_images_in_shards_and_splits(shards):
    tars = {
        f"{split}-{number}.tar": [
            member
            for seed in seeds
            for member in ((f"{seed}.jpg", jpg(seed)), (f"{seed}.txt", f"image {seed}".encode()))
        ]
        for split, number, seeds in (("train", 0, [1, 2]), ("train", 1, [2, 3]), ("test", 0, [4]))
    }
    train, test = (load_split(shards(tars), split) for split in ("train", "test"))
    assert dict(zip(train.files, train.captions, strict=True)) == {
        "train-0.tar/1.jpg": "image 1",
        "train-0.tar/2.jpg": "image 2",
        "train-1.tar/2.jpg": "image 2",
        "train-1.tar/3.jpg": "image 3",
    }
    assert test.captions == ("image 4",)


def test_a_name_in_a_tar_is_no_path_and_odd_members_are_refused(tmp_path, shards):
    config = shards({}, path="odd.tar", on_bad_image="skip", fractions=(1.0, 0.0, 0.0))
    (tmp_path / "own").mkdir()
    with tarfile.open(tmp_path / "own" / "odd.tar", "w") as archive:
        add(archive, "../../outside.jpg", jpg(0))
        add(archive, "/etc/absolute.jpg", jpg(0))
        add(archive, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "device.jpg", b"", type=tarfile.CHRTYPE)
        add(archive, "._mac.jpg", b"x")
        add(archive, "empty.jpg", b"")
        add(archive, "good.jpg", jpg(1))
        add(archive, "good.jpg", jpg(2))
    files = open_files(config)
    assert files is not None
    assert [reason for _, reason in files.refused] == [
        "its path points out of the archive",
        "its path points out of the archive",
        "it is not a regular file",
        "it is not a regular file",
    ]
    data = load_split(config, "train")
    assert data.files == ("good.jpg",)
    assert files.read("good.jpg") == jpg(1)
    with pytest.raises(BadImageError, match=r"at most 10 are read"):
        files.read("good.jpg", 10)
    assert files.stamp("good.jpg")[0] == len(jpg(1))


def test_a_tar_that_is_cut_off_or_packed_is_named(tmp_path, shards):
    config = shards({"a.tar": samples(range(3))}, path="a.tar")
    whole = (tmp_path / "own" / "a.tar").read_bytes()
    (tmp_path / "own" / "a.tar").write_bytes(whole[:1400])
    with pytest.raises(DataError, match=r"a.tar cannot be read as a tar: unexpected end of data. Copy or download"):
        load_split(config, "train")
    with tarfile.open(tmp_path / "own" / "a.tar.gz", "w:gz") as archive:
        add(archive, "1.jpg", jpg(1))
    with pytest.raises(DataError, match=r"Tars that are compressed are not read"):
        load_split(shards({}, path="a.tar.gz"), "train")
