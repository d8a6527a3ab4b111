"""Fashion-MNIST in colour: each thing in one of six colours, and a caption such as "a red dress".

The colour of an image follows from its pixels. Ten of the sixty pairs of class and colour, one of each class, are left
out of the training images and stay in the test images: whether a model composes what it has never seen together can
then be measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latentdiff.config import DataConfig
from latentdiff.data import fashion_mnist
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.splits import digest_pixels
from latentdiff.errors import ConfigError

HAS_CAPTIONS = True
# Sixty degrees apart. Each has 255 in its strongest channel: the largest channel of an image is its grey one.
COLOURS = {
    "red": (255, 51, 51),
    "yellow": (255, 255, 51),
    "green": (51, 255, 51),
    "cyan": (51, 255, 255),
    "blue": (51, 51, 255),
    "magenta": (255, 51, 255),
}
COLOUR_NAMES = tuple(COLOURS)
# A mean colour with less than this share of its strongest channel between its channels is grey.
LEAST_CHROMA = 0.2


def load(root: Path, config: DataConfig, split: Split) -> ImageDataset:
    """Load a split of Fashion-MNIST, coloured, with its captions, as :func:`~latentdiff.data.fashion_mnist.load` does.

    Raises :class:`DataError`, and ConfigError for a split by fractions: test images would be trained on.
    """
    if config.split == "fractions":
        raise ConfigError(
            "fashion-mnist-coloured comes in its official split alone: its training images leave out pairs of class "
            "and colour that the test images have"
        )
    grey = fashion_mnist.load(root, replace(config, captions="none"), split)
    colours = colours_of(grey.images)
    captions = tuple(
        caption_of(grey.class_names[label], COLOUR_NAMES[colour])
        for label, colour in zip(grey.labels.tolist(), colours.tolist(), strict=True)
    )
    data = replace(grey, images=paint(grey.images, colours), name="fashion-mnist-coloured", captions=captions)
    if split == "test":
        return data
    kept = torch.nonzero(~left_out(grey.labels, colours))[:, 0]
    return replace(data.take(kept), split_description="without ten pairs of class and colour")


def caption_of(class_name: str, colour: str) -> str:
    """The caption of a class in a colour.

    >>> caption_of("Ankle boot", "red")
    'a red ankle boot'
    """
    return f"a {colour} {class_name.lower()}"


def left_out(labels: Tensor, colours: Tensor) -> Tensor:
    """Whether pairs of class and colour are left out of the training images: bool [n] of int64 [n].

    Class k lacks the colour k modulo 6.
    """
    return colours == labels % len(COLOUR_NAMES)


def colours_of(images: Tensor) -> Tensor:
    """The colour that an image gets, by a digest of its pixels: int64 [n] of uint8 [n, 1, h, w]."""
    return digest_pixels(image.numpy() for image in images) % len(COLOUR_NAMES)


def paint(images: Tensor, colours: Tensor) -> Tensor:
    """Images in their colours: uint8 [n, 3, h, w] of uint8 [n, 1, h, w] and int64 [n]."""
    table = torch.tensor(list(COLOURS.values()), dtype=torch.int32)
    painted = [
        (grey.int() * table[own][:, :, None, None] + 127).div(255, rounding_mode="floor").to(torch.uint8)
        for grey, own in zip(images.split(4096), colours.split(4096), strict=True)
    ]
    return torch.cat(painted)


def grey_of(images: Tensor) -> Tensor:
    """The grey images that were painted: the largest channel, uint8 [n, 1, h, w] of uint8 [n, 3, h, w]."""
    return images.amax(1, keepdim=True)


def read_colours(images: Tensor) -> Tensor:
    """The colour that images are seen to have, by rule: int64 [n] of uint8 [n, 3, h, w]; -1 for grey.

    It is the one whose hue is nearest to the hue of the image's mean.
    """
    mean = images.flatten(2).float().mean(2)
    chroma = mean - mean.amin(1, keepdim=True)
    table = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    table = table - table.amin(1, keepdim=True)
    # The angle between two colours without their grey is that between their hues.
    axes = torch.tensor([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]]).mT
    own, known = (torch.nn.functional.normalize(each @ axes, dim=1) for each in (chroma, table))
    nearest = (own @ known.mT).argmax(1)
    return torch.where(chroma.amax(1) < LEAST_CHROMA * mean.amax(1).clamp_min(1), -1, nearest)
