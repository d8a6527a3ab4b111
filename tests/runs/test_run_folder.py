from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from latentdiff import checkpoint
from latentdiff import command_line as cli
from latentdiff.config import RunConfig
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import CheckpointError, FolderError
from latentdiff.folder_mark import content_of
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
    folder = run_folder.prepare(run, "diffusion", "name", resumable=True)
    (folder / "model.safetensors").write_text("precious")
    (folder / "last.ckpt").write_text("precious")
    with pytest.raises(FolderError, match=r"--run\.overwrite"):
        run_folder.prepare(run, "diffusion", "name", resumable=True)
    resumed = RunConfig(folder=run.folder, resume=True)
    with pytest.raises(FolderError, match="does not resume"):
        run_folder.prepare(resumed, "diffusion", "name")
    assert run_folder.prepare(resumed, "diffusion", "name", resumable=True) == folder
    assert (folder / "model.safetensors").read_text() == "precious"
    run_folder.prepare(RunConfig(folder=run.folder, overwrite=True), "diffusion", "name")
    assert [path.name for path in folder.iterdir()] == [run_folder.MARKER]
    both = RunConfig(folder=run.folder, overwrite=True, resume=True)
    with pytest.raises(FolderError, match="cannot be given together"):
        run_folder.prepare(both, "diffusion", "name", resumable=True)
    absent = RunConfig(folder=str(tmp_path / "absent"), resume=True)
    with pytest.raises(FolderError, match="no run to resume"):
        run_folder.prepare(absent, "diffusion", "name", resumable=True)
    assert not (tmp_path / "absent").exists()
    assert str(run_folder.prepare(RunConfig(), "diffusion", "name")) == "stages/diffusion/name"


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        ("diffusion", "a run of the stage diffusion"),
        ("export", "an export"),
        ("evaluate", "an evaluation"),
        ("compare", "a comparison"),
        ("sample", "a set of samples"),
    ],
)
def test_a_message_names_what_the_folder_holds(tmp_path, stage, what):
    run = RunConfig(folder=str(tmp_path / "made"))
    folder = run_folder.prepare(run, stage, "name")
    with pytest.raises(FolderError, match=f"made already holds {what}: name another"):
        run_folder.check(run, stage, "name")
    with pytest.raises(CheckpointError, match=f"made holds {what}, and no model"):
        checkpoint.read_header(folder)
    other = "export" if stage == "compare" else "compare"
    with pytest.raises(FolderError, match=f"made holds {what}, not {content_of(other)}: name another"):
        run_folder.check(RunConfig(folder=run.folder, resume=True), other, "name", resumable=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="mine is a folder, and no model: name a model's file"):
        checkpoint.read_header(tmp_path / "mine")
    with pytest.raises(FolderError, match=f"mine holds other things than {what}: it is not written into"):
        run_folder.check(RunConfig(folder=str(tmp_path / "mine")), stage, "name")


@pytest.mark.parametrize("stage", ["diffusion", "autoencoder"])
@pytest.mark.parametrize("kept", ["model.safetensors", "best.safetensors", "last.safetensors", "previous.ckpt"])
def test_a_run_that_lost_its_checkpoint_is_not_begun_anew_over_what_it_left(tmp_path, stage, kept):
    resumed = RunConfig(folder=str(tmp_path / "run"), resume=True)
    folder = run_folder.prepare(RunConfig(folder=resumed.folder), stage, "name", resumable=True)
    assert run_folder.prepare(resumed, stage, "name", resumable=True) == folder  # killed before its first epoch ended
    (folder / kept).write_text("precious")
    remedy = r"\nmv .*previous\.ckpt .*last\.ckpt" if kept == "previous.ckpt" else "--init .*--run.overwrite"
    with pytest.raises(FolderError, match=f"no last.ckpt to go on from, .* replace its {kept}. .*{remedy}"):
        run_folder.prepare(resumed, stage, "name", resumable=True)
    assert (folder / kept).read_text() == "precious"


def test_a_folder_that_a_run_is_writing_into_is_left_to_it(tmp_path):
    run, asked = RunConfig(folder=str(tmp_path / "run")), RunConfig(folder=str(tmp_path / "run"), overwrite=True)
    with run_folder.opened(run, "diffusion", "name") as folder:
        (folder / "last.ckpt").write_text("half-way")
        for again in (run, asked):
            with pytest.raises(FolderError, match=r"is writing into .*run just now|holds an unfinished run"):
                run_folder.prepare(again, "diffusion", "name")
        with pytest.raises(BlockingIOError), lock.hold(folder):
            pass
        assert (folder / "last.ckpt").is_file()
    assert not lock.is_held(folder)
    run_folder.prepare(asked, "diffusion", "name")
    assert not (folder / "last.ckpt").exists()


