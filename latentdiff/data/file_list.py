"""The image files of a data set before they are decoded: names, classes, and official splits."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from latentdiff.data.files import Files
from latentdiff.errors import DataError


@dataclass(frozen=True, eq=False)
class FileList:
    """The files of a data set, with the class of each.

    Attributes:
        name: The data set's name.
        source: Where the files are read from.
        names: Names of the files.
        labels: int64 [n]: the class of each file; all 0 where there are no classes.
        class_names: The name of each class; empty where there are none.
        official: For each split that the data set's authors made: int64 indices into ``names``.
        captions: What each file shows, in words; empty where there are none.
    """

    name: str
    source: Files
    names: tuple[str, ...]
    labels: Tensor
    class_names: tuple[str, ...] = ()
    official: dict[str, Tensor] = field(default_factory=dict)
    captions: tuple[str, ...] = ()

    @classmethod
    def without_labels(cls, name: str, source: Files) -> FileList:
        """List all images of ``source`` as a data set without classes."""
        return cls(name, source, source.images, torch.zeros(len(source.images), dtype=torch.int64))


def encode_classes(names: Iterable[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Encode the class name of each image as labels int64 [n], which index the sorted class names.

    Names that are all numbers are sorted as numbers: 9 comes before 10.

    Raises :class:`~latentdiff.errors.DataError` for two names that look the same.
    """
    names = list(names)
    distinct = set(names)
    check_names(distinct)
    numbers = all(name.isascii() and name.isdigit() for name in distinct)
    class_names = tuple(sorted(distinct, key=lambda name: (int(name), name) if numbers else (0, name)))
    number = {name: index for index, name in enumerate(class_names)}
    return torch.tensor([number[name] for name in names], dtype=torch.int64), class_names


def check_names(names: Iterable[str]) -> None:
    """Raise DataError for two names of classes that are one text in Unicode's normal form (NFC), and look the same."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise DataError(
                f"two classes are called {name}, and look the same: {other!a} and {name!a} differ in how an "
                "accent is stored. Give them one name, or two that can be told apart."
            )


def outermost_folders(names: Iterable[str]) -> list[str]:
    """The outermost folder of each file name; empty for a file that lies in no folder."""
    return [parts[0] if len(parts := PurePosixPath(name).parts) > 1 else "" for name in names]


def read_table(path: Path, key: str | None, column: str | None) -> dict[str, str]:
    """Read a CSV with a header as a mapping from file names to classes.

    Args:
        path: The CSV.
        key: The column of file names. Default: the first.
        column: The column of classes. Default: the second.

    Raises :class:`DataError` where the file or the column is missing or there twice, a row has more cells than the
    header, or a file name has two classes.
    """
    columns, *rows = read_rows(path) or [[]]
    if len(columns) < 2 or not rows:
        raise DataError(
            f"{path} must have a header, rows, and two columns separated by a comma, the file's name and its class"
        )
    key, column = key or columns[0], column or columns[1]
    if column not in columns:
        raise DataError(f"{path} has no column {column!r}; it has {', '.join(columns)}")
    if twice := [heading for heading in (key, column) if columns.count(heading) > 1]:
        raise DataError(f"{path} has two columns {twice[0]!r}: rename one of them")
    table: dict[str, str] = {}
    for row in rows:
        check_row(path, row, len(columns))
        name, value = (dict(zip(columns, row, strict=False)).get(heading, "") for heading in (key, column))
        if table.setdefault(name, value) != value:
            raise DataError(f"{path} gives {name} two classes: {table[name]} and {value}")
    return table


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV that are not empty, without spaces around the cells. Raises :class:`DataError`."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a CSV: it is not in UTF-8. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a CSV: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a CSV: {error}") from error
    return [[cell.strip() for cell in row] for row in rows if any(row)]


def check_row(path: Path, row: list[str], columns: int) -> None:
    """Raise :class:`DataError` for a row with more cells than there are columns: perhaps half of a name is in it."""
    if any(row[columns:]):
        raise DataError(
            f"{path} has {columns} columns, but the row of {row[0]} has more cells: {', '.join(row)}. Put a name "
            "with a "
            'comma in quotes: "a, b".'
        )
