"""Check that a data set's images have the shape of a model's images, and say what to do if they do not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, get_args

from latentdiff.config import DataConfig
from latentdiff.config.data import DatasetName
from latentdiff.data.dataset import ImageDataset
from latentdiff.errors import ConfigError

# The settings that tell which images a model was trained on, and their shape.
RECORDED = ("root", "path", "table", "mix", "size", "colour")


def check_image_shape(
    named: str, shape: tuple[int, ...], data: ImageDataset, settings: Mapping[str, Any], otherwise: str = ""
) -> None:
    """Raise ConfigError unless the images of ``data`` have the shape of a model's.

    Args:
        named: What the message calls the model.
        shape: [c, h, w] of the model's images.
        data: The images.
        settings: What the model was trained with, as its file says; empty where that is not known.
        otherwise: What else can be done, for the message.
    """
    if tuple(shape) == tuple(data.image_shape):
        return
    own, given = ("x".join(map(str, one)) for one in (shape, data.image_shape))
    remedy = ", ".join(part for part in (_remedy(shape, data, settings), otherwise) if part)
    raise ConfigError(
        f"{named} is for images of {own}, but {data.name} has {given}" + (f": {remedy}" if remedy else "")
    )


def _remedy(shape: tuple[int, ...], data: ImageDataset, settings: Mapping[str, Any]) -> str:
    recorded = (settings or {}).get("data")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    name = recorded.get("name")
    if name != data.name and name in get_args(DatasetName) and name != "tensors":
        flags = [f"--data.name {name}"]
        for key in RECORDED:
            value = recorded.get(key)
            if value and value != getattr(DataConfig, key):
                flags.append(f"--data.{key} {_for_shell(value)}")
        return f"it was trained on {name}: give {' '.join(flags)}"
    wanted: dict[str, Any] = {}
    if tuple(shape[1:]) != tuple(data.image_shape[1:]):
        if shape[1] != shape[2]:
            return ""
        wanted["size"] = shape[1]
    if shape[0] != data.image_shape[0]:
        wanted["colour"] = "grey" if shape[0] == 1 else "rgb"
    if data.name == "tensors":
        return "load them with " + ", ".join(f"{key}={value!r}" for key, value in wanted.items())
    return "give " + " ".join(f"--data.{key} {value}" for key, value in wanted.items())


def _for_shell(value: Any) -> str:
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
