from __future__ import annotations

import pytest

from latentdiff import command_line as cli
from latentdiff.config import RunConfig
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import FolderError
from latentdiff.runs import lock, run_folder


def test_a_resumed_run_must_have_its_settings_but_may_have_another_budget(tmp_path):
    run_folder.record_config(cli.parse(DiffusionStage, ["--trainer.max_images=10"]), tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    changed = ["--run.resume", "--trainer.max_images=20"]
    with pytest.raises(FolderError, match=r"trainer\.seed was 0, is 1"):
        run_folder.record_config(cli.parse(DiffusionStage, [*changed, "--trainer.seed=1"]), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == before
    run_folder.record_config(cli.parse(DiffusionStage, changed), tmp_path)
    assert "max_images: 20" in (tmp_path / "config.yaml").read_text()


def test_run_folders_are_never_overwritten_unasked(tmp_path):
    run = RunConfig(folder=str(tmp_path / "run"))
    folder = run_folder.prepare(run, "stage", "name")
    (folder / "model.safetensors").write_text("precious")
    with pytest.raises(FolderError, match=r"--run\.overwrite"):
        run_folder.prepare(run, "stage", "name")
    resumed = RunConfig(folder=run.folder, resume=True)
    with pytest.raises(FolderError, match="does not resume"):
        run_folder.prepare(resumed, "stage", "name")
    assert run_folder.prepare(resumed, "stage", "name", resumable=True) == folder
    assert (folder / "model.safetensors").read_text() == "precious"
    run_folder.prepare(RunConfig(folder=run.folder, overwrite=True), "stage", "name")
    assert [path.name for path in folder.iterdir()] == [run_folder.MARKER]
    with pytest.raises(FolderError, match="cannot both"):
        run_folder.prepare(RunConfig(folder=run.folder, overwrite=True, resume=True), "stage", "name", resumable=True)
    absent = RunConfig(folder=str(tmp_path / "absent"), resume=True)
    with pytest.raises(FolderError, match="no run to resume"):
        run_folder.prepare(absent, "stage", "name", resumable=True)
    assert str(run_folder.prepare(RunConfig(), "stage", "name")) == "stages/stage/name"


def test_a_folder_that_a_run_is_writing_into_is_left_to_it(tmp_path):
    run, asked = RunConfig(folder=str(tmp_path / "run")), RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    folder = run_folder.prepare(run, "stage", "name")
    (folder / "last.ckpt").write_text("half-way")
    with lock.hold(folder):
        with pytest.raises(FolderError, match=r"a run is writing into .*run just now"):
            run_folder.prepare(asked, "stage", "name")
        with pytest.raises(BlockingIOError), lock.hold(folder):
            pass
        assert (folder / "last.ckpt").is_file()
    assert not lock.is_held(folder)
    run_folder.prepare(asked, "stage", "name")
    assert not (folder / "last.ckpt").exists()


def test_a_folder_of_other_work_is_not_overwritten_even_when_asked(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match="other things"):
        run_folder.prepare(RunConfig(folder=str(tmp_path), overwrite=True), "stage", "name")
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_of_other_work_is_not_resumed_and_not_marked(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for run in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(FolderError, match="other things"):
            run_folder.prepare(RunConfig(folder=str(tmp_path), **run), "stage", "name", resumable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_with_a_setting_that_is_gone_is_not_resumed_in_silence(tmp_path):
    (tmp_path / "config.yaml").write_text("trainer:\n  accumulate: 4\n")
    with pytest.raises(FolderError, match=r"trainer\.accumulate"):
        run_folder.record_config(cli.parse(DiffusionStage, ["--run.resume"]), tmp_path)
