"""What the network predicts, how its raw output becomes a clean image, and how its error is weighed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.errors import ConfigError


class Target(ABC):
    """One parameterisation of the denoiser; all shapes [b, ...] with levels [b].

    Args:
        sigma_data: Standard deviation of the data, which sets the scale of the network's input: 1 for latents.
    """

    def __init__(self, sigma_data: float = 1.0):
        self.sigma_data = sigma_data

    def scale_input(self, x: Tensor, levels: NoiseLevels) -> Tensor:
        """What the network is shown: x at unit variance (c_in of Karras et al. 2022, table 1).

        It is x itself where the process keeps the variance and ``sigma_data`` is 1.
        """
        levels = levels.append_dims(x)
        return x / _total_variance(levels, self.sigma_data).sqrt()

    @abstractmethod
    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """What the network should put out for x_t = alpha x0 + sigma noise."""

    @abstractmethod
    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """The clean image that a raw ``output`` at ``x`` stands for."""

    @abstractmethod
    def error_scale(self, snr: Tensor) -> Tensor:
        """Squared error of the output over squared error of x0, which loss weights given in x0 are divided by."""


class EpsTarget(Target):
    """The noise (Ho et al. 2020)."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        return noise

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        levels = levels.append_dims(x)
        return (x - levels.sigma * output) / levels.alpha

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr


class ScoreTarget(Target):
    """The score of the noisy images times sigma, -eps, so that the output is of unit size (Song et al. 2021)."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        return -noise

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        levels = levels.append_dims(x)
        return (x + levels.sigma * output) / levels.alpha

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr


class X0Target(Target):
    """The clean image itself."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        return x0

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        return output

    def error_scale(self, snr: Tensor) -> Tensor:
        return torch.ones_like(snr)


class VTarget(Target):
    """v = alpha eps - sigma x0 (Salimans and Ho 2022); the process must be variance-preserving."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        levels = levels.append_dims(x0)
        return levels.alpha * noise - levels.sigma * x0

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        levels = levels.append_dims(x)
        return levels.alpha * x - levels.sigma * output

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr + 1.0


class EdmTarget(Target):
    """x0 = c_skip x + c_out F, with input, output and error of unit variance (Karras et al. 2022, table 1).

    Written for x = alpha x0 + sigma eps, so it fits every process; where the variance is kept and ``sigma_data`` is 1,
    F is -v.
    """

    def _coefficients(self, x: Tensor, levels: NoiseLevels) -> tuple[Tensor, Tensor]:
        levels = levels.append_dims(x)
        total = _total_variance(levels, self.sigma_data)
        return self.sigma_data**2 * levels.alpha / total, self.sigma_data * levels.sigma / total.sqrt()

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        skip, out = self._coefficients(x0, levels)
        at = levels.append_dims(x0)
        return (x0 - skip * (at.alpha * x0 + at.sigma * noise)) / out

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        skip, out = self._coefficients(x, levels)
        return skip * x + out * output

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr + 1.0 / self.sigma_data**2


def _total_variance(levels: NoiseLevels, sigma_data: float) -> Tensor:
    """Variance of x."""
    return sigma_data**2 * levels.alpha.square() + levels.sigma.square()


TARGETS: dict[str, type[Target]] = {
    "eps": EpsTarget,
    "x0": X0Target,
    "v": VTarget,
    "edm": EdmTarget,
    "score": ScoreTarget,
}


def build_target(config: DiffusionConfig) -> Target:
    """The target that ``config`` names. Raises ValueError where it does not go with the schedule."""
    if config.sigma_data <= 0:
        raise ConfigError(f"sigma_data must be above 0, not {config.sigma_data}")
    if config.target == "v" and config.schedule in ("edm", "ve"):
        raise ConfigError(f"the v target needs a process that keeps the variance, which {config.schedule} does not")
    if config.target in ("eps", "score") and config.zero_terminal_snr:
        raise ConfigError(
            f"the {config.target} target does not go with zero_terminal_snr: at the noisiest level the noise says "
            "nothing of the image. Use --diffusion.target v or x0"
        )
    return TARGETS[config.target](config.sigma_data)


def loss_weight(config: DiffusionConfig, target: Target, snr: Tensor) -> Tensor:
    """Weight [b] of the squared error in the target's own units, as ``config.loss_weight`` names it.

    ``simple`` is 1. The others are given on the error of x0 and divided by what the target makes of that error:
    ``min_snr`` is min(SNR, gamma) (Hang et al. 2023), so min(SNR, gamma) / SNR for eps and / (SNR + 1) for v;
    ``truncated_snr`` is max(SNR, 1) (Salimans and Ho 2022, section 4); ``edm`` is lambda(sigma) = SNR +
    1 / sigma_data^2 (Karras et al. 2022, table 1), which is 1 for the edm target.
    """
    if config.loss_weight == "simple":
        return torch.ones_like(snr)
    on_x0 = {
        "min_snr": lambda: snr.clamp(max=config.min_snr_gamma),
        "truncated_snr": lambda: snr.clamp(min=1.0),
        "edm": lambda: snr + 1.0 / target.sigma_data**2,
    }
    return on_x0[config.loss_weight]() / target.error_scale(snr)
