"""The likelihood of given images under a model: the variational bound, and that of the probability-flow ODE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser, VarianceDenoiser
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions, add_noise
from latentdiff.errors import ConfigError

# Half the distance between two neighbouring uint8 values that are scaled to [-1, 1].
HALF_BIN = 1.0 / 255.0


def variational_bound_term(
    transitions: Transitions,
    index: Tensor,
    x: Tensor,
    x0: Tensor,
    pred_x0: Tensor,
    log_variance: Tensor,
    discretised: bool,
) -> Tensor:
    """Return one term of the variational bound for each image, [b], in nats per dimension (Ho et al. 2020, equation 5).

    Args:
        transitions: The transitions, noisiest first.
        index: Index of each image's transition, int64 [b], on the transitions' device. The term of the last transition
            is the decoder's, -log p(x0 | x_t). The other terms are KL(q(x_s | x_t, x0) || p(x_s | x_t)).
        x: Noisy images at the start of the transition, [b, ...].
        x0: Clean images, [b, ...].
        pred_x0: Clean images that the model predicted, [b, ...].
        log_variance: The model's log-variance, broadcastable to ``x``.
        discretised: Whether ``x0`` are uint8 values scaled to [-1, 1]. The decoder's term is then the probability of
            the values' bins, else a density.
    """

    def at_index(values: Tensor) -> Tensor:
        return values[index].to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))

    squared = (at_index(transitions.posterior_mean_coef1) * (x0 - pred_x0)).square() * torch.exp(-log_variance)
    true_variance = at_index(transitions.posterior_variance)
    true_log_variance = true_variance.clamp_min(1e-30).log()
    log_ratio = true_log_variance - log_variance
    divergence = 0.5 * (squared - 1.0 + log_variance - true_log_variance + torch.exp(log_ratio))
    if discretised:
        decoder = -_discretised_gaussian_log_likelihood(x0, pred_x0, torch.exp(0.5 * log_variance))
    else:
        decoder = 0.5 * (math.log(2.0 * math.pi) + log_variance + squared)
    return torch.where(true_variance > 0, divergence, decoder).flatten(1).mean(dim=1)


def _discretised_gaussian_log_likelihood(x0: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log-probability of the uint8 bin around ``x0`` under N(mean, std^2); the two outer bins are open."""
    upper = torch.where(x0 > 1.0 - HALF_BIN, math.inf, (x0 - mean + HALF_BIN) / std)
    lower = torch.where(x0 < -1.0 + HALF_BIN, -math.inf, (x0 - mean - HALF_BIN) / std)
    return (torch.special.ndtr(upper) - torch.special.ndtr(lower)).clamp_min(1e-12).log()


@dataclass(frozen=True)
class VariationalBound:
    """The variational bound of each image, in bits per dimension: [b].

    Attributes:
        prior: KL divergence of the noisiest level from pure noise, where sampling starts.
        steps: Sum over the transitions but the last.
        decoder: The last transition, from the least noise to the image.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the three parts, [b]."""
        return self.prior + self.steps + self.decoder


