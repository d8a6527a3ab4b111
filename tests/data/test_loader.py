from __future__ import annotations

import pytest
import torch

from latentdiff.data import Batches


def test_each_pass_shows_every_image_once_in_a_new_order():
    batches = Batches(torch.arange(10), batch_size=4, seed=3)
    seen = torch.cat([batches.at(start)[0] for start in range(0, 40, 4)])
    passes = seen.reshape(4, 10)
    assert all(sorted(one.tolist()) == list(range(10)) for one in passes)
    assert len({tuple(one.tolist()) for one in passes}) == 4


def test_a_batch_depends_on_the_images_seen_alone():
    batches = Batches(torch.arange(100), torch.arange(100) * 2, batch_size=8, seed=1)
    ahead = [batches.at(start) for start in range(0, 400, 8)]
    again = Batches(torch.arange(100), torch.arange(100) * 2, batch_size=8, seed=1).at(392)
    assert torch.equal(ahead[-1][0], again[0])
    assert torch.equal(again[1], again[0] * 2)
    other = Batches(torch.arange(100), batch_size=8, seed=2).at(392)
    assert not torch.equal(other[0], again[0])


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_one_global_batch(world_size):
    whole = Batches(torch.arange(50), batch_size=8, seed=0)
    shares = [Batches(torch.arange(50), batch_size=8, seed=0, rank=r, world_size=world_size) for r in range(world_size)]
    for start in range(0, 104, 8):
        assert torch.equal(whole.at(start)[0], torch.cat([share.at(start)[0] for share in shares]))


def test_a_batch_may_be_larger_than_the_set():
    batch = Batches(torch.arange(3), batch_size=8, seed=0).at(0)[0]
    assert torch.bincount(batch).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Batches(torch.arange(3), torch.arange(4), batch_size=2, seed=0)
    with pytest.raises(ValueError, match="not empty"):
        Batches(torch.arange(0), batch_size=2, seed=0)
    with pytest.raises(ValueError, match="cannot be shared"):
        Batches(torch.arange(3), batch_size=3, seed=0, world_size=2)
