"""Trackers get all of a run, and none of them can end a training. The libraries themselves are in the slow tests."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import Logger
from safetensors.torch import load_file

from latentdiff import load_dataset, train_autoencoder
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DataConfig, RunConfig, TrainerConfig
from latentdiff.errors import ConfigError
from latentdiff.folder_mark import Mark, write_mark
from latentdiff.runs import own_files
from latentdiff.stages import autoencoder
from latentdiff.training.trackers import tracked as tracked_module
from latentdiff.training.trackers import wandb_tracker
from latentdiff.training.trackers.guarded import GuardedLogger
from latentdiff.training.trackers.tracked import check
from latentdiff.training.trackers.tracker import Tracker

TRAINER = {"images_per_epoch": 32, "batch_size": 16, "accelerator": "cpu"}
CALLS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")


class Recorder(Logger):
    """A logger that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.rows, self.settings = [], []

    @property
    def name(self):
        return "recorder"

    @property
    def version(self):
        return "one"

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params, *args, **kwargs):
        self.settings.append(params)


class Raising(Recorder):
    """A logger whose calls all fail; it counts them."""

    calls = 0

    def __getattribute__(self, name):
        if name in CALLS or name in ("name", "version"):
            Raising.calls += 1
            raise ConnectionError(f"no answer to {name}\nand more")
        return super().__getattribute__(name)


class FakeTracker(Tracker):
    """A tracker of the test's own, in place of W&B. ``fails`` names the call that raises."""

    library = "wandb"
    runs, pictures, files, ends = [], [], [], []
    fails = ""

    def __init__(self):
        for made in (self.runs, self.pictures, self.files, self.ends):
            made.clear()

    def _maybe_fail(self, call):
        if self.fails == call:
            raise TimeoutError(f"{call} took too long")

    def open(self, run):
        self._maybe_fail("open")
        self.runs.append(run)
        self.logger = Recorder()
        return self.logger

    def where(self, logger, run):
        return "nowhere"

    def run_id(self, logger):
        return "id-7"

    def log_picture(self, logger, path, step):
        self._maybe_fail("log_picture")
        self.pictures.append((path, step))

    def log_files(self, logger, run, paths):
        self._maybe_fail("log_files")
        self.files += paths

    def finish(self, logger, succeeded):
        self.ends.append((logger.rows, logger.settings, succeeded))


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataConfig(source="embedded", max_train_images=48))


@pytest.fixture
def train(data):
    """Trains a small autoencoder."""

    def run(names=("csv", "tensorboard"), max_images=64, **kwargs):
        return train_autoencoder(
            data,
            network=AutoencoderConfig(channels=(8, 8, 8), decoder_blocks=1, attention=False),
            loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
            validation_images=16,
            trainer=TrainerConfig(**TRAINER, max_images=max_images, loggers=names),
            **kwargs,
        )

    return run


@pytest.fixture
def fake(monkeypatch):
    """W&B is a fake."""
    monkeypatch.setitem(tracked_module.TRACKERS, "wandb", FakeTracker)
    monkeypatch.setattr(tracked_module, "import_extra", lambda *names: None)
    monkeypatch.setattr(FakeTracker, "fails", "")
    return FakeTracker


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_is_the_last(call, capsys):
    Raising.calls = 0
    guarded = GuardedLogger(Raising())
    for name in (call, *CALLS):
        getattr(guarded, name)("argument") if name != "save" else guarded.save()
    assert guarded.failed
    assert guarded.name is None
    assert guarded.version is None
    assert Raising.calls == 1
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Raising failed: no answer to {call}. The training goes on without it."]


def test_a_logger_that_raises_changes_nothing_in_a_training(train, capsys, tmp_path):
    plain = train(folder=tmp_path / "plain")
    capsys.readouterr()
    crashed = train(folder=tmp_path / "crashed", loggers=[Raising()])
    assert capsys.readouterr().out.count("The training goes on without it.") == 1
    assert all(
        torch.equal(one, other) for one, other in zip(plain.state().values(), crashed.state().values(), strict=True)
    )
    names = [{path.name.split(".")[0] for path in (tmp_path / run).iterdir()} for run in ("plain", "crashed")]
    assert names[0] == names[1]
    assert {"metrics", "hparams", "events"} < names[0]  # of the loggers that a run has by default
    assert "trackers" not in names[0]


def test_a_tracker_gets_settings_metrics_grids_and_results(train, fake, tmp_path, capsys):
    model = train(("csv", "wandb"), folder=tmp_path / "mine")
    run = tmp_path / "mine"
    assert fake.runs[0].name == "mine"
    assert fake.runs[0].earlier is None
    rows, settings, succeeded = fake.ends[0]
    assert succeeded
    assert settings[0]["trainer"]["max_images"] == 64
    assert [step for step, _ in rows] == [32, 64]
    assert rows[-1][1] == {key: value for key, value in model.metrics[-1].items() if key != "images_seen"}
    assert fake.pictures == [(run / "samples" / f"{seen:09d}.png", seen) for seen in (32, 64)]
    assert [path.name for path in fake.files] == ["model.safetensors", "metrics.csv", "config.yaml"]
    assert "wandb: nowhere" in capsys.readouterr().out
    assert json.loads((run / "trackers.json").read_text()) == {"wandb": "id-7"}
    assert not list(run.glob("events*"))
    # Resumed, also there.
    train(("csv", "wandb"), max_images=96, folder=run, resume=True)
    assert fake.runs[0].earlier == "id-7"
    assert [step for step, _ in fake.ends[0][0]] == [96]


