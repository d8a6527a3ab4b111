"""The Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean fp64 [d] and covariance fp64 [d, d] of ``count`` feature vectors."""

    mean: Tensor
    cov: Tensor
    count: int

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance, fp64 [d, d]; kept, since one reference meets many samples."""
        values, vectors = torch.linalg.eigh(self.cov)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance, in fp64, of features [n, d]. Raises ValueError for n < 2, NaN or infinity."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 feature vectors [n, d]; these are {list(features.shape)}")
    features = features.double().cpu()
    if not features.isfinite().all():
        bad = int((~features.isfinite()).any(dim=1).sum())
        raise ValueError(f"{bad} of {len(features)} feature vectors hold NaN or infinity")
    mean = features.mean(dim=0)
    centred = features - mean
    return Moments(mean, centred.T @ centred / (len(features) - 1), len(features))


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), with A and B the covariances (Heusel et al. 2017, equation 6).

    The eigenvalues of A B are those of the symmetric B^(1/2) A B^(1/2), so one ``eigh`` and one ``eigvalsh`` give the
    trace. A general ``sqrtm`` of A B is several times slower at 2,048 dimensions, and with fewer images than
    features, where A B is singular, it returns complex or NaN entries that others then patch up.
    Give the reference as ``b``: its root is computed once. Never negative: what rounding leaves below 0 is cut off.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    product = b.root @ a.cov @ b.root
    trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * trace
    return max(0.0, float(distance))
