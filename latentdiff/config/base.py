"""The base of all settings dataclasses, which checks values, and their conversion to plain dicts and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

from latentdiff.config.checks import checked, hints_of

Config = TypeVar("Config", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the settings dataclasses. Each field accepts only what its annotation declares.

    Numbers are checked against their range, and texts against the allowed names. ``~`` and ``$VAR`` are expanded in
    paths. A nested dataclass must be an instance of its class. 3.0 and 1e5 count as whole numbers, True does not. The
    command line and YAML files are checked in the same way.

    Raises:
        ConfigError: A field has a value that its annotation does not allow.
    """

    def to_kwargs(self, *without: str) -> dict[str, Any]:
        """Return the fields as a dict of keyword arguments, without the fields named in ``without``."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in without}

    @classmethod
    def check_given(cls, **values: Any) -> None:
        """Raise ConfigError unless the fields of these names allow these values. None stands for a default."""
        for name, value in values.items():
            if value is not None:
                checked(value, hints_of(cls)[name], name)

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            as_wanted = checked(value, hints[field.name], field.name)
            if as_wanted is not value:
                object.__setattr__(self, field.name, as_wanted)


def check_choice(name: str, value: Any, hint: Any) -> None:
    """Raise ConfigError, with the names to choose from, unless the annotation ``hint`` allows ``value``."""
    checked(value, hint, name)


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
        ConfigError: A value is not what its setting allows.
    """
    return cls(**values)
