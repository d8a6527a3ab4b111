"""Memory that is kept, seen by the pages that the system has to give again."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from latentdiff.training import memory
from latentdiff.training.memory import keep_freed_memory

# In a process of its own: the setting is the whole process's. Of 64 MiB each page is touched.
SCRIPT = """
import resource, sys
import torch
from latentdiff.training.memory import keep_freed_memory
assert sys.argv[1] != "keep" or keep_freed_memory()
def fill():
    torch.empty(2**24).fill_(1.0)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(48):
    fill()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**20)
"""


GLIBC = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"


def mebibytes_given_again(mode: str) -> float:
    run = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="it is glibc that can be told to")
def test_freed_memory_serves_again():
    # The heap grows a few times until the largest block finds room in it; without, all 3,072 MiB are given anew.
    assert mebibytes_given_again("keep") < mebibytes_given_again("leave") / 3


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was asked for"))
    assert keep_freed_memory() is False


def test_an_earlier_version_is_asked_for_what_it_can_do(monkeypatch):
    asked = []

    class Earlier:
        @staticmethod
        def mallopt(option: int, value: int) -> int:
            asked.append((option, value))
            return int(option != memory.M_MMAP_THRESHOLD or value <= 2**25)

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Earlier)
    assert keep_freed_memory() is True
    assert asked == [(-3, 2**28), (-3, 2**25), (-1, 2**31 - 1)]
