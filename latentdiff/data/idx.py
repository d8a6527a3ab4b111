"""The IDX format of MNIST and Fashion-MNIST: a data set that comes as two arrays for each split."""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


# How a file is packed, by the end of its name. Data sets come plain or gzipped, the slice in the package as xz.
UNPACK = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class IdxDataset:
    """A data set in torchvision's layout of IDX files, plain or packed, 28x28 pixels and ten classes.

    Attributes:
        name: The data set's name in settings.
        title: Its name in messages.
        folder: The files' folder, relative to the folder of all data sets.
        class_names: The names of the ten classes.
        counts: Number of images of the training and the test split.
    """

    name: str
    title: str
    folder: Path
    class_names: tuple[str, ...]
    counts: dict[str, int]

    def is_present(self, root: Path) -> bool:
        """Whether any file of the set is under ``root``. That copy is then used, and damage to it is an error."""
        return any(self._locate(root, name) for names in FILES.values() for name in names)

    def read(self, root: Path, split: Split, source: str = "full", count: int | None = None) -> ImageDataset:
        """Read one split's two files, and check that they fit each other.

        Args:
            root: The folder of all data sets.
            split: ``train`` or ``test``.
            source: What the result's ``source`` says.
            count: Number of images that the files must hold. Default: that of the full set.

        Raises :class:`DataError` for files that are missing or damaged.
        """
        images, labels = (self._read_array(root, name) for name in FILES[split])
        expected = count or self.counts[split]
        for name, array, shape in zip(FILES[split], (images, labels), ((expected, 28, 28), (expected,)), strict=True):
            if tuple(array.shape) != shape:
                raise DataError(
                    f"{self._locate(root, name)} holds an array of {tuple(array.shape)} where {shape} was expected"
                )
        if labels.max() >= len(self.class_names):
            raise DataError(
                f"{self._locate(root, FILES[split][1])} holds the label {labels.max()}; the largest allowed is 9"
            )
        return ImageDataset(images[:, None], labels.long(), self.name, split, source, self.class_names)

    def _locate(self, root: Path, name: str) -> Path | None:
        """Find a file, plain or packed; None where there is none."""
        candidates = (root / self.folder / f"{name}{suffix}" for suffix in UNPACK)
        return next((path for path in candidates if path.is_file()), None)

    def _read_array(self, root: Path, name: str) -> Tensor:
        """Read a file of the set. Raises :class:`DataError`."""
        path = self._locate(root, name)
        if path is None:
            raise DataError(
                f"{root / self.folder / name} is missing while other files of the set are there. Restore it, or remove "
                f"{root / self.folder} to have the set downloaded again."
            )
        return read_idx(path)


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes, plain or packed, as a uint8 tensor.

    The format: two zero bytes, the type 8, the number of dimensions, the sizes in big-endian order, the data.
    Raises :class:`DataError`.
    """
    advice = "Nothing was changed; restore the file, or remove it and its neighbours to download the set again."
    try:
        content = UNPACK.get(path.suffix, bytes)(path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
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
