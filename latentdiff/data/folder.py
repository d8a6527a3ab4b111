"""One's own images: a directory or a zip, with classes from its sub-folders or from a table."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch

from latentdiff.config import DataConfig
from latentdiff.data.captions import column_of
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList, encode_classes, outermost_folders, read_rows, read_table
from latentdiff.data.files import Files, open_files
from latentdiff.data.image_formats import DOCUMENT_SUFFIXES, count_by_suffix, suffix_of
from latentdiff.data.messages import print_once, printable
from latentdiff.errors import ConfigError, DataError

# Sub-folders with these names are splits, not classes.
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# And those with such names are no classes either: train_images and test_images, train2017 and val2017.
LIKE_A_SPLIT = re.compile(
    r"(train|training|val|valid|validation|dev|eval|evaluation|test|testing|holdout)([^a-z].*|sets?|images?|data)?"
)
TAKES_PATH = NEEDS_PATH = GROWS = True


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of ``config.path`` for any split, as :func:`list_images` does; ``root`` is not used."""
    if config.path is None:
        raise ConfigError("data.name folder needs --data.path, a directory or a zip of images")
    table = Path(config.table).expanduser() if config.table else None
    column = "none" if config.classes == "none" else config.classes_column
    return list_images(Path(config.path).expanduser(), table, column, column_of(config))


def list_images(
    path: Path, table: Path | None = None, column: str | None = None, captions_column: str | None = None
) -> FileList:
    """List the images of ``path`` with their classes and splits.

    Args:
        path: A directory or zip. Where all images lie in folders named train, val or test (or training, testing and
            the like), in any case, with train and another among them, these are the official splits, and the folders
            within are the classes. Otherwise the outermost folders are the classes.
        table: A CSV with a header. Its first column names the files, and ``column`` holds their classes.
        column: A column of the table; ``none`` reads no classes from it. Default: the second.
        captions_column: The column with what each file shows, in words. If it is the second column and ``column`` is
            not given, the classes come from the folders.

    Raises :class:`DataError`.
    """
    source = open_files(path)
    if line := source.describe_left_out():
        print_once(printable(line))
    common = _common_folders(source.images)
    names = ["/".join(PurePosixPath(name).parts[common:]) for name in source.images]
    official = _official_splits(path, names)
    if official:
        names = ["/".join(PurePosixPath(name).parts[1:]) for name in names]
    labels, class_names = torch.zeros(len(names), dtype=torch.int64), ()
    folders = outermost_folders(names)
    captions = ()
    if table is not None and captions_column is not None:
        captions = tuple(_read_classes(table, captions_column, source, captions=True))
        if column is None and read_rows(table)[0][1:2] == [captions_column]:
            table = None
    if column == "none":
        table = None
    if table is not None:
        labels, class_names = encode_classes(_read_classes(table, column, source))
    else:
        _check_lost_folders(source, common + bool(official))
        if all(folders) and len(set(folders)) > 1:
            _check_split_names(path, set(folders))
            _check_inner_folders(path, names)
            labels, class_names = encode_classes(map(printable, folders))
        elif any(folders) and not all(folders):
            beside = printable(source.images[folders.index("")])
            count = len(set(folders)) - 1
            print_once(
                f"no classes: {folders.count(''):,} of {len(names):,} images in {path} are not in "
                f"{f'one of its {count} folders' if count > 1 else 'its folder'}, the first is {beside}"
            )
    return FileList("folder", source, source.images, labels, class_names, official, captions)


