from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from latentdiff.evaluation.frechet import Moments, frechet_distance, moments


def features(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return torch.randn(count, dim, generator=generator) @ mixing + torch.randn(dim, generator=generator)


def test_moments_are_numpys_in_double_precision():
    x = features(50, 6, 0)
    own = moments(x)
    assert own.mean.dtype == own.cov.dtype == torch.float64
    np.testing.assert_allclose(own.mean, x.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(own.cov, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


def test_distance_is_that_with_scipys_sqrtm():
    a, b = moments(features(300, 24, 1)), moments(features(200, 24, 2))
    root = scipy.linalg.sqrtm((a.cov @ b.cov).numpy())
    expected = float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * np.trace(root.real))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_distance_of_diagonal_gaussians_has_a_closed_form():
    means = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]], dtype=torch.float64)
    stds = torch.tensor([[1.0, 2.0, 0.1], [3.0, 0.0, 0.2]], dtype=torch.float64)
    a, b = (Moments(mean, torch.diag(std**2), 100) for mean, std in zip(means, stds, strict=True))
    expected = (means[0] - means[1]).square().sum() + (stds[0] - stds[1]).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-9)


def test_a_set_is_at_no_distance_from_itself_nor_a_singular_covariance_a_problem():
    own = moments(features(10, 64, 3))  # rank 9 of 64
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-5 * float(own.cov.trace()))
    assert np.isfinite(frechet_distance(own, moments(features(12, 64, 4))))


def test_too_few_images_nan_and_unequal_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        moments(torch.randn(1, 4))
    with pytest.raises(ValueError, match="1 of 3 feature vectors hold NaN"):
        moments(torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="4 and of 5 dimensions"):
        frechet_distance(moments(torch.randn(9, 4)), moments(torch.randn(9, 5)))
