"""What a run removes: its own files by name, and nothing else, whatever lies beside them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from latentdiff.config import RunConfig
from latentdiff.errors import FolderError
from latentdiff.files import is_temporary, write_atomically
from latentdiff.folder_mark import MARKER, read_mark
from latentdiff.runs import own_files, run_folder

WRITTEN = {
    "diffusion": ["metrics.csv", "last.ckpt", "model.safetensors", "samples/000000032.png", "hparams.yaml"],
    "sample": ["grid.png", "images/000000.png", "samples.npz", "likelihood.json"],
    "evaluate": ["evaluation.json", "grid.png"],
}
STRANGE = (
    ".hidden",
    "thesis.tex",
    "model.safetensors.bak",
    "grid (1).png",
    "last.ckpt~",
    "samples/my own.png",
    "samples/32.png",
    "images/cat.png",
    "photos/deep/é ünï.jpg",
    "日本語.txt",
    " ",
    "-rf",
    "read-only/notes.txt",
    ".latentdiff-tmp-mine",
    ".model.safetensors-backup",
    "events.out.notes",
)


class Killed(BaseException):
    """The process is gone: nothing after it runs but the system's own releases."""


def strange_files(random_numbers: random.Random, folder: Path, outside: Path, count: int) -> None:
    """Put some of the strange files, and links out of the folder, beside whatever is there."""
    for name in random_numbers.sample(STRANGE, count):
        path = folder / name
        if any(part.is_symlink() or part.is_file() for part in path.parents if part != folder):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(random_numbers.randbytes(20))
            path.chmod(random_numbers.choice((0o644, 0o444)))
    for name in random_numbers.sample(("link out", "photos", "samples", "images", "evaluation"), 1):
        if not os.path.lexists(folder / name):
            (folder / name).symlink_to(outside)


def foreign(folder: Path, own: set[str]) -> dict[str, bytes | str]:
    """The content of each file, and the target of each link, that no run wrote."""
    found: dict[str, bytes | str] = {}
    for root, folders, files in os.walk(folder):
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(root, name)))]:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if any(is_temporary(part) for part in path.relative_to(folder).parts):
                continue
            if path.is_symlink():
                found[relative] = os.readlink(path)
            elif relative not in own:
                found[relative] = path.read_bytes()
    return found


