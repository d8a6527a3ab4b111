"""Every way to tell a network the time and the class, in all architectures; and patches."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import FourierEmbedding, sinusoidal_embedding
from latentdiff.models.dit import DiTBlock, grid_embedding
from latentdiff.models.network import build_network, check_patch
from latentdiff.models.patches import pad_to_patches, unfold_patches

UNET = NetworkConfig(channels=(16, 32), num_res_blocks=1, attention_levels=(1,), head_channels=16)
RESNET = NetworkConfig(architecture="resnet", channels=(16,), num_res_blocks=3, attention_levels=())
PATCHED = dataclasses.replace(UNET, patch=2)
DIT = NetworkConfig(architecture="dit", channels=(16,), num_res_blocks=2, attention_levels=(), head_channels=8, patch=2)
X = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))


def network(base, num_classes=3, **settings):
    torch.manual_seed(0)
    net = build_network(2, num_classes, dataclasses.replace(base, **settings))
    for parameter in net.parameters():  # the last layers start at zero, which would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


@pytest.mark.parametrize(
    ("base", "conditioning"),
    [
        *product([UNET, RESNET], ["scale_shift", "additive", "batch_norm"]),
        *product([PATCHED, DIT], ["scale_shift"]),
    ],
)
@pytest.mark.parametrize("time_embedding", ["sinusoidal", "fourier"])
def test_output_depends_on_time_and_class_and_not_on_the_neighbours(base, conditioning, time_embedding):
    net = network(base, conditioning=conditioning, time_embedding=time_embedding, embedding_channels=24)
    times, labels = torch.tensor([0.3, 0.9]), torch.tensor([0, 1])
    whole = net(X, times, labels)
    assert whole.shape == X.shape
    assert not torch.allclose(whole, net(X, times + 1.0, labels))
    assert not torch.allclose(whole, net(X, times, torch.tensor([2, 3])))
    torch.testing.assert_close(whole[:1], net(X[:1], times[:1], labels[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", [UNET, RESNET], ids=["unet", "resnet"])
def test_a_network_without_conditioning_is_told_nothing(base):
    net = network(base, class_conditional=False, conditioning="none")
    assert torch.equal(net(X, torch.zeros(2)), net(X, torch.full((2,), 500.0)))
    with pytest.raises(ValueError, match="class_conditional false"):
        network(base, conditioning="none")


@pytest.mark.parametrize(
    ("base", "conditioning"),
    [
        *product([UNET, RESNET], ["scale_shift", "additive", "batch_norm"]),
        *product([PATCHED, DIT], ["scale_shift"]),
    ],
)
def test_every_parameter_can_learn(base, conditioning):
    net = network(base, conditioning=conditioning).train()
    net(X, torch.tensor([1.0, 2.0]), torch.tensor([0, 3])).square().mean().backward()
    # A bias before a batch norm is taken out again by it.
    lazy = {name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0}
    assert not {name for name in lazy if conditioning != "batch_norm" or not name.endswith("conv1.bias")}


def test_a_resnet_has_one_resolution():
    with pytest.raises(ValueError, match="one width"):
        build_network(2, 0, dataclasses.replace(RESNET, channels=(16, 32)))
    with pytest.raises(ValueError, match="no attention_levels"):
        build_network(2, 0, dataclasses.replace(RESNET, attention_levels=(0,)))


@pytest.mark.parametrize("base", [UNET, RESNET, PATCHED, DIT])
def test_a_second_half_of_channels_can_be_asked_for(base):
    assert build_network(2, 0, base, out_channels=4)(X, torch.zeros(2)).shape == (2, 4, 7, 7)


@pytest.mark.parametrize("base", [UNET, RESNET, DIT])
@pytest.mark.parametrize("patch", [1, 2, 3, 8])
def test_patches_need_not_fit(base, patch):
    """A side of 7, a side of 10, and one that is smaller than a patch."""
    net = network(base, patch=patch)
    x = torch.randn(2, 2, 7, 10)
    assert net(x, torch.zeros(2), torch.tensor([0, 1])).shape == x.shape


def test_a_patch_larger_than_the_image_is_refused():
    check_patch(PATCHED, (2, 7, 2))
    with pytest.raises(ConfigError, match=r"network\.patch 2 is larger than what the network works on, 7x1"):
        check_patch(PATCHED, (2, 7, 1))


def test_an_output_pixel_comes_from_its_own_patch():
    """Folding and unfolding keep each patch in its place."""
    x = torch.arange(24.0).view(1, 1, 4, 6)
    folded = F.pixel_unshuffle(pad_to_patches(x, 2), 2)
    assert torch.equal(unfold_patches(folded, 2, 4, 6), x)
    odd = torch.arange(15.0).view(1, 1, 3, 5)
    padded = pad_to_patches(odd, 2)
    assert torch.equal(padded[0, 0, 3, :5], odd[0, 0, 2])
    assert torch.equal(unfold_patches(F.pixel_unshuffle(padded, 2), 2, 3, 5), odd)


def test_a_transformer_starts_as_the_identity_and_its_attention_is_torchs():
    torch.manual_seed(0)
    block, x = DiTBlock(16, 24, 8, dropout=0.0), torch.randn(2, 6, 16)
    assert torch.equal(block(x, torch.randn(2, 24)), x)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": block.attention.qkv.weight,
            "in_proj_bias": block.attention.qkv.bias,
            "out_proj.weight": block.attention.out.weight,
            "out_proj.bias": block.attention.out.bias,
        }
    )
    torch.testing.assert_close(block.attention(x), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)
    many = torch.randn(1, 300, 16)  # more than products are used for
    torch.testing.assert_close(block.attention(many), theirs(many, many, many)[0], rtol=1e-4, atol=1e-5)


def test_positions_of_a_grid_are_its_rows_and_columns():
    grid = grid_embedding(3, 5, 16).view(3, 5, 16)
    assert torch.equal(grid[1, 2, :8], sinusoidal_embedding(torch.tensor([1.0]), 8)[0])
    assert torch.equal(grid[1, 2, 8:], sinusoidal_embedding(torch.tensor([2.0]), 8)[0])
    assert torch.cdist(grid.flatten(0, 1), grid.flatten(0, 1)).fill_diagonal_(9).min() > 1e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": (16, 32)}, "dit takes one width"),
        ({"attention_levels": (0,)}, "no attention_levels"),
        ({"conditioning": "additive"}, "the conditioning scale_shift, not additive"),
        ({"channels": (18,), "head_channels": 9}, "multiple of 4 and of network.head_channels, 9, not 18"),
        ({"head_channels": 5}, "multiple of 4 and of network.head_channels, 5, not 16"),
    ],
)
def test_settings_that_a_transformer_does_not_have_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        build_network(2, 3, dataclasses.replace(DIT, **settings))


def test_embeddings_tell_times_apart():
    for embed in (lambda time: sinusoidal_embedding(time, 16), FourierEmbedding(16, 2.0)):
        features = embed(torch.tensor([0.1, 0.2, 0.9]))
        assert features.shape == (3, 16)
        assert torch.cdist(features, features).fill_diagonal_(9).min() > 1e-3


def test_fourier_frequencies_are_part_of_the_weights():
    net = network(UNET, time_embedding="fourier")
    assert "fourier.frequencies" in net.state_dict()
