"""Fashion-MNIST (Xiao et al. 2017): the full set in torchvision's layout, or the slice inside the package."""

from __future__ import annotations

import gzip
import math
import os
import socket
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff.data.image_set import DataError, ImageSet, Split
from latentdiff.data.network import answers

CLASS_NAMES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FOLDER = Path("FashionMNIST") / "raw"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
EMBEDDED = Path(__file__).parent / "embedded"
IMAGES = {"full": {"train": 60_000, "test": 10_000}, "embedded": {"train": 10_000, "test": 2_000}}


def load(root: Path, source: str, split: Split) -> ImageSet:
    """The split from ``root`` (``full``), from the package (``embedded``), or the former if it can be had (``auto``).

    Files that are present but wrong are an error whatever the source: silently training on the slice instead would
    hide it. Raises :class:`DataError`; never changes a file that is already there.
    """
    if source == "embedded" or (source == "auto" and not present(root) and not download(root)):
        return read(EMBEDDED, "embedded", split)
    if source == "full" and not present(root) and not download(root):
        raise DataError(
            f"Fashion-MNIST is not under {root / FOLDER} and could not be downloaded. Put its four files there, name "
            "another folder with --data.root or LATENTDIFF_DATA, or use --data.source embedded."
        )
    return read(root, "full", split)


def present(root: Path) -> bool:
    """Whether any file of the set is under ``root``: then that copy is meant, and a damaged one is an error."""
    return any(_find(root, name) for names in FILES.values() for name in names)


def read(root: Path, source: str, split: Split) -> ImageSet:
    """Read one split's two IDX files, plain or gzipped, and check them against each other."""
    images, labels = (_read_idx(root, name) for name in FILES[split])
    expected = IMAGES[source][split]
    for name, array, shape in zip(FILES[split], (images, labels), ((expected, 28, 28), (expected,)), strict=True):
        if tuple(array.shape) != shape:
            raise DataError(f"{_find(root, name)} holds an array of {tuple(array.shape)} where {shape} was expected")
    if labels.max() >= len(CLASS_NAMES):
        raise DataError(f"{_find(root, FILES[split][1])} holds the label {labels.max()}; the largest allowed is 9")
    return ImageSet(images[:, None], labels.long(), "fashion-mnist", split, source, CLASS_NAMES)


def download(root: Path) -> bool:
    """Download the set through torchvision into ``root``, whole or not at all; False where no server answers."""
    from torchvision.datasets import FashionMNIST

    mirrors = [mirror for mirror in FashionMNIST.mirrors if answers(mirror + FILES["test"][1] + ".gz")]
    if not mirrors:
        return False
    print(f"downloading Fashion-MNIST to {root / FOLDER}", flush=True)
    root.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
        try:
            socket.setdefaulttimeout(20.0)
            FashionMNIST(folder, download=True)
            (root / FOLDER.parent).mkdir(exist_ok=True)
            os.replace(Path(folder) / FOLDER, root / FOLDER)
        except (OSError, RuntimeError) as error:
            print(f"the download failed: {error}", flush=True)
            return False
        finally:
            socket.setdefaulttimeout(previous)
    return True


def _find(root: Path, name: str) -> Path | None:
    """The IDX file as it is, or gzipped."""
    candidates = (root / FOLDER / name, root / FOLDER / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read_idx(root: Path, name: str) -> Tensor:
    """An IDX file of unsigned bytes: two zero bytes, type 8, the number of dimensions, big-endian sizes, the data."""
    path = _find(root, name)
    if path is None:
        raise DataError(
            f"{root / FOLDER / name} is missing while other files of the set are there. Restore it, or remove "
            f"{root / FOLDER} to have the set downloaded again."
        )
    advice = "Nothing was changed; restore the file, or remove it and its neighbours to download the set again."
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. {advice}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes. {advice}")
    sizes = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    offset = 4 + 4 * len(sizes)
    if len(content) - offset != math.prod(sizes):
        raise DataError(
            f"{path} is truncated or too long: its header promises {math.prod(sizes):,} bytes of data, "
            f"{len(content) - offset:,} are there. {advice}"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=offset).reshape(sizes).copy())
