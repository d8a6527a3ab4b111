"""A data set in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from torch import Tensor

from latentdiff.data.mapped import chunks, select

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, repr=False)
class ImageDataset:
    """One split of a data set.

    Attributes:
        images: uint8 [n, c, h, w]; may be mapped from a file.
        labels: int64 [n]; all 0 where there are no classes.
        name: The data set, such as ``fashion-mnist``.
        split: ``train``, ``val`` or ``test``.
        source: ``full``, ``embedded`` for the slice inside the package, or ``memory`` for what a program holds.
        class_names: One name for each class; empty where there are none.
        split_description: How the split was made, in words; empty for an official split.
        files: The name of each image's file, empty for an image that came in an array; () where all did.
        content: Of one's own images: int64 [n], a digest of each as it came, by which they are split; else None.
        captions: What each image shows, in words; empty for an image without; () where there are none at all.
    """

    images: Tensor
    labels: Tensor
    name: str
    split: Split
    source: str
    class_names: tuple[str, ...]
    split_description: str = ""
    files: tuple[str, ...] = ()
    content: Tensor | None = None
    captions: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where there are none."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a SHA-256 over shape, pixels and labels: equal for equal content alone. Captions, which
        have a digest of their own, are not in it: other captions leave cached latents as they are."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for chunk in chunks(self.images):
            digest.update(chunk.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    @cached_property
    def captions_fingerprint(self) -> str | None:
        """Sixteen hex digits of a SHA-256 over the captions in order; None where there are none."""
        if not self.captions:
            return None
        return hashlib.sha256("\0".join(self.captions).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def take(self, indices: Tensor) -> ImageDataset:
        """Select images by their indices, int64 [m]. Consecutive indices give a view, others a copy.

        If the images are mapped from a file, a copy that is too large for the memory becomes a file of its own.
        """
        start, count = (int(indices[0]), len(indices)) if len(indices) else (0, 0)
        consecutive = count and int(indices[-1]) - start + 1 == count and bool((indices.diff() == 1).all())
        where = slice(start, start + count) if consecutive else indices
        chosen = [int(index) for index in indices] if self.files or self.captions else []
        files = tuple(self.files[index] for index in chosen) if self.files else ()
        captions = tuple(self.captions[index] for index in chosen) if self.captions else ()
        content = None if self.content is None else self.content[where]
        images = self.images[where] if consecutive else select(self.images, indices)
        labels = self.labels[where]
        return replace(self, images=images, labels=labels, files=files, content=content, captions=captions)

    def __repr__(self) -> str:
        return f"<ImageDataset {self.describe()}>"

    def describe(self) -> str:
        """The data set in one line: its name and split, how many images, and their shape."""
        extent = "embedded slice, not the full set" if self.source == "embedded" else ""
        whole = "as given" if self.source == "memory" else "full set"
        kind = "; ".join(part for part in (extent, self.split_description) if part) or whole
        return (
            f"{self.name} {self.split} split ({kind}): {len(self):,} images of {'x'.join(map(str, self.image_shape))}"
        )
