"""Data that is larger than a training may hold: the same training, from mapped files, within little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.larger_than_memory import ratio_of_turns, write_images
from latentdiff.checkpoint import read_tensors
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import AutoencoderConfig, DataConfig
from latentdiff.data import load_split, mapped
from latentdiff.latents import cached_moments
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.stages import autoencoder, diffusion

ROOT = Path(__file__).resolve().parents[2]
# A process that trains this network on 200 images takes 1.48 GiB at most, of which torch and its kernels are most.
PROCESS = 1_800 * 2**20
# Runs a stage, and prints the most memory that it held.
RUN = """
import sys
from pathlib import Path
from latentdiff.stages import diffusion
diffusion.main(sys.argv[1:])
lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print("PEAK", 1024 * int(lines["VmHWM"].split()[0]))
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """96 images of 16 pixels as downsampled ImageNet: 64 to train on, 32 to validate."""
    folder = tmp_path_factory.mktemp("few")
    generator = np.random.default_rng(0)
    for name, count in (("train_data_batch_1", 64), ("val_data", 32)):
        images = generator.integers(0, 256, (count, 3 * 16 * 16), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", data=images, labels=np.arange(count) % 4 + 1)
    return folder


def losses(folder):
    return [row.split(",")[1] for row in (folder / "metrics.csv").read_text().splitlines()[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("hflip", ["false", "true"])
def test_a_training_from_mapped_files_is_the_resident_one(few, tmp_path, monkeypatch, capsys, tiny, hflip):
    data = ["--data.name=imagenet-64", f"--data.path={few}", "--data.size=16", f"--data.hflip={hflip}"]
    trainer = ["--trainer.max_images=96", "--trainer.images_per_epoch=48", "--trainer.batch_size=8"]
    trainer += ["--trainer.accelerator=cpu", "--trainer.precision=fp32"]
    autoencoder.main([*data, *trainer, *tiny.codec, "--run.folder=codec"])
    for codec in ("none", "codec"):
        common = [*data, *trainer, *tiny.unet, "--quality_images=0", f"--autoencoder={codec}"]
        diffusion.main([*common, f"--run.folder=resident-{codec}", f"--latents_folder=resident-{codec}-latents"])
        assert "too large for the device" not in capsys.readouterr().out
        with monkeypatch.context() as patch:
            patch.setattr(mapped, "most_in_memory", lambda: 1000)
            patch.setattr("latentdiff.latents.most_in_memory", lambda: 1000)
            patch.setattr("latentdiff.training.base_module.stays_on_device", lambda *_: False)
            diffusion.main([*common, f"--run.folder=streamed-{codec}", f"--latents_folder=streamed-{codec}-latents"])
        assert "are too large for the device, and are read batch by batch" in capsys.readouterr().out
        assert losses(tmp_path / f"streamed-{codec}") == losses(tmp_path / f"resident-{codec}")
        both = [read_tensors(tmp_path / f"{kind}-{codec}" / "model.safetensors") for kind in ("resident", "streamed")]
        assert all(torch.equal(both[0].tensors[name], both[1].tensors[name]) for name in both[0].tensors)


def test_latents_that_are_large_are_written_batch_by_batch_and_mapped(few, tmp_path, monkeypatch):
    config = AutoencoderConfig(channels=(8,), encoder_blocks=1, decoder_blocks=1, attention=False, patch=2)
    statistics = torch.zeros(config.latent_channels)
    encoder = AutoencoderCodec(Autoencoder((3, 16, 16), config), config, statistics, statistics + 1)
    data = load_split(DataConfig(name="imagenet-64", path=str(few), size=16, cache_folder=str(tmp_path)), "train")
    for hflip in (False, True):
        plain = cached_moments(encoder, data, tmp_path / f"plain-{hflip}", hflip)
        with monkeypatch.context() as patch:
            for module in ("latentdiff.data.mapped", "latentdiff.latents"):
                patch.setattr(f"{module}.most_in_memory", lambda: 1000)
            written = cached_moments(encoder, data, tmp_path / f"large-{hflip}", hflip)
            again = cached_moments(encoder, data, tmp_path / f"large-{hflip}", hflip)
        assert mapped.file_of(again.moments) is not None
        for found in (written, again):
            assert torch.equal(found.moments, plain.moments)
            assert torch.equal(found.labels, plain.labels)
        assert again.seconds == written.seconds > 0
        # An ordinary reader takes it too.
        (path,) = (tmp_path / f"large-{hflip}").glob("*.safetensors")
        assert torch.equal(read_tensors(path).tensors["moments"], plain.moments)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_a_tenth_of_imagenet_trains_within_bounded_memory(tmp_path):
    # 128,000 images of 64 pixels: 1.57 GB.
    folder = tmp_path / "imagenet-64"
    folder.mkdir()
    for name, count in (("train_data_batch_1", 64_000), ("train_data_batch_2", 64_000), ("val_data", 100)):
        write_images(tmp_path / "raw", count)
        images = np.memmap(tmp_path / "raw", np.uint8, "r", shape=(count, 3 * 64 * 64))
        np.savez(folder / f"{name}.npz", data=images, labels=np.arange(count) % 1000 + 1)
    flags = ["--data.name=imagenet-64", f"--data.path={folder}", "--autoencoder=none", "--quality_images=0"]
    flags += ["--network.channels=[8,16,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
    flags += ["--network.head_channels=8", "--trainer.max_images=480", "--trainer.images_per_epoch=480"]
    flags += ["--trainer.batch_size=16", "--trainer.accelerator=cpu", "--trainer.num_threads=1", "--sample_every=100"]
    flags += ["--validation_images=16", "--trainer.precision=fp32", "--trainer.memory=3000000000"]
    made = subprocess.run(
        [sys.executable, "-c", RUN, *flags, "--run.folder=streamed"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LATENTDIFF_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert "1.47 GiB of images or latents are too large for the device" in made.stdout
    peak = int(made.stdout.rpartition("PEAK ")[2])
    assert peak < PROCESS, f"{peak / 2**20:.0f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_streaming_adds_little_memory_and_gives_the_same_batches(tmp_path):
    flags = ["--images=16000", "--batch=16", "--steps=2", "--turns=2", f"--folder={tmp_path}"]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.larger_than_memory", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(made.stdout[made.stdout.index("{\n") :])
    assert result["batches_equal"]
    assert result["memory_that_streaming_adds_MB"] < 120  # of 197 MB of images
    assert result["memory_that_streaming_adds_MB"] < result["memory_while_streaming_MB"] < 3000


def test_the_ratio_of_two_trainings_is_taken_within_each_turn():
    # The machine was three times as slow in the second turn, and a third turn was disturbed on one side.
    assert ratio_of_turns((1.0, 3.0, 1.0), (2.0, 6.0, 9.0)) == 0.5
