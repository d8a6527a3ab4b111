"""Run a benchmark: measure the machine's limits, then part after part, and write table, record and figure."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latentdiff.benchmark.batch_divisor import batch_divisor, measure_training_speed
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.encoding_speed import measure_encoding
from latentdiff.benchmark.engine_speed import measure_engines
from latentdiff.benchmark.evaluation_speed import measure_evaluation
from latentdiff.benchmark.gpu_preset import GPU_PARTS, MINIATURE_SIZES, gpu_sizes
from latentdiff.benchmark.latents_against_pixels import measure_latents_against_pixels
from latentdiff.benchmark.loader_speed import measure_loader
from latentdiff.benchmark.machine_limits import measure_limits
from latentdiff.benchmark.results import Growth, Measurement
from latentdiff.benchmark.results_table import part_table, results_table, summary
from latentdiff.benchmark.sampling_speed import measure_sampling
from latentdiff.benchmark.sizes import FULL, QUICK
from latentdiff.benchmark.training_speed import measure_autoencoder_training, measure_diffusion_training
from latentdiff.checkpoint import device_name, environment
from latentdiff.config import to_dict
from latentdiff.config.tool_stages import BenchmarkSettings
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.folder_mark import claim
from latentdiff.precision import resolve_device, resolve_precision
from latentdiff.report.benchmark_figure import benchmark_figure
from latentdiff.training.memory import keep_freed_memory

# A part yields what it has measured, one after the other.
Part = Callable[[BenchmarkContext], Iterator[Measurement | Growth]]

# In this order: after the large images of latents against pixels, training is at times a fifth slower.
PARTS: dict[str, Part] = {
    "autoencoder_training": measure_autoencoder_training,
    "encoding": measure_encoding,
    "diffusion_training": measure_diffusion_training,
    "loader": measure_loader,
    "sampling": measure_sampling,
    "engines": measure_engines,
    "evaluation": measure_evaluation,
    "latents_against_pixels": measure_latents_against_pixels,
}


def run_benchmark(settings: BenchmarkSettings, command: str = "", parts: Mapping[str, Part] = PARTS) -> Path:
    """Run a benchmark with the sizes that suit the machine.

    Args:
        settings: The settings.
        command: The command line, for the record.
        parts: The parts by name; ``settings.parts`` chooses among them.

    Returns:
        The folder with benchmark.json, benchmark.md and the figure.

    Raises:
        ConfigError: A preset is given beside settings that it makes itself.
    """
    if settings.preset:
        if settings.quick or settings.parts:
            raise ConfigError("preset gpu measures what it measures: leave out --quick and --parts")
        return measure_parts(settings, gpu_context(settings), command, GPU_PARTS)
    return measure_parts(settings, build_context(settings), command, parts)


def prepare_device(settings: BenchmarkSettings) -> torch.device:
    """The device to measure, with as many threads as were asked for."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # for the processes that are started
    device = resolve_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()  # Our trainers do. Here every implementation has it, whichever comes first.
    return device


def gpu_context(settings: BenchmarkSettings) -> BenchmarkContext:
    """The context of the preset gpu: a GPU's sizes, or where there is none, which a line says, a miniature of them."""
    ends_at = time.perf_counter() + settings.seconds
    device = prepare_device(settings)
    if device.type == "cpu":
        print("no GPU here: the measurements are made in miniature on the CPU, and say nothing of a GPU", flush=True)
    sizes = gpu_sizes() if device.type == "cuda" else MINIATURE_SIZES
    return BenchmarkContext(
        sizes=sizes,
        device=device,
        dtype=resolve_precision("auto", device),
        limits=measure_limits(device, sizes.limit_seconds),
        inception_weights=settings.inception_weights,
        ends_at=ends_at,
    )


def build_context(settings: BenchmarkSettings) -> BenchmarkContext:
    """Measure the machine and choose sizes that suit it."""
    device, sizes = prepare_device(settings), QUICK if settings.quick else FULL
    context = BenchmarkContext(
        sizes=sizes,
        device=device,
        dtype=resolve_precision("auto", device),
        limits=measure_limits(device, sizes.limit_seconds),
        inception_weights=settings.inception_weights,
        quick=settings.quick,
    )
    if device.type == "cpu":
        divisor = batch_divisor(measure_training_speed(context, sizes.comparison_networks))
        context = replace(context, sizes=sizes.divided(divisor), batch_divisor=divisor)
    return context


def measure_parts(
    settings: BenchmarkSettings, context: BenchmarkContext, command: str = "", parts: Mapping[str, Part] = PARTS
) -> Path:
    """Measure the chosen parts and return the folder. benchmark.json is written anew after every part."""
    folder = Path(settings.folder)
    claim(folder, (f"benchmark.{ending}" for ending in ("json", "md", "png", "svg")), "benchmark")
    record: dict[str, Any] = {
        "schema": 2,
        "quick": settings.quick,
        "preset": settings.preset,
        "batch_divisor": context.batch_divisor,
        "device": device_name(context.device),
        "training_precision": str(context.dtype).removeprefix("torch."),
        "environment": environment(),
        "command": command,
        "limits": to_dict(context.limits),
        "seconds": {},
        "measurements": [],
        "growth": [],
        "versions": context.versions,
        "left_out": context.left_out,
    }
    for name, part in parts.items():
        if settings.parts and name not in settings.parts:
            continue
        start, count = time.perf_counter(), len(record["measurements"])
        for found in _in_time(name, part, context):
            record["measurements" if isinstance(found, Measurement) else "growth"].append(found.record())
        record["seconds"][name] = time.perf_counter() - start
        write_atomically(folder / "benchmark.json", lambda path: path.write_text(json.dumps(record, indent=1)))
        for title in dict.fromkeys(measurement["part"] for measurement in record["measurements"][count:]):
            print(f"\n{part_table(record, title)}", flush=True)
    text = results_table(record)
    write_atomically(folder / "benchmark.md", lambda path: path.write_text(text))
    _write_figure(record, folder)
    print(f"\n{summary(record)}\n{sum(record['seconds'].values()):.0f} s in all\n{folder}")
    return folder


def _in_time(name: str, part: Part, context: BenchmarkContext) -> Iterator[Measurement | Growth]:
    """What a part yields until the context's time is over. What is left then is noted."""
    measurements = part(context)
    while not context.is_over:
        found = next(measurements, None)
        if found is None:
            return
        yield found
    context.leave_out(f"what was left of {name}", "the time was over (--seconds)")


def _write_figure(record: dict[str, Any], folder: Path) -> None:
    """Write benchmark.png and benchmark.svg, if anything was compared."""
    if not any(measurement["ratios"] for measurement in record["measurements"]):
        return
    for format in ("png", "svg"):
        picture = benchmark_figure(record, format=format)
        write_atomically(folder / f"benchmark.{format}", lambda path, picture=picture: path.write_bytes(picture))
