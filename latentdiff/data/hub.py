"""Data sets of the Hugging Face Hub, through the package datasets, which downloads each once and keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from latentdiff.config import DataConfig
from latentdiff.config.checks import HUB_NAME
from latentdiff.data import download
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList
from latentdiff.data.shards import stamp_of
from latentdiff.data.tables import ArrowTable, list_tables
from latentdiff.errors import ConfigError, DataError
from latentdiff.extras import import_extra

GROWS = HAS_COLUMNS = True
# What datasets and the clients that it has had raise where no server answers.
UNREACHABLE = {
    "ConnectionError",
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "ConnectError",
    "TimeoutException",
}


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of the data set that ``config.name`` names, for any split; ``root`` is not used.

    Raises :class:`~latentdiff.errors.DataError` if it is neither on this machine nor on the Hub, and ConfigError for an
    invalid name, or if the package datasets is not installed.
    """
    match = HUB_NAME.fullmatch(config.name)
    if match is None:
        raise ConfigError(
            f"{config.name} is not a data set of the Hub: write hf:ID or hf:ID/CONFIG, such as hf:ylecun/mnist"
        )
    tables = _tables(*match.groups(), download.downloads_allowed())
    return list_tables(config.name, Path(config.name), tables, config, reads_paths=True)


@lru_cache(maxsize=8)
def _tables(name: str, configuration: str | None, revision: str | None, allowed: bool) -> dict[str, list[ArrowTable]]:
    """The tables of each split, mapped into memory from the folder where datasets keeps them."""
    datasets = import_extra("datasets", "hf")
    what = f"hf:{name}" + (f"/{configuration}" if configuration else "") + (f"@{revision}" if revision else "")
    try:
        with _as_allowed(datasets, allowed):
            found = datasets.load_dataset(name, configuration, revision=revision)
    except Exception as error:  # datasets, huggingface_hub, their HTTP client and pyarrow raise many kinds
        raise DataError(_why(what, datasets, error)) from error
    if not hasattr(found, "items"):
        raise DataError(f"{what} has no splits that can be read")
    return {str(split): [_table(what, dataset)] for split, dataset in found.items()}


def _table(what: str, dataset: Any) -> ArrowTable:
    files = [Path(item["filename"]) for item in dataset.cache_files]
    # Where datasets holds a set in memory there is no file. Its own fingerprint then stands for the content.
    stamp = sum((stamp_of(path) for path in files), ()) or (int(dataset._fingerprint, 16),)
    table = getattr(dataset.data, "table", dataset.data)
    if not (table.schema.metadata or {}).get(b"huggingface"):
        table = table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    return ArrowTable(Path(what), table, stamp)


@contextmanager
def _as_allowed(datasets: Any, allowed: bool) -> Iterator[None]:
    """Make the package datasets work offline in the block, unless downloads are allowed and the Hub answers."""
    before = datasets.config.HF_HUB_OFFLINE
    if allowed and not before:
        # datasets would try again and again for a minute, before it takes what is on this machine.
        allowed = download.server_answers(datasets.config.HF_ENDPOINT, download.SECONDS_TO_ANSWER, True)
    level = logging.getLogger("datasets").level
    datasets.config.HF_HUB_OFFLINE = before or not allowed
    logging.getLogger("datasets").setLevel(logging.ERROR)  # warnings about a cache that is used
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        logging.getLogger("datasets").setLevel(level)


def _why(what: str, datasets: Any, error: Exception) -> str:
    """Say in a line or two why a data set cannot be loaded, and what to do."""
    words = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ".join(words)[:300]
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & UNREACHABLE:
        return (
            f"{what} is not on this machine, and the Hub cannot be reached ({reason[:150]}).\n"
            f"Load it once with a network (it is kept in {datasets.config.HF_DATASETS_CACHE}), or name a copy: "
            "--data.name parquet --data.path FOLDER"
        )
    if "DatasetNotFoundError" in names:
        return f"{what}: there is no such data set on the Hub, or it is not public: {reason}"
    return f"{what} cannot be loaded: {reason}"
