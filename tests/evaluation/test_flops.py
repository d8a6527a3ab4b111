from __future__ import annotations

import torch
from torch import nn

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.evaluation.flops import count_flops, sampling_flops, training_flops
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.models import memory_layout as layout
from latentdiff.models.layers import SelfAttention
from latentdiff.models.network import build_network


def test_a_convolution_and_attention_cost_what_arithmetic_says():
    x = torch.zeros(2, 32, 5, 5)
    assert count_flops(lambda: nn.Conv2d(32, 8, 3, padding=1)(x)) == 2 * 2 * 25 * 32 * 8 * 9
    projections = 2 * 2 * 25 * 32 * (3 * 32 + 32)
    products = 2 * (2 * 2 * 25 * 25 * 32)  # queries by keys, and weights by values
    assert count_flops(lambda: SelfAttention(32)(x)) == projections + products


def test_sampling_costs_a_pass_a_step_and_training_three():
    config = NetworkConfig(channels=(8, 16), head_channels=8, class_conditional=False)
    codec = IdentityCodec((1, 8, 8))
    model = DiffusionModel(build_network(1, 0, config, 1), config, DiffusionConfig(), codec)
    passes = {n: sampling_flops(model, SamplingRequest(num_images=3, steps=n)) for n in (2, 4)}
    one = passes[2] / 2
    assert passes[4] == 4 * one
    # Backward costs as much for the weights as for the inputs, but the first layer's inputs need no gradient.
    assert 2.9 * one < training_flops(model) <= 3 * one
    assert not next(model.network.parameters()).requires_grad


def test_the_precision_does_not_change_the_arithmetic(monkeypatch):
    monkeypatch.setattr(layout, "supports_bf16", lambda device: True)
    config = NetworkConfig(channels=(8, 16), num_res_blocks=1, head_channels=8, class_conditional=False)
    model = DiffusionModel(build_network(1, 0, config, 1), config, DiffusionConfig(), IdentityCodec((1, 32, 32)))
    full, low = (
        sampling_flops(model, SamplingRequest(num_images=3, steps=1, precision=name)) for name in ("fp32", "bf16")
    )
    assert full == low
