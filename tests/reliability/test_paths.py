"""Paths and permissions as they go wrong, for root and for a user: one sentence, and nothing is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentdiff.resources import find_checkpoint
from tests.reliability.conftest import STAGES, run

pytestmark = pytest.mark.slow
# Where a run is asked to go, and words of the answer.
FOLDERS = {
    "file": "file",
    "file/run": "file",
    "loop": "circle",
    "loop/run": "circle",
    "dangling": "is a broken link",
    "dangling/run": "is a broken link",
    "x" * 300: "too long",
    "new/" + "y" * 300: "too long",
    "full": "other things",
    "link to full": "other things",
}
FOR_A_USER = {"read-only": "may not", "read-only/run": "may not", "closed/run": "may not", "closed": "may not"}
# It may not even make the folder on the way.
FOR_A_USER["new/" + "y" * 300] = "may not"


def prepare(folder: Path) -> None:
    """The folder in which every case is set up."""
    (folder / "file").write_text("mine")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("mine")
    (folder / "link to full").symlink_to(folder / "full")
    for name, mode in (("read-only", 0o555), ("closed", 0o000)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)


def snapshot(folder: Path) -> dict[str, str]:
    """Each path's kind and content."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[str(path)] = text
    return found


@pytest.mark.parametrize("stage", ["sample", "latents", "diffusion", "analyse", "export", "reproduce"])
@pytest.mark.parametrize("place", FOLDERS)
def test_a_folder_that_cannot_be_used(stage, place, tmp_path):
    if stage == "latents" and "full" in place:
        return  # caches may lie beside other files: they have names of their own
    arguments, setting = STAGES[stage]
    root = tmp_path / "places"
    root.mkdir()
    prepare(root)
    before = snapshot(root)
    ended = run(stage, [*arguments, setting.format(root / place)])
    assert ended is not None
    assert ended.startswith("error: ")
    assert FOLDERS[place] in ended
    assert len(ended.splitlines()) <= 3
    after = snapshot(root)
    assert {path: after.get(path) for path in before} == before


# A first run as root imports everything: the user may have no right to read this Python.
AS_A_USER = """
import os, sys, tempfile
from latentdiff.command_line import run_stage
from latentdiff.stages import sample
settings = sys.argv[1:-1]
with tempfile.TemporaryDirectory() as folder:
    sample.main([*settings, f"--run.folder={folder}/run"])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
run_stage(lambda: sample.main([*settings, f"--run.folder={sys.argv[-1]}"]))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter. pytest's own is for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("place", FOLDERS | FOR_A_USER)
def test_a_folder_that_a_user_may_not_use(place, open_folder):
    root = open_folder / "places"
    root.mkdir()
    root.chmod(0o755)
    prepare(root)
    before = snapshot(root)
    released = find_checkpoint("fashion-mnist/latent.safetensors")
    for path in released.parent.glob("*.safetensors"):
        os.chmod(shutil.copy(path, open_folder), 0o644)
    settings = [f"--model={open_folder / released.name}", "--num_images=2", "--steps=1"]
    command = [sys.executable, "-c", AS_A_USER, *settings, str(root / place)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (FOLDERS | FOR_A_USER)[place] in done.stderr
    assert str(root)[:20] in done.stderr
    assert ".safetensors" not in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(root) == before
