"""Training and sampling in latents beside pixels, with networks of as many parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters_of, match_pixel_network, untrained_model
from latentdiff.benchmark.results import Measurement, Value, rates
from latentdiff.benchmark.sampling_speed import our_sampler, sampling_limit, time_samplers
from latentdiff.benchmark.training_speed import diffusion_contender
from latentdiff.config import AutoencoderConfig, NetworkConfig
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.network import build_network

PART = "latents against pixels"
LATENTS, PIXELS, SAME_NETWORK = "latents", "pixels", "same network in pixels"


@dataclass(frozen=True)
class ModelPath:
    """A way to generate images.

    Attributes:
        autoencoder: The autoencoder whose latents are denoised, or None for pixels.
        network: The denoising network.
    """

    autoencoder: AutoencoderConfig | None
    network: NetworkConfig


def model_paths(context: BenchmarkContext) -> dict[str, ModelPath]:
    """Return latents and two paths in pixels, all of as many parameters.

    ``same network in pixels`` is the latent path's U-Net with its two resolutions. ``pixels`` has the shape that
    configs/ gives pixel models: more resolutions, and few channels at full resolution.
    """
    networks = context.sizes.comparison_networks
    latent, channels = networks.latent_network, networks.autoencoder.latent_channels
    parameters = count_parameters_of(lambda: build_network(channels, NUM_CLASSES, latent))
    return {
        LATENTS: ModelPath(networks.autoencoder, latent),
        PIXELS: ModelPath(None, match_pixel_network(networks.pixel_network, parameters)),
        SAME_NETWORK: ModelPath(None, latent),
    }


def measure_latents_against_pixels(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of training and of sampling in latents and in pixels, at one side and in the same batches."""
    sizes, paths = context.sizes, model_paths(context)
    side = sizes.comparison_networks.side
    yield measure_training(context, side, paths, sizes.comparison_batch, sizes.training_steps)
    yield measure_sampling(context, side, paths)


def measure_training(
    context: BenchmarkContext,
    side: int,
    paths: Mapping[str, ModelPath],
    batch: int,
    steps: int,
    all_limits: bool = True,
) -> Measurement:
    """Measure images/s of training on images of ``side`` pixels.

    Args:
        context: The benchmark's context.
        side: Side of the RGB images, in pixels.
        paths: What is compared, by name.
        batch: Images in a training step.
        steps: Optimiser steps in one timed call.
        all_limits: Whether the machine's limit is computed for each path, or for the first alone. It needs the memory
            of a training step of 16 images.
    """
    contenders = [
        diffusion_contender(
            context, name, side, path.autoencoder, path.network, batch, steps, count_flops=all_limits or not index
        )
        for index, (name, path) in enumerate(paths.items())
    ]
    return Measurement(
        part=PART,
        name=f"training, {side} px, batch {batch}",
        unit="images/s",
        values=rates(contenders, context.time_contenders(contenders), steps * batch),
    )


def measure_sampling(
    context: BenchmarkContext, side: int, paths: Mapping[str, ModelPath], all_limits: bool = True
) -> Measurement:
    """Measure images/s of sampling images of ``side`` pixels, with the decoding. Arguments as for training."""
    sizes = context.sizes
    request = SamplingRequest(num_images=sizes.comparison_sampling_batch, steps=sizes.sampling_steps)
    models = {
        name: untrained_model(side, path.autoencoder, path.network, context.device) for name, path in paths.items()
    }
    samplers = {name: our_sampler(model, request) for name, model in models.items()}
    timings = time_samplers(context, samplers, request.steps, sizes.comparison_steps)
    values = {name: Value.rate(timing, request.num_images) for name, timing in timings.items()}
    for name in values if all_limits else list(values)[:1]:
        values[name] = replace(values[name], limit=sampling_limit(context.limits, models[name], request))
    few, many = sizes.comparison_steps
    return Measurement(
        part=PART,
        name=f"sampling, {side} px, batch {request.num_images}",
        unit="images/s",
        values=values,
        note=f"sampling: {request.steps} steps, extrapolated from {few} and {many}, with the decoding",
    )
