from __future__ import annotations

from pathlib import Path

import pytest

from latentdiff.command_line import parse
from latentdiff.comparison.recipe import read_recipe
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.errors import ConfigError

RUNS = {
    "latent": ["diffusion"],
    "latent-large": ["diffusion"],
    "guide": ["diffusion"],
    "pixel": ["diffusion", "--autoencoder=none"],
    "autoencoder": ["autoencoder"],
}
EVALUATIONS = {
    "latent": [],
    "latent-guided": ["--guide=guide", "--guidance_scale", "2"],
    "latent-large": [],
    "pixel": [],
}


def recipe(**changes):
    return read_recipe(ReproduceStage(**({"runs": RUNS, "evaluations": EVALUATIONS} | changes)))


def names(planned):
    return {each.name for each in planned}


def test_a_chosen_model_comes_with_its_guide_and_its_autoencoder():
    assert names(recipe().chosen(["latent"]).runs) == {"latent", "guide", "autoencoder"}
    assert names(recipe().chosen(["pixel"]).runs) == {"pixel"}
    assert names(recipe().chosen([]).runs) == set(RUNS)


def test_only_chosen_models_are_measured_and_each_under_its_own_name():
    assert names(recipe().chosen(["latent"]).evaluations) == {"latent", "latent-guided"}
    assert names(recipe().chosen(["latent-large"]).evaluations) == {"latent-large"}
    assert {each.name: each.run for each in recipe().evaluations}["latent-large"] == "latent-large"


@pytest.mark.parametrize("flags", [["--guide=guide", "--steps", "5"], ["--guide", "guide", "--steps", "5"]])
def test_a_guide_is_a_run_in_either_spelling(flags):
    [evaluation] = recipe(evaluations={"latent": flags}).evaluations
    assert evaluation.guide == "guide"
    assert evaluation.flags_with(Path("shelf")) == ["--guide", "shelf/guide.safetensors", "--steps", "5"]
    wrong = ["nobody" if flag == "guide" else flag.replace("=guide", "=nobody") for flag in flags]
    with pytest.raises(ConfigError, match=r"evaluations\.latent: --guide nobody is not a run"):
        recipe(evaluations={"latent": wrong})


@pytest.mark.parametrize(
    "flag",
    [
        "--num_images=50000",
        "--real-images=5",
        "--ema=0.1",
        "--devices=2",
        "--data.hflip=true",
        "--name=mine",
        "--lpips=off",
    ],
)
def test_what_is_the_same_for_all_models_is_not_set_for_one(flag):
    setting = flag.removeprefix("--").split("=")[0].split(".")[0].replace("-", "_")
    with pytest.raises(ConfigError, match=rf"evaluations\.latent sets {setting}, which is the same for all"):
        recipe(evaluations={"latent": [flag]})


@pytest.mark.parametrize("name", ["report", "release", "evaluate", "latents", "features"])
def test_a_run_does_not_take_the_folder_of_other_results(name):
    with pytest.raises(ConfigError, match=rf"runs\.{name}: the folder {name} holds other results"):
        recipe(runs={name: ["autoencoder"]}, evaluations={})


def test_a_run_on_other_images_than_those_it_is_measured_against_is_refused():
    runs = {"autoencoder": ["autoencoder", "--config=celeba/autoencoder.yaml"]}
    said = 'data.name is "celeba" in training, but "fashion-mnist" for the images that samples are measured against'
    with pytest.raises(ConfigError, match=rf"runs\.autoencoder: {said}"):
        recipe(runs=runs, evaluations={})
    assert recipe(runs=runs, evaluations={}, data=DataConfig(name="celeba")).runs


def test_a_data_setting_that_a_shipped_recipe_has_changed_can_be_set_back():
    def data_of(*flags):
        return {run.settings.data for run in read_recipe(parse(ReproduceStage, list(flags))).runs}

    assert {data.hflip for data in data_of("--config=celeba/reproduce.yaml")} == {True}
    changed = data_of("--config=celeba/reproduce.yaml", "--data.hflip=false", "--data.size=32")
    assert {(data.hflip, data.size) for data in changed} == {(False, 32)}
    assert {data.val_images for data in data_of("--config=fashion-mnist/reproduce.yaml")} == {5000}
    none = data_of("--config=fashion-mnist/reproduce.yaml", "--data.val_images=null", "--data.split=fractions")
    assert {(data.val_images, data.split) for data in none} == {(None, "fractions")}


def test_guidance_by_classes_is_told_from_that_by_another_model():
    for name, expected in (("flowers-102", ["latent-guided"]), ("celeba", [])):
        found = read_recipe(parse(ReproduceStage, [f"--config={name}/reproduce.yaml"])).evaluations
        assert [each.name for each in found if each.needs_classes] == expected
