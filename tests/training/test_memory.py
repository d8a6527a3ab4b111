"""Memory that is kept, seen by the pages that the system has to give again."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: the setting is the whole process's. Of 64 MiB each page is touched.
SCRIPT = """
import resource, sys
import torch
from latentdiff.training.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("this C library has no mallopt")
def fill():
    torch.empty(2**24).fill_(1.0)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(48):
    fill()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**20)
"""


def mebibytes_given_again(mode: str) -> float:
    run = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True)
    if "mallopt" in run.stderr and run.returncode:
        pytest.skip(run.stderr.strip())
    return float(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted as Linux counts them")
def test_freed_memory_serves_again():
    # The heap grows a few times until the largest block finds room in it; without, all 3,072 MiB are given anew.
    assert mebibytes_given_again("keep") < mebibytes_given_again("leave") / 3
