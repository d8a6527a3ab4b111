"""What must hold whatever the network: targets that are one another's equals, images that depend on nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.diffusion.denoiser import Guidance, NetworkDenoiser, denoise
from latentdiff.diffusion.levels import add_noise
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import TARGETS, build_target, loss_weight
from latentdiff.models.unet import UNet
from latentdiff.pipeline import DiffusionModel
from latentdiff.verify import Check, largest

LOSS_WEIGHTS = ("simple", "min_snr", "truncated_snr", "edm")
BATCH_SIZES = (1, 3, 64)
NETWORK = NetworkConfig(channels=(8, 16), num_res_blocks=1, attention_levels=(1,), head_channels=8)


def processes() -> list[DiffusionConfig]:
    """Every process that each target goes with."""
    configs = []
    for target in TARGETS:
        for schedule in ("linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve"):
            if target == "v" and schedule in ("edm", "ve"):
                continue
            for steps in (1000, None) if schedule not in ("edm", "ve") else (None,):
                configs.append(DiffusionConfig(schedule=schedule, target=target, num_train_steps=steps, sigma_data=0.5))
    return configs


def check_targets() -> list[Check]:
    """The exact output of each target gives x0 back, and every error of it costs something."""
    worst = dict.fromkeys(TARGETS, 0.0)
    least = dict.fromkeys(TARGETS, math.inf)
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(16, 1, 4, 4, generator=generator, dtype=torch.float64)

    for config in processes():
        schedule, target = build_schedule(config), build_target(config)
        levels = schedule.training_levels((torch.arange(16) + 0.5) / 16)
        x0, noise = normal(), normal()
        x, output = add_noise(x0, noise, levels), target.of(x0, noise, levels)
        # At pure noise any x0 fits an eps; what is lost is counted against the noise there.
        scale = levels.like(x0).ratio.clamp_min(1.0)
        error = ((target.to_x0(output, x, levels) - x0) / scale).abs().max()
        worst[config.target] = largest([worst[config.target], float(error)])
        for name in LOSS_WEIGHTS:
            weight = loss_weight(replace(config, loss_weight=name), target, levels.snr)
            finite = torch.where(weight.isfinite(), weight, -math.inf)
            least[config.target] = min(least[config.target], float(finite.min()))
    section = "targets"
    return [
        Check(section=section, name=f"{name}: x0 from the exact output", value=value, limit=1e-6)
        for name, value in worst.items()
    ] + [
        Check(
            section=section,
            name=f"{name}: least weight of an error",
            value=value,
            limit=1e-9,
            at_least=True,
            note="of all processes, levels and loss weights: no error is free",
        )
        for name, value in least.items()
    ]


def small_model() -> DiffusionModel:
    """A class-conditional pixel model with random weights."""
    torch.manual_seed(0)
    network = UNet(1, 3, NETWORK)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return DiffusionModel(network, NETWORK, DiffusionConfig(), IdentityCodec((1, 8, 8)), ("a", "b", "c"))


def check_determinism() -> list[Check]:
    """Image i does not depend on the batch it is sampled in, for every sampler."""
    model, checks = small_model(), []
    for sampler in SAMPLERS:
        settings = {"steps": 4, "sampler": sampler, "seed": 3, "guidance_scale": 2.0}
        runs = [model.sample(7, batch_size=size, **settings) for size in BATCH_SIZES]
        value = max(float((run.int() - runs[0].int()).abs().max()) for run in runs)
        note = f"largest difference in grey levels between batches of {', '.join(map(str, BATCH_SIZES))}"
        checks.append(Check(section="determinism", name=sampler, value=value, limit=0.0, note=note))
    return checks


def check_guidance() -> list[Check]:
    """w = 1 is the network with the class in one pass, w = 0 the one without, both bit for bit."""
    model = small_model()
    x, labels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    level = model.schedule.levels(torch.tensor(500))
    passes: list[int] = []

    def network(x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        passes.append(len(x))
        return model.network(x, time, labels)

    def guess(scale: float) -> Tensor:
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
            value = float((guess(scale) - denoise(model.network, model.target, x, at, own)[0]).abs().max())
        note = f"{passes[0]} images through the network for 2"
        value = value if passes == [2] else math.inf
        name = f"w = {scale:g} against the network {'with' if scale else 'without'} the class"
        checks.append(Check(section="guidance", name=name, value=value, limit=0.0, note=note))
    return checks
