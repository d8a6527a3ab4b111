"""Tests run on the CPU, without a network, in a folder of their own."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from latentdiff.comparison import cached_runs as kept
from latentdiff.stages import autoencoder, diffusion, latents
from latentdiff.training import diffusion_epoch_end

TRAINER = ["--data.source=embedded", "--trainer.max_images=64", "--trainer.images_per_epoch=32"]
TRAINER += ["--trainer.batch_size=16", "--trainer.accelerator=cpu"]
CODEC = [
    "--network.channels=[8,16,16]",
    "--network.decoder_blocks=1",
    "--network.attention=false",
    "--validation_images=16",
]
CODEC += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0"]
UNET = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
UNET += ["--network.head_channels=8", "--quality_images=20"]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Relative paths of a run fall into the test's own folder; the user's data and weights are not seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("LATENTDIFF_DATA", "LATENTDIFF_LPIPS", "LATENTDIFF_INCEPTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # milliseconds for each of thousands of files
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request):
    """Each device that this machine has. A test that works on a device takes it from here."""
    return torch.device(request.param)


@pytest.fixture(scope="session", autouse=True)
def quick_grids():
    """The grid of samples that each epoch ends with is drawn in a few steps; it is most of a miniature training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_epoch_end, "GRID_STEPS", 3)
        yield


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """An Inception of random weights, written in torch-fidelity's names."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "random.pth"

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **kwargs):
            """Keep the random weights; there is no file to read them from yet."""

    empty = path.with_name("empty.pth")
    torch.save({}, empty)
    net = Blank("random", ["64"], feature_extractor_weights_path=empty)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # else the signal dies on its way
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny():
    """Settings of models that train in a moment: flags of both trainers, of the autoencoder and of the U-Net."""
    return SimpleNamespace(trainer=TRAINER, codec=CODEC, unet=UNET)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory, tiny):
    """A folder where both stages have been run, on latents and on pixels; a file's tests leave more in it."""
    folder, before = tmp_path_factory.mktemp("workbench"), Path.cwd()
    os.chdir(folder)
    try:
        autoencoder.main([*tiny.trainer, *tiny.codec])
        latents.main(["--data.source=embedded"])
        diffusion.main([*tiny.trainer, *tiny.unet])
        diffusion.main([*tiny.trainer, *tiny.unet, "--name=pixel", "--autoencoder=none"])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def inside(workbench, isolated, monkeypatch):
    """The test runs in the workbench."""
    monkeypatch.chdir(workbench)


@pytest.fixture(scope="session")
def read_rows():
    """Reads a CSV file: a dictionary for each row."""

    def read(path):
        with open(path) as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def trainings(monkeypatch):
    """The commands of the training runs, which are made in this process; from the one ``trainings.fail_at`` on they
    fail."""

    class Made(list):
        fail_at = None

    made = Made()

    def run(command):
        if len(made) == made.fail_at:
            raise KeyboardInterrupt
        made.append(command)
        monkeypatch.setattr("sys.argv", command)
        {"latentdiff.stages.diffusion": diffusion, "latentdiff.stages.autoencoder": autoencoder}[command[2]].main(
            command[3:]
        )
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(kept.subprocess, "run", run)
    return made
