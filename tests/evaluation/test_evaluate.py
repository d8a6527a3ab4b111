"""evaluate from Python: the same numbers as the command's, in memory or in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latentdiff import evaluate, load, load_dataset
from latentdiff.config import DataConfig, SamplingConfig
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.evaluation.given_model import on_device
from latentdiff.report.evaluation import read_evaluation
from latentdiff.stages import evaluate as stage

LATENT = "checkpoints/fashion-mnist/latent.safetensors"
AUTOENCODER = "checkpoints/fashion-mnist/autoencoder.safetensors"
SETTINGS = {"num_images": 20, "real_images": 20, "inception": "off", "lpips": "off"}
FAST = SamplingConfig(steps=2, seed=3, batch_size=20)


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataConfig(source="embedded"))


def without_times(values):
    """What an evaluation says, but for how long the sampling took and who asked for it."""
    sampling = {key: value for key, value in (values["sampling"] or {}).items() if "second" not in key}
    return {**values, "sampling": sampling, "command": "", "model": {**values["model"], "sha256": None, "path": None}}


def test_the_command_and_the_call_give_the_same_numbers(data):
    flags = ["--num_images=20", "--real_images=20", "--inception=off", "--lpips=off", "--data.source=embedded"]
    stage.main([*flags, "--steps=2", "--seed=3", "--batch_size=20", f"--model={LATENT}"])
    asked = read_evaluation("stages/evaluate/fashion-mnist-latent")
    called = evaluate(LATENT, data, sampling=FAST, **SETTINGS)
    assert called.metrics == asked.metrics
    # Through JSON, as a file has it: tuples are lists there.
    assert without_times(json.loads(json.dumps(called.values))) == without_times(asked.values)
    assert called.files == {name: (asked.folder / name).read_bytes() for name in called.files}
    assert sorted(called.picture_files()) == ["classes", "gif", "grid", "neighbours", "strip"]
    model = load(LATENT)
    assert evaluate(model, data, sampling=FAST, **SETTINGS).metrics == asked.metrics


def test_figures_do_not_depend_on_what_is_installed(data):
    """A model that was given with the engine auto is run by torch; one with an engine that was named keeps it."""
    model = load(LATENT)
    assert model.engine.name == "auto"
    cpu = torch.device("cpu")
    evaluated = on_device(model, cpu)
    assert (evaluated.engine.name, evaluated.engine.exact) == ("torch", True)
    assert on_device(model.codec, cpu).engine is None
    assert model.codec.engine is model.engine
    named = model.with_engine("torch")
    assert on_device(named, cpu) is named
    asked = evaluate(LATENT, data, sampling=FAST, engine="auto", **SETTINGS)  # unless that is asked for
    assert asked.values["sampling"]["engine"] == "auto"
    assert "engine" not in evaluate(model, data, sampling=FAST, **SETTINGS).values["sampling"]


def test_a_given_model_is_moved_whole():
    """A copy shares its networks with it: moved alone, it would leave the model's statistics behind."""
    model, elsewhere = load(LATENT), torch.device("meta")
    moved = on_device(model, elsewhere)
    for each in (model, moved):
        devices = {each.device.type, each.codec.mean.device.type, next(each.codec.model.parameters()).device.type}
        assert devices == {"meta"}


def test_in_memory_and_in_a_folder(data, tmp_path):
    kept = evaluate(load(AUTOENCODER), data, folder=tmp_path / "kept", **SETTINGS)
    assert kept.folder == tmp_path / "kept"
    assert (kept.folder / "config.yaml").is_file()
    assert read_evaluation(kept.folder).values == json.loads(json.dumps(kept.values))
    with pytest.raises(FolderError, match="already holds an evaluation:"):
        evaluate("noise", data, folder=tmp_path / "kept", **SETTINGS)
    replaced = evaluate("noise", data, folder=tmp_path / "kept", overwrite=True, **SETTINGS)
    assert read_evaluation(replaced.folder).name == "noise"
    assert kept.folder is not None
    again = read_evaluation(evaluate("noise", data, **SETTINGS).save(tmp_path / "saved"))
    assert again.metrics == replaced.metrics
    assert again.picture("grid") == replaced.picture("grid")
    assert again.picture("gif") is None


def test_an_evaluation_shows_itself(data):
    found = evaluate(data.test.images[:30], data, name="<b>real</b>", **SETTINGS)
    assert str(found).startswith("<b>real</b>: 20 images\n")
    assert f"classifier distance to test {found.metrics['classifier']['distance_test']:.3f}" in str(found)
    assert "images of fashion-mnist" in found._repr_html_()
    assert "<b>real</b>" not in found._repr_html_()
    assert repr(found) == "Evaluation('<b>real</b>', kind='images', num_images=20, folder=None)"


def test_what_cannot_be_measured_is_named(data, tmp_path):
    with pytest.raises(ConfigError, match=r"the tensor holds images float32 \[20, 1, 28, 28\]; uint8"):
        evaluate(torch.zeros(20, 1, 28, 28), data, **SETTINGS)
    with pytest.raises(ConfigError, match="num_images must be a whole number from 2"):
        evaluate("noise", data, num_images=1)
    with pytest.raises(ConfigError, match="inception_weights names what inception off leaves out"):
        evaluate("noise", data, inception_weights="absent.pth", **SETTINGS)
    with pytest.raises(CheckpointError, match="absent"):
        evaluate(Path("absent.safetensors"), data, **SETTINGS)
    with pytest.raises(ConfigError, match="evaluate takes a diffusion model"):
        evaluate(3, data, **SETTINGS)
    with pytest.raises(ConfigError, match="mode must be reconstruction or prior"):
        evaluate("noise", data, mode="priors")
