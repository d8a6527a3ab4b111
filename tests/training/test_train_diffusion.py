"""Runs of stage two: refused, killed and resumed, and the best of their models."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from latentdiff import checkpoint, load
from latentdiff.config import RunConfig
from latentdiff.errors import CheckpointError, FolderError
from latentdiff.runs import run_folder
from latentdiff.stages import autoencoder, diffusion

pytestmark = pytest.mark.usefixtures("inside")


def test_the_best_model_is_kept_beside_the_last(workbench, tiny, read_rows):
    watched = ["--trainer.monitor=val_loss", "--trainer.lr=0.01", "--name=watched", "--quality_images=0"]
    diffusion.main([*tiny.trainer, *tiny.unet, *watched])
    folder = workbench / "stages/diffusion/fashion-mnist-watched"
    rows = read_rows(folder / "metrics.csv")
    best = min(rows, key=lambda row: float(row["val_loss"]))
    kept = checkpoint.read_header(folder / "best.safetensors")["provenance"]
    assert kept["images_seen"] == int(best["images_seen"])
    assert load(folder / "best.safetensors").sample(2, steps=2).shape == (2, 1, 28, 28)
    # Its held-out images are the test split's, by which nothing is chosen unasked.
    assert not (workbench / "stages/diffusion/fashion-mnist-latent/best.safetensors").exists()


@pytest.mark.slow
def test_the_best_by_quality_is_kept_unasked_where_there_is_a_validation_split(workbench, capsys, tiny, read_rows):
    split = ["--data.split=fractions", "--data.fractions=[0.8,0.1,0.1]", "--trainer.max_images=48"]
    looks = ["--trainer.images_per_epoch=16", "--quality_images=10", "--name=chosen"]
    diffusion.main([*tiny.trainer, *tiny.unet, *split, *looks])
    assert "the best model by distance on the validation images" in capsys.readouterr().out
    folder = workbench / "stages/diffusion/fashion-mnist-chosen"
    rows = read_rows(folder / "metrics.csv")
    best = min(rows, key=lambda row: float(row["distance"]))
    assert checkpoint.read_header(folder / "best.safetensors")["provenance"]["images_seen"] == int(best["images_seen"])
    none = ["--name=unwatched", "--trainer.monitor=null"]
    diffusion.main([*tiny.trainer, *tiny.unet, *split, *looks, *none])
    assert not (workbench / "stages/diffusion/fashion-mnist-unwatched/best.safetensors").exists()
    # Where there is nothing to watch, a rule that needs it is refused.
    with pytest.raises(ValueError, match=r"stop_patience needs --trainer\.monitor"):
        diffusion.main([*tiny.trainer, *tiny.unet, "--name=blind", "--quality_images=0", "--trainer.stop_patience=2"])
    assert not (workbench / "stages/diffusion/fashion-mnist-blind").exists()


def test_held_out_images_are_measured_each_epoch_and_costly_looks_are_rarer(workbench, tiny, read_rows):
    often = ["--trainer.max_images=80", "--trainer.images_per_epoch=16", "--validation_images=10"]
    diffusion.main([*tiny.trainer, *tiny.unet, *often, "--name=rarely", "--quality_images=10", "--sample_every=2"])
    rows = read_rows(workbench / "stages/diffusion/fashion-mnist-rarely/metrics.csv")
    assert len(rows) == 5
    assert all(row["val_loss"] for row in rows)
    looked = [bool(row["distance"]) for row in rows]
    assert looked == [number % 2 == 0 or number == len(rows) for number in range(1, len(rows) + 1)]


def test_bad_settings_are_refused_before_an_old_run_is_touched(workbench, tiny):
    model = workbench / "stages/diffusion/fashion-mnist-latent/model.safetensors"
    before = model.read_bytes()
    for setting in ("--network.attention_levels=[5]", "--trainer.max_images=null", "--diffusion.target=eps"):
        with pytest.raises(ValueError):
            diffusion.main([*tiny.trainer, *tiny.unet, "--run.overwrite", setting])
    assert model.read_bytes() == before


@pytest.mark.slow
def test_a_process_that_is_killed_resumes_to_the_same_weights(workbench, tiny, read_rows):
    """SIGKILL at whatever moment it comes: after the first checkpoint, in the middle of something."""
    long = ["--trainer.max_images=960", *tiny.unet, "--quality_images=0", "--sample_every=100", "--autoencoder=none"]
    long += ["--validation_images=10"]
    settings = [
        "--data.source=embedded",
        "--data.hflip",
        "--trainer.images_per_epoch=32",
        "--trainer.batch_size=16",
        *long,
    ]
    diffusion.main([*settings, "--run.folder=alone"])
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *settings, "--run.folder=killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while not Path("killed/last.ckpt").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    for asked in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(FolderError, match="latentdiff is writing into killed just now"):
            run_folder.prepare(RunConfig(folder="killed", **asked), "diffusion", "name", resumable=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("killed/model.safetensors").exists()
    diffusion.main([*settings, "--run.folder=killed", "--run.resume"])
    (_, ours), (_, theirs) = (checkpoint.read(f"{run}/model.safetensors") for run in ("alone", "killed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(read_rows("killed/metrics.csv")) == 30


def test_a_latent_run_is_not_resumed_on_another_autoencoders_latents(workbench, tiny):
    settings = [*tiny.trainer, *tiny.unet, "--quality_images=0", "--run.folder=resumed"]
    diffusion.main([*settings, "--autoencoder=stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"])
    autoencoder.main([*tiny.trainer, *tiny.codec, "--trainer.seed=1", "--run.folder=other_autoencoder"])
    other = Path("other_autoencoder/model.safetensors")
    # As if the autoencoder had been trained anew behind the same name.
    config = Path("resumed/config.yaml")
    config.write_text(
        config.read_text().replace("stages/autoencoder/fashion-mnist-autoencoder/model.safetensors", str(other))
    )
    longer = [*settings, "--trainer.max_images=96", "--run.resume"]
    with pytest.raises(CheckpointError, match="the latents of another autoencoder"):
        diffusion.main([*longer, f"--autoencoder={other}"])


def test_a_grid_shows_every_class_or_ten_of_many():
    from latentdiff.training.diffusion_epoch_end import grid_labels

    assert grid_labels(0) is None
    assert grid_labels(10) == list(range(10)) * 10
    assert grid_labels(3)[:10] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert grid_labels(102)[:10] == [0, 10, 20, 30, 40, 51, 61, 71, 81, 91]
    assert len(grid_labels(102)) == 100
