"""Invariants that hold for every network: images do not depend on their batch, and guidance can be off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.diffusion.denoiser import Guidance, NetworkDenoiser, denoise
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.unet import UNet
from latentdiff.verify.check import Check, max_or_nan

# Batch sizes, and the images that are sampled: with 64 a full batch and the two left of 66; with the others the images
# on both sides of that boundary.
BATCHES = {64: range(66), 3: range(45, 66), 1: range(57, 66)}
NETWORK = NetworkConfig(channels=(8, 16), num_res_blocks=1, attention_levels=(1,), head_channels=8)


# Each sampler with its default settings, and its other ways of using noise.
SAMPLER_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in SAMPLERS} | {
    "ddpm with the large variance": ("ddpm", {"variance": "large"}),
    "ddpm with a learned variance": ("ddpm", {"variance": "learned"}),
    "heun with churn": ("heun", {"churn": 1.0}),
}


def small_model(learn_variance: bool = False) -> DiffusionModel:
    """Build a class-conditional pixel model with random weights."""
    torch.manual_seed(0)
    network = UNet(1, 3, NETWORK, out_channels=2 if learn_variance else 1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    diffusion = DiffusionConfig(learn_variance=learn_variance)
    return DiffusionModel(network, NETWORK, diffusion, IdentityCodec((1, 8, 8)), ("a", "b", "c"))


def sample_states(model: DiffusionModel, images: range, batch_size: int, settings: Mapping[str, Any]) -> Tensor:
    """Sample in batches and return x and the predicted x0 after each step: floats [images, steps, 2, c, h, w]."""
    request = SamplingRequest(num_images=images.stop, batch_size=batch_size, **settings)
    batches = model.batches(request, images)
    each = ([torch.stack([state.x, state.pred_x0], dim=1) for state in states] for _, states in batches)
    return torch.cat([torch.stack(states, dim=1) for states in each])


def check_determinism(samplers: Mapping[str, tuple[str, dict[str, Any]]] = SAMPLER_OPTIONS) -> list[Check]:
    """Measure whether image i depends on its batch, for every sampler, in any of its states."""
    fixed_variance, learned_variance, checks = small_model(), small_model(learn_variance=True), []
    for name, (sampler, options) in samplers.items():
        model = learned_variance if options.get("variance") == "learned" else fixed_variance
        # Unbounded: clamping could hide a difference.
        settings = {"steps": 4, "sampler": sampler, "seed": 3, "guidance_scale": 2.0, "thresholding": "none", **options}
        states = {size: sample_states(model, images, size, settings) for size, images in BATCHES.items()}
        whole = states[max(BATCHES)]
        value = max_or_nan(float((own - whole[-len(own) :]).abs().max()) for own in states.values())
        note = f"largest difference of a state, in fp32, between batches of {', '.join(map(str, BATCHES))}"
        checks.append(Check(section="determinism", name=name, value=value, limit=0.0, note=note))
    return checks


def check_guidance() -> list[Check]:
    """Measure guidance of scale 1 against the network with the class, and of scale 0 without it, bit for bit."""
    model = small_model()
    x, labels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    level = model.schedule.levels(torch.tensor(500))
    passes: list[int] = []

    def network(x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        passes.append(len(x))
        return model.network(x, time, labels)

    def guided(scale: float) -> Tensor:
        denoiser = NetworkDenoiser(
            network=network,
            target=model.target,
            labels=labels,
            null_label=model.network.null_label,
            guidance=Guidance(scale=scale),
        )
        return denoiser(x, level)

    checks = []
    at = level.expand(2)
    for scale, own in ((1.0, labels), (0.0, torch.full_like(labels, model.network.null_label))):
        passes.clear()
        with torch.no_grad():
            value = float((guided(scale) - denoise(model.network, model.target, x, at, own)[0]).abs().max())
        note = f"{passes[0]} images through the network for 2"
        value = value if passes == [2] else math.inf
        name = f"w = {scale:g} against the network {'with' if scale else 'without'} the class"
        checks.append(Check(section="guidance", name=name, value=value, limit=0.0, note=note))
    return checks
