"""The reference is made from the code: every setting of every command is in it, with what it means."""

from __future__ import annotations

import dataclasses
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest

import latentdiff

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
pytest.importorskip("sphinx")
settings_pages = import_module("settings_pages")

CLASSES = settings_pages.settings_classes()
STAGES = settings_pages.stages(CLASSES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig:
    """A part.

    Args:
        width: Of [b, *shape], or ``none``.
        kind: Which.
    """

    width: Annotated[int, "1 or more"] = 3
    kind: Literal["a", "b"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeStage(PartConfig):
    """Makes it whole.

    Args:
        path: Where to.
        part: Its part.
    """

    path: str
    width: int = 5
    part: PartConfig = dataclasses.field(default_factory=lambda: PartConfig(kind="b"))


def test_every_stage_has_a_page():
    there = {
        path.stem for path in (Path(latentdiff.__file__).parent / "stages").glob("*.py") if "Stage" in path.read_text()
    }
    assert {"autoencoder", "diffusion", "sample", "evaluate", "compare"} <= set(STAGES) <= there


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_setting_is_described(name):
    said = settings_pages.described(CLASSES[name])
    assert [field.name for field in dataclasses.fields(CLASSES[name]) if not said.get(field.name)] == []
    assert settings_pages.summary(CLASSES[name])


def test_a_family_lists_types_defaults_ranges_and_who_has_it():
    page = settings_pages.family_page(PartConfig, {"whole": WholeStage})
    assert ".. py:attribute:: width\n      :type: int\n      :value: 3\n" in page
    assert "Allowed: 1 or more." in page
    assert "Of [b, \\*shape], or ``none``." in page
    assert ":type: Literal['a', 'b'] | None" in page
    assert ":doc:`whole <stage-whole>` (``--part.…``), :doc:`whole <stage-whole>` (``--…``)" in page


def test_a_stage_lists_its_own_settings_and_what_differs_in_those_it_shares():
    page = settings_pages.stage_page("whole", WholeStage, {"PartConfig": PartConfig})
    assert ".. option:: --path\n\n   Where to.\n\n   Type ``str``, required." in page
    assert "--part.kind" not in page
    assert "``--…``\n     - :doc:`PartConfig`\n     - ``width`` = ``5``" in page
    assert "``--part.…``\n     - :doc:`PartConfig`\n     - ``kind`` = ``'b'``" in page


def test_the_schema_s_page_lists_each_key():
    pytest.importorskip("sphinx")
    from reference_from_code import report_schema

    page = report_schema()
    schema = json.loads((Path(latentdiff.__file__).parent / "report" / "report.schema.json").read_text())
    for key in [*schema["properties"], "metrics.inception.fid_test", "columns[].key", "pictures.*.file"]:
        assert f"``{key}``" in page
    for name in schema["$defs"]:
        assert f".. _schema-{name}:" in page
