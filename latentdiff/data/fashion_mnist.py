"""Fashion-MNIST (Xiao et al. 2017): the full set in torchvision's layout, or the slice inside the package."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from torchvision.datasets import FashionMNIST

from latentdiff.config import DataConfig
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.download import download
from latentdiff.data.fashion_captions import describe
from latentdiff.data.idx import FILES, IdxDataset
from latentdiff.errors import DataError

CLASS_NAMES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FASHION_MNIST = IdxDataset(
    "fashion-mnist",
    "Fashion-MNIST",
    Path("FashionMNIST") / "raw",
    CLASS_NAMES,
    {"train": 60_000, "test": 10_000},
)
HAS_CAPTIONS = True
EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_COUNTS = {"train": 10_000, "test": 2_000}


def load(root: Path, config: DataConfig, split: Split) -> ImageDataset:
    """Load a split.

    Files that are present and damaged are an error: training on the slice instead would hide the damage. No file that
    is already there is changed.

    Args:
        root: The folder of all data sets.
        config: Its ``source`` says where the split comes from. ``full`` reads it from ``root``, ``embedded`` from the
            package, and ``auto`` from ``root`` where it is there or can be downloaded, else from the package.
        split: ``train`` or ``test``.

    Raises :class:`DataError`.
    """
    is_full = config.source != "embedded" and (FASHION_MNIST.is_present(root) or fetch(root))
    if is_full:
        return _captioned(FASHION_MNIST.read(root, split), config)
    if config.source == "full":
        raise DataError(
            f"Fashion-MNIST is not under {root / FASHION_MNIST.folder} and could not be downloaded. Put its four files "
            "there, name another folder with --data.root or LATENTDIFF_DATA, or use --data.source embedded."
        )
    embedded = _read_embedded(split)
    return _captioned(replace(embedded, images=embedded.images.clone(), labels=embedded.labels.clone()), config)


def _captioned(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """The images with captions by rule, where they are asked for."""
    if config.captions != "rule":
        return data
    return replace(data, captions=describe(data.images, data.labels, data.class_names))


@cache
def _read_embedded(split: Split) -> ImageDataset:
    """Read a split of the slice, once in a process: unpacking it takes a third of a second."""
    return FASHION_MNIST.read(EMBEDDED, split, "embedded", EMBEDDED_COUNTS[split])


def fetch(root: Path) -> bool:
    """Download the set through torchvision. Returns False where no server answers."""
    urls = [mirror + FILES["test"][1] + ".gz" for mirror in FashionMNIST.mirrors]
    return download(
        "Fashion-MNIST", root, FASHION_MNIST.folder, urls, lambda folder: FashionMNIST(folder, download=True)
    )
