"""A user's own images: a directory or a zip, with classes from its sub-folders or from a table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from latentdiff.data.files import open_files
from latentdiff.data.listing import Listing, classes_of, read_table, top_folders
from latentdiff.data.messages import printable, tell
from latentdiff.errors import DataError

# Sub-folders of these names are splits, not classes.
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def listing(path: Path, table: Path | None = None, column: str | None = None) -> Listing:
    """The images of ``path``.

    Args:
        path: A directory or zip. Where all images lie in folders named train, val or test (at least train and another,
            in any case), these are its official split; the folders within, or else the outermost ones, are its classes.
        table: A CSV with a header whose first column names the files and whose ``column`` (or second) is their class.
        column: See there.

    Raises :class:`DataError`.
    """
    files = open_files(path)
    names = list(files.images)
    names = _unwrapped(names)
    official: dict[str, torch.Tensor] = {}
    splits = [SPLIT_FOLDERS.get(top.lower()) for top in top_folders(names)]
    if None not in splits and {"train"} < set(splits):
        for split in ("train", "val", "test"):
            chosen = [i for i, found in enumerate(splits) if found == split]
            if chosen:
                official[split] = torch.tensor(chosen)
        names = _within(names)
    labels, class_names = torch.zeros(len(names), dtype=torch.int64), ()
    folders = top_folders(names)
    if table is not None:
        labels, class_names = classes_of(_from_table(table, column, files.images))
    elif all(folders) and len(set(folders)) > 1:
        labels, class_names = classes_of(map(printable, folders))
    elif len(set(folders)) > 2:
        beside = printable(files.images[folders.index("")])
        tell(
            f"no classes: {folders.count(''):,} of {len(names):,} images in {path} lie beside its "
            f"{len(set(folders)) - 1} folders, the first is {beside}"
        )
    return Listing("folder", files, files.images, labels, class_names, official)


def _unwrapped(names: list[str]) -> list[str]:
    """The names without the folders that all lie in: a zip of one folder is that folder."""
    while len(outer := set(top_folders(names))) == 1 and "" not in outer:
        inner = _within(names)
        if not any(top_folders(inner)):
            break
        names = inner
    return names


def _within(names: list[str]) -> list[str]:
    """The names without their outermost folders."""
    return ["/".join(PurePosixPath(name).parts[1:]) for name in names]


def _from_table(path: Path, column: str | None, names: tuple[str, ...]) -> list[str]:
    """The class of each file, which the table knows by its whole name, its last part, or that without suffix.

    Raises :class:`DataError` for a file without a row or a class, and for a row that two files share by their last
    part: which of them is meant is not known.
    """
    table = read_table(path, None, column)
    classes, taken = [], {}
    for name in names:
        keys = (name, PurePosixPath(name).name, PurePosixPath(name).stem)
        key = next((key for key in keys if key in table), None)
        if key is None:
            raise DataError(f"{path} has no row for {name}; its first column must name each file, below a header")
        if key != name and taken.setdefault(key, name) != name:
            raise DataError(f"{path} says {key}, which is {taken[key]} and {name}: name each of them in full")
        if not table[key]:
            raise DataError(f"{path} gives {key} no class")
        classes.append(table[key])
    return classes
