"""Noise schedules: the levels of a process, those that training draws and those that sampling visits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.errors import ConfigError

SPACINGS = ("trailing", "leading", "linspace", "quadratic", "karras")
# Schedules of the variance-preserving processes by name: alpha_bar = alpha^2 at times 0 to 1.
ALPHA_BARS: dict[str, Callable[[Tensor], Tensor]] = {
    # Song et al. 2021, equation 32: beta from 0.1 to 20.
    "linear": lambda t: torch.exp(-0.1 * t - 0.5 * 19.9 * t.square()),
    # The same with sqrt(beta) linear: Rombach et al. 2022, whose 1,000 betas go from 0.00085 to 0.012.
    "scaled_linear": lambda t: torch.exp(-_integrated_square(t, math.sqrt(0.85), math.sqrt(12.0))),
    # Nichol and Dhariwal 2021, equation 17, with the offset 0.008.
    "cosine": lambda t: (torch.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)).square(),
    # Jabri et al. 2023, section 3, from -3 to 3 at temperature 1.
    "sigmoid": lambda t: (_logistic(3.0) - torch.sigmoid(6.0 * t - 3.0)) / (_logistic(3.0) - _logistic(-3.0)),
}
# Schedules that are defined by betas: the first and last beta at 1,000 steps, and p such that beta^(1 / p) is linear.
BETAS = {"linear": (1e-4, 0.02, 1.0), "scaled_linear": (0.00085, 0.012, 2.0)}
# Continuous time leaves out both ends, where sigma or alpha is exactly 0.
TIME_RANGE = (0.001, 0.999)
# Larger betas of a discrete process are cut off there.
MAX_BETA = 0.999
KARRAS_RHO = 7.0
# Limits of rho, far beyond any use. Beyond them powers overflow, or neighbouring levels become equal.
RHO_RANGE = (0.1, 1000)


class Schedule(ABC):
    """A noising process: its levels at positions from 0 (nearly clean) to ``last_position`` (nearly noise), in fp64.

    Attributes:
        num_train_steps: Number of steps T of a discrete process, whose positions are 0 to T - 1. None in continuous
            time, whose positions are 0 to 1.
        variance_preserving: Whether alpha^2 + sigma^2 = 1.
        default_spacing: Spacing of the sampling levels where none is given.
    """

    num_train_steps: int | None = None
    variance_preserving = True
    default_spacing = "trailing"

    @abstractmethod
    def levels(self, positions: Tensor) -> NoiseLevels:
        """Return the levels at ``positions`` (any shape)."""

    @abstractmethod
    def time_at_sigma(self, ratio: Tensor) -> Tensor:
        """Return the time that the network is given where sigma / alpha is ``ratio`` (any shape)."""

    def levels_at_sigma(self, ratio: Tensor | float) -> NoiseLevels:
        """Return the levels whose sigma / alpha is ``ratio`` (any shape), on or between the training steps."""
        ratio = torch.as_tensor(ratio, dtype=torch.float64)
        alpha = (1.0 + ratio.square()).rsqrt() if self.variance_preserving else torch.ones_like(ratio)
        return NoiseLevels(self.time_at_sigma(ratio), alpha, ratio * alpha)

    def training_levels(self, uniform: Tensor) -> NoiseLevels:
        """Return the training levels for ``uniform`` draws from U[0, 1) (any shape), on their device."""
        return self.levels(uniform.double())

    @property
    def last_position(self) -> float:
        """Position of the noisiest level."""
        return 1.0 if self.num_train_steps is None else self.num_train_steps - 1.0

    def sampling_levels(self, num_steps: int, spacing: str | None = None, rho: float | None = None) -> NoiseLevels:
        """Return ``num_steps`` + 1 levels, noisiest first, the last one clean with (alpha, sigma) = (1, 0).

        Args:
            num_steps: Number of sampling steps, from 1 to ``num_train_steps`` (100,000 in continuous time).
            spacing: Where the levels are. ``trailing`` and ``leading`` are even strides (Lin et al. 2024, table 2).
                ``linspace`` is even and holds both ends. ``quadratic`` is denser near the image (Song et al. 2021,
                DDIM, appendix D.2). ``karras`` is even in (sigma / alpha)^(1 / rho) (Karras et al. 2022, equation 5).
                All but ``leading`` start at the noisiest level, as sampling from pure noise needs. Default: the
                schedule's own.
            rho: Exponent of the karras spacing, from 0.1 to 1000; default 7.

        Raises:
            ConfigError: A value is out of its range, ``spacing`` is no such name, ``rho`` is given for another spacing,
                or the noisiest level of a karras spacing is pure noise.
        """
        spacing = spacing or self.default_spacing
        limit = self.num_train_steps or 100_000
        if not 1 <= num_steps <= limit:
            raise ConfigError(f"the number of sampling steps must be from 1 to {limit}, not {num_steps}")
        if spacing not in SPACINGS:
            raise ConfigError(f"there is no spacing {spacing!r}; there are {', '.join(SPACINGS)}")
        if rho is not None and spacing != "karras":
            raise ConfigError(f"rho belongs to the karras spacing, not to {spacing}")
        if spacing == "karras":
            rho = KARRAS_RHO if rho is None else rho
            if not RHO_RANGE[0] <= rho <= RHO_RANGE[1]:
                raise ConfigError(f"rho must be from {RHO_RANGE[0]} to {RHO_RANGE[1]}, not {rho}")
            low, high = self.levels(torch.tensor([0.0, self.last_position], dtype=torch.float64)).karras_sigma.tolist()
            if math.isinf(high):
                raise ConfigError("karras spacing needs finite noise, which zero_terminal_snr has not: use trailing")
            root = torch.linspace(high ** (1 / rho), low ** (1 / rho), num_steps, dtype=torch.float64)
            return self.levels_at_sigma(root**rho).append_clean()
        return self.levels(_spaced_positions(num_steps, spacing, self.num_train_steps)).append_clean()


class DiscreteSchedule(Schedule):
    """A variance-preserving process of T discrete steps: alpha_t = sqrt(alpha_bar_t), sigma_t = sqrt(1 - alpha_bar_t).

    Args:
        alpha_bar: Cumulative product of 1 - beta, fp64 [T], falling.
    """

    def __init__(self, alpha_bar: Tensor):
        self.alpha_bar = self._table = alpha_bar.double()
        self.num_train_steps = len(alpha_bar)

    def levels(self, positions: Tensor) -> NoiseLevels:
        """Return the levels at ``positions``; between two steps, log(sigma / alpha) is interpolated."""
        positions = positions.cpu().double()
        below = positions.floor()
        exact = self._at_steps(below.long())
        if torch.equal(below, positions):
            return exact
        alpha_bar = self.alpha_bar[below.long()]
        above = self.alpha_bar[positions.ceil().long()]
        log_below, log_above = (0.5 * ((1.0 - a) / a).log() for a in (alpha_bar, above))
        log_ratio = torch.lerp(log_below, log_above, positions - below)
        between = self.levels_at_sigma(log_ratio.exp())
        # Next to pure noise, where the logarithm is infinite, alpha is interpolated.
        alpha = torch.where(above > 0, between.alpha, torch.lerp(alpha_bar.sqrt(), above.sqrt(), positions - below))
        between = NoiseLevels(positions, alpha, (1.0 - alpha.square()).sqrt())
        whole = below == positions
        return NoiseLevels(
            positions, torch.where(whole, exact.alpha, between.alpha), torch.where(whole, exact.sigma, between.sigma)
        )

    def time_at_sigma(self, ratio: Tensor) -> Tensor:
        """Return the training step, with a fraction, where sigma / alpha is ``ratio``."""
        known = 0.5 * ((1.0 - self.alpha_bar) / self.alpha_bar).log()
        time = np.interp(ratio.log().numpy(), known.numpy(), np.arange(len(known), dtype=np.float64))
        return torch.as_tensor(time, dtype=torch.float64)

    def training_levels(self, uniform: Tensor) -> NoiseLevels:
        """Return the levels of whole training steps for ``uniform`` draws from U[0, 1), on their device."""
        count = len(self.alpha_bar)
        return self._at_steps((uniform * count).long().clamp(max=count - 1))

    def _at_steps(self, steps: Tensor) -> NoiseLevels:
        """Return the levels of training steps int64 (any shape), on their device."""
        if self._table.device != steps.device:
            self._table = self.alpha_bar.to(steps.device)  # once, where a training is on a GPU
        alpha_bar = self._table[steps]
        return NoiseLevels(steps.double(), alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())


class ContinuousSchedule(Schedule):
    """A variance-preserving process in continuous time; the network is given times from 0 to 1,000.

    Args:
        alpha_bar: Maps times in [0, 1] to alpha^2, falling.
        zero_terminal_snr: Whether to rescale the process so that its noisiest level is pure noise.
    """

    def __init__(self, alpha_bar: Callable[[Tensor], Tensor], zero_terminal_snr: bool = False):
        self.alpha_bar = alpha_bar
        first, last = alpha_bar(torch.tensor(TIME_RANGE, dtype=torch.float64)).sqrt()
        self._shift = last if zero_terminal_snr else torch.zeros_like(last)
        self._scale = first / (first - self._shift)

    def levels(self, positions: Tensor) -> NoiseLevels:
        """Return the levels at ``positions`` from 0 to 1, on their device."""
        positions = positions.double()
        alpha = self._scale * (self.alpha_bar(TIME_RANGE[0] + (TIME_RANGE[1] - TIME_RANGE[0]) * positions).sqrt())
        alpha = (alpha - self._scale * self._shift).clamp_min(0.0)
        return NoiseLevels(1000.0 * positions, alpha, (1.0 - alpha.square()).sqrt())

    def time_at_sigma(self, ratio: Tensor) -> Tensor:
        """Return the time from 0 to 1,000 where sigma / alpha is ``ratio``, by bisection."""
        low, high = torch.zeros_like(ratio), torch.ones_like(ratio)
        for _ in range(60):  # bisection: to the last bit
            middle = 0.5 * (low + high)
            below = self.levels(middle).karras_sigma < ratio
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 1000.0 * low


class VarianceExplodingSchedule(Schedule):
    """A variance-exploding process, x = x0 + sigma eps, with sigma geometric in the position.

    The network is given the time log(sigma) / 4 (Karras et al. 2022, table 1).

    Args:
        sigma_min: Least sigma.
        sigma_max: Largest sigma.
        log_normal: Mean and standard deviation of log(sigma) in training (EDM). None draws log(sigma) uniformly (Song
            et al. 2021, section 3.4).
    """

    variance_preserving = False
    default_spacing = "karras"

    def __init__(self, sigma_min: float, sigma_max: float, log_normal: tuple[float, float] | None = None):
        self.sigma_min, self.sigma_max, self.log_normal = sigma_min, sigma_max, log_normal

    def levels(self, positions: Tensor) -> NoiseLevels:
        """Return the levels at ``positions`` from 0 to 1, sigma = sigma_min (sigma_max / sigma_min)^position."""
        return self.levels_at_sigma(self.sigma_min * (self.sigma_max / self.sigma_min) ** positions.double())

    def time_at_sigma(self, ratio: Tensor) -> Tensor:
        """Return log(ratio) / 4."""
        return ratio.log() / 4.0

    def training_levels(self, uniform: Tensor) -> NoiseLevels:
        """Return the levels whose sigma has the training distribution's quantile ``uniform``."""
        if self.log_normal is None:
            return super().training_levels(uniform)
        mean, std = self.log_normal
        quantile = torch.special.ndtri(uniform.double().clamp(1e-6, 1.0 - 1e-6))
        return self.levels_at_sigma(torch.exp(mean + std * quantile))


