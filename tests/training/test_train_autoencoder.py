from __future__ import annotations

import importlib

import pytest
import torch

from latentdiff import load_dataset, train_autoencoder
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, TrainerConfig


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
