"""How probable a model finds given images: the variational bound, and the likelihood of the probability-flow ODE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions, add_noise

# Half the distance of two neighbouring uint8 values in [-1, 1].
HALF_BIN = 1.0 / 255.0


def variational_bound_term(
    steps: Transitions,
    index: Tensor,
    x: Tensor,
    x0: Tensor,
    pred_x0: Tensor,
    log_variance: Tensor,
    discretised: bool,
) -> Tensor:
    """One term of the variational bound for each image, nats per dimension [b] (Ho et al. 2020, equation 5).

    Args:
        steps: The transitions, noisiest first.
        index: Which of them, int64 [b]. The last is the decoder's: -log p(x0 | x); the others are
            KL(q(x_then | x_now, x0) || p(x_then | x_now)).
        x, x0, pred_x0: The noisy images at the transition's start, the clean ones, the model's pred_x0 of them.
        log_variance: The model's, broadcastable to x.
        discretised: x0 are uint8 values scaled to [-1, 1]: the decoder then gives the probability of their bins.
    """

    def of(values: Tensor) -> Tensor:
        return values[index.cpu()].to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))

    squared = (of(steps.posterior_mean_coef1) * (x0 - pred_x0)).square() * torch.exp(-log_variance)
    small = of(steps.posterior_variance)
    own = small.clamp_min(1e-30).log()
    divergence = 0.5 * (squared - 1.0 + log_variance - own + torch.exp(own - log_variance))
    if discretised:
        decoder = -_discretised_gaussian_log_likelihood(x0, pred_x0, torch.exp(0.5 * log_variance))
    else:
        decoder = 0.5 * (math.log(2.0 * math.pi) + log_variance + squared)
    return torch.where(small > 0, divergence, decoder).flatten(1).mean(dim=1)


def _discretised_gaussian_log_likelihood(x0: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-probability that N(mean, std^2) gives the uint8 bin around x0; the two outer bins are open."""
    upper = torch.where(x0 > 1.0 - HALF_BIN, math.inf, (x0 - mean + HALF_BIN) / std)
    lower = torch.where(x0 < -1.0 + HALF_BIN, -math.inf, (x0 - mean - HALF_BIN) / std)
    return (torch.special.ndtr(upper) - torch.special.ndtr(lower)).clamp_min(1e-12).log()


@dataclass(frozen=True)
class VariationalBound:
    """A variational bound in bits per dimension, of each image: [b].

    Attributes:
        prior: What the start of sampling, pure noise, costs.
        steps: The sum over the transitions.
        decoder: The last step, from the least noise to the image.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        return self.prior + self.steps + self.decoder


def variational_bound(
    denoiser: Denoiser,
    x0: Tensor,
    levels: NoiseLevels,
    noise: Callable[[], Tensor],
    variance: Literal["small", "large", "learned"] = "large",
    discretised: bool = False,
) -> VariationalBound:
    """The variational bound on -log2 p(x0) per dimension: one network pass for each of ``levels``.

    Args:
        denoiser: x0 = D(x, level); with a learned variance its ``with_variance`` is called.
        x0: Clean images or latents, [b, ...].
        levels: The process: falling, the last clean.
        noise: A fresh normal draw of x0's shape: each term is estimated from one.
        variance: The model's, as in :func:`~latentdiff.diffusion.samplers.ancestral.ddpm`.
        discretised: See :func:`variational_bound_term`. Without it the bound is on a density: it may be negative.
    """
    steps = Transitions.from_levels(levels)
    terms = []
    for step in range(len(levels) - 1):
        now = levels[step]
        x = add_noise(x0, noise(), now.expand(len(x0)))
        if variance == "learned":
            pred_x0, model_var_values = denoiser.with_variance(x, now)
            log_variance = steps.log_variance(model_var_values, step)
        else:
            pred_x0 = denoiser(x, now)
            # A known x0 has no variance: at the clean end both choices are the large one.
            fixed = (
                steps.posterior_variance if variance == "small" and steps.posterior_variance[step] > 0 else steps.beta
            )
            log_variance = fixed[step].log().to(x.device, x.dtype)
        index = torch.full((len(x0),), step)
        terms.append(variational_bound_term(steps, index, x, x0, pred_x0, log_variance, discretised))
    prior = 0.5 * (x0 / float(levels.sigma[0]) * float(levels.alpha[0])).square().flatten(1).mean(dim=1)
    bits = 1.0 / math.log(2.0)
    return VariationalBound(prior * bits, sum(terms[:-1]) * bits, terms[-1] * bits)


def ode_bits_per_dim(denoiser: Denoiser, x0: Tensor, levels: NoiseLevels, probe: Callable[[], Tensor]) -> Tensor:
    """-log2 p(x0) per dimension [b], by following the probability-flow ODE from the image to noise.

    Song et al. 2021, section 4.3, by Heun's method in log(sigma / alpha), in which y = x / alpha moves with y - D. The
    trace of D's Jacobian is estimated with random signs (Hutchinson), so D must be differentiable. The density is that
    of the data with the noise of the lowest level added; noise at the highest level is taken as N(0, 1 + ratio^2).

    Args:
        denoiser, x0: As in :func:`variational_bound`; no clamping, whose gradient is zero.
        levels: Falling; a clean last one is left out.
        probe: A fresh normal draw of x0's shape, one for each image; its signs are used throughout.
    """
    signs = torch.sign(probe())
    dims = x0[0].numel()
    points = [levels[i] for i in reversed(range(len(levels))) if float(levels.sigma[i]) > 0.0]

    def velocity(y: Tensor, level: NoiseLevels) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            pred_x0 = denoiser(float(level.alpha) * y, level)
            (product,) = torch.autograd.grad((pred_x0 * signs).sum(), y)
        return (y - pred_x0).detach(), dims - (product * signs).flatten(1).sum(dim=1)

    y, volume = x0, torch.zeros(len(x0), device=x0.device, dtype=x0.dtype)
    here = velocity(y, points[0])
    for now, then in itertools.pairwise(points):
        h = math.log(float(then.karras_sigma) / float(now.karras_sigma))
        there = velocity(y + h * here[0], then)
        y = y + 0.5 * h * (here[0] + there[0])
        volume = volume + 0.5 * h * (here[1] + there[1])
        here = velocity(y, then)
    spread = 1.0 + float(points[-1].karras_sigma) ** 2
    log_prior = -0.5 * (y.square() / spread + math.log(2.0 * math.pi * spread)).flatten(1).sum(dim=1)
    return -(log_prior + volume) / (dims * math.log(2.0))
