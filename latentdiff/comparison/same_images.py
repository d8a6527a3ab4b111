"""Runs that are compared are measured against the images that they were trained on."""

from __future__ import annotations

import json

from latentdiff.config import DataConfig
from latentdiff.errors import ConfigError

# What decides which real images a model is measured against.
SAME_IMAGES = (
    *("name", "path", "source", "table", "image_column", "mix", "mix_share"),
    *("size", "colour", "crop", "value_range"),
    *("split", "fractions", "split_seed"),
)


def check_same_images(what: str, own: DataConfig, measured: DataConfig) -> None:
    """Raise ConfigError for a run on other images than those that its model would be measured against.

    Args:
        what: The run, as a message calls it.
        own: Its data.
        measured: The data of the comparison.
    """
    for name in SAME_IMAGES:
        ours, theirs = getattr(own, name), getattr(measured, name)
        if ours != theirs:
            raise ConfigError(
                f"{what}: data.{name} is {json.dumps(ours)} in training, but {json.dumps(theirs)} for the images that "
                f"samples are measured against. Set data.{name} for both, by --data.{name} of this command"
            )
