"""What a search may change: settings of the diffusion stage by their dotted names, each with a range or choices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from latentdiff.config.checks import UNIONS, checked, describe, shown, shown_path, split_annotated
from latentdiff.config.options import flatten, nearest, options_of, read_yaml_value, sections_of
from latentdiff.config.ranges import Range
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.config.yaml_text import read_yaml
from latentdiff.errors import ConfigError
from latentdiff.resources import find_config

# Parts of the settings that a trial may have of its own.
SEARCHED = ("network.", "diffusion.", "trainer.", "autoencoder")
# Of these, what all trials must have alike: their length, what they are chosen by, and where they run.
ALIKE = (
    "max_images",
    "max_seconds",
    "images_per_epoch",
    "monitor",
    "monitor_mode",
    "stop_patience",
    "lr_patience",
    "ema_snapshots",
    "seed",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "num_threads",
    "loggers",
    "memory",
)
TOGETHER = "together"
KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Dimension:
    """One thing that a search chooses: a number in a range, or one of several choices.

    Attributes:
        name: The setting's dotted name; for settings that are chosen together, the name of the group.
        low, high: The range, both ends in it. None where there are choices.
        whole: Whether the numbers are whole.
        log: Whether the logarithm is searched.
        step: Distance of the numbers that are tried, or None.
        choices: By the text of each choice, the settings that it stands for. None where there is a range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    whole: bool = False
    log: bool = False
    step: float | None = None
    choices: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that it sets."""
        if self.choices is None:
            return (self.name,)
        return tuple(dict.fromkeys(name for settings in self.choices.values() for name in settings))

    def settings(self, value: Any) -> dict[str, Any]:
        """The settings that a value of it, a number or the text of a choice, stands for."""
        return {self.name: value} if self.choices is None else dict(self.choices[value])

    def value_of(self, stage: DiffusionStage) -> Any:
        """The value of it that stands for a stage's own settings; None where none does."""
        own = {name: attrgetter(name)(stage) for name in self.names}
        if self.choices is not None:
            fits = (text for text, part in self.choices.items() if all(own[name] == part[name] for name in part))
            return next(fits, None)
        value = own[self.name]
        return value if value is not None and self.low <= value <= self.high else None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        if self.choices is not None:
            return {"choices": {text: dict(settings) for text, settings in self.choices.items()}}
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class SearchSpace:
    """All that a search chooses."""

    dimensions: tuple[Dimension, ...]

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings by their dotted names that chosen values stand for."""
        found: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.name in values:
                found |= dimension.settings(values[dimension.name])
        return found

    def range_of(self, name: str, stage: DiffusionStage) -> tuple[Any, Any]:
        """The smallest and the largest number that a setting has in a trial.

        Args:
            name: Its dotted name.
            stage: The settings that the search begins from.
        """
        own = attrgetter(name)(stage)
        for dimension in self.dimensions:
            if name in dimension.names:
                if dimension.choices is None:
                    return dimension.low, dimension.high
                values = [settings.get(name, own) for settings in dimension.choices.values()]
                return min(values), max(values)
        return own, own

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {dimension.name: dimension.to_dict() for dimension in self.dimensions}

    def values_of(self, stage: DiffusionStage) -> dict[str, Any] | None:
        """The values that stand for a stage's own settings; None if the space does not contain them."""
        found = {dimension.name: dimension.value_of(stage) for dimension in self.dimensions}
        return None if None in found.values() else found


def read_space(name: str) -> SearchSpace:
    """Read the search space in a YAML file: a path, or a name under configs/.

    A setting has ``low`` and ``high``, with ``log`` or ``step`` if wanted, or ``choices``. If it has nothing, its range
    is the one that the setting declares, or the choices are all its names. ``together`` holds groups of settings that
    are chosen together: it maps the name of each group to its choices by name.

    Raises:
        ConfigError: There is no such file or setting, a range is not within the setting's own, or a value is not one
            that the setting takes.
    """
    path = Path(name) if Path(name).is_file() else find_config(name.removeprefix("configs/"))
    if path is None:
        raise ConfigError(f"--space {name}: there is no such file, and no such name under configs/")
    where = f" in {shown_path(path)}"
    given = read_yaml(path, f"--space {shown_path(path)}")
    groups = given.pop(TOGETHER, None) or {}
    if not isinstance(groups, Mapping):
        raise ConfigError(f"{TOGETHER}{where} must map the name of each group to its choices by name")
    found = [_dimension(setting, value, where) for setting, value in flatten(DiffusionStage, given)]
    found += [_group(str(group), choices, where) for group, choices in groups.items()]
    if not found:
        raise ConfigError(f"the search space{where} is empty: give the settings to search, such as trainer.lr")
    places: dict[str, str] = {}
    for dimension in found:
        for setting in {dimension.name, *dimension.names}:
            if setting in places:
                raise ConfigError(
                    f"{setting}{where} is given twice: in the group {dimension.name}, and alone or in another group"
                )
            places[setting] = dimension.name
    return SearchSpace(tuple(found))


