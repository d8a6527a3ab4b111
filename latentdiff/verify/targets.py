"""Targets and losses: each target's exact output gives the clean image back, and is where each loss has its minimum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.loss import check_loss_weight, diffusion_loss
from latentdiff.diffusion.noise_levels import NoiseLevels, add_noise
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import TARGETS, Target, build_target, loss_weight
from latentdiff.verify.check import Check, max_or_nan

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve")
VARIANCE_EXPLODING = ("edm", "ve")
LOSS_WEIGHTS = ("simple", "min_snr", "truncated_snr", "edm")
LEVELS = 16
# Standard deviation of the perturbation of the exact output.
PERTURBATION = 0.1


def diffusion_configs() -> Iterator[DiffusionConfig]:
    """Yield every process of each target: discrete and continuous, with and without zero SNR, for two data scales."""
    for target in TARGETS:
        for schedule in SCHEDULES:
            exploding = schedule in VARIANCE_EXPLODING
            for steps in (None,) if exploding else (1000, None):
                for terminal in (False,) if exploding else (False, True):
                    for sigma_data in (0.5, 1.0):
                        config = DiffusionConfig(
                            schedule=schedule,
                            target=target,
                            num_train_steps=steps,
                            zero_terminal_snr=terminal,
                            sigma_data=sigma_data,
                        )
                        if not _is_refused(config):
                            yield config


def with_loss_weights(config: DiffusionConfig) -> Iterator[DiffusionConfig]:
    """Yield ``config`` with every loss weight that it can be trained with."""
    for name in LOSS_WEIGHTS:
        weighted_config = replace(config, loss_weight=name)
        if not _is_refused(weighted_config, with_loss=True):
            yield weighted_config


def _is_refused(config: DiffusionConfig, with_loss: bool = False) -> bool:
    try:
        schedule, target = build_schedule(config), build_target(config)
        if with_loss:
            check_loss_weight(config, schedule, target)
    except ValueError:
        return True
    return False


@dataclass
class TargetErrors:
    """The largest errors of one target over all processes, levels and loss weights.

    Attributes:
        x0_error: Error of x0 from the exact output, relative to sigma / alpha where that is above 1.
        exact_loss: The larger of the loss and its gradient at the exact output.
        perturbed_outputs: Number of perturbed outputs.
        not_larger: Number of perturbed outputs whose loss is not larger than that of the exact output.
        weight_error: Relative difference between a perturbed output's loss and its weight times the error of its x0.
        min_weight: The smallest weight of a training level.
    """

    x0_error: float = 0.0
    exact_loss: float = 0.0
    not_larger: int = 0
    weight_error: float = 0.0
    perturbed_outputs: int = 0
    min_weight: float = math.inf

    def add_output(self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target) -> None:
        """Add the error of x0 from the exact output, in fp64."""
        x, output = add_noise(x0, noise, levels), target.training_target(x0, noise, levels)
        scale = levels.append_dims(x0).karras_sigma.clamp_min(1.0)
        # The targets that allow pure noise give x0 there too.
        scale = torch.where(scale.isfinite(), scale, 1.0)
        error = ((target.to_x0(output, x, levels) - x0) / scale).abs().max()
        self.x0_error = max_or_nan([self.x0_error, float(error)])

    def add_loss(self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target, config: DiffusionConfig) -> None:
        """Add the loss and gradient at the exact output, and compare outputs with one perturbed image. In fp32."""
        x0, noise = x0.float(), noise.float()
        output = target.training_target(x0, noise, levels).requires_grad_()
        loss = diffusion_loss(output, x0, noise, levels, target, config)
        (gradient,) = torch.autograd.grad(loss, output)
        exact_loss = loss.detach()
        self.exact_loss = max_or_nan([self.exact_loss, float(exact_loss), float(gradient.abs().max())])
        generator = torch.Generator().manual_seed(1)
        for image in range(len(x0)):
            perturbed = output.detach().clone()
            perturbed[image] += PERTURBATION * torch.randn(x0.shape[1:], generator=generator)
            is_larger = diffusion_loss(perturbed, x0, noise, levels, target, config) > exact_loss
            self.not_larger, self.perturbed_outputs = self.not_larger + (not is_larger), self.perturbed_outputs + 1

    def add_weight(
        self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target, config: DiffusionConfig
    ) -> None:
        """Add the difference between a perturbed output's loss and its error of x0, weighted as in the paper."""
        if config.loss_weight == "simple":  # this loss is in the target's own units
            return
        weight = {
            "min_snr": levels.snr.clamp(max=config.min_snr_gamma),
            "truncated_snr": levels.snr.clamp(min=1.0),
            "edm": levels.snr + 1.0 / config.sigma_data**2,
        }[config.loss_weight]
        output = target.training_target(x0, noise, levels)
        output = output + PERTURBATION * torch.randn(
            x0.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )
        pred_x0 = target.to_x0(output, add_noise(x0, noise, levels), levels)
        # One level at a time: in a sum the noisy levels would hide the others.
        for image in range(len(x0)):
            one = slice(image, image + 1)
            loss = float(diffusion_loss(output[one], x0[one], noise[one], levels[one], target, config))
            expected = float(weight[image] * (pred_x0[image] - x0[image]).square().mean())
            self.weight_error = max_or_nan([self.weight_error, abs(loss - expected) / expected])


