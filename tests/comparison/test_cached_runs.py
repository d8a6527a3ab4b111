from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from latentdiff import load
from latentdiff.command_line import command as command_line
from latentdiff.comparison import cached_runs
from latentdiff.comparison.cached_runs import (
    EvaluationConditions,
    evaluate_once,
    find_finished_model,
    flags_of_file,
    parse_settings,
)
from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.errors import FolderError
from latentdiff.evaluation.measurements import METHOD_VERSION
from latentdiff.files import file_sha256
from latentdiff.runs.release import has_its_guide
from latentdiff.stages import diffusion

LATENT, PIXEL = (Path(f"stages/diffusion/fashion-mnist-{name}") for name in ("latent", "pixel"))


@pytest.mark.usefixtures("inside")
def test_a_finished_run_is_found_again_where_only_places_and_threads_differ(tiny):
    flags = [*tiny.trainer, *tiny.unet]
    assert find_finished_model("diffusion", flags, LATENT) == LATENT / "model.safetensors"
    autoencoder = Path("stages/autoencoder/fashion-mnist-autoencoder/model.safetensors").resolve()
    elsewhere = [f"--autoencoder={autoencoder}", "--latents_folder=other", "--trainer.loggers=[csv]"]
    assert find_finished_model("diffusion", [*flags, *elsewhere], LATENT)
    slower = [*flags, "--trainer.num_threads=1"]
    assert find_finished_model("diffusion", slower, LATENT, at_any_speed=True)
    with pytest.raises(FolderError, match=r"trainer\.num_threads was None, is 1"):  # where its time is a result
        find_finished_model("diffusion", slower, LATENT)
    timed = [*slower, "--trainer.max_seconds=60"]  # more threads see more images
    with pytest.raises(FolderError, match=r"trainer\.num_threads was None, is 1"):
        find_finished_model("diffusion", timed, LATENT, at_any_speed=True)


@pytest.mark.usefixtures("inside")
def test_a_finished_run_with_another_effect_is_refused(tiny, monkeypatch):
    flags = [*tiny.trainer, *tiny.unet]
    with pytest.raises(FolderError, match=r"trainer\.lr was 0\.001, is 0\.1"):
        find_finished_model("diffusion", [*flags, "--trainer.lr=0.1"], LATENT)
    with pytest.raises(FolderError, match="autoencoder was none, is auto"):
        find_finished_model("diffusion", [*flags, "--name=pixel"], PIXEL)
    with pytest.raises(FolderError, match="autoencoder was auto, is none"):
        find_finished_model("diffusion", [*flags, "--autoencoder=none"], LATENT)
    other = Path("other.safetensors")
    codec = load("stages/autoencoder/fashion-mnist-autoencoder/model.safetensors")
    codec.mean += 1
    codec.save(other)
    with pytest.raises(FolderError, match=r"was trained with another autoencoder than other\.safetensors"):
        find_finished_model("diffusion", [*flags, f"--autoencoder={other}"], LATENT)
    names = SimpleNamespace(
        fingerprint=load_split(DataConfig(source="embedded"), "train").fingerprint, class_names=("A",)
    )
    monkeypatch.setattr(cached_runs, "load_split", lambda *_: names)
    with pytest.raises(FolderError, match="the names of its classes have changed"):
        find_finished_model("diffusion", flags, LATENT)
    monkeypatch.setattr(cached_runs, "load_split", lambda *_: SimpleNamespace(fingerprint="of other images"))
    with pytest.raises(FolderError, match="its training images have changed"):
        find_finished_model("diffusion", flags, LATENT)


@pytest.mark.usefixtures("inside")
def test_a_finished_run_on_images_without_classes_is_found_again(tiny):
    flags = [*tiny.trainer, *tiny.unet, "--autoencoder=none", "--data.classes=none", "--quality_images=0"]
    flags += ["--trainer.max_images=16", "--validation_images=0", "--name=classless"]
    folder = Path("classless")
    diffusion.main([*flags, f"--run.folder={folder}"])
    assert find_finished_model("diffusion", flags, folder)


def test_an_evaluation_knows_whether_its_guide_has_changed_or_is_gone(tiny_model_file):
    guided = {"guide": str(tiny_model_file), "guide_sha256": file_sha256(tiny_model_file)}
    assert has_its_guide(guided)
    assert has_its_guide({"guide": None})
    assert has_its_guide({})
    assert not has_its_guide(guided | {"guide_sha256": "another"})
    assert not has_its_guide(guided | {"guide": "gone.safetensors"})


def test_an_evaluation_whose_guide_has_changed_is_made_again(tiny_model_file, monkeypatch):
    made = []
    monkeypatch.setattr(cached_runs, "evaluate_with_settings", lambda *_: made.append(1))
    here = EvaluationConditions(["--num_images", "2"], 2, ("train", "test"), {})
    flags = ["--model", str(tiny_model_file), "--guide", str(tiny_model_file)]
    command = command_line("evaluate", [*flags, *here.flags, "--run.folder", "guided", "--run.overwrite", "true"])
    digest = file_sha256(tiny_model_file)
    before = {
        "command": command,
        "model": {"sha256": digest},
        "sampling": {"guide": str(tiny_model_file), "guide_sha256": digest},
        "data": {"train_fingerprint": "train", "test_fingerprint": "test"},
        "method": METHOD_VERSION,
    }
    monkeypatch.setattr(cached_runs, "_read", lambda folder: before)
    evaluate_once(flags, Path("guided"), tiny_model_file, here)
    assert not made
    before["sampling"]["guide_sha256"] = "another"
    evaluate_once(flags, Path("guided"), tiny_model_file, here)
    assert made


def test_own_images_replace_all_that_a_file_of_settings_says_about_its_own():
    mine = DataConfig(name="folder", path="photos", hflip=True)
    found = parse_settings("diffusion", flags_of_file("fashion-mnist/latent.yaml", mine))
    assert found.data == mine  # no val_images, which are for Fashion-MNIST
    assert found.trainer.lr == 0.002
    assert parse_settings("diffusion", flags_of_file("fashion-mnist/latent.yaml", DataConfig())).data.val_images == 5000
    assert parse_settings("diffusion", flags_of_file("celeba/latent.yaml", DataConfig())).data.name == "celeba"
