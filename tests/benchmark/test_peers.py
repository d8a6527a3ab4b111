from __future__ import annotations

import importlib

import pytest

from latentdiff.benchmark import peers
from latentdiff.benchmark.gpu_preset import MINIATURE_SIZES, gpu_sizes
from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters
from latentdiff.benchmark.peers import DDP, DIFFUSERS, find_peer
from latentdiff.benchmark.sizes import FULL
from latentdiff.models.network import build_network

NETWORKS = {**{f"{networks.side}px": networks for networks in FULL.networks}, "miniature": MINIATURE_SIZES.networks[0]}
NETWORKS["gpu"] = gpu_sizes().networks[0]


@pytest.mark.parametrize(
    "networks",
    [pytest.param(own, id=name, marks=pytest.mark.slow if name == "gpu" else ()) for name, own in NETWORKS.items()],
)
@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_peers_have_our_number_of_parameters(context, networks, space):
    latent = space == "latent"
    config = networks.latent_network if latent else networks.pixel_network
    channels, side = (networks.autoencoder.latent_channels, networks.side // 4) if latent else (3, networks.side)
    parameters = count_parameters(build_network(channels, NUM_CLASSES, config))
    if find_peer(context, DIFFUSERS):
        theirs = peers.match_diffusers_unet(channels, side, config, parameters)
        assert abs(count_parameters(theirs) / parameters - 1) <= 0.05
        assert [block.__class__.__name__.startswith("Attn") for block in theirs.down_blocks] == [
            level in config.attention_levels for level in range(len(config.channels))
        ]
    if find_peer(context, DDP):
        assert abs(count_parameters(peers.match_ddp_unet(channels, config, parameters)) / parameters - 1) <= 0.05


def test_a_peer_that_is_not_installed_is_left_out_with_one_line(context, monkeypatch, capsys):
    def fail(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert find_peer(context, DIFFUSERS) is None
    assert find_peer(context, DIFFUSERS) is None
    assert capsys.readouterr().out == 'diffusers is left out: not installed: pip install ".[peers]"\n'
    assert list(context.left_out) == [DIFFUSERS]
