"""Points on the noise axis, x_t = alpha x0 + sigma eps, and what lies between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
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

    def __getitem__(self, index: int | slice | Tensor) -> Levels:
        return Levels(self.time[index], self.alpha[index], self.sigma[index])

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2."""
        return (self.alpha / self.sigma).square()

    @property
    def ratio(self) -> Tensor:
        """Noise over signal, sigma / alpha: the sigma of Karras et al. 2022, in which every process is the same."""
        return self.sigma / self.alpha

    def like(self, x: Tensor) -> Levels:
        """Shaped [b, 1, 1, ...] on ``x``'s device in its precision, to be multiplied with it."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return Levels(*(tensor.to(x.device, x.dtype).reshape(shape) for tensor in (self.time, self.alpha, self.sigma)))

    def expand(self, count: int) -> Levels:
        """This one level for each of ``count`` images."""
        return Levels(*(tensor.expand(count) for tensor in (self.time, self.alpha, self.sigma)))

    def followed_by(self, other: Levels) -> Levels:
        """These levels and after them the other."""
        pairs = ((self.time, other.time), (self.alpha, other.alpha), (self.sigma, other.sigma))
        return Levels(*(torch.cat(pair) for pair in pairs))

    def with_clean_end(self) -> Levels:
        """These levels and after them the clean image, (alpha, sigma) = (1, 0)."""
        return self.followed_by(Levels(*(self.time.new_tensor([value]) for value in (0.0, 1.0, 0.0))))


def add_noise(x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
    """x_t = alpha x0 + sigma noise for x0 [b, ...] and levels [b]."""
    levels = levels.like(x0)
    return levels.alpha * x0 + levels.sigma * noise


@dataclass(frozen=True)
class Transitions:
    """The Gaussians q(x_then | x_now, x0) = N(x_gain x_now + x0_gain x0, small) between neighbours of ``levels``.

    They are Ho et al. 2020, equations 6 and 7, for any two levels and any process, so a sampler that strides over
    levels is exact Bayes for the process that visits only those it stops at.

    Attributes (fp64, one entry for each transition, noisiest first):
        x_gain, x0_gain: The mean's two coefficients.
        small: The variance where x0 is known: DDPM's beta-tilde. 0 at the clean end.
        large: The variance of x_now given x_then: DDPM's beta.
    """

    x_gain: Tensor
    x0_gain: Tensor
    small: Tensor
    large: Tensor

    @classmethod
    def between(cls, levels: Levels) -> Transitions:
        """All transitions of falling ``levels``."""
        now, then = levels[:-1], levels[1:]
        kept = now.alpha / then.alpha
        share = (then.sigma / now.sigma).square()
        large = (now.sigma.square() - (kept * then.sigma).square()).clamp_min(0.0)
        x_gain = kept * share
        return cls(x_gain, then.alpha - x_gain * now.alpha, large * share, large)

    def log_variance(self, fraction: Tensor, index: int | Tensor) -> Tensor:
        """A learned log-variance (Nichol and Dhariwal 2021, equation 15), of the shape of ``fraction`` [b, ...].

        Args:
            fraction: The network's second half, -1 (``small``) to 1 (``large``).
            index: Which transition, for all or for each of the batch.

        At the clean end, where ``small`` is 0, that of the transition before stands in, as in the paper's code.
        """
        before_the_end = self.small[-2:].max()
        small = torch.where(self.small > 0, self.small, before_the_end if before_the_end > 0 else self.large)
        shape = (-1,) + (1,) * (fraction.ndim - 1)
        low, high = (v[index].log().to(fraction.device, fraction.dtype).reshape(shape) for v in (small, self.large))
        return low + 0.5 * (fraction + 1.0) * (high - low)
