"""The parts of the benchmarks: the package's own parts beside other projects' code, with targets, and further parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.evaluation import scipy_and_torchmetrics_distances, torch_fidelity_features
from benchmarks.growth_with_side import measure_growth
from benchmarks.lightning_overhead import measure_lightning_overhead
from benchmarks.peak_memory import measure_autoencoder_memory
from benchmarks.sampling import diffusers_engines, diffusers_samplers
from benchmarks.several_processes import measure_several_processes
from benchmarks.whole_processes import measure_whole_processes
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.encoding_speed import measure_encoding
from latentdiff.benchmark.engine_speed import measure_engines
from latentdiff.benchmark.evaluation_speed import measure_evaluation
from latentdiff.benchmark.latents_against_pixels import measure_latents_against_pixels
from latentdiff.benchmark.loader_speed import measure_loader
from latentdiff.benchmark.peer_training import diffusers_autoencoder_training, diffusers_encoding, diffusion_training
from latentdiff.benchmark.results import Measurement, Target
from latentdiff.benchmark.run_benchmark import Part
from latentdiff.benchmark.sampling_speed import measure_sampling
from latentdiff.benchmark.training_speed import measure_autoencoder_training, measure_diffusion_training

# How many times faster than the others.
AUTOENCODER_TRAINING, LATENT_TRAINING, PIXEL_TRAINING, SAMPLING, EVALUATION = 1.3, 1.5, 1.2, 1.5, 1.4
LATENTS_OVER_PIXELS = 12.0


def with_target(measurements: Iterator[Measurement], min_ratio: float) -> Iterator[Measurement]:
    """Give each measurement the target of being ``min_ratio`` times better than the others."""
    return (replace(measurement, target=Target(min_ratio=min_ratio)) for measurement in measurements)


def autoencoder_training(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure training beside diffusers' AutoencoderKL, and the memory of both."""
    yield from with_target(measure_autoencoder_training(context, diffusers_autoencoder_training), AUTOENCODER_TRAINING)
    yield measure_autoencoder_memory(context)


def encoding(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure encoding beside diffusers' AutoencoderKL."""
    return measure_encoding(context, diffusers_encoding)


def diffusion_model_training(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure training in latents and in pixels beside diffusers and denoising-diffusion-pytorch."""
    for measurement in measure_diffusion_training(context, diffusion_training):
        ratio = LATENT_TRAINING if measurement.name.startswith("latents") else PIXEL_TRAINING
        yield replace(measurement, target=Target(min_ratio=ratio))


def sampling(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure sampling beside diffusers."""
    return with_target(measure_sampling(context, diffusers_samplers), SAMPLING)


def engines(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure sampling by each engine beside diffusers, by torch and by ONNX Runtime."""
    return measure_engines(context, diffusers_engines)


def evaluation(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure features beside torch-fidelity, and the Fréchet distance beside torchmetrics and scipy."""
    measurements = measure_evaluation(context, torch_fidelity_features, scipy_and_torchmetrics_distances)
    return with_target(measurements, EVALUATION)


def latents_against_pixels(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure latents beside pixels."""
    return with_target(measure_latents_against_pixels(context), LATENTS_OVER_PIXELS)


# In this order: after the large images of the growth with the side, training is at times a fifth slower.
PARTS: dict[str, Part] = {
    "autoencoder_training": autoencoder_training,
    "encoding": encoding,
    "diffusion_training": diffusion_model_training,
    "lightning_overhead": measure_lightning_overhead,
    "loader": measure_loader,
    "sampling": sampling,
    "engines": engines,
    "whole_processes": measure_whole_processes,
    "evaluation": evaluation,
    "latents_against_pixels": latents_against_pixels,
    "growth_with_side": measure_growth,
    "several_processes": measure_several_processes,
}
