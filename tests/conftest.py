"""Tests run on the CPU, without a network, in a folder of their own."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Relative paths of a run fall into the test's own folder; the user's data and weights are not seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("LATENTDIFF_DATA", "LATENTDIFF_LPIPS", "LATENTDIFF_INCEPTION"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
