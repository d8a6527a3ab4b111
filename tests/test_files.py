"""Files are whole or untouched, what kills leave is cleared, and nobody else's is."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentdiff import files
from latentdiff.files import TEMPORARY, remove_leftovers, temporary_folder, write_atomically

WRITER = """
import sys, time
from pathlib import Path
from latentdiff.files import write_atomically
def write(path):
    path.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
write_atomically(Path(sys.argv[1]), write)
"""


def start_writer(target: Path) -> subprocess.Popen:
    """A process that is in the middle of writing a file."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    return process


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    others = [f"{TEMPORARY}mine", f"{TEMPORARY}{'0' * 16}.bak", ".model.safetensors-backup"]
    for name in others:
        (tmp_path / name).write_text("a user's")
    (tmp_path / f"{TEMPORARY}{'a' * 16}").write_text("a file, where ours are folders")
    (tmp_path / f"{TEMPORARY}{'b' * 16}").symlink_to(tmp_path)
    before = set(os.listdir(tmp_path))
    alive, killed = start_writer(tmp_path / "a"), start_writer(tmp_path / "b")
    killed.kill()
    killed.wait()
    try:
        assert len(set(os.listdir(tmp_path)) - before) == 2
        remove_leftovers(tmp_path)
        assert len(set(os.listdir(tmp_path)) - before) == 1
        write_atomically(tmp_path / "a", lambda path: path.write_text("whole"))
    finally:
        alive.kill()
        alive.wait()
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == before | {"a"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, lambda name: name.write_text("old"))

    def fail(name: Path) -> None:
        name.write_text("new")
        raise KeyError("half-way")

    with pytest.raises(KeyError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_writer_sees_the_targets_name_and_the_file_has_usual_permissions(tmp_path):
    seen = []
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "grid.png", lambda name: (seen.append(name.name), name.write_bytes(b"")))
        write_atomically(tmp_path / "w.safetensors", lambda name: save_file({"a": torch.zeros(2)}, name))
    finally:
        os.umask(before)
    assert seen == ["grid.png"]
    for name in ("grid.png", "w.safetensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_an_error_of_the_system_names_the_file_and_leaves_the_old_one(call, number, tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    if call != "write":
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"file\.txt") as caught:
        write_atomically(path, fail if call == "write" else lambda name: name.write_text("new"))
    assert caught.value.errno == number
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_what_libraries_write_themselves_is_an_error_of_the_system_too(tmp_path, monkeypatch):
    def full(name: Path) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 598")

    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 0}))
    with pytest.raises(OSError, match=r"last\.ckpt") as caught:
        write_atomically(tmp_path / "last.ckpt", full)
    assert caught.value.errno == errno.ENOSPC

    def no_space(name: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match="model") as caught:
        write_atomically(tmp_path / "model.safetensors", no_space)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="another"):
        write_atomically(tmp_path / "x", lambda name: (_ for _ in ()).throw(RuntimeError("another kind")))


def test_a_temporary_folder_may_be_renamed(tmp_path):
    with temporary_folder(tmp_path / "cache") as folder:
        (folder / "images.bin").write_bytes(b"1")
        os.rename(folder, tmp_path / "cache")
    assert os.listdir(tmp_path) == ["cache"]


def test_a_temporary_file_that_is_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """Between its making and its lock another process may remove it."""
    taken = []
    lock = files._lock

    def steal(handle):
        if not taken:
            taken.append(handle)
            for name in os.listdir(tmp_path):
                os.rmdir(tmp_path / name)
        lock(handle)

    monkeypatch.setattr(files, "_lock", steal)
    write_atomically(tmp_path / "a", lambda path: path.write_text("whole"))
    assert taken
    assert (tmp_path / "a").read_text() == "whole"
