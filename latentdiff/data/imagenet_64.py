"""Downsampled ImageNet (Chrabaszcz et al. 2017) as image-net.org has it, and as ADM was trained on: files of npz.

``train_data_batch_1.npz`` to ``…_10.npz`` and ``val_data.npz`` each hold ``data``, uint8 [n, 3 * side * side] with the
channels one after the other, and ``labels``, from 1 on.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from latentdiff.config import DataConfig
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList, encode_classes
from latentdiff.data.rows import RowFiles, StreamedPart
from latentdiff.data.shards import natural_order, stamp_of
from latentdiff.errors import DataError

TAKES_PATH = True
FOLDER = Path("imagenet-64")
# Bytes of images that are read at a time.
BLOCK = 4 * 1024**2
# Labels of one file; the published ones hold 128,117 at most.
MOST_ROWS = 10**8


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images of ``config.path``, or of ``imagenet-64`` under ``root``, for any split.

    Raises :class:`~latentdiff.errors.DataError` where there are none, or the files hold something else.
    """
    folder = Path(config.path).expanduser() if config.path else root / FOLDER
    train = sorted(folder.glob("train_data*.npz"), key=lambda path: natural_order(path.name))
    if not train:
        raise DataError(
            f"downsampled ImageNet is not in {folder}, and could not be downloaded: image-net.org asks for an account. "
            "Put train_data_batch_1.npz and so on and val_data.npz there, or name their folder with --data.path."
        )
    parts = {"train": [_NpzPart(path) for path in train]}
    if (folder / "val_data.npz").is_file():
        parts["validation"] = [_NpzPart(folder / "val_data.npz")]
    labels, class_names = encode_classes(str(label) for own in parts.values() for part in own for label in part.labels)
    source, count = RowFiles(folder, parts), sum(part.count for part in parts["train"])
    official = {"train": torch.arange(count), "val": torch.arange(count, len(labels))} if len(parts) > 1 else {}
    return FileList("imagenet-64", source, source.images, labels, class_names, official)


class _NpzPart(StreamedPart):
    """One file. Its images are given as files of the format PPM, which add a header to the pixels alone."""

    def __init__(self, path: Path):
        super().__init__()
        self._path, self.stamp = path, stamp_of(path)
        try:
            with zipfile.ZipFile(path) as archive, archive.open("labels.npy") as file:
                shape, dtype = _read_header(file)
                if math.prod(shape) > MOST_ROWS:
                    raise ValueError(f"there are {math.prod(shape):,} labels")
                values = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
            with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
                (self.count, self._width), kind = _read_header(file)
            self._side = math.isqrt(self._width // 3)
            if kind != np.uint8 or 3 * self._side**2 != self._width or dtype.kind not in "iu":
                raise ValueError(f"data is {kind} [{self.count}, {self._width}], and labels are {dtype}")
            if values.shape != (self.count,):
                raise ValueError(f"there are {values.size:,} labels for {self.count:,} images")
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"{path} is no file of downsampled ImageNet: {error}. It must hold data, uint8 [n, 3 * side * side], "
                "and labels."
            ) from error
        self.labels: list[int] = values.tolist()

    def start_before(self, row: int) -> int:
        return 0

    def read_from(self, row: int) -> Iterator[Sequence[bytes]]:
        head = b"P6 %d %d 255\n" % (self._side, self._side)
        rows = max(1, BLOCK // self._width)
        with zipfile.ZipFile(self._path) as archive, archive.open("data.npy") as file:
            _read_header(file)
            while content := file.read(rows * self._width):
                images = np.frombuffer(content, np.uint8).reshape(-1, 3, self._side, self._side).transpose(0, 2, 3, 1)
                yield [head + image.tobytes() for image in images]


def _read_header(file) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and type of an array in NumPy's format, whose values follow. Raises ValueError for another order."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran or dtype.hasobject:
        raise ValueError("an array is of objects, or in Fortran's order")
    return shape, dtype
