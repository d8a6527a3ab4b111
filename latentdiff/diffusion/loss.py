"""The training loss of a denoising network."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import Network
from latentdiff.diffusion.likelihood import variational_bound_term
from latentdiff.diffusion.noise_levels import NoiseLevels, Transitions, add_noise
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.target import Target, loss_weight
from latentdiff.errors import ConfigError

# With a larger weight the noisiest level is all that the network would learn.
MAX_LOSS_WEIGHT = 1e6


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
    """Noise the images, run the network and return its losses (Ho et al. 2020, algorithm 1).

    Args:
        network: Maps x_t [b, c, h, w], time [b] and labels to the output [b, c, h, w], or [b, 2 c, h, w] where the
            variance is learned.
        x0: Clean images or latents, [b, c, h, w].
        noise: Standard normal noise of ``x0``'s shape.
        levels: Noise level of each image, [b].
        labels: Class of each image, int64 [b], or None.
        target: What the network predicts.
        config: Names the loss weight.
        variance_loss: The loss of a learned variance; None where the variance is not learned.

    Returns: fp32 scalars by name: ``loss``, the weighted squared error, and where the variance is learned ``bound``,
        the variational bound in nats per dimension.
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
    """Return the weighted squared error of the raw network ``output``, averaged over the batch: an fp32 scalar.

    Args:
        output: Raw output of the network, [b, ...].
        x0: Clean images or latents, [b, ...].
        noise: The noise that was added, [b, ...].
        levels: Noise level of each image, [b].
        target: What the network predicts.
        config: Names the loss weight, see :func:`~latentdiff.diffusion.target.loss_weight`.
    """
    error = (output.float() - target.training_target(x0, noise, levels)).square().flatten(1).mean(dim=1)
    weight = loss_weight(config, target, levels.snr)
    return (weight.to(error.device, error.dtype) * error).mean()


class VarianceLoss:
    """The variational bound as the loss of a learned variance (Nichol and Dhariwal 2021, L_vlb in equation 16).

    The predicted mean gets no gradient from the bound: only the variance learns from it.

    Args:
        schedule: A discrete schedule.
        discretised: Whether the data are uint8 values scaled to [-1, 1], in contrast to latents.

    Raises:
        ConfigError: ``schedule`` is in continuous time.
    """

    def __init__(self, schedule: Schedule, discretised: bool):
        if schedule.num_train_steps is None:
            raise ConfigError("a learned variance needs a discrete schedule, that is num_train_steps")
        steps = torch.arange(schedule.num_train_steps - 1, -1, -1)
        self.transitions = Transitions.from_levels(schedule.levels(steps).append_clean())
        self.last, self.discretised = schedule.num_train_steps - 1, discretised

    def __call__(self, x: Tensor, x0: Tensor, pred_x0: Tensor, model_var_values: Tensor, levels: NoiseLevels) -> Tensor:
        """Return an estimate of the whole bound in nats per dimension, averaged over the batch.

        The term of each image's own step is multiplied by the number of steps.

        Args:
            x: Noisy images, [b, ...].
            x0: Clean images, [b, ...].
            pred_x0: Clean images that the network predicted, [b, ...].
            model_var_values: Second half of the network's output channels, [b, ...].
            levels: Noise level of each image, [b].
        """
        if self.transitions.beta.device != levels.time.device:
            self.transitions = self.transitions.to(levels.time.device)  # once, where a training is on a GPU
        index = self.last - levels.time.long()
        log_variance = self.transitions.log_variance(model_var_values.float(), index)
        term = variational_bound_term(
            self.transitions, index, x, x0, pred_x0.detach().float(), log_variance, self.discretised
        )
        return (self.last + 1) * term.mean()


def check_loss_weight(config: DiffusionConfig, schedule: Schedule, target: Target) -> None:
    """Raise ConfigError where ``config.loss_weight`` gives the noisiest level no weight, or nearly all of it."""
    last = schedule.levels(torch.tensor([schedule.last_position], dtype=torch.float64))
    weight = float(loss_weight(config, target, last.snr))
    if not 0.0 < weight < MAX_LOSS_WEIGHT:
        raise ConfigError(
            f"loss_weight {config.loss_weight} with the {config.target} target gives the noisiest level of this "
            f"process the weight {weight:.3g}. Use --diffusion.loss_weight simple, or another target"
        )
