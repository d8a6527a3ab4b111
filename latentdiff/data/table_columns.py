"""Which column of a table holds the images, and which the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentdiff.config import DataConfig
from latentdiff.data.messages import printable
from latentdiff.errors import DataError
from latentdiff.extras import import_extra

IMAGE_NAMES = ("image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
LABEL_NAMES = ("label", "labels", "class", "classes", "cls", "fine_label", "target", "category")
# Columns in one message.
SHOWN = 20


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are used.

    Attributes:
        image: The column of the images: struct {bytes, path}, or bytes.
        label: The column of the classes; None where there are none.
        class_names: The name of each class, where the table says them; else None.
    """

    image: str
    label: str | None
    class_names: tuple[str, ...] | None


def pyarrow() -> Any:
    """The package that reads tables. Raises :class:`~latentdiff.errors.ConfigError` where it is not installed."""
    return import_extra("pyarrow", "parquet")


def choose_columns(schema: Any, config: DataConfig, where: str) -> Columns:
    """Find the columns of images and of classes.

    Hugging Face's datasets says in a table's metadata which columns are an ``Image`` and a ``ClassLabel``. Without it
    the types tell, and then the names.

    Args:
        schema: The table's ``pyarrow.Schema``.
        config: Settings, of which ``image_column`` and ``classes`` name a column.
        where: What messages call the table.

    Raises :class:`~latentdiff.errors.DataError` where a column is not there, is of another kind, or could be several.
    """
    features = _features(schema)
    for name in (config.image_column, config.classes_column):
        if name is not None and name not in schema.names:
            raise DataError(f"{where} has no column {name!r}; it has {list_columns(schema)}")
    image = _image_column(schema, features, config.image_column, where)
    label = _label_column(schema, features, config, where)
    return Columns(image, label, _class_names(features.get(label or ""), label, where))


def list_columns(schema: Any) -> str:
    """The columns of a table with their types, for a message."""
    listed = [f"{printable(field.name)} ({_type_words(field.type)})" for field in schema]
    return ", ".join([*listed[:SHOWN], *(["…"] if len(listed) > SHOWN else [])]) or "none"


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's datasets says of the columns, by name; empty where it says nothing that can be read."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {str(name): dict(feature) for name, feature in found.items() if isinstance(feature, Mapping)}


def _image_column(schema: Any, features: Mapping[str, Any], named: str | None, where: str) -> str:
    if named is not None:
        if not (_holds_bytes(schema.field(named).type)):
            kind = _type_words(schema.field(named).type)
            raise DataError(f"the column {named!r} of {where} holds {kind}, not the bytes of image files")
        return named
    bearing = [field for field in schema if _holds_bytes(field.type)]
    candidates = [field.name for field in bearing if features.get(field.name, {}).get("_type") == "Image"]
    candidates = candidates or [field.name for field in bearing if pyarrow().types.is_struct(field.type)]
    candidates = candidates or [field.name for field in bearing]
    if not candidates:
        raise DataError(f"{where} has no column of image files; it has {list_columns(schema)}")
    return _only_one(candidates, IMAGE_NAMES, where, "the images", "--data.image_column")


def _label_column(schema: Any, features: Mapping[str, Any], config: DataConfig, where: str) -> str | None:
    if config.classes == "none" or config.classes_column is not None:
        if config.classes_column is not None:
            field = schema.field(config.classes_column)
            if not _is_label(field.type):
                kind = _type_words(field.type)
                raise DataError(f"the column {field.name!r} of {where} holds {kind}, not classes")
        return config.classes_column
    fitting = [field.name for field in schema if _is_label(field.type)]
    candidates = [name for name in fitting if features.get(name, {}).get("_type") == "ClassLabel"]
    candidates = candidates or [name for name in fitting if name.lower() in LABEL_NAMES]
    if not candidates:
        return None
    return _only_one(candidates, LABEL_NAMES, where, "the classes", "--data.classes")


def _only_one(candidates: Sequence[str], names: Sequence[str], where: str, what: str, setting: str) -> str:
    """The only candidate, or the only one of them with a usual name. Raises DataError where several are left."""
    usual = [name for name in candidates if name.lower() in names]
    chosen = candidates if len(candidates) == 1 else usual
    if len(chosen) != 1:
        listed = ", ".join(map(printable, [*candidates[:SHOWN], *(["…"] if len(candidates) > SHOWN else [])]))
        none = " or none" if setting == "--data.classes" else ""
        raise DataError(f"{what} of {where} could be in {listed}: name one{none} with {setting}")
    return chosen[0]


def _class_names(feature: Any, label: str | None, where: str) -> tuple[str, ...] | None:
    if label is None or not feature or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if names is None and feature.get("num_classes"):
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"the column {label!r} of {where} has no names for its classes, or names that are not texts")
    return tuple(printable(name) for name in names)


def _holds_bytes(kind: Any) -> bool:
    """Whether a type is that of image files: bytes, or a struct with a field ``bytes`` of such."""
    types = pyarrow().types
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    types = pyarrow().types
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_label(kind: Any) -> bool:
    types = pyarrow().types
    if types.is_dictionary(kind):
        return _is_label(kind.value_type)
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind)


def _type_words(kind: Any) -> str:
    words = " ".join(str(kind).split())
    return words if len(words) <= 60 else f"{words[:56]} ..."
