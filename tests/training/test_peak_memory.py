from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from latentdiff.training.base_module import peak_memory_of_process


@pytest.mark.slow
def test_a_process_is_not_charged_for_the_one_that_started_it():
    held = torch.ones(150_000_000)  # 600 MB
    own = peak_memory_of_process()
    assert own > held.numel() * 4
    code = "from latentdiff.training.base_module import peak_memory_of_process as peak; print(peak())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 50_000_000 < child < own - 300_000_000
