"""First-order samplers: DDPM, DDIM, and the two that k-diffusion calls Euler, which turn out to be among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import Levels, Transitions
from latentdiff.diffusion.samplers.state import State, implied_noise


def ddim(
    denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor], eta: float = 0.0
) -> Iterator[State]:
    """DDIM (Song et al. 2021, equation 12). ``eta`` 0 is deterministic, 1 has DDPM's posterior variance."""
    posterior_std = Transitions.between(levels).small.sqrt().tolist()
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        fresh = eta * posterior_std[step]
        eps = implied_noise(x, x0, now)
        x = float(then.alpha) * x0 + math.sqrt(max(float(then.sigma) ** 2 - fresh**2, 0.0)) * eps
        if fresh > 0.0:
            x = x + fresh * noise()
        yield State(step + 1, x, x0, then)


def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    levels: Levels,
    noise: Callable[[], Tensor],
    variance: Literal["small", "large", "learned"] = "small",
) -> Iterator[State]:
    """DDPM's ancestral sampler (Ho et al. 2020, algorithm 2) over any levels; the last step adds no noise.

    ``variance``: beta-tilde (``small``, for which it is DDIM with eta 1), beta (``large``), or the network's own
    (``learned``; Nichol and Dhariwal 2021), for which the denoiser needs ``with_variance``.
    """
    steps = Transitions.between(levels)
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0, fraction = denoiser.with_variance(x, now) if variance == "learned" else (denoiser(x, now), None)
        x = float(steps.x_gain[step]) * x + float(steps.x0_gain[step]) * x0
        if float(then.sigma) > 0.0:
            if fraction is None:
                std = math.sqrt(float((steps.large if variance == "large" else steps.small)[step]))
            else:
                std = torch.exp(0.5 * steps.log_variance(fraction, step))
            x = x + std * noise()
        yield State(step + 1, x, x0, then)


def euler(denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor]) -> Iterator[State]:
    """Euler's method on the probability-flow ODE in sigma / alpha (Karras et al. 2022, algorithm 1 without lines 6-8).

    One such step is exactly a DDIM step with eta 0, whatever the process, so that is what it is.
    """
    return ddim(denoiser, x, levels, noise)


def euler_ancestral(
    denoiser: Denoiser, x: Tensor, levels: Levels, noise: Callable[[], Tensor], eta: float = 1.0
) -> Iterator[State]:
    """An Euler step past the next level, then noise back up to it (k-diffusion): DDIM with ``eta``, step for step."""
    return ddim(denoiser, x, levels, noise, eta)
