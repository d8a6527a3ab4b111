from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from latentdiff.evaluation.fid import (
    Moments,
    frechet_distance,
    frechet_distance_between,
    frechet_standard_error,
    moments,
)


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


@pytest.mark.parametrize("n", [9, 30, 31, 400])
def test_a_covariance_is_its_factor_times_the_factor_transposed(n):
    features = torch.randn(n, 30, generator=torch.Generator().manual_seed(n)) * torch.logspace(-4, 2, 30)
    found = moments(features)
    assert torch.allclose(found.factor @ found.factor.T, found.cov, atol=1e-10 * float(found.cov.diagonal().max()))


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


@pytest.mark.parametrize(("n", "m"), [(10, 12), (40, 63), (12, 200), (200, 300)])
def test_distance_between_few_vectors_is_that_of_their_moments(n, m):
    x, y = features(n, 64, 5), features(m, 64, 6)
    assert frechet_distance_between(x, y) == pytest.approx(frechet_distance(moments(x), moments(y)), rel=1e-6)


@pytest.mark.parametrize(("n", "shift", "ratio"), [(800, 0.0, 1.0), (800, 1.0, 1.0), (40, 1.0, 1.2)])
def test_the_standard_error_is_the_scatter_over_draws(n, shift, ratio):
    """Of n samples with 8 features; with five for each feature it is on the large side, as its docstring says."""
    generator = torch.Generator().manual_seed(7)
    mixing = torch.randn(8, 8, generator=generator)
    reference = moments(torch.randn(5000, 8, generator=generator) @ mixing)
    distances, errors = [], []
    for _ in range(200):
        x = (1.2 * torch.randn(n, 8, generator=generator)) @ mixing + shift
        own = moments(x)
        distances.append(frechet_distance(own, reference))
        errors.append(frechet_standard_error(x, own, reference))
    # A scatter of 200 is known to 5 %.
    assert np.mean(errors) / np.std(distances) == pytest.approx(ratio, rel=0.15)


def test_the_standard_error_of_fewer_samples_than_features_is_finite():
    x = features(20, 64, 8)
    error = frechet_standard_error(x, moments(x), moments(features(300, 64, 9)))
    assert 0 < error < frechet_distance(moments(x), moments(features(300, 64, 9)))
    same = torch.ones(20, 64)  # one image over and over
    assert frechet_standard_error(same, moments(same), moments(features(300, 64, 9))) == 0.0


def test_too_few_images_nan_and_unequal_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        moments(torch.randn(1, 4))
    with pytest.raises(ValueError, match="1 of 3 feature vectors hold NaN"):
        moments(torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="4 and of 5 dimensions"):
        frechet_distance(moments(torch.randn(9, 4)), moments(torch.randn(9, 5)))
