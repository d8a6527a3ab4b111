"""Targets: what the network predicts, how its raw output becomes a clean image, and the weight of its error."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.errors import ConfigError


class Target(ABC):
    """A parameterisation of the denoiser. All images are [b, ...], all levels [b].

    Args:
        sigma_data: Standard deviation of the data, 1 for latents. It sets the scale of the network's input.
    """

    def __init__(self, sigma_data: float = 1.0):
        self.sigma_data = sigma_data

    def scale_input(self, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return the network's input, ``x`` at unit variance (c_in of Karras et al. 2022, table 1).

        The input is ``x`` itself where the process is variance-preserving and ``sigma_data`` is 1.
        """
        levels = levels.append_dims(x)
        return x / _total_variance(levels, self.sigma_data).sqrt()

    @abstractmethod
    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return the output that the network should give for x_t = alpha x0 + sigma noise."""

    @abstractmethod
    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return the clean images that the network's raw ``output`` for noisy images ``x`` means."""

    @abstractmethod
    def error_scale(self, snr: Tensor) -> Tensor:
        """Return the squared error of the output over that of x0, at signal-to-noise ratios ``snr`` [b]."""


class EpsTarget(Target):
    """Predict the noise eps (Ho et al. 2020)."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return ``noise``."""
        return noise

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return (x - sigma output) / alpha."""
        levels = levels.append_dims(x)
        return (x - levels.sigma * output) / levels.alpha

    def error_scale(self, snr: Tensor) -> Tensor:
        """Return SNR."""
        return snr


class ScoreTarget(Target):
    """Predict sigma times the score, which is -eps and has unit variance (Song et al. 2021)."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return ``-noise``."""
        return -noise

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return (x + sigma output) / alpha."""
        levels = levels.append_dims(x)
        return (x + levels.sigma * output) / levels.alpha

    def error_scale(self, snr: Tensor) -> Tensor:
        """Return SNR."""
        return snr


class X0Target(Target):
    """Predict the clean image x0."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return ``x0``."""
        return x0

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return ``output``."""
        return output

    def error_scale(self, snr: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(snr)


class VTarget(Target):
    """Predict v = alpha eps - sigma x0 (Salimans and Ho 2022); the process must be variance-preserving."""

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return alpha noise - sigma x0."""
        levels = levels.append_dims(x0)
        return levels.alpha * noise - levels.sigma * x0

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return alpha x - sigma output."""
        levels = levels.append_dims(x)
        return levels.alpha * x - levels.sigma * output

    def error_scale(self, snr: Tensor) -> Tensor:
        """Return SNR + 1."""
        return snr + 1.0


class EdmTarget(Target):
    """Predict F of x0 = c_skip x + c_out F, with input and target of unit variance (Karras et al. 2022, table 1).

    The coefficients are those for x = alpha x0 + sigma eps, so the target fits every process. Where the process is
    variance-preserving and ``sigma_data`` is 1, F is -v.
    """

    def _coefficients(self, x: Tensor, levels: NoiseLevels) -> tuple[Tensor, Tensor]:
        levels = levels.append_dims(x)
        total = _total_variance(levels, self.sigma_data)
        return self.sigma_data**2 * levels.alpha / total, self.sigma_data * levels.sigma / total.sqrt()

    def training_target(self, x0: Tensor, noise: Tensor, levels: NoiseLevels) -> Tensor:
        """Return (x0 - c_skip x_t) / c_out."""
        skip, out = self._coefficients(x0, levels)
        at = levels.append_dims(x0)
        return (x0 - skip * (at.alpha * x0 + at.sigma * noise)) / out

    def to_x0(self, output: Tensor, x: Tensor, levels: NoiseLevels) -> Tensor:
        """Return c_skip x + c_out output."""
        skip, out = self._coefficients(x, levels)
        return skip * x + out * output

    def error_scale(self, snr: Tensor) -> Tensor:
        """Return SNR + 1 / sigma_data^2."""
        return snr + 1.0 / self.sigma_data**2


def _total_variance(levels: NoiseLevels, sigma_data: float) -> Tensor:
    """Return the variance of noisy images, of the levels' shape."""
    return sigma_data**2 * levels.alpha.square() + levels.sigma.square()


TARGETS: dict[str, type[Target]] = {
    "eps": EpsTarget,
    "x0": X0Target,
    "v": VTarget,
    "edm": EdmTarget,
    "score": ScoreTarget,
}


def build_target(config: DiffusionConfig) -> Target:
    """Return the target that ``config`` names.

    Raises:
        ConfigError: The target does not fit the schedule, or ``sigma_data`` is not above 0.

    >>> build_target(DiffusionConfig(target="v")).__class__.__name__
    'VTarget'
    """
    if config.sigma_data <= 0:
        raise ConfigError(f"sigma_data must be above 0, not {config.sigma_data}")
    if config.target == "v" and config.schedule in ("edm", "ve"):
        raise ConfigError(f"the v target needs a variance-preserving schedule, which {config.schedule} is not")
    if config.target in ("eps", "score") and config.zero_terminal_snr:
        raise ConfigError(
            f"the {config.target} target does not go with zero_terminal_snr: at the noisiest level the noise says "
            "nothing of the image. Use --diffusion.target v or x0"
        )
    return TARGETS[config.target](config.sigma_data)


def loss_weight(config: DiffusionConfig, target: Target, snr: Tensor) -> Tensor:
    """Return the weight [b] of the squared error of the network's output, as ``config.loss_weight`` names it.

    ``simple`` is 1 for every target. The other weights are defined on the error of x0 and divided by
    ``target.error_scale``, so that they weigh the error of x0 alike for every target:

    - ``min_snr`` is min(SNR, gamma) (Hang et al. 2023), so min(SNR, gamma) / SNR for eps;
    - ``truncated_snr`` is max(SNR, 1) (Salimans and Ho 2022, section 4);
    - ``edm`` is SNR + 1 / sigma_data^2 (Karras et al. 2022, table 1), which is 1 for the edm target.

    Args:
        config: Names the weight, and gamma.
        target: What the network predicts.
        snr: Signal-to-noise ratio alpha^2 / sigma^2 of each image, [b].
    """
    if config.loss_weight == "simple":
        return torch.ones_like(snr)
    on_x0 = {
        "min_snr": lambda: snr.clamp(max=config.min_snr_gamma),
        "truncated_snr": lambda: snr.clamp(min=1.0),
        "edm": lambda: snr + 1.0 / target.sigma_data**2,
    }
    return on_x0[config.loss_weight]() / target.error_scale(snr)
