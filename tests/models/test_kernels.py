"""The quick ways of doing a thing against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from latentdiff.models.layers import fused_attention, group_norm, plain_attention, scaled_group_norm


@pytest.mark.parametrize("side", [(4, 4), (7, 5)])
def test_both_ways_of_attention_are_one(side):
    qkv = torch.randn(3, 3 * 2 * 8, *side, dtype=torch.double, requires_grad=True)
    q, k, v = (part.unflatten(1, (2, 8)).flatten(3) for part in qkv.chunk(3, dim=1))
    weights = torch.einsum("bhcq,bhck->bhqk", q, k).div(8**0.5).softmax(dim=-1)
    expected = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(3, 16, *side)
    seed = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, qkv, seed, retain_graph=True)
    for attention in (plain_attention, fused_attention):
        found = attention(qkv, 2)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, qkv, seed)[0], wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scaled_group_norm_is_a_group_norm_that_is_scaled_and_shifted(layout):
    norm = group_norm(16).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 16, 5, 4, dtype=torch.double).to(memory_format=layout).requires_grad_()
    scale, shift = (torch.randn(3, 16, dtype=torch.double, requires_grad=True) for _ in range(2))
    plain = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    expected = plain * (1 + scale)[..., None, None] + shift[..., None, None]
    found = scaled_group_norm(norm, x, scale, shift)
    torch.testing.assert_close(found, expected)
    inputs, seed = (x, scale, shift, norm.weight, norm.bias), torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
