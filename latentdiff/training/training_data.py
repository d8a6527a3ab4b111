"""The images that a training needs: those that it trains on, and those that it is measured on."""

from __future__ import annotations

from pathlib import Path

from latentdiff import distributed
from latentdiff.data import DatasetSplits, load_dataset
from latentdiff.latents import CachedLatents


def splits_of(data: CachedLatents | DatasetSplits | str | Path) -> DatasetSplits:
    """The data set that a training was given, none of whose images is read yet.

    Args:
        data: A data set, the cached latents of one, or what :func:`~latentdiff.load_dataset` takes.

    Raises as :func:`~latentdiff.load_dataset` does.
    """
    splits = data.splits if isinstance(data, CachedLatents) else data
    return splits if isinstance(splits, DatasetSplits) else load_dataset(splits)


def load_training_data(splits: DatasetSplits) -> DatasetSplits:
    """Load the training and the held-out images of a data set, the same in all processes.

    Raises:
        ConfigError: Settings that contradict each other, or images that differ between processes.
        DataError: The data set is missing or damaged.
    """
    # One process downloads and decodes. The others read what it left.
    with distributed.main_process_first():
        train, held_out = splits.train, splits.held_out
    distributed.check_same("the images", (train.fingerprint, held_out.fingerprint))
    print(train.describe())
    return splits
