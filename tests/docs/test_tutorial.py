"""The tutorial's notebook runs from its first cell to its last."""

from __future__ import annotations

import json
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_every_cell_runs(tmp_path, monkeypatch):
    """In this process, with nearly no training: a kernel would take seconds to start."""
    monkeypatch.setenv("LATENTDIFF_TUTORIAL_SHARE", "0.002")
    names: dict[str, object] = {"__name__": "__main__"}
    with matplotlib.rc_context():
        for number, cell in enumerate(CELLS):
            exec(compile(cell, f"cell {number}", "exec"), names)
            plt.close("all")
    assert (tmp_path / "garments.safetensors").is_file()


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTDIFF_TUTORIAL_SHARE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=where).execute()
    assert (tmp_path / "garments.safetensors").is_file()


def test_the_tutorial_is_small():
    assert NOTEBOOK.stat().st_size < 150_000
