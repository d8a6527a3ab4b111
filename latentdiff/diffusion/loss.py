"""The training loss, and which of its weights a process can be trained with."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise_levels import Levels
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.target import Target, loss_weight
from latentdiff.errors import ConfigError

# Above it the noisiest level is all that the network would learn.
LARGEST_WEIGHT = 1e6


def diffusion_loss(
    output: Tensor, x0: Tensor, noise: Tensor, levels: Levels, target: Target, config: DiffusionConfig
) -> Tensor:
    """Weighted squared error of raw network ``output`` [b, ...] at ``levels`` [b], the mean over the batch, in fp32."""
    error = (output.float() - target.of(x0, noise, levels)).square().flatten(1).mean(dim=1)
    weight = loss_weight(config, target, levels.snr)
    return (weight.to(error.device, error.dtype) * error).mean()


def check_loss_weight(config: DiffusionConfig, schedule: Schedule, target: Target) -> None:
    """Raise ValueError where ``config.loss_weight`` lets the noisiest level count for nothing, or for nearly all."""
    last = schedule.levels(torch.tensor([schedule.last], dtype=torch.float64))
    weight = float(loss_weight(config, target, last.snr))
    if not 0.0 < weight < LARGEST_WEIGHT:
        raise ConfigError(
            f"loss_weight {config.loss_weight} with the {config.target} target gives the noisiest level of this "
            f"process the weight {weight:.3g}. Use --diffusion.loss_weight simple, or another target"
        )