def build_schedule(config: DiffusionConfig) -> Schedule:
    """Return the schedule that ``config`` names.

    Raises:
        ConfigError: Settings contradict one another or are out of range.

    >>> schedule = build_schedule(DiffusionConfig(schedule="cosine", num_train_steps=1000))
    >>> levels = schedule.sampling_levels(4)
    >>> levels.time.tolist()
    [999.0, 749.0, 499.0, 249.0, 0.0]
    >>> [round(alpha, 3) for alpha in levels.alpha.tolist()]
    [0.0, 0.38, 0.703, 0.92, 1.0]
    """
    if config.trained_betas is not None:
        if config.schedule in ("edm", "ve") or config.beta_range or config.num_train_steps != len(config.trained_betas):
            raise ConfigError(
                "trained_betas are of a discrete process: leave out beta_range and schedules edm and ve, and set "
                f"num_train_steps to their number, {len(config.trained_betas):,}"
            )
        betas = torch.tensor(config.trained_betas, dtype=torch.float64)
        alpha_bar = torch.cumprod(1.0 - betas, dim=0)
        return DiscreteSchedule(rescale_zero_terminal_snr(alpha_bar) if config.zero_terminal_snr else alpha_bar)
    if config.beta_range is not None:
        if config.schedule not in BETAS or config.num_train_steps is None:
            raise ConfigError(
                f"beta_range is of a discrete process that is defined by its betas, {' or '.join(BETAS)} with "
                f"num_train_steps, not of {config.schedule}" + ("" if config.num_train_steps else " in continuous time")
            )
        if not 0.0 < config.beta_range[0] <= config.beta_range[1] < 1.0:
            raise ConfigError(f"beta_range must not fall, between 0 and 1, not {config.beta_range}")
    if config.schedule in ("edm", "ve"):
        if config.zero_terminal_snr:
            raise ConfigError(f"zero_terminal_snr is for variance-preserving schedules, not for {config.schedule}")
        if not 0.0 < config.sigma_min < config.sigma_max:
            raise ConfigError(f"sigma_min {config.sigma_min} and sigma_max {config.sigma_max} must rise from above 0")
        log_normal = config.log_sigma_normal if config.schedule == "edm" else None
        return VarianceExplodingSchedule(config.sigma_min, config.sigma_max, log_normal)
    if config.num_train_steps is None:
        return ContinuousSchedule(ALPHA_BARS[config.schedule], config.zero_terminal_snr)
    alpha_bar = discrete_alpha_bar(config.schedule, config.num_train_steps, config.beta_range)
    return DiscreteSchedule(rescale_zero_terminal_snr(alpha_bar) if config.zero_terminal_snr else alpha_bar)