def test_a_folder_of_other_work_is_not_overwritten_even_when_asked(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match="other things"):
        run_folder.prepare(RunConfig(folder=str(tmp_path), overwrite=True), "diffusion", "name")
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_of_other_work_is_not_resumed_and_not_marked(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for run in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(FolderError, match="other things"):
            run_folder.prepare(RunConfig(folder=str(tmp_path), **run), "diffusion", "name", resumable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_with_a_setting_that_is_gone_is_not_resumed_in_silence(tmp_path):
    (tmp_path / "config.yaml").write_text("trainer:\n  accumulate: 4\n")
    with pytest.raises(FolderError, match=r"trainer\.accumulate"):
        run_folder.record_config(cli.parse(DiffusionStage, ["--run.resume"]), tmp_path)


def failed_run(run: RunConfig, files: dict[str, str]) -> None:
    """A run that writes some files, and then fails."""
    with suppress(ZeroDivisionError), run_folder.opened(run, "diffusion", "name") as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        raise ZeroDivisionError


def test_an_unfinished_run_without_results_is_begun_again_and_one_with_a_checkpoint_is_not(tmp_path):
    run = RunConfig(folder=str(tmp_path / "run"))
    folder = tmp_path / "run"
    failed_run(run, {"metrics.csv": "images_seen\n", "notes.txt": "mine"})
    failed_run(run, {"last.ckpt": "hours"})
    assert sorted(path.name for path in folder.iterdir()) == [run_folder.MARKER, "last.ckpt", "notes.txt"]
    with pytest.raises(FolderError, match=r"unfinished run of the stage diffusion: .*--run\.resume .*--run\.overwrite"):
        run_folder.prepare(run, "diffusion", "name", resumable=True)
    assert (folder / "last.ckpt").read_text() == "hours"


def test_folders_are_numbered_where_none_is_named():
    for expected in ("stages/sample/name", "stages/sample/name-2", "stages/sample/name-3"):
        run = run_folder.numbered(RunConfig(), "sample", "name")
        assert run.path("sample", "name") == Path(expected)
        run_folder.prepare(run, "sample", "name")
    Path("stages/sample/name-4").mkdir()
    Path("stages/sample/name-4/mine.txt").write_text("a folder of the user's own")
    assert run_folder.numbered(RunConfig(), "sample", "name").folder == "stages/sample/name-5"
    assert run_folder.numbered(RunConfig(overwrite=True), "sample", "name").folder is None
    # One that failed is taken again.
    failed = run_folder.numbered(RunConfig(), "sample", "name")
    with pytest.raises(ZeroDivisionError), run_folder.opened(failed, "sample", "name"):
        raise ZeroDivisionError
    assert run_folder.numbered(RunConfig(), "sample", "name") == failed


def test_a_smaller_budget_than_was_spent_is_refused_and_changes_nothing(tmp_path):
    run_folder.record_config(cli.parse(DiffusionStage, ["--trainer.max_images=100"]), tmp_path)
    (tmp_path / "metrics.csv").write_text("images_seen,seconds,lr\n40,1.5,\n104,3.5,\n")
    before = (tmp_path / "config.yaml").read_bytes()
    for lower in ("--trainer.max_images=60", "--trainer.max_seconds=3"):
        config = cli.parse(DiffusionStage, ["--run.resume", "--trainer.max_images=100", lower])
        with pytest.raises(FolderError, match=r"already, more than trainer\.max_"):
            run_folder.record_config(config, tmp_path)
    assert (tmp_path / "config.yaml").read_bytes() == before
    # The same budget, which the last step went beyond, and a greater one.
    for images in (100, 200):
        run_folder.record_config(
            cli.parse(DiffusionStage, ["--run.resume", f"--trainer.max_images={images}"]), tmp_path
        )


def test_damaged_settings_are_said_to_be(tmp_path):
    for text in ("", "[1, 2]", "a: [", "\x00"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(FolderError, match=r"config\.yaml is damaged"):
            run_folder.record_config(cli.parse(DiffusionStage, ["--run.resume"]), tmp_path)


def test_names_of_a_models_folder(tmp_path):
    for name, expected in (
        ("checkpoints/flowers-102/latent.safetensors", "flowers-102-latent"),
        ("runs/mine/model.safetensors", "mine"),
        ("runs/mine/last.safetensors", "mine"),
        ("runs/v1.5/best.safetensors", "v1.5-best"),
        ("elsewhere/theirs.safetensors", "theirs"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        (path.parent / run_folder.MARKER).touch()
        assert run_folder.folder_name(path) == expected
    assert run_folder.folder_name(tmp_path / "runs" / "v1.5") == "v1.5"


@pytest.mark.parametrize("said", ["resume", "overwrite"])
def test_resume_and_overwrite_need_a_folder(said):
    settings = DiffusionStage(run=RunConfig(**{said: True}))
    with pytest.raises(FolderError, match="need folder="), run_folder.training_folder(settings, "diffusion", "name"):
        pass


@pytest.mark.parametrize("inside", ["", "last.ckpt", "model.safetensors"])
def test_a_run_does_not_overwrite_the_weights_that_it_starts_from(tmp_path, inside):
    run = RunConfig(folder=str(tmp_path / "run"))
    with run_folder.opened(run, "diffusion", "name", resumable=True):
        for name in ("last.ckpt", "model.safetensors"):
            (tmp_path / "run" / name).write_text("weights")
    settings = DiffusionStage(init=str(tmp_path / "run" / inside), run=RunConfig(folder=run.folder, overwrite=True))
    said = "run would be overwritten, but .* is read from it"
    with pytest.raises(FolderError, match=said), run_folder.training_folder(settings, "diffusion", "name"):
        pass
    assert (tmp_path / "run" / "last.ckpt").read_text() == "weights"
