"""The preset gpu: what a large GPU does with this package's networks and with other projects', in four minutes.

A part stands the earlier the more it says and the less it takes: compiling comes last, and takes what time is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch

from latentdiff.benchmark.context import BenchmarkContext, random_images
from latentdiff.benchmark.evaluation_speed import measure_evaluation
from latentdiff.benchmark.host_time import HostTimes
from latentdiff.benchmark.machine_limits import inference_work, training_work
from latentdiff.benchmark.networks import count_parameters, untrained_codec, untrained_model
from latentdiff.benchmark.peer_training import diffusers_autoencoder_training, diffusion_training
from latentdiff.benchmark.results import OURS, Contender, Growth, Measurement, Value, rates
from latentdiff.benchmark.sampling_speed import our_sampler, sampling_limit
from latentdiff.benchmark.sizes import FULL, QUICK, BenchmarkSizes, NetworkSizes
from latentdiff.benchmark.timing import Timing, timed_call
from latentdiff.benchmark.training_speed import (
    TimedTrainer,
    autoencoder_trainer,
    diffusion_trainer,
    measure_autoencoder_training,
    measure_diffusion_training,
)
from latentdiff.codec import AutoencoderCodec
from latentdiff.command_line import parse
from latentdiff.config import AutoencoderConfig, NetworkConfig, TrainerConfig
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.evaluation.flops import count_flops
from latentdiff.inference.request import SamplingRequest
from latentdiff.training.dry_run import step_cost

HOST, COMPILED, CODING = "host time", "compiled training", "encoding and decoding"
SIDE = 64
# Images that are sampled at a time where more are asked for.
SAMPLED_AT_ONCE = 1000

MINIATURE_SIZES = replace(
    QUICK,
    networks=(
        NetworkSizes(
            side=16,
            autoencoder=AutoencoderConfig(channels=(32, 32), encoder_blocks=1, decoder_blocks=1, attention=False),
            latent_network=NetworkConfig(channels=(64, 96), num_res_blocks=1, attention_levels=(1,)),
            pixel_network=NetworkConfig(channels=(64, 96), num_res_blocks=1, attention_levels=(1,)),
            autoencoder_batch=4,
            latent_batch=4,
            pixel_batch=4,
        ),
    ),
    seconds=0.2,
    min_rounds=1,
    max_seconds=1.0,
    encoded_images=16,
    sampling_batches=(1, 4, 16),
    sampling_steps=4,
    extrapolated_batch=16,
    limit_seconds=0.2,
)


def gpu_sizes() -> BenchmarkSizes:
    """The networks and batches of configs/celeba/gpu."""
    codec = parse(AutoencoderStage, ["--config", "celeba/gpu/autoencoder.yaml"])
    latent, pixel = (parse(DiffusionStage, ["--config", f"celeba/gpu/{name}.yaml"]) for name in ("latent", "pixel"))
    networks = NetworkSizes(
        side=SIDE,
        autoencoder=codec.network,
        latent_network=latent.network,
        pixel_network=pixel.network,
        autoencoder_batch=codec.trainer.batch_size,
        latent_batch=latent.trainer.batch_size,
        pixel_batch=pixel.trainer.batch_size,
    )
    return replace(
        FULL,
        networks=(networks,),
        seconds=2.0,
        min_rounds=3,
        max_seconds=8.0,
        training_steps=5,
        encoded_images=1024,
        sampling_batches=(1, 16, 256, 10_000),
        extrapolated_batch=10_000,
        inception_images=2048,
        limit_seconds=1.0,
    )


def measure_training_beside_peers(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of training the diffusion model beside other projects' loops, where those are installed."""
    return measure_diffusion_training(context, diffusion_training)