def discrete_alpha_bar(name: str, num_steps: int, beta_range: tuple[float, float] | None = None) -> Tensor:
    """Return alpha_bar, fp64 [num_steps], of a schedule in ``ALPHA_BARS``, with betas of at most 0.999.

    The linear betas of DDPM (Ho et al. 2020, section 4) and the scaled linear betas of Stable Diffusion are given for
    1,000 steps. For another number of steps they are scaled, so that the process ends with as much noise.

    Args:
        name: Name of the schedule.
        num_steps: Number of training steps T, at least 2.
        beta_range: First and last beta of a linear or scaled linear schedule, used unscaled.

    Raises:
        ConfigError: ``num_steps`` is below 2.
    """
    if num_steps < 2:
        raise ConfigError(f"num_train_steps must be at least 2, not {num_steps}")
    if name in BETAS:
        *usual, power = BETAS[name]
        first_and_last = beta_range or [1000 / num_steps * beta for beta in usual]
        first, last = (beta ** (1 / power) for beta in first_and_last)
        betas = torch.linspace(first, last, num_steps, dtype=torch.float64) ** power
    else:
        alpha_bar = ALPHA_BARS[name](torch.arange(num_steps + 1, dtype=torch.float64) / num_steps)
        betas = 1.0 - alpha_bar[1:] / alpha_bar[:-1]
    return torch.cumprod(1.0 - betas.clamp(max=MAX_BETA), dim=0)


