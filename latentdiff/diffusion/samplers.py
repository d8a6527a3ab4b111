"""Samplers: generator functions that walk down the noise axis and yield every state.

Each is called as ``sampler(denoiser, x, levels, noise)``:

- ``denoiser(x, level) -> x0``, see :mod:`latentdiff.diffusion.denoiser`;
- ``x`` [b, ...] at ``levels[0]``: pure noise times ``levels.sigma[0]``;
- ``levels``: the points to visit, the last perfectly clean;
- ``noise()``: a fresh standard normal draw of ``x``'s shape, for the stochastic ones;

and yields one :class:`State` after each step. Coefficients are computed in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.schedule import Levels


@dataclass(frozen=True)
class State:
    """Where a sampler is.

    Attributes:
        step: Steps done, from 1.
        x: The noisy images after the step, [b, ...].
        x0: The denoiser's guess of the clean ones in that step, [b, ...].
        level: The level that ``x`` is at.
    """

    step: int
    x: Tensor
    x0: Tensor
    level: Levels


Sampler = Callable[..., Iterator[State]]


def ddim(
    denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor], eta: float = 0.0
) -> Iterator[State]:
    """DDIM (Song et al. 2021, equation 12). ``eta`` 0 is deterministic, 1 has DDPM's posterior variance."""
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        eps = (x - float(now.alpha) * x0) / float(now.sigma)
        churn = eta * _posterior_std(now, then)
        x = float(then.alpha) * x0 + math.sqrt(max(float(then.sigma) ** 2 - churn**2, 0.0)) * eps
        if churn > 0.0:
            x = x + churn * noise()
        yield State(step + 1, x, x0, then)


def ddpm(denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor]) -> Iterator[State]:
    """DDPM's ancestral sampler (Ho et al. 2020, algorithm 2) with the posterior variance beta-tilde, at any levels.

    The posterior q(x_s | x_t, x0) over a stride is the one-step posterior of the process that visits only these
    levels, so any number of steps is exact Bayes; it is DDIM with eta = 1.
    """
    return ddim(denoiser, x, levels, noise, eta=1.0)


def dpmpp_2m(denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor]) -> Iterator[State]:
    """DPM-Solver++ 2M (Lu et al. 2022, algorithm 2): second order from one network pass a step, deterministic.

    The first step has no history and the last one ends at an infinite signal-to-noise ratio; both are first order.
    """
    previous, previous_h = None, 0.0
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        h = _log_snr(then) - _log_snr(now)
        estimate = x0
        if previous is not None and math.isfinite(h):
            estimate = x0 + (x0 - previous) * (0.5 * h / previous_h)
        x = float(then.sigma / now.sigma) * x - float(then.alpha) * math.expm1(-h) * estimate
        previous, previous_h = x0, h
        yield State(step + 1, x, x0, then)


def _posterior_std(now: Levels, then: Levels) -> float:
    """Standard deviation of q(x_then | x_now, x0) (Ho et al. 2020, equation 7, for any two levels)."""
    ratio = float(now.alpha / then.alpha)
    kept = 1.0 - (ratio * float(then.sigma / now.sigma)) ** 2
    return float(then.sigma) * math.sqrt(max(kept, 0.0))


def _log_snr(level: Levels) -> float:
    """Half the log signal-to-noise ratio, lambda = log(alpha / sigma); infinite for a clean level."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    return math.inf if sigma == 0.0 else -math.inf if alpha == 0.0 else math.log(alpha / sigma)


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp_2m": dpmpp_2m}
