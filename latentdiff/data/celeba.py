"""CelebA, aligned (Liu et al. 2015): torchvision's layout, or any directory or zip of its JPEGs."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import torch
from torchvision.datasets import CelebA

from latentdiff.data.download import download
from latentdiff.data.files import Files, open_files
from latentdiff.data.listing import Listing
from latentdiff.errors import DataError

FOLDER = Path("celeba")
IMAGES = "img_align_celeba"
# The authors' own text files, or the same as CSVs, as some mirrors have them.
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
SUFFIXES = (".txt", ".csv")
SPLITS = ("train", "val", "test")


def listing(root: Path, path: Path | None, attribute: str | None) -> Listing:
    """The faces; two classes of ``attribute`` (such as ``Smiling``) where one is named, else none.

    The attribute and partition files are looked for beside the images and in their zip; without the partition file
    there is no official split. Raises :class:`DataError`.
    """
    place = path or _find(root)
    files = open_files(place)
    partition = _table(place, PARTITION)
    base = Listing.unlabelled("celeba", files)
    labels, class_names = base.labels, ()
    if attribute:
        attributes = _table(place, ATTRIBUTES)
        if attributes is None:
            raise DataError(
                f"--data.classes {attribute} needs CelebA's {ATTRIBUTES}.txt beside the images, in {place.parent}"
            )
        values = _attribute(*attributes, attribute, files)
        labels, class_names = torch.tensor(values), (f"not {attribute}", attribute)
    official = _official(*partition, files) if partition else {}
    return Listing("celeba", files, base.members, labels, class_names, official)


def _find(root: Path) -> Path:
    folder = root / FOLDER
    for place in (folder / IMAGES, folder / f"{IMAGES}.zip"):
        if place.exists():
            return place
    if folder.is_dir() or not _fetch(root):
        raise DataError(
            f"CelebA is neither in {folder / IMAGES} nor in {folder / IMAGES}.zip, and could not be downloaded (its "
            "host allows few downloads a day). Get the aligned JPEGs from anywhere and name their directory or zip "
            "with --data.path; the attribute and partition files are not needed."
        )
    return _find(root)


def _fetch(root: Path) -> bool:
    def fetch(folder: str) -> None:
        CelebA(folder, download=True)

    return download("CelebA", root, FOLDER, ["https://drive.google.com"], fetch)


def _table(place: Path, stem: str) -> tuple[Path, list[list[str]]] | None:
    """A table's own place and its rows of words; None where there is none."""
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


def _attribute(path: Path, rows: list[list[str]], attribute: str, files: Files) -> list[int]:
    """1 where the attribute is there, else 0. The file: a count, the names, then a line of -1 and 1 for each image."""
    names, *rows = [row for index, row in enumerate(rows) if index or len(row) > 1] or [[]]
    names = names[1:] if names[:1] == ["image_id"] else names  # a CSV's first column has a name too
    if attribute not in names:
        raise DataError(f"{path} has no attribute {attribute!r}; it has {', '.join(names) or 'none at all'}")
    column = names.index(attribute) + 1
    try:
        table = {row[0]: int(row[column] == "1") for row in rows}
    except IndexError as error:
        raise DataError(f"{path} is truncated: a line ends before {attribute}") from error
    return _for_each(files, table, path)


def _official(path: Path, rows: list[list[str]], files: Files) -> dict[str, torch.Tensor]:
    rows = rows[1:] if rows and rows[0][1:] == ["partition"] else rows
    places = [str(number) for number in range(len(SPLITS))]
    bad = next((row for row in rows if len(row) != 2 or row[1] not in places), None)
    if bad:
        raise DataError(
            f"{path} is not CelebA's: a line is not a name and one of {', '.join(places)}: {' '.join(bad)[:80]}"
        )
    which = torch.tensor(_for_each(files, {name: int(split) for name, split in rows}, path))
    return {split: torch.nonzero(which == number)[:, 0] for number, split in enumerate(SPLITS)}


def _for_each(files: Files, table: dict[str, int], path: Path) -> list[int]:
    try:
        return [table[PurePosixPath(name).name] for name in files.images]
    except KeyError as error:
        raise DataError(f"{path} says nothing of {error.args[0]}, which is among the images") from error
