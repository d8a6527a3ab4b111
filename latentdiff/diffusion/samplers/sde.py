"""Samplers of the reverse SDE."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions
from latentdiff.diffusion.samplers.state import NoiseSampler, SamplerState, default_noise, half_log_snr


def dpmpp_2m_sde(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None, eta: float = 1.0
) -> Iterator[SamplerState]:
    """Sample with SDE-DPM-Solver++ 2M (Lu et al. 2022, section 5), second order from one network pass a step.

    The formula is the midpoint form of k-diffusion.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        eta: Scale of the noise: 1 is the reverse SDE, 0 is DPM-Solver++ 2M.
    """
    noise = noise or default_noise(x)
    previous_x0, previous_h = None, 0.0
    for step in range(len(levels) - 1):
        t, s = levels[step], levels[step + 1]
        pred_x0 = denoiser(x, t)
        h = half_log_snr(s) - half_log_snr(t)
        estimate = pred_x0
        if previous_x0 is not None and math.isfinite(h):
            estimate = pred_x0 + (pred_x0 - previous_x0) * (0.5 * h / previous_h)
        eta_h = eta * h if eta else 0.0  # h is infinite at both ends, where 0 * h would be nan
        x = float(s.sigma / t.sigma) * math.exp(-eta_h) * x - float(s.alpha) * math.expm1(-h - eta_h) * estimate
        noise_std = float(s.sigma) * math.sqrt(-math.expm1(-2.0 * eta_h))
        if noise_std > 0.0:
            x = x + noise_std * noise()
        previous_x0, previous_h = pred_x0, h
        yield SamplerState(step + 1, x, pred_x0, s)


def euler_maruyama(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None
) -> Iterator[SamplerState]:
    """Sample with Euler-Maruyama on the reverse SDE, discretised like the forward SDE (Song et al. 2021, appendix E).

    Let beta be the variance that the forward process adds between the two levels, and r the ratio of their alphas.
    A step then maps x to (2 - r) x + beta score + sqrt(beta) z. For a variance-exploding process r is 1. The last step
    adds no noise.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
    """
    return predictor_corrector(denoiser, x, levels, noise, corrector_steps=0)


def predictor_corrector(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: NoiseSampler | None = None,
    corrector_steps: int = 1,
    corrector_snr: float = 0.16,
) -> Iterator[SamplerState]:
    """Sample with a reverse-diffusion step, then Langevin steps at the level reached (Song et al. 2021, alg. 2 to 5).

    The step size of Langevin dynamics is 2 (corrector_snr sigma)^2. The paper multiplies by the measured ratio of the
    norms of noise and score instead of sigma, which is what that ratio is on average. A ratio over the batch would make
    an image depend on its neighbours. A ratio of one image depends on the noise that it scales and biases the samples.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        corrector_steps: Langevin steps after each step; each costs one network pass.
        corrector_snr: The paper's r, the signal-to-noise ratio of a Langevin step.
    """
    noise = noise or default_noise(x)
    beta = Transitions.from_levels(levels).beta.tolist()
    for step in range(len(levels) - 1):
        t, s = levels[step], levels[step + 1]
        pred_x0 = denoiser(x, t)
        drift = 2.0 - float(t.alpha / s.alpha)
        x = drift * x + beta[step] * _score(x, pred_x0, t)
        if float(s.sigma) > 0.0:
            x = x + math.sqrt(beta[step]) * noise()
            for _ in range(corrector_steps):
                size = 2.0 * (corrector_snr * float(s.sigma)) ** 2
                x = x + size * _score(x, denoiser(x, s), s) + math.sqrt(2.0 * size) * noise()
        yield SamplerState(step + 1, x, pred_x0, s)


def _score(x: Tensor, pred_x0: Tensor, level: NoiseLevels) -> Tensor:
    """Return the gradient of the log-density of the noisy images (Vincent 2011), of ``x``'s shape."""
    return (float(level.alpha) * pred_x0 - x) / float(level.sigma) ** 2
