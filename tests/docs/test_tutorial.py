"""The tutorial's notebook runs from its first cell to its last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


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
