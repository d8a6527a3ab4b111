"""The training images of a model's data set, where they are on this machine. None is downloaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from dataclasses import replace
from typing import Any

from latentdiff.config import DataConfig, from_dict
from latentdiff.data import ImageDataset, load_split
from latentdiff.data.download import no_downloads
from latentdiff.errors import DataError, LatentdiffError
from latentdiff.inference.model import DiffusionModel

# Seconds that a request waits for images that are being read.
PATIENCE = 15.0


class TrainingImages:
    """Reads each data set once, in a thread of its own: decoding photographs for the first time takes minutes.

    Args:
        root: The folder of all data sets; None takes what the environment says.
        load: Reads a split.
    """

    def __init__(self, root: str | None = None, load: Callable[[DataConfig, Any], ImageDataset] = load_split):
        self._root, self._load = root, load
        self._found: dict[DataConfig, Future[ImageDataset]] = {}
        self._lock = threading.Lock()

    def of(self, model: DiffusionModel, patience: float = PATIENCE) -> ImageDataset:
        """The training images of ``model``.

        Raises :class:`~latentdiff.errors.DataError` where they are not on this machine, are still being read, or have
        another shape than the model's images.
        """
        recorded = (model.settings or {}).get("data")
        if not isinstance(recorded, dict) or recorded.get("name") in (None, "tensors"):
            raise DataError("the model's file does not say which images it was trained on")
        root = self._root or (None if os.environ.get("LATENTDIFF_DATA") else recorded.get("root"))
        config = replace(from_dict(DataConfig, recorded), root=root)
        with self._lock:
            if config not in self._found:
                self._found[config] = self._begin(config)
            future = self._found[config]
        try:
            data = future.result(patience)
        except TimeoutError:
            raise DataError(
                f"the training images of {config.name} are being read for the first time: ask again in a minute"
            ) from None
        except (LatentdiffError, OSError, ValueError) as error:
            with self._lock:  # they may be there the next time
                self._found.pop(config, None)
            reason = str(error).splitlines()[0].rstrip(".")
            raise DataError(
                f"the training images of {config.name} are not on this machine, or cannot be read: {reason}."
                + ("" if config.path else " Name the folder of all data sets with --data_root.")
            ) from error
        if tuple(data.image_shape) != tuple(model.codec.image_shape):
            raise DataError(f"the images of {config.name} here have another shape than the model's")
        return data

    def are_mirrored(self, model: DiffusionModel) -> bool:
        """Whether ``model`` was trained on mirror images too."""
        return bool(((model.settings or {}).get("data") or {}).get("hflip"))

    def are_those_of_training(self, model: DiffusionModel, data: ImageDataset) -> bool:
        """Whether ``data`` has the content that ``model``'s file says, or the file says nothing of it."""
        recorded = ((model.provenance or {}).get("data") or {}).get("fingerprint")
        return recorded in (None, data.fingerprint) or data.source == "embedded"

    def _begin(self, config: DataConfig) -> Future[ImageDataset]:
        future: Future[ImageDataset] = Future()

        def read() -> None:
            try:
                with no_downloads():
                    future.set_result(self._load(config, "train"))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=read, name=f"reading {config.name}", daemon=True).start()
        return future
