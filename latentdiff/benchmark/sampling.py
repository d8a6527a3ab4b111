"""Sampling: images/s beside diffusers' pipelines of the same scheduler and an equally large network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.diffusers_pipeline import sample, solver
from latentdiff.benchmark.limits import Limits, Work
from latentdiff.benchmark.loops import LAYOUTS
from latentdiff.benchmark.peers import CLASSES, DIFFUSERS, diffusers_autoencoder, equal_diffusers_unet, parameters
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.scale import Setting
from latentdiff.benchmark.stage_two import CLASS_NAMES, untrained_codec
from latentdiff.benchmark.timing import Timing, extrapolated, timed
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.evaluation.flops import sampling_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.network import build_network
from latentdiff.precision import MIN_BATCH_SIZE, disable_tf32, resolve_precision

PART = "sampling"
FASTER = 1.5
GUIDANCE = 3.0
DDPM_STEPS = 1000
# Images of a number of steps.
Sampler = Callable[[int], Any]


def untrained_model(
    side: int, autoencoder: AutoencoderConfig | None, network: NetworkConfig, device: torch.device
) -> DiffusionModel:
    """A model of random weights on an autoencoder's latents, or without one on pixels."""
    codec = untrained_codec(side, autoencoder)
    built = build_network(codec.latent_shape[0], CLASSES, network)
    return DiffusionModel(built, network, DiffusionConfig(), codec, CLASS_NAMES).to(device)


def our_sampler(model: DiffusionModel, batch: int, **settings: Any) -> Sampler:
    """``model``'s own way of sampling a batch, with those of the sampler's settings."""
    return lambda steps: model.sample(batch, batch_size=batch, steps=steps, **settings)


def least_seconds(limits: Limits, model: DiffusionModel, request: SamplingRequest) -> float:
    """The least time that a whole request can take: its steps, counted from one and two of them, all alike, in its
    precision, and the decoding in fp32.

    That small batches are filled up with copies (``precision.call_with_min_batch``) is our own doing and not in it.
    """
    one, two = (sampling_flops(model, replace(request, steps=steps)) for steps in (1, 2))
    dtype = resolve_precision(request.precision, model.device)
    weights = float(dtype.itemsize) * parameters(model.network)
    steps = Work(request.steps * request.num_images * (two - one), request.steps * weights)
    decoding = Work(request.num_images * (2 * one - two), 0.0)
    return limits.seconds(steps, dtype) + limits.seconds(decoding, torch.float32)


class Diffusers:
    """diffusers' networks of our size and shape.

    Args:
        setting: Our shapes.
        model: Our model on latents, whose size they get.
        dtype: Of the denoising network; the decoder is fp32, as ours.
    """

    def __init__(self, setting: Setting, model: DiffusionModel, dtype: torch.dtype = torch.float32):
        wanted = parameters(model.network)
        channels, side, _ = model.codec.latent_shape
        self.device, self.layout = model.device, torch.contiguous_format
        self.unet = equal_diffusers_unet(channels, side, setting.latent, wanted).eval()
        # diffusers' own ``to`` warns of parts to be kept in fp32, of which this network has none.
        nn.Module.to(self.unet, self.device, dtype)
        self.vae = diffusers_autoencoder(model.codec.image_shape, setting.autoencoder).eval().to(self.device)

    def settle(self) -> None:
        """Take the memory layout that they are quicker in."""
        seconds = {}
        for layout in LAYOUTS.values():
            self.use(layout)
            turn = timed(lambda: self.sampler(16)(2), self.device)
            turn()
            seconds[layout] = turn()
        self.use(min(seconds, key=seconds.__getitem__))

    def use(self, layout: torch.memory_format) -> None:
        """Keep the weights, and give the images, in ``layout``."""
        self.layout = layout
        self.unet.to(memory_format=layout)
        self.vae.to(memory_format=layout)

    def sampler(self, batch: int, guidance: float = 1.0, ddpm: bool = False) -> Sampler:
        """The pipeline for a batch, with DPM-Solver++ 2M or with DDPM's own steps."""
        from diffusers import DDPMScheduler

        if ddpm:
            scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        else:
            scheduler = solver()
        labels = torch.arange(batch, device=self.device) % CLASSES
        return lambda steps: sample(self.unet, self.vae, scheduler, labels, CLASSES, steps, guidance, self.layout)


def race_samplers(
    bench: Bench, samplers: Mapping[str, Sampler], steps: int, few: tuple[int, int] | None
) -> dict[str, Timing]:
    """Seconds of ``steps`` steps.

    Args:
        bench: Whose time.
        samplers: The contenders.
        steps: Steps wanted.
        few: Two numbers of steps to extrapolate them from; none takes them all.
    """
    counts = few or (steps,)
    turns = {
        (name, count): timed(partial(call, count), bench.device) for name, call in samplers.items() for count in counts
    }
    with disable_tf32():
        for call in samplers.values():
            call(1)  # One step warms up as well as all of them.
    found = bench.race(turns, warm_up=0)
    if few is None:
        return {name: found[name, steps] for name in samplers}
    # Repetition by repetition, so that there are quartiles.
    return {name: _line(found[name, few[0]], found[name, few[1]], few, steps) for name in samplers}


