"""Split a data set into training, validation and test images by a seed.

Released data sets are split by :func:`split_indices`, which balances the classes. A user's own images are split by
:func:`split_by_content`, which lets a data set grow: a new image moves no other one to another split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from latentdiff.errors import ConfigError

SPLITS = ("train", "val", "test")
# Seeds that are tried for one that leaves no split empty.
SEEDS_TRIED = 1000


def split_indices(labels: Tensor, fractions: tuple[float, float, float], seed: int) -> dict[str, Tensor]:
    """Choose the images of each split: rising int64 indices, which depend on the arguments alone.

    Every class is divided by the fractions to within two images, and the whole data set to within one: what rounding
    takes from a split in one class, the split gets back in the next class. One image more or less changes the splits of
    all others, so this is for data sets that never change.

    Args:
        labels: int64 [n]: the class of each image.
        fractions: Shares of train, val and test, at least 0, summing to 1; the first above 0.
        seed: Seed of the order within the classes.

    Raises :class:`~latentdiff.errors.ConfigError` for other fractions.
    """
    check_fractions(fractions)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Class after class, each in random order: every image goes to the split that is furthest behind its share.
    order = order[torch.sort(labels[order], stable=True).indices]
    behind = [0.0, 0.0, 0.0]
    split_of = []
    for _ in range(len(order)):
        behind = [owed + share for owed, share in zip(behind, fractions, strict=True)]
        chosen = max(range(3), key=behind.__getitem__)
        behind[chosen] -= 1.0
        split_of.append(chosen)
    place = torch.tensor(split_of)
    return {name: order[place == index].sort().values for index, name in enumerate(SPLITS)}


def split_by_content(content: Tensor, fractions: tuple[float, float, float], seed: int) -> dict[str, Tensor]:
    """Choose the images of each split by each image's own content: rising int64 indices.

    An image's content and the seed give a number in [0, 1), and the fractions say which numbers are whose. So an image
    that is added or removed moves no other one, and neither does a new name or folder. Images that are equal are in one
    split. A change of the fractions can make a test image a validation image only if the old test fraction and the new
    validation fraction sum to more than 1.

    The drawback: the sizes of the splits are random, so a split of 10 % of ten images is empty in one draw of three. No
    counting rule could avoid this: if no image may move another, the split of an image can depend only on that image.

    Args:
        content: int64 [n]: a digest of each image, as of :func:`digest_content`.
        fractions: Shares of train, val and test, at least 0, summing to 1; the first above 0.
        seed: Seed of the draw.

    Raises :class:`~latentdiff.errors.ConfigError` for other fractions.
    """
    check_fractions(fractions)
    _, val, test = fractions
    draw = _uniform(content, seed)
    place = np.where(draw < test, 2, np.where(draw >= 1.0 - val, 1, 0))
    return {name: torch.from_numpy(np.flatnonzero(place == index)) for index, name in enumerate(SPLITS)}


def draw_by_content(content: Tensor, count: int, seed: int) -> Tensor:
    """Draw ``count`` of n images by their content: rising int64 indices. One image more replaces at most one.

    Args:
        content: int64 [n]: a digest of each image.
        count: How many.
        seed: Seed of the draw, which is another one than that of :func:`split_by_content`.
    """
    order = np.argsort(_uniform(content, ~seed), kind="stable")
    return torch.from_numpy(np.sort(order[:count]))


def seed_without_empty_split(content: Tensor, fractions: tuple[float, float, float]) -> int | None:
    """The first seed that gives an image to every split with a share; None where there is none below 1,000."""
    wanted = [name for name, share in zip(SPLITS, fractions, strict=True) if share > 0]
    for seed in range(SEEDS_TRIED):
        found = split_by_content(content, fractions, seed)
        if all(len(found[name]) for name in wanted):
            return seed
    return None


def digest_content(content: bytes | memoryview | np.ndarray) -> int:
    """64 bits of BLAKE2b over bytes, as a signed number, so that a tensor can hold the digests of a data set."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def digest_pixels(images: Iterable[np.ndarray]) -> Tensor:
    """The digests of images in memory, int64 [n], equal for equal shapes and pixels. Each uint8 [c, h, w]."""
    digests = []
    for image in images:
        digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(image))
        digests.append(int.from_bytes(digest.digest(), "little", signed=True))
    return torch.tensor(digests, dtype=torch.int64)


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for invalid fractions of train, val and test."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6 or fractions[0] <= 0:
        raise ConfigError(
            f"the fractions of train, val and test must be at least 0, the first above 0, and sum to 1, not {fractions}"
        )


def _uniform(content: Tensor, seed: int) -> np.ndarray:
    """A number in [0, 1) for each digest, fp64 [n]: SplitMix64 (Steele et al. 2014) of the digest and the seed."""
    start = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    mixed = _mix(content.numpy().view(np.uint64) ^ _mix(start))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
