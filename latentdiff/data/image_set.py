"""A data set in memory, and the one door to all of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from latentdiff.config import DataConfig

Split = Literal["train", "test"]


class DataError(Exception):
    """A data set is missing or damaged; the message names the file and what to do."""


@dataclass(frozen=True)
class ImageSet:
    """One split of a data set.

    Attributes:
        images: uint8 [n, c, h, w].
        labels: int64 [n].
        name: The data set, such as ``fashion-mnist``.
        split: ``train`` or ``test``.
        source: ``full`` or ``embedded``.
        class_names: One name for each class.
    """

    images: Tensor
    labels: Tensor
    name: str
    split: Split
    source: str
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.images.shape[1:])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a SHA-256 over the pixels, labels and shape: equal for equal content alone."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        kind = "full set" if self.source == "full" else "embedded slice, not the full set"
        return (
            f"{self.name} {self.split} split ({kind}): {len(self):,} images of {'x'.join(map(str, self.image_shape))}"
        )


def data_root(root: str | None) -> Path:
    """The folder of the data sets: the setting, else LATENTDIFF_DATA, else ``data``."""
    return Path(root or os.environ.get("LATENTDIFF_DATA") or "data").expanduser()


def load_data(config: DataConfig, split: Split) -> ImageSet:
    """Load one split. Raises :class:`DataError` where it is missing or damaged."""
    from latentdiff.data import fashion_mnist

    loaders = {"fashion-mnist": fashion_mnist.load}
    return loaders[config.name](data_root(config.root), config.source, split)
