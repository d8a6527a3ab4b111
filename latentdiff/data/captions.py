"""Captions of a data set: from a template, a table's column, a WebDataset's field, or the data set's own rule."""

from __future__ import annotations

from dataclasses import replace

from latentdiff.config import DataConfig
from latentdiff.data.dataset import ImageDataset
from latentdiff.errors import ConfigError

CLASS = "{class}"
# What data.captions can be beside a template, a column and a field.
OWN, NONE, AUTO = "rule", "none", "auto"


def is_template(captions: str) -> bool:
    """Whether the setting is a text with ``{class}`` in it."""
    return CLASS in captions


def column_of(config: DataConfig) -> str | None:
    """The table's column, or the field, that ``data.captions`` names; None where it is something else."""
    if config.captions in (OWN, NONE, AUTO) or is_template(config.captions):
        return None
    return config.captions


def with_captions(data: ImageDataset, captions: str) -> ImageDataset:
    """The images with the captions that ``data.captions`` asks for.

    Args:
        data: The images, with the captions that the data set or a table gave.
        captions: The setting. A template gets the class's name in the place of ``{class}``.

    Raises :class:`~latentdiff.errors.ConfigError` for a template, and images without classes.
    """
    if captions == NONE:
        return replace(data, captions=())
    if not is_template(captions):
        return data
    if not data.class_names:
        raise ConfigError(f"data.captions {captions[:60]!r} names the class, but {data.name} has no classes here")
    by_class = [captions.replace(CLASS, name) for name in data.class_names]
    return replace(data, captions=tuple(by_class[label] for label in data.labels.tolist()))
