"""A user's own images: a directory or a zip, with classes from its sub-folders or from a table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from latentdiff.data.files import open_files
from latentdiff.data.image_set import DataError
from latentdiff.data.listing import Listing, classes_of, read_table, top_folders

# Sub-folders of these names are splits, not classes.
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def listing(path: Path, table: Path | None = None, column: str | None = None) -> Listing:
    """The images of ``path``.

    Args:
        path: A directory or zip. Where all images lie in folders named train, (val,) and test, these are its official
            split; the folders within, or else the outermost ones, are its classes.
        table: A CSV with a header whose first column names the files and whose ``column`` (or second) is their class.
        column: See there.

    Raises :class:`DataError`.
    """
    files = open_files(path)
    names = list(files.images)
    # A zip of one folder is that folder.
    outer = set(top_folders(names))
    if len(outer) == 1 and "" not in outer and outer.isdisjoint(SPLIT_FOLDERS):
        inner = [name.partition("/")[2] for name in names]
        if any("/" in name for name in inner):
            names = inner
    official: dict[str, torch.Tensor] = {}
    tops = top_folders(names)
    if {"train"} < set(tops) <= set(SPLIT_FOLDERS):
        for split in ("train", "val", "test"):
            chosen = [i for i, top in enumerate(tops) if SPLIT_FOLDERS[top] == split]
            if chosen:
                official[split] = torch.tensor(chosen)
        names = [name.partition("/")[2] for name in names]
    labels, class_names = torch.zeros(len(names), dtype=torch.int64), ()
    if table is not None:
        labels, class_names = classes_of(_from_table(table, column, files.images))
    elif all(folders := top_folders(names)) and len(set(folders)) > 1:
        labels, class_names = classes_of(folders)
    return Listing("folder", files, files.images, labels, class_names, official)


def _from_table(path: Path, column: str | None, names: tuple[str, ...]) -> list[str]:
    """The class of each file, which the table knows by its whole name, its last part, or that without suffix."""
    table = read_table(path, None, column)
    classes = []
    for name in names:
        keys = (name, PurePosixPath(name).name, PurePosixPath(name).stem)
        found = next((table[key] for key in keys if key in table), None)
        if found is None:
            raise DataError(f"{path} has no row for {name}")
        classes.append(found)
    return classes
