"""Whether a record that was read from JSON has the types that its schema says.

It knows the words of JSON Schema that ``report.schema.json`` uses. The tests validate what is written with the package
jsonschema, which users need not have.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
# Characters of a value that a message shows.
SHOWN = 60


@cache
def report_schema() -> dict[str, Any]:
    """The schema of ``report.json``; that of ``evaluation.json`` is under ``$defs``."""
    return json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))


def find_problem(
    value: Any, schema: dict[str, Any], where: str = "it", root: dict[str, Any] | None = None
) -> str | None:
    """The first thing that is wrong with ``value``, in words such as "num_images is '20', not of type integer".

    Args:
        value: Plain values.
        schema: What they must be.
        where: What the message calls ``value``.
        root: Where references lead; by default the schema of ``report.json``.

    Returns: None where nothing is wrong.
    """
    root = report_schema() if root is None else root
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if wrong := _wrong_itself(value, schema):
        shown = repr(value)
        return f"{where} is {shown if len(shown) <= SHOWN else shown[:SHOWN] + '…'}, {wrong}"
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            if found := find_problem(item, schema["items"], f"{where}[{index}]", root):
                return found
    if isinstance(value, dict):
        return _find_in_object(value, schema, "" if where == "it" else f"{where}.", root)
    return None


def _find_in_object(value: dict[str, Any], schema: dict[str, Any], prefix: str, root: dict[str, Any]) -> str | None:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if missing := [key for key in schema.get("required", ()) if key not in value]:
        return f"it lacks {', '.join(prefix + key for key in missing)}"
    for key, item in value.items():
        own = properties.get(key, others)
        if own is False or ("propertyNames" in schema and key not in schema["propertyNames"]["enum"]):
            return f"{prefix}{key[:SHOWN]} is not a key that it has"
        if isinstance(own, dict) and (found := find_problem(item, own, prefix + key[:SHOWN], root)):
            return found
    return None


def _wrong_itself(value: Any, schema: dict[str, Any]) -> str | None:
    """What is wrong with a value, its items aside."""
    if "const" in schema and value != schema["const"]:
        return f"not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"not one of {', '.join(schema['enum'])}"
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(
            isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names
        ):
            return f"not of type {' or '.join(names)}"
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return "not a finite number"
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            return f"not from {schema.get('minimum', '-infinity')} to {schema.get('maximum', 'infinity')}"
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return f"not of {schema.get('minItems', 0)} items or more, at most {schema.get('maxItems', 'any number')}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            return "too short"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"not of the form {schema['pattern']}"
    return None
