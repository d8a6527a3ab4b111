"""What a sampler yields, and the quantities that several of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from latentdiff.diffusion.noise_levels import NoiseLevels


@dataclass(frozen=True)
class SamplerState:
    """Where a sampler is.

    Attributes:
        step: Steps done, from 1.
        x: The noisy images after the step, [b, ...].
        pred_x0: The denoiser's guess of the clean ones in that step, [b, ...].
        level: The level that ``x`` is at.
    """

    step: int
    x: Tensor
    pred_x0: Tensor
    level: NoiseLevels


def predict_eps(x: Tensor, x0: Tensor, level: NoiseLevels) -> Tensor:
    """The eps that x = alpha x0 + sigma eps leaves."""
    return (x - float(level.alpha) * x0) / float(level.sigma)


def half_log_snr(level: NoiseLevels) -> float:
    """Half the log signal-to-noise ratio, lambda = log(alpha / sigma): infinite for a clean level or pure noise."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    return math.inf if sigma == 0.0 else -math.inf if alpha == 0.0 else math.log(alpha / sigma)
