"""The Fréchet distance that infinitely many samples would have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentdiff.errors import ConfigError
from latentdiff.evaluation.fid import Moments

POINTS, MIN_SAMPLES = 8, 100


def min_trusted_samples(dim: int) -> int:
    """From how many samples on the line is one: with fewer than ``dim`` in the least subset the covariance is singular,
    and what is extrapolated to is off by several (measured: by 6 for 1,024 samples of the reference's own distribution
    in 2,048 dimensions, by 0.01 for ten times the dimensions)."""
    return 2 * dim


def extrapolate_fid(features: Tensor, reference: Moments, points: int = POINTS, seed: int = 0) -> dict[str, float]:
    """Extrapolate the distance of ``features`` [n, d] to n -> infinity (Chong and Forsyth 2020, FID-infinity).

    The distance is, to first order, linear in 1/n: a line through its values for ``points`` subsets of n/2 to n samples
    meets the axis at the value sought. The reference keeps its own bias, which is the same for every model.

    Returns: ``value``, and ``residual``: the root mean square distance of the points from the line. Raises ConfigError
    for fewer than 2 points or 100 samples.
    """
    n = len(features)
    if points < 2 or n < MIN_SAMPLES:
        raise ConfigError(f"an extrapolation needs at least 2 points and {MIN_SAMPLES} samples, not {points} and {n}")
    generator = torch.Generator().manual_seed(seed)
    counts = np.linspace(n / 2, n, points).round().astype(int)
    features = features.double().cpu()
    rotated = features @ reference.factor
    values = []
    for count in counts:
        index = torch.randperm(n, generator=generator)[: int(count)]
        values.append(_distance(features[index], rotated[index], reference))
    slope, intercept = np.polyfit(1.0 / counts, values, 1)
    residual = np.asarray(values) - (slope / counts + intercept)
    return {"value": float(intercept), "residual": float(np.sqrt(np.mean(residual**2)))}


def _distance(features: Tensor, rotated: Tensor, reference: Moments) -> float:
    """The Fréchet distance of ``features`` [n, d], given them times the reference's factor F.

    The trace of (F^T A F)^(1/2) is the sum of the singular values of the centred, rotated features: of a
    matrix n by n where the samples are fewer than the dimensions, as the subsets here often are.
    """
    mean = features.mean(dim=0)
    centred = (rotated - rotated.mean(dim=0)) / (len(rotated) - 1) ** 0.5
    product = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    trace = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
    own = (features - mean).square().sum() / (len(features) - 1)
    return float((mean - reference.mean).square().sum() + own + reference.cov.trace() - 2 * trace)
