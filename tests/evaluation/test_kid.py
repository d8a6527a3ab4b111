from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_kid import kid_features_to_metric

from latentdiff.evaluation.kid import kernel_distance, kernel_standard_error


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
    assert kernel_distance(x, y).subsets == DEFAULTS["kid_subsets"] == 100
    many = kernel_distance(torch.randn(1002, 1), torch.randn(1001, 1), subsets=1)
    assert many.subset_size == DEFAULTS["kid_subset_size"] == 1000
    whole = kernel_distance(x, x + 1)
    assert (whole.subsets, whole.subset_size, whole.std) == (1, 30, None)


def test_too_few_images_and_unequal_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(torch.randn(1, 4), torch.randn(9, 4))
    with pytest.raises(ValueError, match="one size"):
        kernel_distance(torch.randn(9, 4), torch.randn(9, 5))


# Close to the reference the estimate is an upper one.
@pytest.mark.parametrize(("shift", "most"), [(0.0, 1.45), (0.5, 1.25)])
def test_the_standard_error_is_the_scatter_over_draws(shift, most):
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(1500, 8, generator=generator)
    draws = [torch.randn(200, 8, generator=generator) * 1.3 + shift for _ in range(60)]
    scatter = torch.tensor([kernel_distance(x, reference, 1, 200).mean for x in draws]).std()
    full = torch.tensor([mmd2_of_all(x, reference) for x in draws]).std()
    expected = torch.tensor([kernel_standard_error(x, reference) for x in draws]).mean()
    assert 0.8 < float(expected / full) < most
    assert scatter > full  # one small subset of the reference adds to it


def mmd2_of_all(x, y):
    """The unbiased estimate with every sample and the whole reference, whose own kernel is the same for all draws."""
    xx, xy = ((a @ b.T / x.shape[1] + 1).double() ** 3 for a, b in ((x, x), (x, y)))
    return float((xx.sum() - xx.trace()) / (len(x) * (len(x) - 1)) - 2 * xy.mean())


def test_the_standard_error_wants_what_the_distance_wants():
    with pytest.raises(ValueError, match="at least 2 features of one size"):
        kernel_standard_error(torch.randn(1, 4), torch.randn(9, 4))
