"""Data sets that are tables, of an image and its class a row: from the tables of each split to a list of images."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdiff.config import DataConfig
from latentdiff.data.captions import column_of
from latentdiff.data.file_list import FileList, encode_classes
from latentdiff.data.messages import print_once, printable
from latentdiff.data.rows import Part, RowFiles, StreamedPart
from latentdiff.data.shards import official_names, stamp_of
from latentdiff.data.table_columns import Columns, choose_columns, list_columns, pyarrow
from latentdiff.errors import DataError
from latentdiff.extras import import_extra

# Bytes of images that are taken out of a Parquet file at a time, and rows at most.
BLOCK = 4 * 1024**2
MOST_ROWS = 1024
# More classes than this are more likely something else, such as identifiers.
MOST_CLASSES = 10_000


class Table(ABC):
    """A file of a table.

    Attributes:
        path: The file.
        schema: Its columns, a ``pyarrow.Schema``.
        count: Number of its rows.
    """

    path: Path
    schema: Any
    count: int

    @abstractmethod
    def column(self, name: str) -> Any:
        """A column in memory, a ``pyarrow.ChunkedArray``."""

    @abstractmethod
    def part(self, name: str) -> Part:
        """A column of images, whose values are read one by one."""


class ArrowTable(Table):
    """A table that is mapped into memory, as Hugging Face's datasets keeps them.

    Args:
        path: The file that it is mapped from.
        table: The ``pyarrow.Table``.
        stamp: Numbers that change with its content. Default: those of the file.
    """

    def __init__(self, path: Path, table: Any, stamp: tuple[int, ...] | None = None):
        self.path, self.schema, self.count = path, table.schema, table.num_rows
        self._table, self._stamp = table, stamp_of(path) if stamp is None else stamp

    @classmethod
    def read(cls, path: Path) -> ArrowTable:
        """Map a file of Arrow's stream format. Raises :class:`~latentdiff.errors.DataError`."""
        pa = pyarrow()
        try:
            source = pa.memory_map(str(path), "r")
            try:
                table = pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                table = pa.ipc.open_file(source).read_all()
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise _damaged(path, error) from error
        return cls(path, table)

    def column(self, name: str) -> Any:
        column = self._table.column(name)
        try:
            column.validate(full=True)  # of a file that is mapped, nobody else has looked where its offsets lead
        except ValueError as error:
            raise _damaged(self.path, error) from error
        return column

    def part(self, name: str) -> Part:
        return _ArrowPart(self.column(name), _stamp_of_column(self._stamp, name))


