"""Oxford Flowers-102 (Nilsback and Zisserman 2008) in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from torchvision.datasets import Flowers102

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.download import download
from latentdiff.data.file_list import FileList
from latentdiff.data.files import DirectoryFiles
from latentdiff.errors import DataError

FOLDER = Path("flowers-102")
# The official training split, of 1,020 images, is too small to train on.
SPLIT_BY_FRACTIONS = True
SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the 8,189 images with their 102 classes and the official splits (1,020, 1,020 and 6,149 images).

    Raises :class:`DataError` where files are missing, or the tables do not fit the images.
    """
    folder = root / FOLDER
    if not folder.is_dir() and not _fetch(root):
        raise DataError(
            f"Flowers-102 is not under {folder} and could not be downloaded. Put jpg/, imagelabels.mat and setid.mat "
            "there, or name another folder with --data.root or LATENTDIFF_DATA."
        )
    numbers = torch.from_numpy(_read_table(folder / "imagelabels.mat", "labels")).long()
    class_names = tuple(Flowers102.classes)
    if not len(numbers) or numbers.min() < 1 or numbers.max() > len(class_names):
        raise DataError(f"{folder / 'imagelabels.mat'} holds labels beyond 1 to {len(class_names)}")
    names = tuple(f"jpg/image_{index:05d}.jpg" for index in range(1, len(numbers) + 1))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{len(missing):,} of {len(names):,} images are missing, the first is {folder / missing[0]}")
    official = {}
    for official_split, key in SPLITS.items():
        indices = torch.from_numpy(_read_table(folder / "setid.mat", key)).long() - 1
        if len(indices) and (indices.min() < 0 or indices.max() >= len(names)):
            raise DataError(f"{folder / 'setid.mat'} names an image beyond {len(names):,}")
        official[official_split] = indices.sort().values
    return FileList("flowers-102", DirectoryFiles(folder), names, numbers - 1, class_names, official)


def _read_table(path: Path, key: str) -> np.ndarray:
    """One array of a Matlab file, as int64 [n]. Raises :class:`DataError`."""
    try:
        return loadmat(path)[key].astype("int64").ravel()
    except Exception as error:  # loadmat raises many kinds on damaged files
        raise DataError(f"{path} cannot be read: {error!r}. Restore it from the data set's page.") from error


def _fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""
    url = Flowers102._download_url_prefix + "setid.mat"
    return download("Flowers-102", root, FOLDER, [url], lambda folder: Flowers102(folder, download=True))
