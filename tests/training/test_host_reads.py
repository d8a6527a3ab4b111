"""A training step never waits for the device.

On a GPU the host hands out work ahead of the device. To read a number, or to copy what is not pinned, it must wait
until all of that is done. A step may do neither. What a run does is listed here:

- once a run: the images, the tables of the schedule and the perceptual loss's images are copied to the device;
- once a pass over the images: the permutation is copied to the device;
- every 50 steps: the gradient norms are read;
- once a phase: the statistics of a frozen encoder's latents are read;
- once an epoch: the mean losses, whether the weights are finite, the validation and the samples.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DiffusionConfig,
    NetworkConfig,
    PhaseConfig,
    TrainerConfig,
)
from latentdiff.errors import DivergenceError
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.training import base_module, diffusion_module
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.diffusion_module import DiffusionModule
from tests.pretend_device import HostReads, PretendDevice

CODEC = AutoencoderConfig(channels=(4, 4), encoder_blocks=1, decoder_blocks=1, attention=False)
NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(0,), head_channels=8)
BATCH = 8


class Trunk(torch.nn.Module):
    """Stands for LPIPS: two layers of features, the mean square of their differences."""

    widths = (1, 1)

    def features(self, x):
        return [x, torch.nn.functional.avg_pool2d(x.square(), 2)]

    def distance_of_features(self, ours, theirs):
        return sum((x - y).square().flatten(1).mean(1) for x, y in zip(ours, theirs, strict=True))


def trainer(**settings):
    settings = {"batch_size": BATCH, "max_images": 10**6, "accelerator": "cpu", **settings}
    return TrainerConfig(**settings)


def diffusion(pixels=False, network=NETWORK, settings=None, **process):
    codec = IdentityCodec((1, 8, 8)) if pixels else latent_codec()
    module = DiffusionModule(codec, 3, network, DiffusionConfig(**process), trainer(**(settings or {})))
    moments = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8) if pixels else torch.randn(96, 4, 4, 4)
    return module, (moments, torch.arange(96) % 3)


def latent_codec():
    return AutoencoderCodec(Autoencoder((1, 8, 8), CODEC), CODEC, torch.zeros(2), torch.ones(2))


def autoencoder(settings=None, phases=(), **loss):
    weights = {"perceptual_weight": 0, "adversarial_weight": 0, "discriminator_channels": 8, "adversarial_start": 0}
    loss = AutoencoderLossConfig(**{**weights, "feature_discriminator_channels": 8, **loss})
    trunk = Trunk() if loss.perceptual_weight else None
    module = AutoencoderModule((1, 8, 8), CODEC, loss, trainer(**(settings or {})), trunk, phases)
    return module, (torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8),)


CASES = {
    "pixels": lambda: diffusion(pixels=True, target="eps"),
    "latents": diffusion,
    "latents, continuous time": lambda: diffusion(num_train_steps=None, schedule="cosine", class_dropout=0.1),
    "latents, dropout": lambda: diffusion(network=replace(NETWORK, dropout=0.1)),
    "latents, batch norm": lambda: diffusion(network=replace(NETWORK, conditioning="batch_norm")),
    "pixels, learned variance": lambda: diffusion(pixels=True, target="eps", learn_variance=True),
    "edm": lambda: diffusion(schedule="edm", target="edm", num_train_steps=None),
    "ve": lambda: diffusion(schedule="ve", target="score", num_train_steps=None),
    "sigmoid, x0, min_snr": lambda: diffusion(schedule="sigmoid", target="x0", loss_weight="min_snr"),
    "scaled_linear, truncated_snr": lambda: diffusion(schedule="scaled_linear", loss_weight="truncated_snr"),
    "zero terminal": lambda: diffusion(zero_terminal_snr=True, loss_weight="simple"),
    "accumulation and snapshots": lambda: diffusion(
        settings={"gradient_accumulation_steps": 3, "ema_snapshots": 2, "grad_clip": 0.01}
    ),
    "seconds, step schedule": lambda: diffusion(settings={"max_seconds": 1e6, "lr_schedule": "step"}),
    "autoencoder": autoencoder,
    "autoencoder, gaussian": lambda: autoencoder(reconstruction="gaussian"),
    "adversarial": lambda: autoencoder(adversarial_weight=0.3, adversarial_adaptive=True),
    "adversarial, bands": lambda: autoencoder(adversarial_weight=0.3, discriminator_bands=True),
    "perceptual": lambda: autoencoder(perceptual_weight=1.0, perceptual_share=0.5),
    "features, accumulation": lambda: autoencoder(
        perceptual_weight=1.0,
        perceptual_share=0.3,
        feature_adversarial_weight=0.5,
        settings={"gradient_accumulation_steps": 3},
    ),
    "noised": lambda: autoencoder(degradation="noise", degradation_strength=0.1),
    "masked": lambda: autoencoder(degradation="mask", degradation_strength=0.5),
    "blurred": lambda: autoencoder(degradation="blur", degradation_strength=0.5),
    "a phase ahead": lambda: autoencoder(phases=(PhaseConfig(start=0.9, lr_factor=0.5, frozen_encoder=True),)),
}


def prepare(module, tensors):
    """Make a module ready for its first step, as Lightning would."""
    module._trainer = SimpleNamespace(should_stop=False)
    optimizers = module.configure_optimizers()
    module.optimizers = lambda: optimizers
    module.manual_backward = lambda loss: loss.backward()
    module.data = tensors
    module.train()
    module.on_train_start()
    module.on_train_epoch_start()


@contextmanager
def waits_are_errors(device):
    """A GPU's own watch over what makes the host wait."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_no_number(case, device):
    torch.manual_seed(0)
    module, tensors = CASES[case]()
    module.to(device)
    if isinstance(module, DiffusionModule):
        module.codec.to(device)
    prepare(module, tensors)
    module.training_step(None, 0)
    with HostReads() as counted, waits_are_errors(device):
        module.training_step(None, 0)
    assert not counted.reads
    assert module.images_seen == 2 * BATCH


