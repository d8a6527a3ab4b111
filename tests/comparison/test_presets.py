from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentdiff.comparison.presets import (
    ImageFacts,
    complete_data_settings,
    gpu_runs,
    preset_evaluations,
    preset_runs,
)
from latentdiff.comparison.reproduce import _with_preset
from latentdiff.comparison.training_plan import read_runs
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.errors import ConfigError
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from latentdiff.stages import reproduce as stage
from latentdiff.training.phases import check_phases

GPU_DATA = ("fashion-mnist", "celeba", "flowers-102", "cifar-10")


@pytest.mark.parametrize("preset", ["small", "medium", "gpu"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32, 48, 64, 96, 128, 256])
def test_rules_make_networks_that_fit(preset, channels, side):
    facts = ImageFacts(side, channels, 500)
    runs = {run.name: run for run in read_runs(preset_runs(preset, facts), [])}
    assert set(preset_evaluations()) == set(runs)
    codec, vae = (runs[name].settings for name in ("autoencoder", "vae_baseline"))
    check_phases(codec.loss, codec.phases, codec.trainer)
    with torch.device("meta"):
        autoencoder = Autoencoder((channels, side, side), codec.network)
        baseline = Autoencoder((channels, side, side), vae.network)
        for name, shape in (("latent", autoencoder.latent_shape), ("pixel", (channels, side, side))):
            network = build_network(shape[0], 3, runs[name].settings.network, shape[0])
            assert network(torch.zeros(2, *shape), torch.zeros(2), torch.zeros(2).long()).shape == (2, *shape)
    assert 7 <= autoencoder.compression <= 25  # roughly tenfold
    assert baseline.latent_shape == (32 * channels, 1, 1)
    assert runs["latent"].is_latent
    assert not runs["pixel"].is_latent


def test_what_depends_on_number_time_and_preset():
    few, many = (preset_runs("small", ImageFacts(64, 3, number)) for number in (500, 50_000))
    assert '"adversarial_weight": 0}' in " ".join(few["autoencoder"])
    assert '"adversarial_weight": 0.3}' in " ".join(many["autoencoder"])
    assert "--network.dropout=0.1" in few["latent"]
    assert "--network.dropout=0.0" in many["latent"]
    short, hour = (read_runs(preset_runs("small", ImageFacts(64, 3, 500), seconds), []) for seconds in (120, None))
    assert sum(run.settings.trainer.max_seconds for run in short) == pytest.approx(120, abs=0.3)
    assert sum(run.settings.trainer.max_seconds for run in hour) == pytest.approx(3600)
    # A look at the samples would take longer than such a run.
    assert [run.settings.quality_images for run in short[2:]] == [0, 0]
    assert [run.settings.quality_images for run in hour[2:]] == [200, 200]

    def weights(preset):
        config = read_runs(preset_runs(preset, ImageFacts(64, 3, 500)), [])[0].settings.network
        with torch.device("meta"):
            return sum(math.prod(each.shape) for each in Autoencoder((3, 64, 64), config).parameters())

    assert 2.5 < weights("medium") / weights("small") < 6
    assert 2.5 < weights("gpu") / weights("medium") < 6
    gpu = read_runs(preset_runs("gpu", ImageFacts(64, 3, 500), 360), [])
    assert sum(run.settings.trainer.max_seconds for run in gpu) == pytest.approx(360, abs=0.3)
    by_name = {run.name: run.settings for run in gpu}
    assert {by_name[name].trainer.memory for name in ("autoencoder", "latent", "pixel")} == {"auto"}
    assert (by_name["latent"].trainer.lr, by_name["autoencoder"].trainer.lr) == (5e-4, 3e-4)


@pytest.mark.parametrize("name", GPU_DATA)
def test_files_for_a_gpu_are_a_recipe(name):
    runs = read_runs(gpu_runs(name), ["--data.name", name])
    assert {run.name for run in runs} - {"vae_baseline"} == {"autoencoder", "latent", "pixel"}
    by_name = {run.name: run.settings for run in runs}
    # Latents and pixels have the same time.
    assert by_name["latent"].trainer.max_seconds == by_name["pixel"].trainer.max_seconds
    for settings in by_name.values():
        assert settings.trainer.memory == "auto"
    for own in ("autoencoder", "latent", "pixel"):
        trainer = by_name[own].trainer
        assert (trainer.precision, trainer.max_images) == ("bf16", None)
        assert trainer.lr_warmup_images < trainer.images_per_epoch * 2


def test_other_data_has_rules_for_a_gpu():
    assert gpu_runs("folder") is None


def test_a_gpu_preset_for_six_minutes(monkeypatch, capsys):
    monkeypatch.setattr("latentdiff.comparison.reproduce.read_facts", lambda data: ImageFacts(28, 1, 60_000))
    settings = _with_preset(ReproduceStage(preset="gpu", budget="6min"))
    assert settings.runs == gpu_runs("fashion-mnist")
    assert set(settings.evaluations) == set(settings.runs)
    cifar = _with_preset(ReproduceStage(preset="gpu", data=DataConfig(name="cifar-10")))
    assert "vae_baseline" not in cifar.evaluations


@pytest.mark.parametrize(
    ("side", "mode", "size", "colour"), [(40, "L", 32, "grey"), (40, "RGB", 32, "auto"), (200, "L", 64, "grey")]
)
def test_a_folders_size_and_colour_are_those_of_its_files(tmp_path, side, mode, size, colour):
    for index in range(3):
        Image.new(mode, (side + 5, side), index).save(tmp_path / f"{index}.png")
    found = complete_data_settings(DataConfig(name="folder", path=str(tmp_path)))
    assert (found.size, found.colour) == (size, colour)
    own = DataConfig(name="folder", path=str(tmp_path), size=48, colour="rgb")
    assert complete_data_settings(own) == own
    assert complete_data_settings(DataConfig()) == DataConfig()


def test_a_preset_beside_a_recipe_or_without_a_data_set_is_refused(tmp_path):
    recipe = Path(tmp_path / "recipe.yaml")
    recipe.write_text(json.dumps({"runs": {"pixel": ["diffusion", "--autoencoder=none"]}}))
    with pytest.raises(ConfigError, match="leave one of them out"):
        stage.main(["--config", str(recipe), "--preset", "small"])
    with pytest.raises(ConfigError, match="the recipe has no runs: give a data set"):
        stage.main([])