def check_targets() -> list[Check]:
    """Measure whether each target's exact output gives x0 back, and is where each of its losses has its minimum."""
    found = {name: TargetErrors() for name in TARGETS}
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(LEVELS, 1, 4, 4, generator=generator, dtype=torch.float64)

    for config in diffusion_configs():
        errors, schedule, target = found[config.target], build_schedule(config), build_target(config)
        # From nearly clean to nearly pure, or pure, noise; both ends included.
        levels = schedule.levels(torch.linspace(0.0, schedule.last_position, LEVELS, dtype=torch.float64))
        training_levels = schedule.training_levels((torch.arange(LEVELS) + 0.5) / LEVELS)
        x0, noise = normal(), normal()
        errors.add_output(x0, noise, levels, target)
        for weighted_config in with_loss_weights(config):
            errors.add_loss(x0, noise, levels, target, weighted_config)
            errors.add_weight(x0, noise, training_levels, target, weighted_config)
            weight = loss_weight(weighted_config, target, training_levels.snr)
            errors.min_weight = min(errors.min_weight, float(torch.where(weight.isfinite(), weight, -math.inf).min()))
    return [check for name, errors in found.items() for check in _checks(name, errors)]


def _checks(name: str, errors: TargetErrors) -> Iterator[Check]:
    section = "targets"
    # At nearly pure noise any x0 fits an eps. The error is in units of the noise, whose digits are lost anyway.
    note = "largest error, in units of the noise, sigma / alpha, where that is above 1"
    yield Check(section=section, name=f"{name}: x0 from the exact output", value=errors.x0_error, limit=1e-6, note=note)
    yield Check(
        section=section,
        name=f"{name}: loss at the exact output",
        value=errors.exact_loss,
        limit=0.0,
        note="and its gradient there, of all processes, levels and loss weights",
    )
    yield Check(
        section=section,
        name=f"{name}: other outputs of no larger loss",
        value=float(errors.not_larger),
        limit=0.0,
        note=f"of {errors.perturbed_outputs:,}",
    )
    yield Check(
        section=section,
        name=f"{name}: loss by the error of x0",
        value=errors.weight_error,
        limit=1e-3,
        note="relative difference from the papers' weights times the squared error of x0, at every training level",
    )
    yield Check(
        section=section,
        name=f"{name}: least weight of an error",
        value=errors.min_weight,
        limit=1e-9,
        at_least=True,
        note="of all processes, training levels and loss weights: no error is free",
    )
