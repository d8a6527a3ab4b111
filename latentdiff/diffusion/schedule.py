"""Noise schedules: how much of the image and how much noise is left at each time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig


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

    def like(self, x: Tensor) -> Levels:
        """Shaped [b, 1, 1, ...] on ``x``'s device in its precision, to be multiplied with it."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return Levels(*(tensor.to(x.device, x.dtype).reshape(shape) for tensor in (self.time, self.alpha, self.sigma)))


def linear_alpha_bar(num_steps: int) -> Tensor:
    """DDPM's schedule (Ho et al. 2020, section 4): beta from 1e-4 to 0.02 over 1,000 steps, scaled for other T."""
    scale = 1000 / num_steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64).clamp(max=0.999)
    return torch.cumprod(1.0 - betas, dim=0)


def cosine_alpha_bar(num_steps: int) -> Tensor:
    """The cosine schedule (Nichol and Dhariwal 2021, equation 17) with its offset 0.008 and betas of at most 0.999."""

    def f(step: Tensor) -> Tensor:
        return torch.cos((step / num_steps + 0.008) / 1.008 * math.pi / 2).square()

    steps = torch.arange(num_steps + 1, dtype=torch.float64)
    betas = (1.0 - f(steps[1:]) / f(steps[:-1])).clamp(max=0.999)
    return torch.cumprod(1.0 - betas, dim=0)


ALPHA_BARS: dict[str, Callable[[int], Tensor]] = {"linear": linear_alpha_bar, "cosine": cosine_alpha_bar}


class DiscreteSchedule:
    """A variance-preserving process of T steps: alpha_t = sqrt(alpha_bar_t), sigma_t = sqrt(1 - alpha_bar_t).

    Times are 0 (nearly clean) to T - 1 (nearly noise), in fp64.

    Args:
        alpha_bar: fp64 [T], falling.
    """

    def __init__(self, alpha_bar: Tensor):
        self.alpha_bar = alpha_bar.double()

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def levels(self, steps: Tensor) -> Levels:
        """The levels at whole ``steps`` (any shape)."""
        alpha_bar = self.alpha_bar[steps.cpu()]
        return Levels(steps.double().cpu(), alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())

    def sampling_levels(self, num_steps: int) -> Levels:
        """``num_steps`` + 1 levels from the noisiest to perfectly clean, evenly spaced, ending with the pair (1, 0).

        The spacing is *trailing* (Lin et al. 2024, table 2): it always starts at T - 1, where the noise that sampling
        starts from belongs. Raises ValueError unless 1 <= ``num_steps`` <= T.
        """
        if not 1 <= num_steps <= len(self):
            raise ValueError(f"the number of sampling steps must be from 1 to {len(self)}, not {num_steps}")
        steps = torch.round(torch.arange(num_steps, 0, -1, dtype=torch.float64) * len(self) / num_steps).long() - 1
        noisy = self.levels(steps)
        end = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        return Levels(
            *(torch.cat([a, e[None]]) for a, e in zip((noisy.time, noisy.alpha, noisy.sigma), end, strict=True))
        )


def build_schedule(config: DiffusionConfig) -> DiscreteSchedule:
    """The schedule that ``config`` names."""
    return DiscreteSchedule(ALPHA_BARS[config.schedule](config.num_train_steps))


def add_noise(x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
    """x_t = alpha x0 + sigma noise for x0 [b, ...] and levels [b]."""
    levels = levels.like(x0)
    return levels.alpha * x0 + levels.sigma * noise
