"""Parquet files of images, as Hugging Face's datasets, pandas and polars write them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList
from latentdiff.data.shards import by_split, find_files, stamp_of
from latentdiff.data.tables import ParquetTable, list_tables
from latentdiff.errors import ConfigError

TAKES_PATH = NEEDS_PATH = GROWS = HAS_COLUMNS = True


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of ``config.path``, for any split; ``root`` is not used.

    Files whose names tell ``train`` and another split, such as ``train-00000-of-00002.parquet``, have official splits.
    Raises :class:`~latentdiff.errors.DataError`.
    """
    if config.path is None:
        raise ConfigError("data.name parquet needs --data.path, one or several Parquet files or their folder")
    place, files = find_files(config.path, (".parquet", ".pq"), "Parquet file")
    splits = {name: [_open(path, stamp_of(path)) for path in paths] for name, paths in by_split(place, files).items()}
    return list_tables("parquet", place, splits, config)


@lru_cache(maxsize=4096)
def _open(path: Path, stamp: tuple[int, ...]) -> ParquetTable:
    """A file, whose footer is read once for all splits."""
    return ParquetTable(path)