def _common_folders(names: Sequence[str]) -> int:
    """How many folders all files lie in before their folders differ: a zip of one folder is that folder.

    The last folder of all is kept: it may be a class.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    first, last = min(folders), max(folders)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return common if max(map(len, folders)) > common else max(common - 1, 0)


def _official_splits(path: Path, names: list[str]) -> dict[str, torch.Tensor]:
    """The splits that the outermost folders name: int64 indices of each; empty where they are no splits.

    Raises :class:`DataError` where some are splits and others are not.
    """
    folders = outermost_folders(names)
    splits = [SPLIT_FOLDERS.get(folder.lower()) for folder in folders]
    if not {"train"} < set(splits) - {None}:
        return {}
    if None in splits:
        odd = folders[splits.index(None)]
        lying = f"the folder {printable(odd)} is" if odd else f"{printable(names[splits.index(None)])} lies"
        named = ", ".join(sorted({folder for folder in folders if SPLIT_FOLDERS.get(folder.lower())}))
        raise DataError(
            f"{path} has folders of splits ({named}), and {lying} next to them. Move it into one of them, or elsewhere."
        )
    return {
        split: torch.tensor([i for i, found in enumerate(splits) if found == split])
        for split in ("train", "val", "test")
        if split in splits
    }


def _check_split_names(path: Path, folders: set[str]) -> None:
    """Raise :class:`DataError` for folders that would become classes, but look like splits under other names."""
    if all(LIKE_A_SPLIT.fullmatch(name.lower()) for name in folders) and any(
        name.lower().startswith("train") for name in folders
    ):
        raise DataError(
            f"the folders {', '.join(sorted(folders))} of {path} look like splits, but would become classes. Call "
            "them train, val and test. If they are classes, give the classes with --data.table."
        )


def _check_inner_folders(path: Path, names: Sequence[str]) -> None:
    """Print a line where the folders of classes hold folders, which are joined.

    Raises :class:`DataError` where these are named after splits: test images would be trained on.
    """
    inner = sorted({parts[1] for name in names if len(parts := PurePosixPath(name).parts) > 2})
    splits = [name for name in inner if name.lower() in SPLIT_FOLDERS]
    if {"train"} < {SPLIT_FOLDERS[name.lower()] for name in splits}:
        raise DataError(
            f"{path} has folders of splits ({', '.join(splits)}) within its folders. Put the splits outermost and the "
            f"classes within, as in {splits[-1]}/{printable(PurePosixPath(names[0]).parts[0])}."
        )
    if inner:
        listed = ", ".join(map(printable, [*inner[:3], *(["…"] if len(inner) > 3 else [])]))
        print_once(f"the classes of {path} are its outermost folders; those within ({listed}) are joined")


def _check_lost_folders(source: Files, depth: int) -> None:
    """Raise :class:`DataError` for a folder without images, next to folders with images, that could be a class.

    Args:
        source: The files.
        depth: How many folders lie above those of the classes.
    """
    kept = {PurePosixPath(name).parts[: depth + 1] for name in source.images}
    lost: dict[str, list[tuple[str, str | None]]] = {}
    for name, kind in source.left_out:
        parts = PurePosixPath(name).parts
        if kind is not None or suffix_of(name) not in DOCUMENT_SUFFIXES:
            folder = parts[: min(depth + 1, len(parts) - 1)]
            if folder and not any(image[: len(folder)] == folder for image in kept):
                lost.setdefault("/".join(folder), []).append((name, kind))
    if lost:
        folder, files = min(lost.items())
        others = f" (and {len(lost) - 1} more such folders)" if len(lost) > 1 else ""
        raise DataError(
            f"the folder {printable(folder)} in {source.path} holds no image that can be used: "
            f"{count_by_suffix(files)}{others}.\nMake its files readable, or move it elsewhere."
        )
    empty = [name for name in source.empty_folders if len(PurePosixPath(name).parts) == depth + 1]
    if empty and all(len(PurePosixPath(name).parts) > depth + 1 for name in source.images):
        raise DataError(
            f"the folder {printable(empty[0])} in {source.path} is empty, next to folders with images: fill or "
            "remove it"
        )


def _read_classes(path: Path, column: str | None, source: Files, captions: bool = False) -> list[str]:
    """Look up the class of each file in a table, by its full name, its last part, or the last part without suffix.

    With ``captions`` it is the caption of each file, which may be empty.

    Raises :class:`DataError` for a file without a row or a class, for a row that fits two files, and for a class that
    has only files that are no images.
    """
    there = [*source.images, *(name for name, _ in (*source.left_out, *source.refused))]
    table = _in_the_sources_words(path, read_table(path, None, column), set(there), source.path)
    classes, matched = [], {}
    for name in source.images:
        key = _row_of(name, table)
        if key is None:
            raise DataError(
                f"{path} has no row for {printable(name)}; its first column must name each file, below a header. Its "
                f"first row names {printable(next(iter(table)))}"
            )
        if matched.setdefault(key, name) != name:
            raise DataError(
                f"{path} has a row for {key}, which could be {matched[key]} or {name}: give the full name of each"
            )
        if not table[key] and not captions:
            raise DataError(f"{path} gives {key} no class")
        classes.append(table[key])
    for name, _ in () if captions else source.left_out:
        key = _row_of(name, table)
        if key is not None and table[key] not in classes:
            raise DataError(
                f"no file of the class {table[key]} in {path} is an image that can be used: see {printable(name)}.\n"
                "Make its files readable, or take its rows out of the table."
            )
    without_file = sorted(table.keys() - {_row_of(name, table) for name in there} - {""})
    if without_file:
        count = f"{len(without_file):,} file{'s' if len(without_file) > 1 else ''}"
        print_once(f"{path} names {count} that {source.path} lacks; the first is {printable(without_file[0])}")
    return classes


def _in_the_sources_words(path: Path, table: dict[str, str], there: set[str], folder: Path) -> dict[str, str]:
    """A table in which each file has its name in the source, if a row names it by another path (./cat/1.png).

    Raises :class:`DataError` where a file has two classes then.
    """
    plain: dict[str, str] = {}
    for row, value in table.items():
        name = row
        if row not in there and ("/" in row or "\\" in row):
            slashed = row.replace("\\", "/")
            ways = (posixpath.normpath(slashed), os.path.relpath(slashed, folder))
            name = next((way for way in ways if way in there), row)
        if plain.setdefault(name, value) != value:
            raise DataError(f"{path} gives {name} two classes: {plain[name]} and {value}")
    return plain


def _row_of(name: str, table: dict[str, str]) -> str | None:
    """What a table calls a file: its full name, its last part, or that without suffix; None where it has no row."""
    keys = (name, PurePosixPath(name).name, PurePosixPath(name).stem)
    return next((key for key in keys if key in table), None)
