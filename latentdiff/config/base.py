"""The base of all settings dataclasses, which checks names, and their conversion to plain dicts and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from latentdiff.errors import ConfigError

Config = TypeVar("Config", bound="Settings")
# The origins of ``int | None`` and of ``int | Literal[...]`` differ before Python 3.14.
UNIONS = (UnionType, get_origin(int | Literal["name"]))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the settings dataclasses: a field with a ``Literal`` type accepts only the names of that type.

    Fields that may be None and tuples of names are checked too. The command line's parser makes the same check.

    Raises:
        ConfigError: A field has a value that its type does not name.
    """

    def to_kwargs(self, *without: str) -> dict[str, Any]:
        """Return the fields as a dict of keyword arguments, without the fields named in ``without``."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in without}

    def __post_init__(self) -> None:
        for name, hint in _choices(type(self)).items():
            check_choice(name, getattr(self, name), hint)


def check_choice(name: str, value: Any, hint: Any) -> None:
    """Raise ConfigError, with the names to choose from, unless the annotation ``hint`` allows ``value``."""
    if not _allows(hint, value):
        *others, last = map(str, _named(hint))
        many = "a tuple of " if any(get_origin(arm) is tuple for arm in (hint, *get_args(hint))) else ""
        raise ConfigError(f"{name} must be {many}{', '.join(others)}{' or ' if others else ''}{last}, not {value!r}")


@cache
def _choices(cls: type) -> dict[str, Any]:
    """Return the annotations of the fields with named values. They are cached, since resolving them is slow."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if _named(hints[field.name])}


def _named(hint: Any) -> list[Any]:
    """Return the values that an annotation names, None last; empty where it names none."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    named = [value for arm in get_args(hint) if arm is not Ellipsis for value in _named(arm)]
    return [*named, None] if named and NoneType in get_args(hint) else named


def _allows(hint: Any, value: Any) -> bool:
    """Return whether ``value`` is among the names of ``hint``; annotations without names allow every value."""
    arms = get_args(hint)
    if get_origin(hint) is Literal:
        return value in arms
    if get_origin(hint) in UNIONS:
        return any(_allows(arm, value) for arm in arms)
    if get_origin(hint) is tuple and _named(hint):
        # A tuple of names is of any length.
        return isinstance(value, tuple | list) and all(_allows(arms[0], item) for item in cast(list[Any], value))
    return value is None if hint is NoneType else True


def to_dict(config: Any) -> dict[str, Any]:
    """Return a settings dataclass as a nested dict for YAML, JSON and checkpoints; tuples become lists."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: convert(item) for key, item in cast(dict[str, Any], value).items()}
        return [convert(item) for item in cast(list[Any], value)] if isinstance(value, tuple | list) else value

    return convert(asdict(config))


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Return the settings dataclass ``cls`` (without nested ones) of a dict from :func:`to_dict`.

    Raises:
        TypeError: The dict has a key that ``cls`` does not have.
    """
    return cls(
        **{key: tuple(cast(list[Any], item)) if isinstance(item, list) else item for key, item in values.items()}
    )
