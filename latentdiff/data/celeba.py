"""CelebA, aligned (Liu et al. 2015): torchvision's layout, or any directory or zip of its JPEGs."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from latentdiff.data.download import download
from latentdiff.data.files import Files, open_files
from latentdiff.data.image_set import DataError
from latentdiff.data.listing import Listing

FOLDER = Path("celeba")
IMAGES = "img_align_celeba"
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
SPLITS = ("train", "val", "test")


def listing(root: Path, path: Path | None, attribute: str | None) -> Listing:
    """The faces; two classes of ``attribute`` (such as ``Smiling``) where one is named, else none.

    The attribute and partition files are looked for beside the images; without the partition file there is no official
    split. Raises :class:`DataError`.
    """
    place = path or _find(root)
    files = open_files(place)
    around = (place, place.parent)
    partition, attributes = (_beside(around, name) for name in (PARTITION, ATTRIBUTES))
    base = Listing.unlabelled("celeba", files)
    labels, class_names = base.labels, ()
    if attribute:
        if attributes is None:
            raise DataError(
                f"--data.classes {attribute} needs CelebA's {ATTRIBUTES} beside the images, in {place.parent}"
            )
        values = _attribute(attributes, attribute, files)
        labels, class_names = torch.tensor(values), (f"not {attribute}", attribute)
    official = _official(partition, files) if partition else {}
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
    from torchvision.datasets import CelebA

    def fetch(folder: str) -> None:
        CelebA(folder, download=True)

    return download("CelebA", root, FOLDER, ["https://drive.google.com"], fetch)


def _beside(places: tuple[Path, ...], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _rows(path: Path, columns: int | None = None) -> list[list[str]]:
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    bad = next((row for row in rows if columns and len(row) != columns), None)
    if not rows or bad:
        raise DataError(f"{path} is not CelebA's: a line has not {columns} columns: {' '.join(bad or [])[:80]}")
    return rows


def _attribute(path: Path, attribute: str, files: Files) -> list[int]:
    """1 where the attribute is there, else 0. The file: a count, the names, then a line of -1 and 1 for each image."""
    names, *rows = _rows(path)[1:]
    if attribute not in names:
        raise DataError(f"{path} has no attribute {attribute!r}; it has {', '.join(names)}")
    column = names.index(attribute) + 1
    try:
        table = {row[0]: int(row[column] == "1") for row in rows}
    except IndexError as error:
        raise DataError(f"{path} is truncated: a line ends before {attribute}") from error
    return _for_each(files, table, path)


def _official(path: Path, files: Files) -> dict[str, torch.Tensor]:
    table = {name: int(split) for name, split in _rows(path, columns=2)}
    which = torch.tensor(_for_each(files, table, path))
    return {split: torch.nonzero(which == number)[:, 0] for number, split in enumerate(SPLITS)}


def _for_each(files: Files, table: dict[str, int], path: Path) -> list[int]:
    try:
        return [table[PurePosixPath(name).name] for name in files.images]
    except KeyError as error:
        raise DataError(f"{path} says nothing of {error.args[0]}, which is among the images") from error
