"""Samplers of second and third order for the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.samplers.sde import dpmpp_2m_sde
from latentdiff.diffusion.samplers.state import NoiseSampler, SamplerState, default_noise, half_log_snr, predict_eps
from latentdiff.errors import ConfigError

# Heun's second slope makes a step worse where the step starts above NEAR_NOISE_SIGMA and divides sigma / alpha by more
# than MAX_SIGMA_RATIO. For Gaussian data it overshoots by that ratio: the first step of a cosine schedule, from a
# sigma / alpha near 20,000, would throw the state out of the data's range for good.
NEAR_NOISE_SIGMA, MAX_SIGMA_RATIO = 100.0, 10.0


def heun(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: NoiseSampler | None = None,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    *,
    level_at: Callable[[float], NoiseLevels] | None = None,
    max_sigma_ratio: float = MAX_SIGMA_RATIO,
) -> Iterator[SamplerState]:
    """Sample with Heun's method in sigma / alpha and optional churn (Karras et al. 2022, algorithm 2).

    A step costs two network passes. The last step is Euler's and costs one, and so is a step from near pure noise that
    divides sigma / alpha by more than ``max_sigma_ratio``.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
        churn: S_churn of the paper. Above 0, each step first raises the noise level and adds matching noise.
        churn_min, churn_max: Range of sigma / alpha in which churn acts.
        churn_noise: Standard deviation of churn's noise, S_noise of the paper.
        level_at: Maps sigma / alpha to a level, such as a schedule's ``levels_at_sigma``. Churn needs it, since the
            raised level is not among ``levels``.
        max_sigma_ratio: A step from near pure noise that divides sigma / alpha by more than this is Euler's.

    Raises:
        ConfigError: ``churn`` is above 0 without ``level_at``.
    """
    if churn > 0.0 and level_at is None:
        raise ConfigError("churn needs level_at, such as a schedule's levels_at_sigma")
    noise = noise or default_noise(x)
    num_steps = len(levels) - 1
    for step in range(num_steps):
        t, s = levels[step], levels[step + 1]
        sigma_t = float(t.karras_sigma)
        if level_at is not None and churn > 0.0 and churn_min <= sigma_t <= churn_max and math.isfinite(sigma_t):
            raised = level_at(sigma_t * (1.0 + min(churn / num_steps, math.sqrt(2.0) - 1.0)))
            noise_std = math.sqrt(float(raised.karras_sigma) ** 2 - sigma_t**2) * churn_noise
            x = float(raised.alpha) * (x / float(t.alpha) + noise_std * noise())
            t, sigma_t = raised, float(raised.karras_sigma)
        pred_x0 = denoiser(x, t)
        slope = predict_eps(x, pred_x0, t)
        alpha_s, sigma_s = float(s.alpha), float(s.sigma)
        start, x = x, alpha_s * pred_x0 + sigma_s * slope
        overshoots = sigma_t > NEAR_NOISE_SIGMA and sigma_t * alpha_s > max_sigma_ratio * sigma_s
        if sigma_s > 0.0 and math.isfinite(sigma_t) and not overshoots:
            mean_slope = 0.5 * (slope + predict_eps(x, denoiser(x, s), s))
            x = alpha_s * (start / float(t.alpha) + (sigma_s / alpha_s - sigma_t) * mean_slope)
        yield SamplerState(step + 1, x, pred_x0, s)


def dpmpp_2m(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None
) -> Iterator[SamplerState]:
    """Sample with DPM-Solver++ 2M (Lu et al. 2022, algorithm 2), second order from one network pass a step.

    The sampler is deterministic. The first step has no history, and the last one ends at an infinite signal-to-noise
    ratio: both are first order. The code is that of SDE-DPM-Solver++ 2M without noise.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
    """
    return dpmpp_2m_sde(denoiser, x, levels, noise, eta=0.0)


@dataclass(frozen=True)
class _Step:
    """A step that UniPC took: from images ``x`` at ``level`` with prediction ``pred_x0``, by ``h`` in half log SNR."""

    level: NoiseLevels
    x: Tensor
    pred_x0: Tensor
    h: float


def unipc(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: NoiseSampler | None = None
) -> Iterator[SamplerState]:
    """Sample with UniPC of order 2, B(h) = e^h - 1, predicting x0 (Zhao et al. 2023, algorithms 5 to 8).

    The sampler is deterministic and costs one network pass a step. The predictor is DPM-Solver++ 2M. Before each
    further step the state is corrected with the prediction that the network makes there anyway, which makes the sampler
    third order at no further cost.

    Args:
        denoiser, x, levels, noise: See :mod:`latentdiff.diffusion.samplers`.
    """
    previous: _Step | None = None
    older: _Step | None = None
    for step in range(len(levels) - 1):
        t, s = levels[step], levels[step + 1]
        pred_x0 = denoiser(x, t)
        if previous is not None:
            x = _unic_correct(x, pred_x0, t, previous, older)
        h = half_log_snr(s) - half_log_snr(t)
        estimate = pred_x0
        if previous is not None and math.isfinite(h):
            estimate = pred_x0 + (pred_x0 - previous.pred_x0) * (0.5 * h / previous.h)
        older, previous = previous, _Step(t, x, pred_x0, h)
        x = float(s.sigma / t.sigma) * x - float(s.alpha) * math.expm1(-h) * estimate
        yield SamplerState(step + 1, x, pred_x0, s)


def _unic_correct(x: Tensor, pred_x0: Tensor, t: NoiseLevels, previous: _Step, older: _Step | None) -> Tensor:
    """Redo the ``previous`` step, which ended in ``x`` at ``t``, with the predictions before, at and after its start.

    Returns: the corrected images at ``t``, of ``x``'s shape.
    """
    h = previous.h
    if not math.isfinite(h):
        return x
    phi_1 = math.expm1(-h)  # the paper's B(h) and h phi_1(h), for a prediction of x0
    phi_2 = phi_1 / -h - 1.0
    base = float(t.sigma / previous.level.sigma) * previous.x - float(t.alpha) * phi_1 * previous.pred_x0
    if older is None or not math.isfinite(older.h):
        return base - float(t.alpha) * phi_1 * 0.5 * (pred_x0 - previous.pred_x0)
    # Two conditions for the weights of the two differences: exact for predictions quadratic in lambda.
    r = -older.h / h
    first, second = phi_2 / phi_1, 2.0 * (phi_2 / -h - 0.5) / phi_1
    weight_older = (second - first) / (r - 1.0)
    slope_older = weight_older * (older.pred_x0 - previous.pred_x0) / r
    slopes = slope_older + (first - weight_older) * (pred_x0 - previous.pred_x0)
    return base - float(t.alpha) * phi_1 * slopes
