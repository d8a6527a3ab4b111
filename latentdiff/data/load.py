"""Load one split of a data set that a :class:`~latentdiff.config.DataConfig` names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from latentdiff.config import DataConfig
from latentdiff.config.data import DatasetName, folder_name
from latentdiff.data.captions import OWN, column_of, with_captions
from latentdiff.data.content import content_digests
from latentdiff.data.dataset import ImageDataset, Split
from latentdiff.data.decode import CropAndResize, ReadingRules, parse_value_range
from latentdiff.data.file_list import FileList
from latentdiff.data.files import Files, JoinedFiles
from latentdiff.data.image_cache import cached_images
from latentdiff.data.messages import print_once
from latentdiff.data.splits import (
    SPLITS,
    draw_by_content,
    seed_without_empty_split,
    split_by_content,
    split_indices,
)
from latentdiff.errors import ConfigError, DataError

# Side in pixels of images from files, where neither the settings nor the data set's module has one.
DEFAULT_SIZE = 64
# What data.path names, of the data sets that are nowhere else.
PATH_OF = {
    "folder": "a directory or a zip of images",
    "parquet": "a Parquet file, or a folder of such",
    "datasets": "a folder that save_to_disk wrote",
    "webdataset": "a tar, a folder of tars, or 'shards/{000..012}.tar'",
}


class NoSplitError(DataError):
    """A data set has no split of that name."""


@cache
def dataset_module(name: str) -> ModuleType:
    """The module of a data set: ``flowers-102`` is in :mod:`latentdiff.data.flowers_102`.

    A module has one function:

    - ``load(root, config, split)`` takes the folder of all data sets, the settings and ``train``, ``val`` or ``test``.
      It returns the split as an :class:`ImageDataset` where the images come in arrays. Where they are files, it returns
      a :class:`FileList` of all of them, with the official splits inside.

    It may have constants:

    - ``TAKES_PATH``: ``data.path`` can name the data set's folder.
    - ``DEFAULT_SIZE``: side in pixels of the images where ``data.size`` is not set. Default: 64 for files.
    - ``SPLIT_BY_FRACTIONS``: the default split is by fractions, though there is an official one.
    - ``HAS_CAPTIONS``: it has captions by a rule of its own, for ``data.captions``.
    - ``GROWS``: images may be added to it, so a split by fractions goes by each image's own content.
    - ``NEEDS_PATH``: it is nowhere but at ``data.path``.
    - ``HAS_COLUMNS``: it is a table; ``data.image_column`` and ``data.classes`` name its columns.

    All data sets of the Hub, ``hf:ID``, have the module :mod:`latentdiff.data.hub`.
    """
    return import_module(f"latentdiff.data.{'hub' if name.startswith('hf:') else name.replace('-', '_')}")


def has(name: str, constant: str) -> bool:
    """Whether a data set's module sets one of the constants of :func:`dataset_module`; a mix sets none."""
    return name not in ("mixed", "tensors") and bool(getattr(dataset_module(name), constant, False))


def data_root(root: str | None) -> Path:
    """The folder of the data sets: the setting, else LATENTDIFF_DATA, else ``data``."""
    return Path(root or os.environ.get("LATENTDIFF_DATA") or "data").expanduser()


def load_split(config: DataConfig, split: Split) -> ImageDataset:
    """Load one split.

    Raises:
        ConfigError: Settings that contradict each other, or that the data set does not have.
        DataError: The data set is missing or damaged.
        NoSplitError: The data set has no such split.
    """
    check_settings(config)
    data = _load_mixed(config, split) if config.name == "mixed" else _load_one(config, split)
    for setting in ("crop", "value_range"):
        value = getattr(config, setting)
        if not data.files and value != getattr(DataConfig, setting):
            raise ConfigError(f"data.{setting} {value} has no effect: {config.name} comes in arrays, not in files")
    if config.name != "mixed":
        _check_fractions([data], config)
    return limit_training_images(data, config)


def _check_fractions(members: Sequence[ImageDataset], config: DataConfig) -> None:
    """Raise ConfigError where fractions were given for data sets of which they split none."""
    if tuple(config.fractions) == DataConfig.fractions:
        return
    if config.val_images or not any(data.split_description for data in members):
        raise ConfigError(
            f"data.fractions {format_fractions(config)} has no effect: {config.name} comes in its official split "
            "here; add --data.split fractions"
        )


