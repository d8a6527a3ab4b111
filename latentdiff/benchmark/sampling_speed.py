"""Speed of sampling in latents and in pixels: single images, small batches and large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.machine_limits import MachineLimits, Work
from latentdiff.benchmark.networks import count_parameters, untrained_model
from latentdiff.benchmark.results import OURS, Measurement, Value
from latentdiff.benchmark.timing import Timing, extrapolate, timed_call
from latentdiff.config import to_dict
from latentdiff.evaluation.flops import sampling_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import MIN_BATCH_SIZE, disable_tf32, resolve_precision

PART = "sampling"
GUIDANCE_SCALE = 3.0
DDPM_STEPS = 1000

# Samples a batch in a number of steps.
Sampler = Callable[[int], object]
# Returns the sampler for a request, whose number of steps does not matter.
SamplerFactory = Callable[[SamplingRequest], Sampler]
# Other implementations, by name, that sample with as large a network as our model's in a precision.
SamplingCompetitors = Callable[[BenchmarkContext, DiffusionModel, torch.dtype], Mapping[str, SamplerFactory]]


def our_sampler(model: DiffusionModel, request: SamplingRequest, whole: bool = True) -> Sampler:
    """Return the sampler of ``model`` for ``request``, with ``whole`` all images in one batch."""
    request = replace(request, batch_size=request.num_images) if whole else request
    return lambda steps: model.sample(**to_dict(replace(request, steps=steps)))


def sampling_limit(limits: MachineLimits, model: DiffusionModel, request: SamplingRequest) -> float:
    """Return the most images/s that the machine's limits allow for ``request``.

    Operations are counted in requests of one step and of two steps: all steps are alike, and the rest is the decoding,
    which is in fp32.
    """
    one, two = (sampling_flops(model, replace(request, steps=steps)) for steps in (1, 2))
    dtype = resolve_precision(request.precision, model.device)
    weights = float(dtype.itemsize) * count_parameters(model.network)
    steps = Work(request.steps * request.num_images * (two - one), request.steps * weights)
    decoding = Work(request.num_images * (2 * one - two), 0.0)
    return request.num_images / (limits.seconds(steps, dtype) + limits.seconds(decoding, torch.float32))


def time_samplers(
    context: BenchmarkContext, samplers: Mapping[str, Sampler], steps: int, few_steps: tuple[int, int] | None
) -> dict[str, Timing]:
    """Time sampling in ``steps`` steps.

    Args:
        context: The benchmark's context.
        samplers: The samplers by name.
        steps: Number of steps.
        few_steps: Two numbers of steps to extrapolate from; None takes all steps.
    """
    counts = few_steps or (steps,)
    calls = {
        (name, count): timed_call(partial(sampler, count), context.device)
        for name, sampler in samplers.items()
        for count in counts
    }
    with disable_tf32():
        for sampler in samplers.values():
            sampler(1)  # One step warms up as well as all of them.
    timings = context.time(calls, warm_up_rounds=0)
    if few_steps is None:
        return {name: timings[name, steps] for name in samplers}
    few, many = few_steps
    return {name: _extrapolated(timings[name, few], timings[name, many], few_steps, steps) for name in samplers}


def _extrapolated(few: Timing, many: Timing, few_steps: tuple[int, int], steps: int) -> Timing:
    """Extrapolate each repetition, so that there are quartiles.

    A repetition in which noise made more steps the faster ones is dropped. If none is left, every step is taken to
    cost the same.
    """
    pairs = [(a, b) for a, b in zip(few.seconds, many.seconds, strict=True) if b > a]
    if not pairs:
        return Timing(tuple(seconds / few_steps[1] * steps for seconds in many.seconds))
    return Timing(tuple(extrapolate(a, b, few_steps, steps) for a, b in pairs))


def no_other_samplers(*_: object) -> Mapping[str, SamplerFactory]:
    """The competitors of a measurement of our own code: there are none."""
    return {}


def measure_sampling(
    context: BenchmarkContext, competitors: SamplingCompetitors = no_other_samplers
) -> Iterator[Measurement]:
    """Measure images/s of sampling.

    In latents: each batch without and with guidance, in fp32 and, if training is in bf16, large batches in bf16 too;
    then DDPM's 1,000 steps. In pixels: without guidance.
    """
    sizes, networks = context.sizes, context.sizes.networks[0]
    model = untrained_model(networks.side, networks.autoencoder, networks.latent_network, context.device)
    model = model.with_engine("torch")
    bf16 = context.dtype == torch.bfloat16
    for precision, dtype in {"fp32": torch.float32, **({"bf16": torch.bfloat16} if bf16 else {})}.items():
        factories = {OURS: partial(our_sampler, model), **dict(competitors(context, model, dtype))}
        for batch in sizes.sampling_batches:
            if precision == "bf16" and batch < MIN_BATCH_SIZE:
                continue  # Casting costs more than it saves.
            few_steps = sizes.few_steps if batch >= sizes.extrapolated_batch else None
            for scale in (1.0, GUIDANCE_SCALE):
                request = SamplingRequest(
                    num_images=batch, steps=sizes.sampling_steps, guidance_scale=scale, precision=precision
                )
                name = f"latents, {networks.side} px, {request.steps} steps, {'no ' if scale == 1.0 else ''}guidance"
                yield _measure(context, name, model, factories, request, few_steps)
        if precision == "fp32":
            fp32_factories = factories
    request = SamplingRequest(num_images=sizes.ddpm_batch, steps=DDPM_STEPS, sampler="ddpm")
    name = f"latents, {networks.side} px, DDPM, {DDPM_STEPS:,} steps"
    yield _measure(context, name, model, fp32_factories, request, sizes.ddpm_steps)
    model = untrained_model(networks.side, None, networks.pixel_network, context.device).with_engine("torch")
    factories = {OURS: partial(our_sampler, model), **dict(competitors(context, model, torch.float32))}
    request = SamplingRequest(num_images=sizes.ddpm_batch, steps=sizes.sampling_steps)
    name = f"pixels, {networks.side} px, {request.steps} steps, no guidance"
    yield _measure(context, name, model, factories, request, sizes.few_steps)


def _measure(
    context: BenchmarkContext,
    name: str,
    model: DiffusionModel,
    factories: Mapping[str, SamplerFactory],
    request: SamplingRequest,
    few_steps: tuple[int, int] | None,
) -> Measurement:
    batch, precision = request.num_images, request.precision
    samplers = {key: factory(request) for key, factory in factories.items()}
    timings = time_samplers(context, samplers, request.steps, few_steps)
    values = {key: Value.rate(timing, batch) for key, timing in timings.items()}
    values[OURS] = replace(values[OURS], limit=sampling_limit(context.limits, model, request))
    note = "in fp32" if precision == "fp32" else f"in {precision}, decoded in fp32"
    return Measurement(
        part=PART,
        name=f"{name}, batch {batch}" + (f", {precision}" if precision != "fp32" else ""),
        unit="images/s",
        values=values,
        note=f"{note}; extrapolated from {few_steps[0]} and {few_steps[1]} steps" if few_steps else note,
    )
