"""Speed of an evaluation: the Inception network's features, and the Fréchet distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from latentdiff.benchmark.context import BenchmarkContext, no_competitors, random_images
from latentdiff.benchmark.machine_limits import Work
from latentdiff.benchmark.results import OURS, Contender, Measurement, Value, rates
from latentdiff.benchmark.timing import timed_call
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import InceptionFeatures, find_inception
from latentdiff.evaluation.fid import Moments, frechet_distance, moments
from latentdiff.evaluation.flops import count_flops

PART = "evaluation"
CPU = torch.device("cpu")

# Other implementations that extract the same features: of the context, the weights' file and uint8 images [n, 3, h, w].
FeatureCompetitors = Callable[[BenchmarkContext, Path, Tensor], Iterable[Contender]]
# Other implementations of the Fréchet distance of two Gaussians.
DistanceCompetitors = Callable[[BenchmarkContext, Moments, Moments], Iterable[Contender]]


def measure_evaluation(
    context: BenchmarkContext,
    feature_competitors: FeatureCompetitors = no_competitors,
    distance_competitors: DistanceCompetitors = no_competitors,
) -> Iterator[Measurement]:
    """Measure features/s, if the Inception network's weights are at hand, and seconds of a Fréchet distance."""
    weights = find_inception(context.inception_weights)
    if weights is None:
        context.leave_out("Inception", "the FID Inception's weights are not here (LATENTDIFF_INCEPTION)")
    else:
        yield measure_features(context, weights, feature_competitors)
    yield measure_distance(context, distance_competitors)


def measure_features(
    context: BenchmarkContext, weights: Path, competitors: FeatureCompetitors = no_competitors
) -> Measurement:
    """Measure features/s of 32x32 RGB images."""
    images = random_images(context.sizes.inception_images, 32, context.device)
    net = InceptionFeatures(weights, context.device)
    flops = len(images) * count_flops(lambda: net(images[:1]))
    # Every batch reads the weights, which are nearly all of their file.
    work = Work(flops, -(-len(images) // net.batch_size) * weights.stat().st_size)
    limit = len(images) / context.limits.seconds(work, torch.float32)
    call = timed_call(lambda: extract_features(net, images, progress=False), context.device)
    contenders = [Contender(name=OURS, call=call, limit=limit), *competitors(context, weights, images)]
    return Measurement(
        part=PART,
        name=f"Inception, {len(images)} images",
        unit="features/s",
        values=rates(contenders, context.time_contenders(contenders), len(images)),
    )


def measure_distance(context: BenchmarkContext, competitors: DistanceCompetitors = no_competitors) -> Measurement:
    """Measure seconds of a Fréchet distance from means and covariances, in fp64 on the CPU."""
    d = context.sizes.frechet_features
    generator = torch.Generator().manual_seed(0)
    mix = torch.eye(d) + torch.randn(d, d, generator=generator) / d**0.5
    a, b = (moments(torch.randn(2 * d, d, generator=generator) @ mix + shift) for shift in (0.0, 0.1))

    def distance() -> float:
        # New moments in every call: a reference's factor is kept for further use.
        return frechet_distance(a, Moments(b.mean, b.cov, b.count))

    contenders = [Contender(name=OURS, call=timed_call(distance, CPU)), *competitors(context, a, b)]
    timings = context.time_contenders(contenders)
    return Measurement(
        part=PART,
        name=f"Fréchet distance, {d:,} features",
        unit="s",
        values={name: Value.seconds(timing) for name, timing in timings.items()},
        more_is_better=False,
    )
