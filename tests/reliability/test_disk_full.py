"""A disk that is full at eight places of each stage: one sentence, nothing lost, and the same command goes on."""

from __future__ import annotations

import shutil

import pytest

from tests.reliability.conftest import STAGES, run

pytestmark = pytest.mark.slow
PLACES = 8


@pytest.mark.parametrize("stage", STAGES)
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
    names = {path.relative_to(folder) for path in folder.rglob("*") if "tfevents" not in path.name}
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
                assert "unfinished run" in again
                assert run(stage, [*command, "--run.resume"]) is None
        assert {path.relative_to(folder) for path in folder.rglob("*") if "tfevents" not in path.name} == names
        assert (small_disk.path / "precious.txt").read_text() == "mine"
        assert not list(small_disk.path.glob(".latentdiff-tmp-*"))
        shutil.rmtree(folder)
    assert refused >= PLACES // 2
