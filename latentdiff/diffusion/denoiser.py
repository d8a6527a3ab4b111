"""From a network to the denoiser x0 = D(x, level) that every sampler works on, with guidance and bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.diffusion.schedule import Levels
from latentdiff.diffusion.target import Target

# (x [b, ...], time [b], labels int64 [b] or None) -> raw output [b, ...]
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Denoiser(Protocol):
    """The best guess of the clean image behind x [b, ...], all of it at one level."""

    def __call__(self, x: Tensor, level: Levels) -> Tensor: ...


def denoise(network: Network, target: Target, x: Tensor, levels: Levels, labels: Tensor | None) -> Tensor:
    """One network pass: x [b, ...] at levels [b] -> x0 [b, ...] in fp32 (or x's precision, where that is higher)."""
    output = network(x, levels.time.to(x.device, torch.float32), labels)
    return target.to_x0(output.to(x.dtype), x, levels)


def build_denoiser(
    network: Network,
    target: Target,
    labels: Tensor | None = None,
    null_label: int | None = None,
    guidance_scale: float = 1.0,
    value_range: tuple[float, float] | None = None,
) -> Denoiser:
    """The denoiser of a network for given classes.

    Classifier-free guidance (Ho and Salimans 2022) in the convention x0 = u + w (c - u): w = 1 is off and costs one
    pass, w = 0 is unconditional, w > 1 exaggerates the class; otherwise both passes go through as one doubled batch.

    Args:
        network, target: The trained network and what it predicts.
        labels: int64 [b], or None for an unconditional network.
        null_label: The class that stands for none.
        guidance_scale: w.
        value_range: Clamp x0 to these bounds, which pixels have and latents do not.

    Raises ValueError for a guidance scale other than 1 without labels or a null class.
    """
    if guidance_scale != 1.0 and (labels is None or null_label is None):
        raise ValueError("guidance needs a class-conditional model that was trained with class dropout")

    def predict(x: Tensor, level: Levels) -> Tensor:
        at = Levels(*(value.expand(len(x)) for value in (level.time, level.alpha, level.sigma)))
        if guidance_scale == 1.0:
            return denoise(network, target, x, at, labels)
        nulls = torch.full_like(labels, null_label)
        if guidance_scale == 0.0:
            return denoise(network, target, x, at, nulls)
        doubled = Levels(*(torch.cat([value, value]) for value in (at.time, at.alpha, at.sigma)))
        both = denoise(network, target, torch.cat([x, x]), doubled, torch.cat([labels, nulls]))
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def bounded(x: Tensor, level: Levels) -> Tensor:
        x0 = predict(x, level)
        return x0.clamp(*value_range) if value_range else x0

    return bounded
