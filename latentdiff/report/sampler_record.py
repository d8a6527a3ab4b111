"""``samplers.json``: what the samplers stage has measured, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.digest import DamagedFileError, json_with_digest, note_missing_digest, read_json
from latentdiff.errors import ReportError
from latentdiff.files import write_atomically
from latentdiff.report.record_schema import find_problem

_AMOUNT = {"type": "number", "minimum": 0}
_ROW = {
    "type": "object",
    "required": ["sampler", "steps", "passes", "distance_test"],
    "properties": {
        "sampler": {"type": "string"},
        "steps": {"type": "integer", "minimum": 1},
        "passes": {"type": "integer", "minimum": 1},
        "distance_test": _AMOUNT,
        "distance_error": {"type": ["number", "null"], "minimum": 0},
        "class_accuracy": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "seconds": _AMOUNT,
    },
}
SCHEMA = {
    "type": "object",
    "required": ["rows", "model", "num_images", "floor"],
    "properties": {
        "rows": {"type": "array", "items": _ROW},
        "model": {
            "type": "object",
            "required": ["sha256"],
            "properties": {"sha256": {"type": "string"}, "path": {"type": "string"}},
        },
        "num_images": {"type": "integer", "minimum": 1},
        "floor": _AMOUNT,
    },
}


def write_sampler_record(record: dict[str, Any], path: Path) -> None:
    """Write the record with its digest, replaced whole."""
    content = json_with_digest(record)
    write_atomically(path, lambda name: name.write_bytes(content))


def read_sampler_record(path: Path) -> dict[str, Any]:
    """Read a record. Raises :class:`ReportError` for one that is damaged or no table of samplers."""
    try:
        record, signed = read_json(path)
    except DamagedFileError as error:
        raise ReportError(
            f'{path} is damaged: {error}. Remove it and measure again; if you changed it, remove its line "digest".'
        ) from error
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON ({error}): remove it and measure again") from error
    if problem := find_problem(record, SCHEMA):
        raise ReportError(f"{path} is no table of samplers: {problem}. Remove it and measure again.")
    if not signed:
        note_missing_digest(path)
    return record
