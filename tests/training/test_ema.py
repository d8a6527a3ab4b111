from __future__ import annotations

import torch
from torch import nn

from latentdiff.training.ema import Ema


def test_halves_in_its_half_life_whatever_the_batch_size():
    for batch in (1, 10, 100):
        network = nn.Linear(1, 1, bias=False)
        nn.init.ones_(network.weight)
        ema = Ema(network, half_life=1000, warmup=1e9)
        nn.init.zeros_(network.weight)
        for seen in range(batch, 1000 + batch, batch):
            ema.update(network, seen, batch)
        torch.testing.assert_close(ema.network.weight.item(), 0.5, rtol=1e-4, atol=0)


def test_warm_up_forgets_the_start():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    ema = Ema(network, half_life=10**9, warmup=0.05)
    nn.init.ones_(network.weight)
    for seen in range(10, 2010, 10):
        ema.update(network, seen, 10)
    assert abs(ema.network.weight.item() - 1.0) < 1e-3


def test_buffers_are_copied_and_gradients_never_flow():
    network = nn.BatchNorm1d(2)
    ema = Ema(network, 1000, 1.0)
    network.running_mean.fill_(3.0)
    ema.update(network, 10, 10)
    assert torch.equal(ema.network.running_mean, network.running_mean)
    assert not any(parameter.requires_grad for parameter in ema.parameters())
