"""One's own images: a directory or a zip, with classes from its sub-folders or from a table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList, encode_classes, outermost_folders, read_table
from latentdiff.data.files import open_files
from latentdiff.data.messages import print_once, printable
from latentdiff.errors import ConfigError, DataError

# Sub-folders with these names are splits, not classes.
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TAKES_PATH = True
GROWS = True


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of ``config.path`` for any split, as :func:`list_images` does; ``root`` is not used."""
    if config.path is None:
        raise ConfigError("data.name folder needs --data.path, a directory or a zip of images")
    table = Path(config.table).expanduser() if config.table else None
    return list_images(Path(config.path).expanduser(), table, config.classes_column)


def list_images(path: Path, table: Path | None = None, column: str | None = None) -> FileList:
    """List the images of ``path`` with their classes and splits.

    Args:
        path: A directory or zip. Where all images lie in folders named train, val or test, in any case, with train and
            another among them, these are the official splits, and the folders within are the classes. Otherwise the
            outermost folders are the classes.
        table: A CSV with a header. Its first column names the files, and ``column`` holds their classes.
        column: A column of the table. Default: the second.

    Raises :class:`DataError`.
    """
    source = open_files(path)
    names = _strip_common_folders(list(source.images))
    official: dict[str, torch.Tensor] = {}
    splits = [SPLIT_FOLDERS.get(top.lower()) for top in outermost_folders(names)]
    if None not in splits and {"train"} < set(splits):
        for split in ("train", "val", "test"):
            chosen = [i for i, found in enumerate(splits) if found == split]
            if chosen:
                official[split] = torch.tensor(chosen)
        names = _strip_outermost_folder(names)
    labels, class_names = torch.zeros(len(names), dtype=torch.int64), ()
    folders = outermost_folders(names)
    if table is not None:
        labels, class_names = encode_classes(_read_classes(table, column, source.images))
    elif all(folders) and len(set(folders)) > 1:
        labels, class_names = encode_classes(map(printable, folders))
    elif len(set(folders)) > 2:
        beside = printable(source.images[folders.index("")])
        print_once(
            f"no classes: {folders.count(''):,} of {len(names):,} images in {path} lie beside its "
            f"{len(set(folders)) - 1} folders, the first is {beside}"
        )
    return FileList("folder", source, source.images, labels, class_names, official)


def _strip_common_folders(names: list[str]) -> list[str]:
    """Remove the folders that all files lie in: a zip of one folder is that folder."""
    while len(outer := set(outermost_folders(names))) == 1 and "" not in outer:
        inner = _strip_outermost_folder(names)
        if not any(outermost_folders(inner)):
            break
        names = inner
    return names


def _strip_outermost_folder(names: list[str]) -> list[str]:
    """Remove the outermost folder of each name."""
    return ["/".join(PurePosixPath(name).parts[1:]) for name in names]


def _read_classes(path: Path, column: str | None, names: tuple[str, ...]) -> list[str]:
    """Look up the class of each file in a table, by its full name, its last part, or the last part without suffix.

    Raises :class:`DataError` for a file without a row or a class, and for a row that fits two files.
    """
    table = read_table(path, None, column)
    classes, matched = [], {}
    for name in names:
        keys = (name, PurePosixPath(name).name, PurePosixPath(name).stem)
        key = next((key for key in keys if key in table), None)
        if key is None:
            raise DataError(f"{path} has no row for {name}; its first column must name each file, below a header")
        if key != name and matched.setdefault(key, name) != name:
            raise DataError(f"{path} says {key}, which is {matched[key]} and {name}: name each of them in full")
        if not table[key]:
            raise DataError(f"{path} gives {key} no class")
        classes.append(table[key])
    return classes
