"""The tutorial's notebook runs from its first cell to its last."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


# A cell that cannot be read is named at once. And xdist begins with the files of many tests: with this one early, no
# process ends alone with the notebook.
@pytest.mark.parametrize("number", range(len(CELLS)))
def test_a_cell_is_python(number):
    lines = [line for line in CELLS[number].splitlines() if not line.startswith(("%", "!"))]
    ast.parse("\n".join(lines), filename=f"cell {number}")


@pytest.mark.parametrize("share", ["0.002", pytest.param("1", marks=pytest.mark.slow)])
def test_the_tutorial_runs(share, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTDIFF_TUTORIAL_SHARE", share)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=where).execute()
    assert (tmp_path / "garments.safetensors").is_file()


def test_the_tutorial_is_small():
    assert NOTEBOOK.stat().st_size < 150_000
