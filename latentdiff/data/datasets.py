"""What ``save_to_disk`` of Hugging Face's datasets wrote: a folder of Arrow files, with or without splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList
from latentdiff.data.path_kind import SAVED_SPLITS, SAVED_STATE
from latentdiff.data.tables import ArrowTable, list_tables
from latentdiff.errors import ConfigError, DataError

TAKES_PATH = NEEDS_PATH = GROWS = HAS_COLUMNS = True


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images in the folder ``config.path``, or in one Arrow file, for any split; ``root`` is not used.

    The files are mapped into memory, and the package datasets is not needed. Raises
    :class:`~latentdiff.errors.DataError`.
    """
    if config.path is None:
        raise ConfigError("data.name datasets needs --data.path, a folder that save_to_disk wrote")
    place = Path(config.path).expanduser()
    if (place / SAVED_SPLITS).is_file():
        names = _read_json(place / SAVED_SPLITS).get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_name(name) for name in names):
            raise DataError(f"{place / SAVED_SPLITS} lists no splits: it is not what save_to_disk writes")
        splits = {name: _open(place / name) for name in names}
    elif (place / SAVED_STATE).is_file():
        splits = {"": _open(place)}
    elif place.is_file():
        splits = {"": [ArrowTable.read(place)]}
    else:
        raise DataError(
            f"{place} is not what save_to_disk writes: there is neither {SAVED_SPLITS} nor {SAVED_STATE}. Name a "
            "folder of Parquet files with --data.name parquet, and one of images with --data.name folder."
        )
    return list_tables("datasets", place, splits, config)


def _open(folder: Path) -> list[ArrowTable]:
    """The files of one split."""
    state = _read_json(folder / SAVED_STATE)
    listed = state.get("_data_files")
    names = [item.get("filename") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and _is_name(name) for name in names):
        raise DataError(f"{folder / SAVED_STATE} lists no files of the folder: it is not what save_to_disk writes")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{folder} holds a selection of rows in an old format: save it again with datasets")
    return [ArrowTable.read(folder / str(name)) for name in names]


def _is_name(name: str) -> bool:
    """Whether a name is that of a file or folder directly in its folder, not a path to another place."""
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name and "\0" not in name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Copy the folder again, or save it anew.") from error
    return found if isinstance(found, dict) else {}
