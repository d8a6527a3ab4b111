"""Noise levels, x_t = alpha x0 + sigma eps, and the Gaussian transitions between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels of the process x_t = alpha x0 + sigma eps; the three tensors have one shape.

    Attributes:
        time: Time that the network is given.
        alpha: Scale of the clean image.
        sigma: Standard deviation of the noise.
    """

    time: Tensor
    alpha: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.time)

    def __getitem__(self, index: int | slice | Tensor) -> NoiseLevels:
        """Return the levels at ``index``."""
        return NoiseLevels(self.time[index], self.alpha[index], self.sigma[index])

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2."""
        return (self.alpha / self.sigma).square()

    @property
    def karras_sigma(self) -> Tensor:
        """Noise over signal, sigma / alpha: the sigma of Karras et al. 2022, in which all processes are the same."""
        return self.sigma / self.alpha

    def append_dims(self, x: Tensor) -> NoiseLevels:
        """Return the levels [b] as [b, 1, 1, ...] on ``x``'s device and in its type, to multiply ``x`` [b, ...]."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return NoiseLevels(
            *(tensor.to(x.device, x.dtype).reshape(shape) for tensor in (self.time, self.alpha, self.sigma))
        )

    def expand(self, count: int, device: torch.device | None = None) -> NoiseLevels:
        """Return a single level repeated for ``count`` images, [count].

        Args:
            count: Number of images.
            device: Where to make it, by the level's value: a GPU that works need not be waited for, as for a copy.
                Default: the level's own device.
        """
        values = (self.time, self.alpha, self.sigma)
        if device is None or device == self.time.device:
            return NoiseLevels(*(value.expand(count) for value in values))
        return NoiseLevels(*(torch.full((count,), float(value), dtype=value.dtype, device=device) for value in values))

    def concat(self, other: NoiseLevels) -> NoiseLevels:
        """Return the levels followed by ``other``, [n + m]."""
        pairs = ((self.time, other.time), (self.alpha, other.alpha), (self.sigma, other.sigma))
        return NoiseLevels(*(torch.cat(pair) for pair in pairs))

    def append_clean(self) -> NoiseLevels:
        """Return the levels followed by the clean level, (alpha, sigma) = (1, 0): [n + 1]."""
        return self.concat(NoiseLevels(*(self.time.new_tensor([value]) for value in (0.0, 1.0, 0.0))))


def add_noise(x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
    """Return x_t = alpha x0 + sigma noise (Ho et al. 2020, equation 4).

    Args:
        x0: Clean images or latents, [b, ...].
        noise: Standard normal noise of ``x0``'s shape.
        levels: Noise level of each image, [b].

    >>> levels = NoiseLevels(time=torch.tensor([500]), alpha=torch.tensor([0.6]), sigma=torch.tensor([0.8]))
    >>> add_noise(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]]), levels)
    tensor([[1.4000, 0.4000]])
    """
    levels = levels.append_dims(x0)
    return levels.alpha * x0 + levels.sigma * noise


@dataclass(frozen=True)
class Transitions:
    """The Gaussians q(x_s | x_t, x0) between neighbouring levels t and s, where s has less noise.

    The mean is posterior_mean_coef1 x0 + posterior_mean_coef2 x_t, the variance posterior_variance (Ho et al. 2020,
    equations 6 and 7). The formulas hold for any two levels of any process. A sampler that skips training steps is
    therefore exact Bayes for the process that visits only the sampler's levels.

    Attributes: fp64, one entry for each transition, noisiest first.
        posterior_mean_coef1: Coefficient of x0 in the mean.
        posterior_mean_coef2: Coefficient of x_t in the mean.
        posterior_variance: Variance where x0 is known, DDPM's beta-tilde; 0 at the clean end.
        beta: Variance of x_t given x_s.
    """

    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    posterior_variance: Tensor
    beta: Tensor

    def to(self, device: torch.device) -> Transitions:
        """Return the transitions on ``device``."""
        parts = (self.posterior_mean_coef1, self.posterior_mean_coef2, self.posterior_variance, self.beta)
        return Transitions(*(tensor.to(device) for tensor in parts))

    @classmethod
    def from_levels(cls, levels: NoiseLevels) -> Transitions:
        """Return the n - 1 transitions between n ``levels``, noisiest first."""
        t, s = levels[:-1], levels[1:]
        alpha_ratio = t.alpha / s.alpha
        variance_ratio = (s.sigma / t.sigma).square()
        beta = (t.sigma.square() - (alpha_ratio * s.sigma).square()).clamp_min(0.0)
        coef2 = alpha_ratio * variance_ratio
        return cls(s.alpha - coef2 * t.alpha, coef2, beta * variance_ratio, beta)

    def log_variance(self, model_var_values: Tensor, index: int | Tensor) -> Tensor:
        """Return the log-variance that a network learned (Nichol and Dhariwal 2021, equation 15), [b, ...].

        At the clean end ``posterior_variance`` is 0. The transition before it stands in, as in the paper's code.

        Args:
            model_var_values: Second half of the network's output channels, [b, ...], from -1 (``posterior_variance``)
                to 1 (``beta``).
            index: Index of the transition: one for all images, or one for each, int64 [b] on the transitions' device.
        """
        next_to_last = self.posterior_variance[-2:].max()
        stand_in = torch.where(next_to_last > 0, next_to_last, self.beta)
        least = torch.where(self.posterior_variance > 0, self.posterior_variance, stand_in)
        shape = (-1,) + (1,) * (model_var_values.ndim - 1)
        low, high = (
            variance[index].log().to(model_var_values.device, model_var_values.dtype).reshape(shape)
            for variance in (least, self.beta)
        )
        return low + 0.5 * (model_var_values + 1.0) * (high - low)
