"""MNIST (LeCun et al. 1998) in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from latentdiff.config import DataConfig
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.download import download
from latentdiff.data.idx import FILES, IdxDataset
from latentdiff.errors import DataError

MNIST = IdxDataset(
    "mnist", "MNIST", Path("MNIST") / "raw", tuple(str(digit) for digit in range(10)), {"train": 60_000, "test": 10_000}
)


def load(root: Path, config: DataConfig, split: Split) -> ImageDataset:
    """Load a split from ``root``, after a download where it is not there. Raises :class:`DataError`."""
    if not MNIST.is_present(root) and not fetch(root):
        raise DataError(
            f"MNIST is not under {root / MNIST.folder} and could not be downloaded. Put its four files there, or name "
            "another folder with --data.root or LATENTDIFF_DATA."
        )
    return MNIST.read(root, split)


def fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""
    urls = [mirror + FILES["test"][1] + ".gz" for mirror in datasets.MNIST.mirrors]
    return download("MNIST", root, MNIST.folder, urls, lambda folder: datasets.MNIST(folder, download=True))
