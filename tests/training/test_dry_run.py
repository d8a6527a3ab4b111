"""What a dry run says is what a run needs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from latentdiff.codec import IdentityCodec
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.evaluation.flops import training_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.stages import autoencoder, diffusion
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.dry_run import step_cost
from tests.training.test_host_reads import autoencoder as autoencoder_module
from tests.training.test_host_reads import diffusion as latent_module

NETWORK = NetworkConfig(channels=(32, 32), num_res_blocks=1, attention_levels=(1,))
CODEC = AutoencoderConfig(channels=(16, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
TRAINER = TrainerConfig(batch_size=16, max_images=1000, accelerator="cpu")


def denoiser():
    process = DiffusionConfig(target="eps", schedule="linear")
    module = DiffusionModule(IdentityCodec((1, 16, 16)), 3, NETWORK, process, TRAINER)
    return module, (torch.zeros(16, 1, 16, 16, dtype=torch.uint8), torch.zeros(16, dtype=torch.long))


def judged_autoencoder():
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0.3, discriminator_channels=16)
    module = AutoencoderModule((1, 16, 16), CODEC, loss, TRAINER, None)
    return module, (torch.zeros(16, 1, 16, 16, dtype=torch.uint8),)


def allocated_bytes(module, batch):
    """The most that torch's allocator had handed out during a step that computes, beside what it held before."""
    optimizers = module.configure_optimizers()
    module.optimizers, module.manual_backward = lambda: optimizers, lambda loss: loss.backward()
    module.images_seen = 10**9
    module.train().train_batch(batch)
    for parameter in module.parameters():
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        module.train_batch(batch)
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("build", [pytest.param(denoiser, marks=pytest.mark.slow), judged_autoencoder])
def test_memory_is_that_of_a_step_within_fifteen_percent(build):
    torch.manual_seed(0)
    module, batch = build()
    cost = step_cost(module, batch)
    assert cost.step == pytest.approx(allocated_bytes(module, batch), rel=0.15)
    assert cost.weights == sum(4 * p.numel() for p in [*module.parameters(), *module.buffers()])
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert cost.optimizer == pytest.approx(8 * trained, rel=0.02)


def test_operations_are_those_of_the_network():
    module, batch = denoiser()
    network = copy.deepcopy(module.network)
    model = DiffusionModel(network, NETWORK, module.diffusion, module.codec, ("a", "b", "c"))
    assert step_cost(module, batch).flops == pytest.approx(training_flops(model), rel=0.01)
    assert module.images_seen == 0


def test_a_codec_that_is_on_the_device_already_is_no_obstacle():
    """A latent model's codec encodes the images on the GPU before the step is traced."""
    module, sample = latent_module()
    codec = module.codec
    expected = step_cost(module, sample)
    codec.mean, codec.std = codec.mean.to("meta"), codec.std.to("meta")
    assert step_cost(module, sample) == expected
    assert codec.mean.device.type == "meta"


def test_a_discriminator_of_features_is_counted():
    judged, sample = autoencoder_module(perceptual_weight=1.0, feature_adversarial_weight=0.5)
    plain, _ = autoencoder_module(perceptual_weight=1.0)
    assert step_cost(judged, sample).flops > step_cost(plain, sample).flops > 0


@pytest.mark.parametrize(
    ("stage", "flags"), [(autoencoder, "codec"), pytest.param(diffusion, "unet", marks=pytest.mark.slow)]
)
def test_a_dry_run_of_a_stage_writes_nothing(stage, flags, tiny, tmp_path, capsys):
    more = ["--autoencoder=none"] if stage is diffusion else []
    stage.main([*tiny.trainer, *getattr(tiny, flags), *more, "--dry_run", "--run.folder", str(tmp_path / "run")])
    said = capsys.readouterr().out
    for part in ("parameters", "GFLOP", "optimiser", "memory in all", "H100", "s for 64 images", "none was measured"):
        assert part in said
    assert not list(tmp_path.iterdir())
