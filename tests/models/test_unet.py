from __future__ import annotations

import pytest
import torch

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.network import check_network
from latentdiff.models.unet import UNet

SMALL = NetworkConfig(channels=(16, 32), num_res_blocks=1, attention_levels=(1,), head_channels=16)


@pytest.mark.parametrize("size", [(7, 7), (28, 28), (5, 9), (1, 1)])
def test_odd_sizes_are_handled_inside(size):
    net = UNet(3, 4, SMALL)
    assert net(torch.randn(2, 3, *size), torch.tensor([0.0, 999.0]), torch.tensor([0, 4])).shape == (2, 3, *size)


def perturbed(num_classes):
    net = UNet(2, num_classes, SMALL).eval()
    for parameter in net.parameters():  # the last layers start at zero, which would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def test_output_depends_on_time_and_class():
    net, x = perturbed(3), torch.randn(1, 2, 7, 7)
    base = net(x, torch.tensor([10.0]), torch.tensor([0]))
    assert not torch.allclose(base, net(x, torch.tensor([500.0]), torch.tensor([0])))
    assert not torch.allclose(base, net(x, torch.tensor([10.0]), torch.tensor([1])))
    assert not torch.allclose(base, net(x, torch.tensor([10.0]), torch.tensor([3])))


def test_starts_as_zero_and_every_parameter_can_learn():
    net = UNet(2, 3, SMALL)
    assert net(torch.randn(1, 2, 7, 7), torch.tensor([1.0]), torch.tensor([0])).abs().max() == 0
    net = perturbed(3)
    net(torch.randn(2, 2, 7, 7), torch.tensor([1.0, 2.0]), torch.tensor([0, 3])).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_labels_are_asked_for_exactly_where_they_are_needed():
    x, time = torch.randn(1, 2, 7, 7), torch.tensor([1.0])
    with pytest.raises(ValueError, match="labels"):
        UNet(2, 3, SMALL)(x, time)
    with pytest.raises(ValueError, match="labels"):
        UNet(2, 0, SMALL)(x, time, torch.tensor([0]))
    assert UNet(2, 0, SMALL)(x, time).shape == x.shape


def test_attention_beyond_the_last_level_is_refused():
    with pytest.raises(ValueError, match="attention_levels"):
        UNet(2, 0, NetworkConfig(channels=(16,), attention_levels=(1,)))


@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
def test_an_odd_width_has_no_embedding_of_the_time(embedding):
    config = NetworkConfig(channels=(33, 64), attention_levels=(), middle_attention=False, time_embedding=embedding)
    with pytest.raises(ConfigError, match=r"network\.channels must begin with an even width, not 33"):
        check_network(config)
