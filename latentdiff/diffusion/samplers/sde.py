"""Samplers of the reverse SDE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions
from latentdiff.diffusion.samplers.state import SamplerState, half_log_snr


def dpmpp_2m_sde(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor], eta: float = 1.0
) -> Iterator[SamplerState]:
    """SDE-DPM-Solver++ 2M (Lu et al. 2022, section 5; the midpoint form of k-diffusion), second order in x0.

    ``eta`` scales the noise: 1 is the reverse SDE, 0 is DPM-Solver++ 2M.
    """
    previous, previous_h = None, 0.0
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        h = half_log_snr(then) - half_log_snr(now)
        estimate = x0
        if previous is not None and math.isfinite(h):
            estimate = x0 + (x0 - previous) * (0.5 * h / previous_h)
        renewed = eta * h if eta else 0.0  # h is infinite at the ends
        x = (
            float(then.sigma / now.sigma) * math.exp(-renewed) * x
            - float(then.alpha) * math.expm1(-h - renewed) * estimate
        )
        fresh = float(then.sigma) * math.sqrt(-math.expm1(-2.0 * renewed))
        if fresh > 0.0:
            x = x + fresh * noise()
        previous, previous_h = x0, h
        yield SamplerState(step + 1, x, x0, then)


def euler_maruyama(
    denoiser: Denoiser, x: Tensor, levels: NoiseLevels, noise: Callable[[], Tensor]
) -> Iterator[SamplerState]:
    """Euler-Maruyama on the reverse SDE, discretised as the forward one is (Song et al. 2021, appendix E).

    With beta the variance that the step to ``then`` takes back and r the ratio of the alphas, x becomes
    (2 - r) x + beta score + sqrt(beta) z; for a variance-exploding process r is 1. The last step adds no noise.
    """
    return predictor_corrector(denoiser, x, levels, noise, corrector_steps=0)


def predictor_corrector(
    denoiser: Denoiser,
    x: Tensor,
    levels: NoiseLevels,
    noise: Callable[[], Tensor],
    corrector_steps: int = 1,
    corrector_snr: float = 0.16,
) -> Iterator[SamplerState]:
    """A reverse-diffusion step, then Langevin steps at the level reached (Song et al. 2021, algorithms 2 to 5).

    Each Langevin step costs a network pass. Its size is 2 (r sigma)^2 with ``corrector_snr`` the paper's r. The paper
    puts the ratio of the norms of noise and score for sigma, which is what that ratio is on average. Taken over a batch
    it would make an image depend on its neighbours, and over one image it depends on the noise that it scales, which
    biases the samples.
    """
    beta = Transitions.from_levels(levels).beta.tolist()
    for step in range(len(levels) - 1):
        now, then = levels[step], levels[step + 1]
        x0 = denoiser(x, now)
        drift = 2.0 - float(now.alpha / then.alpha)
        x = drift * x + beta[step] * _score(x, x0, now)
        if float(then.sigma) > 0.0:
            x = x + math.sqrt(beta[step]) * noise()
            for _ in range(corrector_steps):
                size = 2.0 * (corrector_snr * float(then.sigma)) ** 2
                x = x + size * _score(x, denoiser(x, then), then) + math.sqrt(2.0 * size) * noise()
        yield SamplerState(step + 1, x, x0, then)


def _score(x: Tensor, x0: Tensor, level: NoiseLevels) -> Tensor:
    """Gradient of the log-density of the noisy images (Vincent 2011)."""
    return (float(level.alpha) * x0 - x) / float(level.sigma) ** 2
