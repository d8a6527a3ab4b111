"""Evaluation: Inception's features, and the Fréchet distance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import _compute_fid

from latentdiff.benchmark.bench import Bench, random_images
from latentdiff.benchmark.limits import passes_work
from latentdiff.benchmark.rows import Figure, Row, Target
from latentdiff.benchmark.timing import timed
from latentdiff.evaluation.extract import extract
from latentdiff.evaluation.feature_nets import InceptionFeatures, find_inception
from latentdiff.evaluation.fid import Moments, frechet_distance, moments
from latentdiff.evaluation.flops import counted

PART = "evaluation"
FASTER = 1.4
THEIR_BATCH = 64  # torch-fidelity's default.
FIDELITY, TORCHMETRICS, SCIPY = "torch-fidelity", "torchmetrics", "scipy"


def evaluation(bench: Bench) -> Iterator[Row]:
    """Features/s where Inception's weights are here, and the distance of two Gaussians."""
    weights = find_inception(bench.inception_weights)
    if weights is None:
        bench.peers.leave_out(FIDELITY, "the FID Inception's weights are not here (LATENTDIFF_INCEPTION)")
    else:
        yield inception(bench, str(weights))
    yield distance(bench)


def inception(bench: Bench, weights: str) -> Row:
    """Features/s of uint8 RGB images of 32x32, each net in its own batches."""
    images = random_images(bench.scale.inception_images, 32, bench.device)
    ours = InceptionFeatures(weights, bench.device)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=weights)
    theirs = theirs.eval().to(bench.device)

    @torch.no_grad()
    def extract_theirs() -> Tensor:
        return torch.cat([theirs(batch)[0].cpu() for batch in images.split(THEIR_BATCH)])

    turns = {
        "latentdiff": timed(lambda: extract(ours, images, progress=False), bench.device),
        FIDELITY: timed(extract_theirs, bench.device),
    }
    flops = len(images) * counted(lambda: ours(images[:1]))
    work = passes_work(flops, theirs, -(-len(images) // ours.batch_size))
    return Row(
        part=PART,
        what=f"Inception, {len(images)} images",
        unit="features/s",
        figures={name: Figure.rate(timing, len(images)) for name, timing in bench.race(turns).items()},
        floor=len(images) / bench.limits.seconds(work, torch.float32),
        target=Target(at_least=FASTER),
    )


def distance(bench: Bench) -> Row:
    """Seconds of a Fréchet distance from means and covariances in fp64, on the CPU."""
    d = bench.scale.frechet_features
    generator = torch.Generator().manual_seed(0)
    mix = torch.eye(d) + torch.randn(d, d, generator=generator) / d**0.5
    a, b = (moments(torch.randn(2 * d, d, generator=generator) @ mix + shift) for shift in (0.0, 0.1))

    def ours() -> float:
        # Of new moments: a reference's factor is kept where it is used again.
        return frechet_distance(a, Moments(b.mean, b.cov, b.count))

    def by_scipy() -> float:
        root = sqrtm((a.cov @ b.cov).numpy()).real
        return float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * root.trace())

    cpu = torch.device("cpu")
    turns = {
        "latentdiff": timed(ours, cpu),
        TORCHMETRICS: timed(lambda: _compute_fid(a.mean, a.cov, b.mean, b.cov), cpu),
    }
    # scipy's once, which can take a minute in 2,048 dimensions.
    timings = bench.race(turns) | bench.once({SCIPY: timed(by_scipy, cpu)})
    return Row(
        part=PART,
        what=f"Fréchet distance, {d:,} features",
        unit="s",
        figures={name: Figure.seconds(timing) for name, timing in timings.items()},
        more_is_better=False,
        target=Target(at_least=FASTER),
    )
