from __future__ import annotations

import torch

from latentdiff.evaluation.reference_subset import choose_subset


def test_a_smaller_draw_lies_within_a_larger_one_and_all_are_all():
    labels = torch.arange(90) % 3
    for given in (None, labels):
        few, more = choose_subset(given, 90, 20, 0), choose_subset(given, 90, 50, 0)
        assert set(few.tolist()) < set(more.tolist())
        assert torch.equal(choose_subset(given, 90, 1000, 0), torch.arange(90))
        assert not torch.equal(few, choose_subset(given, 90, 20, 1))


def test_classes_are_drawn_evenly():
    labels = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    assert torch.bincount(labels[choose_subset(labels, 100, 30, 0)]).tolist() == [13, 12, 5]
