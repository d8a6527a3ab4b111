"""The training loss of a denoising network, and which of its weights a process can be trained with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.likelihood import variational_bound_term
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions, add_noise
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.target import Target, loss_weight
from latentdiff.errors import ConfigError

# Above it the noisiest level is all that the network would learn.
MAX_LOSS_WEIGHT = 1e6
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def training_losses(
    network: Network,
    x0: Tensor,
    noise: Tensor,
    levels: NoiseLevels,
    labels: Tensor | None,
    target: Target,
    config: DiffusionConfig,
    variance_loss: VarianceLoss | None = None,
) -> dict[str, Tensor]:
    """How well a network denoises x_t = alpha x0 + sigma noise (Ho et al. 2020, algorithm 1).

    Args:
        network: (x [b, c, h, w], time [b], labels [b] or None) -> output [b, c, h, w], or [b, 2 c, h, w] where the
            variance is learned.
        x0, noise: [b, c, h, w].
        levels: The noise level of each image, [b].
        labels: int64 [b], or None.
        target: What the network predicts.
        config: The loss's weight, and that of the variational bound.
        variance_loss: Scores a learned variance; None where it is not learned.

    Returns: ``loss``, the weighted squared error, and ``bound`` where the variance is learned: fp32 scalars.
    """
    x = add_noise(x0, noise, levels)
    output = network(target.scale_input(x, levels), levels.time.to(x.device, torch.float32), labels)
    if variance_loss is None:
        return {"loss": diffusion_loss(output, x0, noise, levels, target, config)}
    output, model_var_values = output.chunk(2, dim=1)
    pred_x0 = target.to_x0(output.detach().float(), x, levels)
    return {
        "loss": diffusion_loss(output, x0, noise, levels, target, config),
        "bound": variance_loss(x, x0, pred_x0, model_var_values, levels),
    }


def diffusion_loss(
    output: Tensor, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target, config: DiffusionConfig
) -> Tensor:
    """Weighted squared error of raw network ``output`` [b, ...] at ``levels`` [b], the mean over the batch, in fp32."""
    error = (output.float() - target.training_target(x0, noise, levels)).square().flatten(1).mean(dim=1)
    weight = loss_weight(config, target, levels.snr)
    return (weight.to(error.device, error.dtype) * error).mean()


class VarianceLoss:
    """The variational bound that teaches a learned variance (Nichol and Dhariwal 2021, L_vlb in equation 16).

    The mean takes no gradient from it: only the variance is to learn from the bound.

    Args:
        schedule: A discrete one.
        discretised: The data are uint8 values scaled to [-1, 1], not latents.
    """

    def __init__(self, schedule: Schedule, discretised: bool):
        steps = torch.arange(schedule.num_train_steps - 1, -1, -1)
        self.transitions = Transitions.from_levels(schedule.levels(steps).append_clean())
        self.last, self.discretised = schedule.num_train_steps - 1, discretised

    def __call__(self, x: Tensor, x0: Tensor, pred_x0: Tensor, model_var_values: Tensor, levels: NoiseLevels) -> Tensor:
        """Nats per dimension, summed over the process as one step stands for it, the mean over the batch."""
        index = self.last - levels.time.long()
        log_variance = self.transitions.log_variance(model_var_values.float(), index)
        term = variational_bound_term(
            self.transitions, index, x, x0, pred_x0.detach().float(), log_variance, self.discretised
        )
        return (self.last + 1) * term.mean()


def check_loss_weight(config: DiffusionConfig, schedule: Schedule, target: Target) -> None:
    """Raise ConfigError where ``config.loss_weight`` lets the noisiest level count for nothing, or for nearly all."""
    last = schedule.levels(torch.tensor([schedule.last_position], dtype=torch.float64))
    weight = float(loss_weight(config, target, last.snr))
    if not 0.0 < weight < MAX_LOSS_WEIGHT:
        raise ConfigError(
            f"loss_weight {config.loss_weight} with the {config.target} target gives the noisiest level of this "
            f"process the weight {weight:.3g}. Use --diffusion.loss_weight simple, or another target"
        )