def rescale_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar), so that its last value is 0 and its first stays (Lin et al. 2024, algorithm 1).

    Args:
        alpha_bar: fp64 [T], falling.

    Returns: the new alpha_bar, fp64 [T].
    """
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def _spaced_positions(num_steps: int, spacing: str, total: int | None) -> Tensor:
    """Return falling positions [num_steps]: whole steps of ``total``, or fractions of 1 in continuous time."""
    count = torch.arange(num_steps, 0, -1, dtype=torch.float64)
    if spacing == "trailing":
        return count / num_steps if total is None else torch.round(count * total / num_steps) - 1.0
    if spacing == "leading":
        return (count - 1.0) * (1.0 / num_steps if total is None else total // num_steps)
    even = torch.linspace(1.0, 0.0, num_steps, dtype=torch.float64) ** (2.0 if spacing == "quadratic" else 1.0)
    # No step twice: near the image a parabola of many steps is flatter than one step at a time.
    return even if total is None else torch.maximum(torch.round(even * (total - 1)), count - 1.0)


def _integrated_square(t: Tensor, first: float, last: float) -> Tensor:
    """Return the integral from 0 to t of (first + (last - first) t)^2."""
    return ((first + (last - first) * t) ** 3 - first**3) / (3.0 * (last - first))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