def _load_one(config: DataConfig, split: Split) -> ImageDataset:
    """One split of one data set, before ``max_train_images`` applies."""
    found = _read_source(config, split)
    if isinstance(found, ImageDataset):
        if config.split == "fractions":
            found = _pool_and_split(config, split)
        elif config.val_images and split != "test":
            found = _set_validation_apart(found, config, split)
        found = with_captions(_resize_and_colour(found, config), config.captions)
        return _apply_classes_setting(found, config)
    size = config.size or getattr(dataset_module(config.name), "DEFAULT_SIZE", DEFAULT_SIZE)
    seed = config.split_seed if config.crop == "random" else 0  # else another seed would decode all images again
    transform = CropAndResize(size, config.colour == "grey", config.crop, seed)
    cache_folder = Path(config.cache_folder).expanduser()
    rules = ReadingRules.of(config)
    images, usable = cached_images(found, transform, cache_folder, config.on_bad_image == "skip", rules)
    check_white([images], str(found.source.path))
    names, labels = tuple(found.names[index] for index in usable.tolist()), found.labels[usable]
    rule = _split_rule(found, config)
    content = None
    if has(config.name, "GROWS") and (rule == "fractions" or config.max_train_images is not None):
        content = content_digests(found.source, names, cache_folder)
    if rule == "official":
        indices, description = _official_split(found, usable, split), ""
        if has(config.name, "GROWS"):
            warn_of_empty_classes(labels[indices], found.class_names, "", "add images of them", found.name, split)
    else:
        description = describe_fractions(config)
        if content is None:
            indices = _balanced_split(found, usable, config, split)
        else:
            indices = choose_by_content(content, config, found.name, split)
            warn_of_empty_split(labels[indices], found.class_names, config, found.name, split)
    captions = tuple(found.captions[index] for index in usable.tolist()) if found.captions else ()
    whole = ImageDataset(
        images, labels, found.name, split, "full", found.class_names, description, names, content, captions
    )
    return _apply_classes_setting(with_captions(whole.take(indices), config.captions), config)


def check_white(stacks: Iterable[Tensor], where: str) -> None:
    """Raise :class:`DataError` for uint8 images with only the values 0 and 1, such as masks: all would look black."""
    brightest = 0
    for chunk in (chunk for stack in stacks for chunk in stack.split(256) if len(chunk)):
        brightest = max(brightest, int(chunk.max()))
        if brightest > 1:
            return
    if brightest:
        raise DataError(
            f"{where}: only the 8-bit values 0 and 1, so it is unclear which is white. Multiply them by 255."
        )


def open_files(config: DataConfig) -> Files | None:
    """Open the image files of a data set without decoding any; None where all images come in arrays.

    :attr:`ImageDataset.files` holds the name of each image's file. Raises what :func:`load_split` raises.
    """
    files = {
        folder_name(name): found.source for name, found in _read_sources(config).items() if isinstance(found, FileList)
    }
    return JoinedFiles(files) if config.mix and files else files.get(folder_name(config.name))


def array_shapes(config: DataConfig) -> dict[str, tuple[int, int, int]]:
    """The shape [c, h, w] of images that come in arrays, before colour and size are changed, by data set.

    Raises what :func:`load_split` raises.
    """
    return {name: found.image_shape for name, found in _read_sources(config).items() if isinstance(found, ImageDataset)}


def _read_sources(config: DataConfig) -> dict[str, ImageDataset | FileList]:
    """The data set by its name, or each data set of a mix, before it is decoded and split."""
    check_settings(config)
    members = {name: _member_config(config, name) for name in config.mix} or {config.name: config}
    return {name: _read_source(member, "train") for name, member in members.items()}


def _member_config(config: DataConfig, name: str) -> DataConfig:
    """The settings of one data set of a mix, without those that are for another."""
    # In a mix of several that take a path, it is that of the one that needs it: check_settings refuses it otherwise.
    needing = [owner for owner in config.mix if has(owner, "NEEDS_PATH")]
    path_owner = next(iter([*needing, *(owner for owner in config.mix if has(owner, "TAKES_PATH"))]), "")
    with_columns = next((owner for owner in config.mix if has(owner, "HAS_COLUMNS")), "folder")
    owns_classes = name == ("celeba" if "celeba" in config.mix else "folder" if config.table else with_columns)
    return replace(
        config,
        name=name,
        mix=(),
        path=config.path if name == path_owner else None,
        table=config.table if name == "folder" else None,
        image_column=config.image_column if name == with_columns else None,
        classes=config.classes if owns_classes or config.classes_column is None else "labels",
        captions=config.captions if name in ("folder", with_columns) or column_of(config) is None else "auto",
    )


