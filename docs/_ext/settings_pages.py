"""Pages of settings and commands, from the dataclasses of settings and their docstrings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
import types
import typing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docstring_parser

import latentdiff.config
import latentdiff.stages
from latentdiff.__main__ import STAGES

# The order of the work; a stage that is not named here comes last.


def settings_classes() -> dict[str, type]:
    """The dataclasses of settings by name: of ``latentdiff.config``, its modules, and the stages' own."""
    names = [latentdiff.config.__name__]
    for package in (latentdiff.config, latentdiff.stages):
        names += [
            f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(getattr(package, "__path__", []))
        ]
    found = {}
    for name in names:
        for key, value in vars(importlib.import_module(name)).items():
            if dataclasses.is_dataclass(value) and key.endswith(("Config", "Stage")) and key == value.__name__:
                found[key] = value
    return found


def stages(classes: dict[str, type]) -> dict[str, type]:
    """Each stage's dataclass by the stage's name, in the order of the work."""
    there = {module.name for module in pkgutil.iter_modules(latentdiff.stages.__path__)}
    named = {key.removesuffix("Stage").lower(): cls for key, cls in classes.items() if key.endswith("Stage")}
    order = list(STAGES)
    ordered = sorted(named, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: named[name] for name in ordered if name in there}


def rest(text: str) -> str:
    """A docstring's text as valid reStructuredText: the star of a shape such as ``[b, *latent_shape]`` is a star."""
    return re.sub(r"(\[[^\]\n`]*?)(?<!\\)\*(?=\w)", r"\1\\*", inspect.cleandoc(text))


