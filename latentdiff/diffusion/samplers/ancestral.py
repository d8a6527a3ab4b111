"""First-order samplers: DDPM, DDIM, and the two that k-diffusion calls Euler, which turn out to be among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions
from latentdiff.diffusion.samplers.state import SamplerState, predict_eps


def ddim(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor], eta: float = 0.0
) -> Iterator[SamplerState]:
    """DDIM (Song et al. 2021, equation 12). ``eta`` 0 is deterministic, 1 has DDPM's posterior variance."""
    posterior_std = Transitions.from_levels(levels).posterior_variance.sqrt().tolist()
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        fresh = eta * posterior_std[step]
        eps = predict_eps(x, x0, now)
        x = float(then.alpha) * x0 + math.sqrt(max(float(then.sigma) ** 2 - fresh**2, 0.0)) * eps
        if fresh > 0.0:
            x = x + fresh * noise()
        yield SamplerState(step + 1, x, x0, then)


def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: Callable[[], Tensor],
    variance: Literal["small", "large", "learned"] = "small",
) -> Iterator[SamplerState]:
    """DDPM's ancestral sampler (Ho et al. 2020, algorithm 2) over any levels; the last step adds no noise.

    ``variance``: beta-tilde (``small``, for which it is DDIM with eta 1), beta (``large``), or the network's own
    (``learned``; Nichol and Dhariwal 2021), for which the denoiser needs ``with_variance``.
    """
    steps = Transitions.from_levels(levels)
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0, model_var_values = denoiser.with_variance(x, now) if variance == "learned" else (denoiser(x, now), None)
        x = float(steps.posterior_mean_coef2[step]) * x + float(steps.posterior_mean_coef1[step]) * x0
        if float(then.sigma) > 0.0:
            if model_var_values is None:
                std = math.sqrt(float((steps.beta if variance == "large" else steps.posterior_variance)[step]))
            else:
                std = torch.exp(0.5 * steps.log_variance(model_var_values, step))
            x = x + std * noise()
        yield SamplerState(step + 1, x, x0, then)


def euler(denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor]) -> Iterator[SamplerState]:
    """Euler's method on the probability-flow ODE in sigma / alpha (Karras et al. 2022, algorithm 1 without lines 6-8).

    One such step is exactly a DDIM step with eta 0, whatever the process, so that is what it is.
    """
    return ddim(denoiser, x, levels, noise)


def euler_ancestral(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor], eta: float = 1.0
) -> Iterator[SamplerState]:
    """An Euler step past the next level, then noise back up to it (k-diffusion): DDIM with ``eta``, step for step."""
    return ddim(denoiser, x, levels, noise, eta)