def with_settings(stage: DiffusionStage, values: Mapping[str, Any]) -> DiffusionStage:
    """The stage's settings with others in place of some, by their dotted names; raises ConfigError as they do."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        sections.setdefault(section, {})[leaf] = value
    own = sections.pop("", {})
    return replace(stage, **own, **{name: replace(getattr(stage, name), **part) for name, part in sections.items()})


def _dimension(name: str, given: Any, where: str) -> Dimension:
    """What is searched of one setting."""
    hint = _hint(name, where)
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{name}{where} must have low and high, or choices, not {shown(given, shell=True)}. A setting that is "
            "the same for all trials belongs in --flags"
        )
    for key in given:
        if key not in KEYS:
            raise ConfigError(f"{name}{where} has the unknown key {key}; known are {', '.join(KEYS)}")
    if "choices" in given:
        if len(given) > 1:
            raise ConfigError(f"{name}{where} has choices and a range: give one of them")
        return _of_choices(name, given["choices"], hint, where)
    if get_origin(hint) is Literal or hint is bool:
        if given:
            raise ConfigError(f"{name}{where} is not a number: give choices, or nothing for all of them")
        return _of_choices(name, [False, True] if hint is bool else list(get_args(hint)), hint, where)
    base, marks = split_annotated(hint)
    if base not in (int, float):
        raise ConfigError(f"{name}{where} is not a number: give choices, each of them {describe(hint, shell=True)}")
    return _of_range(name, given, base is int, next(mark for mark in marks if isinstance(mark, Range)), where)


def _hint(name: str, where: str) -> Any:
    """The annotation of a setting that may be searched, without None."""
    options = options_of(DiffusionStage)
    if name not in options:
        near = [other for other in nearest(name, DiffusionStage) if other not in sections_of(DiffusionStage)]
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"{name}{where}: there is no such setting.{meant}")
    if not name.startswith(SEARCHED) or (name.startswith("trainer.") and name.removeprefix("trainer.") in ALIKE):
        raise ConfigError(f"{name}{where} is the same for all trials, and cannot be searched")
    hint = options[name].hint
    if get_origin(hint) in UNIONS:
        others = [arm for arm in get_args(hint) if arm is not NoneType]
        return others[0] if len(others) == 1 else hint
    return hint


def _of_choices(name: str, given: Any, hint: Any, where: str) -> Dimension:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2:
        raise ConfigError(f"{name}{where}: choices must be a list of at least two values, not {shown(given, True)}")
    own = options_of(DiffusionStage)[name].hint
    found = {}
    for value in given:
        setting = checked(read_yaml_value(value, own, name, where), own, f"{name}{where}", shell=True)
        found[_text(setting)] = {name: setting}
    if len(found) < len(given):
        raise ConfigError(f"{name}{where} has a choice twice")
    return Dimension(name, choices=found)


def _of_range(name: str, given: Mapping[str, Any], whole: bool, own: Range, where: str) -> Dimension:
    """A range within the setting's own, which gives what is left out."""
    for key in ("low", "high", "step"):
        value = given.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{name}{where}: {key} must be a number, not {shown(value, True)}")
    log, step = given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"{name}{where}: log must be true or false, not {shown(log, True)}")
    low, high = (given[key] if given.get(key) is not None else _end(own, key, whole) for key in ("low", "high"))
    for key, value in (("low", low), ("high", high)):
        if value not in own or math.isinf(value):
            raise ConfigError(
                f"{name}{where}: {key} {value:g} is outside of the setting's own range, {own}: give {key} within it"
            )
        if whole and float(value) != int(value):
            raise ConfigError(f"{name}{where}: {key} must be a whole number, not {value:g}")
    if not low < high:
        raise ConfigError(f"{name}{where}: low {low:g} must be below high {high:g}")
    if log and (low <= 0 or step is not None):
        what = "cannot have a step" if low > 0 else f"must begin above 0, but low is {low:g}: give low"
        raise ConfigError(f"{name}{where}: a range with log {what}")
    if step is not None and (step <= 0 or (whole and step != int(step))):
        raise ConfigError(f"{name}{where}: step must be {'a whole number ' if whole else ''}above 0, not {step:g}")
    kind = int if whole else float
    return Dimension(name, kind(low), kind(high), whole, log, None if step is None else kind(step))


def _end(own: Range, key: str, whole: bool) -> float:
    """An end of a setting's own range that is in it."""
    end, is_open = (own.low, own.above) if key == "low" else (own.high, own.below)
    if not is_open:
        return end
    inside = math.inf if key == "low" else -math.inf
    return end + (1 if key == "low" else -1) if whole else math.nextafter(end, inside)


def _group(name: str, choices: Any, where: str) -> Dimension:
    """Settings that are chosen together."""
    if not isinstance(choices, Mapping) or len(choices) < 2:
        raise ConfigError(f"{TOGETHER}.{name}{where} must be at least two choices, each a name with its settings")
    found: dict[str, dict[str, Any]] = {}
    for choice, settings in choices.items():
        if not isinstance(settings, Mapping | None):
            raise ConfigError(f"{TOGETHER}.{name}.{choice}{where} must be settings, not {shown(settings, True)}")
        found[str(choice)] = {}
        for setting, value in flatten(DiffusionStage, settings or {}):
            _hint(setting, where)
            hint = options_of(DiffusionStage)[setting].hint
            value = read_yaml_value(value, hint, setting, where)
            found[str(choice)][setting] = checked(value, hint, f"{setting}{where}", shell=True)
    return Dimension(name, choices=found)


def _text(value: Any) -> str:
    """A setting's value as the text of a choice."""
    return value if isinstance(value, str) else json.dumps(value)
