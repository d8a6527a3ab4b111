"""What lies at a path: images, or a table or tars of them, which have a name of their own in the settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from latentdiff.data.image_formats import IMAGE_SUFFIXES, suffix_of

SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".tar": "webdataset", ".arrow": "datasets"}
WHAT = {"parquet": "Parquet", "webdataset": "tars", "datasets": "what save_to_disk of datasets wrote"}
# By which a folder is known that save_to_disk of Hugging Face's datasets wrote: several splits, or one.
SAVED_SPLITS, SAVED_STATE = "dataset_dict.json", "state.json"
# Entries of a folder, and folders in it, that are looked at.
ENTRIES, FOLDERS = 1000, 50


def name_of_path(path: Path | str) -> str:
    """The name in the settings for images of one's own: ``parquet``, ``datasets``, ``webdataset``, or else ``folder``.

    A folder goes by the names of the files in it and in its sub-folders. Where an image is among them it is ``folder``.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return SUFFIXES.get(suffix_of(path.name), "folder")
    if (path / SAVED_SPLITS).is_file() or (path / SAVED_STATE).is_file():
        return "datasets"
    found = set()
    for suffix in _suffixes(path, FOLDERS):
        if suffix in IMAGE_SUFFIXES:
            return "folder"
        found.add(SUFFIXES.get(suffix))
    found &= {"parquet", "webdataset"}
    return found.pop() if len(found) == 1 else "folder"


def describe_other(path: Path) -> str | None:
    """Say which data.name a path needs if it is not for ``folder``; None if no other name fits."""
    name = name_of_path(path)
    return None if name == "folder" else f"{path} is {WHAT[name]}: add --data.name {name}"


def _suffixes(folder: Path, depth: int) -> Iterator[str]:
    """The suffixes of the first files in a folder, and in the first ``depth`` folders in it."""
    folders: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, ENTRIES):
            if entry.is_dir():
                folders.append(Path(entry.path))
            else:
                yield suffix_of(entry.name)
    for inner in folders[:depth]:
        yield from _suffixes(inner, 0)
