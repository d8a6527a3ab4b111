"""From a network to the denoiser x0 = D(x, level) that every sampler calls, with guidance and thresholding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.target import Target
from latentdiff.errors import ConfigError

# (x [b, c, ...], time [b], labels int64 [b], captions' tokens int64 [b, context], or None) -> output [b, c, ...], or
# [b, 2 c, ...] with a learned variance.
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Thresholding = Literal["none", "static", "dynamic"]
# Imagen's percentile of |x0| that is scaled to the bound (Saharia et al. 2022, section 2.3).
DYNAMIC_QUANTILE = 0.995


class Denoiser(Protocol):
    """Any callable that predicts the clean images x0 [b, ...] from noisy images ``x`` [b, ...] at one ``level``."""

    def __call__(self, x: Tensor, level: NoiseLevels, /) -> Tensor:
        """Return the predicted clean images, of ``x``'s shape."""
        ...


@runtime_checkable
class VarianceDenoiser(Protocol):
    """A denoiser whose network may predict the variance of the reverse process too."""

    def with_variance(self, x: Tensor, level: NoiseLevels, /) -> tuple[Tensor, Tensor | None]:
        """Return the predicted clean images and the ``model_var_values`` of ``Transitions.log_variance``, or None."""
        ...


def denoise(
    network: Network, target: Target, x: Tensor, levels: NoiseLevels, labels: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Predict the clean images in one network pass.

    Args:
        network: See :data:`Network`.
        target: What the network predicts.
        x: Noisy images, [b, c, ...].
        levels: Noise level of each image, [b].
        labels: Class of each image, int64 [b], or None.

    Returns: x0 of ``x``'s shape and type, and the second half of the output channels (see ``Transitions.log_variance``)
        where the network learned the variance, else None.
    """
    output = network(target.scale_input(x, levels), levels.time.to(x.device, torch.float32), labels).to(x.dtype)
    model_var_values = None
    if output.shape[1] == 2 * x.shape[1]:
        output, model_var_values = output.chunk(2, dim=1)
    return target.to_x0(output, x, levels), model_var_values


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How the class, or a weaker model, guides sampling: x0 = weak + scale (strong - weak).

    In classifier-free guidance (Ho and Salimans 2022), weak is the same network without the class. Scale 1 turns
    guidance off and costs one pass, 0 is unconditional, and more than 1 exaggerates the class. In autoguidance (Karras
    et al. 2024), weak is the network ``guide`` with the class.

    Attributes:
        scale: Guidance scale.
        interval: Range of sigma / alpha in which guidance acts (Kynkäänniemi et al. 2024); elsewhere the scale is 1.
        guide: A weaker network with the same target, or None for classifier-free guidance.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, float("inf"))
    guide: Network | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkDenoiser:
    """The denoiser of a network for given classes: call it with noisy images and a level.

    Attributes:
        network: The trained network.
        target: What the network predicts.
        labels: Class of each image, int64 [b], or the tokens of its caption, int64 [b, context]; None for an
            unconditional network.
        null_label: The class, or the token, that stands for "no class", or None.
        negative: What the weak pass of classifier-free guidance is told, as ``labels``. Default: no class.
        guidance: How to guide. Both passes of classifier-free guidance go through the network as one doubled batch.
        value_range: Bounds of the data: (-1, 1) for pixels, None for latents.
        thresholding: How to keep x0 within ``value_range``. ``static`` clamps. ``dynamic`` first scales an image whose
            values exceed the bounds, so that it does not saturate (Imagen). ``none`` does nothing.

    Raises:
        ConfigError: ``guidance`` needs a class-conditional network or a guide, and there is neither.

    >>> import torch
    >>> from latentdiff.config import DiffusionConfig
    >>> from latentdiff.diffusion.schedule import build_schedule
    >>> from latentdiff.diffusion.target import build_target
    >>> config = DiffusionConfig(target="x0")
    >>> def network(x, time, labels):
    ...     return 0.5 * x
    >>> denoiser = NetworkDenoiser(network=network, target=build_target(config))
    >>> level = build_schedule(config).sampling_levels(20)[10]
    >>> denoiser(torch.ones(1, 3, 2, 2), level).shape
    torch.Size([1, 3, 2, 2])
    """

    network: Network
    target: Target
    labels: Tensor | None = None
    null_label: int | None = None
    negative: Tensor | None = None
    guidance: Guidance = Guidance()
    value_range: tuple[float, float] | None = None
    thresholding: Thresholding = "static"

    def __post_init__(self) -> None:
        if self.guidance.scale != 1.0 and self.guidance.guide is None and None in (self.labels, self.null_label):
            raise ConfigError(
                "guidance needs a class-conditional model that was trained with class dropout, or a guide"
            )

    def __call__(self, x: Tensor, level: NoiseLevels) -> Tensor:
        """Return the predicted clean images, of ``x``'s shape, for noisy images ``x`` [b, ...] at one ``level``."""
        return self.with_variance(x, level)[0]

    def with_variance(self, x: Tensor, level: NoiseLevels) -> tuple[Tensor, Tensor | None]:
        """Return the predicted clean images and the learned ``model_var_values``, or None where none are learned.

        Both have ``x``'s shape. With guidance, the second comes from the pass with the class.
        """
        low, high = self.guidance.interval
        scale = self.guidance.scale if low <= float(level.karras_sigma) <= high else 1.0
        x0, model_var_values = self._apply_guidance(x, level.expand(len(x), x.device), scale)
        return self._apply_threshold(x0), model_var_values

    def _apply_guidance(self, x: Tensor, levels: NoiseLevels, scale: float) -> tuple[Tensor, Tensor | None]:
        guide = self.guidance.guide
        if scale == 1.0:
            return denoise(self.network, self.target, x, levels, self.labels)
        if guide is not None:
            strong, model_var_values = denoise(self.network, self.target, x, levels, self.labels)
            weak, _ = denoise(guide, self.target, x, levels, self.labels)
            return weak + scale * (strong - weak), model_var_values
        assert self.labels is not None  # __post_init__ refused the rest
        assert self.null_label is not None
        nulls = torch.full_like(self.labels, self.null_label) if self.negative is None else self.negative
        if scale == 0.0:
            return denoise(self.network, self.target, x, levels, nulls)
        doubled = levels.concat(levels)
        both, model_var_values = denoise(
            self.network, self.target, torch.cat([x, x]), doubled, torch.cat([self.labels, nulls])
        )
        strong, weak = both.chunk(2)
        return weak + scale * (strong - weak), None if model_var_values is None else model_var_values[: len(x)]

    def _apply_threshold(self, x0: Tensor) -> Tensor:
        if self.value_range is None or self.thresholding == "none":
            return x0
        low, high = self.value_range
        if self.thresholding == "dynamic":
            middle, radius = 0.5 * (low + high), 0.5 * (high - low)
            distance = (x0 - middle).flatten(1).abs().float()
            factor = (torch.quantile(distance, DYNAMIC_QUANTILE, dim=1) / radius).clamp_min(1.0).to(x0.dtype)
            factor = factor.reshape(-1, *[1] * (x0.ndim - 1))
            return middle + (x0 - middle).clamp(-radius * factor, radius * factor) / factor
        return x0.clamp(low, high)
