"""Points on the noise axis, x_t = alpha x0 + sigma eps, and what lies between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLevels:
    """Points on the noise axis, of equal shape: x_t = alpha x0 + sigma eps.

    Attributes:
        time: What the network is told.
        alpha: Scale of the clean image.
        sigma: Standard deviation of the noise.
    """

    time: Tensor
    alpha: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: int | slice | Tensor) -> NoiseLevels:
        return NoiseLevels(self.time[index], self.alpha[index], self.sigma[index])

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2."""
        return (self.alpha / self.sigma).square()

    @property
    def karras_sigma(self) -> Tensor:
        """Noise over signal, sigma / alpha: the sigma of Karras et al. 2022, in which every process is the same."""
        return self.sigma / self.alpha

    def append_dims(self, x: Tensor) -> NoiseLevels:
        """These levels [b] shaped [b, 1, 1, ...] on ``x``'s device in its precision, to be multiplied with it."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return NoiseLevels(
            *(tensor.to(x.device, x.dtype).reshape(shape) for tensor in (self.time, self.alpha, self.sigma))
        )

    def expand(self, count: int) -> NoiseLevels:
        """This one level for each of ``count`` images."""
        return NoiseLevels(*(tensor.expand(count) for tensor in (self.time, self.alpha, self.sigma)))

    def concat(self, other: NoiseLevels) -> NoiseLevels:
        """These levels and after them the other."""
        pairs = ((self.time, other.time), (self.alpha, other.alpha), (self.sigma, other.sigma))
        return NoiseLevels(*(torch.cat(pair) for pair in pairs))

    def append_clean(self) -> NoiseLevels:
        """These levels and after them the clean image, (alpha, sigma) = (1, 0)."""
        return self.concat(NoiseLevels(*(self.time.new_tensor([value]) for value in (0.0, 1.0, 0.0))))


def add_noise(x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
    """x_t = alpha x0 + sigma noise for x0 [b, ...] and levels [b]."""
    levels = levels.append_dims(x0)
    return levels.alpha * x0 + levels.sigma * noise


@dataclass(frozen=True)
class Transitions:
    """The Gaussians q(x_s | x_t, x0) between neighbouring ``levels`` t and s, of which s has less noise.

    Their mean is posterior_mean_coef1 x0 + posterior_mean_coef2 x_t, their variance posterior_variance: Ho et al. 2020,
    equations 6 and 7, for any two levels and any process. A sampler that strides over levels is thus exact Bayes for
    the process that visits only those levels at which it stops.

    Attributes (fp64, one entry for each transition, noisiest first):
        posterior_mean_coef1, posterior_mean_coef2: The mean's coefficients, of x0 and of x_t.
        posterior_variance: The variance where x0 is known, DDPM's beta-tilde; 0 at the clean end.
        beta: The variance of x_t given x_s.
    """

    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    posterior_variance: Tensor
    beta: Tensor

    @classmethod
    def from_levels(cls, levels: NoiseLevels) -> Transitions:
        """All transitions of falling ``levels``."""
        t, s = levels[:-1], levels[1:]
        alpha_ratio = t.alpha / s.alpha
        variance_ratio = (s.sigma / t.sigma).square()
        beta = (t.sigma.square() - (alpha_ratio * s.sigma).square()).clamp_min(0.0)
        coef2 = alpha_ratio * variance_ratio
        return cls(s.alpha - coef2 * t.alpha, coef2, beta * variance_ratio, beta)

    def log_variance(self, model_var_values: Tensor, index: int | Tensor) -> Tensor:
        """A learned log-variance [b, ...] (Nichol and Dhariwal 2021, equation 15).

        Args:
            model_var_values: [b, ...], the network's second half, from -1 (``posterior_variance``) to 1 (``beta``).
            index: Which transition, for all or for each of the batch.

        At the clean end ``posterior_variance`` is 0. The one before stands in for it, as in the paper's code.
        """
        next_to_last = self.posterior_variance[-2:].max()
        stand_in = next_to_last if next_to_last > 0 else self.beta
        least = torch.where(self.posterior_variance > 0, self.posterior_variance, stand_in)
        shape = (-1,) + (1,) * (model_var_values.ndim - 1)
        low, high = (
            variance[index].log().to(model_var_values.device, model_var_values.dtype).reshape(shape)
            for variance in (least, self.beta)
        )
        return low + 0.5 * (model_var_values + 1.0) * (high - low)