@pytest.mark.parametrize("seed", range(60))
def test_foreign_files_never_change(seed, tmp_path, monkeypatch):
    """Random sequences of new, resume, overwrite and kill at the n-th change of a file, by a stub of a run."""
    random_numbers = random.Random(seed)
    folder, outside = tmp_path / "run", tmp_path / "outside"
    (outside / "samples").mkdir(parents=True)
    for name in ("000000032.png", "000000.png", "model.safetensors", "precious.txt"):
        (outside / name).write_bytes(random_numbers.randbytes(20))
    was_outside = foreign(outside, set())
    if random_numbers.random() < 0.3:
        folder.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
    if random_numbers.random() < 0.4:
        folder.mkdir(exist_ok=True)
        strange_files(random_numbers, folder, outside, 4)
    state = {"budget": 10**9}

    def counted(function):
        def call(*arguments, **keywords):
            if (budget := state["budget"]) == 0:
                raise Killed
            state["budget"] = budget - 1
            return function(*arguments, **keywords)

        return call

    for name in ("replace", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    own = {name for names in WRITTEN.values() for name in names} | {MARKER, "config.yaml"}
    for _ in range(8):
        stage = random_numbers.choice([*WRITTEN])
        kind = random_numbers.choice(({}, {}, {"resume": True}, {"overwrite": True}, {"overwrite": True}))
        before = foreign(folder, own) if folder.is_dir() else {}
        state["budget"] = random_numbers.choice((10**9, 10**9, random_numbers.randrange(30)))
        try:
            with run_folder.opened(RunConfig(folder=str(folder), **kind), stage, "name", resumable=True):
                for name in WRITTEN[stage]:
                    write_atomically(folder / name, lambda path: path.write_bytes(b"ours"))
        except (FolderError, Killed):
            pass
        state["budget"] = 10**9
        assert (foreign(folder, own) if folder.is_dir() else {}) == before
        assert foreign(outside, set()) == was_outside
        if read_mark(folder) is not None and random_numbers.random() < 0.5:
            strange_files(random_numbers, folder, outside, 3)
    # Where a run has ever begun, overwriting it works, however it ended.
    if (mark := read_mark(folder)) and not any((folder / name).is_symlink() for name in ("samples", "images")):
        run_folder.prepare(RunConfig(folder=str(folder), overwrite=True), mark.stage, "name")


def test_a_kill_during_the_removal_leaves_a_folder_that_the_same_command_overwrites(tmp_path, monkeypatch):
    run = RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    for killed_at in range(12):
        folder = run_folder.prepare(run, "diffusion", "name")
        for name in WRITTEN["diffusion"]:
            write_atomically(folder / name, lambda path: path.write_bytes(b"ours"))
        calls = [0]
        unlink = os.unlink

        def kill(*arguments, calls=calls, unlink=unlink, killed_at=killed_at, **keywords):
            calls[0] += 1
            if calls[0] > killed_at:
                raise Killed
            return unlink(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", kill)
            try:
                run_folder.prepare(run, "diffusion", "name")
            except Killed:
                assert read_mark(folder) is not None
                assert not ((folder / "last.ckpt").exists() and not (folder / "metrics.csv").exists())
        run_folder.prepare(run, "diffusion", "name")
        assert [path.name for path in folder.iterdir()] == [MARKER]


def test_a_folder_behind_a_link_is_emptied_and_stays_linked(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    run = RunConfig(folder=str(tmp_path / "run"))
    run_folder.prepare(run, "sample", "name")
    (tmp_path / "disk" / "grid.png").touch()
    (tmp_path / "disk" / "notes.txt").touch()
    run_folder.prepare(RunConfig(folder=run.folder, overwrite=True), "sample", "name")
    assert (tmp_path / "run").is_symlink()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [MARKER, "notes.txt"]


def test_a_run_does_not_write_through_a_link_out_of_its_folder(tmp_path):
    run = RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    folder = run_folder.prepare(run, "diffusion", "name")
    (tmp_path / "photos").mkdir()
    (folder / "samples").symlink_to(tmp_path / "photos")
    with pytest.raises(FolderError, match="samples is a link"):
        run_folder.prepare(run, "diffusion", "name")


def test_a_file_of_another_that_has_a_new_runs_name_is_not_lost(tmp_path):
    run = RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    folder = run_folder.prepare(run, "sample", "name")
    (folder / "model.safetensors").write_text("downloaded")
    run_folder.prepare(run, "sample", "name")
    with pytest.raises(FolderError, match=r"model\.safetensors is no file of latentdiff, and would be lost"):
        run_folder.prepare(run, "diffusion", "name")
    assert (folder / "model.safetensors").read_text() == "downloaded"


def test_runs_inside_a_run_go_with_it_and_what_has_no_mark_stays(tmp_path):
    run = RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    folder = run_folder.prepare(run, "demo", "name")
    for name, stage in (("latent", "diffusion"), ("evaluate/noise", "evaluate")):
        run_folder.prepare(RunConfig(folder=str(folder / name)), stage, "name")
    (folder / "pixel").mkdir()
    for name in ("latent/model.safetensors", "latent/notes.txt", "evaluate/noise/grid.png", "pixel/model.safetensors"):
        (folder / name).touch()
    run_folder.prepare(run, "demo", "name")
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert left == [MARKER, f"latent/{MARKER}", "latent/notes.txt", "pixel/model.safetensors"]
    assert not (folder / "evaluate").exists()
    run_folder.prepare(RunConfig(folder=str(folder / "latent")), "diffusion", "name")  # which begins there again


def test_the_mark_of_a_hostile_folder_names_no_file_outside(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "precious").write_text("years")
    names = ["../precious", str(tmp_path / "precious"), "a/../../precious", ".", "..", MARKER, 3, None]
    (folder / MARKER).write_text(str({"stage": "sample", "files": names}).replace("'", '"').replace("None", "null"))
    assert read_mark(folder).files == ()
    run_folder.prepare(RunConfig(folder=str(folder), overwrite=True), "sample", "name")
    assert (tmp_path / "precious").read_text() == "years"


def test_every_name_is_of_a_file_inside():
    for patterns in own_files.OWN_FILES.values():
        assert not any(pattern.startswith(("/", ".*", r"\.\.")) for pattern in patterns)
