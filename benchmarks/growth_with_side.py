"""How the costs of latents and of pixels grow with the side of the image: training, sampling and memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.peak_memory import MemoryCase, peak_memories
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.latents_against_pixels import (
    LATENTS,
    PIXELS,
    ModelPath,
    measure_sampling,
    measure_training,
    model_paths,
)
from latentdiff.benchmark.results import Growth, Measurement, Value
from latentdiff.benchmark.training_speed import diffusion_trainer
from latentdiff.errors import ConfigError

PART = "growth with the side"
SIDES = (32, 64, 128, 256)  # In pixels.
SMALL_SIDE = 8  # In pixels: training on one such image needs next to no memory.


def measure_growth(context: BenchmarkContext) -> Iterator[Measurement | Growth]:
    """Measure training, sampling and the memory of training at every side, then fit power laws.

    The same network in pixels is left out: attention over every pixel of a large image takes minutes. The batch is
    one that fits the largest side. The quick benchmark leaves the whole part out.
    """
    if context.quick:
        return
    paths = {name: path for name, path in model_paths(context).items() if name in (LATENTS, PIXELS)}
    batch = max(context.sizes.comparison_batch // 2, 1)
    series: dict[str, list[Measurement]] = {"training": [], "sampling": [], "peak memory of training": []}
    for side in SIDES:
        # One step of training: at the largest side it takes seconds.
        found = (
            measure_training(context, side, paths, batch, steps=1, all_limits=False),
            measure_sampling(context, side, paths, all_limits=False),
            _measure_memory(context, side, paths, batch),
        )
        for measurements, measurement in zip(series.values(), found, strict=True):
            measurements.append(measurement)
        yield from (replace(measurement, part=PART) for measurement in found)
    for name, measurements in series.items():
        yield _fit(name, measurements)


def growth_exponent(sides: Sequence[float], values: Sequence[float]) -> float:
    """Fit value = a * side^b by least squares on the logarithms, and return b.

    Raises:
        ConfigError: if there are fewer than two sides.
    """
    if len(set(sides)) < 2:
        raise ConfigError("a power law needs at least two sides")
    x, y = ([math.log(value) for value in series] for series in (sides, values))
    return statistics.linear_regression(x, y).slope


def _fit(name: str, measurements: list[Measurement]) -> Growth:
    values = {path: tuple(each.values[path].value for each in measurements) for path in (LATENTS, PIXELS)}
    is_rate, unit = measurements[0].more_is_better, measurements[0].unit
    if is_rate:
        values = {path: tuple(1 / value for value in series) for path, series in values.items()}
    return Growth(
        part=PART,
        name=name,
        unit="s an image" if is_rate else unit,
        sides=SIDES,
        values=values,
        exponents={path: growth_exponent(SIDES, series) for path, series in values.items()},
    )


def _measure_memory(context: BenchmarkContext, side: int, paths: Mapping[str, ModelPath], batch: int) -> Measurement:
    trainer, small = context.trainer_config(batch), context.trainer_config(1)
    cases = [
        MemoryCase(
            diffusion_trainer,
            (side, path.autoencoder, path.network, trainer, 1, context.device),
            (SMALL_SIDE, path.autoencoder, path.network, small, 1, context.device),
        )
        for path in paths.values()
    ]
    values = {name: Value.single(peak.added / 1e6) for name, peak in zip(paths, peak_memories(cases), strict=True)}
    return Measurement(
        part=PART,
        name=f"peak memory of training, {side} px, batch {batch}",
        unit="MB",
        values=values,
        more_is_better=False,
        note=f"memory: of a process of its own, above training on one image of {SMALL_SIDE} px",
    )
