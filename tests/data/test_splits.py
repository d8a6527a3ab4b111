from __future__ import annotations

import pytest
import torch

from latentdiff.data.splits import split_indices


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0)])
def test_splits_are_balanced_disjoint_and_seeded(fractions):
    labels = torch.randint(0, 7, (1003,), generator=torch.Generator().manual_seed(0))
    splits = split_indices(labels, fractions, seed=3)
    together = torch.cat(list(splits.values()))
    assert together.sort().values.tolist() == list(range(1003))
    totals = torch.bincount(labels, minlength=7)
    for share, indices in zip(fractions, splits.values(), strict=True):
        assert (torch.bincount(labels[indices], minlength=7) - share * totals).abs().max() <= 2
        assert abs(len(indices) - share * 1003) <= 1
    again, other = (split_indices(labels, fractions, seed) for seed in (3, 4))
    assert torch.equal(splits["train"], again["train"])
    if fractions[0] < 1:
        assert not torch.equal(splits["train"], other["train"])


def test_a_class_the_rounding_would_forget_is_made_up_for():
    splits = split_indices(torch.arange(100), (0.8, 0.1, 0.1), seed=0)
    assert [len(indices) for indices in splits.values()] == [80, 10, 10]


def test_other_fractions_are_refused():
    for fractions in ((0.5, 0.5, 0.5), (1.1, -0.1, 0.0), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="sum to 1"):
            split_indices(torch.zeros(10, dtype=torch.int64), fractions, 0)
