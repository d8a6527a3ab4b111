"""From a network to the denoiser x0 = D(x, level) that every sampler works on, with guidance and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.target import Target
from latentdiff.errors import ConfigError

# (x [b, ...], time [b], labels int64 [b] or None) -> raw output [b, ...], twice the channels with a learned variance
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Thresholding = Literal["none", "static", "dynamic"]
# Imagen's percentile of |x0| that is scaled to the bound (Saharia et al. 2022, section 2.3).
DYNAMIC_QUANTILE = 0.995


class Denoiser(Protocol):
    """The best guess of the clean image behind x [b, ...], all of it at one level."""

    def __call__(self, x: Tensor, level: NoiseLevels) -> Tensor: ...


def denoise(
    network: Network, target: Target, x: Tensor, levels: NoiseLevels, labels: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """One network pass: x [b, c, ...] at levels [b] -> x0 of x's shape, in fp32 or x's higher precision.

    Where the network has a second half of channels, they come second: see ``Transitions.log_variance``."""
    output = network(target.scale_input(x, levels), levels.time.to(x.device, torch.float32), labels).to(x.dtype)
    model_var_values = None
    if output.shape[1] == 2 * x.shape[1]:
        output, model_var_values = output.chunk(2, dim=1)
    return target.to_x0(output, x, levels), model_var_values


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How the class, or a weaker model, steers sampling.

    The convention is x0 = weak + w (strong - weak). Classifier-free guidance (Ho and Salimans 2022): weak is the same
    network without the class; w = 1 is off and costs one pass, w = 0 is unconditional, w > 1 exaggerates the class.
    Autoguidance (Karras et al. 2024): weak is ``guide`` with the class.

    Attributes:
        scale: w.
        interval: Guide only where sigma / alpha lies within (Kynkäänniemi et al. 2024); elsewhere w is 1.
        guide: A weaker network of the same target, or None.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, float("inf"))
    guide: Network | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkDenoiser:
    """The denoiser of a network for given classes. Raises ValueError for guidance that it cannot give.

    Attributes:
        network, target: The trained network and what it predicts.
        labels: int64 [b], or None for an unconditional network.
        null_label: The class that stands for none.
        guidance: How to steer it; both passes of classifier-free guidance go through as one doubled batch.
        value_range: Bounds of the data, which pixels have and latents do not.
        thresholding: ``static`` clamps x0 to the bounds; ``dynamic`` first scales an image whose values go beyond
            them, so that it does not saturate (Imagen). Of no effect without bounds, as in a latent space.
    """

    network: Network
    target: Target
    labels: Tensor | None = None
    null_label: int | None = None
    guidance: Guidance = Guidance()
    value_range: tuple[float, float] | None = None
    thresholding: Thresholding = "static"

    def __post_init__(self):
        if self.guidance.scale != 1.0 and self.guidance.guide is None and None in (self.labels, self.null_label):
            raise ConfigError(
                "guidance needs a class-conditional model that was trained with class dropout, or a guide"
            )

    def __call__(self, x: Tensor, level: NoiseLevels) -> Tensor:
        return self.with_variance(x, level)[0]

    def with_variance(self, x: Tensor, level: NoiseLevels) -> tuple[Tensor, Tensor | None]:
        """x0, and the model_var_values of the learned log-variance (of the pass with the class), None without one."""
        at = level.expand(len(x))
        low, high = self.guidance.interval
        scale = self.guidance.scale if low <= float(level.karras_sigma) <= high else 1.0
        x0, model_var_values = self._apply_guidance(x, at, scale)
        return self._apply_threshold(x0), model_var_values

    def _apply_guidance(self, x: Tensor, at: NoiseLevels, scale: float) -> tuple[Tensor, Tensor | None]:
        guide = self.guidance.guide
        if scale == 1.0:
            return denoise(self.network, self.target, x, at, self.labels)
        if guide is not None:
            strong, model_var_values = denoise(self.network, self.target, x, at, self.labels)
            weak, _ = denoise(guide, self.target, x, at, self.labels)
            return weak + scale * (strong - weak), model_var_values
        nulls = torch.full_like(self.labels, self.null_label)
        if scale == 0.0:
            return denoise(self.network, self.target, x, at, nulls)
        doubled = at.concat(at)
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
            middle, half = 0.5 * (low + high), 0.5 * (high - low)
            away = (x0 - middle).flatten(1).abs().float()
            reach = (torch.quantile(away, DYNAMIC_QUANTILE, dim=1) / half).clamp_min(1.0).to(x0.dtype)
            reach = reach.reshape(-1, *[1] * (x0.ndim - 1))
            return middle + (x0 - middle).clamp(-half * reach, half * reach) / reach
        return x0.clamp(low, high)
