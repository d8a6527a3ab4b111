"""What `from latentdiff import …` promises: the same as the commands, with and without a folder."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import lightning
import pytest
import torch
from safetensors.torch import load_file

import latentdiff
from latentdiff import cache_latents, evaluate, load, load_dataset, train_autoencoder, train_diffusion
from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DataConfig,
    NetworkConfig,
    RunConfig,
    SamplingConfig,
    TrainerConfig,
)
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.errors import ConfigError, DataError, FolderError, LatentdiffError
from latentdiff.inference.model import DiffusionModel
from latentdiff.stages import autoencoder as autoencoder_stage
from latentdiff.stages import diffusion as diffusion_stage

TRAINER = TrainerConfig(max_images=64, images_per_epoch=32, batch_size=16, accelerator="cpu")
CODEC = {
    "network": AutoencoderConfig(channels=(8, 16, 16), decoder_blocks=1, attention=False),
    "loss": AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
    "validation_images": 16,
    "trainer": TRAINER,
}
UNET = {
    "network": NetworkConfig(channels=(8, 16), num_res_blocks=1, attention_levels=(), head_channels=8),
    "validation_images": 16,
    "quality_images": 0,
    "trainer": TRAINER,
}


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataConfig(source="embedded", max_train_images=400))


@pytest.fixture(scope="module")
def autoencoder(data):
    return train_autoencoder(data, **CODEC)


def test_every_promised_name_is_there_and_documented():
    for name in latentdiff.__all__:
        assert inspect.getdoc(getattr(latentdiff, name)), name
    assert set(latentdiff.__all__) <= set(dir(latentdiff))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        latentdiff.absent  # noqa: B018


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_how_they_wait(given, expected):
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", "import os, latentdiff; print(os.environ.get('GOMP_SPINCOUNT'))"]
    said = subprocess.run(command, env=own | given, capture_output=True, text=True, check=True).stdout.strip()
    assert said == str(expected)


def test_the_keywords_of_sample_are_the_settings_of_sampling():
    keywords = inspect.signature(DiffusionModel.sample).parameters
    for field in fields(SamplingConfig):
        assert keywords[field.name].default == field.default, field.name
    asked_for = {"self", "num_images", "labels", "prompt", "negative_prompt"}
    assert set(keywords) - asked_for == {field.name for field in fields(SamplingConfig)}


@pytest.mark.parametrize(
    ("function", "stage"), [(train_autoencoder, AutoencoderStage), (train_diffusion, DiffusionStage)]
)
def test_the_keywords_of_training_are_the_settings_of_its_stage(function, stage):
    keywords = set(inspect.signature(function).parameters)
    assert {field.name for field in fields(stage)} - {"data", "run"} <= keywords


@pytest.mark.parametrize(
    ("function", "stage"),
    [(train_autoencoder, AutoencoderStage), (train_diffusion, DiffusionStage), (evaluate, EvaluateStage)],
)
def test_a_default_of_python_is_the_commands(function, stage):
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    compared = {
        field.name: field.default
        for field in (*fields(stage), *fields(RunConfig))
        if field.name != "name" and isinstance(defaults.get(field.name), bool | int | str)
    }
    assert "overwrite" in compared
    assert {name: defaults[name] for name in compared} == compared


def test_the_command_and_the_call_give_the_same_weights(data, tmp_path):
    flags = [
        "--data.source=embedded",
        "--data.max_train_images=400",
        "--trainer.max_images=64",
        "--trainer.images_per_epoch=32",
    ]
    flags += ["--trainer.batch_size=16", "--trainer.accelerator=cpu", "--validation_images=16"]
    codec = ["--network.channels=[8,16,16]", "--network.decoder_blocks=1", "--network.attention=false"]
    codec += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0"]
    unet = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
    unet += ["--network.head_channels=8", "--quality_images=0"]
    autoencoder_stage.main([*flags, *codec, "--run.folder=one"])
    first = train_autoencoder(data, folder="two", **CODEC)
    ours, theirs = (load_file(tmp_path / folder / "model.safetensors") for folder in ("one", "two"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    diffusion_stage.main([*flags, *unet, "--autoencoder=one/model.safetensors", "--run.folder=three"])
    model = train_diffusion(cache_latents(first, data), **UNET)
    in_a_file = load(tmp_path / "three" / "model.safetensors")
    for ours, theirs in zip(model.network.parameters(), in_a_file.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_training_returns_is_the_model_with_its_record(data, autoencoder, tmp_path):
    assert autoencoder.folder is None
    assert not list(tmp_path.iterdir()), "a run in memory writes nothing"
    assert [row["images_seen"] for row in autoencoder.metrics] == [32, 64]
    assert autoencoder.settings["network"]["channels"] == [8, 16, 16]
    latents = cache_latents(autoencoder, data)
    with pytest.raises(ConfigError, match="autoencoder= names another autoencoder than that of the cached latents"):
        train_diffusion(latents, autoencoder="none", **UNET)
    model = train_diffusion(latents, autoencoder=autoencoder, folder=tmp_path / "run", **UNET)
    assert model.folder == tmp_path / "run"
    assert model.metrics[-1]["val_loss"] > 0
    images = model.sample(num_images=3, labels=["Dress", 2, "coat"], steps=2)
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)
    model.save(tmp_path / "dress.safetensors")
    again = load(tmp_path / "dress.safetensors")
    assert torch.equal(again.sample(num_images=3, labels=["Dress", 2, "coat"], steps=2), images)
    assert again.metrics == model.metrics
    autoencoder.save(tmp_path / "codec.safetensors")
    assert torch.equal(load(tmp_path / "codec.safetensors").mean, autoencoder.mean.cpu())


def test_a_run_with_a_folder_goes_on(data, tmp_path):
    whole = train_autoencoder(data, **CODEC)
    half = TrainerConfig(**{**vars(TRAINER), "max_images": 32, "lr_schedule": "constant"})
    full = TrainerConfig(**{**vars(TRAINER), "lr_schedule": "constant"})
    train_autoencoder(data, **{**CODEC, "trainer": half}, folder="run")
    with pytest.raises(FolderError, match="already holds a run"):
        train_autoencoder(data, **{**CODEC, "trainer": full}, folder="run")
    resumed = train_autoencoder(data, **{**CODEC, "trainer": full}, folder="run", resume=True)
    straight = train_autoencoder(data, **{**CODEC, "trainer": full})
    for ours, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert len(resumed.metrics) == len(whole.metrics) == 2


def test_lightnings_callbacks_and_loggers_are_taken(data):
    class Counter(lightning.Callback):
        steps = 0

        def on_train_batch_end(self, *_):
            self.steps += 1

    logger = lightning.pytorch.loggers.CSVLogger("logs")
    counter = Counter()
    train_autoencoder(data, **CODEC, callbacks=[counter], loggers=[logger])
    assert counter.steps == 4
    assert "reconstruction" in next(iter(Path("logs").rglob("metrics.csv"))).read_text()


def test_the_callers_random_numbers_and_threads_are_left_alone(data):
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    few = TrainerConfig(max_images=4, batch_size=4, accelerator="cpu", num_threads=2)
    train_autoencoder(data, **{**CODEC, "trainer": few, "validation_images": 2})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_errors_share_one_base_and_are_no_exits(data, tmp_path):
    with pytest.raises(ConfigError, match="needs an end"):
        train_autoencoder(data, trainer=TrainerConfig(max_images=None))
    with pytest.raises(DataError, match="neither a folder"):
        load_dataset("nowhere")
    with pytest.raises(LatentdiffError, match="model file"):
        train_diffusion(data, autoencoder=tmp_path / "absent.safetensors")
    with pytest.raises(ConfigError, match="is for images of"):
        train_diffusion(
            load_dataset(DataConfig(source="embedded", size=16)),
            autoencoder="checkpoints/fashion-mnist/autoencoder.safetensors",
        )


def test_training_works_in_a_thread(data, autoencoder):
    found = []
    thread = threading.Thread(target=lambda: found.append(train_autoencoder(data, **CODEC)))
    thread.start()
    thread.join()
    for ours, theirs in zip(found[0].model.parameters(), autoencoder.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


SPAWN = """
from multiprocessing import get_context

