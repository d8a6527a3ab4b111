"""Shares against the whole, in one process that is a job of its own: it holds all shares."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from latentdiff.training.ema import Ema
from latentdiff.training.sharded_strategy import ShardedStrategy
from latentdiff.training.sharding import clip_gradients, is_sharded, shard


@pytest.fixture
def networks():
    """A network, and its twin with a sharded half."""
    whole = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    sharded = copy.deepcopy(whole)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    shard(sharded[0], torch.device("cpu"))
    assert [is_sharded(parameter) for parameter in sharded.parameters()] == [True, True, False, False]
    yield whole, sharded
    dist.destroy_process_group()


def test_the_average_of_shares_is_that_of_the_whole(networks):
    averages = [Ema(networks[0], 1000, 1e9) for _ in networks]
    for network, ema in zip(networks, averages, strict=True):
        ema.follow(network)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        ema.update(network, 500, 500)
        ema.gather(network)
    for ours, theirs in zip(*(ema.network.parameters() for ema in averages), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_are_clipped_and_the_optimisers_state_is_whole(networks):
    found = []
    for network, clip in zip(networks, (nn.utils.clip_grad_norm_, clip_gradients), strict=True):
        optimizer = torch.optim.Adam(network.parameters())
        network(torch.full((4, 3), 5.0)).sum().backward()
        norm = float(clip(list(network.parameters()), 0.5))
        optimizer.step()
        found.append((norm, ShardedStrategy.optimizer_state(None, optimizer)["state"]))
    (whole_norm, whole), (norm, sharded) = found
    assert norm == pytest.approx(whole_norm)
    for number, state in whole.items():
        torch.testing.assert_close(sharded[number], state)
