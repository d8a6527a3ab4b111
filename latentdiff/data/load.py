"""The one door to all data sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from latentdiff.config import DataConfig
from latentdiff.data import celeba, cifar, fashion_mnist, flowers, folder, mnist, pets
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.decode import SMALLEST_SIDE, Square
from latentdiff.data.files import Files, JoinedFiles
from latentdiff.data.image_cache import cached_images
from latentdiff.data.listing import Listing
from latentdiff.data.splits import split_indices
from latentdiff.errors import ConfigError, DataError

# The side of the squares where none is asked for; what comes as arrays keeps its own.
SIZES = {"cifar-10": 32}
DEFAULT_SIZE = 64
# Those that are pooled and split by us unless the official split is asked for: 1,020 training flowers are too few.
POOLED = ("flowers-102",)
LABELS = ("labels", "none")
# Those that can lie anywhere. Of several in a mix a path is the folder's.
TAKE_PATH = ("celeba", "oxford-iiit-pet", "folder")


class NoSplitError(DataError):
    """A data set has no split of that name."""


def data_root(root: str | None) -> Path:
    """The folder of the data sets: the setting, else LATENTDIFF_DATA, else ``data``."""
    return Path(root or os.environ.get("LATENTDIFF_DATA") or "data").expanduser()


def load_split(config: DataConfig, split: Split) -> ImageDataset:
    """Load one split.

    Raises :class:`DataError` where the data set is missing, damaged or without such a split, and ValueError for
    settings that contradict it.
    """
    check_settings(config)
    if config.name == "mixed":
        return limit_training_images(_mixed(config, split), config)
    data = _load(config, split)
    if tuple(config.fractions) != DataConfig.fractions and not data.parts:
        raise ConfigError(
            f"data.fractions {percent(config)} would go unused: {config.name} comes in its official split here; add "
            "--data.split fractions"
        )
    return limit_training_images(data, config)


def _load(config: DataConfig, split: Split) -> ImageDataset:
    """One split of one data set, as :func:`load_split` but for the limit."""
    found = _open(config, split)
    if isinstance(found, ImageDataset):
        found = _split_anew(config, split) if config.split == "fractions" else found
        return _unlabelled(_shaped(found, config), config)
    square = Square(
        config.size or SIZES.get(config.name, DEFAULT_SIZE), config.colour == "grey", config.crop, config.split_seed
    )
    folder = Path(config.cache_folder).expanduser()
    images, kept = cached_images(found, square, folder, config.on_bad_image == "skip")
    indices, parts = _split(found, kept, config, split)
    names = tuple(found.members[index] for index in kept.tolist())
    whole = ImageDataset(images, found.labels[kept], found.name, split, "full", found.class_names, parts, names)
    return _unlabelled(whole.take(indices), config)


def open_files(config: DataConfig) -> Files | None:
    """The files behind the images, before anything is decoded; None where all images come in arrays.

    They are read by the names in :attr:`ImageDataset.files`. Raises what :func:`load_split` does.
    """
    files = {name: found.files for name, found in _sources(config).items() if isinstance(found, Listing)}
    return JoinedFiles(files) if config.mix and files else files.get(config.name)


def array_shapes(config: DataConfig) -> dict[str, tuple[int, int, int]]:
    """Of each data set whose images come in arrays: their shape [c, h, w] before they are coloured and resized.

    Raises what :func:`load_split` does.
    """
    return {name: found.image_shape for name, found in _sources(config).items() if isinstance(found, ImageDataset)}


def _sources(config: DataConfig) -> dict[str, ImageDataset | Listing]:
    """The data set, or all of a mixed one, as they come."""
    check_settings(config)
    members = {name: _member(config, name) for name in config.mix} or {config.name: config}
    return {name: _open(member, "train") for name, member in members.items()}


def _member(config: DataConfig, name: str) -> DataConfig:
    """The settings of one data set of a mixed one: what is for another is left out."""
    taker = next((taker for taker in reversed(TAKE_PATH) if taker in config.mix), None)
    own = name == ("celeba" if "celeba" in config.mix else "folder")
    return replace(
        config,
        name=name,
        mix=(),
        path=config.path if name == taker else None,
        table=config.table if name == "folder" else None,
        classes=config.classes if own or config.classes in LABELS else "labels",
    )


def _open(config: DataConfig, split: Split) -> ImageDataset | Listing:
    root, path = data_root(config.root), Path(config.path).expanduser() if config.path else None
    own = config.classes if config.classes not in LABELS else None
    loaders: dict[str, Callable[[], ImageDataset | Listing]] = {
        "fashion-mnist": lambda: fashion_mnist.load(root, config.source, split),
        "mnist": lambda: mnist.load(root, split),
        "cifar-10": lambda: cifar.load(root, split),
        "flowers-102": lambda: flowers.listing(root),
        "celeba": lambda: celeba.listing(root, path, own),
        "oxford-iiit-pet": lambda: pets.listing(root, path),
        "folder": lambda: folder.listing(path, Path(config.table).expanduser() if config.table else None, own),
    }
    if config.name in ("fashion-mnist", "mnist", "cifar-10") and split == "val":
        if config.split != "fractions":
            raise NoSplitError(f"{config.name} has no official validation split; use --data.split fractions for one")
        split = "train"
    return loaders[config.name]()


def check_settings(config: DataConfig) -> None:
    """Raise ConfigError for settings that contradict each other, or that name no data set on disk."""
    members = config.mix or (config.name,)
    if "tensors" in members:
        raise ConfigError("data.name tensors is for images in memory: give them to load_dataset, from Python alone")
    takers = [name for name in TAKE_PATH if name in members]
    if config.path and not takers:
        raise ConfigError(f"data.path is for {', '.join(TAKE_PATH)}; {config.name} is looked for under data.root")
    if config.path and len(takers) > 1 and "folder" not in takers:
        raise ConfigError(f"data.path could be {' or '.join(takers)}: put both under data.root")
    if "folder" in members and not config.path:
        raise ConfigError("data.name folder needs --data.path, a directory or a zip of images")
    if config.table and "folder" not in members:
        raise ConfigError(f"data.table is for data.name folder, not {config.name}")
    if config.source != "auto" and "fashion-mnist" not in members:
        raise ConfigError(f"data.source is for data.name fashion-mnist, not {config.name}")
    if config.mix_share != "balanced" and config.name != "mixed":
        raise ConfigError(f"data.mix_share is for data.name mixed, not {config.name}")
    if config.classes not in LABELS and "celeba" not in members and not config.table:
        raise ConfigError(
            f"data.classes {config.classes!r} is neither labels nor none: an attribute is CelebA's, a column a table's"
        )
    check_numbers(config)
    if bool(config.mix) != (config.name == "mixed"):
        raise ConfigError("data.mix lists the data sets of data.name mixed, and goes with it alone")


def check_numbers(config: DataConfig) -> None:
    """Raise ConfigError for a size or a number of images that no data set can have."""
    if config.size is not None and config.size < SMALLEST_SIDE:
        raise ConfigError(f"data.size must be at least {SMALLEST_SIDE} pixels, not {config.size}")
    if config.max_train_images is not None and config.max_train_images < 1:
        raise ConfigError(f"data.max_train_images must be at least 1, not {config.max_train_images}")


def _split_anew(config: DataConfig, split: Split) -> ImageDataset:
    """A split by fractions of a data set that comes as arrays: its official ones pooled."""
    official = [_open(config, name) for name in ("train", "test")]
    images, labels = (torch.cat([getattr(part, name) for part in official]) for name in ("images", "labels"))
    indices = split_indices(labels, tuple(config.fractions), config.split_seed)[split]
    if not len(indices):
        raise NoSplitError(f"{config.name} has no {split} split with the fractions {percent(config)}")
    pooled = replace(official[0], images=images, labels=labels, split=split, parts=describe_fractions(config))
    return pooled.take(indices)


def percent(config: DataConfig) -> str:
    """The fractions as messages show them, such as ``80/10/10``."""
    return "/".join(f"{100 * share:g}" for share in config.fractions)


def describe_fractions(config: DataConfig) -> str:
    """How a split by fractions came about, in words."""
    return f"of all images split {percent(config)} by seed {config.split_seed}"


def _split(listing: Listing, kept: Tensor, config: DataConfig, split: Split) -> tuple[Tensor, str]:
    """Indices into the kept images, and how they were chosen."""
    rule = config.split
    if rule == "default":
        rule = "official" if listing.official and config.name not in POOLED else "fractions"
    if rule == "official":
        if not listing.official:
            raise DataError(f"{listing.name} has no official split here; use --data.split fractions")
        if split not in listing.official:
            raise NoSplitError(f"{listing.name} has no official {split} split; use --data.split fractions")
        # From a place among the members to the place among those that are kept.
        place = torch.full((len(listing.members),), -1, dtype=torch.int64)
        place[kept] = torch.arange(len(kept))
        indices = place[listing.official[split]]
        indices = indices[indices >= 0]
        if not len(indices):  # as of the first ten thousand faces, which are all for training
            raise NoSplitError(
                f"none of the usable images of {listing.name} is in its official {split} split; use --data.split "
                "fractions"
            )
        return indices, ""
    # A file that cannot be used moves no other from one split to another.
    of_members = split_indices(listing.labels, tuple(config.fractions), config.split_seed)[split]
    chosen = torch.zeros(len(listing.members), dtype=torch.bool)
    chosen[of_members] = True
    indices = torch.nonzero(chosen[kept])[:, 0]
    if not len(indices):
        raise NoSplitError(f"{listing.name} has no {split} split with the fractions {percent(config)}")
    return indices, describe_fractions(config)


def _unlabelled(data: ImageDataset, config: DataConfig) -> ImageDataset:
    if config.classes != "none":
        return data
    return replace(data, labels=torch.zeros_like(data.labels), class_names=())


def limit_training_images(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """At most ``max_train_images`` training images, a seeded draw."""
    if config.max_train_images is None or data.split != "train" or config.max_train_images >= len(data):
        return data
    generator = torch.Generator().manual_seed(config.split_seed)
    data = data.take(torch.randperm(len(data), generator=generator)[: config.max_train_images].sort().values)
    drawn = f"{config.max_train_images:,} of its images, drawn by seed {config.split_seed}"
    return replace(data, parts="; ".join(part for part in (data.parts, drawn) if part))


def _shaped(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """A data set that comes as arrays, in the size and colours asked for."""
    images, grey = data.images, config.colour == "grey"
    if config.colour != "auto" and grey and images.shape[1] == 3:
        images = transforms.rgb_to_grayscale(images)
    elif config.colour == "rgb" and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if config.size and config.size != images.shape[-1]:
        bicubic = transforms.InterpolationMode.BICUBIC
        chunks = (transforms.resize(chunk, [config.size] * 2, bicubic, antialias=True) for chunk in images.split(1000))
        images = torch.cat(list(chunks))
    return replace(data, images=images.contiguous())


def _with_parts(member: ImageDataset) -> str:
    return f"{member.name} ({member.parts})" if member.parts else member.name


def _mixed(config: DataConfig, split: Split) -> ImageDataset:
    """Several data sets as one: classes one after the other, images of one shape."""
    if len(set(config.mix)) != len(config.mix) or "mixed" in config.mix:
        raise ConfigError(f"data.mix must name different data sets, and not itself: {', '.join(config.mix)}")
    if config.size is None or config.colour == "auto":
        raise ConfigError("a mixed data set needs one shape: set data.size and data.colour")
    members = [_load(_member(config, name), split) for name in config.mix]
    if config.mix_share == "balanced":
        fewest = min(len(member) for member in members)
        generator = torch.Generator().manual_seed(config.split_seed)
        members = [
            member.take(torch.randperm(len(member), generator=generator)[:fewest].sort().values) for member in members
        ]
    labels, names, files = [], [], []
    for member in members:
        labels.append(member.labels + len(names))
        names += [f"{member.name} {name}" for name in member.class_names]
        files += [f"{member.name}/{file}" if file else "" for file in member.files or [""] * len(member)]
    if names and not all(member.class_names for member in members):
        raise ConfigError("some of data.mix have classes and some have none: use --data.classes none")
    return ImageDataset(
        torch.cat([member.images for member in members]),
        torch.cat(labels),
        "mixed",
        split,
        "embedded" if any(member.source == "embedded" for member in members) else "full",
        tuple(names),
        f"{config.mix_share} mix of {', '.join(map(_with_parts, members))}",
        tuple(files) if any(files) else (),
    )