def _read_source(config: DataConfig, split: Split) -> ImageDataset | FileList:
    """A data set as it comes: decoded where it comes in arrays, else the list of its files."""
    # Arrays have no validation split of their own. Where the official splits are pooled, it is cut from them.
    found: ImageDataset | FileList = dataset_module(config.name).load(
        data_root(config.root), config, "train" if split == "val" else split
    )
    if isinstance(found, ImageDataset):
        if split == "val" and config.split != "fractions" and not config.val_images:
            raise NoSplitError(f"{config.name} has no official validation split; use --data.val_images for one")
    elif config.val_images:
        raise ConfigError(
            f"data.val_images is for data sets that come as arrays, not for {config.name}: use --data.split fractions"
        )
    return found


def check_settings(config: DataConfig) -> None:
    """Raise ConfigError for settings that contradict each other, or that name no data set on disk."""
    members = config.mix or (config.name,)
    if "tensors" in members:
        raise ConfigError(
            "data.name tensors is for images in memory: give them to load_dataset, which only Python can do"
        )
    with_path = [name for name in members if has(name, "TAKES_PATH")]
    if config.path and not with_path:
        takers = ", ".join(name for name in get_args(DatasetName) if has(name, "TAKES_PATH"))
        raise ConfigError(
            f"data.path is for {takers}; {config.name} is looked for under data.root; "
            "for images of your own add --data.name folder"
        )
    needing = [name for name in members if has(name, "NEEDS_PATH")]
    if len(needing) > 1:
        raise ConfigError(f"data.path could belong to {' or '.join(needing)}: a mix can have only one of them")
    if config.path and len(with_path) > 1 and not needing:
        raise ConfigError(f"data.path could belong to {' or '.join(with_path)}: put both under data.root")
    if needing and not config.path:
        raise ConfigError(f"data.name {needing[0]} needs --data.path, {PATH_OF[needing[0]]}")
    with_columns = any(has(name, "HAS_COLUMNS") for name in members)
    if config.image_column and not with_columns:
        takers = ", ".join(name for name in get_args(DatasetName) if has(name, "HAS_COLUMNS"))
        raise ConfigError(f"data.image_column is for {takers} and hf:ID, not {config.name}")
    if config.table and "folder" not in members:
        raise ConfigError(f"data.table is for data.name folder, not {config.name}")
    if config.source != "auto" and not {"fashion-mnist", "fashion-mnist-coloured"} & set(members):
        raise ConfigError(f"data.source is for data.name fashion-mnist, not {config.name}")
    if config.captions == OWN and not any(has(name, "HAS_CAPTIONS") for name in members):
        raise ConfigError(f"data.captions rule is for fashion-mnist and fashion-mnist-coloured, not {config.name}")
    if column_of(config) is not None and not config.table and not with_columns:
        raise ConfigError(
            f"data.captions {config.captions[:60]!r} is not auto, rule or none, has no {{class}} in it, and there "
            "is no table or WebDataset that could have it as a column or field"
        )
    if config.mix_share != "balanced" and config.name != "mixed":
        raise ConfigError(f"data.mix_share is for data.name mixed, not {config.name}")
    if config.classes_column is not None and "celeba" not in members and not config.table and not with_columns:
        raise ConfigError(
            f"data.classes {config.classes!r} must be labels or none: only CelebA has attributes, and only tables "
            "have columns"
        )
    if config.val_images and config.split == "fractions":
        raise ConfigError(
            "data.val_images is for the official split: with fractions, data.fractions sets the validation share"
        )
    parse_value_range(config.value_range)
    if bool(config.mix) != (config.name == "mixed"):
        raise ConfigError(
            "data.mix and data.name mixed need each other: give both, with the data sets to join in data.mix"
        )


def _pool_and_split(config: DataConfig, split: Split) -> ImageDataset:
    """A split by fractions of a data set that comes in arrays: of its official splits together."""
    official = [_read_source(config, name) for name in ("train", "test")]
    images, labels = (torch.cat([getattr(part, name) for part in official]) for name in ("images", "labels"))
    indices = split_indices(labels, tuple(config.fractions), config.split_seed)[split]
    if not len(indices):
        raise NoSplitError(f"{config.name} has no {split} split with the fractions {format_fractions(config)}")
    pooled = replace(
        official[0],
        images=images,
        labels=labels,
        captions=official[0].captions + official[1].captions,
        split=split,
        split_description=describe_fractions(config),
    )
    return pooled.take(indices)


