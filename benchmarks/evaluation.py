"""torch-fidelity's features, and the Fréchet distances of torchmetrics and scipy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import _compute_fid

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.evaluation_speed import CPU
from latentdiff.benchmark.results import Contender
from latentdiff.benchmark.timing import timed_call
from latentdiff.evaluation.fid import Moments

FIDELITY, TORCHMETRICS, SCIPY = "torch-fidelity", "torchmetrics", "scipy"
FIDELITY_BATCH = 64  # torch-fidelity's default


def torch_fidelity_features(context: BenchmarkContext, weights: Path, images: Tensor) -> Iterator[Contender]:
    """Yield torch-fidelity's Inception network, in its own batches."""
    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    net = net.eval().to(context.device)

    @torch.no_grad()
    def extract() -> Tensor:
        return torch.cat([net(batch)[0].cpu() for batch in images.split(FIDELITY_BATCH)])

    yield Contender(name=FIDELITY, call=timed_call(extract, context.device))


def scipy_and_torchmetrics_distances(context: BenchmarkContext, a: Moments, b: Moments) -> Iterator[Contender]:
    """Yield torchmetrics' Fréchet distance, and the usual one by scipy's matrix root."""
    yield Contender(name=TORCHMETRICS, call=timed_call(lambda: _compute_fid(a.mean, a.cov, b.mean, b.cov), CPU))

    def distance() -> float:
        root = sqrtm((a.cov @ b.cov).numpy()).real
        return float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * root.trace())

    # In 2,048 dimensions it can take a minute.
    yield Contender(name=SCIPY, call=timed_call(distance, CPU), once=True)
