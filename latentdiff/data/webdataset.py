"""WebDataset: tars in which the files of one name, but for what follows its first dot, are one sample.

``0001.jpg``, ``0001.cls`` and ``0001.txt`` are the image, the class and the caption of a sample
(github.com/webdataset/webdataset).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from latentdiff.config import DataConfig
from latentdiff.data.captions import AUTO, column_of
from latentdiff.data.dataset import Split
from latentdiff.data.file_list import FileList, encode_classes
from latentdiff.data.image_formats import HEIC_SUFFIXES, IMAGE_SUFFIXES
from latentdiff.data.messages import print_once, printable
from latentdiff.data.shards import by_split, find_files, stamp_of
from latentdiff.data.tar_files import Member, TarFiles, list_members
from latentdiff.errors import ConfigError, DataError

TAKES_PATH = NEEDS_PATH = GROWS = HAS_COLUMNS = True
# The field of a sample that holds its class.
LABEL_FIELDS = ("cls", "label", "class")
# The field that holds its caption, unless the settings name another one.
CAPTION_FIELD = "txt"
# Bytes of a field with a class or a caption, or of a JSON with one.
LONGEST_TEXT = 1024**2
# Samples without an image that a message names.
SHOWN = 3


@dataclass
class _Shard:
    """What one tar holds: images by sample, the text of each one's class and caption (None where there is none), and
    the rest."""

    images: list[Member]
    labels: list[str | None]
    captions: list[str | None]
    refused: list[tuple[str, str]]
    without_image: list[str]
    fields: Counter[str]


def load(root: Path, config: DataConfig, split: Split) -> FileList:
    """List the images in the tars of ``config.path``, for any split; ``root`` is not used.

    Raises :class:`~latentdiff.errors.DataError` where the field of the images is not sure, a sample has no class while
    others have one, or a class or a caption cannot be read.
    """
    if config.path is None:
        raise ConfigError("data.name webdataset needs --data.path, one or several tars or their folder")
    place, files = find_files(config.path, (".tar",), "tar")
    names = {path: name for name, path in files}
    tars, members, refused, labels, captions, official = [], {}, [], [], [], {}
    caption_field = CAPTION_FIELD if config.captions == AUTO else column_of(config)
    without: list[str] = []
    fields: Counter[str] = Counter()
    for split_name, paths in by_split(place, files).items():
        start = len(members)
        for path in paths:
            stamp = stamp_of(path)
            shard = _read_shard(path, stamp, config.image_column, config.classes, caption_field)
            # Where there are several tars, samples of two of them may share a name.
            prefix = f"{names[path]}/" if len(files) > 1 else ""
            for member, label, caption in zip(shard.images, shard.labels, shard.captions, strict=True):
                name = prefix + member.name
                if name in members:
                    refused.append((name, "the tar holds this name twice; the first is taken"))
                    continue
                members[name] = len(tars), member.offset, member.size
                labels.append((name, label))
                captions.append((name, caption))
            refused += [(prefix + name, reason) for name, reason in shard.refused]
            without += [prefix + name for name in shard.without_image]
            fields += shard.fields
            tars.append((path, stamp))
        if split_name:
            official[split_name] = torch.arange(start, len(members))
    listed = ", ".join(printable(field) for field, _ in fields.most_common(20)) or "none"
    if not members:
        asked = f" {config.image_column!r}" if config.image_column else ""
        raise DataError(f"{place} holds no image{asked} that can be used; the fields of its samples are {listed}")
    if without:
        print_once(
            f"left out of {place}: {len(without):,} samples without an image, such as "
            + ", ".join(map(printable, without[:SHOWN]))
        )
    source = TarFiles(place, tars, members, refused)
    encoded, class_names = _classes(labels, config, place, listed)
    found = _captions(captions, config, place, listed)
    return FileList("webdataset", source, source.images, encoded, class_names, official, found)


def _captions(captions: list[tuple[str, str | None]], config: DataConfig, place: Path, listed: str) -> tuple[str, ...]:
    """The caption of each image, empty for one without; () where none has one."""
    missing = [name for name, caption in captions if caption is None]
    if len(missing) == len(captions):
        if column_of(config) is not None:
            raise DataError(
                f"no sample of {place} has a caption in {config.captions!r}; the fields are {listed}. A value in each "
                ".json is named json.NAME"
            )
        return ()
    if missing:
        print_once(
            f"captions: {len(missing):,} of {len(captions):,} images of {place} have none, the first is "
            f"{printable(missing[0])}: they get an empty caption"
        )
    return tuple(caption or "" for _, caption in captions)


def _classes(
    labels: list[tuple[str, str | None]], config: DataConfig, place: Path, listed: str
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The class of each image, int64 [n], and the classes' names."""
    missing = [name for name, label in labels if label is None]
    if len(missing) == len(labels):
        if config.classes_column is not None:
            raise DataError(f"no sample of {place} has the field {config.classes!r}; the fields are {listed}")
        if config.classes == "labels":
            print_once(
                f"no classes: no sample of {place} has a field {' or '.join(LABEL_FIELDS)}; the fields are {listed}. "
                "Name one with --data.classes, such as json.label for the value of label in each .json."
            )
        return torch.zeros(len(labels), dtype=torch.int64), ()
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(labels):,} images of {place} have no class, the first is {printable(missing[0])}"
            ". Add it, or use --data.classes none."
        )
    return encode_classes(printable(label) for _, label in labels if label is not None)