def _stamp_of_column(stamp: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Numbers that differ between the columns of a file, whose images must not be taken for each other's."""
    return (*stamp, int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big"))


class _ArrowPart(Part):
    def __init__(self, column: Any, stamp: tuple[int, ...]):
        self._column, self.count, self.stamp = column, len(column), stamp

    def value(self, row: int) -> Any:
        return self._column[row].as_py()


class ParquetTable(Table):
    """A Parquet file. Raises :class:`~latentdiff.errors.DataError` where it is none."""

    def __init__(self, path: Path):
        self.path, self._stamp = path, stamp_of(path)
        pyarrow()
        parquet = import_extra("pyarrow.parquet", "parquet")
        try:
            with parquet.ParquetFile(path, memory_map=True) as file:
                self.schema, self._metadata = file.schema_arrow, file.metadata
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        self.count = self._metadata.num_rows

    def column(self, name: str) -> Any:
        try:
            return import_extra("pyarrow.parquet", "parquet").read_table(self.path, columns=[name]).column(name)
        except (OSError, ValueError) as error:
            raise _damaged(self.path, error) from error

    def part(self, name: str) -> Part:
        return _ParquetPart(self.path, name, self._metadata, _stamp_of_column(self._stamp, name))


class _ParquetPart(StreamedPart):
    """The image column of a Parquet file, unpacked page after page."""

    def __init__(self, path: Path, column: str, metadata: Any, stamp: tuple[int, ...]):
        super().__init__()
        self._path, self._column, self._metadata = path, column, metadata
        self.count, self.stamp = metadata.num_rows, stamp

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each row group."""
        rows = [self._metadata.row_group(index).num_rows for index in range(self._metadata.num_row_groups)]
        return np.cumsum([0, *rows])[:-1]

    def start_before(self, row: int) -> int:
        return int(self._starts[self._group_of(row)])

    def read_from(self, row: int) -> Iterator[Sequence[Any]]:
        parquet = import_extra("pyarrow.parquet", "parquet")
        # Without a buffer ahead: a row group can be larger than the memory.
        with parquet.ParquetFile(self._path, memory_map=True, pre_buffer=False) as file:
            for index in range(self._group_of(row), self._metadata.num_row_groups):
                group = self._metadata.row_group(index)
                mean = max(1, group.total_byte_size // max(1, group.num_rows))
                batches = file.iter_batches(
                    batch_size=max(1, min(MOST_ROWS, BLOCK // mean)),
                    row_groups=[index],
                    columns=[self._column],
                    use_threads=False,
                )
                for batch in batches:
                    if batch.num_rows:
                        yield batch.column(self._column).to_pylist()

    def _group_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1


def list_tables(
    name: str, path: Path, splits: Mapping[str, Sequence[Table]], config: DataConfig, reads_paths: bool = False
) -> FileList:
    """List the images of tables with their classes and official splits.

    Args:
        name: What the data set is called.
        path: What messages call the place.
        splits: The tables of each split, by the name that its authors gave it; an empty name where there are no splits.
        config: Settings, of which ``image_column`` and ``classes`` name columns.
        reads_paths: Whether an image may be a file that its row names.

    Raises :class:`~latentdiff.errors.DataError` for columns that are missing or not sure, and for labels that are none.
    """
    splits = {split: [table for table in tables if table.count] for split, tables in splits.items()}
    splits = {split: tables for split, tables in splits.items() if tables}
    if not splits:
        raise DataError(f"{path} has no rows")
    known = official_names(path, splits, lambda split: sum(table.count for table in splits[split]))
    splits = {split: splits[split] for split in splits if split in known}
    columns = _columns_of_all([table for tables in splits.values() for table in tables], config)
    if columns.label is None and config.classes != "none":
        schema = next(iter(splits.values()))[0].schema
        print_once(
            f"no classes: none of the columns of {path} is recognised as the classes; it has "
            f"{list_columns(schema)}. Name one "
            "with --data.classes."
        )
    labels, class_names = _read_labels(splits, columns, path)
    keep = {split: torch.nonzero(values >= 0)[:, 0] for split, values in labels.items()}
    if without := sum(len(values) - len(keep[split]) for split, values in labels.items()):
        if not any(map(len, keep.values())):
            raise DataError(f"no row of {path} has a class in {columns.label}: use --data.classes none")
        print_once(f"left out of {path}: {without:,} rows without a class in {columns.label}")
    parts = {split: [table.part(columns.image) for table in tables] for split, tables in splits.items()}
    files = RowFiles(path, parts, {split: rows.tolist() for split, rows in keep.items()}, reads_paths)
    official, start = {}, 0
    for split, rows in keep.items():
        if len(rows):
            official[known[split]] = torch.arange(start, start + len(rows))
        start += len(rows)
    if not {"train"} < set(official):
        official = {}
    kept = torch.cat([values[keep[split]] for split, values in labels.items()])
    captions = _read_captions(splits, keep, column_of(config), path)
    return FileList(name, files, files.images, kept, class_names, official, captions)


def _read_captions(
    splits: Mapping[str, Sequence[Table]], keep: Mapping[str, Tensor], name: str | None, path: Path
) -> tuple[str, ...]:
    """The caption of each row that is kept, empty for a row without one; () where no column is named.

    Raises :class:`~latentdiff.errors.DataError` for a column that is not there, or holds something else than texts.
    """
    captions: list[str] = []
    for split, tables in splits.items() if name is not None else ():
        for table in tables:
            if name not in table.schema.names:
                raise DataError(f"{table.path} has no column {name!r}; it has {list_columns(table.schema)}")
        values = [value for table in tables for value in table.column(str(name)).to_pylist()]
        if odd := [value for value in values if not isinstance(value, str | None)]:
            raise DataError(
                f"the column {name!r} of {path} holds {str(odd[0])[:60]!r}, which is not a text: name another column"
            )
        captions += [values[row] or "" for row in keep[split].tolist()]
    return tuple(captions)


def _columns_of_all(tables: Sequence[Table], config: DataConfig) -> Columns:
    """The columns of the first table, which all others must have too."""
    first = choose_columns(tables[0].schema, config, str(tables[0].path))
    for table in tables[1:]:
        if table.schema.equals(tables[0].schema, check_metadata=True):
            continue
        other = choose_columns(table.schema, config, str(table.path))
        if other != first:
            raise DataError(
                f"{table.path} and {tables[0].path} are tables of different kinds: their columns of images and "
                f"classes, and their number of class names, are {_words(other)} and {_words(first)}"
            )
    return first


def _words(columns: Columns) -> str:
    count = f" ({len(columns.class_names)} names)" if columns.class_names else ""
    return f"{printable(columns.image)}, {printable(columns.label or 'none')}{count}"


def _read_labels(
    splits: Mapping[str, Sequence[Table]], columns: Columns, path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The class of each row, int64 [n] a split, and the classes' names. A row without a class has -1."""
    name = columns.label
    if name is None:
        return {
            split: torch.zeros(sum(table.count for table in tables), dtype=torch.int64)
            for split, tables in splits.items()
        }, ()
    values = {split: [table.column(name) for table in tables] for split, tables in splits.items()}
    found: dict[str, list[Any]] = {
        split: [value for column in columns_ for value in column.to_pylist()] for split, columns_ in values.items()
    }
    if columns.class_names is not None:
        numbers = {split: _numbers(labels, columns.class_names, name, path) for split, labels in found.items()}
        return numbers, columns.class_names
    texts = {split: [_text_of(value) for value in labels] for split, labels in found.items()}
    classes = {text for labels in texts.values() for text in labels if text is not None}
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"the column {name!r} of {path} holds {len(classes):,} different values, too many for classes: name "
            "another column with --data.classes, or none"
        )
    _, class_names = encode_classes(classes)
    index: dict[str | None, int] = {text: place for place, text in enumerate(class_names)}
    encoded = {
        split: torch.tensor([index.get(text, -1) for text in labels], dtype=torch.int64)
        for split, labels in texts.items()
    }
    return encoded, class_names


def _numbers(labels: Sequence[Any], class_names: tuple[str, ...], name: str, path: Path) -> Tensor:
    """Labels that count the names of the classes. Hugging Face's datasets marks a row without a class by -1 or null."""
    if any(isinstance(label, str) for label in labels):
        place = {text: index for index, text in enumerate(class_names)}
        labels = [place.get(label, len(place)) if isinstance(label, str) else label for label in labels]
    numbers = torch.tensor([-1 if label is None else int(label) for label in labels], dtype=torch.int64)
    if len(numbers) and not (int(numbers.min()) >= -1 and int(numbers.max()) < len(class_names)):
        raise DataError(f"the column {name!r} of {path} holds a label beyond its {len(class_names)} classes")
    return numbers


def _text_of(value: Any) -> str | None:
    """A label as the name of a class; None for a row without one."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return printable(value.strip() if isinstance(value, str) else str(value))


def _damaged(path: Path, error: Exception) -> DataError:
    words = " ".join(str(error).split())[:200]
    return DataError(f"{path} cannot be read: {words}. Copy or download it again.")
