"""Each extra that a user may install is tried alone: by .ci/extra, and so by the workflow."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# For those who change the package.
FOR_DEVELOPERS = {"test", "peers", "lint", "docs", "dev"}


def listed(file, pattern):
    """The names that a file lists."""
    (names,) = re.findall(pattern, (ROOT / file).read_text())
    return re.findall(r"\w+", names)


def test_each_extra_is_tried_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - FOR_DEVELOPERS
    tried = listed(".ci/extra", r"\nall=\((.*?)\)")
    assert set(tried) == extras
    assert tried == listed(".github/workflows/ci.yml", r"extra: \[(.*?)\]")


def test_the_tests_that_it_names_are_there():
    script = (ROOT / ".ci/extra").read_text()
    paths = re.findall(r"tests/[\w/.]+", script)
    assert len(paths) >= 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
