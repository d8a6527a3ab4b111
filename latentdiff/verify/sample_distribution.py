"""The distribution of the samples that every sampler draws with the exact denoiser, against the data's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import Schedule, build_schedule
from latentdiff.verify.check import Check
from latentdiff.verify.closed_form import DISTRIBUTIONS, PROCESSES, GaussianMixture

NUM_SAMPLES = 4000
LIMIT = 4.0  # standard errors


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """A sampler and its settings.

    Attributes:
        sampler: The sampler's name.
        steps: Steps at which the sampler's bias is well below the sampling error of ``NUM_SAMPLES`` samples.
        options: Options that this sampler has.
    """

    sampler: str
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)


# Samplers of the second order need a tenth of the steps of the others.
SECOND_ORDER = ("heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
SAMPLERS_AND_STEPS = {
    name: SamplerSettings(sampler=name, steps=100 if name in SECOND_ORDER else 1000) for name in SAMPLERS
} | {
    "ddpm with the large variance": SamplerSettings(sampler="ddpm", steps=1000, options={"variance": "large"}),
    # S_churn, in as many steps, of Karras et al. 2022, table 5, for ImageNet.
    "heun with churn": SamplerSettings(sampler="heun", steps=256, options={"churn": 40.0}),
}


def draw_samples(settings: SamplerSettings, data: GaussianMixture, schedule: Schedule) -> Tensor:
    """Draw ``NUM_SAMPLES`` samples [n, d] over the schedule's whole range."""
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(NUM_SAMPLES, 2, generator=generator, dtype=torch.float64)

    options = dict(settings.options)
    if settings.sampler == "heun":
        options["level_at"] = schedule.levels_at_sigma
    levels = schedule.sampling_levels(settings.steps, "karras")
    *_, last = SAMPLERS[settings.sampler](data, noise() * float(levels.sigma[0]), levels, noise, **options)
    return last.x


def moment_error(samples: Tensor, data: GaussianMixture) -> float:
    """Return the largest error of the mean and covariance of ``samples`` [n, d], in standard errors."""
    n, mean, cov = len(samples), data.mean, data.cov
    difference = samples - mean
    errors = [(difference.mean(dim=0)).abs() / (cov.diagonal() / n).sqrt()]
    products = difference[:, :, None] * difference[:, None]
    errors.append(((products.mean(dim=0) - cov).abs() / (products.std(dim=0) / math.sqrt(n))).flatten())
    return float(torch.cat(errors).max())


def check_distribution(
    settings_by_name: Mapping[str, SamplerSettings] = SAMPLERS_AND_STEPS,
    distributions: Mapping[str, GaussianMixture] = DISTRIBUTIONS,
) -> list[Check]:
    """Measure mean and covariance of every sampler's samples."""
    checks = []
    for process, config in PROCESSES.items():
        schedule = build_schedule(config)
        for distribution, data in distributions.items():
            for name, settings in settings_by_name.items():
                label = f"{name}, {process}, {distribution}"
                note = f"{NUM_SAMPLES} draws, {settings.steps} steps, in standard errors of mean and covariance"
                value = moment_error(draw_samples(settings, data, schedule), data)
                checks.append(Check(section="distribution", name=label, value=value, limit=LIMIT, note=note))
    return checks
