"""What the network predicts, and how its raw output becomes a clean image."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latentdiff.diffusion.schedule import Levels


class Target(ABC):
    """One parameterisation of the denoiser; all shapes [b, ...] with levels [b]."""

    @abstractmethod
    def of(self, x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        """What the network should put out for x_t = alpha x0 + sigma noise."""

    @abstractmethod
    def to_x0(self, output: Tensor, x: Tensor, levels: Levels) -> Tensor:
        """The clean image that a raw ``output`` at ``x`` stands for."""

    @abstractmethod
    def error_scale(self, snr: Tensor) -> Tensor:
        """Squared error of the output over squared error of x0, which loss weights given in x0 are divided by."""


class EpsTarget(Target):
    """The noise (Ho et al. 2020)."""

    def of(self, x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        return noise

    def to_x0(self, output: Tensor, x: Tensor, levels: Levels) -> Tensor:
        levels = levels.like(x)
        return (x - levels.sigma * output) / levels.alpha

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr


class X0Target(Target):
    """The clean image itself."""

    def of(self, x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        return x0

    def to_x0(self, output: Tensor, x: Tensor, levels: Levels) -> Tensor:
        return output

    def error_scale(self, snr: Tensor) -> Tensor:
        return torch.ones_like(snr)


class VTarget(Target):
    """v = alpha eps - sigma x0 (Salimans and Ho 2022); the process must be variance-preserving."""

    def of(self, x0: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        levels = levels.like(x0)
        return levels.alpha * noise - levels.sigma * x0

    def to_x0(self, output: Tensor, x: Tensor, levels: Levels) -> Tensor:
        levels = levels.like(x)
        return levels.alpha * x - levels.sigma * output

    def error_scale(self, snr: Tensor) -> Tensor:
        return snr + 1.0


TARGETS: dict[str, Target] = {"eps": EpsTarget(), "x0": X0Target(), "v": VTarget()}


def min_snr_weight(target: Target, snr: Tensor, gamma: float | None) -> Tensor:
    """Weight [b] of the squared error in the target's own units.

    None is the simple loss, weight 1. Else min-SNR-gamma (Hang et al. 2023): min(SNR, gamma) on the error of x0, which
    is min(SNR, gamma) / SNR for eps and min(SNR, gamma) / (SNR + 1) for v.
    """
    return torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / target.error_scale(snr)
