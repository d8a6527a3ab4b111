"""Which files are images, and what is said of those that are none."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest
from PIL import Image

from latentdiff.config import DataConfig
from latentdiff.data import image_formats, load_split
from latentdiff.data.decode import BadImageError, CropAndResize, decode
from latentdiff.data.files import open_files
from latentdiff.data.image_formats import count_by_suffix, is_litter, kind_of
from latentdiff.errors import DataError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64
EVERYTHING = {"fractions": (1.0, 0.0, 0.0), "split": "fractions"}


def png(seed=0):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 24), (seed, 9, 9)).save(buffer, "png")
    return buffer.getvalue()


def fill(folder, files):
    for index, name in enumerate(files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(HEIC if path.suffix in (".heic", ".HEIC") else b"?" if path.suffix == ".xyz" else png(index))
    return folder


def load(path, tmp_path, **settings):
    config = DataConfig(
        name="folder", path=str(path), cache_folder=str(tmp_path / "cache"), **({"size": 8} | EVERYTHING | settings)
    )
    return load_split(config, "train")


@pytest.fixture(autouse=True)
def without_heic(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_formats.can_read_heic.cache_clear()
    yield
    image_formats.can_read_heic.cache_clear()


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (HEIC, "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\0\0mp41", None),
        (b"BM" + b"\0" * 12 + b"\x28\0\0\0", "BMP"),
        (b"BMW is a car, and this a note of it", None),
        (b"P6 8 8 255\n", "PPM"),
        (b"P1ease note", None),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"", None),
    ],
)
def test_kinds_are_told_by_the_first_bytes(header, kind):
    assert kind_of(header) == kind


def test_what_systems_leave_is_litter():
    for name in (".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", "@eaDir", "._a.jpg", "Icon\r"):
        assert is_litter((name,)), name
    assert not is_litter(("a.jpg",))
    assert not is_litter(("..", "a.jpg"))


def test_a_class_of_heic_is_an_error_that_names_it_and_what_to_install(tmp_path):
    """Twenty cats in HEIC beside twenty dogs: once a model of dogs without a word."""
    cats = [f"cats/{i}.HEIC" for i in range(20)]
    dogs = [f"dogs/{i}.jpg" for i in range(20)]
    folder = fill(tmp_path / "pets", [*cats, *dogs])
    with pytest.raises(DataError) as error:
        load(folder, tmp_path)
    assert "the folder cats in" in str(error.value)
    assert '20 .heic (pip install "latentdiff[heic]")' in str(error.value)
    assert len(str(error.value).splitlines()) <= 3
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"in/{path.relative_to(folder)}")
    with pytest.raises(DataError, match="the folder in/cats in"):
        load(tmp_path / "pets.zip", tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["train/cats/0.heic", "train/dogs/0.png", "test/cats/0.png", "test/dogs/0.png"],
        ["cats/0.heic", "0.png", "1.png"],
        ["cats/a/0.heic", "dogs/b/0.png", "dogs/b/1.png"],
        ["cats/0.xyz", "dogs/0.png", "cows/0.png"],
        ["cats/0.nef", "dogs/0.png", "cows/0.png"],
    ],
)
def test_a_folder_that_loses_all_its_images_is_named(tmp_path, names):
    with pytest.raises(DataError, match=r"the folder (train/)?cats\S* in .* holds no image that can be used"):
        load(fill(tmp_path / "all", names), tmp_path, split="default", fractions=DataConfig.fractions)


def test_an_empty_class_folder_is_named(tmp_path):
    folder = fill(tmp_path / "all", ["dogs/0.png", "cows/0.png"])
    (folder / "cats").mkdir()
    with pytest.raises(DataError, match=r"the folder cats in .* is empty, next to folders with images"):
        load(folder, tmp_path)


def test_documents_beside_the_classes_are_no_lost_class(tmp_path, capsys):
    folder = fill(tmp_path / "all", ["dogs/0.png", "cows/0.png"])
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("x")
    (folder / "LICENSE").write_text("x")
    assert load(folder, tmp_path).class_names == ("cows", "dogs")
    assert "1 without a suffix, 1 .txt" in capsys.readouterr().out


def test_what_is_left_out_is_counted_once_in_one_line(tmp_path, capsys):
    names = [*(f"{i}.png" for i in range(4)), *(f"{i}.heic" for i in range(20)), *(f"{i}.xyz" for i in range(5))]
    folder = fill(tmp_path / "all", names)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"junk")
    assert len(load(folder, tmp_path)) == 4
    load(folder, tmp_path)
    printed = capsys.readouterr().out
    assert printed.count(f'left out of {folder}: 20 .heic (pip install "latentdiff[heic]"), 5 .xyz\n') == 1
    assert "DS_Store" not in printed
    assert count_by_suffix([(f"a.{i}", None) for i in range(99)]).endswith(", ...")
    assert count_by_suffix([("a.abc", None), *[("b.xyz", None)] * 2]) == "2 .xyz, 1 .abc"  # the most first


def test_a_folder_of_nothing_but_heic_says_what_to_install(tmp_path):
    with pytest.raises(
        DataError, match=r'holds no image that can be used(.|\n)*3 \.heic \(pip install "latentdiff\[heic\]"'
    ):
        load(fill(tmp_path / "all", ["0.heic", "1.heic", "2.heic"]), tmp_path)


def test_heic_by_another_name_says_what_to_install(tmp_path):
    with pytest.raises(BadImageError, match=r'it is HEIC, which needs pip install "latentdiff\[heic\]"'):
        decode(HEIC, CropAndResize(8), "photo.jpg")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "photo").write_bytes(HEIC)
    (tmp_path / "all" / "other").write_bytes(png())
    files = open_files(tmp_path / "all")
    assert (files.images, files.left_out) == (("other",), (("photo", "HEIF"),))


def test_a_class_of_a_table_that_loses_all_its_images_is_named(tmp_path):
    folder = fill(tmp_path / "all", ["0.heic", "1.png", "2.png"])
    table = tmp_path / "table.csv"
    table.write_text("file,kind\n0.heic,cat\n1.png,dog\n2.png,dog\n3.png,cow\n")
    with pytest.raises(DataError, match=r"no file of the class cat in .*table.csv is an image that can be used"):
        load(folder, tmp_path, table=str(table))


def test_a_class_whose_files_are_all_damaged_is_named_though_they_are_skipped(tmp_path):
    folder = fill(tmp_path / "all", ["cats/0.png", "cats/1.png", "dogs/0.png"])
    for path in (folder / "cats").iterdir():
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=r"no image of 1 of the 2 classes in .* can be used: cats"):
        load(folder, tmp_path, on_bad_image="skip")


def test_folders_of_splits_beside_others_are_refused(tmp_path):
    for extra in ("extra/0.png", "cover.png"):
        folder = fill(tmp_path / extra.replace("/", "_"), ["train/a/0.png", "test/a/0.png", extra])
        with pytest.raises(DataError, match=r"has folders of splits \(test, train\), and .* next to them"):
            load(folder, tmp_path)


def test_one_folder_and_an_image_beside_it_have_no_classes_and_say_so(tmp_path, capsys):
    data = load(fill(tmp_path / "all", ["cats/0.png", "cats/1.png", "cover.png"]), tmp_path)
    assert (len(data), data.num_classes) == (3, 0)
    assert "no classes: 1 of 3 images in" in capsys.readouterr().out


def test_animations_and_small_images_are_said_once(tmp_path, capsys):
    folder = fill(tmp_path / "all", ["0.png", "1.png"])
    Image.new("RGB", (9, 9)).save(folder / "a.gif", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")])
    for size in (16, 64):
        load(folder, tmp_path, size=size)
        load(folder, tmp_path, size=size)
    printed = capsys.readouterr().out
    assert printed.count("1 of 3 files in") == 1
    assert printed.count("1 of 3 images in") == 1
    assert printed.count("3 of 3 images in") == 1
    assert "are smaller than 64 pixels and are enlarged" in printed


def test_limits_are_settings(tmp_path):
    folder = fill(tmp_path / "all", ["0.png", "1.png"])
    with pytest.raises(DataError, match=r"it claims 20x24 pixels, more than 479 \(--data.max_image_pixels\)"):
        load(folder, tmp_path, max_image_pixels=479)
    with pytest.raises(DataError, match=r"at most 10 are read \(--data.max_file_size\)"):
        load(folder, tmp_path, max_file_size=10)
    assert len(load(folder, tmp_path, max_image_pixels=480)) == 2
