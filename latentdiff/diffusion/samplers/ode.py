"""Second-order samplers of the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.samplers.sde import dpmpp_2m_sde
from latentdiff.diffusion.samplers.state import SamplerState, half_log_snr, predict_eps

# A level of nearly nothing but noise, and a fall from it (both in sigma / alpha), from which on Heun's mean of two
# slopes is worse than the first alone: for Gaussian data it overshoots by the fall's ratio, and the step from a cosine
# schedule's last level, near 20,000, would throw the state out of the data's range for good.
NEAR_NOISE_SIGMA, MAX_SIGMA_RATIO = 100.0, 10.0


def heun(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: Callable[[], Tensor],
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    *,
    level_at: Callable[[float], NoiseLevels] | None = None,
    max_sigma_ratio: float = MAX_SIGMA_RATIO,
) -> Iterator[SamplerState]:
    """Heun's method in sigma / alpha with optional churn (Karras et al. 2022, algorithm 2): two passes a step.

    The last step is Euler's, and so is one from (nearly) pure noise that divides sigma / alpha by more than
    ``max_sigma_ratio``. ``churn`` (S_churn) above 0 first raises the noise of states between ``churn_min`` and
    ``churn_max`` by a share, by noise of standard deviation ``churn_noise``; it needs ``level_at``,
    a schedule's ``levels_at_sigma``, since the
    raised level is not among ``levels``.
    """
    num_steps = len(levels) - 1
    for step in range(num_steps):
        now, then = levels[step], levels[step + 1]
        s = float(now.karras_sigma)
        if churn > 0.0 and churn_min <= s <= churn_max and math.isfinite(s):
            raised = level_at(s * (1.0 + min(churn / num_steps, math.sqrt(2.0) - 1.0)))
            added = math.sqrt(float(raised.karras_sigma) ** 2 - s**2) * churn_noise
            x = float(raised.alpha) * (x / float(now.alpha) + added * noise())
            now, s = raised, float(raised.karras_sigma)
        x0 = denoiser(x, now)
        slope = predict_eps(x, x0, now)
        alpha, sigma = float(then.alpha), float(then.sigma)
        start, x = x, alpha * x0 + sigma * slope
        steep = s > NEAR_NOISE_SIGMA and s * alpha > max_sigma_ratio * sigma
        if sigma > 0.0 and math.isfinite(s) and not steep:
            mean_slope = 0.5 * (slope + predict_eps(x, denoiser(x, then), then))
            x = alpha * (start / float(now.alpha) + (sigma / alpha - s) * mean_slope)
        yield SamplerState(step + 1, x, x0, then)


def dpmpp_2m(denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor]) -> Iterator[SamplerState]:
    """DPM-Solver++ 2M (Lu et al. 2022, algorithm 2): second order from one network pass a step, deterministic.

    The first step has no history and the last one ends at an infinite signal-to-noise ratio; both are first order.
    It is SDE-DPM-Solver++ 2M without the noise.
    """
    return dpmpp_2m_sde(denoiser, x, levels, noise, eta=0.0)


def unipc(denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor]) -> Iterator[SamplerState]:
    """UniPC of order 2 with B(h) = e^h - 1 on x0 (Zhao et al. 2023, algorithms 5 to 8): one network pass a step.

    The predictor is DPM-Solver++ 2M. Before each further step the state is corrected with the denoised image that the
    network computed there anyway. That makes it third order without a further pass.
    """
    before = None  # the step before: its start (level, state, pred_x0) and the pred_x0 and step size before that
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        if before is not None:
            x = _unic_correct(x, x0, now, *before)
        h = half_log_snr(then) - half_log_snr(now)
        older = (before[2], before[5]) if before is not None else (None, 0.0)
        estimate = x0
        if older[0] is not None and math.isfinite(h):
            estimate = x0 + (x0 - older[0]) * (0.5 * h / older[1])
        before = (now, x, x0, *older, h)
        x = float(then.sigma / now.sigma) * x - float(then.alpha) * math.expm1(-h) * estimate
        yield SamplerState(step + 1, x, x0, then)


def _unic_correct(
    x: Tensor,
    x0: Tensor,
    now: NoiseLevels,
    last: NoiseLevels,
    start: Tensor,
    pred_x0: Tensor,
    older,
    older_h: float,
    h: float,
) -> Tensor:
    """UniC: redo the step from ``start`` at ``last`` to ``now`` with the guesses before, at and after it."""
    if not math.isfinite(h):
        return x
    phi_1 = math.expm1(-h)  # the paper's B(h) and h phi_1(h), on x0
    phi_2 = phi_1 / -h - 1.0
    base = float(now.sigma / last.sigma) * start - float(now.alpha) * phi_1 * pred_x0
    if older is None or not math.isfinite(older_h):
        return base - float(now.alpha) * phi_1 * 0.5 * (x0 - pred_x0)
    # Two conditions for the weights of the two differences: exact for guesses quadratic in lambda.
    r = -older_h / h
    first, second = phi_2 / phi_1, 2.0 * (phi_2 / -h - 0.5) / phi_1
    weight_older = (second - first) / (r - 1.0)
    slopes = weight_older * (older - pred_x0) / r + (first - weight_older) * (x0 - pred_x0)
    return base - float(now.alpha) * phi_1 * slopes
