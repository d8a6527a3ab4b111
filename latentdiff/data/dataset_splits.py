"""A data set with all its splits: by name, from a folder or a zip, or from what a Python program already holds."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import get_args, get_type_hints

from latentdiff.config import DataConfig
from latentdiff.data.dataset import ImageDataset
from latentdiff.data.load import NoSplitError, load_split
from latentdiff.errors import DataError

NAMES = get_args(get_type_hints(DataConfig)["name"])


class DatasetSplits:
    """The splits of one data set, each loaded on first use.

    Attributes:
        config: The settings that say which images these are.
    """

    def __init__(self, config: DataConfig):
        self.config = config

    @cached_property
    def train(self) -> ImageDataset:
        """The training images. Raises :class:`~latentdiff.errors.DataError` where there are none."""
        return load_split(self.config, "train")

    @cached_property
    def val(self) -> ImageDataset:
        """The validation images. Raises :class:`~latentdiff.data.NoSplitError` where there is no such split."""
        return load_split(self.config, "val")

    @cached_property
    def test(self) -> ImageDataset:
        """The test images. Raises :class:`~latentdiff.data.NoSplitError` where there is no such split."""
        return load_split(self.config, "test")

    @property
    def held_out(self) -> ImageDataset:
        """Images that training does not see: the validation split, or the test split where there is none."""
        try:
            return self.val
        except NoSplitError:
            return self.test

    @cached_property
    def test_or_val(self) -> ImageDataset:
        """The test split. Where there is none, as of an 80/20 split, the validation split, which a line then says."""
        try:
            return self.test
        except NoSplitError as error:
            try:
                stand_in = self.val
            except NoSplitError:
                raise error from None
            print(f"{error}: the validation images stand in for it, which may have chosen a model")
            return stand_in


def load_dataset(source: str | Path | DataConfig = "fashion-mnist") -> DatasetSplits:
    """A data set with its splits ``train``, ``val`` and ``test``. Nothing is read before a split is used.

    Args:
        source: A data set's name, such as ``fashion-mnist``; a folder or zip of images; or a
            :class:`~latentdiff.config.DataConfig` with more settings.

    Raises :class:`~latentdiff.errors.DataError` for a source that is neither.
    """
    if isinstance(source, DataConfig):
        return DatasetSplits(source)
    if str(source) in NAMES:
        return DatasetSplits(DataConfig(name=str(source)))
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"{source!r} is neither a folder or zip of images nor a data set's name: {', '.join(NAMES)}")
    return DatasetSplits(DataConfig(name="folder", path=str(path)))
