"""A device gives what the CPU gives. Where there is no GPU these tests compare the CPU with itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from latentdiff.precision import disable_tf32, supports_bf16
from tests.tolerances import GREY_LEVELS, assert_close

CODEC = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
NETWORK = NetworkConfig(channels=(16, 16), num_res_blocks=1, attention_levels=(1,), head_channels=8)


def randomised(module):
    """A module whose layers that start at zero do not."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    return module.eval()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_network(device, precision):
    network = randomised(build_network(3, 5, NETWORK))
    inputs = torch.randn(16, 3, 16, 16), torch.linspace(0, 999, 16), torch.arange(16) % 6
    expected = network(*inputs)
    if precision == "bf16" and not supports_bf16(device):
        pytest.skip("no bf16 here")
    network, inputs = network.to(device), [tensor.to(device) for tensor in inputs]
    if precision == "fp32":
        with disable_tf32():
            assert_close(network(*inputs), expected, precision)
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            assert_close(network(*inputs), expected, precision)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_a_codec(device):
    model = randomised(Autoencoder((1, 16, 16), CODEC))
    codec = AutoencoderCodec(model, CODEC, torch.zeros(2), torch.ones(2))
    images = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8)
    moments = codec.encode(images)
    noise = torch.randn(20, *codec.latent_shape)
    latents = codec.sample(moments, noise=noise)
    decoded = codec.decode(latents)
    codec.to(device)
    assert_close(codec.encode(images), moments, "fp32")
    assert_close(codec.sample(moments.to(device), noise=noise), latents, "fp32")
    assert (codec.decode(latents.to(device)).cpu().int() - decoded.int()).abs().max() <= GREY_LEVELS


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_samples(device, sampler):
    config = DiffusionConfig(num_train_steps=20)
    network = randomised(build_network(1, 2, NETWORK))
    model = DiffusionModel(network, NETWORK, config, IdentityCodec((1, 8, 8)), ("a", "b"))
    expected = model.sample(5, steps=4, sampler=sampler, guidance_scale=2.0)
    found = model.to(device).sample(5, steps=4, sampler=sampler, guidance_scale=2.0, batch_size=3)
    assert (found.int() - expected.int()).abs().max() <= GREY_LEVELS


@pytest.mark.parametrize(
    "config",
    [
        DiffusionConfig(),
        DiffusionConfig(num_train_steps=None, schedule="cosine"),
        DiffusionConfig(schedule="edm", target="edm", num_train_steps=None),
    ],
)
def test_training_levels_are_made_where_their_times_are(device, config):
    schedule, times = build_schedule(config), (torch.arange(64) + 0.5) / 64
    expected, found = schedule.training_levels(times), schedule.training_levels(times.to(device))
    for name in ("time", "alpha", "sigma"):
        tensor = getattr(found, name)
        assert tensor.device.type == device.type
        torch.testing.assert_close(tensor.cpu(), getattr(expected, name), rtol=1e-12, atol=1e-12)


def test_noise_of_images_is_the_same_everywhere(device):
    here, there = (PerImageNoise(1, range(3), (2, 3), place) for place in ("cpu", device))
    for _ in range(3):
        assert torch.equal(here(), there().cpu())
