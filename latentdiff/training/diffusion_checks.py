"""Settings of the diffusion process that contradict each other, found before anything is trained."""

from __future__ import annotations

import torch

from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.diffusion.loss import check_loss_weight
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.errors import ConfigError


def check_process(config: DiffusionConfig, network: NetworkConfig, on_latents: bool) -> None:
    """Raise ConfigError for a process that cannot be trained.

    Args:
        config: The process, its target and its loss.
        network: The denoising network.
        on_latents: Whether it works on latents, which have no bounds, and not on pixels.
    """
    schedule = build_schedule(config)
    if config.learn_variance and schedule.num_train_steps is None:
        raise ConfigError(
            "a learned variance needs a discrete process: a variance-preserving schedule, with "
            "--diffusion.num_train_steps"
        )
    if network.time_embedding == "fourier" and schedule.variance_preserving and network.fourier_scale > 0.1:
        raise ConfigError(
            f"--network.fourier_scale {network.fourier_scale} suits the times of edm and ve, which are about "
            f"1. Those of {config.schedule} go up to 1,000, so close times would get unrelated embeddings: "
            "use about 0.002"
        )
    check_loss_weight(config, schedule, build_target(config))
    last_alpha = float(schedule.levels(torch.tensor([schedule.last_position], dtype=torch.float64)).alpha)
    if config.target in ("eps", "score") and on_latents and last_alpha < 1e-3:
        raise ConfigError(
            f"the {config.target} target does not go with the {config.schedule} schedule on latents: x0 = (x - "
            f"sigma eps) / alpha magnifies errors {1 / last_alpha:,.0f}-fold where sampling starts, and "
            "latents have no bounds to clamp x0 to. Use --diffusion.target v, or --diffusion.schedule linear."
        )