def measure_autoencoder_beside_peers(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of training the autoencoder beside diffusers' AutoencoderKL, where that is installed."""
    return measure_autoencoder_training(context, diffusers_autoencoder_training)


def trainers(context: BenchmarkContext, compile: Literal["on", "off"]) -> dict[str, tuple[TimedTrainer, int]]:
    """Our three trainings, compiled or not, each with its batch size."""
    networks, steps = context.sizes.networks[0], context.sizes.training_steps

    def settings(batch: int) -> TrainerConfig:
        return context.trainer_config(batch, compile)

    latent, pixel = networks.latent_batch, networks.pixel_batch
    codec, device = networks.autoencoder, context.device
    built: dict[str, Callable[[], tuple[TimedTrainer, int]]] = {
        "latents": lambda: (
            diffusion_trainer(networks.side, codec, networks.latent_network, settings(latent), steps, device),
            latent,
        ),
        "pixels": lambda: (
            diffusion_trainer(networks.side, None, networks.pixel_network, settings(pixel), steps, device),
            pixel,
        ),
        "autoencoder": lambda: (
            autoencoder_trainer(networks.side, codec, settings(networks.autoencoder_batch), steps, device),
            networks.autoencoder_batch,
        ),
    }
    return {name: build() for name, build in built.items()}


def measure_host_time(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure the milliseconds in which the host hands out a training step's work, beside those of the whole step.

    Where the host needs less, it is ahead of the GPU, which never waits for it.
    """
    for name, (trainer, batch) in trainers(context, "off").items():
        times = HostTimes()
        trainer(times)
        host, whole = (Timing(tuple(1e3 * second for second in each[1:])) for each in (times.host, times.whole))
        yield Measurement(
            part=HOST,
            name=f"{name}, batch {batch}",
            unit="ms a step",
            values={"host": Value.seconds(host), "step": Value.seconds(whole)},
            more_is_better=False,
            note="a CPU computes a step while it hands it out: both are the same there",
        )


def measure_many_samples(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of sampling so many images, in latents, and but for the largest number in pixels."""
    sizes, networks = context.sizes, context.sizes.networks[0]
    precision = "bf16" if context.dtype == torch.bfloat16 else "fp32"
    for space, codec, network in (
        ("latents", networks.autoencoder, networks.latent_network),
        ("pixels", None, networks.pixel_network),
    ):
        model = untrained_model(networks.side, codec, network, context.device).with_engine("torch")
        for count in sizes.sampling_batches:
            many = count >= sizes.extrapolated_batch
            if many and codec is None:
                continue
            request = SamplingRequest(
                num_images=count,
                steps=sizes.sampling_steps,
                precision=precision,
                batch_size=min(count, SAMPLED_AT_ONCE),
            )
            sample = our_sampler(model, request, whole=False)
            call = timed_call(lambda sample=sample, request=request: sample(request.steps), context.device)
            ours = Contender(name=OURS, call=call, once=many, limit=sampling_limit(context.limits, model, request))
            yield Measurement(
                part="sampling",
                name=f"{space}, {networks.side} px, {count:,} image{'s' * (count != 1)}",
                unit="images/s",
                values=rates([ours], context.time_contenders([ours]), count),
                note=f"{request.steps} steps, {precision}, at most {SAMPLED_AT_ONCE:,} at a time, decoded in fp32",
            )


def measure_coding(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure images/s of encoding to moments and of decoding, in memory."""
    networks, count = context.sizes.networks[0], context.sizes.encoded_images
    codec = untrained_codec(networks.side, networks.autoencoder)
    assert isinstance(codec, AutoencoderCodec)
    encoder, decoder = codec.model.encoder, codec.model.decoder
    image, latent = torch.zeros(1, *codec.image_shape), torch.zeros(1, *codec.latent_shape)
    flops = {
        "encoding": count_flops(lambda: codec.model.encode(image)),
        "decoding": count_flops(lambda: codec.model.decode(latent)),
    }
    codec.to(context.device)
    images = random_images(count, networks.side, context.device)
    latents = codec.mean.new_zeros(count, *codec.latent_shape)
    batches = [range(start, min(start + 256, count)) for start in range(0, count, 256)]
    calls: dict[str, Callable[[], object]] = {
        "encoding": lambda: [codec.encode(images[each.start : each.stop]) for each in batches],
        "decoding": lambda: [codec.decode(latents[each.start : each.stop]) for each in batches],
    }
    for name, call in calls.items():
        work = inference_work(count * flops[name], encoder if name == "encoding" else decoder, len(batches))
        limit = count / context.limits.seconds(work, torch.float32)
        ours = Contender(name=OURS, call=timed_call(call, context.device), limit=limit)
        yield Measurement(
            part=CODING,
            name=f"{name}, {networks.side} px, {count:,} images",
            unit="images/s",
            values=rates([ours], context.time_contenders([ours]), count),
            note="in fp32, 256 images at a time",
        )


def measure_compiled_training(context: BenchmarkContext) -> Iterator[Measurement]:
    """Measure training with torch.compile beside training without, and the seconds until its first step is done."""
    if context.device.type != "cuda":
        context.leave_out(COMPILED, "torch.compile is for a GPU here")
        return
    yield from compare_compiled(context)


def compare_compiled(context: BenchmarkContext) -> Iterator[Measurement]:
    """:func:`measure_compiled_training` on any device."""
    compiled, plain = (trainers(context, how) for how in ("on", "off"))
    for name, (trainer, batch) in compiled.items():
        if context.is_over:
            return
        # Counted before its first step, while it is on the CPU.
        flops = step_cost(trainer.module, trainer.tensors).flops
        work = training_work(batch * flops, trainer.module.network, [tensor[:batch] for tensor in trainer.tensors])
        limit = batch / context.limits.seconds(work, context.dtype)
        try:
            first = timed_call(trainer, context.device)()
        except ConfigError as error:
            context.leave_out(f"{COMPILED}, {name}", str(error))
            continue
        yield Measurement(
            part=COMPILED,
            name=f"{name}, first turn of compiled steps",
            unit="s",
            values={OURS: Value.single(first)},
            more_is_better=False,
        )
        parameters = count_parameters(trainer.module.network)
        contenders = [
            Contender(name="compiled", call=trainer, parameters=parameters, flops=flops, limit=limit),
            Contender(name="plain", call=plain[name][0], limit=limit),
        ]
        yield Measurement(
            part=COMPILED,
            name=f"{name}, batch {batch}",
            unit="images/s",
            values=rates(contenders, context.time_contenders(contenders), context.sizes.training_steps * batch),
        )


# A part yields what it has measured, one after the other.
GPU_PARTS: dict[str, Callable[[BenchmarkContext], Iterator[Measurement | Growth]]] = {
    "diffusion_training": measure_training_beside_peers,
    "autoencoder_training": measure_autoencoder_beside_peers,
    "host_time": measure_host_time,
    "sampling": measure_many_samples,
    "coding": measure_coding,
    "evaluation": measure_evaluation,
    "compiled_training": measure_compiled_training,
}
