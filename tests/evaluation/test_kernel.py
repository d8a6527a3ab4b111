from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from latentdiff.evaluation.kernel import kernel_distance


def test_distance_is_torch_fidelitys():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(300, 32, generator=generator), torch.rand(250, 32, generator=generator) + 0.1
    own = kernel_distance(x, y, subsets=20, subset_size=100, seed=7)
    theirs = kid_features_to_metric(x, y, kid_subsets=20, kid_subset_size=100, rng_seed=7, verbose=False)
    assert own.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert own.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    assert (own.subsets, own.subset_size) == (20, 100)


def test_distance_of_two_samples_of_one_distribution_averages_to_zero():
    generator = torch.Generator().manual_seed(1)
    pairs = [torch.randn(2, 20, 8, generator=generator) for _ in range(200)]
    values = np.array([kernel_distance(x, y).mean for x, y in pairs])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).any()  # an estimate that is never negative would not be unbiased


def test_subsets_never_exceed_the_images_and_the_size_used_is_returned():
    x, y = torch.randn(30, 4), torch.randn(50, 4)
    own = kernel_distance(x, y, subsets=5)
    assert (own.subsets, own.subset_size) == (5, 30)
    whole = kernel_distance(x, x + 1)
    assert (whole.subsets, whole.subset_size, whole.std) == (1, 30, 0.0)


def test_too_few_images_and_unequal_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(torch.randn(1, 4), torch.randn(9, 4))
    with pytest.raises(ValueError, match="one size"):
        kernel_distance(torch.randn(9, 4), torch.randn(9, 5))