def _line(few: Timing, many: Timing, counts: tuple[int, int], steps: int) -> Timing:
    """A repetition that noise turned round is dropped; of none that is left, a step costs its share of the larger."""
    pairs = [(a, b) for a, b in zip(few.seconds, many.seconds, strict=True) if b > a]
    if not pairs:
        return Timing(tuple(b / counts[1] * steps for b in many.seconds))
    return Timing(tuple(extrapolated(a, b, counts, steps) for a, b in pairs))


def sampling(bench: Bench) -> Iterator[Row]:
    """Latents in every batch, with and without guidance, and large ones in bf16 too where the training is in it; DDPM's
    1,000 steps; pixels."""
    scale, setting = bench.scale, bench.scale.settings[0]
    model = untrained_model(setting.side, setting.autoencoder, setting.latent, bench.device)
    theirs = _diffusers(bench, setting, model, torch.float32)
    for batch in scale.sampling_batches:
        yield from _guided_or_not(bench, model, theirs, batch, "fp32")
    if bench.dtype == torch.bfloat16:
        theirs_in_bf16 = _diffusers(bench, setting, model, bench.dtype)
        for batch in scale.sampling_batches:
            if batch >= MIN_BATCH_SIZE:  # A smaller one is computed as so many rows, which fp32 has shown already.
                yield from _guided_or_not(bench, model, theirs_in_bf16, batch, "bf16")
    samplers = {"latentdiff": our_sampler(model, scale.ddpm_batch, sampler="ddpm")}
    if theirs:
        samplers[DIFFUSERS] = theirs.sampler(scale.ddpm_batch, ddpm=True)
    timings = race_samplers(bench, samplers, DDPM_STEPS, scale.ddpm_steps)
    request = SamplingRequest(num_images=scale.ddpm_batch, steps=DDPM_STEPS, sampler="ddpm")
    what = f"latents, {setting.side} px, DDPM, {DDPM_STEPS:,} steps"
    yield _row(bench, what, timings, model, request, scale.ddpm_steps)
    yield pixels(bench, setting)


def _diffusers(bench: Bench, setting: Setting, model: DiffusionModel, dtype: torch.dtype) -> Diffusers | None:
    """Theirs in the memory layout that suits them; None where they are not here."""
    if not bench.peers.get(DIFFUSERS):
        return None
    theirs = Diffusers(setting, model, dtype)
    theirs.settle()
    return theirs


def _guided_or_not(
    bench: Bench, model: DiffusionModel, theirs: Diffusers | None, batch: int, precision: str
) -> Iterator[Row]:
    scale = bench.scale
    few = scale.few_steps if batch >= scale.large_batch else None
    for guidance in (1.0, GUIDANCE):
        settings = {"guidance_scale": guidance, "precision": precision}
        samplers = {"latentdiff": our_sampler(model, batch, **settings)}
        if theirs:
            samplers[DIFFUSERS] = theirs.sampler(batch, guidance)
        timings = race_samplers(bench, samplers, scale.steps, few)
        request = SamplingRequest(num_images=batch, steps=scale.steps, **settings)
        guided = "guidance" if guidance != 1.0 else "no guidance"
        what = f"latents, {model.codec.image_shape[-1]} px, {scale.steps} steps, {guided}"
        yield _row(bench, what, timings, model, request, few)


def pixels(bench: Bench, setting: Setting) -> Row:
    """Pixels, without guidance, beside diffusers' own DDPMPipeline."""
    scale, batch = bench.scale, bench.scale.ddpm_batch
    model = untrained_model(setting.side, None, setting.pixel, bench.device)
    samplers = {"latentdiff": our_sampler(model, batch)}
    if bench.peers.get(DIFFUSERS):
        from diffusers import DDPMPipeline

        unet = equal_diffusers_unet(3, setting.side, setting.pixel, parameters(model.network), classes=None)
        pipeline = DDPMPipeline(unet.eval().to(bench.device), solver())
        pipeline.set_progress_bar_config(disable=True)
        samplers[DIFFUSERS] = lambda steps: pipeline(batch, num_inference_steps=steps, output_type="np")
    timings = race_samplers(bench, samplers, scale.steps, scale.few_steps)
    request = SamplingRequest(num_images=batch, steps=scale.steps)
    what = f"pixels, {setting.side} px, {scale.steps} steps, no guidance"
    return _row(bench, what, timings, model, request, scale.few_steps)


def _row(
    bench: Bench,
    what: str,
    timings: dict[str, Timing],
    model: DiffusionModel,
    request: SamplingRequest,
    few: tuple[int, int] | None,
) -> Row:
    batch, precision = request.num_images, request.precision
    note = f"equal parameters, {precision}" + ("; the decoder fp32" if precision != "fp32" else "")
    return Row(
        part=PART,
        what=f"{what}, batch {batch}" + (f", {precision}" if precision != "fp32" else ""),
        unit="images/s",
        figures={name: Figure.rate(timing, batch) for name, timing in timings.items()},
        floor=batch / least_seconds(bench.limits, model, request),
        target=Target(at_least=FASTER),
        note=f"{note}; extrapolated from {few[0]} and {few[1]} steps" if few else note,
    )
