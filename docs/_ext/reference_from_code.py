"""Writes the reference from the code, into docs/reference/generated/, before the pages are read.

- A page for each family of settings (``TrainerConfig``) and for each stage (``diffusion``).
- The commands, with the text of ``--help``.
- The Python API: what ``latentdiff`` exports, the classes that its functions return, and the errors.
- The format of ``report.json``.

The pages beside that folder include these and are written by hand.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from settings_pages import commands, family_page, rest, settings_classes, stage_page, stages, title
from sphinx.application import Sphinx

import latentdiff

ERRORS = "latentdiff.errors"


def api() -> str:
    """autodoc of what ``latentdiff`` exports, of the classes that its functions return, and of the errors."""
    functions, classes = [], {}
    for name in latentdiff.__all__:
        value = getattr(latentdiff, name)
        if inspect.isclass(value):
            classes[f"{value.__module__}.{name}"] = value
        elif callable(value):
            functions.append(f".. autofunction:: latentdiff.{name}\n")
            returned = typing.get_type_hints(value).get("return")
            for cls in typing.get_args(returned) or (returned,):
                if inspect.isclass(cls) and cls.__module__.startswith("latentdiff."):
                    classes[f"{cls.__module__}.{cls.__name__}"] = cls
    errors = {path: cls for path, cls in classes.items() if issubclass(cls, Exception)}
    if importlib.util.find_spec(ERRORS):
        found = vars(importlib.import_module(ERRORS)).values()
        errors |= {f"{ERRORS}.{e.__name__}": e for e in found if inspect.isclass(e) and e.__module__ == ERRORS}
    shown = [f".. autoclass:: {path}\n   :members:\n" for path in classes if path not in errors]
    raised = [f".. autoexception:: {path}\n   :show-inheritance:\n" for path in errors]
    parts = {"Functions": functions, "Classes": shown, "Errors": raised}
    return "\n".join(f"{title(name, '-')}\n" + "\n".join(part) for name, part in parts.items() if part)


BOUNDS = {"minimum": "at least", "maximum": "at most", "minLength": "length at least", "pattern": "matches"}


def schema_type(schema: dict[str, Any]) -> str:
    """A value's type in one word or two, as reStructuredText."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return f":ref:`{name} <schema-{name}>`"
    if "const" in schema:
        return f"``{json.dumps(schema['const'])}``"
    if "enum" in schema:
        return " or ".join(f"``{json.dumps(value)}``" for value in schema["enum"])
    types = schema.get("type", "any")
    text = types if isinstance(types, str) else " or ".join(types)
    return f"{text} of {schema_type(schema['items'])}" if "items" in schema else text


def meaning(schema: dict[str, Any], required: bool) -> str:
    """What the schema says of a value beside its type, in sentences."""
    bounds = ", ".join(f"{word} ``{schema[key]}``" for key, word in BOUNDS.items() if key in schema)
    said = [schema.get("description", "").rstrip("."), bounds[:1].upper() + bounds[1:], "" if required else "Optional"]
    return " ".join(f"{sentence}." for sentence in said if sentence)


def schema_rows(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, type and meaning of each value below ``schema``; those of a ``$ref`` stand under its own heading."""
    inner = {
        prefix + key: (value, key in schema.get("required", ())) for key, value in schema.get("properties", {}).items()
    }
    if isinstance(schema.get("additionalProperties"), dict):
        inner[f"{prefix}*"] = schema["additionalProperties"], True
    for key, (value, required) in inner.items():
        yield key, schema_type(value), meaning(value, required)
        yield from schema_rows(value, f"{key}.")
        yield from schema_rows(value.get("items", {}), f"{key}[].")


def report_schema() -> str:
    """The format of report.json: a table for the file, and one for each part that the schema names."""
    schema = json.loads((Path(latentdiff.__file__).parent / "report" / "report.schema.json").read_text())
    text = ""
    for name, part in {"report.json": schema, **schema["$defs"]}.items():
        text += f".. _schema-{name}:\n\n{title(name, '-')}\n"
        text += f"{meaning(part, True)}\n\n" if meaning(part, True) else ""
        if rows := list(schema_rows(part)):
            text += ".. list-table::\n   :header-rows: 1\n\n   * - Key\n     - Type\n     - Meaning\n"
            text += "".join(f"   * - ``{key}``\n     - {kind}\n     - {said}\n" for key, kind, said in rows) + "\n"
        else:
            text += f"Type: {schema_type(part)}.\n\n"
    return text


def pages() -> dict[str, str]:
    """Every generated file by its name; an ``.inc`` is included by a page that is written by hand."""
    classes = settings_classes()
    all_stages = stages(classes)
    families = {name: cls for name, cls in sorted(classes.items()) if name.endswith("Config")}
    found = {f"{name}.rst": family_page(cls, all_stages) for name, cls in families.items()}
    found |= {f"stage-{name}.rst": stage_page(name, cls, families) for name, cls in all_stages.items()}
    for kind, names in {"families": families, "stages": [f"stage-{name}" for name in all_stages]}.items():
        toctree = ".. toctree::\n   :maxdepth: 1\n\n"
        found[f"{kind}.inc"] = toctree + "".join(f"   generated/{name}\n" for name in names)
    return found | {"commands.inc": commands(all_stages), "api.inc": api(), "report-schema.inc": report_schema()}


def write_pages(app: Sphinx) -> None:
    """Write what has changed, so that the rest is not read again, and remove pages of what is gone."""
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    written = pages()
    for path in folder.glob("*.*"):
        if path.is_file() and path.name not in written:
            path.unlink()
    for name, text in written.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def escape_stars(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Of autodoc's docstrings: see :func:`settings_pages.rest`."""
    lines[:] = rest("\n".join(lines)).split("\n")


def is_in_the_code(app: Sphinx, domain: Any, node: Any) -> bool | None:
    """Silence the warning for a reference to something of latentdiff that these pages do not show but that there is."""
    module, names = node.get("reftarget", ""), []
    while module.startswith("latentdiff"):
        try:
            found = importlib.import_module(module)
        except ImportError:
            module, _, name = module.rpartition(".")
            names.insert(0, name)
            continue
        for name in names:
            found = getattr(found, name, None)
        return found is not None or None
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_stars, priority=100)  # before napoleon
    app.connect("warn-missing-reference", is_in_the_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
