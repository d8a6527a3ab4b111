"""CelebA, aligned (Liu et al. 2015): torchvision's layout, or any directory or zip of its JPEGs."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import torch
from torchvision.datasets import CelebA

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.download import download
from latentdiff.data.file_list import FileList
from latentdiff.data.files import open_files
from latentdiff.errors import DataError

TAKES_PATH = True
FOLDER = Path("celeba")
IMAGES = "img_align_celeba"
# The authors' own text files, or the same as CSVs, as some mirrors have them.
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
SUFFIXES = (".txt", ".csv")
SPLITS = ("train", "val", "test")


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the faces.

    The attribute and partition files are looked for beside the images and in their zip. Without the partition file
    there is no official split.

    Args:
        root: The folder of all data sets.
        config: Its ``path`` is a directory or zip of the images. Default: torchvision's place under ``root``, or a
            download. Its ``classes`` may name an attribute, such as ``Smiling``, that makes two classes.
        split: Not used: the list holds the images of all splits.

    Raises :class:`DataError`.
    """
    place = Path(config.path).expanduser() if config.path else _locate_images(root)
    attribute = config.classes_column
    source = open_files(place)
    partition = _read_table(place, PARTITION)
    base = FileList.without_labels("celeba", source)
    labels, class_names = base.labels, ()
    if attribute:
        attributes = _read_table(place, ATTRIBUTES)
        if attributes is None:
            raise DataError(
                f"--data.classes {attribute} needs CelebA's {ATTRIBUTES}.txt next to the images, in {place.parent}"
            )
        values = _attribute_values(*attributes, attribute, source.images)
        labels, class_names = torch.tensor(values), (f"not {attribute}", attribute)
    official = _official_splits(*partition, source.images) if partition else {}
    return FileList("celeba", source, base.names, labels, class_names, official)


def _locate_images(root: Path) -> Path:
    """The images' folder or zip in torchvision's place under ``root``, downloaded where there is none."""
    folder = root / FOLDER
    for place in (folder / IMAGES, folder / f"{IMAGES}.zip"):
        if place.exists():
            return place
    if folder.is_dir() or not _fetch(root):
        raise DataError(
            f"CelebA is neither in {folder / IMAGES} nor in {folder / IMAGES}.zip, and could not be downloaded (its "
            "host allows few downloads a day). Get the aligned JPEGs from another source and give their "
            "directory or zip with --data.path; the attribute and partition files are not needed."
        )
    return _locate_images(root)


def _fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""

    def fetch(folder: str) -> None:
        CelebA(folder, download=True)

    return download("CelebA", root, FOLDER, ["https://drive.google.com"], fetch)


def _read_table(place: Path, stem: str) -> tuple[Path, list[list[str]]] | None:
    """Find a table beside the images or in their zip, and read it: its path and rows of words; None without one."""
    names = [stem + suffix for suffix in SUFFIXES]
    around = (folder / name for folder in (place, place.parent) for name in names)
    path = next((path for path in around if path.is_file()), None)
    try:
        if path is not None:
            content = path.read_bytes()
        elif place.is_file():
            with zipfile.ZipFile(place) as archive:
                inner = next((name for name in archive.namelist() if PurePosixPath(name).name in names), None)
                if inner is None:
                    return None
                path, content = place / inner, archive.read(inner)
        else:
            return None
        rows = [line.replace(",", " ").split() for line in content.decode().splitlines()]
    except Exception as error:  # a damaged entry of a zip raises many kinds
        raise DataError(f"{path or place} cannot be read: {error}") from error
    return path, [row for row in rows if row]


def _attribute_values(path: Path, rows: list[list[str]], attribute: str, images: tuple[str, ...]) -> list[int]:
    """Read an attribute of each image: 1 where the image has it, else 0.

    The table has a count, the attributes' names, and a line of -1 and 1 for each image.
    """
    names, *rows = [row for index, row in enumerate(rows) if index or len(row) > 1] or [[]]
    names = names[1:] if names[:1] == ["image_id"] else names  # a CSV's first column has a name too
    if attribute not in names:
        raise DataError(f"{path} has no attribute {attribute!r}; it has {', '.join(names) or 'none at all'}")
    column = names.index(attribute) + 1
    try:
        table = {row[0]: int(row[column] == "1") for row in rows}
    except IndexError as error:
        raise DataError(f"{path} is truncated: a line ends before {attribute}") from error
    return _look_up(images, table, path)


def _official_splits(path: Path, rows: list[list[str]], images: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Read the authors' splits: int64 indices of the images of each."""
    rows = rows[1:] if rows and rows[0][1:] == ["partition"] else rows
    places = [str(number) for number in range(len(SPLITS))]
    bad = next((row for row in rows if len(row) != 2 or row[1] not in places), None)
    if bad:
        raise DataError(
            f"{path} is not CelebA's: a line is not a name and one of {', '.join(places)}: {' '.join(bad)[:80]}"
        )
    which = torch.tensor(_look_up(images, {name: int(split) for name, split in rows}, path))
    return {split: torch.nonzero(which == number)[:, 0] for number, split in enumerate(SPLITS)}


def _look_up(images: tuple[str, ...], table: dict[str, int], path: Path) -> list[int]:
    """The table's value of each image, by the last part of the image's name."""
    try:
        return [table[PurePosixPath(name).name] for name in images]
    except KeyError as error:
        raise DataError(f"{path} has no line for {error.args[0]}, which is among the images") from error
