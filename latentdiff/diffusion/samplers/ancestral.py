"""First-order samplers: DDPM and DDIM, and the two Euler samplers of k-diffusion, which are cases of DDIM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser, VarianceDenoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions
from latentdiff.diffusion.samplers.state import NoiseSampler, SamplerState, default_noise, predict_eps
from latentdiff.errors import ConfigError


def ddim(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None, eta: float = 0.0
) -> Iterator[SamplerState]:
    """Sample with DDIM (Song et al. 2021, equation 12), one network pass a step.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        eta: Share of DDPM's posterior standard deviation to add as noise: 0 is deterministic, 1 is DDPM.
    """
    noise = noise or default_noise(x)
    posterior_std = Transitions.from_levels(levels).posterior_variance.sqrt().tolist()
    for step in range(len(levels) - 1):
        t, s = levels[step], levels[step + 1]
        pred_x0 = denoiser(x, t)
        eps = predict_eps(x, pred_x0, t)
        noise_std = eta * posterior_std[step]
        x = float(s.alpha) * pred_x0 + math.sqrt(max(float(s.sigma) ** 2 - noise_std**2, 0.0)) * eps
        if noise_std > 0.0:
            x = x + noise_std * noise()
        yield SamplerState(step + 1, x, pred_x0, s)


def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: NoiseSampler | None = None,
    variance: Literal["small", "large", "learned"] = "small",
) -> Iterator[SamplerState]:
    """Sample with DDPM's ancestral sampler (Ho et al. 2020, algorithm 2), one network pass a step.

    The levels need not be neighbouring training steps. The last step adds no noise.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        variance: Variance of the noise that a step adds. ``small`` is the posterior's beta-tilde, which makes the
            sampler DDIM with eta 1. ``large`` is beta. ``learned`` is the network's own (Nichol and Dhariwal 2021).

    Raises:
        ConfigError: ``variance`` is learned, and the denoiser has no method ``with_variance``.
    """
    if variance == "learned" and not isinstance(denoiser, VarianceDenoiser):
        raise ConfigError("variance learned needs a denoiser with a method with_variance")
    noise = noise or default_noise(x)
    transitions = Transitions.from_levels(levels)
    # A learned variance lies between two tables, which are copied once.
    on_device = transitions.to(x.device) if variance == "learned" else transitions
    for step in range(len(levels) - 1):
        t, s = levels[step], levels[step + 1]
        model_var_values = None
        if variance == "learned" and isinstance(denoiser, VarianceDenoiser):
            pred_x0, model_var_values = denoiser.with_variance(x, t)
        else:
            pred_x0 = denoiser(x, t)
        coef1, coef2 = transitions.posterior_mean_coef1[step], transitions.posterior_mean_coef2[step]
        x = float(coef2) * x + float(coef1) * pred_x0
        if float(s.sigma) > 0.0:
            if model_var_values is None:
                fixed = transitions.beta if variance == "large" else transitions.posterior_variance
                std = math.sqrt(float(fixed[step]))
            else:
                std = torch.exp(0.5 * on_device.log_variance(model_var_values, step))
            x = x + std * noise()
        yield SamplerState(step + 1, x, pred_x0, s)


def euler(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None
) -> Iterator[SamplerState]:
    """Sample with Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 1 without lines 6 to 8).

    One Euler step in sigma / alpha equals one DDIM step with eta 0 for every process, so the code is DDIM's.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
    """
    return ddim(denoiser, x, levels, noise)


def euler_ancestral(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None, eta: float = 1.0
) -> Iterator[SamplerState]:
    """Sample with k-diffusion's ancestral Euler: a step beyond the next level, then noise back up to that level.

    One step equals one DDIM step with the same ``eta``, so the code is DDIM's.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        eta: Scale of the added noise.
    """
    return ddim(denoiser, x, levels, noise, eta)
