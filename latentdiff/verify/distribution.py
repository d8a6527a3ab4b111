"""Every sampler, with the exact denoiser, carries draws of the prior to the data's distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import Schedule, build_schedule
from latentdiff.verify import Check
from latentdiff.verify.closed_form import DATA, PROCESSES, Mixture

DRAWS = 4000
LIMIT = 4.0  # standard errors


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a sampler is run.

    Attributes:
        sampler: Which.
        steps: A number at which its own bias is well below the sampling error of ``DRAWS``.
        options: Of the sampler's own.
    """

    sampler: str
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)


RUNS = {
    "ddim": Run(sampler="ddim", steps=1000),
    "euler": Run(sampler="euler", steps=1000),
    "heun": Run(sampler="heun", steps=100),
    "dpmpp_2m": Run(sampler="dpmpp_2m", steps=100),
    "unipc": Run(sampler="unipc", steps=100),
    "ddpm": Run(sampler="ddpm", steps=1000),
    "ddpm with the large variance": Run(sampler="ddpm", steps=1000, options={"variance": "large"}),
    "euler_ancestral": Run(sampler="euler_ancestral", steps=1000),
    # S_churn, in as many steps, of Karras et al. 2022, table 5, for ImageNet.
    "heun with churn": Run(sampler="heun", steps=256, options={"churn": 40.0}),
    "dpmpp_2m_sde": Run(sampler="dpmpp_2m_sde", steps=100),
    "euler_maruyama": Run(sampler="euler_maruyama", steps=1000),
    "predictor_corrector": Run(sampler="predictor_corrector", steps=1000),
}


def samples(run: Run, data: Mixture, schedule: Schedule) -> Tensor:
    """Where ``run`` carries ``DRAWS`` draws of the prior, over the schedule's whole range: [n, d]."""
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(DRAWS, 2, generator=generator, dtype=torch.float64)

    options = dict(run.options)
    if run.sampler == "heun":
        options["level_at"] = schedule.levels_at_sigma
    levels = schedule.sampling_levels(run.steps, "karras")
    *_, last = SAMPLERS[run.sampler](data, noise() * float(levels.sigma[0]), levels, noise, **options)
    return last.x


def sample_errors(samples: Tensor, data: Mixture) -> float:
    """How far mean and covariance of ``samples`` [n, d] are from the data's: the largest, in standard errors."""
    n, mean, cov = len(samples), data.mean, data.cov
    away = samples - mean
    errors = [(away.mean(dim=0)).abs() / (cov.diagonal() / n).sqrt()]
    products = away[:, :, None] * away[:, None]
    errors.append(((products.mean(dim=0) - cov).abs() / (products.std(dim=0) / math.sqrt(n))).flatten())
    return float(torch.cat(errors).max())


def check_distribution(runs: Mapping[str, Run] = RUNS, kinds: Mapping[str, Mixture] = DATA) -> list[Check]:
    """Mean and covariance of every sampler's draws, deterministic or not."""
    checks = []
    for process, config in PROCESSES.items():
        schedule = build_schedule(config)
        for kind, data in kinds.items():
            for name, run in runs.items():
                label = f"{name}, {process}, {kind}"
                note = f"{DRAWS} draws, {run.steps} steps, in standard errors of mean and covariance"
                value = sample_errors(samples(run, data, schedule), data)
                checks.append(Check(section="distribution", name=label, value=value, limit=LIMIT, note=note))
    return checks
