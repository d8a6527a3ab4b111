"""Packages of the extras, which a user may not have."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from latentdiff.errors import ConfigError


def import_extra(module: str, extra: str) -> ModuleType:
    """Return a package that comes with an extra.

    Raises :class:`~latentdiff.errors.ConfigError` that names the extra where the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigError(f"{name} is not installed: pip install 'latentdiff[{extra}]'") from error
