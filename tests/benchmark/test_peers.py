from __future__ import annotations

import importlib

import pytest

from latentdiff.benchmark import peers
from latentdiff.benchmark.peers import DDP, DIFFUSERS, Peers, equal_widths, parameters
from latentdiff.benchmark.scale import FULL, QUICK
from latentdiff.models.network import build_network


def test_widths_are_found_in_the_ratio_of_the_base_and_in_large_multiples_first():
    def count(widths):
        return sum(9 * width**2 for width in widths)

    assert equal_widths(count, (32, 64), count((64, 128))) == (64, 128)
    found = equal_widths(count, (64, 96), round(0.93 * count((64, 96))))
    assert abs(count(found) / (0.93 * count((64, 96))) - 1) <= 0.05
    assert any(width % 32 for width in found), "no multiples of 32 come close enough"


def test_widths_that_cannot_be_found_are_an_error():
    with pytest.raises(ValueError, match="off by"):
        equal_widths(lambda widths: 10 * widths[0], (32,), 1_000_000)


@pytest.mark.parametrize("setting", FULL.settings, ids=lambda setting: f"{setting.side}px")
@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_peers_have_our_number_of_parameters(setting, space):
    latent = space == "latent"
    config = setting.latent if latent else setting.pixel
    channels, side = (setting.autoencoder.latent_channels, setting.side // 4) if latent else (3, setting.side)
    wanted = parameters(build_network(channels, peers.CLASSES, config))
    if Peers().get(DIFFUSERS):
        theirs = peers.equal_diffusers_unet(channels, side, config, wanted)
        assert abs(parameters(theirs) / wanted - 1) <= 0.05
        assert [block.__class__.__name__.startswith("Attn") for block in theirs.down_blocks] == [
            level in config.attention_levels for level in range(len(config.channels))
        ]
    if Peers().get(DDP):
        assert abs(parameters(peers.equal_ddp_unet(channels, config, wanted)) / wanted - 1) <= 0.05


@pytest.mark.parametrize("scale", [FULL, QUICK], ids=["full", "quick"])
def test_pixels_have_the_latents_number_of_parameters(scale):
    setting = scale.growth_setting
    wanted = parameters(build_network(setting.autoencoder.latent_channels, peers.CLASSES, setting.latent))
    config = peers.equal_pixel_network(setting.pixel, 3, wanted)
    assert abs(parameters(build_network(3, peers.CLASSES, config)) / wanted - 1) <= 0.05


def test_a_peer_that_is_not_installed_is_left_out_with_one_line(monkeypatch, capsys):
    def fail(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    here = Peers()
    assert here.get(DIFFUSERS) is None
    assert here.get(DIFFUSERS) is None
    assert capsys.readouterr().out == 'diffusers is left out: not installed: pip install "latentdiff[peers]"\n'
    assert list(here.left_out) == [DIFFUSERS]


def test_nobody_is_looked_for_where_none_is_wanted(capsys):
    here = Peers(wanted=False)
    assert here.get(DIFFUSERS) is None
    assert (capsys.readouterr().out, here.left_out) == ("", {})
