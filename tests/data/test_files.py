"""Directories and zips with odd names, and files that cannot be used."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.errors import DataError


def png(colour=(200, 100, 50)):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 24), colour).save(buffer, "png")
    return buffer.getvalue()


def noise_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "jpeg")
    return buffer.getvalue()


UNUSABLE = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>not found</html>", "it is not an image"),
    "truncated": (noise_jpeg()[:1500], "it is damaged"),
}


def fill(folder, bad=True):
    folder.mkdir(parents=True)
    for index in range(10):
        (folder / f"good{index}.png").write_bytes(png((index, 0, 0)))
    for name, (data, _) in UNUSABLE.items() if bad else ():
        (folder / f"{name}.jpg").write_bytes(data)


def test_all_bad_files_are_listed_at_once_and_nothing_else_is_lost(tmp_path, capsys):
    fill(tmp_path / "images")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), size=16, cache_folder="cache")
    with pytest.raises(DataError) as error:
        load_split(config, "train")
    for name, (_, reason) in UNUSABLE.items():
        assert f"{name}.jpg: {reason}" in str(error.value)
    assert "3 of 13 files" in str(error.value)
    assert "--data.on_bad_image skip" in str(error.value)
    skipping = dataclasses.replace(config, on_bad_image="skip", fractions=(1.0, 0.0, 0.0))
    images = load_split(skipping, "train").images
    assert "3 of 13 files" in capsys.readouterr().out
    assert [int(image[0, 8, 8]) for image in images] == list(range(10))
    (meta,) = (tmp_path / "cache").glob("*/meta.json")
    assert len(json.loads(meta.read_text())["bad"]) == 3
    assert len(list((tmp_path / "images").iterdir())) == 13


def test_a_folder_of_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), on_bad_image="skip")
    with pytest.raises(DataError, match="none of the 1 files"):
        load_split(config, "train")


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def test_names_in_any_script_and_with_spaces(tmp_path):
    for name in ("花.png", "ünïcode ß.png", "a b.png", "emoji 🌷.png"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(png())
    zipped(tmp_path / "z.zip", [(f"класс/{i}.png", png()) for i in range(4)])
    for path in ("images", "z.zip"):
        config = DataConfig(name="folder", path=str(tmp_path / path), fractions=(1.0, 0.0, 0.0))
        assert len(load_split(config, "train")) == 4


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_and_double_names_in_a_zip_are_listed_and_nothing_is_written_outside(tmp_path):
    good = png()
    names = ["ok/a.png", "ok/b.png", "../../evil.png", "/etc/evil.png", "C:/evil.png", "ok/a.png"]
    path = zipped(tmp_path / "z.zip", [(name, good) for name in names])
    with pytest.raises(DataError) as error:
        load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")
    for name in ("../../evil.png", "/etc/evil.png", "C:/evil.png"):
        assert f"{name}: its path points out of the archive" in str(error.value)
    assert "ok/a.png: the archive holds this name twice" in str(error.value)
    assert "4 of 6 files" in str(error.value)
    backslashes = zipped(tmp_path / "w.zip", [("a.png", good), (r"..\..\evil.png", good)])
    with pytest.raises(DataError, match=r"1 of 2 files(.|\n)*evil\.png: its path points out of the archive"):
        load_split(DataConfig(name="folder", path=str(backslashes), fractions=(1.0, 0.0, 0.0)), "train")
    windows = zipped(tmp_path / "windows.zip", [(r"cat\0.png", good), (r"dog\1.png", png((9, 9, 9)))])
    whole = DataConfig(name="folder", path=str(windows), fractions=(1.0, 0.0, 0.0))
    assert load_split(whole, "train").class_names == ("cat", "dog")
    dots = [("./", b""), ("./cat/", b""), ("./cat/12:30.png", good), ("./dog/", b""), ("./dog/1.png", png((9, 9, 9)))]
    zipped(windows, dots)
    assert load_split(whole, "train").class_names == ("cat", "dog")
    zipped(windows, [("10:20 a.png", good), ("b.png", png((9, 9, 9)))])
    assert len(load_split(whole, "train")) == 2
    zipped(windows, [("cat/0.png", good), ("dog/1.png", good), ("emu/", b"")])
    with pytest.raises(DataError, match=r"the folder emu in .* is empty, next to folders with images"):
        load_split(whole, "train")
    only = zipped(tmp_path / "only.zip", [("../evil.png", good)])
    with pytest.raises(DataError, match=r"holds no image that can be used(.|\n)*\.\./evil\.png: its path points out"):
        load_split(DataConfig(name="folder", path=str(only)), "train")
    config = DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0), on_bad_image="skip")
    assert len(load_split(config, "train")) == 2
    assert not list(tmp_path.parent.rglob("evil.png"))


def test_an_encrypted_entry_of_a_zip_is_listed(tmp_path):
    path = zipped(tmp_path / "z.zip", [("a.png", png()), ("b.png", png())])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1  # the first entry's flags in the directory at the end
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"1 of 2 files(.|\n)*a\.png: it is encrypted"):
        load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")


def test_the_summary_is_printed_once_though_every_split_is_loaded(tmp_path, capsys):
    fill(tmp_path / "images")
    settings = {"name": "folder", "path": str(tmp_path / "images"), "size": 16, "fractions": (0.4, 0.3, 0.3)}
    for split in ("train", "val", "test"):
        load_split(DataConfig(on_bad_image="skip", **settings), split)
    assert capsys.readouterr().out.count("files in") == 1


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names here are Unicode")
def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path, capsys):
    for label in (b"caf\xe9", b"bar"):
        folder = os.fsencode(tmp_path / "images") + b"/" + label
        os.makedirs(folder)
        for name, data in ((b"\xe4.png", png()), (b"b.png", png()), (b"\xe5.png", b"junk")):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
    config = DataConfig(
        name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16, on_bad_image="skip"
    )
    data = load_split(config, "train")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.class_names == ("bar", r"caf\udce9")
    printed = capsys.readouterr().out
    assert r"bar/\udce5.png: it is not an image" in printed
    printed.encode()


def test_a_file_that_can_be_read_again_is_no_longer_bad(tmp_path, monkeypatch):
    """Rights, and a drive that failed, leave no trace in the times by which the cache is named."""
    fill(tmp_path / "images", bad=False)
    config = DataConfig(
        name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16, on_bad_image="skip"
    )

    def read(self, name, limit=None):
        if name == "good3.png":
            raise PermissionError("Permission denied")
        return (self.path / name).read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr("latentdiff.data.files.DirectoryFiles.read", read)
        assert len(load_split(config, "train")) == 9
        assert len(load_split(config, "train")) == 9
    assert len(load_split(config, "train")) == 10


def test_linked_folders_are_followed_and_never_in_a_circle(tmp_path):
    fill(tmp_path / "elsewhere", bad=False)
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "0.png").write_bytes(png())
    (tmp_path / "images" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "b" / "up").symlink_to(tmp_path / "images")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0), size=16)
    assert load_split(config, "train").labels.tolist() == [0] + [1] * 10


def test_a_link_to_nowhere_is_listed(tmp_path):
    fill(tmp_path / "images", bad=False)
    (tmp_path / "images" / "lost.png").symlink_to(tmp_path / "images" / "circle")
    (tmp_path / "images" / "circle").symlink_to(tmp_path / "images" / "lost.png")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0))
    with pytest.raises(DataError, match=r"1 of 11 files(.|\n)*lost\.png: it is a broken link"):
        load_split(config, "train")
    assert len(load_split(dataclasses.replace(config, on_bad_image="skip"), "train")) == 10


def test_same_name_in_two_folders_is_two_images(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "1.png").write_bytes(png())
    data = load_split(DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0)), "train")
    assert data.labels.tolist() == [0, 1]


def test_what_systems_leave_behind_is_not_an_image(tmp_path):
    fill(tmp_path / "images", bad=False)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._good0.png"):
        (tmp_path / "images" / name).write_bytes(b"junk")
    config = DataConfig(name="folder", path=str(tmp_path / "images"), fractions=(1.0, 0.0, 0.0))
    assert len(load_split(config, "train")) == 10
    path = zipped(tmp_path / "z.zip", [("d/a.png", png()), ("__MACOSX/d/._a.png", b"junk")])
    assert len(load_split(DataConfig(name="folder", path=str(path), fractions=(1.0, 0.0, 0.0)), "train")) == 1


def test_a_damaged_zip_a_missing_path_and_an_empty_folder_are_named(tmp_path):
    (tmp_path / "z.zip").write_bytes(zipped(tmp_path / "ok.zip", [("a.png", png())]).read_bytes()[:40])
    (tmp_path / "z.jpg").write_bytes(b"an image")
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("z.zip", "cannot be read as a zip"),
        ("z.jpg", "is an image: name its folder"),
        ("nowhere", "there is no"),
        ("empty", "holds no image"),
    ):
        with pytest.raises(DataError, match=message) as error:
            load_split(DataConfig(name="folder", path=str(tmp_path / path)), "train")
        assert path in str(error.value)


def test_a_damaged_entry_of_a_zip_is_listed(tmp_path):
    data = noise_jpeg()
    path = zipped(tmp_path / "z.zip", [("a.jpg", data), ("b.jpg", data)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(data) + 700] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.jpg: it cannot be read: Bad CRC"):
        load_split(DataConfig(name="folder", path=str(path)), "train")


def write_runs_among(images):
    """A run within a class's folder, one beside the classes, and an image cache, as a training in ``images`` leaves."""
    for folder in ("cat/run", "stages/diffusion/folder-latent"):
        (images / folder / "samples").mkdir(parents=True)
        (images / folder / ".latentdiff").write_text('{"stage": "diffusion"}')
        (images / folder / "samples" / "000000064.png").write_bytes(png((255, 255, 255)))
        (images / folder / "last.ckpt").write_bytes(b"0")
    cache = images / "stages" / "data" / "folder-16-0123456789abcdef"
    cache.mkdir(parents=True)
    for name in ("images.bin", "kept.npy", "meta.json"):
        (cache / name).write_bytes(b"0")
    (images / "stages" / "data" / "content-0123456789abcdef.safetensors").write_bytes(b"0")


