"""A disk that is full at eight places of each stage: one sentence, nothing lost, and the same command goes on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.reliability.conftest import STAGES, run

pytestmark = pytest.mark.slow
PLACES = 8


def names_in(folder: Path) -> set[str]:
    """The files but TensorBoard's, and the samples, which are named by how far a run came in its seconds.

    A cache's name has a hash of the weights, which are other ones after other seconds.
    """
    paths = (path for path in folder.rglob("*") if "tfevents" not in path.name and path.parent.name != "samples")
    return {re.sub("-[0-9a-f]{16}", "", path.relative_to(folder).as_posix()) for path in paths}


# A demo only starts other stages, which are tried here each by itself. At eight places it would take 20 minutes.
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "demo"])
def test_a_full_disk_is_said_and_the_run_goes_on(stage, small_disk, evaluated, in_one_process, monkeypatch):
    arguments, setting = STAGES[stage]
    folder = small_disk.path / ("run" if setting else "stages")
    if not setting:
        monkeypatch.chdir(small_disk.path)
    (small_disk.path / "precious.txt").write_text("mine")
    empty = small_disk.used()
    command = [*arguments, *([setting.format(folder)] if setting else [])]
    assert run(stage, command) is None
    whole = small_disk.used() - empty
    names = names_in(folder)
    shutil.rmtree(folder)
    refused = 0
    for place in range(1, PLACES + 1):
        small_disk.limit(empty + whole * (place - 1) // PLACES, place)
        ended = run(stage, command)
        small_disk.free()
        if ended is not None:
            refused += 1
            assert ended.startswith("error: ")
            assert "no space is left on" in ended
            assert "\n" not in ended.strip()
            again = run(stage, command)
            if again is not None:
                assert "holds an unfinished" in again
                assert run(stage, [*command, "--run.resume"]) is None
        assert names_in(folder) == names
        assert (small_disk.path / "precious.txt").read_text() == "mine"
        assert not list(small_disk.path.glob(".latentdiff-tmp-*"))
        shutil.rmtree(folder)
    assert refused >= PLACES // 2
