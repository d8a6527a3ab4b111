"""Every way to tell a network the time and the class, in both architectures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from latentdiff.config import NetworkConfig
from latentdiff.models.conditioning import FourierEmbedding, sinusoidal_embedding
from latentdiff.models.network import build_network

UNET = NetworkConfig(channels=(16, 32), num_res_blocks=1, attention_levels=(1,), head_channels=16)
RESNET = NetworkConfig(architecture="resnet", channels=(16,), num_res_blocks=3, attention_levels=())
X = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))


def network(base, num_classes=3, **settings):
    torch.manual_seed(0)
    net = build_network(2, num_classes, dataclasses.replace(base, **settings))
    for parameter in net.parameters():  # the last layers start at zero, which would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


@pytest.mark.parametrize("base", [UNET, RESNET], ids=["unet", "resnet"])
@pytest.mark.parametrize("conditioning", ["scale_shift", "additive", "batch_norm"])
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


@pytest.mark.parametrize("base", [UNET, RESNET], ids=["unet", "resnet"])
@pytest.mark.parametrize("conditioning", ["scale_shift", "additive", "batch_norm"])
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


def test_a_second_half_of_channels_can_be_asked_for():
    assert build_network(2, 0, UNET, out_channels=4)(X, torch.zeros(2)).shape[1] == 4


def test_embeddings_tell_times_apart():
    for embed in (lambda time: sinusoidal_embedding(time, 16), FourierEmbedding(16, 2.0)):
        features = embed(torch.tensor([0.1, 0.2, 0.9]))
        assert features.shape == (3, 16)
        assert torch.cdist(features, features).fill_diagonal_(9).min() > 1e-3


def test_fourier_frequencies_are_part_of_the_weights():
    net = network(UNET, time_embedding="fourier")
    assert "fourier.frequencies" in net.state_dict()