def variational_bound(
    denoiser: Denoiser,
    x0: Tensor,
    levels: NoiseLevels,
    noise: Callable[[], Tensor],
    variance: Literal["small", "large", "learned"] = "large",
    discretised: bool = False,
) -> VariationalBound:
    """Return the variational bound on -log2 p(x0) per dimension, at one network pass for each transition.

    Args:
        denoiser: Predicts x0 from (x, level). With a learned variance its method ``with_variance`` is called.
        x0: Clean images or latents, [b, ...].
        levels: Noise levels of the process, noisiest first, the last one clean.
        noise: Returns fresh standard normal noise of ``x0``'s shape. Each term is estimated from one draw.
        variance: The model's variance, as in :func:`~latentdiff.diffusion.samplers.ancestral.ddpm`.
        discretised: See :func:`variational_bound_term`. Without it the bound is on a density and may be negative.

    Raises:
        ConfigError: ``variance`` is learned, and the denoiser has no method ``with_variance``.
    """
    if variance == "learned" and not isinstance(denoiser, VarianceDenoiser):
        raise ConfigError("variance learned needs a denoiser with a method with_variance")
    transitions = Transitions.from_levels(levels)
    small_is_positive = (transitions.posterior_variance > 0).tolist()
    transitions = transitions.to(x0.device)
    terms = []
    for step in range(len(levels) - 1):
        t = levels[step]
        x = add_noise(x0, noise(), t.expand(len(x0), x0.device))
        if variance == "learned" and isinstance(denoiser, VarianceDenoiser):
            pred_x0, model_var_values = denoiser.with_variance(x, t)
            assert model_var_values is not None, "the network has learned no variance"
            log_variance = transitions.log_variance(model_var_values, step)
        else:
            pred_x0 = denoiser(x, t)
            # At the clean end the small variance is 0, and the large one takes its place.
            small = variance == "small" and small_is_positive[step]
            fixed = transitions.posterior_variance if small else transitions.beta
            log_variance = fixed[step].log().to(x.dtype)
        index = torch.full((len(x0),), step, device=x0.device)
        terms.append(variational_bound_term(transitions, index, x, x0, pred_x0, log_variance, discretised))
    prior = 0.5 * (x0 / float(levels.sigma[0]) * float(levels.alpha[0])).square().flatten(1).mean(dim=1)
    bits = 1.0 / math.log(2.0)
    between = sum(terms[:-1], torch.zeros_like(prior))
    return VariationalBound(prior * bits, between * bits, terms[-1] * bits)


def ode_bits_per_dim(denoiser: Denoiser, x0: Tensor, levels: NoiseLevels, probe: Callable[[], Tensor]) -> Tensor:
    """Return -log2 p(x0) per dimension, [b], by the probability-flow ODE from image to noise (Song et al. 2021, 4.3).

    The solver is Heun's in log(sigma / alpha), in which y = x / alpha has the velocity y - D. Random signs estimate the
    trace of D's Jacobian (Hutchinson), so D must be differentiable. The density is that of the data with the noise of
    the lowest level added. The noisiest level is taken as N(0, 1 + (sigma / alpha)^2).

    Args:
        denoiser: Predicts x0 from (x, level). It must not clamp, since the gradient of a clamp is 0.
        x0: Clean images or latents, [b, ...].
        levels: Noise levels, noisiest first; a clean last level is left out.
        probe: Returns standard normal noise of ``x0``'s shape. It is called once, and gives the signs of all steps.
    """
    signs = torch.sign(probe())
    dims = x0[0].numel()
    points = [levels[i] for i in reversed(range(len(levels))) if float(levels.sigma[i]) > 0.0]

    def velocity(y: Tensor, level: NoiseLevels) -> tuple[Tensor, Tensor]:
        """Return the slope of y in log(sigma / alpha), and the trace of the slope's Jacobian, [b]."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            pred_x0 = denoiser(float(level.alpha) * y, level)
            (product,) = torch.autograd.grad((pred_x0 * signs).sum(), y)
        return (y - pred_x0).detach(), dims - (product * signs).flatten(1).sum(dim=1)

    y, log_det = x0, torch.zeros(len(x0), device=x0.device, dtype=x0.dtype)
    slope, trace = velocity(y, points[0])
    for s, t in itertools.pairwise(points):
        h = math.log(float(t.karras_sigma) / float(s.karras_sigma))
        slope_t, trace_t = velocity(y + h * slope, t)
        y = y + 0.5 * h * (slope + slope_t)
        log_det = log_det + 0.5 * h * (trace + trace_t)
        slope, trace = velocity(y, t)
    variance = 1.0 + float(points[-1].karras_sigma) ** 2
    log_prior = -0.5 * (y.square() / variance + math.log(2.0 * math.pi * variance)).flatten(1).sum(dim=1)
    return -(log_prior + log_det) / (dims * math.log(2.0))
