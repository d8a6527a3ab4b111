"""The operations of a run are those of all its steps."""

from __future__ import annotations

import copy

import pytest
import torch

from latentdiff.codec import IdentityCodec
from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DiffusionConfig,
    NetworkConfig,
    PhaseConfig,
    TrainerConfig,
)
from latentdiff.evaluation.flops import training_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.dry_run import phase_costs
from latentdiff.training.step_flops import StepFlops

TRAINER = TrainerConfig(batch_size=8, max_images=64, accelerator="cpu", precision="fp32")


def trained(module):
    """The module with what Lightning brings to a step."""
    optimizers = module.configure_optimizers()
    module.optimizers, module.manual_backward = lambda: optimizers, lambda loss: loss.backward()
    return module.train()


def test_a_step_with_attention_counts_as_on_any_device():
    network = NetworkConfig(channels=(32, 32), num_res_blocks=1, attention_levels=(1,))
    process = DiffusionConfig()
    module = trained(DiffusionModule(IdentityCodec((1, 16, 16)), 3, network, process, TRAINER))
    model = DiffusionModel(copy.deepcopy(module.network), network, process, module.codec, ("a", "b", "c"))
    batch = (torch.zeros(8, 1, 16, 16, dtype=torch.uint8), torch.zeros(8, dtype=torch.long))
    for _ in range(3):
        module._train_seeded_batch(batch)
    assert module.step_flops.total == pytest.approx(3 * 8 * training_flops(model), rel=1e-6)


def test_each_phase_is_counted_by_itself():
    codec = AutoencoderConfig(channels=(16, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0, discriminator_channels=16)
    phases = (PhaseConfig(start=0.5, adversarial_weight=0.3, frozen_encoder=True),)
    module = trained(AutoencoderModule((1, 16, 16), codec, loss, TRAINER, None, phases))
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    first, second = (8 * cost.flops for cost in phase_costs(module, (images,), torch.float32))
    for number in range(4):
        module.loss = module._losses[number // 2]
        module.images_seen = 10**6 * (number // 2)
        module._train_seeded_batch((images,))
    assert second > first > 0
    assert module.step_flops.total == pytest.approx(2 * (first + second), rel=1e-6)


def test_counting_changes_no_bit():
    torch.manual_seed(0)
    layer, x = torch.nn.MultiheadAttention(8, 2), torch.randn(4, 2, 8)
    flops = StepFlops()
    counted, plain = (flops.of("kind", lambda: layer(x, x, x)[0]) for _ in range(2))
    assert torch.equal(counted, plain)
    assert flops.total == 2 * flops._of_a_step["kind"] > 0


def test_compiled_steps_are_not_counted():
    flops = StepFlops()
    flops.give_up()
    assert flops.of(None, lambda: 3) == 3
    assert flops.total is None
