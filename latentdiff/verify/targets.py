"""Targets are one another's equals: the exact output of each is the clean image, and the minimum of its loss."""

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
from latentdiff.verify import Check, largest

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve")
EXPLODING = ("edm", "ve")
LOSS_WEIGHTS = ("simple", "min_snr", "truncated_snr", "edm")
LEVELS = 16
# How far from the exact output the loss is tried, in units of the output.
PERTURBATION = 0.1


def processes() -> Iterator[DiffusionConfig]:
    """Every process that each target goes with: discrete and continuous, up to zero SNR, for both scales of data."""
    for target in TARGETS:
        for schedule in SCHEDULES:
            exploding = schedule in EXPLODING
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
                        if not _refused(config):
                            yield config


def losses(config: DiffusionConfig) -> Iterator[DiffusionConfig]:
    """``config`` with every loss weight that it can be trained with."""
    for name in LOSS_WEIGHTS:
        weighted = replace(config, loss_weight=name)
        if not _refused(weighted, with_loss=True):
            yield weighted


def _refused(config: DiffusionConfig, with_loss: bool = False) -> bool:
    try:
        schedule, target = build_schedule(config), build_target(config)
        if with_loss:
            check_loss_weight(config, schedule, target)
    except ValueError:
        return True
    return False


@dataclass
class Findings:
    """What has been measured of one target, the worst of all processes, levels and loss weights.

    Attributes:
        x0_error: Of the clean image that the exact output stands for, relative to sigma / alpha where that is above 1.
        at_minimum: The loss at the exact output, and its gradient there.
        no_dearer: How many perturbed outputs have no larger loss.
        weighed: How far the loss of a perturbed output is from its weight times the error of the x0 that it stands for,
            relative.
        tried: How many perturbed outputs there were.
        least_weight: Of a level in training.
    """

    x0_error: float = 0.0
    at_minimum: float = 0.0
    no_dearer: int = 0
    weighed: float = 0.0
    tried: int = 0
    least_weight: float = math.inf

    def of_output(self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target) -> None:
        """The exact output gives x0 back, in fp64."""
        x, output = add_noise(x0, noise, levels), target.training_target(x0, noise, levels)
        scale = levels.append_dims(x0).karras_sigma.clamp_min(1.0)
        # The targets that go with no signal at all know x0 there too.
        scale = torch.where(scale.isfinite(), scale, 1.0)
        error = ((target.to_x0(output, x, levels) - x0) / scale).abs().max()
        self.x0_error = largest([self.x0_error, float(error)])

    def of_loss(self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target, config: DiffusionConfig) -> None:
        """Nothing at the exact output and no slope; more wherever the output of a single image is another. In fp32."""
        x0, noise = x0.float(), noise.float()
        output = target.training_target(x0, noise, levels).requires_grad_()
        loss = diffusion_loss(output, x0, noise, levels, target, config)
        (slope,) = torch.autograd.grad(loss, output)
        least = loss.detach()
        self.at_minimum = largest([self.at_minimum, float(least), float(slope.abs().max())])
        generator = torch.Generator().manual_seed(1)
        for image in range(len(x0)):
            away = output.detach().clone()
            away[image] += PERTURBATION * torch.randn(x0.shape[1:], generator=generator)
            dearer = diffusion_loss(away, x0, noise, levels, target, config) > least
            self.no_dearer, self.tried = self.no_dearer + (not dearer), self.tried + 1

    def of_weight(
        self, x0: Tensor, noise: Tensor, levels: NoiseLevels, target: Target, config: DiffusionConfig
    ) -> None:
        """The loss of another output is that of its x0, weighed as the paper of the weight says."""
        if config.loss_weight == "simple":  # which is in the target's own units
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
        guess = target.to_x0(output, add_noise(x0, noise, levels), levels)
        # A level at a time, since the noisy ones would drown the others.
        for image in range(len(x0)):
            one = slice(image, image + 1)
            loss = float(diffusion_loss(output[one], x0[one], noise[one], levels[one], target, config))
            expected = float(weight[image] * (guess[image] - x0[image]).square().mean())
            self.weighed = largest([self.weighed, abs(loss - expected) / expected])


def check_targets() -> list[Check]:
    """The exact output of each target gives x0 back, and is where each of its losses has its minimum."""
    found = {name: Findings() for name in TARGETS}
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(LEVELS, 1, 4, 4, generator=generator, dtype=torch.float64)

    for config in processes():
        own, schedule, target = found[config.target], build_schedule(config), build_target(config)
        # From nearly clean to nearly, or nothing but, noise: both ends.
        every = schedule.levels(torch.linspace(0.0, schedule.last_position, LEVELS, dtype=torch.float64))
        trained = schedule.training_levels((torch.arange(LEVELS) + 0.5) / LEVELS)
        x0, noise = normal(), normal()
        own.of_output(x0, noise, every, target)
        for weighted in losses(config):
            own.of_loss(x0, noise, every, target, weighted)
            own.of_weight(x0, noise, trained, target, weighted)
            weight = loss_weight(weighted, target, trained.snr)
            own.least_weight = min(own.least_weight, float(torch.where(weight.isfinite(), weight, -math.inf).min()))
    return [check for name, own in found.items() for check in _checks(name, own)]


def _checks(name: str, own: Findings) -> Iterator[Check]:
    section = "targets"
    # At nearly pure noise any x0 fits an eps, so that of an eps is compared with what is lost anyway.
    note = "largest error, in units of the noise, sigma / alpha, where that is above 1"
    yield Check(section=section, name=f"{name}: x0 from the exact output", value=own.x0_error, limit=1e-6, note=note)
    yield Check(
        section=section,
        name=f"{name}: loss at the exact output",
        value=own.at_minimum,
        limit=0.0,
        note="and its gradient there, of all processes, levels and loss weights",
    )
    yield Check(
        section=section,
        name=f"{name}: other outputs of no larger loss",
        value=float(own.no_dearer),
        limit=0.0,
        note=f"of {own.tried:,}",
    )
    yield Check(
        section=section,
        name=f"{name}: loss by the error of x0",
        value=own.weighed,
        limit=1e-3,
        note="relative difference from the papers' weights times the squared error of x0, at every training level",
    )
    yield Check(
        section=section,
        name=f"{name}: least weight of an error",
        value=own.least_weight,
        limit=1e-9,
        at_least=True,
        note="of all processes, training levels and loss weights: no error is free",
    )
