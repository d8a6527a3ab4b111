"""CIFAR-10 (Krizhevsky 2009): torchvision's batches, or a folder of images for each split and class."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from latentdiff.config import DataConfig
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.download import download
from latentdiff.data.file_list import FileList
from latentdiff.data.files import open_files
from latentdiff.errors import DataError

BATCHES = Path("cifar-10-batches-py")
FOLDER = Path("cifar-10")
DEFAULT_SIZE = 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(root: Path, config: DataConfig, split: Split) -> ImageDataset | FileList:
    """Load the split from torchvision's batches under ``root``, or list the files of a folder of images there.

    Where there is neither, the set is downloaded. Raises :class:`DataError`.
    """
    if not (root / BATCHES).is_dir() and (root / FOLDER).is_dir():
        return list_images(root / FOLDER)
    if not (root / BATCHES).is_dir() and not fetch(root):
        raise DataError(
            f"CIFAR-10 is neither under {root / BATCHES} (torchvision's) nor under {root / FOLDER} "
            "({train,test}/<class>/*.png), and could not be downloaded. Name another folder with --data.root."
        )
    try:
        data = CIFAR10(root, train=split == "train")
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise DataError(f"{root / BATCHES} is damaged: {error}. Remove it to download the set again.") from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageDataset(images, torch.tensor(data.targets), "cifar-10", split, "full", CLASS_NAMES)


def list_images(folder: Path) -> FileList:
    """List the images of ``{train,test}/<class>/``. Raises :class:`DataError`."""
    source = open_files(folder)
    parts = [tuple(name.split("/")) for name in source.images]
    for name, place in zip(source.images, parts, strict=True):
        if len(place) != 3 or place[0] not in ("train", "test") or place[1] not in CLASS_NAMES:
            raise DataError(f"{folder / name} is not in one of the folders {{train,test}}/<class> of CIFAR-10")
    official = {
        split: torch.tensor([i for i, place in enumerate(parts) if place[0] == split], dtype=torch.int64)
        for split in ("train", "test")
    }
    labels = torch.tensor([CLASS_NAMES.index(place[1]) for place in parts], dtype=torch.int64)
    return FileList("cifar-10", source, source.images, labels, CLASS_NAMES, official)


def fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""
    return download("CIFAR-10", root, BATCHES, [CIFAR10.url], lambda folder: CIFAR10(folder, download=True))