def _set_validation_apart(official: ImageDataset, config: DataConfig, split: Split) -> ImageDataset:
    """The official training images without ``val_images`` of them, or those."""
    count, seed = config.val_images or 0, config.split_seed
    if count >= len(official):
        raise ConfigError(
            f"data.val_images {count:,} would leave no image of {len(official):,} to train on: give fewer"
        )
    share = count / len(official)
    indices = split_indices(official.labels, (1.0 - share, share, 0.0), seed)[split]
    description = f"{count:,} of the official training images set apart for validation by seed {seed}"
    return replace(official.take(indices), split=split, split_description=description)


def format_fractions(config: DataConfig) -> str:
    """Write the fractions as percentages, such as ``80/10/10``."""
    return "/".join(f"{100 * share:g}" for share in config.fractions)


def describe_fractions(config: DataConfig) -> str:
    """Describe a split by fractions, for :attr:`ImageDataset.split_description`."""
    return f"of all images split {format_fractions(config)} by seed {config.split_seed}"


def _split_rule(files: FileList, config: DataConfig) -> Literal["official", "fractions"]:
    """How files are split. Raises DataError where an official split is asked for and there is none."""
    if config.split == "default":
        return "official" if files.official and not has(config.name, "SPLIT_BY_FRACTIONS") else "fractions"
    if config.split == "official" and not files.official:
        raise DataError(f"{files.name} has no official split here; use --data.split fractions")
    return config.split


def _official_split(files: FileList, usable: Tensor, split: Split) -> Tensor:
    """Indices into ``usable``, the places in ``files`` of those that could be decoded, of an official split."""
    if split not in files.official:
        raise NoSplitError(f"{files.name} has no official {split} split; use --data.split fractions")
    # From a place among all files to the place among the usable ones.
    place = torch.full((len(files.names),), -1, dtype=torch.int64)
    place[usable] = torch.arange(len(usable))
    indices = place[files.official[split]]
    indices = indices[indices >= 0]
    if not len(indices):  # as of the first ten thousand faces, which are all for training
        raise NoSplitError(
            f"none of the usable images of {files.name} is in its official {split} split; use --data.split fractions"
        )
    return indices


def _balanced_split(files: FileList, usable: Tensor, config: DataConfig, split: Split) -> Tensor:
    """Indices into ``usable`` of a split by fractions that is balanced over the classes of the data set."""
    # All files are split, so that one that cannot be used moves no other to another split. Nor does the choice of an
    # attribute as the classes, or the test images of one model would be another's training images.
    labels = files.labels if config.classes_column is None else torch.zeros_like(files.labels)
    of_all = split_indices(labels, tuple(config.fractions), config.split_seed)[split]
    chosen = torch.zeros(len(files.names), dtype=torch.bool)
    chosen[of_all] = True
    indices = torch.nonzero(chosen[usable])[:, 0]
    if not len(indices):
        raise NoSplitError(f"{files.name} has no {split} split with the fractions {format_fractions(config)}")
    return indices


def choose_by_content(content: Tensor, config: DataConfig, name: str, split: Split) -> Tensor:
    """Indices of the images of a split that goes by their content, int64 [n]. Raises NoSplitError where it is empty."""
    indices = split_by_content(content, tuple(config.fractions), config.split_seed)[split]
    if not len(indices):
        raise NoSplitError(why_empty(content, config, name, split))
    return indices


def why_empty(content: Tensor, config: DataConfig, name: str, split: Split) -> str:
    """Return why a split has no image, and which settings would give it one."""
    share, shell = config.fractions[SPLITS.index(split)], config.name != "tensors"
    message = f"{name} has no {split} split"
    if not share:
        return f"{message} with the fractions {format_fractions(config)}"
    count = f"its {len(content):,} images" if len(content) > 1 else "one image"
    message += f": none of {count} falls into its {100 * share:g} % by seed {config.split_seed}"
    for fractions in (config.fractions, (0.5, 0.25, 0.25), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0)):
        seed = seed_without_empty_split(content, fractions)
        if seed is not None:
            break
    else:  # pragma: no cover: one image is enough for the last fractions
        return message
    if shell:
        others = f" --data.fractions [{','.join(f'{one:g}' for one in fractions)}]"
        advice = f"--data.split_seed {seed}" + others * (fractions != config.fractions)
    else:
        advice = f"split_seed={seed}" + f", fractions={fractions}" * (fractions != config.fractions)
    return f"{message}. Set {advice}, or add images"