@pytest.mark.parametrize("zipped", [False, True])
def test_what_latentdiff_wrote_among_the_images_is_not_one_of_them(tmp_path, capsys, zipped):
    images = tmp_path / "images"
    for name in ("cat", "dog"):
        fill(images / name, bad=False)
    write_runs_among(images)
    path = images
    if zipped:
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(images.rglob("*")):
                archive.write(file, file.relative_to(images))
    config = DataConfig(
        name="folder", path=str(path), size=16, cache_folder=str(tmp_path / "cache"), fractions=(1.0, 0.0, 0.0)
    )
    data = load_split(config, "train")
    assert (len(data), data.class_names) == (20, ("cat", "dog"))
    assert all(name.split("/")[1].startswith("good") for name in data.files)
    printed = capsys.readouterr().out
    assert (
        "files that latentdiff wrote in cat/run, stages/data/folder-16-0123456789abcdef, stages/diffusion/" in printed
    )


def test_a_folder_of_samples_can_be_the_data_set_itself(tmp_path):
    fill(tmp_path / "samples", bad=False)
    (tmp_path / "samples" / ".latentdiff").write_text("{}")
    config = DataConfig(name="folder", path=str(tmp_path / "samples"), size=16, fractions=(1.0, 0.0, 0.0))
    assert len(load_split(dataclasses.replace(config, cache_folder=str(tmp_path / "cache")), "train")) == 10


def test_an_image_that_is_edited_in_place_is_read_again_whatever_its_size_and_time_say(tmp_path):
    path = tmp_path / "images" / "a.bmp"
    path.parent.mkdir()
    config = DataConfig(
        name="folder", path=str(path.parent), size=16, cache_folder=str(tmp_path / "cache"), fractions=(1.0, 0.0, 0.0)
    )
    contents = []
    for grey in (10, 200):
        Image.new("RGB", (16, 16), (grey, grey, grey)).save(path)
        os.utime(path, ns=(10**18, 10**18))  # as an editor that keeps the time
        data = load_split(config, "train")
        assert data.images.unique().tolist() == [grey]
        contents.append(data.content.tolist())
    assert contents[0] != contents[1]
