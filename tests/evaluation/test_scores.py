"""The Inception Score, and the distance at infinity."""

from __future__ import annotations

import math

import pytest
import torch

from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.evaluation.fid_infinity import _distance, extrapolate_fid
from latentdiff.evaluation.inception_score import inception_score


def test_inception_score_is_torch_fidelitys():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * torch.randn(205, 12, generator=torch.Generator().manual_seed(0))
    theirs = isc_features_to_metric(logits, splits=10, shuffle=True, rng_seed=2020)
    ours = inception_score(logits)
    assert ours["mean"] == pytest.approx(theirs["inception_score_mean"], abs=1e-5)
    assert ours["std"] == pytest.approx(theirs["inception_score_std"], abs=1e-5)


def test_inception_score_of_sure_and_even_classes_is_their_number():
    logits = 100 * torch.eye(5).repeat(40, 1)
    assert inception_score(logits, splits=1)["mean"] == pytest.approx(5.0)
    assert inception_score(logits[:10], splits=10) == {"mean": 1.0, "std": 0.0}  # of one image there is one class
    with pytest.raises(ValueError, match="10 splits need at least as many images, not 9"):
        inception_score(logits[:9], splits=10)


@pytest.mark.parametrize("logits", [None, torch.zeros(50, 8), torch.zeros(0, 8)])
def test_weights_without_a_head_give_no_score_rather_than_one(logits):
    with pytest.raises(ValueError, match="no classification head"):
        inception_score(logits)


def test_distance_at_infinity_is_nearer_to_the_truth_than_at_n():
    """Samples of the reference's own distribution: the distance of infinitely many is 0, that of n is not."""
    d = 20
    exact = moments(torch.randn(200_000, d, generator=torch.Generator().manual_seed(9)))
    errors, at_n = [], []
    for seed in range(10):
        features = torch.randn(1000, d, generator=torch.Generator().manual_seed(seed))
        errors.append(extrapolate_fid(features, exact, seed=seed)["value"])
        at_n.append(frechet_distance(moments(features), exact))
    assert abs(sum(errors)) < 0.25 * sum(at_n)
    assert min(at_n) > 0


def test_distance_at_infinity_of_a_shift_keeps_the_shift():
    features = torch.randn(2000, 4, generator=torch.Generator().manual_seed(1)) + 1.0
    exact = moments(torch.randn(100_000, 4, generator=torch.Generator().manual_seed(2)))
    found = extrapolate_fid(features, exact)
    assert found["value"] == pytest.approx(4.0, abs=0.4)
    assert math.isfinite(found["residual"])
    with pytest.raises(ValueError, match="100 samples"):
        extrapolate_fid(features[:50], exact)


@pytest.mark.parametrize("n", [20, 60])
def test_the_subsets_distances_are_frechet_distances(n):
    features = torch.randn(n, 30, generator=torch.Generator().manual_seed(0))
    reference = moments(torch.randn(200, 30, generator=torch.Generator().manual_seed(1)) + 0.3)
    found = _distance(features.double(), features.double() @ reference.factor, reference)
    assert found == pytest.approx(frechet_distance(moments(features), reference), rel=1e-6)
