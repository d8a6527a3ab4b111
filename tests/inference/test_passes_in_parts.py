"""A pass of many images by few at a time."""

from __future__ import annotations

import pytest
import torch

from latentdiff.inference.engines.passes_in_parts import in_parts, rows_at_a_time


@pytest.mark.parametrize(("side", "rows"), [(7, 64), (8, 64), (16, 32), (28, 16), (256, 16)])
def test_larger_maps_go_fewer_at_a_time(side, rows, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert rows_at_a_time(torch.empty(1, 2, side, side)) == rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert rows_at_a_time(torch.empty(1, 2, side, side)) == 3 * rows


@pytest.mark.parametrize("count", [0, 1, 64, 65, 200])
@pytest.mark.parametrize("with_labels", [True, False])
def test_parts_are_of_the_same_images_in_their_order(count, with_labels, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    sizes = []

    def run(x, time, labels):
        sizes.append(len(x))
        sums = x.sum(dim=(1, 2, 3)) + 10 * time
        return sums if labels is None else sums + 100 * labels

    x, time = torch.rand(count, 2, 8, 8), torch.rand(count)
    labels = torch.arange(count) if with_labels else None
    torch.testing.assert_close(in_parts(run, x, time, labels), run(x, time, labels))
    *parts, whole = sizes
    assert whole == count == sum(parts)
    assert max(parts) <= 64
    assert max(parts) - min(parts) <= 1