@lru_cache(maxsize=4096)
def _read_shard(
    path: Path, stamp: tuple[int, ...], image_field: str | None, classes: str, captions: str | None
) -> _Shard:
    """List the samples of a tar, which is read once for all splits."""
    shard = _Shard([], [], [], [], [], Counter())
    with open(path, "rb") as file:
        for key, sample in _samples(path, shard.refused):
            shard.fields.update(sample.keys())
            image = _image_of(sample, image_field, path, key)
            if image is None:
                shard.without_image.append(key)
                continue
            shard.images.append(image)
            shard.labels.append(_label_of(sample, classes, file, path, key))
            shard.captions.append(_text_of(sample, captions, "caption", str, file, path, key) if captions else None)
    return shard


def _samples(path: Path, refused: list[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield the samples of a tar: what its files share of their names, and each file by its field.

    The files of a sample follow one another.
    """
    now, sample = "", dict[str, Member]()
    for member in list_members(path):
        if isinstance(member, tuple):
            refused.append(member)
            continue
        folder, slash, last = member.name.rpartition("/")
        stem, dot, field = last.partition(".")
        key = folder + slash + stem
        if not dot or not field:
            continue
        if key != now and sample:
            yield now, sample
            sample = {}
        now = key
        sample.setdefault(field.lower(), member)
    if sample:
        yield now, sample


def _image_of(sample: dict[str, Member], field: str | None, path: Path, key: str) -> Member | None:
    """The image of a sample; None where it has none. Raises DataError where several could be it."""
    if field is not None:
        return sample.get(field.lower().removeprefix("."))
    # A field of two words, such as seg.png, is something about the image more often than the image.
    found = [name for name in sample if f".{name}" in IMAGE_SUFFIXES | HEIC_SUFFIXES]
    found = found or [name for name in sample if f".{name.rpartition('.')[2]}" in IMAGE_SUFFIXES | HEIC_SUFFIXES]
    if len(found) > 1:
        raise DataError(
            f"the image of {printable(key)} in {path} could be {', '.join(map(printable, sorted(found)))}: name one "
            "with --data.image_column"
        )
    return sample[found[0]] if found else None


def _label_of(sample: dict[str, Member], classes: str, file: Any, path: Path, key: str) -> str | None:
    """The text of a sample's class; None where it has none."""
    if classes == "none":
        return None
    field = next((name for name in LABEL_FIELDS if name in sample), "") if classes == "labels" else classes
    return _text_of(sample, field, "class", str | int, file, path, key)


def _text_of(
    sample: dict[str, Member], named: str, what: str, kind: Any, file: Any, path: Path, key: str
) -> str | None:
    """The text in a field of a sample; None where it has no such field, or nothing in it.

    Args:
        sample: The files of the sample by their fields.
        named: The field, or ``json.NAME`` for a value of its JSON.
        what: What it is, for messages: a class or a caption.
        kind: What a value of a JSON may be.
        file: The tar, open.
        path: Its path.
        key: The sample's name.

    Raises :class:`~latentdiff.errors.DataError` where it cannot be read.
    """
    field, _, inner = named.partition(".") if named.startswith("json.") else (named.removeprefix("."), "", "")
    member = sample.get(field.lower())
    if member is None:
        return None
    if member.size > LONGEST_TEXT:
        raise DataError(f"{printable(member.name)} in {path} has {member.size:,} bytes, which is too long for a {what}")
    file.seek(member.offset)
    content = file.read(member.size)
    try:
        text = content.decode("utf-8-sig")
        if inner:
            found = json.loads(text)
            text = found.get(inner) if isinstance(found, dict) else None
            if not isinstance(text, kind | None):
                raise ValueError(f"{inner} is no {what}")
    except (ValueError, RecursionError) as error:  # also of a text that is not in UTF-8, and of a JSON that is none
        setting = "--data.classes" if what == "class" else "--data.captions"
        raise DataError(
            f"the {what} of {printable(key)} in {path} cannot be read: {error}. Mend it, or use {setting} none"
        ) from error
    return None if text is None else str(text).strip() or None