def described(cls: type) -> dict[str, str]:
    """What the docstrings of ``cls`` and its bases say of each field."""
    found = {}
    for base in reversed(cls.__mro__):
        parsed = docstring_parser.parse(base.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
        found |= {parameter.arg_name: parameter.description or "" for parameter in parsed.params}
    return found


def summary(cls: type) -> str:
    parsed = docstring_parser.parse(cls.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    return rest("\n\n".join(filter(None, (parsed.short_description, parsed.long_description))))


def default(field: dataclasses.Field[Any]) -> Any:
    """A field's default; ``dataclasses.MISSING`` where a value must be given."""
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default  # type: ignore[misc]


def type_and_range(cls: type, field: dataclasses.Field[Any]) -> tuple[str, str]:
    """A field's type as it is written, and the range that is declared beside it, if any."""
    hint = typing.get_type_hints(cls, include_extras=True)[field.name]
    return type_text(typing.get_type_hints(cls)[field.name]), ", ".join(dict.fromkeys(bounds(hint)))


def bounds(hint: Any, each: str = "") -> typing.Iterator[str]:
    """What is declared beside a type, in words; of a tuple's entries too."""
    for mark in getattr(hint, "__metadata__", ()):
        yield each + str(mark)
    inner = "each " if typing.get_origin(hint) in (tuple, list) else each
    for part in typing.get_args(hint):
        yield from bounds(part, inner)


def type_text(hint: Any) -> str:
    """An annotation as it is written, without the names of modules, whatever Python's version."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, typing.get_args(hint)))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__.replace("NoneType", "None")
    return str(hint).replace("typing.", "")


def entry(cls: type, field: dataclasses.Field[Any], text: str, option: bool) -> str:
    """One setting, as an option of a command or an attribute of a class."""
    kind, allowed = type_and_range(cls, field)
    value = default(field)
    required = value is dataclasses.MISSING
    lines = [f".. option:: --{field.name}" if option else f".. py:attribute:: {field.name}"]
    if not option:
        lines += [f"   :type: {kind}"] + ([] if required else [f"   :value: {value!r}"])
    lines += ["", textwrap.indent(rest(text), "   "), ""]
    facts = [f"Type ``{kind}``", "required" if required else f"default ``{value!r}``"] if option else []
    facts += [f"allowed: {allowed}"] if allowed else []
    return "\n".join(lines + ([f"   {', '.join(facts)}.".replace("   allowed", "   Allowed"), ""] if facts else []))


def title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def path_of(cls: type) -> str:
    """Where a user imports ``cls`` from."""
    exported = getattr(latentdiff.config, cls.__name__, None) is cls
    return f"{latentdiff.config.__name__ if exported else cls.__module__}.{cls.__name__}"


def family_page(cls: type, all_stages: dict[str, type]) -> str:
    """A page for a dataclass that several stages share."""
    users = []
    for name, stage in all_stages.items():
        prefixes = [f"--{f.name}." for f in dataclasses.fields(stage) if type(default(f)) is cls]
        prefixes += ["--"] if issubclass(stage, cls) else []
        users += [f":doc:`{name} <stage-{name}>` (``{prefix}…``)" for prefix in prefixes]
    attributes = "\n".join(entry(cls, f, described(cls).get(f.name, ""), False) for f in dataclasses.fields(cls))
    canonical = f"{cls.__module__}.{cls.__name__}"
    alias = f"   :canonical: {canonical}\n" if canonical != path_of(cls) else ""
    used = f"Stages that have these settings: {', '.join(users)}.\n" if users else ""
    body = f"{summary(cls)}\n\n{used}\n{attributes}"
    return f"{title(cls.__name__)}\n.. py:class:: {path_of(cls)}\n{alias}\n{textwrap.indent(body, '   ')}\n"


def stage_page(name: str, cls: type, families: dict[str, type]) -> str:
    """A page for a stage: its own settings, and which families it has under which prefix."""
    own, rows, inherited = [], [], {}
    for base in cls.__mro__[1:]:
        if base.__name__ in families:
            inherited |= {field.name: default(field) for field in dataclasses.fields(base)}
            changed = {f.name: default(f) for f in dataclasses.fields(cls) if inherited.get(f.name, ...) != default(f)}
            rows.append(("--…", base, {key: value for key, value in changed.items() if key in inherited}))
    for field in dataclasses.fields(cls):
        value = default(field)
        if type(value).__name__ in families:
            usual = {f.name: default(f) for f in dataclasses.fields(value)}
            given = {key: getattr(value, key) for key in usual}
            rows.append((f"--{field.name}.…", type(value), {k: v for k, v in given.items() if v != usual[k]}))
        elif field.name not in inherited:
            own.append(entry(cls, field, described(cls).get(field.name, ""), True))
    usage = f"python -m latentdiff.stages.{name} [--config FILE] [--SETTING VALUE ...]"
    text = f"{title(name)}\n{summary(cls)}\n\n.. code-block:: text\n\n   {usage}\n\n.. program:: {name}\n\n"
    text += "\n".join(own) + "\n"
    if rows:
        text += f"{title('Settings shared with other stages', '-')}\n.. list-table::\n   :header-rows: 1\n\n"
        text += "   * - Flags\n     - Settings\n     - Other default than there\n"
        for flags, family, changed in rows:
            other = ", ".join(f"``{key}`` = ``{value!r}``" for key, value in changed.items())
            text += f"   * - ``{flags}``\n     - :doc:`{family.__name__}`\n     - {other or 'none'}\n"
    return text


def help_of(name: str) -> str:
    command = [sys.executable, "-m", f"latentdiff.stages.{name}", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commands(all_stages: dict[str, type]) -> str:
    """What each stage does, and the text of its ``--help``, folded away."""
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(all_stages, pool.map(help_of, all_stages), strict=True))
    text = ""
    for name, cls in all_stages.items():
        shown = textwrap.indent(helps[name], "   ")
        text += f"{title(name, '-')}\n{summary(cls)}\n\n:doc:`Every setting of {name} <generated/stage-{name}>`.\n\n"
        text += f".. raw:: html\n\n   <details><summary>--help</summary>\n\n.. code-block:: text\n\n{shown}\n"
        text += ".. raw:: html\n\n   </details>\n\n"
    return text
