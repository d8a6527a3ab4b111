"""What a sampler yields, and the quantities that several samplers share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.diffusion.noise_levels import NoiseLevels

# Returns fresh standard normal noise of the images' shape at each call.
NoiseSampler = Callable[[], Tensor]


@dataclass(frozen=True)
class SamplerState:
    """The state of a sampler after one step.

    Attributes:
        step: Number of steps done, from 1.
        x: Noisy images after the step, [b, ...].
        pred_x0: Clean images that the denoiser predicted in the step, [b, ...].
        level: Noise level of ``x``.
    """

    step: int
    x: Tensor
    pred_x0: Tensor
    level: NoiseLevels


def default_noise(x: Tensor) -> NoiseSampler:
    """Return a function that draws standard normal noise of ``x``'s shape, type and device."""
    return lambda: torch.randn_like(x)


def predict_eps(x: Tensor, pred_x0: Tensor, level: NoiseLevels) -> Tensor:
    """Return the noise eps that solves x = alpha pred_x0 + sigma eps, of ``x``'s shape."""
    return (x - float(level.alpha) * pred_x0) / float(level.sigma)


def half_log_snr(level: NoiseLevels) -> float:
    """Return lambda = log(alpha / sigma), half the log signal-to-noise ratio.

    It is inf for a clean level and -inf for pure noise.
    """
    alpha, sigma = float(level.alpha), float(level.sigma)
    return math.inf if sigma == 0.0 else -math.inf if alpha == 0.0 else math.log(alpha / sigma)
