"""A data set of image files before they are decoded."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from latentdiff.data.files import Files
from latentdiff.errors import DataError


@dataclass(frozen=True, eq=False)
class Listing:
    """Which files, of which class, in which official split.

    Attributes:
        name: The data set.
        files: Where they are read from.
        members: Names of the files.
        labels: int64 [n]; all 0 where there are no classes.
        class_names: Empty where there are none.
        official: For each split that the data set's authors made: int64 indices into ``members``.
    """

    name: str
    files: Files
    members: tuple[str, ...]
    labels: Tensor
    class_names: tuple[str, ...] = ()
    official: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def unlabelled(cls, name: str, files: Files, members: Iterable[str] | None = None) -> Listing:
        members = tuple(files.images if members is None else members)
        return cls(name, files, members, torch.zeros(len(members), dtype=torch.int64))


def classes_of(names: Iterable[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Class names of images -> labels int64 [n] and the sorted names."""
    names = list(names)
    class_names = tuple(sorted(set(names)))
    number = {name: index for index, name in enumerate(class_names)}
    return torch.tensor([number[name] for name in names], dtype=torch.int64), class_names


def top_folders(members: Iterable[str]) -> list[str]:
    """The outermost folder of each name; empty for a file that lies beside the folders."""
    return [parts[0] if len(parts := PurePosixPath(name).parts) > 1 else "" for name in members]


def read_table(path: Path, key: str | None, column: str | None) -> dict[str, str]:
    """A CSV with a header: from its first column (or ``key``), a file name, to its second (or ``column``).

    Raises :class:`DataError` where the file or the column is missing, or a name has two values.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV: {error}") from error
    columns, *rows = [[cell.strip() for cell in row] for row in rows if any(row)] or [[]]
    if len(columns) < 2 or not rows:
        raise DataError(
            f"{path} must have a header, rows, and two columns separated by a comma, the file's name and its class"
        )
    key, column = key or columns[0], column or columns[1]
    if column not in columns:
        raise DataError(f"{path} has no column {column!r}; it has {', '.join(columns)}")
    table: dict[str, str] = {}
    for row in rows:
        name, value = (dict(zip(columns, row, strict=False)).get(heading, "") for heading in (key, column))
        if table.setdefault(name, value) != value:
            raise DataError(f"{path} gives {name} two classes: {table[name]} and {value}")
    return table
