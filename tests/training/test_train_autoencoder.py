from __future__ import annotations

import importlib

import pytest
import torch

from latentdiff import load_dataset, train_autoencoder
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, TrainerConfig
from latentdiff.errors import ConfigError


def test_with_hflip_the_mirrored_images_are_a_second_half(monkeypatch):
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)

    def trained_on(module, tensors, *_):
        (both,) = tensors
        raise StopIteration(torch.equal(both, torch.cat([images, images.flip(3)])))

    monkeypatch.setattr(importlib.import_module("latentdiff.training.train_autoencoder"), "fit", trained_on)
    with pytest.raises(StopIteration, match="True"):
        train_autoencoder(
            load_dataset({"train": images}, hflip=True),
            network=AutoencoderConfig(channels=(8,), attention=False),
            loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
            trainer=TrainerConfig(accelerator="cpu"),
            validation_images=0,
        )


def test_held_out_images_that_are_sorted_by_class_are_measured_and_drawn_from_all_classes(monkeypatch):
    # The images of a class are all alike, so a pixel tells the class. Files in folders come in this order.
    labels = torch.arange(60) // 20
    images = (labels * 100).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    seen = []

    def at_the_end(module, tensors, folder, callbacks, *_):
        (epoch_end,) = callbacks
        monkeypatch.setattr(epoch_end.module, "preview", lambda shown: seen.append(shown) or shown[None])
        epoch_end.draw_samples(folder / "grid.png")
        raise StopIteration(epoch_end.images[:, 0, 0, 0].int().tolist())

    monkeypatch.setattr(importlib.import_module("latentdiff.training.train_autoencoder"), "fit", at_the_end)
    with pytest.raises(StopIteration) as ended:
        train_autoencoder(
            load_dataset({"train": images, "val": images}, labels={"train": labels, "val": labels}),
            network=AutoencoderConfig(channels=(8,), attention=False),
            loss=AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0),
            trainer=TrainerConfig(accelerator="cpu"),
            validation_images=18,
            folder="run",
        )
    assert ended.value.value == [0] * 6 + [100] * 6 + [200] * 6
    assert set(seen[0].flatten().tolist()) == {0, 100, 200}


def test_there_is_no_metric_that_auto_could_stand_for():
    with pytest.raises(ConfigError, match=r"--trainer\.monitor auto is for the diffusion stage: name a column"):
        train_autoencoder("folder", trainer=TrainerConfig(monitor="auto"))
