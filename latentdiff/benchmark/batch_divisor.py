"""Choose smaller batches on a slow machine, so that a benchmark ends in about the same time."""

from __future__ import annotations

import math

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.sizes import NetworkSizes
from latentdiff.benchmark.training_speed import diffusion_trainer
from latentdiff.errors import ConfigError

# Images/s in pixels of 64x64, there in batches of 8 and 16, of machines that need no smaller batches.
NORMAL_SPEED = 25.0
MAX_DIVISOR = 8
BATCH = 4


def measure_training_speed(context: BenchmarkContext, networks: NetworkSizes) -> float:
    """Measure images/s of training a pixel network in a small batch: the best of two steps, after a first one."""
    trainer = context.trainer_config(BATCH)
    call = diffusion_trainer(networks.side, None, networks.pixel_network, trainer, 1, context.device)
    return BATCH / min(call() for _ in range(2))


def batch_divisor(images_per_second: float) -> int:
    """Choose what batches are divided by on a machine of such a training speed: 1, 2, 4 or 8.

    Raises:
        ConfigError: if the speed is not a positive number.
    """
    if not (math.isfinite(images_per_second) and images_per_second > 0):
        raise ConfigError(f"a training speed must be a positive number, not {images_per_second}")
    return min(2 ** max(round(math.log2(NORMAL_SPEED / images_per_second)), 0), MAX_DIVISOR)
