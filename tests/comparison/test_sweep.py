from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from latentdiff.comparison import cached_runs
from latentdiff.comparison.sweep import check_sweep, run_sweep, settings_file
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import SweepStage
from latentdiff.errors import ConfigError, FolderError, StageError
from latentdiff.stages import autoencoder, sweep

DATA = ["--data.source=embedded", "--trainer.max_images=32", "--trainer.batch_size=16", "--trainer.accelerator=cpu"]
CODEC = [
    "--network.channels=[8,16,16]",
    "--network.decoder_blocks=1",
    "--network.attention=false",
    "--validation_images=16",
]
CODEC += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0"]
SHARED = ["--network.channels=[8]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
SHARED += ["--network.middle_attention=false", "--validation_images=16", "--trainer.accelerator=cpu"]


def arguments(runs, **more):
    settings = {"flags": SHARED, "runs": runs, **more}
    sizes = ["--seconds=0.2", "--num_images=20", "--finalists=1", "--finalist_images=10", "--data.source=embedded"]
    return [*sizes, *(f"--{key}={json.dumps(value)}" for key, value in settings.items())]


@pytest.fixture(autouse=True)
def without_a_network(tmp_path, monkeypatch):
    for module in ("evaluation.feature_nets", "models.lpips"):
        monkeypatch.setattr(f"latentdiff.{module}.server_answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))


@pytest.mark.slow
def test_runs_are_made_once_ranked_and_added_to(trainings):
    autoencoder.main([*DATA, *CODEC])
    sweep.main(arguments({"base": [], "wide": ["--network.channels=[16]"]}))
    assert len(trainings) == 2
    folder = Path("stages/sweep/fashion-mnist-sweep/0.2-seconds")
    record = json.loads((folder / "sweep.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    assert rows["wide"]["parameters"] > rows["base"]["parameters"]
    first, second = record["rows"]
    assert first["distance"] <= second["distance"]
    assert first["finalist"]["num_images"] == 10
    assert "finalist" not in second
    assert "| wide | `--network.channels=[16]` |" in (folder / "sweep.md").read_text()
    sweep.main(arguments({"base": [], "wide": ["--network.channels=[16]"], "edm": ["--diffusion.target=edm"]}))
    assert len(trainings) == 3
    assert len(json.loads((folder / "sweep.json").read_text())["rows"]) == 3
    with pytest.raises(FolderError, match=r"other settings: diffusion\.target was v, is x0"):
        sweep.main(arguments({"base": ["--diffusion.target=x0"], "wide": ["--network.channels=[16]"]}))


@pytest.mark.slow
def test_settings_are_read_by_one_thread_alone(trainings, monkeypatch):
    """Whoever reads a settings file changes the working directory meanwhile, which all threads share."""
    autoencoder.main([*DATA, *CODEC])
    runs = {"base": [], "wide": ["--network.channels=[16]"]}
    sweep.main(arguments(runs))
    read = cached_runs.parse_settings

    def watched(*args):
        assert threading.current_thread() is threading.main_thread()
        return read(*args)

    monkeypatch.setattr(cached_runs, "parse_settings", watched)
    sweep.main([*arguments(runs), "--jobs=2"])
    assert len(trainings) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"runs": {"alone": []}}, "at least two"),
        ({"runs": {"a": [], "b/c": []}}, "'b/c' is not possible"),
        ({"runs": {"a": [], "": []}}, "'' is not possible"),
        ({"runs": {"a": [], "b": []}, "jobs": 0}, "jobs must be a whole number from 1"),
        ({"runs": {"a": [], "b": []}, "seconds": 0}, "seconds must be a number above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(settings, said, trainings):
    with pytest.raises(ValueError, match=said):
        run_sweep(SweepStage(**settings))
    assert not trainings


def test_tables_of_another_are_not_lost(monkeypatch):
    folder = Path("stages/sweep/fashion-mnist-sweep/300-seconds")
    folder.mkdir(parents=True)
    (folder / "sweep.md").write_text("mine")
    monkeypatch.setattr("latentdiff.comparison.sweep._train", lambda *_: {})
    settings = SweepStage(runs={"a": [], "b": []}, data=DataConfig(source="embedded"))
    with pytest.raises(FolderError, match=r"sweep\.md in it would be lost: move it away"):
        run_sweep(settings)
    assert (folder / "sweep.md").read_text() == "mine"
    (folder / "sweep.md").unlink()
    for _ in range(2):
        assert run_sweep(settings) == folder


def test_every_run_of_the_shipped_sweep_can_be_built():
    from latentdiff import command_line as cli

    config = cli.parse(SweepStage, ["--config", "configs/fashion-mnist/sweep.yaml"])
    check_sweep(config)
    assert len(config.runs) >= 12


def test_a_network_that_cannot_be_built_is_refused_before_any_work(trainings):
    runs = {"base": [], "odd": ["--network.channels=[48]", "--network.attention_levels=[0]"]}
    with pytest.raises(ValueError, match=r"the run odd: 48 channels cannot be divided"):
        sweep.main(arguments(runs))
    assert not trainings


def test_a_process_that_cannot_be_trained_is_refused_before_any_work(trainings):
    runs = {"base": [], "eps": ["--diffusion.target=eps", "--diffusion.schedule=cosine"]}
    with pytest.raises(ConfigError, match="the run eps: the eps target does not go with the cosine schedule"):
        sweep.main(arguments(runs))
    assert not trainings


def test_an_unknown_flag_of_a_run_ends_the_sweep_before_any_work(trainings):
    with pytest.raises(ConfigError, match="chanels"):
        sweep.main(arguments({"base": [], "typo": ["--network.chanels=[16]"]}))
    assert not trainings


@pytest.mark.slow
def test_a_run_of_several_at_a_time_that_fails_names_its_log(tmp_path):
    with pytest.raises(StageError, match=r"run\.log"):
        cached_runs.train_once(
            "diffusion", ["--data.root=nowhere", "--data.name=cifar-10"], tmp_path / "run", tmp_path / "run.log"
        )
    assert "error" in (tmp_path / "run.log").read_text()


def test_data_without_a_shipped_file_of_settings_need_one_named():
    data = DataConfig(name="folder", path="photos")
    with pytest.raises(ConfigError, match="no file of settings for folder: give one with --settings"):
        settings_file(SweepStage(data=data))
    assert settings_file(SweepStage(data=data, settings="mine.yaml")) == "mine.yaml"
    assert settings_file(SweepStage()) == "fashion-mnist/latent.yaml"


def test_a_run_on_other_images_than_those_it_is_ranked_by_is_refused(trainings):
    runs = {"base": [], "other": ["--data.split_seed=1"]}
    with pytest.raises(
        ConfigError, match=r"the run other: data\.split_seed is 1 in training, but 0 for the images that"
    ):
        sweep.main(arguments(runs))
    assert not trainings


def test_models_that_read_captions_can_be_swept():
    runs = {"a": [], "b": ["--trainer.lr=1e-3"]}
    check_sweep(SweepStage(runs=runs, data=DataConfig(name="fashion-mnist-coloured")))