QUICK = ("pixels, learned variance", "features, accumulation")


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_step_copies_nothing_and_mixes_no_devices(case, monkeypatch):
    """Forward, backward and optimiser on a pretended device, where a read or a tensor of the CPU is an error."""
    pretended = PretendDevice("meta")
    monkeypatch.setattr(base_module.torch.optim, "AdamW", _adamw_of_operations)
    monkeypatch.setattr("latentdiff.models.discriminator.torch.autocast", lambda *_, **__: torch.enable_grad())
    for user in (base_module, diffusion_module):
        monkeypatch.setattr(user, "seeded_generator", lambda *_: None)
    module, tensors = CASES[case]()
    module = pretended.module(module)
    module._device = pretended.device
    if isinstance(module, DiffusionModule) and isinstance(module.codec, AutoencoderCodec):
        codec = module.codec
        codec.mean, codec.std = pretended.tensor(codec.mean), pretended.tensor(codec.std)
    with pretended.entered() as counted:
        prepare(module, tuple(map(pretended.tensor, tensors)))
        module.training_step(None, 0)
        counted.copies.clear()
        module.training_step(None, 0)
    assert not counted.copies


def _adamw_of_operations(groups, fused, **settings):
    """A pretended device has no fused kernel."""
    return AdamW(groups, **settings)


AdamW = torch.optim.AdamW


def diverging():
    """A module whose gradient is no number from its second step on."""
    module, tensors = diffusion()
    prepare(module, tensors)
    module.training_step(None, 0)
    next(module.network.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    return module


@pytest.mark.parametrize("end", [DiffusionModule.end_epoch, lambda module: module.on_save_checkpoint({})])
def test_a_gradient_that_is_no_number_is_named_before_anything_is_saved(end):
    module = diverging()
    module.training_step(None, 0)
    with pytest.raises(DivergenceError, match=rf"^the gradient is nan after {BATCH} images\."):
        end(module)


def test_a_gradient_that_is_no_number_ends_the_run_before_the_epoch_does():
    module = diverging()
    for _ in range(base_module.STEPS_BETWEEN_CHECKS - 2):
        module.training_step(None, 0)
    with pytest.raises(DivergenceError, match=rf"^the gradient is nan after {BATCH} images\."):
        module.training_step(None, 0)
