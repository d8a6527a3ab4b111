"""Speed of sampling by each engine, beside one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import untrained_model
from latentdiff.benchmark.results import OURS, Measurement, Value
from latentdiff.benchmark.sampling_speed import (
    SamplerFactory,
    SamplingCompetitors,
    no_other_samplers,
    our_sampler,
    sampling_limit,
    time_samplers,
)
from latentdiff.config import EngineName
from latentdiff.errors import ConfigError
from latentdiff.inference.engines.auto_engine import AutoEngine
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import supports_bf16

PART = "engines"
# What the rows call them; what they are compared with is the engine auto.
ENGINES: dict[str, tuple[EngineName, bool]] = {
    "engine torch": ("torch", False),
    "engine torch, exact": ("torch", True),
    "engine onnxruntime": ("onnxruntime", False),
    "engine openvino": ("openvino", False),
}


def measure_engines(
    context: BenchmarkContext, competitors: SamplingCompetitors = no_other_samplers
) -> Iterator[Measurement]:
    """Measure images/s of sampling in latents without guidance by the engine auto, beside the other engines.

    In fp32 and int8, and where the hardware multiplies in bf16, large batches in bf16 too. An engine that is not
    installed, or does not have the precision, is left out. So is int8 where only torch is installed.
    """
    sizes, networks = context.sizes, context.sizes.networks[0]
    model = untrained_model(networks.side, networks.autoencoder, networks.latent_network, context.device)
    precisions = {"fp32": torch.float32, **({"bf16": torch.bfloat16} if supports_bf16(context.device) else {})}
    for precision, dtype in {**precisions, "int8": torch.float32}.items():
        others = dict(_models(context, model, precision))
        if not others:
            continue
        factories: dict[str, SamplerFactory] = {OURS: partial(our_sampler, _fastest(model))}
        factories |= {name: partial(our_sampler, engine) for name, engine in others.items()}
        factories |= competitors(context, model, dtype)
        for batch in sizes.sampling_batches:
            if precision == "bf16" and batch == 1:
                continue  # Casting costs more than it saves.
            request = SamplingRequest(num_images=batch, steps=sizes.sampling_steps, precision=precision)
            few_steps = sizes.few_steps if batch >= sizes.extrapolated_batch else None
            samplers = {name: factory(request) for name, factory in factories.items()}
            timings = time_samplers(context, samplers, request.steps, few_steps)
            values = {name: Value.rate(timing, batch) for name, timing in timings.items()}
            note = f"{request.steps} steps, {precision}, decoding included; ours is the engine auto"
            yield Measurement(
                part=PART,
                name=f"latents, {networks.side} px, {precision}, batch {batch}",
                unit="images/s",
                values=values
                if precision == "int8"
                else _with_limit(values, sampling_limit(context.limits, model, request)),
                note=f"{note}; extrapolated from {few_steps[0]} and {few_steps[1]} steps" if few_steps else note,
            )


def _fastest(model: DiffusionModel) -> DiffusionModel:
    """The model by the engine auto, which measures before the first batch."""
    model = model.with_engine("auto")
    if isinstance(model.engine, AutoEngine):  # not on a GPU
        model.engine.patience = 0.0
    return model


def _models(context: BenchmarkContext, model: DiffusionModel, precision: str) -> Iterator[tuple[str, DiffusionModel]]:
    """The model by each engine that has the precision here, with its name in the table."""
    for name, (engine, exact) in ENGINES.items():
        try:
            other = model.with_engine(engine, exact)
            assert other.engine is not None
            other.engine.network(precision)
        except ConfigError as error:
            context.left_out[f"{name}, {precision}"] = str(error)
            continue
        yield name, other


def _with_limit(values: dict[str, Value], limit: float) -> dict[str, Value]:
    """The values, of which ours has the most that the machine's limits allow."""
    return {name: replace(value, limit=limit) if name == OURS else value for name, value in values.items()}