from latentdiff import load_dataset, train_autoencoder
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DataConfig, TrainerConfig


def train(queue):
    codec = train_autoencoder(
        load_dataset(DataConfig(source="embedded", max_train_images=400)),
        network=AutoencoderConfig(channels=(8, 16, 16), decoder_blocks=1, attention=False),
        loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
        trainer=TrainerConfig(max_images=64, images_per_epoch=32, batch_size=16, accelerator="cpu"),
        validation_images=16,
    )
    queue.put(codec.mean.tolist())


if __name__ == "__main__":
    queue = get_context("spawn").Queue()
    get_context("spawn").Process(target=train, args=(queue,)).start()
    print(queue.get(timeout=100))
"""


@pytest.mark.slow
def test_training_works_in_a_spawned_process(autoencoder, tmp_path):
    (tmp_path / "spawn.py").write_text(SPAWN)
    done = subprocess.run([sys.executable, "spawn.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(autoencoder.mean.tolist(), abs=1e-6)


def test_the_console_command_lists_the_stages_and_runs_them():
    listing = subprocess.run([sys.executable, "-m", "latentdiff"], capture_output=True, text=True, check=True).stdout
    order = [line.split()[0] for line in listing.splitlines() if line.startswith("  ")]
    assert order[:5] == ["demo", "analyse", "autoencoder", "latents", "diffusion"]
    wrong = subprocess.run([sys.executable, "-m", "latentdiff", "diffuse"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "Did you mean diffusion?" in wrong.stderr
    bad = subprocess.run(
        [sys.executable, "-m", "latentdiff", "sample", "--steps", "many"], capture_output=True, text=True
    )
    assert bad.returncode == 1
    assert "steps" in bad.stderr
    assert len(bad.stderr.strip().splitlines()) <= 3


def test_every_stage_is_listed():
    from latentdiff.__main__ import STAGES

    stages = {path.stem for path in (Path(latentdiff.__file__).parent / "stages").glob("*.py")}
    assert stages - {"__init__"} == set(STAGES)


def test_a_run_does_not_go_on_with_other_images(data):
    images = data.train.images
    half = TrainerConfig(**{**vars(TRAINER), "max_images": 32})
    train_autoencoder(load_dataset(images), **{**CODEC, "trainer": half}, folder="run")
    with pytest.raises(LatentdiffError, match="other data"):
        train_autoencoder(load_dataset(images.flip(-1)), **CODEC, folder="run", resume=True)


def test_no_validation_images_are_none(data, tmp_path):
    codec = train_autoencoder(data, **{**CODEC, "validation_images": 0}, folder=tmp_path / "run")
    assert "psnr" not in codec.metrics[-1]
    assert codec.metrics[-1]["reconstruction"] > 0