@pytest.mark.parametrize("call", ["open", "log_files"])
def test_a_tracker_that_fails_is_left_out(train, fake, monkeypatch, tmp_path, capsys, call):
    monkeypatch.setattr(fake, "fails", call)
    train(("csv", "wandb"), max_images=32, folder=tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count(f"wandb failed: {call} took too long. The training goes on without it.") == 1
    assert load_file(tmp_path / "run" / "model.safetensors")
    assert fake.ends == []


def test_a_training_that_fails_ends_in_the_tracker_too(train, fake, tmp_path):
    class Stop(Recorder):
        def log_metrics(self, metrics, step=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(("csv", "wandb"), folder=tmp_path / "run", loggers=[Stop()])
    assert [succeeded for _, _, succeeded in fake.ends] == [False]
    assert fake.files == []


def test_no_loggers_leave_no_files_of_theirs(train, tmp_path):
    train((), max_images=32, folder=tmp_path / "run")
    assert not {"metrics.csv", "hparams.yaml"} & {path.name for path in (tmp_path / "run").iterdir()}
    assert not list((tmp_path / "run").glob("events*"))


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_touched(monkeypatch, tiny):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is not installed: pip install 'latentdiff\[wandb\]'"):
        autoencoder.main([*tiny.trainer, *tiny.codec, "--trainer.loggers=csv,wandb", "--run.folder=run"])
    assert not Path("run").exists()


def test_a_tracker_needs_a_folder(fake):
    with pytest.raises(ConfigError, match="folder="):
        check(TrainerConfig(loggers=("wandb",)), RunConfig())


def test_wandb_is_offline_without_a_key(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_tracker.mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert wandb_tracker.mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_tracker.mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_tracker.mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_tracker.mode() == "disabled"


def test_what_trackers_leave_in_a_run_s_folder_is_removed_with_it(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    wandb = "wandb/offline-run-20260102_030405-abc123"
    mlflow = f"mlflow/artifacts/{'0a' * 16}/artifacts"
    theirs = ["mlflow/mlflow.db", f"{mlflow}/model.safetensors", f"{mlflow}/samples/000000032.png", "trackers.json"]
    theirs += [f"{wandb}/{name}" for name in ("run-abc123.wandb", "files/requirements.txt", "logs/debug-core.log")]
    theirs += [f"{wandb}/files/media/images/samples_1_4a0945534329d26ce523.png"]
    mine = ["wandb/notes.txt", f"{wandb}/files/notes.txt", "mlflow/other.db", f"{mlflow}/thesis.tex"]
    for name in (*theirs, *mine):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    (run / wandb / "tmp" / "code").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to(run / wandb)
    (run / "wandb" / "elsewhere").symlink_to(outside)
    write_mark(run, Mark("autoencoder"))
    own_files.remove_run(run, "autoencoder")
    left = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() or path.is_symlink()}
    assert left == {*mine, "wandb/elsewhere", ".latentdiff"}
    assert (outside / "mine.txt").read_text() == "mine"
    assert not (run / wandb / "tmp").exists()


@pytest.mark.slow
def test_wandb_keeps_a_run_offline(train, monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = tmp_path / "run"
    train(("csv", "wandb"), folder=run)
    said = capsys.readouterr().out
    assert "wandb sync" in said
    assert "goes on without" not in said
    (log,) = run.glob("wandb/offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for text in (b"reconstruction", b"max_images", b"model.safetensors"):
        assert text in content
    assert len(list(log.parent.glob("files/media/images/samples_*.png"))) == 2
    assert_nothing_is_left(run)


@pytest.mark.slow
def test_mlflow_keeps_a_run_in_its_folder(train, monkeypatch, tmp_path, capsys):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    train(("csv", "mlflow"), folder=run)
    assert "goes on without" not in capsys.readouterr().out
    client = mlflow.tracking.MlflowClient(f"sqlite:///{run}/mlflow/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("latentdiff").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["trainer/max_images"] == "64"
    history = client.get_metric_history(found.info.run_id, "reconstruction")
    assert [entry.step for entry in history] == [32, 64]
    names = {entry.path for entry in client.list_artifacts(found.info.run_id)}
    assert names == {"samples", "model.safetensors", "metrics.csv", "config.yaml"}
    assert len(client.list_artifacts(found.info.run_id, "samples")) == 2
    train(("csv", "mlflow"), max_images=96, folder=run, resume=True)
    assert [entry.step for entry in client.get_metric_history(found.info.run_id, "reconstruction")] == [32, 64, 96]
    assert_nothing_is_left(run)


@pytest.mark.slow
def test_mlflow_without_its_server_is_left_out(train, monkeypatch, tmp_path, capsys):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(("csv", "mlflow"), folder=tmp_path / "run")
    assert capsys.readouterr().out.count("mlflow failed: ") == 1
    assert load_file(tmp_path / "run" / "model.safetensors")


@pytest.mark.slow
def test_trackio_keeps_a_run_in_the_user_s_database(train, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # which is read once, at the first import
    trackio = pytest.importorskip("trackio", reason="the extra trackio is not installed")
    from trackio.utils import TRACKIO_DIR

    name = tmp_path.parent.name + tmp_path.name
    train(("csv", "trackio"), folder=tmp_path / name)
    said = capsys.readouterr().out
    assert "trackio show --project latentdiff" in said
    assert "goes on without" not in said
    with sqlite3.connect(Path(TRACKIO_DIR) / "latentdiff.db") as database:
        rows = database.execute("select step, metrics from metrics where run_name = ? order by id", [name]).fetchall()
    assert trackio.__version__
    assert [step for step, metrics in rows if "reconstruction" in str(metrics)] == [32, 64]
    assert [step for step, metrics in rows if "samples" in str(metrics)] == [32, 64]


def assert_nothing_is_left(run):
    """Remove a run, and see that nothing of its trackers stays."""
    own_files.remove_run(run, "autoencoder")
    assert [path.name for path in run.iterdir()] == [".latentdiff"]