def warn_of_empty_split(
    labels: Tensor, class_names: tuple[str, ...], config: DataConfig, name: str, split: Split
) -> None:
    """Print what :func:`warn_of_empty_classes` does, where ``config`` says how the images were split."""
    how, advice = f" by seed {config.split_seed}", "add images of them, or set another split_seed"
    warn_of_empty_classes(labels, class_names, how, advice, name, split)


def warn_of_empty_classes(
    labels: Tensor, class_names: tuple[str, ...], how: str, advice: str, name: str, split: Split
) -> None:
    """Print a line where no image of a class is for training.

    Args:
        labels: int64 [n]: the class of each image in the split.
        class_names: The name of each class.
        how: How the images were split, for the message.
        advice: What to do, for the message.
        name: What the data set is called.
        split: Which split.
    """
    if split != "train" or not class_names:
        return
    counts = torch.bincount(labels, minlength=len(class_names))
    empty = [class_names[index] for index, count in enumerate(counts.tolist()) if not count]
    if empty:
        listed = ", ".join([*empty[:5], *(["…"] if len(empty) > 5 else [])])
        print_once(
            f"{name}: no image of {listed} is among the training images{how}. A model will not learn these "
            f"classes: {advice}."
        )


def _apply_classes_setting(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """Drop the classes where the setting ``classes`` is ``none``."""
    if config.classes != "none":
        return data
    return replace(data, labels=torch.zeros_like(data.labels), class_names=())


def limit_training_images(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """Keep at most ``max_train_images`` training images, drawn by ``split_seed``. Other splits stay as they are."""
    if config.max_train_images is None or data.split != "train" or config.max_train_images >= len(data):
        return data
    if data.content is not None:
        chosen = draw_by_content(data.content, config.max_train_images, config.split_seed)
    else:
        generator = torch.Generator().manual_seed(config.split_seed)
        chosen = torch.randperm(len(data), generator=generator)[: config.max_train_images].sort().values
    data = data.take(chosen)
    how = f" of max_train_images {config.max_train_images}"
    warn_of_empty_classes(data.labels, data.class_names, how, "raise it", data.name, data.split)
    drawn = f"{config.max_train_images:,} of its images, drawn by seed {config.split_seed}"
    return replace(data, split_description="; ".join(part for part in (data.split_description, drawn) if part))


def _resize_and_colour(data: ImageDataset, config: DataConfig) -> ImageDataset:
    """Bring a data set that comes in arrays to the size and the colours of the settings."""
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


def _describe_member(member: ImageDataset) -> str:
    """The name of one data set of a mix, and how it was split."""
    return f"{member.name} ({member.split_description})" if member.split_description else member.name


def _load_mixed(config: DataConfig, split: Split) -> ImageDataset:
    """Join one split of several data sets: their classes one after the other, all images of one shape."""
    if len(set(config.mix)) != len(config.mix) or "mixed" in config.mix:
        raise ConfigError(f"data.mix must name different data sets, and not mixed: {', '.join(config.mix)}")
    if config.size is None or config.colour == "auto":
        raise ConfigError("a mixed data set needs one shape: set data.size and data.colour")
    members = [_load_one(_member_config(config, name), split) for name in config.mix]
    _check_fractions(members, config)
    if config.mix_share == "balanced":
        fewest = min(len(member) for member in members)
        generator = torch.Generator().manual_seed(config.split_seed)
        members = [
            member.take(torch.randperm(len(member), generator=generator)[:fewest].sort().values) for member in members
        ]
    labels, names, files, captions = [], [], [], []
    for member in members:
        labels.append(member.labels + len(names))
        names += [f"{member.name} {name}" for name in member.class_names]
        own = folder_name(member.name)
        files += [f"{own}/{file}" if file else "" for file in member.files or [""] * len(member)]
        captions += member.captions or [""] * len(member)
    if names and not all(member.class_names for member in members):
        raise ConfigError("some of data.mix have classes and some have none: use --data.classes none")
    return ImageDataset(
        torch.cat([member.images for member in members]),
        torch.cat(labels),
        "mixed",
        split,
        "embedded" if any(member.source == "embedded" for member in members) else "full",
        tuple(names),
        f"{config.mix_share} mix of {', '.join(map(_describe_member, members))}",
        tuple(files) if any(files) else (),
        captions=tuple(captions) if any(captions) else (),
    )
